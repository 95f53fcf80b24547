//! certbot: one certificate asked for, over HTTP, with the answers in a folder that nginx serves. Nothing asks,
//! nothing is installed into anybody's configuration. certbot's own timer renews it, and then runs what it
//! was told here to run.

use std::path::Path;
use std::time::Duration;

use push_wire::certificate::{AUTHORITY, Certificate, DomainName, WEBROOT};

use super::disk;
use super::job::{PAUSE, Unit};
use crate::machine::ToolError;

/// The unit that an order runs in.
const UNIT: Unit = Unit {
    name: "push-certificate.service",
    limit: Duration::from_secs(300),
    environment: &[],
};

/// The same where the authority is one's own: certbot believes it by this file.
const UNIT_OF_OWN_AUTHORITY: Unit = Unit {
    environment: &[OWN_AUTHORITY],
    ..UNIT
};

/// The variable by which Python's requests is told whom to believe; it holds [`AUTHORITY`].
const OWN_AUTHORITY: &str = "--setenv=REQUESTS_CA_BUNDLE=/etc/letsencrypt/push-authority.pem";

/// What certbot runs after each renewal: nginx reads the new certificate, and serves on meanwhile.
const AFTER_RENEWAL: &str = "systemctl reload nginx.service";

/// What another certbot, such as the timer's, makes this one say.
const BUSY: &str = "Another instance of Certbot is already running";

/// After this certbot quotes the authority, to the next empty line.
const QUOTES: &str = "The Certificate Authority reported these problems:";

/// What certbot writes of this run alone.
const LOG: &str = "/var/log/letsencrypt/letsencrypt.log";

/// How much of that is read, in bytes.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// What an authority's own errors begin with (RFC 8555, 6.7), where certbot tells one in a line.
const PROBLEM: &str = "Error: urn:ietf:params:acme:error:";

/// How often a busy certbot is waited for.
const BUSY_TRIES: u32 = 24;

/// Asks for a certificate.
pub(super) fn certify(
    certificate: &Certificate,
    tell: &mut dyn FnMut(&str),
) -> Result<(), ToolError> {
    let unit = if Path::new(AUTHORITY).exists() {
        UNIT_OF_OWN_AUTHORITY
    } else {
        UNIT
    };
    unit.wait_for_the_last(tell)?;
    let argv = argv(certificate);
    let mut ended = unit.run(&argv, tell);
    for _ in 1..BUSY_TRIES {
        match &ended {
            Err(ToolError::Failed { output, .. }) if output.contains(BUSY) => {
                tell("waiting for another certbot");
                std::thread::sleep(PAUSE);
            }
            Ok(()) | Err(_) => break,
        }
        ended = unit.run(&argv, tell);
    }
    ended.map_err(|error| match error {
        ToolError::Failed { tool, output } => ToolError::Failed {
            tool,
            output: reason(&output, &log()),
        },
        other @ (ToolError::Missing { .. } | ToolError::Late { .. }) => other,
    })
}

/// One that cannot be read tells no more than certbot did.
fn log() -> String {
    let log = disk::read(Path::new(LOG), LOG_BYTES_MAX).unwrap_or_default();
    String::from_utf8_lossy(&log).into_owned()
}

/// What the authority said, where certbot quotes it; the hints around that are for whoever runs certbot.
/// The certbot of Debian 12 trips over what it is told while it orders, and leaves that in its log alone.
fn reason(output: &str, log: &str) -> String {
    let Some((_, quoted)) = output.split_once(QUOTES) else {
        let told = log.lines().rev().find(|line| line.contains(PROBLEM));
        return told.unwrap_or(output).to_owned();
    };
    let lines = quoted.trim_start_matches('\n').lines();
    let lines: Vec<&str> = lines
        .take_while(|line| !line.trim().is_empty())
        .map(str::trim)
        .collect();
    lines.join("\n")
}

fn argv(certificate: &Certificate) -> Vec<String> {
    let lineage = certificate.lineage();
    let mut argv: Vec<String> = [
        "certbot",
        "certonly",
        "--non-interactive",
        "--agree-tos",
        "--no-eff-email",
        "--email",
        certificate.email.as_str(),
        "--server",
        certificate.endpoint.as_str(),
        "--webroot",
        "--webroot-path",
        WEBROOT,
        "--cert-name",
        &lineage,
        "--keep-until-expiring",
        "--deploy-hook",
        AFTER_RENEWAL,
    ]
    .map(str::to_owned)
    .into();
    for name in certificate.names.iter().map(DomainName::as_str) {
        argv.extend(["--domain".to_owned(), name.to_owned()]);
    }
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_authority_says_is_told_and_what_certbot_advises_is_not() {
        let said = "Requesting a certificate for a.example.com\n\nCertbot failed to authenticate some domains \
                    (authenticator: webroot). The Certificate Authority reported these problems:\n  \
                    Domain: a.example.com\n  Type:   dns\n  Detail: no such name\n\nHint: see --webroot-path/-w\n";
        let told = "Domain: a.example.com\nType:   dns\nDetail: no such name";
        assert_eq!(reason(said, ""), told);
        let other = "An unexpected error occurred:\ntoo many certificates already issued";
        assert_eq!(reason(other, "POST /new-order\n"), other);
        let noted = "acme.messages.Error: urn:ietf:params:acme:error:rateLimited :: There were too many requests";
        let log =
            format!("DEBUG: \"type\": \"urn:ietf:params:acme:error:x\"\n{noted}\nAttributeError\n");
        assert_eq!(reason("AttributeError: can't set attribute", &log), noted);
    }

    #[test]
    fn an_order_asks_nothing_changes_no_configuration_and_is_of_exactly_these_names() {
        let certificate = Certificate {
            app: "api".parse().unwrap(),
            names: ["b.example.com", "a.example.com"]
                .map(|name| name.parse().unwrap())
                .into(),
            endpoint: "https://acme.example.com/dir".parse().unwrap(),
            email: "ops@example.com".parse().unwrap(),
        };
        let argv = argv(&certificate);
        assert_eq!(argv[1], "certonly", "`run` would edit nginx's files");
        assert!(argv.contains(&"--non-interactive".to_owned()));
        let end = ["--domain", "a.example.com", "--domain", "b.example.com"];
        assert!(argv.ends_with(&end.map(str::to_owned)), "{argv:?}");
        assert!(OWN_AUTHORITY.ends_with(&format!("={AUTHORITY}")));
    }
}
