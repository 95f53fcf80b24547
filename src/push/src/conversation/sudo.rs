//! Answers sudo where it asks for a password, over the stdin of the command that it is to run.
//!
//! sudo says its prompt on stderr and then reads a line. Nothing else is written until the command
//! itself has spoken: so sudo never reads what is meant for the command, and a sudo that asks nothing
//! is told nothing. The password is never an argument, and in no variable of the host's.

use std::time::Duration;

use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{sleep, timeout};

use super::Error;
use super::call::{Line, Opening, expired, last_words, unable};
use super::frames::First;
use crate::transport::prompt::{Question, Refusal};
use crate::transport::session::Tail;

/// What `start.sh` and `as_root.sh` have sudo say.
const PROMPT: &str = "push asks sudo";

/// How often sudo asks before it gives up; its own `passwd_tries`.
const TRIES_MAX: u32 = 3;

/// How often stderr is looked at while sudo may ask.
const LOOK_EVERY: Duration = Duration::from_millis(30);

/// How long a person may take to type; sudo itself waits for five minutes.
const PERSON_MAX: Duration = Duration::from_secs(110);

/// Whether `sudo -n` has failed for want of a password: its words, and those of sudo-rs.
pub(super) fn wants_password(stderr: &[String]) -> bool {
    stderr.iter().any(|line| {
        line.starts_with("sudo: ")
            && ["a password is required", "authentication is required"]
                .iter()
                .any(|words| line.contains(words))
    })
}

/// Answers sudo until the command says its first word, each time within `limit`.
pub(super) async fn let_in(
    mut line: Line,
    opening: &Opening<'_>,
    limit: Duration,
) -> Result<(Line, First), Error> {
    const DURING: &str = "waiting for sudo";
    let stderr = line.reader.tail();
    for attempt in 1.. {
        let first = tokio::select! {
            first = timeout(limit, line.reader.first(DURING)) => first,
            () = asks(&stderr, attempt) => {
                let password = password(opening, attempt).await?;
                let said = format!("{}\n", password.expose_secret());
                line.writer.write(Bytes::from(said), DURING).await?;
                continue;
            }
        };
        return match first {
            Ok(Ok(first)) => Ok((line, first)),
            Ok(Err(Error::Ended { .. })) => Err(kept_out(line, opening, attempt - 1).await),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Silent {
                host: opening.host.clone(),
                during: DURING,
                waited: limit,
            }),
        };
    }
    Err(refused(opening, TRIES_MAX))
}

/// Returns once sudo has asked so many times, and never if it does not.
async fn asks(stderr: &Tail, times: u32) {
    while asked(&stderr.lines()) < times {
        sleep(LOOK_EVERY).await;
    }
}

fn asked(lines: &[String]) -> u32 {
    let times: usize = lines.iter().map(|line| line.matches(PROMPT).count()).sum();
    u32::try_from(times).unwrap_or(u32::MAX)
}

async fn password(opening: &Opening<'_>, attempt: u32) -> Result<SecretString, Error> {
    let question = Question::Sudo {
        user: opening.login.to_owned(),
        host: opening.host.to_string(),
        attempt,
    };
    if attempt > TRIES_MAX {
        return Err(refused(opening, TRIES_MAX));
    }
    match timeout(PERSON_MAX, opening.prompt.ask(&question)).await {
        Ok(Ok(password)) if !password.expose_secret().contains(['\n', '\0']) => Ok(password),
        Ok(Err(Refusal::NoTerminal)) if attempt == 1 => Err(Error::SudoAsks {
            host: opening.host.clone(),
            login: opening.login.to_owned(),
        }),
        Ok(Ok(_) | Err(_)) | Err(_) => Err(refused(opening, attempt - 1)),
    }
}

/// Why sudo ended without running the command: the password, or a rule.
async fn kept_out(line: Line, opening: &Opening<'_>, answered: u32) -> Error {
    let stderr = last_words(line).await;
    let is_wrong = |line: &String| line.contains("incorrect password attempt");
    if answered > 0
        && (stderr.iter().any(is_wrong) || stderr.last().is_some_and(|line| line.contains(PROMPT)))
    {
        return refused(opening, answered);
    }
    if let Some(unable) = unable(opening.host, &stderr).or_else(|| expired(opening, &stderr)) {
        return unable;
    }
    Error::Sudo {
        host: opening.host.clone(),
        login: opening.login.to_owned(),
        stderr: stderr
            .into_iter()
            .map(|line| line.replace(PROMPT, ""))
            .filter(|line| !line.is_empty())
            .collect(),
    }
}

fn refused(opening: &Opening<'_>, tries: u32) -> Error {
    Error::SudoRefused {
        host: opening.host.clone(),
        login: opening.login.to_owned(),
        tries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::Presence;
    use crate::transport::prompt::Prompt;
    use crate::transport::session::{FarEnd, Status};
    use crate::transport::{NoPrompt, Pending, Session};
    use std::sync::Mutex;

    /// Gives its answers in order.
    struct Person(Mutex<Vec<&'static str>>);

    impl Prompt for Person {
        fn ask<'a>(&'a self, _: &'a Question) -> Pending<'a, Result<SecretString, Refusal>> {
            let answer = self.0.lock().unwrap().pop();
            Box::pin(async move { answer.map(SecretString::from).ok_or(Refusal::Declined) })
        }
    }

    /// A sudo that takes `right`, asks at most three times, and then runs a command that says a line.
    async fn sudo(mut far: FarEnd) -> Vec<u8> {
        let mut read = Vec::new();
        for _ in 0..TRIES_MAX {
            far.stderr.push(PROMPT.as_bytes());
            let Some(line) = far.input.recv().await else {
                far.stderr.push(b"\nsudo: no password was provided\n");
                far.end.tell(Ok(Status::Code(1)));
                return read;
            };
            read.extend_from_slice(&line);
            if line.as_ref() == b"right\n" {
                let _ = far.output.send("welcome\n".into()).await;
                while let Some(more) = far.input.recv().await {
                    read.extend_from_slice(&more);
                }
                far.end.tell(Ok(Status::Code(0)));
                return read;
            }
            far.stderr.push(b"\nSorry, try again.\n");
        }
        far.stderr.push(b"sudo: 3 incorrect password attempts\n");
        far.end.tell(Ok(Status::Code(1)));
        read
    }

    async fn try_in(prompt: &dyn Prompt) -> (Result<String, Error>, Vec<u8>) {
        let host = "web1".parse().unwrap();
        let opening = Opening {
            host: &host,
            login: "admin",
            programs: |_| None,
            presence: Presence::AsFound,
            permit: &|| Box::pin(async { Ok(()) }),
            prompt,
            tell: &|_| {},
        };
        let (session, far) = Session::pair("web1");
        let running = tokio::spawn(sudo(far));
        let (reader, writer) = super::super::frames::halves(&host, session);
        let line = Line { reader, writer };
        let let_in = let_in(line, &opening, Duration::from_secs(5)).await;
        let said = let_in.map(|(_, first)| match first {
            First::Text(text) => text,
            First::Message(_) => "a message".to_owned(),
        });
        (said, running.await.unwrap())
    }

    fn person(answers: &[&'static str]) -> Person {
        Person(Mutex::new(answers.iter().rev().copied().collect()))
    }

    #[tokio::test]
    async fn a_password_is_given_when_it_is_asked_for_and_nothing_with_it() {
        let (said, read) = try_in(&person(&["right"])).await;
        assert_eq!(said.unwrap(), "welcome");
        assert_eq!(read, b"right\n");
        let (said, read) = try_in(&person(&["wrong", "right"])).await;
        assert_eq!(said.unwrap(), "welcome");
        assert_eq!(read, b"wrong\nright\n");
    }

    #[tokio::test]
    async fn a_password_that_is_wrong_three_times_is_named_as_that() {
        let (said, read) = try_in(&person(&["a", "b", "c", "d"])).await;
        assert!(
            matches!(said, Err(Error::SudoRefused { tries: 3, .. })),
            "{said:?}"
        );
        assert_eq!(read, b"a\nb\nc\n", "a fourth is not given away");
        let (said, _) = try_in(&person(&["a"])).await;
        assert!(
            matches!(said, Err(Error::SudoRefused { tries: 1, .. })),
            "{said:?}"
        );
    }

    #[tokio::test]
    async fn without_a_terminal_nothing_is_given_and_what_to_pass_is_said() {
        let (said, read) = try_in(&NoPrompt).await;
        let error = said.unwrap_err();
        assert!(matches!(error, Error::SudoAsks { .. }), "{error:?}");
        let help = error.help(&"prod".parse().unwrap());
        assert!(help.contains("--password-from"), "{help}");
        assert_eq!(read, b"");
    }

    #[tokio::test]
    async fn an_answer_of_two_lines_is_not_given_to_sudo() {
        let (said, read) = try_in(&person(&["right\nrm"])).await;
        assert!(said.is_err());
        assert_eq!(read, b"");
    }
}
