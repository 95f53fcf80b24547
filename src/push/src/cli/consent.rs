//! Questions to the operator. Whoever cannot be asked has not consented: without a terminal the
//! answer must have been given on the command line.

use std::io;

use dialoguer::Input;

use super::arguments::Asking;
use crate::event::ExitCode;
use crate::report::Report;
use crate::report::screen::can_ask;

/// What is to be agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A plain yes or no.
    Yes {
        /// The question, ended by a question mark.
        prompt: String,
    },
    /// A word must be typed, so that it cannot be answered by habit.
    Word {
        /// Why it is asked.
        prompt: String,
        /// The word.
        word: String,
    },
}

/// Why there is no consent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The operator said no.
    #[error("not agreed to, so nothing was changed")]
    Declined,
    /// The operator stopped there and then.
    #[error("interrupted at a question, so nothing was changed")]
    Interrupted,
    /// Nobody can be asked.
    #[error("{prompt} There is no terminal to ask on: read what is shown above, then pass `--yes`")]
    NoTerminal {
        /// What would have been asked.
        prompt: String,
    },
}

impl Refused {
    /// What push ends with for it.
    pub fn exit(&self) -> ExitCode {
        match self {
            Self::Declined | Self::NoTerminal { .. } => ExitCode::Refused,
            Self::Interrupted => ExitCode::Interrupted,
        }
    }
}

/// Returns when the operator agrees. Blocks while they think.
pub fn ask(question: &Question, asking: Asking, report: &Report) -> Result<(), Refused> {
    if asking.yes {
        return Ok(());
    }
    if !can_ask() {
        let (Question::Yes { prompt } | Question::Word { prompt, .. }) = question.clone();
        return Err(Refused::NoTerminal { prompt });
    }
    let agreed = report.paused(|| match question {
        Question::Yes { prompt } => {
            // A whole line, as everywhere else: of a "yes" whose first letter were enough, the shell would
            // get the others.
            line(&format!("{prompt} [y/N]"))
                .map(|typed| ["y", "yes"].contains(&typed.to_lowercase().as_str()))
        }
        Question::Word { prompt, word } => {
            line(&format!("{prompt}\nType {word} to go on")).map(|typed| typed == *word)
        }
    });
    match agreed {
        Ok(true) => Ok(()),
        Err(dialoguer::Error::IO(error)) if error.kind() == io::ErrorKind::Interrupted => {
            Err(Refused::Interrupted)
        }
        // A terminal that fails while it is asked has not said yes.
        Ok(false) | Err(_) => Err(Refused::Declined),
    }
}

/// What is typed until Enter.
fn line(prompt: &str) -> dialoguer::Result<String> {
    let typed: String = Input::new()
        .with_prompt(prompt)
        .allow_empty(true)
        .interact_text()?;
    Ok(typed.trim().to_owned())
}
