//! Questions to the operator. Whoever cannot be asked has not consented: without a terminal the
//! answer must have been given on the command line.

use std::io::IsTerminal;

use dialoguer::{Confirm, Input};

use super::Stop;
use super::arguments::Asking;
use crate::report::{Complaint, Report};

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

/// Returns when the operator agrees, and stops the command when not.
pub fn ask(question: &Question, asking: Asking, report: &Report) -> Result<(), Stop> {
    if asking.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(unasked(question));
    }
    let agreed = report.paused(|| match question {
        Question::Yes { prompt } => Confirm::new()
            .with_prompt(prompt)
            .default(false)
            .interact_opt()
            .map(|said| said == Some(true)),
        Question::Word { prompt, word } => Input::<String>::new()
            .with_prompt(format!("{prompt}\nType {word} to go on"))
            .allow_empty(true)
            .interact_text()
            .map(|typed| typed.trim() == word),
    });
    // A terminal that fails while it is asked has not said yes.
    if agreed.unwrap_or(false) {
        return Ok(());
    }
    Err(Stop::refused(Complaint::new(
        "not agreed to, so nothing was changed",
    )))
}

fn unasked(question: &Question) -> Stop {
    let prompt = match question {
        Question::Yes { prompt } | Question::Word { prompt, .. } => prompt,
    };
    Stop::refused(
        Complaint::new(format!(
            "this must be agreed to, and there is no terminal to ask on: {prompt}"
        ))
        .help("look at it with `push plan`, then pass `--yes`"),
    )
}
