//! Templates: expressions inside values of the inventory, and whole files under `templates/`.
//!
//! Must not know hosts or apps: it renders text from a [`Scope`], which whoever has a fleet fills.
//! It must never turn a value into the syntax of systemd or nginx by itself: own templates ask for
//! that by a filter (`{{ value | systemd_value }}`). A new variable is a field of [`Scope`]; a new
//! built-in file is a line of `engine::BUILT_IN`; a new encoder is a filter in `engine`.

mod engine;
mod error;
mod filter;
mod name;
mod scope;
mod sealed;
mod text;

pub use engine::{BUILT_IN, Engine, OUTPUT_BYTES_MAX, TEMPLATE_BYTES_MAX};
pub use error::{Place, TemplateError};
pub use name::TemplateName;
pub use scope::{AppScope, EnvironmentScope, HostScope, ReleaseScope, Scope, SecretScope};
pub use sealed::Fragment;
pub use text::{Template, Templated, Typed, VALUE_BYTES_MAX};

#[cfg(test)]
mod tests;
