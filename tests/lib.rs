//! Support for the end-to-end tests.
//!
//! | module | holds |
//! |---|---|
//! | [`authority`] | a real authority for certificates, beside a fleet |
//! | [`cuts`] | the moments at which power goes, and what came of them |
//! | [`hosts`] | throw-away hosts of the rehearsal |
//! | [`lab`] | a project folder beside a fleet, and `push` run in it |
//! | [`relay`] | a TCP relay on loopback that can stall or cut a connection |
//! | [`scene`] | what tests of faults begin with |
//! | [`speech`] | a session with push-host, spoken frame by frame |
//! | [`sshd`] | real SSH servers on loopback, with keys of their own |
//! | [`verdict`] | that tool, journal and host say one thing in the end |
//! | [`witness`] | what a host is found to be, looked at from outside |

pub mod authority;
pub mod cuts;
pub mod hosts;
pub mod lab;
pub mod relay;
pub mod scene;
pub mod speech;
pub mod sshd;
pub mod verdict;
pub mod witness;
