//! What can go wrong in a conversation, each with what to do next. A new failure is a new variant
//! with a code and a help text. Holds only text that is safe to show.

use std::time::Duration;

use push_wire::PROTOCOL;
use push_wire::frame::FrameError;
use push_wire::message::{Holder, Refusal};

use super::Presence;
use crate::embedded;
use crate::event::Obstacle;
use crate::name::{EnvironmentName, HostName};
use crate::transport;
use crate::visible;

/// How much of what is said of a holder is shown, in bytes.
const HOLDER_BYTES_MAX: usize = 200;

/// How much of why a host gives no answer is shown, in bytes.
const REFUSAL_BYTES_MAX: usize = 400;

/// Why a conversation came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The way to the host failed.
    #[error(transparent)]
    Transport(Box<transport::Error>),
    /// No answer within its bound.
    #[error("push-host on {host} was silent for {} s while {during}", waited.as_secs())]
    Silent {
        /// The host.
        host: HostName,
        /// What it was to do.
        during: &'static str,
        /// The bound.
        waited: Duration,
    },
    /// Something spoke before push-host did.
    #[error("{host} says something before push-host does: {said}")]
    Noise {
        /// The host.
        host: HostName,
        /// The account.
        login: String,
        /// Its beginning.
        said: String,
    },
    /// push-host ended in the middle.
    #[error("push-host on {host} ended while {during}{}", because(stderr))]
    Ended {
        /// The host.
        host: HostName,
        /// What it was to do.
        during: &'static str,
        /// Its last words.
        stderr: Vec<String>,
    },
    /// push-host was run, and says itself why it cannot go on.
    #[error("push-host on {host} begins nothing: {why}")]
    Unable {
        /// The host.
        host: HostName,
        /// Why, in its words; escaped.
        why: String,
        /// What to do about it, in its words; escaped.
        help: String,
    },
    /// push-host could not be run through sudo.
    #[error(
        "{login} cannot run push-host on {host} through sudo{}",
        because(stderr)
    )]
    Sudo {
        /// The host.
        host: HostName,
        /// The account.
        login: String,
        /// What was said.
        stderr: Vec<String>,
    },
    /// sudo wants a password and nobody can be asked for it.
    #[error("sudo on {host} asks {login} for a password, and there is no terminal to ask for it")]
    SudoAsks {
        /// The host.
        host: HostName,
        /// The account.
        login: String,
    },
    /// sudo did not take the password.
    #[error("sudo on {host} does not take the password of {login} ({tries} tried)")]
    SudoRefused {
        /// The host.
        host: HostName,
        /// The account.
        login: String,
        /// How many were tried.
        tries: u32,
    },
    /// The account lets nobody do anything until its password is another one.
    #[error(
        "{host} lets {login} in and runs nothing: the password has expired, and a new one has to be set first"
    )]
    PasswordExpired {
        /// The host.
        host: HostName,
        /// The account.
        login: String,
    },
    /// push-host is not there, and nobody asked to install it.
    #[error("push has not run on {host} yet: push-host, which answers there, is not installed")]
    NotInstalled {
        /// The host.
        host: HostName,
    },
    /// This build has no program for such a machine.
    #[error("this build of push carries no push-host for {machine}, which {host} is")]
    NoProgram {
        /// The host.
        host: HostName,
        /// The machine, as `uname -m` names it.
        machine: String,
    },
    /// Something on the laptop is in the way of installing or replacing push-host.
    #[error("{}", .0.why)]
    NotPermitted(Obstacle),
    /// push-host could not be installed, or not be run once.
    #[error(
        "push-host could not be {} on {host} as {login}{}",
        brought(*presence),
        because(stderr)
    )]
    Install {
        /// The host.
        host: HostName,
        /// The account.
        login: String,
        /// What was to be done with it.
        presence: Presence,
        /// What was said.
        stderr: Vec<String>,
    },
    /// push-host on the host is of a later time.
    #[error(
        "push-host on {host} speaks version {theirs} of the protocol, this push speaks {PROTOCOL}"
    )]
    Newer {
        /// The host.
        host: HostName,
        /// What it speaks.
        theirs: u16,
    },
    /// push-host on the host is of an earlier time, and nobody asked to replace it.
    #[error(
        "push-host on {host} speaks version {theirs} of the protocol, this push speaks {PROTOCOL}"
    )]
    Older {
        /// The host.
        host: HostName,
        /// What it speaks.
        theirs: u16,
    },
    /// push-host would not be replaced.
    #[error("push-host on {host} could not be replaced by this build's: {why}")]
    NotUpgraded {
        /// The host.
        host: HostName,
        /// Why.
        why: String,
    },
    /// push-host is to be replaced, and somebody is at it with the one that is there.
    #[error(
        "push-host on {host} is another one than this push carries, and {} is at it with that: {}",
        visible::escape(holder.operator.as_bytes(), HOLDER_BYTES_MAX),
        visible::escape(holder.step.as_bytes(), HOLDER_BYTES_MAX)
    )]
    Locked {
        /// The host.
        host: HostName,
        /// Who. Untrusted text.
        holder: Box<Holder>,
    },
    /// Bytes that are not the protocol.
    #[error("{host} does not speak push's protocol: {source}")]
    Frame {
        /// The host.
        host: HostName,
        /// What is wrong with them.
        source: FrameError,
    },
    /// A reply that answers something else.
    #[error("{host} answered with {found} while {during}")]
    Unexpected {
        /// The host.
        host: HostName,
        /// What it was to do.
        during: &'static str,
        /// What came.
        found: &'static str,
    },
    /// A question that the host does not answer.
    #[error("{host} gives no answer while {during}: {}", shown(refusal))]
    Refused {
        /// The host.
        host: HostName,
        /// What it was to do.
        during: &'static str,
        /// Why not.
        refusal: Box<Refusal>,
    },
    /// A request that is larger than the protocol allows.
    #[error("what {host} is to be told does not fit a message: {source}")]
    TooLarge {
        /// The host.
        host: HostName,
        /// By how much.
        source: FrameError,
    },
    /// The pack could not be read on the laptop.
    #[error("cannot read the pack for {host}: {why}")]
    Pack {
        /// The host.
        host: HostName,
        /// Why.
        why: String,
    },
}

fn unanswered(host: &HostName, refusal: &Refusal, environment: &EnvironmentName) -> String {
    if matches!(refusal, Refusal::Protocol { .. }) {
        format!("the next push upgrades push-host there: `push {environment} -l {host}`")
    } else {
        format!("`push doctor {environment} -l {host}` looks closer")
    }
}

/// What a host refuses may quote what its programs said.
fn shown(refusal: &Refusal) -> String {
    visible::escape(refusal.to_string().as_bytes(), REFUSAL_BYTES_MAX)
}

impl From<transport::Error> for Error {
    fn from(error: transport::Error) -> Self {
        Self::Transport(Box::new(error))
    }
}

impl Error {
    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Transport(error) => error.code(),
            Self::Silent { .. } => "push::conversation::silent",
            Self::Noise { .. } => "push::conversation::noise",
            Self::Ended { .. } => "push::conversation::ended",
            Self::Unable { .. } => "push::conversation::unable",
            Self::Sudo { .. } => "push::conversation::sudo",
            Self::SudoAsks { .. } => "push::conversation::sudo_asks",
            Self::SudoRefused { .. } => "push::conversation::sudo_refused",
            Self::PasswordExpired { .. } => "push::conversation::password_expired",
            Self::NotInstalled { .. } => "push::conversation::not_installed",
            Self::NoProgram { .. } => "push::conversation::no_program",
            Self::NotPermitted(_) => "push::conversation::not_permitted",
            Self::Install { .. } => "push::conversation::install",
            Self::Newer { .. } => "push::conversation::newer",
            Self::Older { .. } => "push::conversation::older",
            Self::NotUpgraded { .. } => "push::conversation::not_upgraded",
            Self::Locked { .. } => "push::conversation::locked",
            Self::Frame { .. } => "push::conversation::frame",
            Self::Unexpected { .. } => "push::conversation::unexpected",
            Self::Refused { .. } => "push::conversation::refused",
            Self::TooLarge { .. } => "push::conversation::too_large",
            Self::Pack { .. } => "push::conversation::pack",
        }
    }

    /// The next thing to type, of a host of this environment.
    pub fn help(&self, environment: &EnvironmentName) -> String {
        match self {
            Self::Transport(error) => error.help(environment),
            Self::Silent { host, .. } | Self::Ended { host, .. } => {
                format!("look at what it did: `push logs {environment} -l {host} --push`")
            }
            Self::Noise { host, login, .. } => format!(
                "let the login files of {login} on {host} (~/.bashrc, ~/.profile) print nothing \
                 when no terminal is there"
            ),
            Self::Unable { help, .. } => help.clone(),
            Self::Sudo { host, login, .. } => allowing(host, login),
            Self::SudoAsks { host, login } => format!(
                "pass it with `--password-from FILE`, where `-` is stdin, or {}",
                allowing(host, login)
            ),
            Self::SudoRefused { host, login, .. } => {
                format!("see that the password is right: `sudo -v` as {login} on {host}")
            }
            Self::PasswordExpired { host, login } => {
                format!(
                    "log in once with `ssh {login}@{host}`, set a new password, and run it again"
                )
            }
            Self::NotInstalled { host } => {
                format!(
                    "`push plan {environment} -l {host}` shows what a first push would do and installs nothing; \
                     `push {environment} -l {host}` installs push-host, shows its plan and asks"
                )
            }
            Self::NoProgram { machine, .. } => match embedded::how_to_build(machine) {
                Some(commands) => format!("build push with it: `{commands}`"),
                None => "push-host is built for x86_64 and aarch64 only".into(),
            },
            Self::NotPermitted(obstacle) => obstacle.help.clone(),
            Self::Install { host, login, .. } if login == "root" => {
                format!(
                    "see that /usr/local/lib on {host} can be written and holds programs that may run"
                )
            }
            Self::Install { host, login, .. } => format!(
                "the first time, push to {host} as root or as one who may use sudo for everything; \
                 afterwards {login} needs only: {}",
                sudoers(login)
            ),
            Self::Newer { .. } => {
                "upgrade push: `cargo install --path src/push` in its newest source".into()
            }
            Self::Older { host, .. } => {
                format!("the next push upgrades it: `push {environment} -l {host}`")
            }
            Self::NotUpgraded { host, .. } => {
                format!("put right what it names, then push again: `push {environment} -l {host}`")
            }
            Self::Locked { host, .. } => {
                format!(
                    "wait for it, at most ten minutes: `push {environment} -l {host} --wait=10m`"
                )
            }
            Self::Frame { host, .. } | Self::Unexpected { host, .. } => format!(
                "remove /usr/local/lib/push/push-host on {host} and push again: it is installed anew"
            ),
            Self::Refused { host, refusal, .. } => unanswered(host, refusal, environment),
            Self::TooLarge { .. } => {
                "ship fewer files: put what does not change into an archive or a package".into()
            }
            Self::Pack { .. } => {
                "see that the folder for temporary files (TMPDIR) is not full".into()
            }
        }
    }

    /// Whether the host answered the login with a no.
    pub fn is_login_refused(&self) -> bool {
        matches!(self, Self::Transport(error) if matches!(**error, transport::Error::AuthRefused { .. }))
    }

    /// Whether the connection, and nothing else, is at fault: another one may do.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Transport(error) => matches!(
                **error,
                transport::Error::Lost { .. }
                    | transport::Error::Closed { .. }
                    | transport::Error::Unreachable { .. }
                    | transport::Error::Silent { .. }
                    | transport::Error::Busy { .. }
            ),
            Self::Silent { .. } | Self::Ended { .. } => true,
            Self::Noise { .. }
            | Self::Unable { .. }
            | Self::Sudo { .. }
            | Self::SudoAsks { .. }
            | Self::SudoRefused { .. }
            | Self::PasswordExpired { .. }
            | Self::NotInstalled { .. }
            | Self::NoProgram { .. }
            | Self::NotPermitted(_)
            | Self::Install { .. }
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::NotUpgraded { .. }
            | Self::Locked { .. }
            | Self::Frame { .. }
            | Self::Unexpected { .. }
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::Pack { .. } => false,
        }
    }

    /// Whether somebody else answers where the host should be.
    pub fn is_another_host(&self) -> bool {
        matches!(self, Self::Transport(error) if matches!(
            **error,
            transport::Error::HostKeyChanged { .. } | transport::Error::HostKeyRevoked { .. }
        ))
    }

    /// Whether the connection itself broke, whatever the command on it did.
    pub(super) fn is_lost_on_the_way(&self) -> bool {
        matches!(self, Self::Transport(error) if !matches!(**error, transport::Error::Closed { .. }))
    }

    /// Whether the host could not be reached at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Transport(error) if error.is_unreachable())
    }
}

/// What lets an account run push-host and nothing else.
fn sudoers(login: &str) -> String {
    format!("{login} ALL=(root) NOPASSWD: /usr/local/lib/push/push-host serve")
}

fn allowing(host: &HostName, login: &str) -> String {
    format!(
        "put this line into /etc/sudoers.d/push on {host}: {}",
        sudoers(login)
    )
}

fn brought(presence: Presence) -> &'static str {
    match presence {
        Presence::Look => "run once",
        Presence::Install | Presence::AsFound => "installed",
    }
}

fn because(stderr: &[String]) -> String {
    match stderr.last() {
        Some(line) => format!(": {line}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_type_names_the_real_environment_and_host() {
        let host = || "web1".parse().unwrap();
        let holder = Holder {
            operator: "mia".into(),
            since_unix_s: 0,
            step: "staging shop".into(),
            transaction: None,
            push: String::new(),
        };
        let told = [
            Error::NotInstalled { host: host() },
            Error::Older {
                host: host(),
                theirs: 1,
            },
            Error::NotUpgraded {
                host: host(),
                why: "the disk is full".into(),
            },
            Error::Locked {
                host: host(),
                holder: Box::new(holder),
            },
        ]
        .map(|error| error.help(&"prod".parse().unwrap()));
        insta::assert_snapshot!(told.join("\n"), @r#"
        `push plan prod -l web1` shows what a first push would do and installs nothing; `push prod -l web1` installs push-host, shows its plan and asks
        the next push upgrades it: `push prod -l web1`
        put right what it names, then push again: `push prod -l web1`
        wait for it, at most ten minutes: `push prod -l web1 --wait=10m`
        "#);
    }
}
