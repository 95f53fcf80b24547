//! The operator's ssh-agent.
//!
//! Its list of identities is read here and not by the library, which gives up on the whole list
//! when it does not know one key in it. Every question to the agent has a deadline: agents ask
//! people, and people go for coffee.

use super::keyring::certificate_from;
use crate::visible;
use russh::keys::agent::client::AgentClient;
use russh::keys::agent::{AgentIdentity, AgentSessionBinding};
use russh::keys::key::parse_public_key;
use russh::keys::{Certificate, HashAlg, PublicKey};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// How long the agent may take to answer what needs no person.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long the agent may take to sign: somebody may have to touch a key.
pub(super) const SIGN_MAX: Duration = Duration::from_secs(60);
/// Largest list of identities, in bytes; OpenSSH's own bound.
const LIST_BYTES_MAX: usize = 256 * 1024;
/// How much of a key's comment is shown, in bytes.
const COMMENT_BYTES_MAX: usize = 60;

/// SSH_AGENTC_REQUEST_IDENTITIES.
const REQUEST_IDENTITIES: u8 = 11;
/// SSH_AGENT_IDENTITIES_ANSWER.
const IDENTITIES_ANSWER: u8 = 12;

/// What the agent holds.
pub(super) struct Listed {
    pub(super) public: PublicKey,
    pub(super) certificate: Option<Certificate>,
    pub(super) comment: String,
}

/// An open connection to the agent.
pub(super) struct Agent(AgentClient<UnixStream>);

/// Connects, binds the agent's use to this server, and lists its identities.
pub(super) async fn open(
    socket: &Path,
    binding: Option<&AgentSessionBinding>,
) -> Result<(Agent, Vec<Listed>), String> {
    let ask = async {
        let mut stream = UnixStream::connect(socket)
            .await
            .map_err(|error| error.to_string())?;
        if let Some(binding) = binding {
            // Agents that know no destination constraints refuse this, and then have none to check.
            let _ = AgentClient::connect(&mut stream)
                .bind_session(binding, false)
                .await;
        }
        let answer = request_identities(&mut stream)
            .await
            .map_err(|error| error.to_string())?;
        let listed =
            read_identities(&answer).ok_or_else(|| "its answer makes no sense".to_owned())?;
        Ok((Agent(AgentClient::connect(stream)), listed))
    };
    tokio::time::timeout(ANSWER_MAX, ask)
        .await
        .unwrap_or_else(|_| {
            Err(format!(
                "it did not answer within {}s",
                ANSWER_MAX.as_secs()
            ))
        })
}

impl Agent {
    /// Has the agent sign for a server.
    pub(super) async fn sign(
        &mut self,
        identity: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, String> {
        match tokio::time::timeout(SIGN_MAX, self.0.sign_request(identity, hash, data)).await {
            Ok(Ok(signed)) => Ok(signed),
            Ok(Err(error)) => Err(format!("the agent did not sign: {error}")),
            Err(_) => Err(format!(
                "the agent did not sign within {}s",
                SIGN_MAX.as_secs()
            )),
        }
    }
}

async fn request_identities(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    stream.write_all(&[0, 0, 0, 1, REQUEST_IDENTITIES]).await?;
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length > LIST_BYTES_MAX {
        return Err(std::io::Error::other("its list is too long"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Reads the list, leaving out what cannot be used: a key of a type that is not known must not hide the others.
fn read_identities(answer: &[u8]) -> Option<Vec<Listed>> {
    let (&kind, mut rest) = answer.split_first()?;
    if kind != IDENTITIES_ANSWER {
        return None;
    }
    let count = take_u32(&mut rest)?;
    let mut listed = Vec::new();
    for _ in 0..count {
        let blob = take_string(&mut rest)?;
        let comment = visible::escape(take_string(&mut rest)?, COMMENT_BYTES_MAX);
        if let Some(certificate) = certificate_from(blob) {
            let public = PublicKey::new(certificate.public_key().clone(), "");
            listed.push(Listed {
                public,
                certificate: Some(certificate),
                comment,
            });
        } else if let Ok(public) = parse_public_key(blob) {
            listed.push(Listed {
                public,
                certificate: None,
                comment,
            });
        }
    }
    Some(listed)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_be_bytes(*bytes))
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_u32(rest)?).ok()?;
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        out.extend(bytes);
    }

    fn blob(algorithm: &str, key: &[u8]) -> Vec<u8> {
        let mut blob = Vec::new();
        string(&mut blob, algorithm.as_bytes());
        string(&mut blob, key);
        blob
    }

    fn answer(blobs: &[Vec<u8>]) -> Vec<u8> {
        let mut answer = vec![IDENTITIES_ANSWER];
        answer.extend(u32::try_from(blobs.len()).unwrap().to_be_bytes());
        for blob in blobs {
            string(&mut answer, blob);
            string(&mut answer, b"a \x1b[31m comment");
        }
        answer
    }

    #[test]
    fn a_key_of_an_unknown_type_does_not_hide_the_others() {
        let known = blob("ssh-ed25519", &[7; 32]);
        let listed = read_identities(&answer(&[
            blob("ssh-ed448", &[1; 57]),
            known.clone(),
            vec![0; 3],
        ]))
        .unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].public.to_bytes().unwrap(), known);
        assert_eq!(listed[0].comment, "a \\x1b[31m comment");
    }

    #[test]
    fn a_list_that_lies_about_its_length_is_refused() {
        let mut short = answer(&[blob("ssh-ed25519", &[7; 32])]);
        short[4] = 9;
        assert!(read_identities(&short).is_none());
        assert!(read_identities(&[]).is_none());
        assert!(read_identities(&[5]).is_none());
    }
}
