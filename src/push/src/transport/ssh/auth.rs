//! The login: which identities are offered, in which order, and what it means when they are refused.
//!
//! A refused login is never tried again: sshd counts failures and then turns the address away. At
//! most [`OFFERS_MAX`] keys are offered, one below sshd's MaxAuthTries, so that the last word is a
//! list of what was refused and not a closed connection.

use super::agent::{self, Agent};
use super::gate::{Gate, Seen};
use super::keyring::{KeyFile, Keyring, Kind, Unusable, read_certificate};
use crate::transport::error::Error;
use crate::transport::prompt::{Echo, Prompt, Question, Refusal};
use crate::transport::target::{NamedBy, Offer, Target};
use crate::visible;
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};
use russh::{MethodKind, MethodSet};
use secrecy::ExposeSecret;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// How many identities are offered to a server; sshd hangs up at six by default.
const OFFERS_MAX: usize = 5;
/// How long a server may take to answer one step of the login.
const STEP_MAX: Duration = Duration::from_secs(30);
/// How long a person may take to answer; sshd's LoginGraceTime ends everything at 120 s.
const PERSON_MAX: Duration = Duration::from_secs(110);
/// Rounds of questions in keyboard-interactive authentication.
const ROUNDS_MAX: usize = 8;
/// Questions in one round.
const QUESTIONS_MAX: usize = 16;
/// How much of a server's question is shown, in bytes.
const QUESTION_BYTES_MAX: usize = 500;

/// One login in progress.
pub(super) struct Login<'a> {
    pub(super) handle: &'a mut Handle<Gate>,
    pub(super) target: &'a Target,
    pub(super) keyring: &'a Keyring,
    pub(super) prompt: &'a dyn Prompt,
    pub(super) seen: &'a Seen,
}

/// What has happened so far.
#[derive(Default)]
struct Progress {
    offered: Vec<String>,
    methods: Option<MethodSet>,
    is_half_in: bool,
    missed: Option<Error>,
}

impl Progress {
    fn allows(&self, method: MethodKind) -> bool {
        self.methods
            .as_ref()
            .is_none_or(|methods| methods.contains(&method))
    }
}

/// An identity that can be offered.
struct Candidate {
    public: PublicKey,
    certificate: Option<Certificate>,
    label: String,
    rank: (NamedBy, Effort),
    hand: Hand,
}

/// How much it takes to use an identity: what is ready is offered before what needs a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effort {
    None,
    Passphrase,
}

/// Who signs.
#[derive(Clone)]
enum Hand {
    Agent,
    File(Arc<KeyFile>),
}

/// What a server said to one offer.
enum Answer {
    In,
    Out,
}

impl Login<'_> {
    /// Logs in, or says why not. The handle must not be used again after an error.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mut progress = Progress::default();
        let (mut agent, candidates) = self.candidates(&mut progress).await;
        for candidate in candidates.into_iter().take(OFFERS_MAX) {
            if !progress.allows(MethodKind::PublicKey) {
                break;
            }
            if let Answer::In = self.offer(candidate, &mut agent, &mut progress).await? {
                return Ok(());
            }
        }
        if progress.methods.is_none() {
            let result = step(
                self.target,
                STEP_MAX,
                self.handle.authenticate_none(&self.target.user),
            )
            .await?;
            let result = result.map_err(|error| self.broken(&error, &progress))?;
            if let Answer::In = self.take(result, &mut progress)? {
                return Ok(());
            }
        }
        if progress.allows(MethodKind::KeyboardInteractive)
            && self.interactive(&mut progress).await?
        {
            return Ok(());
        }
        if progress.allows(MethodKind::Password) && self.password(&mut progress).await? {
            return Ok(());
        }
        Err(progress
            .missed
            .take()
            .unwrap_or_else(|| self.refused(&progress)))
    }

    /// Everything that may be offered, the most wanted first, each key once.
    async fn candidates(&mut self, progress: &mut Progress) -> (Option<Agent>, Vec<Candidate>) {
        let (agent, listed) = match &self.target.agent {
            None => (None, Vec::new()),
            Some(socket) => match agent::open(socket, self.handle.agent_session_binding()).await {
                Ok((agent, listed)) => (Some(agent), listed),
                Err(reason) => {
                    progress.offered.push(format!(
                        "nothing from the agent at {} ({reason})",
                        socket.display()
                    ));
                    (None, Vec::new())
                }
            },
        };
        let mut found = self.file_candidates(progress).await;
        for held in listed {
            let named = found
                .iter_mut()
                .find(|candidate| candidate.public.key_data() == held.public.key_data());
            let rank = match named {
                Some(candidate) if held.certificate.is_none() => {
                    // The agent signs without a passphrase.
                    candidate.hand = Hand::Agent;
                    candidate.rank.1 = Effort::None;
                    continue;
                }
                Some(candidate) => candidate.rank.0,
                None if self.target.offer == Offer::OnlyIdentities => continue,
                None => NamedBy::Default,
            };
            let label = format!("{} (agent, {})", fingerprint(&held.public), held.comment);
            let certificate = held.certificate;
            found.push(Candidate {
                public: held.public,
                certificate,
                label,
                rank: (rank, Effort::None),
                hand: Hand::Agent,
            });
        }
        found.retain(|candidate| match &candidate.hand {
            Hand::Agent => true,
            Hand::File(file) => file.kind() != Kind::PublicOnly,
        });
        // Certificates before bare keys: a server that wants one often knows no key at all.
        found.sort_by_key(|candidate| (candidate.rank, candidate.certificate.is_none()));
        (agent, found)
    }

    async fn file_candidates(&self, progress: &mut Progress) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = Vec::new();
        let loose: Vec<Certificate> = self
            .target
            .certificates
            .iter()
            .filter_map(|path| read_certificate(path))
            .collect();
        for identity in &self.target.identities {
            let file = match self.keyring.load(&identity.path).await {
                Ok(file) => file,
                Err(reason) if identity.named_by == NamedBy::Operator => {
                    progress
                        .offered
                        .push(format!("not {} ({reason})", identity.path.display()));
                    continue;
                }
                Err(_) => continue,
            };
            let Some(public) = file.public().cloned() else {
                progress.offered.push(format!(
                    "not {} (its public half is needed: add a .pub file)",
                    file.path().display()
                ));
                continue;
            };
            if found
                .iter()
                .any(|candidate| candidate.public.key_data() == public.key_data())
            {
                continue;
            }
            let effort = if file.kind() == Kind::Encrypted {
                Effort::Passphrase
            } else {
                Effort::None
            };
            let matching = loose
                .iter()
                .filter(|certificate| certificate.public_key() == public.key_data());
            let certificates = file
                .certificate()
                .into_iter()
                .chain(matching)
                .cloned()
                .map(Some);
            for certificate in certificates.chain([None]) {
                let what = if certificate.is_some() {
                    "certificate of "
                } else {
                    ""
                };
                let label = format!("{what}{} ({})", fingerprint(&public), file.path().display());
                let rank = (identity.named_by, effort);
                found.push(Candidate {
                    public: public.clone(),
                    certificate,
                    label,
                    rank,
                    hand: Hand::File(file.clone()),
                });
            }
        }
        found
    }

    async fn offer(
        &mut self,
        candidate: Candidate,
        agent: &mut Option<Agent>,
        progress: &mut Progress,
    ) -> Result<Answer, Error> {
        let Candidate {
            public,
            certificate,
            label,
            hand,
            ..
        } = candidate;
        let hash = match self.signature_hash(&public).await {
            Ok(hash) => hash,
            Err(reason) => {
                progress.offered.push(format!("not {label} ({reason})"));
                return Ok(Answer::Out);
            }
        };
        let user = &self.target.user;
        let mut signer = Signer {
            hand: &hand,
            agent,
            prompt: self.prompt,
        };
        let signed = step(self.target, STEP_MAX + PERSON_MAX, async {
            match certificate {
                Some(certificate) => {
                    self.handle
                        .authenticate_certificate_with(user, certificate, hash, &mut signer)
                        .await
                }
                None => {
                    self.handle
                        .authenticate_publickey_with(user, public, hash, &mut signer)
                        .await
                }
            }
        });
        match signed.await? {
            Ok(result) => {
                progress.offered.push(label);
                self.take(result, progress)
            }
            Err(SignError::Gone) => Err(self.cut_off(progress)),
            Err(SignError::Unusable(unusable)) => {
                let reason = match &unusable {
                    Unusable::NobodyToAsk => "its passphrase is needed".to_owned(),
                    Unusable::Because(reason) => reason.clone(),
                };
                progress.offered.push(format!("not {label} ({reason})"));
                if let Hand::File(file) = &hand {
                    progress.missed = unusable.into_error(&self.target.host, file.path());
                }
                Ok(Answer::Out)
            }
        }
    }

    /// RSA signatures are SHA-2 or nothing.
    async fn signature_hash(&self, public: &PublicKey) -> Result<Option<HashAlg>, String> {
        if !matches!(public.algorithm(), Algorithm::Rsa { .. }) {
            return Ok(None);
        }
        let asked = step(self.target, STEP_MAX, self.handle.best_supported_rsa_hash()).await;
        match asked {
            Ok(Ok(Some(Some(hash)))) => Ok(Some(hash)),
            Ok(Ok(Some(None))) => Err("the server takes RSA signatures with SHA-1 only".into()),
            Ok(Ok(None) | Err(_)) | Err(_) => Ok(Some(HashAlg::Sha512)),
        }
    }

    /// Learns from an answer. An answer without methods is what the library makes of a closed connection.
    fn take(&self, result: AuthResult, progress: &mut Progress) -> Result<Answer, Error> {
        match result {
            AuthResult::Success => Ok(Answer::In),
            AuthResult::Failure {
                remaining_methods, ..
            } if remaining_methods.is_empty()
                && self.seen.goodbye().is_some() | self.handle.is_closed() =>
            {
                Err(self.cut_off(progress))
            }
            AuthResult::Failure {
                remaining_methods,
                partial_success,
            } => {
                if partial_success {
                    progress.is_half_in = true;
                    if let Some(last) = progress.offered.last_mut() {
                        last.push_str(" – taken, and more is asked");
                    }
                }
                progress.methods = Some(remaining_methods);
                Ok(Answer::Out)
            }
        }
    }

    async fn password(&mut self, progress: &mut Progress) -> Result<bool, Error> {
        let question = Question::Password {
            user: self.target.user.clone(),
            host: self.target.host.clone(),
        };
        let Some(password) = self.ask(&question, progress).await else {
            return Ok(false);
        };
        let password = password.expose_secret().to_owned();
        let answer = step(
            self.target,
            STEP_MAX,
            self.handle
                .authenticate_password(&self.target.user, password),
        );
        let result = answer
            .await?
            .map_err(|error| self.broken(&error, progress))?;
        progress.offered.push("a password".into());
        Ok(matches!(self.take(result, progress)?, Answer::In))
    }

    async fn interactive(&mut self, progress: &mut Progress) -> Result<bool, Error> {
        let user = &self.target.user;
        let start = self
            .handle
            .authenticate_keyboard_interactive_start(user, None::<String>);
        let mut response = step(self.target, STEP_MAX, start)
            .await?
            .map_err(|error| self.broken(&error, progress))?;
        for _ in 0..ROUNDS_MAX {
            let prompts = match response {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure {
                    remaining_methods,
                    partial_success,
                } => {
                    progress.offered.push("answers to its questions".into());
                    let result = AuthResult::Failure {
                        remaining_methods,
                        partial_success,
                    };
                    return Ok(matches!(self.take(result, progress)?, Answer::In));
                }
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
            };
            let mut answers = Vec::new();
            for prompt in prompts.iter().take(QUESTIONS_MAX) {
                let question = Question::Interactive {
                    user: self.target.user.clone(),
                    host: self.target.host.clone(),
                    prompt: visible::escape(prompt.prompt.trim().as_bytes(), QUESTION_BYTES_MAX),
                    echo: if prompt.echo {
                        Echo::Shown
                    } else {
                        Echo::Hidden
                    },
                };
                // The library waits for answers and nothing else now: a login that stops here is over.
                let Some(answer) = self.ask(&question, progress).await else {
                    return Err(progress
                        .missed
                        .take()
                        .unwrap_or_else(|| self.refused(progress)));
                };
                answers.push(answer.expose_secret().to_owned());
            }
            let respond = self
                .handle
                .authenticate_keyboard_interactive_respond(answers);
            response = step(self.target, STEP_MAX, respond)
                .await?
                .map_err(|error| self.broken(&error, progress))?;
        }
        Err(self.refused(progress))
    }

    async fn ask(
        &self,
        question: &Question,
        progress: &mut Progress,
    ) -> Option<secrecy::SecretString> {
        let asked = tokio::time::timeout(PERSON_MAX, self.prompt.ask(question)).await;
        match asked {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(Refusal::NoTerminal)) => {
                // Where keys were refused, they are the news; a password is what is left over.
                if progress.offered.is_empty() || progress.is_half_in {
                    let (host, user) = (self.target.host.clone(), self.target.user.clone());
                    progress
                        .missed
                        .get_or_insert(Error::PasswordNeeded { host, user });
                }
                None
            }
            Ok(Err(Refusal::Declined)) | Err(_) => None,
        }
    }

    fn refused(&self, progress: &Progress) -> Error {
        let allowed = progress
            .methods
            .iter()
            .flat_map(|methods| methods.iter())
            .map(String::from)
            .collect::<Vec<_>>();
        Error::AuthRefused {
            host: self.target.host.clone(),
            user: self.target.user.clone(),
            offered: progress.offered.clone(),
            allowed: if allowed.is_empty() {
                "nothing that push can do".into()
            } else {
                allowed.join(", ")
            },
        }
    }

    fn cut_off(&self, progress: &Progress) -> Error {
        Error::AuthCutOff {
            host: self.target.host.clone(),
            user: self.target.user.clone(),
            offered: progress.offered.clone(),
            said: self.seen.goodbye().unwrap_or_default(),
        }
    }

    fn broken(&self, error: &russh::Error, progress: &Progress) -> Error {
        tracing::debug!(host = self.target.host, %error, "the login was interrupted");
        self.cut_off(progress)
    }
}

/// One step that waits for the server.
async fn step<T>(
    target: &Target,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| Error::Silent {
            host: target.host.clone(),
            at: target.place(),
            stage: "login",
            waited: limit,
        })
}

fn fingerprint(public: &PublicKey) -> String {
    format!(
        "{} {}",
        public.algorithm(),
        public.fingerprint(HashAlg::Sha256)
    )
}

/// Signs once the server has said that it would take the key.
struct Signer<'a> {
    hand: &'a Hand,
    agent: &'a mut Option<Agent>,
    prompt: &'a dyn Prompt,
}

#[derive(Debug)]
enum SignError {
    Gone,
    Unusable(Unusable),
}

impl From<russh::SendError> for SignError {
    fn from(_: russh::SendError) -> Self {
        Self::Gone
    }
}

impl russh::Signer for Signer<'_> {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        identity: &AgentIdentity,
        hash: Option<HashAlg>,
        mut data: Vec<u8>,
    ) -> Result<Vec<u8>, Self::Error> {
        let because = |reason: String| SignError::Unusable(Unusable::Because(reason));
        match (self.hand, self.agent.as_mut()) {
            (Hand::Agent, Some(agent)) => agent.sign(identity, hash, data).await.map_err(because),
            (Hand::Agent, None) => Err(because("the agent is gone".into())),
            (Hand::File(file), _) => {
                let opened = tokio::time::timeout(PERSON_MAX, file.open(self.prompt)).await;
                let key = match opened {
                    Ok(key) => key.map_err(SignError::Unusable)?,
                    Err(_) => return Err(because("its passphrase was not given in time".into())),
                };
                let signature = match key.key_data() {
                    KeypairData::Rsa(pair) => (pair, hash).try_sign(&data),
                    other => other.try_sign(&data),
                };
                let signature = signature.map_err(|error| because(error.to_string()))?;
                let blob = Vec::try_from(signature).map_err(|error| because(error.to_string()))?;
                let length =
                    u32::try_from(blob.len()).map_err(|error| because(error.to_string()))?;
                data.extend(length.to_be_bytes());
                data.extend(blob);
                Ok(data)
            }
        }
    }
}
