//! The login: which identities are offered, in which order, and what it means when they are refused.
//!
//! A refused login is never tried again: sshd counts failures and then turns the address away; only
//! a person who mistyped a password may correct it, once, on the same connection. At most
//! [`OFFERS_MAX`] keys are offered, one below sshd's MaxAuthTries, so that the last word is a list of
//! what was refused and not a closed connection.

use super::agent::Agent;
use super::gate::{Gate, Seen};
use super::identities::{Candidate, Hand, Identities, PERSON_MAX, SignError, Signer};
use super::keyring::{Keyring, Unusable};
use crate::transport::error::Error;
use crate::transport::prompt::{Asker, Echo, Prompt, Question, Refusal};
use crate::transport::target::{Asking, Target};
use crate::visible;
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::{Algorithm, HashAlg, PublicKey};
use russh::{MethodKind, MethodSet};
use secrecy::ExposeSecret;
use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

/// How many identities are offered to a server; sshd hangs up at six by default.
const OFFERS_MAX: usize = 5;
/// How long a server may take to answer one step of the login.
const STEP_MAX: Duration = Duration::from_secs(30);
/// How often an account's password is asked for on one connection, of sshd's six tries at most.
const PASSWORD_TRIES_MAX: u32 = 2;
/// How many factors a server may want one after the other.
const FACTORS_MAX: usize = 6;
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
    unusable: Vec<String>,
    methods: Option<MethodSet>,
    /// How many factors were taken, with more being asked for.
    factors: u32,
    missed: Option<Error>,
}

impl Progress {
    fn allows(&self, method: MethodKind) -> bool {
        self.methods
            .as_ref()
            .is_none_or(|methods| methods.contains(&method))
    }
}

/// What a server said to one offer.
enum Answer {
    In,
    Out,
}

/// What came of asking a person.
enum Personal {
    In,
    /// The answer was refused, or taken as one factor of several.
    Out,
    /// The server had nothing to ask.
    NoQuestion,
    /// The person had nothing to say, or what was wrong is not worth a second try, such as a code.
    Enough,
}

impl Login<'_> {
    /// Logs in, or says why not. The handle must not be used again after an error.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let binding = self.handle.agent_session_binding();
        let Identities {
            mut agent,
            candidates,
            unusable,
        } = Identities::gather(self.target, self.keyring, binding).await;
        let host = &self.target.host;
        tracing::debug!("{host}: {} identities to offer", candidates.len());
        for what in &unusable {
            tracing::debug!("{host}: not offered: {what}");
        }
        let mut progress = Progress {
            unusable,
            ..Progress::default()
        };
        let mut candidates = VecDeque::from(candidates);
        progress.unusable.extend(kept_back(&mut candidates));
        // A factor that was taken may make others welcome that were not before.
        for _ in 0..FACTORS_MAX {
            let taken = progress.factors;
            let is_in = self
                .keys(&mut candidates, &mut agent, &mut progress)
                .await?
                || self.anything(&mut progress).await?
                || (progress.factors == taken && self.person(&mut progress).await?);
            if is_in {
                return Ok(());
            }
            if progress.factors == taken {
                break;
            }
        }
        Err(progress
            .missed
            .take()
            .unwrap_or_else(|| self.refused(&progress)))
    }

    /// Offers keys for as long as the server takes keys at this point.
    async fn keys(
        &mut self,
        candidates: &mut VecDeque<Candidate>,
        agent: &mut Option<Agent>,
        progress: &mut Progress,
    ) -> Result<bool, Error> {
        while progress.allows(MethodKind::PublicKey)
            && let Some(candidate) = candidates.pop_front()
        {
            let before = progress.factors;
            let kept = candidate.clone();
            if let Answer::In = self.offer(candidate, agent, progress).await? {
                return Ok(true);
            }
            // It was not looked at: another factor comes first.
            if progress.factors == before && !progress.allows(MethodKind::PublicKey) {
                candidates.push_front(kept);
            }
        }
        Ok(false)
    }

    /// Asks the server what it takes, where no key has led it to say so.
    async fn anything(&mut self, progress: &mut Progress) -> Result<bool, Error> {
        if progress.methods.is_some() {
            return Ok(false);
        }
        let asked = self.handle.authenticate_none(&self.target.user);
        let result = step(self.target, STEP_MAX, asked)
            .await?
            .map_err(|error| self.broken(&error, progress))?;
        Ok(matches!(self.take(result, progress)?, Answer::In))
    }

    /// Gives what a person knows. Returns when a factor was taken, too.
    async fn person(&mut self, progress: &mut Progress) -> Result<bool, Error> {
        if self.target.asking == Asking::Nobody {
            return Ok(false);
        }
        let taken = progress.factors;
        let mut has_questions = true;
        let mut attempt = 1;
        while attempt <= PASSWORD_TRIES_MAX && progress.factors == taken {
            let answer = if has_questions && progress.allows(MethodKind::KeyboardInteractive) {
                self.interactive(attempt, progress).await?
            } else if progress.allows(MethodKind::Password) {
                self.password(attempt, progress).await?
            } else {
                return Ok(false);
            };
            match answer {
                Personal::In => return Ok(true),
                Personal::Out => attempt += 1,
                Personal::NoQuestion => has_questions = false,
                Personal::Enough => return Ok(false),
            }
        }
        Ok(false)
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
                progress.unusable.push(format!("{label} ({reason})"));
                return Ok(Answer::Out);
            }
        };
        let user = &self.target.user;
        let mut signer = Signer {
            hand: &hand,
            agent: agent.as_mut(),
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
                let (host, user) = (&self.target.host, &self.target.user);
                match &result {
                    AuthResult::Success => tracing::info!("{host}: let in as {user} with {label}"),
                    AuthResult::Failure { .. } => tracing::debug!("{host}: {label} is refused"),
                }
                progress.offered.push(label);
                self.take(result, progress)
            }
            Err(SignError::Gone) => Err(self.cut_off(progress)),
            Err(SignError::Unusable(unusable)) => {
                let reason = match &unusable {
                    Unusable::NobodyToAsk => "its passphrase is needed".to_owned(),
                    Unusable::Because(reason) => reason.clone(),
                };
                progress.unusable.push(format!("{label} ({reason})"));
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
                    progress.factors += 1;
                    if let Some(last) = progress.offered.last_mut() {
                        last.push_str(" – taken, and more is asked");
                    }
                }
                progress.methods = Some(remaining_methods);
                Ok(Answer::Out)
            }
        }
    }

    async fn password(&mut self, attempt: u32, progress: &mut Progress) -> Result<Personal, Error> {
        let question = Question::Password {
            user: self.target.user.clone(),
            host: self.target.host.clone(),
            asker: self.asker(),
            attempt,
        };
        let Some(password) = self.ask(&question, progress).await else {
            return Ok(Personal::Enough);
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
        Ok(match self.take(result, progress)? {
            Answer::In => Personal::In,
            Answer::Out => Personal::Out,
        })
    }

    async fn interactive(
        &mut self,
        attempt: u32,
        progress: &mut Progress,
    ) -> Result<Personal, Error> {
        let user = &self.target.user;
        let start = self
            .handle
            .authenticate_keyboard_interactive_start(user, None::<String>);
        let mut response = step(self.target, STEP_MAX, start)
            .await?
            .map_err(|error| self.broken(&error, progress))?;
        let (mut was_asked, mut is_all_passwords) = (false, true);
        for _ in 0..ROUNDS_MAX {
            let prompts = match response {
                KeyboardInteractiveAuthResponse::Success => return Ok(Personal::In),
                KeyboardInteractiveAuthResponse::Failure {
                    remaining_methods,
                    partial_success,
                } => {
                    if was_asked {
                        progress.offered.push("answers to its questions".into());
                    }
                    let result = AuthResult::Failure {
                        remaining_methods,
                        partial_success,
                    };
                    return Ok(match self.take(result, progress)? {
                        Answer::In => Personal::In,
                        Answer::Out if !was_asked => Personal::NoQuestion,
                        Answer::Out if is_all_passwords => Personal::Out,
                        Answer::Out => Personal::Enough,
                    });
                }
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
            };
            was_asked |= !prompts.is_empty();
            let mut answers = Vec::new();
            for prompt in prompts.iter().take(QUESTIONS_MAX) {
                let question = Question::Interactive {
                    user: self.target.user.clone(),
                    host: self.target.host.clone(),
                    asker: self.asker(),
                    prompt: visible::escape(prompt.prompt.trim().as_bytes(), QUESTION_BYTES_MAX),
                    echo: if prompt.echo {
                        Echo::Shown
                    } else {
                        Echo::Hidden
                    },
                    attempt,
                };
                is_all_passwords &= question.password_of().is_some();
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

    fn asker(&self) -> Asker {
        match self.target.asking {
            Asking::Fleet | Asking::Nobody => Asker::Host,
            Asking::Apart => Asker::JumpHost,
        }
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
                // Where keys were refused or could not be used, they are the news; a password is what
                // is left over.
                let keys = progress.offered.len() + progress.unusable.len();
                if keys == 0 || progress.factors > 0 {
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
            unusable: progress.unusable.clone(),
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
            unusable: progress.unusable.clone(),
            said: self.seen.goodbye().unwrap_or_default(),
        }
    }

    fn broken(&self, error: &russh::Error, progress: &Progress) -> Error {
        tracing::debug!(host = self.target.host, %error, "the login was interrupted");
        self.cut_off(progress)
    }
}

/// Takes away what is too much to offer, and names it as that.
fn kept_back(candidates: &mut VecDeque<Candidate>) -> Option<String> {
    let surplus = candidates.split_off(candidates.len().min(OFFERS_MAX));
    let labels: Vec<String> = surplus.into_iter().map(|key| key.label).collect();
    (!labels.is_empty()).then(|| {
        format!(
            "{} (not offered: {OFFERS_MAX} keys are the most)",
            labels.join(", ")
        )
    })
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
