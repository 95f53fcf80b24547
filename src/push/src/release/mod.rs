//! What the operator ships: builds it, reads it, finds out what it needs, packs what hosts lack.
//!
//! ```text
//! build ─▶ source: file | folder | archive ─▶ Payload { tree, needs, contents } ─▶ Packs ─▶ Pack
//! ```
//!
//! Works on files of the operator's machine and nothing else: it must not know any host, nor how
//! bytes get there. Everything here blocks, so callers in async code run it on a thread of its own.
//! A new kind of source is a new arm of [`Payload::open`] that fills a `Listing`.

mod archive;
mod build;
mod checkout;
mod content;
mod elf;
mod error;
mod folder;
mod listing;
mod pack;
mod payload;
mod verbatim;

#[cfg(test)]
mod tests;

pub use build::{BUILD_TIME_MAX, build};
pub use checkout::{Checkout, CheckoutState, is_untracked, operator, provenance, release_id};
pub use content::Content;
pub use error::ReleaseError;
pub use pack::{Pack, Packs};
pub use payload::{BYTES_MAX, Payload};
pub use verbatim::verbatim;
