//! What known_hosts files say about a host key, decided as OpenSSH decides it (sshd(8),
//! "SSH_KNOWN_HOSTS FILE FORMAT"; `hostfile.c`), from text alone.
//!
//! Pure: it reads no file, opens no connection and asks nobody. It must not know what happens
//! after a verdict. A new rule of OpenSSH becomes a row in the tests and a branch in
//! [`Knowledge::judge`].
//!
//! A line that cannot be read is skipped, never an error: one broken line of somebody else's
//! must not stop a push. A verdict that is not [`Verdict::Known`] or [`Verdict::Certified`] stops it.

use super::host_key::HostKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use std::path::{Path, PathBuf};

/// The port that known_hosts lines leave out.
const STANDARD_PORT: u16 = 22;

/// The name under which a host is looked up.
#[derive(Debug, Clone, Copy)]
pub struct Lookup<'a> {
    /// The address that is connected to, as the operator wrote it.
    pub address: &'a str,
    /// The port that is connected to.
    pub port: u16,
    /// `HostKeyAlias`: stands for address and port together.
    pub alias: Option<&'a str>,
}

impl Lookup<'_> {
    /// The name in the file: `host`, or `[host]:port` where the port is not the usual one.
    pub fn name(&self) -> String {
        match self.alias {
            Some(alias) => alias.to_lowercase(),
            None if self.port == STANDARD_PORT => self.address.to_lowercase(),
            None => format!("[{}]:{}", self.address.to_lowercase(), self.port),
        }
    }

    /// The name that a certificate must be for; certificates have no ports.
    fn principal(&self) -> String {
        self.alias.unwrap_or(self.address).to_lowercase()
    }

    /// OpenSSH also believes a key that is known for the bare name when nothing is known with the port.
    fn name_without_port(&self) -> Option<String> {
        (self.alias.is_none() && self.port != STANDARD_PORT).then(|| self.address.to_lowercase())
    }
}

/// What the `@marker` at the start of a line makes of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    Host,
    Authority,
    Revoked,
}

/// A key and the line that it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// The key.
    pub key: HostKey,
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1, comments included.
    pub line: usize,
}

/// Everything that the files say about one host.
#[derive(Debug, Clone)]
pub struct Knowledge {
    principal: String,
    named: Vec<(Marker, KnownKey)>,
    without_port: Vec<(Marker, KnownKey)>,
}

/// What a host has proved to hold.
#[derive(Debug, Clone)]
pub enum Offered {
    /// A bare key.
    Key(HostKey),
    /// A certificate.
    Certificate(HostCertificate),
}

/// A host certificate, taken apart. Whether its signature holds has been computed already.
#[derive(Debug, Clone)]
pub struct HostCertificate {
    /// The key inside, which signed the key exchange.
    pub key: HostKey,
    /// The key that signed the certificate.
    pub authority: HostKey,
    /// Host or user: a user certificate proves nothing about a host.
    pub kind: CertificateKind,
    /// The signer's name for it.
    pub key_id: String,
    /// The names that it is for.
    pub principals: Vec<String>,
    /// Seconds since 1970 from which it holds.
    pub valid_after: u64,
    /// Seconds since 1970 from which it holds no more.
    pub valid_before: u64,
    /// Names of options that must be understood; none is defined for hosts.
    pub critical_options: Vec<String>,
    /// Whether the authority's signature verifies.
    pub signature: Signature,
}

/// What a certificate was issued for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateKind {
    /// `ssh-keygen -h`.
    Host,
    /// A person's.
    User,
}

/// Whether a certificate's signature verifies under an algorithm that is still safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// It does.
    Valid,
    /// It does not, or it is made with SHA-1.
    Invalid,
}

/// What is to be thought of an offered key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The very key stands in this line.
    Known {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
    },
    /// A believed authority signed for this host.
    Certified {
        /// Fingerprint of the authority's key.
        authority: String,
        /// The certificate's key id.
        key_id: String,
    },
    /// Nothing is known about the name. `certificate` says why an offered certificate did not help.
    Unknown {
        /// The reason, a clause.
        certificate: Option<String>,
    },
    /// Only keys of other types are known: not proof of an attack, and never silently accepted.
    OtherTypes {
        /// Those keys.
        known: Vec<KnownKey>,
    },
    /// A different key of the same type is known.
    Changed {
        /// The keys that would have been right.
        expected: Vec<KnownKey>,
    },
    /// The key, or the authority that signed it, is marked `@revoked`.
    Revoked {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
    },
}

impl Knowledge {
    /// Collects what `files` (path and content, in order of preference) say about `lookup`.
    pub fn collect(lookup: Lookup<'_>, files: &[(PathBuf, Vec<u8>)]) -> Self {
        Self::collect_lines(lookup, files, |_| true)
    }

    /// Collects only which keys `files` say are revoked: all that counts beside a key that is pinned.
    pub fn revocations(lookup: Lookup<'_>, files: &[(PathBuf, Vec<u8>)]) -> Self {
        Self::collect_lines(lookup, files, |line| {
            line.trim_ascii_start().starts_with(b"@revoked")
        })
    }

    fn collect_lines(
        lookup: Lookup<'_>,
        files: &[(PathBuf, Vec<u8>)],
        counts: fn(&[u8]) -> bool,
    ) -> Self {
        let about = |name: &str| {
            files
                .iter()
                .flat_map(|(file, text)| lines_about(name, file, text, counts))
                .collect()
        };
        Self {
            principal: lookup.principal(),
            named: about(&lookup.name()),
            without_port: lookup
                .name_without_port()
                .map(|name| about(&name))
                .unwrap_or_default(),
        }
    }

    /// The algorithms of the keys that are known, without repeats: they are asked for first, else a
    /// host with several keys would show one that is not known.
    pub fn algorithms(&self) -> Vec<String> {
        let entries = if self.named.is_empty() {
            &self.without_port
        } else {
            &self.named
        };
        let mut found: Vec<String> = Vec::new();
        for (_, known) in entries.iter().filter(|(marker, _)| *marker == Marker::Host) {
            if !found.iter().any(|name| name == known.key.algorithm()) {
                found.push(known.key.algorithm().to_owned());
            }
        }
        found
    }

    /// Whether a certificate could help: a `@cert-authority` line is for this host.
    pub fn has_authority(&self) -> bool {
        self.named
            .iter()
            .chain(&self.without_port)
            .any(|(marker, _)| *marker == Marker::Authority)
    }

    /// Decides about what a host offered at `now` (seconds since 1970).
    pub fn judge(&self, offered: &Offered, now: u64) -> Verdict {
        if let Some(known) = self.revoked(offered) {
            return Verdict::Revoked {
                file: known.file.clone(),
                line: known.line,
            };
        }
        let mut fault = None;
        if let Offered::Certificate(certificate) = offered {
            match self.certified(certificate, now) {
                Ok(verdict) => return verdict,
                // As OpenSSH does: the key inside may still be known for itself.
                Err(reason) => fault = Some(reason),
            }
        }
        let key = match offered {
            Offered::Key(key) => key,
            Offered::Certificate(certificate) => &certificate.key,
        };
        match judge_key(&self.named, key) {
            Verdict::Unknown { .. } => match judge_key(&self.without_port, key) {
                known @ Verdict::Known { .. } => known,
                Verdict::Certified { .. }
                | Verdict::Unknown { .. }
                | Verdict::OtherTypes { .. }
                | Verdict::Changed { .. }
                | Verdict::Revoked { .. } => Verdict::Unknown { certificate: fault },
            },
            verdict => verdict,
        }
    }

    /// The line that revokes the key, or the authority that signed it.
    pub fn revoked(&self, offered: &Offered) -> Option<&KnownKey> {
        let is_meant = |key: &HostKey| match offered {
            Offered::Key(offered) => key == offered,
            Offered::Certificate(offered) => *key == offered.key || *key == offered.authority,
        };
        self.named
            .iter()
            .chain(&self.without_port)
            .find(|(marker, known)| *marker == Marker::Revoked && is_meant(&known.key))
            .map(|(_, known)| known)
    }

    fn certified(&self, certificate: &HostCertificate, now: u64) -> Result<Verdict, String> {
        let is_believed = self
            .named
            .iter()
            .chain(&self.without_port)
            .any(|(marker, known)| {
                *marker == Marker::Authority && known.key == certificate.authority
            });
        if !is_believed {
            return Err(
                "its certificate is signed by an authority that no @cert-authority line names"
                    .into(),
            );
        }
        if certificate.signature == Signature::Invalid {
            return Err("the signature of its certificate does not hold, or uses SHA-1".into());
        }
        if certificate.kind != CertificateKind::Host {
            return Err("its certificate is a person's, not a host's".into());
        }
        if !(certificate.valid_after..certificate.valid_before).contains(&now) {
            return Err("its certificate is not valid at this time".into());
        }
        if !certificate.critical_options.is_empty() {
            return Err("its certificate demands an option that hosts do not have".into());
        }
        // An empty list matches nothing, as in OpenSSH since 10.3: a certificate for every name is a mistake.
        let is_named = certificate.principals.iter().any(|principal| {
            matches_pattern(
                principal.to_lowercase().as_bytes(),
                self.principal.as_bytes(),
            )
        });
        if !is_named {
            return Err(format!(
                "its certificate is not for the name {}",
                self.principal
            ));
        }
        Ok(Verdict::Certified {
            authority: certificate.authority.fingerprint(),
            key_id: certificate.key_id.clone(),
        })
    }
}

fn judge_key(entries: &[(Marker, KnownKey)], key: &HostKey) -> Verdict {
    let known: Vec<&KnownKey> = entries
        .iter()
        .filter(|(marker, _)| *marker == Marker::Host)
        .map(|(_, known)| known)
        .collect();
    if let Some(same) = known.iter().find(|known| known.key == *key) {
        return Verdict::Known {
            file: same.file.clone(),
            line: same.line,
        };
    }
    let (same_type, other_types): (Vec<&KnownKey>, Vec<&KnownKey>) = known
        .into_iter()
        .partition(|known| known.key.algorithm() == key.algorithm());
    if !same_type.is_empty() {
        return Verdict::Changed {
            expected: same_type.into_iter().cloned().collect(),
        };
    }
    if !other_types.is_empty() {
        return Verdict::OtherTypes {
            known: other_types.into_iter().cloned().collect(),
        };
    }
    Verdict::Unknown { certificate: None }
}

fn lines_about(
    name: &str,
    file: &Path,
    text: &[u8],
    counts: fn(&[u8]) -> bool,
) -> Vec<(Marker, KnownKey)> {
    text.split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| counts(line))
        .filter_map(|(index, line)| {
            let (marker, key) = line_about(name, std::str::from_utf8(line).ok()?)?;
            Some((
                marker,
                KnownKey {
                    key,
                    file: file.to_owned(),
                    line: index + 1,
                },
            ))
        })
        .collect()
}

fn line_about(name: &str, line: &str) -> Option<(Marker, HostKey)> {
    let is_blank = [' ', '\t', '\r'];
    let line = line.trim_matches(is_blank);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (first, rest) = line.split_once(is_blank)?;
    let (marker, hosts, key) = match first {
        "@cert-authority" | "@revoked" => {
            let (hosts, key) = rest.trim_start_matches(is_blank).split_once(is_blank)?;
            let marker = if first == "@revoked" {
                Marker::Revoked
            } else {
                Marker::Authority
            };
            (marker, hosts, key)
        }
        _ if first.starts_with('@') => return None,
        hosts => (Marker::Host, hosts, rest),
    };
    // Hosts first: decoding every key of a long file costs more than comparing its names.
    if !is_listed(name, hosts) {
        return None;
    }
    Some((marker, HostKey::parse(key)?))
}

/// Whether `name` (in lower case) is meant by the first field of a line.
fn is_listed(name: &str, hosts: &str) -> bool {
    if hosts.starts_with('|') {
        return is_hash_of(name, hosts).unwrap_or(false);
    }
    let mut is_meant = false;
    for pattern in hosts.split(',') {
        let (negated, pattern) = match pattern.strip_prefix('!') {
            Some(pattern) => (true, pattern),
            None => (false, pattern),
        };
        if matches_pattern(pattern.to_lowercase().as_bytes(), name.as_bytes()) {
            if negated {
                return false;
            }
            is_meant = true;
        }
    }
    is_meant
}

/// `|1|salt|hash`: HMAC-SHA1 of the name under the salt, both in base64.
fn is_hash_of(name: &str, field: &str) -> Option<bool> {
    let (salt, hash) = field.strip_prefix("|1|")?.split_once('|')?;
    let mut mac = Hmac::<Sha1>::new_from_slice(&STANDARD.decode(salt).ok()?).ok()?;
    mac.update(name.as_bytes());
    Some(mac.verify_slice(&STANDARD.decode(hash).ok()?).is_ok())
}

/// `*` and `?` as in ssh_config(5), "PATTERNS". Linear in the pattern for each star: no pattern is slow.
fn matches_pattern(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while at_text < text.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                last_star = Some((at_pattern, at_text));
                at_pattern += 1;
            }
            Some(wanted) if *wanted == b'?' || *wanted == text[at_text] => {
                at_pattern += 1;
                at_text += 1;
            }
            _ => match last_star {
                Some((star, taken)) => {
                    last_star = Some((star, taken + 1));
                    at_pattern = star + 1;
                    at_text = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at_pattern..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
#[path = "known_hosts_tests.rs"]
mod tests;
