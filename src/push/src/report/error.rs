//! The one form in which errors are told: what is wrong, why, and the next thing to type.
//! Knows no room's error types; whoever has one makes a [`Complaint`] of it.

use std::error::Error;
use std::fmt::Write as _;

use super::style::{BAD, HELP, paint};
use crate::event::VERSION;

/// The deepest chain of causes that is told.
const CAUSES_MAX: usize = 8;

/// Something that stops the program, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong.
    pub message: Message,
    /// Why, the nearest cause first.
    pub causes: Vec<String>,
    /// What to do next.
    pub help: Option<String>,
}

/// What is wrong, as it stands on the first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// One sentence; `error:` is put before it.
    Sentence(String),
    /// Drawn already, with its own heading and help, under the line that caused it.
    Drawn(String),
}

impl Complaint {
    /// A complaint in one sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: Message::Sentence(message.into()),
            causes: Vec::new(),
            help: None,
        }
    }

    /// A complaint that somebody has drawn already.
    pub fn drawn(text: impl Into<String>) -> Self {
        Self {
            message: Message::Drawn(text.into()),
            causes: Vec::new(),
            help: None,
        }
    }

    /// An error with its chain of causes. A cause whose text its parent already tells is left out.
    pub fn of(error: &dyn Error) -> Self {
        let mut told = error.to_string();
        let mut complaint = Self::new(told.clone());
        let mut next = error.source();
        for _ in 0..CAUSES_MAX {
            let Some(cause) = next else { break };
            let text = cause.to_string();
            if !told.contains(&text) {
                complaint.causes.push(text.clone());
                told = text;
            }
            next = cause.source();
        }
        complaint
    }

    /// The same with the next thing to type.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        let help = help.into();
        self.help = (!help.is_empty()).then_some(help);
        self
    }

    /// The whole text, ended by a newline.
    pub fn render(&self) -> String {
        let mut text = match &self.message {
            Message::Sentence(sentence) => {
                format!(
                    "{} {}\n",
                    paint(BAD.bold(), "error:"),
                    folded(sentence, "  ")
                )
            }
            Message::Drawn(drawn) => format!("{}\n", drawn.trim_end()),
        };
        for cause in &self.causes {
            let _ = writeln!(
                text,
                "  {} {}",
                paint(BAD, "because:"),
                folded(cause, "    ")
            );
        }
        if let Some(line) = &self.help {
            let _ = writeln!(
                text,
                "  {} {}",
                paint(HELP.bold(), "help:"),
                folded(line, "    ")
            );
        }
        text
    }

    /// The same for programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "v": VERSION, "type": "error", "message": self.sentence(), "causes": self.causes, "help": self.help,
        })
    }

    /// What is wrong, without colour.
    pub fn sentence(&self) -> String {
        match &self.message {
            Message::Sentence(text) => text.clone(),
            Message::Drawn(text) => anstream::adapter::strip_str(text).to_string(),
        }
    }
}

/// Several lines with each further one indented, so that a message never looks like two.
fn folded(text: &str, indent: &str) -> String {
    text.trim_end().replace('\n', &format!("\n{indent}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the inventory cannot be read")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Inner(#[source] std::io::Error);

    #[test]
    fn a_chain_is_told_once_from_what_is_wrong_to_why() {
        let error = Outer(Inner(std::io::Error::other("permission denied")));
        let text = Complaint::of(&error).help("run `ls -l inventory`").render();
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "error: the inventory cannot be read\n  because: permission denied\n  help: run `ls -l inventory`\n"
        );
    }
}
