//! What `push` on the laptop and `push-host` on a host agree on. No I/O happens here.
//!
//! | module | holds |
//! |---|---|
//! | [`name`] | checked names: a value of these types can be a path component, a unit name, an nftables identifier |
//! | [`path`] | checked paths: relative inside a tree, absolute on a host |
//! | [`digest`] | SHA-256 of contents |
//!
//! A new request is added in `message`; a new kind of declared thing in `manifest`, and then the
//! compiler names every place that must learn of it, `effect` first.

pub mod digest;
pub mod name;
pub mod path;

/// The version of the conversation. A host that speaks a later one is left alone.
pub const PROTOCOL: u16 = 1;
