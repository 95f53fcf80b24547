//! The laptop's program.

pub mod embedded;
