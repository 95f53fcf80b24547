//! Decides whether the server may be talked to, before any byte of a login is sent, and refuses
//! everything that the server would open towards us.

use crate::transport::error::{Error, describe};
use crate::transport::host_key::{HostKey, ServerKey, VerifiedBy};
use crate::transport::known_hosts::{
    CertificateKind, HostCertificate, Knowledge, KnownKey, Lookup, Offered, Signature, Verdict,
};
use crate::transport::target::Target;
use crate::visible;
use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKeyOrCertificate};
use russh::{Channel, keys::ssh_key::certificate::CertType};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Largest known_hosts file that is read, in bytes.
const KNOWN_HOSTS_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Shortest RSA host key that is believed, in bits.
const RSA_BITS_MIN: usize = 2048;
/// How much of a server's last words is kept, in bytes.
const GOODBYE_BYTES_MAX: usize = 300;
/// How much of a certificate's key id is shown, in bytes.
const KEY_ID_BYTES_MAX: usize = 100;

/// What is known about a host before it is called.
#[derive(Debug, Clone)]
pub(super) struct Judge {
    host: String,
    pinned: Vec<HostKey>,
    knowledge: Knowledge,
}

impl Judge {
    /// Reads the known_hosts files. Where the inventory pins a key, they can only take it away: that it is
    /// revoked counts, and nothing else that they say.
    pub(super) async fn about(target: &Target) -> Result<Self, Error> {
        let mut files = Vec::new();
        for path in &target.known_hosts {
            if let Some(text) = read(&target.host, path).await? {
                files.push((path.clone(), text));
            }
        }
        let lookup = Lookup {
            address: &target.address,
            port: target.port,
            alias: target.host_key_alias.as_deref(),
        };
        Ok(Self {
            host: target.host.clone(),
            pinned: target.pinned.clone(),
            knowledge: if target.pinned.is_empty() {
                Knowledge::collect(lookup, &files)
            } else {
                Knowledge::revocations(lookup, &files)
            },
        })
    }

    /// Which of the keys that the inventory pins may still be believed; an error when none may.
    pub(super) fn unrevoked(&self) -> Result<Vec<HostKey>, Error> {
        let mut revoked = None;
        let mut left = Vec::new();
        for key in &self.pinned {
            match self.knowledge.revoked(&Offered::Key(key.clone())) {
                Some(line) => revoked = Some(self.revoked(key.clone(), line)),
                None => left.push(key.clone()),
            }
        }
        match revoked {
            Some(error) if left.is_empty() => Err(error),
            Some(_) | None => Ok(left),
        }
    }

    fn revoked(&self, key: HostKey, line: &KnownKey) -> Error {
        Error::HostKeyRevoked {
            host: self.host.clone(),
            key,
            file: line.file.clone(),
            line: line.line,
        }
    }

    /// The algorithms to ask for first.
    pub(super) fn algorithms(&self) -> Vec<String> {
        if self.pinned.is_empty() {
            return self.knowledge.algorithms();
        }
        self.pinned
            .iter()
            .map(|key| key.algorithm().to_owned())
            .collect()
    }

    /// Whether a certificate could be believed.
    pub(super) fn believes_certificates(&self) -> bool {
        self.pinned.is_empty() && self.knowledge.has_authority()
    }

    fn judge(&self, shown: &PublicKeyOrCertificate) -> Result<ServerKey, Error> {
        let Some(offered) = offered(shown) else {
            return Err(Error::Handshake {
                host: self.host.clone(),
                at: self.host.clone(),
                reason: "its host key is malformed".into(),
            });
        };
        let key = match &offered {
            Offered::Key(key) => key.clone(),
            Offered::Certificate(certificate) => certificate.key.clone(),
        };
        if let Some(bits) = key.rsa_bits().filter(|bits| *bits < RSA_BITS_MIN) {
            let host = self.host.clone();
            return Err(Error::ShortHostKey { host, bits });
        }
        if !self.pinned.is_empty() {
            return self.judge_pinned(key, &offered);
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let host = self.host.clone();
        let verified_by = match self.knowledge.judge(&offered, now) {
            Verdict::Known { file, line } => VerifiedBy::KnownHosts { file, line },
            Verdict::Certified { authority, key_id } => VerifiedBy::Certificate {
                authority,
                key_id: visible::escape(key_id.as_bytes(), KEY_ID_BYTES_MAX),
            },
            Verdict::Unknown { certificate: note } => {
                return Err(Error::HostKeyUnknown { host, key, note });
            }
            Verdict::OtherTypes { known } => {
                return Err(Error::HostKeyOtherType { host, key, known });
            }
            Verdict::Changed { expected } => {
                let expected = expected.iter().map(describe).collect();
                return Err(Error::HostKeyChanged {
                    host,
                    key,
                    expected,
                });
            }
            Verdict::Revoked { file, line } => {
                return Err(Error::HostKeyRevoked {
                    host,
                    key,
                    file,
                    line,
                });
            }
        };
        Ok(ServerKey { key, verified_by })
    }

    fn judge_pinned(&self, key: HostKey, offered: &Offered) -> Result<ServerKey, Error> {
        if let Some(line) = self.knowledge.revoked(offered) {
            return Err(self.revoked(key, line));
        }
        if self.pinned.contains(&key) {
            return Ok(ServerKey {
                key,
                verified_by: VerifiedBy::Pinned,
            });
        }
        let expected = self
            .pinned
            .iter()
            .map(|pin| format!("{} {} (pinned)", pin.algorithm(), pin.fingerprint()))
            .collect();
        Err(Error::HostKeyChanged {
            host: self.host.clone(),
            key,
            expected,
        })
    }
}

async fn read(host: &str, path: &PathBuf) -> Result<Option<Vec<u8>>, Error> {
    let unreadable = |reason: String| Error::KnownHosts {
        host: host.to_owned(),
        file: path.clone(),
        reason,
    };
    let length = match tokio::fs::metadata(path).await {
        Ok(data) => data.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    if length > KNOWN_HOSTS_BYTES_MAX {
        return Err(unreadable(format!(
            "it is larger than {KNOWN_HOSTS_BYTES_MAX} bytes"
        )));
    }
    tokio::fs::read(path)
        .await
        .map(Some)
        .map_err(|error| unreadable(error.to_string()))
}

fn offered(shown: &PublicKeyOrCertificate) -> Option<Offered> {
    match shown {
        PublicKeyOrCertificate::PublicKey { key, .. } => {
            Some(Offered::Key(HostKey::from_blob(key.to_bytes().ok()?)?))
        }
        PublicKeyOrCertificate::Certificate(certificate) => {
            Some(Offered::Certificate(taken_apart(certificate)?))
        }
    }
}

fn taken_apart(certificate: &Certificate) -> Option<HostCertificate> {
    let blob = |data: &russh::keys::ssh_key::public::KeyData| {
        HostKey::from_blob(
            russh::keys::PublicKey::new(data.clone(), "")
                .to_bytes()
                .ok()?,
        )
    };
    let is_sha1 = certificate.signature().algorithm() == Algorithm::Rsa { hash: None };
    let authority = certificate.signature_key().fingerprint(HashAlg::Sha256);
    // `validate_at` is given a time at which the certificate holds: the time is judged elsewhere.
    let holds = certificate
        .validate_at(certificate.valid_after(), [&authority])
        .is_ok();
    Some(HostCertificate {
        key: blob(certificate.public_key())?,
        authority: blob(certificate.signature_key())?,
        kind: if certificate.cert_type() == CertType::Host {
            CertificateKind::Host
        } else {
            CertificateKind::User
        },
        key_id: certificate.key_id().to_owned(),
        principals: certificate.valid_principals().to_vec(),
        valid_after: certificate.valid_after(),
        valid_before: certificate.valid_before(),
        critical_options: certificate.critical_options().keys().cloned().collect(),
        signature: if holds && !is_sha1 {
            Signature::Valid
        } else {
            Signature::Invalid
        },
    })
}

/// What the session's background task has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    server_key: Mutex<Option<Result<ServerKey, Error>>>,
    goodbye: Mutex<Option<String>>,
}

impl Seen {
    /// The verdict about the server, once there is one.
    pub(super) fn server_key(&self) -> Option<Result<ServerKey, Error>> {
        self.server_key
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Why the connection ended, as far as that is known; safe to show.
    pub(super) fn goodbye(&self) -> Option<String> {
        self.goodbye
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_goodbye(&self, text: &str) {
        let text = visible::escape(text.trim().as_bytes(), GOODBYE_BYTES_MAX);
        self.goodbye
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(text);
    }
}

/// The library's view of us: it asks, we refuse or agree.
pub(super) struct Gate {
    judge: Judge,
    seen: Arc<Seen>,
}

impl Gate {
    pub(super) fn new(judge: Judge, seen: Arc<Seen>) -> Self {
        Self { judge, seen }
    }
}

/// Dropping a reply refuses the channel: no server has a reason to open one towards us.
impl Handler for Gate {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let verdict = self.judge.judge(shown);
        let is_right = verdict.is_ok();
        *self
            .seen
            .server_key
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(verdict);
        Ok(is_right)
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<Self::Error>,
    ) -> Result<(), Self::Error> {
        match reason {
            DisconnectReason::ReceivedDisconnect(said) => self.seen.set_goodbye(&said.message),
            DisconnectReason::Error(russh::Error::KeepaliveTimeout) => {
                self.seen.set_goodbye("it did not answer for 15s");
            }
            DisconnectReason::Error(russh::Error::InactivityTimeout) => {
                self.seen.set_goodbye("it fell silent");
            }
            DisconnectReason::Error(russh::Error::IO(error)) => {
                self.seen.set_goodbye(&error.to_string());
            }
            DisconnectReason::Error(russh::Error::Disconnect | russh::Error::HUP) => {
                self.seen.set_goodbye("it closed the connection");
            }
            DisconnectReason::Error(error) => self.seen.set_goodbye(&error.to_string()),
        }
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }
}
