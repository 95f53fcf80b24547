//! Certificates that a host is given by an authority, over ACME (RFC 8555): what both ends say of one, and
//! the places on the host that they share. certbot asks for them and renews them; nginx answers for the
//! names.
//!
//! A certificate is never changed: another set of names, or another authority, is another one beside it,
//! so that a generation which is taken back still finds its own.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::checked_text;
use crate::digest::Digest;
use crate::name::AppName;

/// Where authorities look for the answers to their challenges, below `.well-known/acme-challenge/`.
pub const WEBROOT: &str = "/var/lib/push-acme";

/// What nginx reads into every server without TLS: the location of those answers. It is the host's own,
/// and tells that `push bootstrap` has prepared the host for certificates.
pub const CHALLENGES: &str = "/etc/nginx/push.d/acme.conf";

/// The certificates of those who vouch for an authority of one's own, PEM; the host's own.
pub const AUTHORITY: &str = "/etc/letsencrypt/push-authority.pem";

/// Everything that certbot keeps.
pub const CERTBOT: &str = "/etc/letsencrypt";

/// The start of the names of push's own certificates.
pub const PREFIX: &str = "push-";

/// The most names of one certificate (Let's Encrypt's own limit).
pub const NAMES_MAX: usize = 100;

/// The longest DNS name, and the longest label of one, in bytes (RFC 1035, 2.3.4).
const DOMAIN_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// The longest address of a mailbox and of an endpoint, in bytes.
const TEXT_BYTES_MAX: usize = 254;

/// How much of the digest tells one set of names from another, in hexadecimal digits.
const DIGEST_DIGITS: usize = 12;

/// Why a text cannot stand in an order of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no {kind}: {grammar}")]
pub struct CertificateError {
    kind: &'static str,
    grammar: &'static str,
}

checked_text!(
    /// A name that an authority can prove over HTTP: a full DNS name in lower case, no wildcard.
    DomainName,
    CertificateError,
    domain
);
checked_text!(
    /// The address of an authority's directory.
    Endpoint,
    CertificateError,
    endpoint
);
checked_text!(
    /// The mailbox that an authority writes to.
    Mailbox,
    CertificateError,
    mailbox
);

/// A certificate for the site of an app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The app.
    pub app: AppName,
    /// The names that it is for; never empty.
    pub names: BTreeSet<DomainName>,
    /// Who gives it.
    pub endpoint: Endpoint,
    /// Whom that authority writes to.
    pub email: Mailbox,
}

impl Certificate {
    /// What certbot knows it by: the same for the same names from the same authority.
    pub fn lineage(&self) -> String {
        let names: Vec<&str> = self.names.iter().map(DomainName::as_str).collect();
        let told = format!("{}\n{}\n", self.endpoint, names.join("\n"));
        let digest = Digest::of(told).to_string();
        let digits: String = digest.chars().take(DIGEST_DIGITS).collect();
        format!("{PREFIX}{}-{digits}", self.app)
    }

    /// The certificate with its chain, as certbot keeps it, PEM.
    pub fn chain(&self) -> String {
        format!("{CERTBOT}/live/{}/fullchain.pem", self.lineage())
    }

    /// Its key, PEM.
    pub fn key(&self) -> String {
        format!("{CERTBOT}/live/{}/privkey.pem", self.lineage())
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names.iter().map(DomainName::as_str).collect();
        write!(
            f,
            "certificate for {} from {}",
            names.join(", "),
            self.endpoint.authority()
        )
    }
}

impl Endpoint {
    /// The host of the address, with its port.
    pub fn authority(&self) -> &str {
        let rest = self.as_str().strip_prefix("https://").unwrap_or_default();
        rest.split('/').next().unwrap_or_default()
    }
}

fn domain(text: &str) -> Result<(), CertificateError> {
    let wrong = CertificateError {
        kind: "name that an authority can prove over HTTP",
        grammar: "it takes a full name such as www.example.com, in a-z, 0-9 and '-', and no wildcard",
    };
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let fits = text.len() <= DOMAIN_BYTES_MAX
        && text.contains('.')
        && text.split('.').all(label)
        // An address of IPv4 is no name.
        && last.bytes().any(|c| c.is_ascii_lowercase());
    fits.then_some(()).ok_or(wrong)
}

fn endpoint(text: &str) -> Result<(), CertificateError> {
    let wrong = CertificateError {
        kind: "address of an authority's directory",
        grammar: "write it as https://acme.example.com/directory",
    };
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~/:[]".contains(&c);
    let fits = text.len() <= TEXT_BYTES_MAX
        && text.strip_prefix("https://").is_some_and(|rest| {
            rest.bytes().all(plain)
                && rest
                    .bytes()
                    .next()
                    .is_some_and(|c| c.is_ascii_alphanumeric() || c == b'[')
        });
    fits.then_some(()).ok_or(wrong)
}

fn mailbox(text: &str) -> Result<(), CertificateError> {
    let wrong = CertificateError {
        kind: "address of a mailbox",
        grammar: "write it as ops@example.com",
    };
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._+-".contains(&c);
    let fits = text.len() <= TEXT_BYTES_MAX
        && text.split_once('@').is_some_and(|(local, host)| {
            !local.is_empty()
                && !local.starts_with(['-', '.'])
                && local.bytes().all(plain)
                && domain(&host.to_ascii_lowercase()).is_ok()
        });
    fits.then_some(()).ok_or(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> Certificate {
        Certificate {
            app: "api".parse().unwrap(),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            endpoint: "https://acme.example.com:14000/dir".parse().unwrap(),
            email: "ops@example.com".parse().unwrap(),
        }
    }

    #[test]
    fn nothing_in_an_order_can_be_an_option_a_wildcard_or_a_second_word() {
        for hostile in [
            "",
            "localhost",
            "*.example.com",
            "_",
            "10.0.0.1",
            "-d.example.com",
            "a..b",
            "a b.c",
            "a.example.com,b.example.com",
            "A.example.com",
            "a.example.com.",
            "a.example.com\n",
            "ä.com",
            &format!("{}.com", "a".repeat(64)),
        ] {
            assert!(hostile.parse::<DomainName>().is_err(), "{hostile:?}");
        }
        for hostile in [
            "",
            "http://acme.example.com/dir",
            "https://",
            "https:///dir",
            "https://a/d?x=1",
            "https://a b",
            "https://u@h/",
            "-https://a",
        ] {
            assert!(hostile.parse::<Endpoint>().is_err(), "{hostile:?}");
        }
        for hostile in [
            "",
            "ops",
            "@example.com",
            "-x@example.com",
            "a b@example.com",
            "a@b",
            "a@b.c,d@e.f",
        ] {
            assert!(hostile.parse::<Mailbox>().is_err(), "{hostile:?}");
        }
        assert!(
            "https://[2001:db8::1]:14000/dir"
                .parse::<Endpoint>()
                .is_ok()
        );
        assert!("ops+tls@Example.com".parse::<Mailbox>().is_ok());
        assert!("xn--mnchen-3ya.example.com".parse::<DomainName>().is_ok());
    }

    #[test]
    fn other_names_or_another_authority_are_another_certificate_and_another_mailbox_is_not() {
        let one = certificate(&["a.example.com", "b.example.com"]);
        let same = Certificate {
            email: "other@example.com".parse().unwrap(),
            ..certificate(&["b.example.com", "a.example.com"])
        };
        assert_eq!(one.lineage(), same.lineage());
        let fewer = certificate(&["a.example.com"]);
        let elsewhere = Certificate {
            endpoint: "https://acme.example.org/dir".parse().unwrap(),
            ..one.clone()
        };
        assert_ne!(one.lineage(), fewer.lineage());
        assert_ne!(one.lineage(), elsewhere.lineage());
        assert!(one.lineage().starts_with("push-api-"), "{}", one.lineage());
        assert_eq!(
            one.to_string(),
            "certificate for a.example.com, b.example.com from acme.example.com:14000"
        );
    }
}
