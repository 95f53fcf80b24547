//! The only voice: everything that a person or a script reads leaves through a [`Report`].
//!
//! stdout carries the answer (a plan, a status, JSON lines), stderr the progress and the errors. The
//! other files of this room make texts out of values and print nothing; they do not know where a
//! text goes, and colour is taken out again by the stream when it is not wanted.
//!
//! Must not know how anything is done: it is told values. To show a new kind of value, add a file
//! with one function from the value to text, a golden test of its text, and its JSON in [`json`].
//! Whatever a host said goes through [`foreign`] first.

pub mod board;
pub mod doctor;
mod drift;
mod echo;
pub mod error;
pub mod failure;
pub mod foreign;
pub mod history;
pub mod logs;
pub mod measure;
pub mod outcome;
pub mod plan;
pub mod progress;
pub mod refusal;
pub mod rollback;
pub mod screen;
pub mod secret;
pub mod status;
pub mod step;
pub mod style;
pub mod table;
pub mod text;
pub mod trace;
pub mod trust;
pub mod unit;
pub mod upgrade;

pub use error::Complaint;
pub use screen::{Form, Report, Verbosity};
