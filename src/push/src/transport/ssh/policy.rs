//! What is negotiated with a server, and how soon silence counts as death.

use russh::cipher;
use russh::client::Config;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, SshId, compression};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// How often an idle connection is asked whether it is alive.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How many questions may go unanswered: with two, a dead connection is noticed after 15 s.
const KEEPALIVE_UNANSWERED_MAX: usize = 2;
/// Longest silence before the login, while keepalive is not at work yet. sshd's own patience.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// How much may be on its way to us, in bytes: enough for 16 MiB/s at a second's round trip.
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// The order in which host key types are asked for when nothing is known. Without RSA signatures
/// that use SHA-1, which the library would accept.
const KEY_TYPES: [Algorithm; 6] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha512),
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha256),
    },
];

/// AES-GCM first: it is twice as fast as ChaCha20 where there is hardware for it.
const CIPHERS: [cipher::Name; 6] = [
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// Whether host certificates are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certificates {
    /// An authority is known for the host.
    Wanted,
    /// None is: a server that proved itself by a certificate could not be believed.
    Unwanted,
}

/// The configuration for a host of which keys of the algorithms `known` are known.
pub(super) fn config(known: &[String], certificates: Certificates) -> Arc<Config> {
    let preferred = Preferred {
        key: Cow::Owned(key_order(known)),
        host_key_certificates: match certificates {
            Certificates::Wanted => Cow::Borrowed(&KEY_TYPES),
            Certificates::Unwanted => Cow::Borrowed(&[]),
        },
        cipher: Cow::Borrowed(&CIPHERS),
        compression: Cow::Borrowed(&[compression::NONE]),
        ..Preferred::DEFAULT
    };
    Arc::new(Config {
        client_id: SshId::Standard(Cow::Borrowed(concat!(
            "SSH-2.0-push_",
            env!("CARGO_PKG_VERSION")
        ))),
        preferred,
        window_size: WINDOW_BYTES,
        keepalive_interval: Some(KEEPALIVE_INTERVAL),
        keepalive_max: KEEPALIVE_UNANSWERED_MAX,
        inactivity_timeout: Some(SILENCE_MAX),
        nodelay: true,
        ..Config::default()
    })
}

/// Known types first: a host with several keys then shows one that can be compared.
fn key_order(known: &[String]) -> Vec<Algorithm> {
    let is_known = |algorithm: &Algorithm| match algorithm {
        Algorithm::Rsa { .. } => known.iter().any(|name| name == "ssh-rsa"),
        other => known.iter().any(|name| name == other.as_str()),
    };
    let (first, rest): (Vec<_>, Vec<_>) = KEY_TYPES.iter().cloned().partition(is_known);
    first.into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_that_are_known_are_asked_for_first() {
        let names: Vec<String> = key_order(&["ssh-rsa".into()])
            .iter()
            .map(|algorithm| algorithm.as_str().to_owned())
            .collect();
        assert_eq!(names[..3], ["rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519"]);
    }

    #[test]
    fn sha1_signatures_of_hosts_are_never_asked_for() {
        let config = config(&["ssh-rsa".into()], Certificates::Wanted);
        let sha1 = Algorithm::Rsa { hash: None };
        assert!(!config.preferred.key.contains(&sha1));
        assert!(!config.preferred.host_key_certificates.contains(&sha1));
    }
}
