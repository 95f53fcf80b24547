//! Passphrases and passwords, asked of the operator while no live line moves.

use dialoguer::{Input, Password};
use secrecy::SecretString;

use crate::report::Report;
use crate::report::screen::can_ask;
use crate::transport::Pending;
use crate::transport::prompt::{Echo, Prompt, Question, Refusal};

/// Asks on this process's terminal.
#[derive(Debug, Clone)]
pub struct Terminal(pub Report);

impl Prompt for Terminal {
    fn ask<'a>(&'a self, question: &'a Question) -> Pending<'a, Result<SecretString, Refusal>> {
        let (report, question) = (self.0.clone(), question.clone());
        Box::pin(async move {
            // Typing blocks; it must not hold up the connections to other hosts.
            let asked = tokio::task::spawn_blocking(move || report.paused(|| ask(&question)));
            asked.await.unwrap_or(Err(Refusal::Declined))
        })
    }
}

fn ask(question: &Question) -> Result<SecretString, Refusal> {
    if !can_ask() {
        return Err(Refusal::NoTerminal);
    }
    let typed = match question {
        Question::Passphrase { path, attempt } => {
            let again = if *attempt > 1 {
                "That was not it. "
            } else {
                ""
            };
            hidden(&format!("{again}Passphrase of {}", path.display()))
        }
        Question::Password { user, host } => hidden(&format!("Password of {user} on {host}")),
        Question::Interactive {
            user,
            host,
            prompt,
            echo: Echo::Hidden,
        } => hidden(&format!("{user} on {host}: {prompt}")),
        Question::Interactive {
            user,
            host,
            prompt,
            echo: Echo::Shown,
        } => Input::new()
            .with_prompt(format!("{user} on {host}: {prompt}"))
            .allow_empty(true)
            .interact_text(),
    };
    typed.map(SecretString::from).map_err(|_| Refusal::Declined)
}

fn hidden(prompt: &str) -> dialoguer::Result<String> {
    Password::new()
        .with_prompt(prompt)
        .allow_empty_password(true)
        .interact()
}
