//! What can be wrong with a template.

use std::fmt;

/// A template that cannot be used, or a value in the inventory with an expression that cannot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template's text is not Jinja.
    #[error("{place}{why}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser met.
        why: String,
    },
    /// A variable that does not exist here.
    #[error("{place}{name} is not a variable that exists here")]
    Unknown {
        /// Where.
        place: Place,
        /// The expression, as it is written.
        name: String,
        /// Every variable that does exist.
        known: Vec<String>,
    },
    /// Rendering stopped: a filter refused its value, a limit was met, a call failed.
    #[error("{place}{why}")]
    Render {
        /// Where.
        place: Place,
        /// What was met.
        why: String,
    },
    /// More work than a template may ask for.
    #[error("{place}it does not end, or does far too much")]
    Endless {
        /// Where.
        place: Place,
    },
    /// More text than a template may produce.
    #[error("{place}it renders more than {max} bytes")]
    TooLong {
        /// Where.
        place: Place,
        /// The limit in bytes.
        max: usize,
    },
    /// No file and no built-in of this name.
    #[error("there is no template {name:?}")]
    Missing {
        /// The name asked for.
        name: String,
        /// The names that do exist, as many as are worth listing.
        known: Vec<String>,
    },
    /// A name that could lead outside of the templates folder.
    #[error("the template name {name:?} cannot be used: {why}")]
    Name {
        /// The name asked for.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file cannot be read.
    #[error("{file} cannot be read: {why}")]
    Unreadable {
        /// The file, as the operator knows it.
        file: String,
        /// What the system or the decoder says.
        why: String,
    },
    /// A rendered value that is not what its place needs.
    #[error("it renders to {rendered:?}, and {why}")]
    Value {
        /// What came out, shortened.
        rendered: String,
        /// Why it cannot stand there.
        why: String,
    },
}

impl TemplateError {
    /// What to do next.
    pub fn help(&self) -> String {
        match self {
            Self::Syntax { .. } => {
                "expressions are Jinja: {{ host.vars.region }}; a literal {{ is written {{ '{{' }}"
                    .to_owned()
            }
            Self::Unknown { known, .. } if known.is_empty() => "no variable exists here".to_owned(),
            Self::Unknown { known, .. } | Self::Missing { known, .. } => {
                format!("these exist: {}", known.join(", "))
            }
            Self::Render { .. } => "correct the template, then run `push plan` again".to_owned(),
            Self::Endless { .. } => {
                "a template is for filling in values; compute elsewhere".to_owned()
            }
            Self::TooLong { .. } => "ship a large file as the app's source instead".to_owned(),
            Self::Name { .. } => {
                "name a file inside templates/, such as \"systemd/service\"".to_owned()
            }
            Self::Unreadable { .. } => {
                "templates are UTF-8 text files inside templates/".to_owned()
            }
            Self::Value { .. } => "correct the value, or the variable it is made from".to_owned(),
        }
    }
}

/// A place in a template, as the beginning of a message: `templates/motd:2: `, or nothing for a value
/// of the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The template's file; none for a value of the inventory, whose place the inventory knows.
    pub file: Option<String>,
    /// The line, from one.
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: "),
            (Some(file), None) => write!(f, "{file}: "),
            (None, _) => Ok(()),
        }
    }
}
