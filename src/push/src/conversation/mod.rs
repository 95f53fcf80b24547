//! The typed client of push-host: one conversation over one session of a connection.
//!
//! ```text
//! call     gets push-host to speak: starts it, installs it, brings it to this build's program
//! sudo     answers sudo where it asks for a password
//! frames   bytes ⇄ frames, bounded
//! talk     one method a request
//! pack     a pack on its way, a bounded part of it in memory
//! error    what can go wrong, what to do next
//! ```
//!
//! Must not know plans, waves or outcomes, nor how bytes get to a host. A host's words are data:
//! they are bounded, parsed into the wire's types, and made visible before they enter an error.
//! Invariant: after an error the conversation is over; whoever wants to go on opens another one.
//!
//! A new request is one method in `talk` with the named bound of its answer.

mod call;
mod error;
mod frames;
mod pack;
mod sudo;
mod talk;

pub use call::{HELLO_MAX, INSTALL_MAX, Opening, Permit, Presence, Programs};
pub use error::Error;
pub use frames::{REPLY_BYTES_MAX, STALL_MAX};
pub use pack::{IN_FLIGHT_BYTES_MAX, PackSource};
pub use talk::{
    ANSWER_MAX, CHECK_MAX, Conversation, Ears, Offered, SILENCE_MAX, STAGE_MAX, Staging, Told,
    UPGRADE_SILENCE_MAX, Upgrading, Verdict, WORK_MAX,
};
