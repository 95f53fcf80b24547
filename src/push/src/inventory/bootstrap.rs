//! What a fresh machine is made into before anything is pushed to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use push_wire::certificate::{Endpoint, Mailbox};
use push_wire::groundwork::{Locale, PackageName, TimeZone};

use super::Bytes;
use crate::name::HostName;

/// What `push bootstrap` makes of a host, besides the login that the inventory names for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The hosts that have it.
    pub on: BTreeSet<HostName>,
    /// Who may log in; never empty.
    pub keys: BTreeSet<LoginKey>,
    /// Packages besides those that push needs.
    pub packages: BTreeSet<PackageName>,
    /// Whether the host calls itself what the inventory calls it.
    pub hostname: Care,
    /// The zone of local time.
    pub time_zone: TimeZone,
    /// The language of programs.
    pub locale: Locale,
    /// The size of a swap file, where there is no swap.
    pub swap: Option<Bytes>,
    /// Parameters of the kernel; those of the inventory have won over push's own.
    pub sysctl: BTreeMap<ParameterName, ParameterValue>,
    /// The most that the system's log keeps on disk.
    pub journal_max: Bytes,
    /// Whether security upgrades install themselves.
    pub upgrades: Care,
    /// Whether sshd lets in by key alone.
    pub sshd: Care,
    /// Whether everything is dropped that is not let in.
    pub firewall: Care,
    /// Who gives certificates to the sites that want one.
    pub tls: Option<Authority>,
}

/// An authority that gives certificates over ACME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Its directory.
    pub endpoint: Endpoint,
    /// Whom it writes to.
    pub email: Mailbox,
    /// The file by which hosts believe that it is itself, relative to the project's folder; `None`
    /// leaves that to whom the system believes.
    pub vouchers: Option<PathBuf>,
}

/// What an inventory calls the directories of Let's Encrypt.
pub const ENDPOINTS: &[(&str, &str)] = &[
    (
        "production",
        "https://acme-v02.api.letsencrypt.org/directory",
    ),
    (
        "staging",
        "https://acme-staging-v02.api.letsencrypt.org/directory",
    ),
];

/// Whether push takes care of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// It is as push makes it.
    Taken,
    /// It stays as it is.
    Left,
}

impl Care {
    /// Whether push takes care of it.
    pub fn is_taken(self) -> bool {
        self == Self::Taken
    }
}

/// Parameters that are safe on any server that is no router: no redirects, no peeping into the kernel.
pub const PARAMETERS: &[(&str, &str)] = &[
    ("fs.protected_hardlinks", "1"),
    ("fs.protected_symlinks", "1"),
    ("kernel.dmesg_restrict", "1"),
    ("kernel.kptr_restrict", "1"),
    ("net.ipv4.conf.all.accept_redirects", "0"),
    ("net.ipv4.conf.all.send_redirects", "0"),
    ("net.ipv4.conf.default.accept_redirects", "0"),
    ("net.ipv4.conf.default.send_redirects", "0"),
    ("net.ipv4.tcp_syncookies", "1"),
    ("net.ipv6.conf.all.accept_redirects", "0"),
    ("net.ipv6.conf.default.accept_redirects", "0"),
];

/// The algorithms of keys that people log in with; `sk-` ones need a token to be touched.
const KEY_ALGORITHMS: &[&str] = &[
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// The longest line of a key, in bytes.
const KEY_BYTES_MAX: usize = 8192;

/// The longest name or value of a parameter, in bytes.
const PARAMETER_BYTES_MAX: usize = 256;

/// Why a text is none of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BootstrapError(&'static str);

/// A public key that lets somebody in, with its comment: one line of authorized_keys(5) without options.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoginKey(String);

impl LoginKey {
    /// The line.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LoginKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl FromStr for LoginKey {
    type Err = BootstrapError;
    fn from_str(text: &str) -> Result<Self, BootstrapError> {
        if text.len() > KEY_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(BootstrapError("it is not one line of at most 8192 bytes"));
        }
        if text.contains("PRIVATE KEY") {
            return Err(BootstrapError(
                "it is a private key; the public one is in the file that ends in .pub",
            ));
        }
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let (Some(algorithm), Some(blob)) = (words.next(), words.next()) else {
            return Err(BootstrapError(
                "it needs an algorithm and a key, as ~/.ssh/id_ed25519.pub has them",
            ));
        };
        if !KEY_ALGORITHMS.contains(&algorithm) {
            return Err(BootstrapError(
                "its algorithm is none that sshd takes from people; options before it are not supported",
            ));
        }
        let named = u32::try_from(algorithm.len()).unwrap_or(0).to_be_bytes();
        let head = [named.as_slice(), algorithm.as_bytes()].concat();
        let whole = STANDARD
            .decode(blob)
            .is_ok_and(|bytes| bytes.starts_with(&head) && bytes.len() >= head.len() + 32);
        if !whole {
            return Err(BootstrapError(
                "the key is cut short, or is of another algorithm than it says",
            ));
        }
        let comment: Vec<&str> = words.collect();
        let line = [algorithm, blob, &comment.join(" ")].join(" ");
        Ok(Self(line.trim_end().to_owned()))
    }
}

push_wire::checked_text!(
    /// The name of a parameter of the kernel, as sysctl.d(5) writes it.
    ParameterName,
    BootstrapError,
    |text| {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-/".contains(&c);
        let fits = text.len() <= PARAMETER_BYTES_MAX
            && text.bytes().all(plain)
            && text.bytes().next().is_some_and(|c| c.is_ascii_lowercase())
            && !text.contains("..");
        fits.then_some(()).ok_or(BootstrapError(
            "it is no parameter of the kernel such as net.core.somaxconn",
        ))
    }
);
push_wire::checked_text!(
    /// The value of a parameter of the kernel: one line.
    ParameterValue,
    BootstrapError,
    |text| {
        let fits = !text.trim().is_empty()
            && text.len() <= PARAMETER_BYTES_MAX
            && text.bytes().all(|c| c.is_ascii_graphic() || c == b' ');
        fits.then_some(()).ok_or(BootstrapError(
            "it is not one line of printable ASCII, 256 bytes at most",
        ))
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJLGgqmjsM0vvbVIgRVNDYHYEqFnVVqL2Ju46oDtJJ2f";

    #[test]
    fn a_login_key_is_one_plain_line_and_never_a_private_one() {
        let key: LoginKey = format!("{KEY}   ada  at laptop").parse().unwrap();
        assert_eq!(key.as_str(), format!("{KEY} ada at laptop"));
        for hostile in [
            String::new(),
            "ssh-ed25519".to_owned(),
            format!("command=\"id\" {KEY}"),
            format!("{KEY}\nssh-rsa AAAA"),
            "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(),
            "ssh-ed25519 AAAA".to_owned(),
            "ssh-dss AAAAB3NzaC1kc3MAAACBAP".to_owned(),
            format!("restrict,{KEY}"),
        ] {
            assert!(hostile.parse::<LoginKey>().is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn a_parameter_is_one_line_of_its_own() {
        for hostile in ["", "a b", "a=b", "-net.x", "net..x", "#x", "net.x\n"] {
            assert!(hostile.parse::<ParameterName>().is_err(), "{hostile:?}");
        }
        for hostile in ["", " ", "1\nkernel.x = 1", "é"] {
            assert!(hostile.parse::<ParameterValue>().is_err(), "{hostile:?}");
        }
        assert!(
            "net.ipv4.conf.eth0/1.rp_filter"
                .parse::<ParameterName>()
                .is_ok()
        );
        assert!("4096 87380 6291456".parse::<ParameterValue>().is_ok());
        for (name, value) in PARAMETERS {
            assert!(
                name.parse::<ParameterName>().is_ok() && value.parse::<ParameterValue>().is_ok()
            );
        }
    }
}
