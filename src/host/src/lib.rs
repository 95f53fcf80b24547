//! The program that push puts on a host: small, static, blocking. It does alone what must happen on
//! the host, so that neither the laptop nor the network is needed once a switch has begun.
//!
//! | module | holds |
//! |---|---|
//! | [`layout`] | where everything is, as a function of a root |
//! | [`machine`] | every effect on the world, behind one trait; the real one and the simulated one |
//! | [`journal`] | the write-ahead log: the only judge of what happened |
//! | [`lock`] | one transaction at a time, and who is at it |
//! | [`store`] | generations and releases on the disk: read, linked, pruned |
//! | [`effects`] | what is derived from the generation in effect: units, nginx, firewall, secrets |
//! | [`progress`] | what a running transaction tells, and what it is asked |
//! | [`evidence`] | what is found out about a failure before anything is undone |
//! | [`trial`] | whether a switched generation is healthy |
//! | [`transaction`] | switch, trial, commit or take back |
//! | [`recover`] | the same, taken up after a crash |
//!
//! A module imports only those above it. Whatever touches the world goes through
//! [`machine::Machine`]; decisions stand elsewhere, where they can be tested against a simulated host.

pub mod effects;
pub mod evidence;
pub mod journal;
pub mod layout;
pub mod lock;
pub mod machine;
pub mod progress;
pub mod recover;
pub mod store;
pub mod transaction;
pub mod trial;
