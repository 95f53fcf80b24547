//! Private key files: read once a push, decrypted once, shared by every connection.
//!
//! A key that is encrypted is opened only when a server has said that it would take it, so nobody
//! is asked for a passphrase that is not needed, and only once however many hosts wait for it.

use crate::transport::error::Error;
use crate::transport::prompt::{Prompt, Question, Refusal};
use russh::keys::{Certificate, PrivateKey, PublicKey, decode_secret_key};
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// Largest key file that is read, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;
/// How often a passphrase may be mistyped.
const PASSPHRASE_TRIES_MAX: u32 = 3;
/// Certificates of certificates are possible in the format and deep ones exhaust the stack of the parser.
const CERTIFICATE_MARKERS_MAX: usize = 2;

/// The key files of one push.
#[derive(Default)]
pub(super) struct Keyring {
    files: Mutex<HashMap<PathBuf, Arc<OnceCell<Loaded>>>>,
    troubled_agents: Mutex<HashMap<PathBuf, String>>,
}

type Loaded = Result<Arc<KeyFile>, String>;

/// One key file.
pub(super) struct KeyFile {
    path: PathBuf,
    public: Option<PublicKey>,
    certificate: Option<Certificate>,
    private: tokio::sync::Mutex<Private>,
    kind: Kind,
}

/// What the file turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A private key that can be used at once.
    Plain,
    /// A private key behind a passphrase.
    Encrypted,
    /// A public key: it says which key of the agent is meant.
    PublicOnly,
}

enum Private {
    Absent,
    Locked(SecretString),
    Open(Arc<PrivateKey>),
    Refused(Refusal),
    Unusable(String),
}

/// Why a key could not be used for signing.
#[derive(Debug, Clone)]
pub(super) enum Unusable {
    /// Nobody can be asked for the passphrase.
    NobodyToAsk,
    /// Anything else, a clause.
    Because(String),
}

impl Keyring {
    /// Loads a key file, or says why it cannot be used.
    pub(super) async fn load(&self, path: &Path) -> Loaded {
        let cell = {
            let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            files.entry(path.to_owned()).or_default().clone()
        };
        cell.get_or_init(|| async {
            let path = path.to_owned();
            let read = tokio::task::spawn_blocking(move || read(&path));
            read.await
                .unwrap_or_else(|_| Err("reading it was interrupted".into()))
                .map(Arc::new)
        })
        .await
        .clone()
    }

    /// What was wrong with the agent when it was asked last.
    pub(super) fn agent_trouble(&self, socket: &Path) -> Option<String> {
        let troubled = self
            .troubled_agents
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        troubled.get(socket).cloned()
    }

    /// Remembers that the agent does not answer, so that not every host waits for it.
    pub(super) fn note_agent_trouble(&self, socket: &Path, reason: String) {
        let mut troubled = self
            .troubled_agents
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        troubled.insert(socket.to_owned(), reason);
    }
}

impl KeyFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The public half; unknown for encrypted keys in old formats without a `.pub` file.
    pub(super) fn public(&self) -> Option<&PublicKey> {
        self.public.as_ref()
    }

    /// The certificate next to the key, `-cert.pub`.
    pub(super) fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The private key; asks for the passphrase the first time.
    pub(super) async fn open(&self, prompt: &dyn Prompt) -> Result<Arc<PrivateKey>, Unusable> {
        let mut private = self.private.lock().await;
        if let Private::Locked(text) = &*private {
            *private = self.unlock(text, prompt).await;
        }
        match &*private {
            Private::Open(key) => Ok(key.clone()),
            Private::Refused(Refusal::NoTerminal) => Err(Unusable::NobodyToAsk),
            Private::Refused(Refusal::Declined) => {
                Err(Unusable::Because("its passphrase was not given".into()))
            }
            Private::Unusable(reason) => Err(Unusable::Because(reason.clone())),
            Private::Absent | Private::Locked(_) => {
                Err(Unusable::Because("only its public half is here".into()))
            }
        }
    }

    async fn unlock(&self, text: &SecretString, prompt: &dyn Prompt) -> Private {
        for attempt in 1..=PASSPHRASE_TRIES_MAX {
            let question = Question::Passphrase {
                path: self.path.clone(),
                attempt,
            };
            let passphrase = match prompt.ask(&question).await {
                Ok(passphrase) => passphrase,
                Err(refusal) => return Private::Refused(refusal),
            };
            let text = text.clone();
            // bcrypt takes a good part of a second, by design.
            let decrypted = tokio::task::spawn_blocking(move || {
                decode_secret_key(text.expose_secret(), Some(passphrase.expose_secret())).ok()
            });
            if let Ok(Some(key)) = decrypted.await {
                return Private::Open(Arc::new(key));
            }
        }
        Private::Unusable(format!(
            "the passphrase was wrong {PASSPHRASE_TRIES_MAX} times"
        ))
    }
}

impl Unusable {
    /// The error that this becomes when nothing else let the operator in.
    pub(super) fn into_error(self, host: &str, path: &Path) -> Option<Error> {
        match self {
            Self::NobodyToAsk => Some(Error::PassphraseNeeded {
                host: host.to_owned(),
                path: path.to_owned(),
            }),
            Self::Because(_) => None,
        }
    }
}

/// Reads a certificate file.
pub(super) fn read_certificate(path: &Path) -> Option<Certificate> {
    let text = std::fs::read_to_string(path).ok()?;
    parse_certificate(&text)
}

fn parse_certificate(text: &str) -> Option<Certificate> {
    use base64::Engine;
    let encoded = text.split_ascii_whitespace().nth(1)?;
    let blob = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .ok()?;
    certificate_from(&blob)
}

/// Decodes a certificate, unless it is built to exhaust the decoder.
pub(super) fn certificate_from(blob: &[u8]) -> Option<Certificate> {
    const MARKER: &[u8] = b"-cert-v01@";
    let markers = blob
        .windows(MARKER.len())
        .filter(|window| *window == MARKER)
        .count();
    if markers > CERTIFICATE_MARKERS_MAX {
        return None;
    }
    Certificate::from_bytes(blob).ok()
}

fn read(path: &Path) -> Result<KeyFile, String> {
    let public_path = with_suffix(path, ".pub");
    let Ok(data) = std::fs::metadata(path) else {
        // The private half may be in the agent alone.
        return match read_public(&public_path) {
            Some(public) => Ok(public_only(path, public)),
            None => Err("there is no such file".into()),
        };
    };
    if data.len() > KEY_FILE_BYTES_MAX {
        return Err(format!("it is larger than {KEY_FILE_BYTES_MAX} bytes"));
    }
    if let Some(public) = read_public(path) {
        return Ok(public_only(path, public));
    }
    if data.uid() == rustix::process::getuid().as_raw() && data.mode() & 0o077 != 0 {
        return Err(format!(
            "others can read it (mode {:04o}); run `chmod 600 {}`",
            data.mode() & 0o7777,
            path.display()
        ));
    }
    let text =
        SecretString::from(std::fs::read_to_string(path).map_err(|error| error.to_string())?);
    let (private, public, kind) = decode(&text)?;
    Ok(KeyFile {
        path: path.to_owned(),
        public: public.or_else(|| read_public(&public_path)),
        certificate: read_certificate(&with_suffix(path, "-cert.pub")),
        private: tokio::sync::Mutex::new(private),
        kind,
    })
}

fn decode(text: &SecretString) -> Result<(Private, Option<PublicKey>, Kind), String> {
    match decode_secret_key(text.expose_secret(), None) {
        Ok(key) => {
            let public = key.public_key().clone();
            Ok((Private::Open(Arc::new(key)), Some(public), Kind::Plain))
        }
        Err(_) if is_encrypted(text.expose_secret()) => {
            let public = PrivateKey::from_openssh(text.expose_secret())
                .ok()
                .map(|key| key.public_key().clone());
            Ok((Private::Locked(text.clone()), public, Kind::Encrypted))
        }
        Err(error) => Err(format!(
            "it is not a private key that push can use ({error})"
        )),
    }
}

/// The formats tell in plain text, except OpenSSH's own, whose header the library reads.
fn is_encrypted(text: &str) -> bool {
    PrivateKey::from_openssh(text).is_ok_and(|key| key.is_encrypted())
        || text.contains("BEGIN ENCRYPTED PRIVATE KEY")
        || text.contains("Proc-Type: 4,ENCRYPTED")
        || (text.starts_with("PuTTY-User-Key-File-") && !text.contains("\nEncryption: none"))
}

fn public_only(path: &Path, public: PublicKey) -> KeyFile {
    KeyFile {
        path: path.to_owned(),
        public: Some(public),
        certificate: read_certificate(&with_suffix(path, "-cert.pub")),
        private: tokio::sync::Mutex::new(Private::Absent),
        kind: Kind::PublicOnly,
    }
}

fn read_public(path: &Path) -> Option<PublicKey> {
    PublicKey::from_openssh(std::fs::read_to_string(path).ok()?.trim()).ok()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
