//! `push trust`: the one way in which a host's key comes into the inventory. Shows the key that the
//! host offers, compares it with everything that is known, asks where nobody vouches for it, pins it.
//!
//! [`introduce`] is the whole of it for one host, for every command that meets hosts for the first
//! time. A script is never believed blindly: without a terminal only a fingerprint given beforehand,
//! known_hosts or a host authority can vouch for a key.

use std::path::Path;

use super::arguments::{Asking, OneHost};
use super::consent::{self, Question};
use super::environment::{Environment, stopped};
use super::{Stop, reach, runtime};
use crate::event::{ExitCode, VERSION};
use crate::inventory::Declaration;
use crate::name::HostName;
use crate::report::screen::can_ask;
use crate::report::{Complaint, Report, trust};
use crate::transport::ssh::{Shown, SshDialer};
use crate::transport::{Error, Fingerprint, HostKey, Target, VerifiedBy};

/// Show the key of a host, compare it with what is known, and pin it in the inventory
#[derive(Debug, clap::Args)]
#[command(override_usage = "push trust [OPTIONS] [ENVIRONMENT] HOST")]
pub struct Trust {
    #[command(flatten)]
    host: OneHost,

    /// The fingerprint that its key must have, so that nothing is asked
    #[arg(long, value_name = "SHA256:…")]
    host_key: Option<Fingerprint>,
}

/// Compares and pins.
pub fn run(arguments: &Trust, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let (environment, host) = Environment::of_one(&arguments.host, folder)?;
    runtime::run(async |_| {
        let targets = environment.targets().await?;
        let Some(target) = targets.get(&host) else {
            return Err(Stop::not_started(Complaint::new(format!(
                "nobody has said where {host} is"
            ))));
        };
        let dialer = reach::dialer(&environment, report);
        let given = arguments.host_key.as_ref();
        introduce(&environment, (&host, target), (&dialer, given), report).await?;
        Ok(ExitCode::Done)
    })
}

/// Makes the key of a host known: returns it once it is pinned in the inventory. Changes nothing when
/// the operator declines, when `given` is another key's, or when there is nobody to ask.
pub async fn introduce(
    environment: &Environment,
    (host, target): (&HostName, &Target),
    (dialer, given): (&SshDialer, Option<&Fingerprint>),
    report: &Report,
) -> Result<HostKey, Stop> {
    // Read before the host is called: a file that changes while the operator thinks is not written.
    let name = &environment.fleet.environment;
    let declared = Declaration::find(environment.project.root(), name, host);
    let declaration = declared.map_err(|error| unpinnable(&error))?;
    let shown = dialer
        .shown_key(target)
        .await
        .map_err(|error| stopped(&error))?;
    report.answer(&trust::shown(host.as_str(), &target.place(), &shown));
    if let Some(doubt) = doubt(&shown, given).map_err(Stop::refused)? {
        agreed(host, doubt, report).await?;
    }
    let was = matches!(shown.verdict, Ok(VerifiedBy::Pinned));
    if was {
        report.answer(&trust::unchanged(host.as_str()));
    } else {
        write(&declaration, &shown.key)?;
        report.answer(&trust::pinned(
            host.as_str(),
            &shown.key,
            declaration.shown(),
        ));
    }
    report.json(&serde_json::json!({
        "v": VERSION, "type": "trust", "host": host, "algorithm": shown.key.algorithm(),
        "fingerprint": shown.key.fingerprint(), "was_pinned": was, "file": declaration.shown(),
    }));
    Ok(shown.key)
}

/// What only a person can settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// Nothing was known.
    New,
    /// Something else was known.
    Changed,
}

/// What is left to ask; an error when nothing could make the key right.
fn doubt(shown: &Shown, given: Option<&Fingerprint>) -> Result<Option<Doubt>, Complaint> {
    let wrong = given.filter(|given| !given.is_of(&shown.key));
    match (&shown.verdict, wrong) {
        (Err(error @ Error::HostKeyRevoked { .. }), _) => {
            Err(Complaint::of(error).help(error.help()))
        }
        (_, Some(given)) => Err(Complaint::new(format!(
            "the key that was shown is not the one that was given: {given}"
        ))
        .help(format!(
            "nothing was pinned. If the fingerprint that you have is of another type than {}, look for that \
             type's; else somebody may be in between",
            shown.key.algorithm()
        ))),
        (Ok(_), None) => Ok(None),
        (Err(_), None) if given.is_some() => Ok(None),
        (Err(Error::HostKeyUnknown { .. }), None) => Ok(Some(Doubt::New)),
        (Err(_), None) => Ok(Some(Doubt::Changed)),
    }
}

/// Asks, off the threads that keep connections alive. A changed key wants the host's name.
async fn agreed(host: &HostName, doubt: Doubt, report: &Report) -> Result<(), Stop> {
    if !can_ask() {
        return Err(Stop::refused(
            Complaint::new(format!(
                "nobody vouches for the key of {host}, and there is no terminal to ask on"
            ))
            .help(format!(
                "pass the fingerprint that you have from its console or its provider: \
                 `push trust {host} --host-key SHA256:…`"
            )),
        ));
    }
    let question = match doubt {
        Doubt::New => Question::Yes {
            prompt: "Is it the same there?".to_owned(),
        },
        Doubt::Changed => Question::Word {
            prompt: "Go on only if it is the same there.".to_owned(),
            word: host.to_string(),
        },
    };
    let report = report.clone();
    let asked = tokio::task::spawn_blocking(move || {
        consent::ask(&question, Asking { yes: false }, &report)
    });
    match asked.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Stop::refused(Complaint::new(format!(
            "the key of {host} was not pinned"
        )))),
    }
}

fn write(declaration: &Declaration, key: &HostKey) -> Result<(), Stop> {
    let key = key.to_string().parse().map_err(|error| {
        Stop::refused(
            Complaint::new(format!("this key cannot be pinned: {error}"))
                .help("give the host an ed25519 key: `ssh-keygen -A` there"),
        )
    })?;
    declaration.pin(&[key]).map_err(|error| unpinnable(&error))
}

fn unpinnable(error: &crate::inventory::PinError) -> Stop {
    Stop::not_started(Complaint::of(error).help(error.help()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(line: &str) -> HostKey {
        HostKey::parse(line).unwrap()
    }

    fn new() -> HostKey {
        key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ")
    }

    fn old() -> HostKey {
        key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJLGgqmjsM0vvbVIgRVNDYHYEqFnVVqL2Ju46oDtJJ2f")
    }

    fn print(key: &HostKey) -> Fingerprint {
        key.fingerprint().parse().unwrap()
    }

    fn shown(verdict: Result<VerifiedBy, Error>) -> Shown {
        Shown {
            key: new(),
            verdict,
        }
    }

    fn unknown() -> Error {
        Error::HostKeyUnknown {
            host: "web1".into(),
            key: new(),
            note: None,
        }
    }

    fn changed() -> Error {
        Error::HostKeyChanged {
            host: "web1".into(),
            key: new(),
            expected: vec![],
        }
    }

    #[test]
    fn a_key_that_nobody_vouches_for_is_asked_about() {
        assert_eq!(doubt(&shown(Err(unknown())), None), Ok(Some(Doubt::New)));
        assert_eq!(
            doubt(&shown(Err(changed())), None),
            Ok(Some(Doubt::Changed))
        );
        assert_eq!(doubt(&shown(Ok(VerifiedBy::Pinned)), None), Ok(None));
    }

    #[test]
    fn a_fingerprint_given_beforehand_answers_for_its_own_key_and_no_other() {
        let (right, wrong) = (print(&new()), print(&old()));
        for verdict in [Err(unknown()), Err(changed()), Ok(VerifiedBy::Pinned)] {
            assert_eq!(doubt(&shown(verdict.clone()), Some(&right)), Ok(None));
            assert!(doubt(&shown(verdict), Some(&wrong)).is_err());
        }
    }

    #[test]
    fn a_revoked_key_is_never_trusted() {
        let revoked = shown(Err(Error::HostKeyRevoked {
            host: "web1".into(),
            key: new(),
            file: "known_hosts".into(),
            line: 1,
        }));
        assert!(doubt(&revoked, None).is_err());
        assert!(doubt(&revoked, Some(&print(&new()))).is_err());
    }
}
