//! Passphrases and passwords, asked of the operator while no live line moves.

use std::io::Read as _;
use std::path::Path;

use dialoguer::{Input, Password};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::Stop;
use crate::report::screen::can_ask;
use crate::report::{Complaint, Report};
use crate::transport::Pending;
use crate::transport::prompt::{Asker, Echo, Prompt, Question, Refusal};

/// The longest password that is taken from a file, in bytes.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// The password in a file, up to the first end of line; `-` is stdin, `/dev/fd/3` a descriptor.
pub fn brought_along(file: &Path) -> Result<SecretString, Stop> {
    let unreadable = |why: &str| {
        Stop::usage(
            Complaint::new(format!("there is no password in {}: {why}", file.display())).help(
                "`--password-from` takes a file whose first line is the password; `-` is stdin",
            ),
        )
    };
    let mut text = Zeroizing::new(String::new());
    let read = if file == Path::new("-") {
        std::io::stdin()
            .take(PASSWORD_BYTES_MAX)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(file)
            .and_then(|open| open.take(PASSWORD_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| unreadable(&error.to_string()))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(unreadable("its first line is empty"));
    }
    Ok(SecretString::from(line))
}

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
        Question::Passphrase { path, attempt } => hidden(&format!(
            "{}Passphrase of {}",
            again(*attempt),
            path.display()
        )),
        Question::Password {
            user,
            host,
            asker,
            attempt,
        } => hidden(&format!(
            "{}Password of {user} on {}{host}",
            again(*attempt),
            what(*asker)
        )),
        Question::Sudo {
            user,
            host,
            attempt,
        } => hidden(&format!(
            "{}Password of {user} for sudo on {host}",
            again(*attempt)
        )),
        Question::Interactive {
            user,
            host,
            asker,
            prompt,
            echo: Echo::Hidden,
            ..
        } => hidden(&format!("{user} on {}{host}: {prompt}", what(*asker))),
        Question::Interactive {
            user,
            host,
            asker,
            prompt,
            echo: Echo::Shown,
            ..
        } => Input::new()
            .with_prompt(format!("{user} on {}{host}: {prompt}", what(*asker)))
            .allow_empty(true)
            .interact_text(),
    };
    typed.map(SecretString::from).map_err(|_| Refusal::Declined)
}

fn what(asker: Asker) -> &'static str {
    match asker {
        Asker::Host => "",
        Asker::JumpHost => "the jump host ",
    }
}

fn again(attempt: u32) -> &'static str {
    if attempt > 1 { "That was not it. " } else { "" }
}

fn hidden(prompt: &str) -> dialoguer::Result<String> {
    Password::new()
        .with_prompt(prompt)
        .allow_empty_password(true)
        .interact()
}
