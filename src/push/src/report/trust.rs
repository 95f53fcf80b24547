//! A host's key in words: what it shows, what is known, and what to compare it with.

use super::style::{BAD, CHANGED, GOOD, TITLE, paint};
use super::text::Text;
use crate::transport::error::{Error, describe, key_file};
use crate::transport::ssh::Shown;
use crate::transport::{HostKey, VerifiedBy};

/// What a host at `place` shows, and what is to be thought of it.
pub fn shown(host: &str, place: &str, shown: &Shown) -> String {
    let mut text = Text::new();
    text.line(format!("{} at {place} shows the key", paint(TITLE, host)));
    text.line(format!("  {}", named(&shown.key)));
    match &shown.verdict {
        Ok(verified_by) => text.line(vouched(verified_by)),
        Err(Error::HostKeyUnknown { note, .. }) => {
            text.line(match note {
                Some(note) => format!("Nothing else is known about it: {note}."),
                None => "Nothing is known about it yet.".to_owned(),
            });
            text.line(compare(&shown.key));
        }
        Err(Error::HostKeyChanged { expected, .. }) => {
            text.line(paint(
                BAD.bold(),
                "and not the one that is known, so nothing was sent to it:",
            ));
            for expected in expected {
                text.line(format!("  {expected}"));
            }
            text.line("It is a rebuilt machine, another one, or somebody in between.");
            text.line(compare(&shown.key));
        }
        Err(Error::HostKeyOtherType { known, .. }) => {
            text.line(paint(
                CHANGED,
                "Keys of other types are known, which it did not show:",
            ));
            for known in known {
                text.line(format!("  {}", describe(known)));
            }
            text.line(compare(&shown.key));
        }
        Err(other) => text.line(format!("{}: {other}", paint(BAD, "It cannot be trusted"))),
    }
    text.finish()
}

/// That a key was written.
pub fn pinned(host: &str, key: &HostKey, file: &str) -> String {
    format!(
        "{} {host}: {} is pinned in {file}\n",
        paint(GOOD, "✓"),
        key.fingerprint()
    )
}

/// That a key was found right and not written.
pub fn unwritten(host: &str) -> String {
    format!(
        "{} {host}: believed for this run, which only looks; it is not pinned\n",
        paint(GOOD, "✓")
    )
}

/// That there was nothing to do.
pub fn unchanged(host: &str) -> String {
    format!("{} {host}: it is pinned already\n", paint(GOOD, "✓"))
}

fn named(key: &HostKey) -> String {
    format!("{} {}", key.algorithm(), paint(TITLE, key.fingerprint()))
}

fn vouched(verified_by: &VerifiedBy) -> String {
    match verified_by {
        VerifiedBy::Pinned => "It is the one that the inventory pins.".to_owned(),
        VerifiedBy::KnownHosts { file, line } => {
            format!("It is known already: {}:{line}.", file.display())
        }
        VerifiedBy::Certificate { authority, key_id } => {
            format!("The host authority {authority} certifies it as {key_id}.")
        }
    }
}

fn compare(key: &HostKey) -> String {
    format!(
        "Compare it on the host's own console: `ssh-keygen -lf {}`",
        key_file(key)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn told(verdict: impl FnOnce(HostKey) -> Result<VerifiedBy, Error>) -> String {
        let key = HostKey::parse(NEW).unwrap();
        let found = Shown {
            verdict: verdict(key.clone()),
            key,
        };
        let text = shown("web1", "192.0.2.7:22", &found);
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn a_new_key_is_shown_with_what_to_compare_it_with() {
        let text = told(|key| {
            Err(Error::HostKeyUnknown {
                host: "web1".into(),
                key,
                note: None,
            })
        });
        insta::assert_snapshot!(text, @r"
        web1 at 192.0.2.7:22 shows the key
          ssh-ed25519 SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE
        Nothing is known about it yet.
        Compare it on the host's own console: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`
        ");
    }

    #[test]
    fn a_changed_key_is_shown_beside_the_one_that_is_known() {
        let text = told(|key| {
            Err(Error::HostKeyChanged {
                host: "web1".into(),
                key,
                expected: vec!["ssh-ed25519 SHA256:old (pinned)".into()],
            })
        });
        insta::assert_snapshot!(text, @r"
        web1 at 192.0.2.7:22 shows the key
          ssh-ed25519 SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE
        and not the one that is known, so nothing was sent to it:
          ssh-ed25519 SHA256:old (pinned)
        It is a rebuilt machine, another one, or somebody in between.
        Compare it on the host's own console: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`
        ");
    }

    #[test]
    fn a_key_that_somebody_vouches_for_says_who() {
        let text = told(|_| {
            Ok(VerifiedBy::Certificate {
                authority: "SHA256:ca".into(),
                key_id: "web1".into(),
            })
        });
        insta::assert_snapshot!(text, @r"
        web1 at 192.0.2.7:22 shows the key
          ssh-ed25519 SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE
        The host authority SHA256:ca certifies it as web1.
        ");
    }
}
