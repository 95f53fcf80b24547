//! Everything that can go wrong between the laptop and a host, each with what to do next.
//!
//! Errors can be cloned, so that one lost connection can be told to everyone who used it, and hold
//! only text that is safe to show. A new failure is a new variant with a code and a help text;
//! there is no catch-all.

use super::advice;
use super::host_key::HostKey;
use super::known_hosts::KnownKey;
use crate::name::EnvironmentName;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why a host could not be reached or used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A name that could be taken for something else by ssh, a shell or a log.
    #[error("{what} `{value}` is not one that can be connected to: {reason}")]
    BadName {
        /// Which value.
        what: &'static str,
        /// The value, safe to show.
        value: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// A pinned key that is no public key.
    #[error("host_key of {host} is not an OpenSSH public key: {line}")]
    BadPin {
        /// The host.
        host: String,
        /// The line, safe to show.
        line: String,
    },
    /// `ssh -G` refused the operator's ssh_config, or did not answer.
    #[error("the ssh configuration for {host} cannot be used: {reason}")]
    Config {
        /// The host.
        host: String,
        /// What ssh said.
        reason: String,
    },
    /// A jump host that is reached through itself, or too many in a row.
    #[error("the jump hosts of {host} do not come to an end: {chain}")]
    JumpLoop {
        /// The host.
        host: String,
        /// The hops, in order.
        chain: String,
    },
    /// The address has no IP address.
    #[error("{host} cannot be reached: {address} does not resolve ({reason})")]
    Unresolved {
        /// The host.
        host: String,
        /// The name that was looked up.
        address: String,
        /// What the resolver said.
        reason: String,
    },
    /// No TCP connection came about.
    #[error("{host} cannot be reached at {at}: {reason}")]
    Unreachable {
        /// The host.
        host: String,
        /// Where.
        at: String,
        /// Refused, timed out, no route.
        reason: String,
    },
    /// Something accepted the connection and then said nothing.
    #[error("{host} accepted the connection at {at} and then said nothing for {}s ({stage})", waited.as_secs())]
    Silent {
        /// The host.
        host: String,
        /// Where.
        at: String,
        /// What was being waited for.
        stage: &'static str,
        /// How long.
        waited: Duration,
    },
    /// sshd closed the connection before it said who it is, again and again: too many logins at once.
    #[error(
        "{host} closed the connection before the login, {tries} times in a row{}",
        quoted(said)
    )]
    Busy {
        /// The host.
        host: String,
        /// How often.
        tries: u32,
        /// What it said, if anything.
        said: String,
    },
    /// sshd is turning this address away for a while (PerSourcePenalties).
    #[error("{host} is turning this address away for a while: {said}")]
    Penalized {
        /// The host.
        host: String,
        /// What it said.
        said: String,
    },
    /// What answers is not an SSH server, or breaks the protocol.
    #[error("{host} at {at} does not speak SSH as it should: {reason}")]
    Handshake {
        /// The host.
        host: String,
        /// Where.
        at: String,
        /// What went wrong.
        reason: String,
    },
    /// The server only has algorithms that are too weak or unknown.
    #[error("{host} offers no {kind} that is safe: it has {theirs}")]
    WeakAlgorithms {
        /// The host.
        host: String,
        /// Which kind.
        kind: String,
        /// What it has.
        theirs: String,
    },
    /// The host's key can be computed from what it shows.
    #[error("{host} shows a host key that is not safe: an RSA key of {bits} bits")]
    ShortHostKey {
        /// The host.
        host: String,
        /// Its size.
        bits: usize,
    },
    /// A known_hosts file is there and cannot be read.
    #[error("{file} cannot be read, so it is not known whether {host} is the right host: {reason}", file = file.display())]
    KnownHosts {
        /// The host.
        host: String,
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// Nothing is known about the host's key. Nothing but the key exchange has been sent.
    #[error("the key of {host} is not known: {} {}{}", key.algorithm(), key.fingerprint(), because(note.as_ref()))]
    HostKeyUnknown {
        /// The host.
        host: String,
        /// The key that it showed.
        key: HostKey,
        /// Why a certificate did not help.
        note: Option<String>,
    },
    /// Keys of the host are known, but none of the type that it showed.
    #[error("{host} shows a key of a type that is not known for it: {} {}; known: {}", key.algorithm(), key.fingerprint(), listed(known))]
    HostKeyOtherType {
        /// The host.
        host: String,
        /// The key that it showed.
        key: HostKey,
        /// What is known.
        known: Vec<KnownKey>,
    },
    /// The host's key is not the one that is known: another machine, a rebuilt one, or an attack.
    #[error("THE KEY OF {host} HAS CHANGED: it shows {} {}, expected {}", key.algorithm(), key.fingerprint(), expected.join(" or "))]
    HostKeyChanged {
        /// The host.
        host: String,
        /// The key that it showed.
        key: HostKey,
        /// The fingerprints that would have been right, and where they are written.
        expected: Vec<String>,
    },
    /// The key is marked `@revoked`.
    #[error("the key of {host} is revoked: {} {} in {}:{line}", key.algorithm(), key.fingerprint(), file.display())]
    HostKeyRevoked {
        /// The host.
        host: String,
        /// The key that it showed.
        key: HostKey,
        /// The file that says so.
        file: PathBuf,
        /// The line.
        line: usize,
    },
    /// The server took none of the operator's identities.
    #[error(
        "{host} does not let {user} in: {}; it accepts {allowed}",
        offers(offered, unusable)
    )]
    AuthRefused {
        /// The host.
        host: String,
        /// The account.
        user: String,
        /// What was offered and what came of it.
        offered: Vec<String>,
        /// What could not be offered, and why.
        unusable: Vec<String>,
        /// The methods that the server accepts.
        allowed: String,
    },
    /// The server hung up in the middle of the login.
    #[error(
        "{host} hung up during the login of {user}: {}{}",
        offers(offered, unusable),
        quoted(said)
    )]
    AuthCutOff {
        /// The host.
        host: String,
        /// The account.
        user: String,
        /// What was offered until then.
        offered: Vec<String>,
        /// What could not be offered, and why.
        unusable: Vec<String>,
        /// What it said, if anything.
        said: String,
    },
    /// A passphrase is needed and nobody can be asked.
    #[error("{} is encrypted and there is no terminal to ask for its passphrase (for {host})", path.display())]
    PassphraseNeeded {
        /// The host that would have taken the key.
        host: String,
        /// The key file.
        path: PathBuf,
    },
    /// A password or code is needed and nobody can be asked.
    #[error("{host} asks {user} for a password and there is no terminal to ask for it")]
    PasswordNeeded {
        /// The host.
        host: String,
        /// The account.
        user: String,
    },
    /// The way to the host leads over another one, and breaks there.
    #[error("the jump host {hop} on the way to {host}: {cause}")]
    Jump {
        /// The host.
        host: String,
        /// The hop.
        hop: String,
        /// What is wrong there.
        cause: Arc<Error>,
    },
    /// A jump host does not pass connections on.
    #[error("the jump host {hop} does not pass the connection on to {host}: {reason}")]
    ForwardRefused {
        /// The host.
        host: String,
        /// The hop.
        hop: String,
        /// The reason that it gave.
        reason: String,
    },
    /// The operator's ProxyCommand failed.
    #[error("the ProxyCommand for {host} failed: {reason}")]
    ProxyCommand {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// The server refused to run a command.
    #[error("{host} refuses to run a command: {reason}")]
    ExecRefused {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// The connection was there and is gone.
    #[error("the connection to {host} was lost: {reason}")]
    Lost {
        /// The host.
        host: String,
        /// How.
        reason: String,
    },
    /// The command ended while there was still something to tell it.
    #[error("the command on {host} ended before it had read everything")]
    Closed {
        /// The host.
        host: String,
    },
    /// The command did not end when its input did.
    #[error("the command on {host} did not end within {}s{}", waited.as_secs(), quoted(&stderr.join(" | ")))]
    NotEnded {
        /// The host.
        host: String,
        /// How long was waited.
        waited: Duration,
        /// What it said last.
        stderr: Vec<String>,
    },
    /// A local program could not be started.
    #[error("{program} cannot be started: {reason}")]
    Local {
        /// The program.
        program: String,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// A connection that is gone.
    pub fn lost(host: &str, reason: &str) -> Self {
        Self::Lost {
            host: host.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// A stable name for scripts and documentation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadName { .. } => "push::transport::bad_name",
            Self::BadPin { .. } => "push::transport::bad_pin",
            Self::Config { .. } => "push::transport::ssh_config",
            Self::JumpLoop { .. } => "push::transport::jump_loop",
            Self::Unresolved { .. } => "push::transport::unresolved",
            Self::Unreachable { .. } => "push::transport::unreachable",
            Self::Silent { .. } => "push::transport::silent",
            Self::Busy { .. } => "push::transport::busy",
            Self::Penalized { .. } => "push::transport::penalized",
            Self::Handshake { .. } => "push::transport::handshake",
            Self::WeakAlgorithms { .. } => "push::transport::weak_algorithms",
            Self::ShortHostKey { .. } => "push::transport::short_host_key",
            Self::KnownHosts { .. } => "push::transport::known_hosts",
            Self::HostKeyUnknown { .. } => "push::transport::host_key_unknown",
            Self::HostKeyOtherType { .. } => "push::transport::host_key_other_type",
            Self::HostKeyChanged { .. } => "push::transport::host_key_changed",
            Self::HostKeyRevoked { .. } => "push::transport::host_key_revoked",
            Self::AuthRefused { .. } => "push::transport::auth_refused",
            Self::AuthCutOff { .. } => "push::transport::auth_cut_off",
            Self::PassphraseNeeded { .. } => "push::transport::passphrase_needed",
            Self::PasswordNeeded { .. } => "push::transport::password_needed",
            Self::Jump { cause, .. } => cause.code(),
            Self::ForwardRefused { .. } => "push::transport::forward_refused",
            Self::ProxyCommand { .. } => "push::transport::proxy_command",
            Self::ExecRefused { .. } => "push::transport::exec_refused",
            Self::Lost { .. } => "push::transport::lost",
            Self::Closed { .. } => "push::transport::closed",
            Self::NotEnded { .. } => "push::transport::not_ended",
            Self::Local { .. } => "push::transport::local",
        }
    }

    /// What to do next, of a host of this environment.
    pub fn help(&self, environment: &EnvironmentName) -> String {
        match self {
            Self::HostKeyUnknown { .. }
            | Self::HostKeyOtherType { .. }
            | Self::HostKeyChanged { .. }
            | Self::HostKeyRevoked { .. } => self.help_with_host_key(),
            Self::AuthRefused { .. }
            | Self::AuthCutOff { .. }
            | Self::PassphraseNeeded { .. }
            | Self::PasswordNeeded { .. } => advice::login(self),
            Self::BadName { .. } => "correct it in the inventory or in ~/.ssh/config".into(),
            Self::BadPin { host, .. } => {
                format!(
                    "write it as `host_key = \"ssh-ed25519 AAAA…\"`: on {host}, `cat /etc/ssh/ssh_host_ed25519_key.pub` shows it"
                )
            }
            Self::Config { host, .. } => format!("run `ssh -G {host}` and correct what it reports in ~/.ssh/config"),
            Self::JumpLoop { .. } => "correct `jump` in the inventory or ProxyJump in ~/.ssh/config".into(),
            Self::Unresolved { host, .. } => format!("set `address` of {host} in the inventory to its IP address"),
            Self::Unreachable { host, at, .. } | Self::Silent { host, at, .. } => {
                format!("check that {host} is up and that `address` and `port` are right; `ssh -v ssh://{at}` shows more")
            }
            Self::Busy { host, .. } => {
                format!("raise MaxStartups in sshd_config on {host}, or push with a smaller `--parallel`")
            }
            Self::Penalized { .. } => {
                "wait a minute and push again; failed logins from this address caused it (PerSourcePenalties)".into()
            }
            Self::Handshake { host, at, .. } => {
                format!("check `address` and `port` of {host}; `ssh -v ssh://{at}` shows more")
            }
            Self::WeakAlgorithms { host, .. } => format!("upgrade sshd on {host} to OpenSSH 8.4 or later"),
            Self::ShortHostKey { host, .. } => advice::short_host_key(host),
            Self::KnownHosts { file, .. } => {
                format!("make it readable: `chmod u+r {}`", file.display())
            }
            Self::Jump { hop, cause, .. } if cause.shown_key().is_some() => format!(
                "{}. If {hop} is no host of the inventory, `ssh {hop}` asks about its key instead",
                cause.help(environment)
            ),
            Self::Jump { hop, cause, .. } => advice::at_jump_host(hop, cause, environment),
            Self::ForwardRefused { hop, .. } => {
                format!("check the address as seen from {hop}, and AllowTcpForwarding in its sshd_config")
            }
            Self::ProxyCommand { host, .. } => format!("run `ssh -v {host}` to see what the ProxyCommand says"),
            Self::ExecRefused { host, .. } => {
                format!("check ForceCommand, MaxSessions and the account's shell on {host}")
            }
            Self::Lost { host, .. } | Self::Closed { host } | Self::NotEnded { host, .. } => {
                format!("run `push status {environment} -l {host}` to see what {host} says about itself")
            }
            Self::Local { program, .. } => format!("check that {program} is installed and can be run"),
        }
    }

    /// What to do next where a key is not believed; empty for everything else.
    pub fn help_with_host_key(&self) -> String {
        match self {
            Self::HostKeyUnknown { host, key, .. } | Self::HostKeyOtherType { host, key, .. } => {
                format!(
                    "run `push trust {host}`: it pins the key once you have compared its fingerprint with what \
                 `ssh-keygen -lf {}` says on the host's own console",
                    key_file(key)
                )
            }
            Self::HostKeyChanged { host, key, .. } => format!(
                "nothing was sent to it. If {host} was rebuilt, compare the new fingerprint with what \
                 `ssh-keygen -lf {}` says on its console, then run `push trust {host}`; if it was not rebuilt, \
                 somebody may be in between",
                key_file(key)
            ),
            Self::HostKeyRevoked { host, .. } => advice::revoked_host_key(host),
            _ => String::new(),
        }
    }

    /// The key that the host showed, where it is not believed.
    pub fn shown_key(&self) -> Option<&HostKey> {
        match self {
            Self::HostKeyUnknown { key, .. }
            | Self::HostKeyOtherType { key, .. }
            | Self::HostKeyChanged { key, .. }
            | Self::HostKeyRevoked { key, .. } => Some(key),
            _ => None,
        }
    }

    /// Whether the host could not be reached at all (exit code 4), as opposed to having answered
    /// with something that a person must look at.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unresolved { .. }
            | Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Busy { .. }
            | Self::Penalized { .. }
            | Self::Handshake { .. }
            | Self::WeakAlgorithms { .. }
            | Self::ShortHostKey { .. }
            | Self::HostKeyUnknown { .. }
            | Self::HostKeyOtherType { .. }
            | Self::HostKeyChanged { .. }
            | Self::HostKeyRevoked { .. }
            | Self::AuthRefused { .. }
            | Self::AuthCutOff { .. }
            | Self::PassphraseNeeded { .. }
            | Self::PasswordNeeded { .. }
            | Self::ForwardRefused { .. }
            | Self::ProxyCommand { .. }
            | Self::ExecRefused { .. }
            | Self::Lost { .. } => true,
            Self::Jump { cause, .. } => cause.is_unreachable(),
            Self::BadName { .. }
            | Self::BadPin { .. }
            | Self::Config { .. }
            | Self::JumpLoop { .. }
            | Self::KnownHosts { .. }
            | Self::Closed { .. }
            | Self::NotEnded { .. }
            | Self::Local { .. } => false,
        }
    }
}

/// Where sshd keeps a key of its type, unless it is told otherwise.
pub fn key_file(key: &HostKey) -> &'static str {
    match key.algorithm() {
        "ssh-ed25519" => "/etc/ssh/ssh_host_ed25519_key.pub",
        "ssh-rsa" => "/etc/ssh/ssh_host_rsa_key.pub",
        _ => "/etc/ssh/ssh_host_ecdsa_key.pub",
    }
}

fn quoted(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(" (it said: {said})")
    }
}

fn because(note: Option<&String>) -> String {
    note.map(|note| format!(" ({note})")).unwrap_or_default()
}

fn offers(offered: &[String], unusable: &[String]) -> String {
    let mut text = match offered {
        [] => "there was no key to offer".to_owned(),
        offered => format!("offered {}", offered.join(", ")),
    };
    if !unusable.is_empty() {
        let _ = write!(text, "; could not use {}", unusable.join(", "));
    }
    text
}

fn listed(known: &[KnownKey]) -> String {
    let mut text = String::new();
    for known in known {
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}{}", describe(known));
    }
    text
}

/// A known key as an error names it: algorithm, fingerprint, place.
pub fn describe(known: &KnownKey) -> String {
    format!(
        "{} {} in {}:{}",
        known.key.algorithm(),
        known.key.fingerprint(),
        known.file.display(),
        known.line
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> HostKey {
        HostKey::parse(
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
        )
        .unwrap()
    }

    #[test]
    fn an_unknown_key_shows_its_fingerprint_and_the_way_to_pin_it() {
        let error = Error::HostKeyUnknown {
            host: "web1".into(),
            key: key(),
            note: None,
        };
        insta::assert_snapshot!(error.to_string(), @"the key of web1 is not known: ssh-ed25519 SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE");
        insta::assert_snapshot!(error.help(&"prod".parse().unwrap()), @"run `push trust web1`: it pins the key once you have compared its fingerprint with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says on the host's own console");
        assert!(error.is_unreachable());
    }

    #[test]
    fn a_changed_key_offers_no_way_around_it() {
        let error = Error::HostKeyChanged {
            host: "web1".into(),
            key: key(),
            expected: vec!["ssh-ed25519 SHA256:x".into()],
        };
        insta::assert_snapshot!(error.to_string(), @"THE KEY OF web1 HAS CHANGED: it shows ssh-ed25519 SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE, expected ssh-ed25519 SHA256:x");
        insta::assert_snapshot!(error.help(&"prod".parse().unwrap()), @"nothing was sent to it. If web1 was rebuilt, compare the new fingerprint with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says on its console, then run `push trust web1`; if it was not rebuilt, somebody may be in between");
    }

    #[test]
    fn what_to_type_names_the_real_environment_and_host() {
        let lost = Error::lost("web1", "reset");
        let prod = "prod".parse().unwrap();
        insta::assert_snapshot!(lost.help(&prod), @"run `push status prod -l web1` to see what web1 says about itself");
        let revoked = Error::HostKeyRevoked {
            host: "web1".into(),
            key: key(),
            file: PathBuf::from("known_hosts"),
            line: 1,
        };
        insta::assert_snapshot!(revoked.help(&prod), @"the key was revoked because it is known to others; give web1 a new one, then run `push trust web1`");
    }

    #[test]
    fn a_failure_at_a_jump_host_keeps_its_kind() {
        let cause = Error::Unreachable {
            host: "bastion".into(),
            at: "192.0.2.1:22".into(),
            reason: "refused".into(),
        };
        let error = Error::Jump {
            host: "web1".into(),
            hop: "bastion".into(),
            cause: Arc::new(cause),
        };
        assert!(error.is_unreachable());
        assert_eq!(error.code(), "push::transport::unreachable");
        insta::assert_snapshot!(error.to_string(), @"the jump host bastion on the way to web1: bastion cannot be reached at 192.0.2.1:22: refused");
    }
}
