//! Which identities can be offered to a host, in which order, and who signs with them.
//!
//! Order: what the operator named before what OpenSSH would guess, what is ready before what needs
//! a passphrase, certificates before bare keys. The agent signs wherever it holds the key.

use super::agent::{self, Agent, Listed};
use super::keyring::{KeyFile, Keyring, Kind, Unusable, read_certificate};
use crate::transport::prompt::Prompt;
use crate::transport::target::{NamedBy, Offer, Target};
use russh::keys::agent::{AgentIdentity, AgentSessionBinding};
use russh::keys::signature::Signer as _;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Certificate, HashAlg, PublicKey};
use std::sync::Arc;
use std::time::Duration;

/// How long a person may take to answer; sshd's LoginGraceTime ends everything at 120 s, and so does the one
/// that `templates/bootstrap/sshd` sets.
pub(super) const PERSON_MAX: Duration = Duration::from_secs(110);

/// An identity that can be offered.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) public: PublicKey,
    pub(super) certificate: Option<Certificate>,
    pub(super) label: String,
    pub(super) hand: Hand,
    rank: (NamedBy, Effort),
}

/// How much it takes to use an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effort {
    None,
    Passphrase,
}

/// Who signs.
#[derive(Clone)]
pub(super) enum Hand {
    /// The agent, with what it holds; for a certificate of a file that is the bare key.
    Agent(Box<AgentIdentity>),
    /// A key file.
    File(Arc<KeyFile>),
}

/// What there is to offer.
pub(super) struct Identities {
    pub(super) agent: Option<Agent>,
    pub(super) candidates: Vec<Candidate>,
    /// What the operator may have expected to be offered and is not, with the reason.
    pub(super) unusable: Vec<String>,
}

impl Identities {
    /// Collects everything that may be offered to `target`, the most wanted first.
    pub(super) async fn gather(
        target: &Target,
        keyring: &Keyring,
        binding: Option<&AgentSessionBinding>,
    ) -> Self {
        let mut identities = Self {
            agent: None,
            candidates: Vec::new(),
            unusable: Vec::new(),
        };
        identities.add_files(target, keyring).await;
        let from_files = identities.candidates.len();
        if let Some(socket) = &target.agent {
            let opened = match keyring.agent_trouble(socket) {
                Some(reason) => Err(reason),
                None => agent::open(socket, binding).await,
            };
            match opened {
                Ok((agent, listed)) => {
                    identities.agent = Some(agent);
                    for held in listed {
                        identities.add_held(target, held, from_files);
                    }
                }
                Err(reason) => {
                    identities
                        .unusable
                        .push(format!("the agent at {} ({reason})", socket.display()));
                    keyring.note_agent_trouble(socket, reason);
                }
            }
        }
        identities.finish()
    }

    async fn add_files(&mut self, target: &Target, keyring: &Keyring) {
        let loose: Vec<Certificate> = target
            .certificates
            .iter()
            .filter_map(|path| read_certificate(path))
            .collect();
        for identity in &target.identities {
            let file = match keyring.load(&identity.path).await {
                Ok(file) => file,
                Err(reason) => {
                    if identity.named_by == NamedBy::Operator {
                        self.unusable
                            .push(format!("{} ({reason})", identity.path.display()));
                    }
                    continue;
                }
            };
            if let Some(public) = file.public().cloned() {
                self.add_file(&file, &public, (identity.named_by, &loose));
            } else {
                let path = file.path().display();
                self.unusable.push(format!(
                    "{path} (its public half is needed: add a .pub file)"
                ));
            }
        }
    }

    fn add_file(
        &mut self,
        file: &Arc<KeyFile>,
        public: &PublicKey,
        (named_by, loose): (NamedBy, &[Certificate]),
    ) {
        if self
            .candidates
            .iter()
            .any(|candidate| candidate.public.key_data() == public.key_data())
        {
            return;
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
            self.candidates.push(Candidate {
                public: public.clone(),
                certificate,
                label: format!("{what}{} ({})", fingerprint(public), file.path().display()),
                hand: Hand::File(file.clone()),
                rank: (named_by, effort),
            });
        }
    }

    /// Takes what the agent holds: it signs for the files that it holds the key of, and offers the
    /// rest itself where that is allowed.
    fn add_held(&mut self, target: &Target, held: Listed, from_files: usize) {
        let Listed {
            public,
            certificate,
            comment,
        } = held;
        let mut named_by = None;
        for candidate in &mut self.candidates[..from_files] {
            if candidate.public.key_data() != public.key_data() {
                continue;
            }
            named_by = Some(candidate.rank.0);
            if certificate.is_none() {
                candidate.hand = Hand::Agent(Box::new(AgentIdentity::from(public.clone())));
                candidate.rank.1 = Effort::None;
            }
        }
        let is_covered = named_by.is_some() && certificate.is_none();
        if is_covered || (named_by.is_none() && target.offer == Offer::OnlyIdentities) {
            return;
        }
        let identity = match &certificate {
            Some(certificate) => AgentIdentity::from(certificate.clone()),
            None => AgentIdentity::from(public.clone()),
        };
        self.candidates.push(Candidate {
            label: format!("{} (agent, {comment})", fingerprint(&public)),
            public,
            certificate,
            hand: Hand::Agent(Box::new(identity)),
            rank: (named_by.unwrap_or(NamedBy::Default), Effort::None),
        });
    }

    fn finish(mut self) -> Self {
        let unusable = &mut self.unusable;
        self.candidates.retain(|candidate| match &candidate.hand {
            Hand::File(file) if file.kind() == Kind::PublicOnly => {
                if candidate.rank.0 == NamedBy::Operator && candidate.certificate.is_none() {
                    let path = file.path().display();
                    unusable.push(format!(
                        "{path} (its private half is neither there nor in the agent)"
                    ));
                }
                false
            }
            Hand::File(_) | Hand::Agent(_) => true,
        });
        // A server that wants a certificate often knows no bare key at all.
        self.candidates
            .sort_by_key(|candidate| (candidate.rank, candidate.certificate.is_none()));
        self
    }
}

fn fingerprint(public: &PublicKey) -> String {
    format!(
        "{} {}",
        public.algorithm(),
        public.fingerprint(HashAlg::Sha256)
    )
}

/// Signs, once the server has said that it would take the key.
pub(super) struct Signer<'a> {
    pub(super) hand: &'a Hand,
    pub(super) agent: Option<&'a mut Agent>,
    pub(super) prompt: &'a dyn Prompt,
}

/// Why there is no signature.
#[derive(Debug)]
pub(super) enum SignError {
    /// The connection ended.
    Gone,
    /// The key cannot be used.
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
        _offered: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, Self::Error> {
        match (self.hand, self.agent.as_mut()) {
            (Hand::Agent(identity), Some(agent)) => {
                agent.sign(identity, hash, data).await.map_err(because)
            }
            (Hand::Agent(_), None) => Err(because("the agent is gone".into())),
            (Hand::File(file), _) => {
                let opened = tokio::time::timeout(PERSON_MAX, file.open(self.prompt)).await;
                let key = opened
                    .unwrap_or_else(|_| {
                        Err(Unusable::Because(
                            "its passphrase was not given in time".into(),
                        ))
                    })
                    .map_err(SignError::Unusable)?;
                with_signature(key.key_data(), hash, data).map_err(because)
            }
        }
    }
}

fn because(reason: String) -> SignError {
    SignError::Unusable(Unusable::Because(reason))
}

/// The data and, as one string of RFC 4251, its signature: what the library expects of a signer.
fn with_signature(
    key: &KeypairData,
    hash: Option<HashAlg>,
    mut data: Vec<u8>,
) -> Result<Vec<u8>, String> {
    let signature = match key {
        KeypairData::Rsa(pair) => (pair, hash).try_sign(&data),
        other => other.try_sign(&data),
    };
    let blob = Vec::try_from(signature.map_err(|error| error.to_string())?)
        .map_err(|error| error.to_string())?;
    let length = u32::try_from(blob.len()).map_err(|error| error.to_string())?;
    data.extend(length.to_be_bytes());
    data.extend(blob);
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_push_has_made_waits_for_as_long_as_a_person_may_take() {
        let sshd = include_str!("../../../../../templates/bootstrap/sshd");
        let line = sshd
            .lines()
            .find_map(|line| line.strip_prefix("LoginGraceTime "));
        let grace: u64 = line.unwrap().parse().unwrap();
        assert!(Duration::from_secs(grace) > PERSON_MAX, "{grace} s");
    }
}
