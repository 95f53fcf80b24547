//! The program that push puts on a host: small, static, blocking. It does alone what must happen on
//! the host, so that neither the laptop nor the network is needed once a switch has begun.
//!
//! | module | holds |
//! |---|---|
//! | [`layout`] | where everything is, as a function of a root |
//! | [`dpkg`] | what dpkg's status file says |
//! | [`machine`] | every effect on the world, behind one trait; the real one and the simulated one |
//! | [`journal`] | the write-ahead log: the only judge of what happened |
//! | [`lock`] | one transaction at a time, and who is at it |
//! | [`store`] | generations and releases on the disk: read, linked, pruned |
//! | [`bundle`] | opens what is sealed, and puts together what is composed of several secrets |
//! | [`before`] | how the units that a switch touches stood before it |
//! | [`effects`] | what is derived from the generation in effect: units, nginx, firewall, secrets |
//! | [`connection`] | which connection a session came in by |
//! | [`progress`] | what a running transaction tells, and what it is asked |
//! | [`evidence`] | what is found out about a failure before anything is undone |
//! | [`trial`] | whether a switched generation is healthy |
//! | [`firewall`] | push's own firewall, loaded again after the system's own |
//! | [`remains`] | what is left of two generations when a transaction has ended or was cut short |
//! | [`transaction`] | switch, trial, commit or take back |
//! | [`recover`] | the same, taken up after a crash |
//! | [`facts`] | what this host is |
//! | [`fingerprint`] | the key that tells whether a secret changed |
//! | [`groundwork`] | what is made before a switch and stays: packages, logins, names |
//! | [`spool`] | uploads that are not finished |
//! | [`stage`] | from a slice to a generation that is complete, durable and checked |
//! | [`view`] | the real tools look at a staged generation as if it were live |
//! | [`launch`] | starts a transaction in a unit of its own |
//! | [`upgrade`] | the upgrade of the operating system, and the record of it |
//! | [`status`] | what is in effect, what differs, what happened |
//! | [`serve`] | the conversation with one operator |
//!
//! A module imports only those above it. Whatever touches the world goes through
//! [`machine::Machine`]; decisions stand elsewhere, where they can be tested against a simulated host.

pub mod accounts;
pub mod before;
pub mod bundle;
pub mod connection;
pub mod dpkg;
pub mod effects;
pub mod evidence;
pub mod facts;
pub mod fingerprint;
pub mod firewall;
pub mod groundwork;
pub mod journal;
pub mod launch;
pub mod layout;
pub mod lock;
pub mod machine;
pub mod progress;
pub mod recover;
pub mod remains;
pub mod serve;
pub mod spool;
pub mod stage;
pub mod status;
pub mod store;
pub mod transaction;
pub mod trial;
pub mod upgrade;
pub mod view;

#[cfg(test)]
mod proof;
