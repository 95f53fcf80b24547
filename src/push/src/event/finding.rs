//! What `push doctor` finds: one thing that was looked at, and what to do about it.

use serde::Serialize;

use super::ExitCode;
use crate::name::HostName;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The host that it is about; `None` is the laptop.
    pub host: Option<HostName>,
    /// How it is.
    #[serde(flatten)]
    pub grade: Grade,
    /// What was found. Holds untrusted text, made visible already.
    pub what: String,
    /// The next thing to type, where there is something to do.
    pub cure: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "grade", content = "exit", rename_all = "snake_case")]
pub enum Grade {
    /// As it should be.
    Fine,
    /// Nothing is broken, and somebody should know.
    Note,
    /// A push would fail, or something does not work now: what doctor exits with.
    Bad(ExitCode),
}

impl Finding {
    /// As it should be.
    pub fn fine(what: impl Into<String>) -> Self {
        Self::new(Grade::Fine, what.into(), None)
    }

    /// Worth knowing.
    pub fn note(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(Grade::Note, what.into(), Some(cure.into()))
    }

    /// Wrong.
    pub fn bad(exit: ExitCode, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(Grade::Bad(exit), what.into(), Some(cure.into()))
    }

    /// The same, about a host.
    pub fn on(self, host: &HostName) -> Self {
        Self {
            host: Some(host.clone()),
            ..self
        }
    }

    /// What the process exits with on account of it.
    pub fn exit(&self) -> ExitCode {
        match self.grade {
            Grade::Fine | Grade::Note => ExitCode::Done,
            Grade::Bad(exit) => exit,
        }
    }

    fn new(grade: Grade, what: String, cure: Option<String>) -> Self {
        Self {
            host: None,
            grade,
            what,
            cure: cure.filter(|cure| !cure.is_empty()),
        }
    }
}
