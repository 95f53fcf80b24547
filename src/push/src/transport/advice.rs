//! What to do next where a login or a key is refused, in words that hold for this host and this account.
//!
//! Pure text for [`super::error`]. Must not send anybody where nothing can come of it: a password is only
//! spoken of where one would be taken, and never for a jump host, which is not given the fleet's.

use super::error::Error;
use crate::name::EnvironmentName;

/// The methods of a server that a password answers.
const BY_PASSWORD: [&str; 2] = ["password", "keyboard-interactive"];

/// A login that did not succeed.
pub(super) fn login(error: &Error) -> String {
    match error {
        Error::AuthRefused {
            user,
            host,
            allowed,
            ..
        } => refused((user, host), allowed),
        Error::AuthCutOff { .. } => {
            "name the one right key with `identity` in the inventory (or IdentitiesOnly in ~/.ssh/config): servers \
             hang up after a few wrong ones"
                .into()
        }
        Error::PassphraseNeeded { path, .. } => {
            format!("load it into an agent first: `ssh-add {}`", path.display())
        }
        _ => "log in with a key, named with `identity` in the inventory or loaded into an agent, or pass the \
              password: `--password-from FILE`, where `-` is stdin"
            .into(),
    }
}

/// A server that took nothing of what was offered to it.
fn refused((user, host): (&str, &str), allowed: &str) -> String {
    let by_key = by_key((user, host));
    if takes_passwords(allowed) {
        format!(
            "{by_key}, or pass the right password of {user}: `--password-from FILE`, where `-` is stdin"
        )
    } else {
        by_key
    }
}

/// The same for a host on the way, and whatever else can be wrong there.
pub(super) fn at_jump_host(hop: &str, cause: &Error, environment: &EnvironmentName) -> String {
    const ASKED: &str =
        "which asks for its password; `--password-from` is for the hosts of the inventory alone";
    match cause {
        Error::AuthRefused { user, allowed, .. } if takes_passwords(allowed) => {
            format!("{}, or run it in a terminal, {ASKED}", by_key((user, hop)))
        }
        Error::PasswordNeeded { .. } => {
            format!(
                "log in to {hop} with a key, loaded into an agent, or run it in a terminal, {ASKED}"
            )
        }
        cause => cause.help(environment),
    }
}

/// An RSA host key that others can compute.
pub(super) fn short_host_key(host: &str) -> String {
    format!(
        "make {host} new keys on its own console, where sshd is to take them: `rm /etc/ssh/ssh_host_rsa_key*`, \
         `ssh-keygen -A`, `systemctl restart ssh`; then run `push trust {host}`"
    )
}

/// A host key that others have.
pub(super) fn revoked_host_key(host: &str) -> String {
    format!(
        "the key was revoked because it is known to others; give {host} a new one, then run `push trust {host}`"
    )
}

fn by_key((user, host): (&str, &str)) -> String {
    format!(
        "put one of these keys into ~{user}/.ssh/authorized_keys on {host}, or name the right one with \
         `identity` in the inventory"
    )
}

fn takes_passwords(allowed: &str) -> bool {
    allowed
        .split(", ")
        .any(|method| BY_PASSWORD.contains(&method))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::HostKey;
    use std::sync::Arc;

    fn prod() -> EnvironmentName {
        "prod".parse().unwrap()
    }

    fn refused_by(allowed: &str) -> Error {
        Error::AuthRefused {
            host: "web1".into(),
            user: "root".into(),
            offered: vec!["a key".into()],
            unusable: vec![],
            allowed: allowed.into(),
        }
    }

    fn behind(cause: Error) -> Error {
        Error::Jump {
            host: "db1".into(),
            hop: "web1".into(),
            cause: Arc::new(cause),
        }
    }

    #[test]
    fn a_password_is_spoken_of_where_one_would_be_taken() {
        insta::assert_snapshot!(refused_by("publickey").help(&prod()), @"put one of these keys into ~root/.ssh/authorized_keys on web1, or name the right one with `identity` in the inventory");
        insta::assert_snapshot!(refused_by("publickey, password").help(&prod()), @"put one of these keys into ~root/.ssh/authorized_keys on web1, or name the right one with `identity` in the inventory, or pass the right password of root: `--password-from FILE`, where `-` is stdin");
        assert_eq!(
            refused_by("keyboard-interactive").help(&prod()),
            refused_by("publickey, password").help(&prod())
        );
    }

    #[test]
    fn nobody_is_told_to_pass_a_password_that_a_jump_host_is_not_given() {
        let needed = Error::PasswordNeeded {
            host: "web1".into(),
            user: "root".into(),
        };
        insta::assert_snapshot!(behind(refused_by("publickey, password")).help(&prod()), @"put one of these keys into ~root/.ssh/authorized_keys on web1, or name the right one with `identity` in the inventory, or run it in a terminal, which asks for its password; `--password-from` is for the hosts of the inventory alone");
        insta::assert_snapshot!(behind(needed).help(&prod()), @"log in to web1 with a key, loaded into an agent, or run it in a terminal, which asks for its password; `--password-from` is for the hosts of the inventory alone");
        assert_eq!(
            behind(refused_by("publickey")).help(&prod()),
            refused_by("publickey").help(&prod())
        );
    }

    #[test]
    fn a_key_that_is_too_short_or_revoked_is_replaced_on_the_host_and_trusted_anew() {
        let short = Error::ShortHostKey {
            host: "web1".into(),
            bits: 1024,
        };
        insta::assert_snapshot!(short.help(&prod()), @"make web1 new keys on its own console, where sshd is to take them: `rm /etc/ssh/ssh_host_rsa_key*`, `ssh-keygen -A`, `systemctl restart ssh`; then run `push trust web1`");
        let revoked = Error::HostKeyRevoked {
            host: "web1".into(),
            key: HostKey::parse(
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
            )
            .unwrap(),
            file: "known_hosts".into(),
            line: 1,
        };
        insta::assert_snapshot!(revoked.help(&prod()), @"the key was revoked because it is known to others; give web1 a new one, then run `push trust web1`");
    }
}
