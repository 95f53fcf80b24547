//! Values of the inventory that may hold expressions: `"{{ release.dir }}/api"`.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::LazyLock;

use minijinja::Environment;

use super::engine::{self, Source};
use super::{Scope, TemplateError};

/// The longest value that a text of the inventory may render to, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// A text whose expressions have been checked for syntax.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Template(String);

/// No loader: a value of the inventory includes no files.
static INLINE: LazyLock<Environment<'static>> = LazyLock::new(engine::strict);

impl Template {
    /// Checks the syntax of `text`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if !is_literal(text) {
            INLINE
                .template_from_str(text)
                .map_err(|error| engine::explain(&error, Source::Value(text), &[]))?;
        }
        Ok(Self(text.to_owned()))
    }

    /// The text as it is written in the inventory.
    pub fn source(&self) -> &str {
        &self.0
    }

    /// Whether nothing has to be rendered, so that every host gets the same.
    pub fn is_literal(&self) -> bool {
        is_literal(&self.0)
    }

    /// The text with its expressions replaced.
    pub fn render(&self, scope: &Scope) -> Result<String, TemplateError> {
        if self.is_literal() {
            return Ok(self.0.clone());
        }
        let template = INLINE
            .template_from_str(&self.0)
            .map_err(|error| engine::explain(&error, Source::Value(&self.0), &[]))?;
        engine::render_bounded(&template, scope, VALUE_BYTES_MAX).map_err(|stop| match stop {
            engine::Stop::TooLong => TemplateError::TooLong {
                place: Source::Value(&self.0).place(None),
                max: VALUE_BYTES_MAX,
            },
            engine::Stop::Error(error) => {
                engine::explain(&error, Source::Value(&self.0), &scope.variables())
            }
        })
    }
}

fn is_literal(text: &str) -> bool {
    !["{{", "{%", "{#"].iter().any(|open| text.contains(open))
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A type that a rendered value is read as. Its error says what is wrong, without the value.
pub trait Typed: FromStr<Err: fmt::Display> {}

impl<T: FromStr<Err: fmt::Display>> Typed for T {}

/// A text with expressions that becomes a `T` once it is rendered for a host. The inventory has
/// rendered it for every host it is meant for, so it is known to work there.
pub struct Templated<T> {
    text: Template,
    of: PhantomData<fn() -> T>,
}

impl<T> Templated<T> {
    /// A text that is to be read as a `T` when it is rendered.
    pub fn new(text: Template) -> Self {
        Self {
            text,
            of: PhantomData,
        }
    }

    /// The text as it is written in the inventory.
    pub fn source(&self) -> &str {
        self.text.source()
    }

    /// Whether every host gets the same.
    pub fn is_literal(&self) -> bool {
        self.text.is_literal()
    }
}

/// How much of a rendered value a message shows, in characters.
const SHOWN_MAX: usize = 80;

impl<T: Typed> Templated<T> {
    /// The value for one host.
    pub fn resolve(&self, scope: &Scope) -> Result<T, TemplateError> {
        let rendered = self.text.render(scope)?;
        rendered
            .parse()
            .map_err(|error: T::Err| TemplateError::Value {
                rendered: rendered.chars().take(SHOWN_MAX).collect(),
                why: error.to_string(),
            })
    }
}

impl<T> Clone for Templated<T> {
    fn clone(&self) -> Self {
        Self::new(self.text.clone())
    }
}

impl<T> PartialEq for Templated<T> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<T> Eq for Templated<T> {}

impl<T> fmt::Debug for Templated<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}
