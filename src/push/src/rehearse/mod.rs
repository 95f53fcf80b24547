//! Throw-away local Debian hosts: what `push rehearse` pushes to, and what the end-to-end tests
//! run on.
//!
//! A [`Fleet`] is a handful of systemd containers on one bridge of this machine, each with its own
//! root file system, network namespace, cgroup and sshd. They are real enough for a real push:
//! systemd is pid 1, nginx and nft work, the power can be cut. Everything that a fleet makes is
//! written to its record before it is made, so that it can be taken down again by a process that
//! knows nothing but the record, even after a SIGKILL.
//!
//! ```text
//! prerequisites  is this machine able to?          what is missing, and its installation
//! image          one root file system a suite      made once by mmdebstrap, cached
//!   offline      packages that a fresh host can install from itself
//! record         what a fleet is made of           written first, read by `sweep`
//! fleet          many hosts: boot, take down       the guard that cleans up
//! host           one host: run, cut, boot again    what tests hold
//!   disk  mounts  network  cgroup  keys  container   one kind of thing each
//! tool           the only way a program is run     argv, bounded in time and bytes
//! ```
//!
//! This module must not know about pushes, plans, the inventory or the terminal: it reports through
//! [`Milestone`]s and errors. It is blocking code; an async caller runs it on a blocking thread.
//!
//! To add a kind of kernel object (a second link, say): give it a file with a pair of functions
//! that make it and remove it, where removing what is not there succeeds; have
//! [`record`] name it; call the pair from `fleet`. To add a suite: one arm in [`Suite`].

mod cgroup;
mod container;
mod disk;
mod error;
mod fleet;
mod host;
mod image;
mod keys;
mod mirror;
mod mounts;
mod network;
mod offline;
mod place;
mod prerequisites;
mod record;
mod suite;
mod sweep;
mod tool;

pub use disk::{Disk, Filesystem};
pub use error::Error;
pub use fleet::{Fleet, HostSpec, Milestone};
pub use host::{Blackhole, RehearsalHost};
pub use keys::{Access, ROOT_PASSWORD};
pub use place::Place;
pub use prerequisites::{Package, Prerequisites};
pub use record::{FleetNumber, FleetRecord, HostRecord};
pub use suite::{Distribution, Furnishing, Suite};
pub use sweep::{Swept, fleets, take_down, take_down_all};
pub use tool::Finished;
