//! What `push` on the laptop and `push-host` on a host agree on. No I/O happens here.
//!
//! | module | holds |
//! |---|---|
//! | [`checked_text`] | the one shape of a text that passed a check |
//! | [`name`] | checked names: a value of these types can be a path component, a unit name, an nftables identifier |
//! | [`path`] | checked paths: relative inside a tree, absolute on a host |
//! | [`digest`] | SHA-256 of contents |
//! | [`encode`] | typed encoders for values that go into systemd units and environment files |
//! | [`tree`] | the listing of a release: files, directories, links |
//! | [`certificate`] | certificates that a host is given by an authority |
//! | [`firewall`] | rules, and the one nftables file that a host's rules make |
//! | [`ground`] | which places of a host a project may declare |
//! | [`groundwork`] | what is there before a switch and stays: packages, logins, names |
//! | [`health`] | what makes a release healthy |
//! | [`manifest`] | what one generation declares, slice by slice |
//! | [`effect`] | what must be run when one manifest follows another |
//! | [`risk`] | what of that could lock the operator out |
//! | [`facts`] | what a host says of itself |
//! | [`journal`] | the states of a transaction and the records that the host keeps of them |
//! | [`log`] | excerpts of a host's system log |
//! | [`upgrade`] | the upgrade of a host's operating system, and the record of it |
//! | [`message`] | requests and replies |
//! | [`frame`] | how messages and contents become bytes |
//!
//! A new request is added in [`message`]; a new kind of declared thing in [`manifest`], and then the
//! compiler names every place that must learn of it, [`effect`] first.

pub mod bundle;
pub mod certificate;
mod checked;
pub mod digest;
pub mod effect;
pub mod encode;
pub mod facts;
pub mod firewall;
pub mod frame;
pub mod ground;
pub mod groundwork;
pub mod health;
pub mod journal;
pub mod log;
pub mod manifest;
pub mod message;
pub mod name;
pub mod path;
pub mod risk;
pub mod tree;
pub mod upgrade;

/// The version of the conversation. A host that speaks a later one is left alone.
pub const PROTOCOL: u16 = 3;
