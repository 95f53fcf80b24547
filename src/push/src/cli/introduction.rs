//! First contact with hosts whose key is not pinned: the key is shown, compared with everything that is
//! known, asked about where nobody vouches for it, and pinned in the inventory before anything else is
//! done with the host. For every command that meets hosts for the first time.
//!
//! A script is never believed blindly: without a terminal only a fingerprint given beforehand, known_hosts
//! or a host authority can vouch for a key; and `--yes` is no answer to this question.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Stop;
use super::arguments::Asking;
use super::consent::{self, Question};
use super::environment::{Environment, stopped};
use crate::event::ExitCode;
use crate::event::VERSION;
use crate::inventory::{Declaration, HostKey as Pin, PinError};
use crate::name::HostName;
use crate::report::screen::can_ask;
use crate::report::{Complaint, Report, trust};
use crate::rollout::each;
use crate::transport::ssh::{Shown, SshDialer};
use crate::transport::{Error, Fingerprint, HostKey, Target, VerifiedBy};

/// How hosts are met.
pub struct Introduction<'a> {
    /// The environment that declares them.
    pub environment: &'a Environment,
    /// Who calls them; it sends nothing but the key exchange.
    pub dialer: Arc<SshDialer>,
    /// The fingerprint that the operator has, from the host's console or its provider.
    pub given: Option<&'a Fingerprint>,
    /// Where what was found right is written.
    pub record: Record,
    /// What is typed again with a fingerprint, up to the host's name: `push trust prod`.
    pub command: String,
}

/// Where a key that was found right is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// Into the inventory.
    Pin,
    /// Nowhere: the run only looks.
    Nothing,
}

/// What only a person can settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// Nothing was known.
    New,
    /// Something else was known.
    Changed,
}

/// A host that was called, and what is left to ask about it.
struct Met {
    host: HostName,
    place: String,
    shown: Shown,
    doubt: Option<Doubt>,
}

impl Introduction<'_> {
    /// Makes the keys of hosts known, and returns them once they are pinned. All hosts are called before
    /// anything is asked or written; nothing is written for a host when the operator declines, when
    /// another key's fingerprint was given, or when there is nobody to ask.
    pub async fn make(
        &self,
        targets: BTreeMap<HostName, Target>,
        report: &Report,
    ) -> Result<BTreeMap<HostName, Pin>, Stop> {
        let met = self.meet(targets).await?;
        self.askable(&met, report)?;
        let mut pins = BTreeMap::new();
        for met in met {
            let pin = self.settle(&met, report).await?;
            pins.insert(met.host, pin);
        }
        Ok(pins)
    }

    /// Calls the hosts, side by side.
    async fn meet(&self, targets: BTreeMap<HostName, Target>) -> Result<Vec<Met>, Stop> {
        let parallel = self.environment.parallel;
        let called = each(targets, parallel, |_, target| {
            let dialer = Arc::clone(&self.dialer);
            async move {
                let shown = dialer.shown_key(&target).await?;
                Ok::<_, Error>((target.place(), shown))
            }
        });
        let mut met = Vec::new();
        for (host, answer) in called.await {
            let (place, shown) =
                answer.map_err(|error| stopped(&self.environment.fleet.environment, &error))?;
            let doubt = doubt(&host, &shown, self.given).map_err(Stop::refused)?;
            met.push(Met {
                host,
                place,
                shown,
                doubt,
            });
        }
        Ok(met)
    }

    /// Stops where something is left to ask and nobody is there: with all hosts that it is about, so that
    /// one look at their consoles is enough.
    fn askable(&self, met: &[Met], report: &Report) -> Result<(), Stop> {
        let doubtful: Vec<&Met> = met.iter().filter(|met| met.doubt.is_some()).collect();
        if doubtful.is_empty() || can_ask() {
            return Ok(());
        }
        for met in &doubtful {
            report.answer(&trust::shown(met.host.as_str(), &met.place, &met.shown));
        }
        let names: Vec<&str> = doubtful.iter().map(|met| met.host.as_str()).collect();
        let commands: Vec<String> = names
            .iter()
            .map(|host| format!("`{} {host} --host-key SHA256:…`", self.command))
            .collect();
        Err(Stop::refused(
            Complaint::new(format!(
                "nobody vouches for the key of {}, and there is no terminal to ask on",
                names.join(", ")
            ))
            .help(format!(
                "pass the fingerprint that you have from its console or its provider: {}",
                commands.join(", ")
            )),
        ))
    }

    /// Shows, asks, writes.
    async fn settle(&self, met: &Met, report: &Report) -> Result<Pin, Stop> {
        let Met {
            host,
            place,
            shown,
            doubt,
        } = met;
        // Read before the operator is asked: a file that changes while they think is not written.
        let (root, name) = (
            self.environment.project.root(),
            &self.environment.fleet.environment,
        );
        let declaration =
            Declaration::find(root, name, host).map_err(|error| unpinnable(&error))?;
        let pin = pin(&shown.key)?;
        report.answer(&trust::shown(host.as_str(), place, shown));
        if let Some(doubt) = doubt {
            agreed(host, *doubt, report).await?;
        }
        let was = matches!(shown.verdict, Ok(VerifiedBy::Pinned));
        let file = declaration.shown();
        match self.record {
            _ if was => report.answer(&trust::unchanged(host.as_str())),
            Record::Nothing => report.answer(&trust::unwritten(host.as_str())),
            Record::Pin => {
                declaration
                    .pin(std::slice::from_ref(&pin))
                    .map_err(|error| unpinnable(&error))?;
                report.answer(&trust::pinned(host.as_str(), &shown.key, file));
            }
        }
        report.json(&serde_json::json!({
            "v": VERSION, "type": "trust", "host": host, "algorithm": shown.key.algorithm(),
            "fingerprint": shown.key.fingerprint(), "was_pinned": was, "file": file,
        }));
        Ok(pin)
    }
}

/// What is left to ask; an error when nothing could make the key right.
fn doubt(
    host: &HostName,
    shown: &Shown,
    given: Option<&Fingerprint>,
) -> Result<Option<Doubt>, Complaint> {
    let wrong = given.filter(|given| !given.is_of(&shown.key));
    match (&shown.verdict, wrong) {
        (Err(error @ Error::HostKeyRevoked { .. }), _) => {
            Err(Complaint::of(error).help(error.help_with_host_key()))
        }
        (_, Some(given)) => Err(Complaint::new(format!(
            "{host} shows the key {}, which is not the one that was given: {given}",
            shown.key.fingerprint()
        ))
        .help(format!(
            "nothing was pinned, and nothing was sent to it. If the fingerprint that you have is of another type \
             than {}, look for that type's; else somebody may be in between",
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
    let exit = match asked.await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(refused)) => refused.exit(),
        Err(_) => ExitCode::Refused,
    };
    Err(Stop {
        exit,
        complaint: Complaint::new(format!("the key of {host} was not pinned")),
    })
}

fn pin(key: &HostKey) -> Result<Pin, Stop> {
    key.to_string().parse().map_err(|error| {
        Stop::refused(
            Complaint::new(format!("this key cannot be pinned: {error}"))
                .help("give the host an ed25519 key: `ssh-keygen -A` there"),
        )
    })
}

fn unpinnable(error: &PinError) -> Stop {
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

    fn host() -> HostName {
        "web1".parse().unwrap()
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
        assert_eq!(
            doubt(&host(), &shown(Err(unknown())), None),
            Ok(Some(Doubt::New))
        );
        assert_eq!(
            doubt(&host(), &shown(Err(changed())), None),
            Ok(Some(Doubt::Changed))
        );
        assert_eq!(
            doubt(&host(), &shown(Ok(VerifiedBy::Pinned)), None),
            Ok(None)
        );
    }

    #[test]
    fn a_fingerprint_given_beforehand_answers_for_its_own_key_and_no_other() {
        let (right, wrong) = (print(&new()), print(&old()));
        for verdict in [Err(unknown()), Err(changed()), Ok(VerifiedBy::Pinned)] {
            assert_eq!(
                doubt(&host(), &shown(verdict.clone()), Some(&right)),
                Ok(None)
            );
            let refused = doubt(&host(), &shown(verdict), Some(&wrong)).unwrap_err();
            for both in [new().fingerprint(), old().fingerprint()] {
                assert!(format!("{refused:?}").contains(&both), "{refused:?}");
            }
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
        assert!(doubt(&host(), &revoked, None).is_err());
        assert!(doubt(&host(), &revoked, Some(&print(&new()))).is_err());
    }
}
