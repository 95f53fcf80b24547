//! Where hosts and servers are: addresses, ports, networks, host keys.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The longest DNS name, in bytes (RFC 1035, written without the final dot).
pub const DNS_BYTES_MAX: usize = 253;

/// The longest label of a DNS name, in bytes.
pub const LABEL_BYTES_MAX: usize = 63;

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither an IP address nor a DNS name.
    #[error("it is neither an IP address nor a DNS name: {0}")]
    Host(&'static str),
    /// Not `host:port`.
    #[error("it is not host:port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"")]
    Target,
    /// Not a port.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// Not a host key.
    #[error("it is not a host key such as \"ssh-ed25519 AAAA…\": {0}")]
    Key(&'static str),
}

/// Where a host is: an IP address (IPv6 with a zone, if it needs one) or a DNS name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostAddress(String);

impl HostAddress {
    /// The address as text, without brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The IP address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.0.split('%').next()?.parse().ok()
    }
}

impl FromStr for HostAddress {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let ip = match text.split_once('%') {
            Some((address, zone)) => address.parse::<Ipv6Addr>().is_ok() && is_zone(zone),
            None => text.parse::<IpAddr>().is_ok(),
        };
        if !ip {
            dns(text).map_err(AddressError::Host)?;
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a network interface is at most 15 bytes long (`IFNAMSIZ` less the final NUL).
fn is_zone(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
        && !text.starts_with('-')
}

/// Checks a DNS name: labels of letters, digits, `-` and `_`.
pub(super) fn dns(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > DNS_BYTES_MAX {
        return Err("it is longer than 253 bytes");
    }
    if !text.is_ascii() {
        return Err("write an international name in its xn-- form");
    }
    for label in text.split('.') {
        let inside = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if label.is_empty() || label.len() > LABEL_BYTES_MAX {
            return Err("a label between dots has 1 to 63 bytes");
        }
        if !label.bytes().all(inside) || label.starts_with('-') || label.ends_with('-') {
            return Err("a label has letters, digits and '-', not at its ends");
        }
    }
    let last = text.rsplit('.').next().unwrap_or(text);
    if last.bytes().all(|c| c.is_ascii_digit()) {
        return Err("its last label is a number, but it is not an IPv4 address");
    }
    Ok(())
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    };
}
pub(super) use text;

text!(HostAddress);

/// A place that accepts TCP connections: `host:port`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TcpTarget {
    /// The address or name.
    pub host: HostAddress,
    /// The port.
    pub port: u16,
}

impl FromStr for TcpTarget {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once("]:").ok_or(AddressError::Target)?;
                host.parse::<Ipv6Addr>().map_err(|_| AddressError::Target)?;
                (host, port)
            }
            None => text.split_once(':').ok_or(AddressError::Target)?,
        };
        Ok(Self {
            host: host.parse()?,
            port: port_number(port)?,
        })
    }
}

impl fmt::Display for TcpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.as_str().contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Reads a port: decimal digits alone, 1 to 65535.
pub(super) fn port_number(text: &str) -> Result<u16, AddressError> {
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_digit()) {
        return Err(AddressError::Port);
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(AddressError::Port),
        Ok(port) => Ok(port),
    }
}

/// Reads an IP address with a port.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, AddressError> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => Err(AddressError::Target),
    }
}

/// A host's public key as OpenSSH writes it, without its comment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostKey {
    line: String,
    algorithm_bytes: usize,
}

/// The algorithms a pinned host key may have. The others are too weak or need hardware.
const KEY_ALGORITHMS: &[&str] = &[
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
];

/// The longest line of a public key, in bytes; RSA with 16384 bits has about 2800.
const KEY_BYTES_MAX: usize = 8192;

impl HostKey {
    /// The key as `known_hosts` and age recipients write it: `ssh-ed25519 AAAA…`.
    pub fn as_str(&self) -> &str {
        &self.line
    }

    /// `ssh-ed25519` and so on.
    pub fn algorithm(&self) -> &str {
        &self.line[..self.algorithm_bytes]
    }

    /// Whether secrets can be sealed to it.
    pub fn is_recipient(&self) -> bool {
        matches!(self.algorithm(), "ssh-ed25519" | "ssh-rsa")
    }
}

impl FromStr for HostKey {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = |why| Err(AddressError::Key(why));
        if text.len() > KEY_BYTES_MAX || text.chars().any(char::is_control) {
            return wrong("it is not one line of at most 8192 bytes");
        }
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let (Some(algorithm), Some(blob)) = (words.next(), words.next()) else {
            return wrong("it needs an algorithm and a key");
        };
        if !KEY_ALGORITHMS.contains(&algorithm) {
            return wrong(
                "its algorithm is not ssh-ed25519, ssh-rsa or ecdsa-sha2-nistp256/384/521",
            );
        }
        let Ok(bytes) = STANDARD.decode(blob) else {
            return wrong("the key is not base64");
        };
        let named = u32::try_from(algorithm.len()).unwrap_or(0).to_be_bytes();
        let head = [named.as_slice(), algorithm.as_bytes()].concat();
        if !bytes.starts_with(&head) || bytes.len() < head.len() + 32 {
            return wrong("the key is cut short, or is of another algorithm than it says");
        }
        Ok(Self {
            line: format!("{algorithm} {blob}"),
            algorithm_bytes: algorithm.len(),
        })
    }
}

text!(HostKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_cannot_be_an_option_or_a_command() {
        for hostile in [
            "",
            "-oProxyCommand=x",
            "host;id",
            "$(id)",
            "a b",
            "a\n",
            "еxample.com",
            "a..b",
            "1.2.3.4.5",
            "fe80::1%-x",
            "fe80::1%a/b",
            "300.1.1.1",
            "[::1]",
            "a:22",
        ] {
            assert!(hostile.parse::<HostAddress>().is_err(), "{hostile:?}");
        }
        assert!("a".repeat(300).parse::<HostAddress>().is_err());
        for good in [
            "203.0.113.10",
            "2001:db8::1",
            "fe80::1%eth0",
            "web1.example.com",
            "web1",
        ] {
            assert!(good.parse::<HostAddress>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_host_key_is_what_its_first_word_says() {
        let good = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJLGgqmjsM0vvbVIgRVNDYHYEqFnVVqL2Ju46oDtJJ2f me@here";
        let key: HostKey = good.parse().unwrap();
        assert_eq!(key.algorithm(), "ssh-ed25519");
        assert!(!key.as_str().ends_with("here"));
        for wrong in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 ???",
            "ssh-dss AAAA",
            "ssh-ed25519 AAAA",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIJLGgqmjsM0vvbVIgRVNDYHYEqFnVVqL2Ju46oDtJJ2f",
        ] {
            assert!(wrong.parse::<HostKey>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_target_has_a_port() {
        assert_eq!(
            "[::1]:80".parse::<TcpTarget>().map(|t| t.to_string()),
            Ok("[::1]:80".to_owned())
        );
        for wrong in ["127.0.0.1", ":80", "a:0", "a:65536", "a:+1", "::1:80", "a:"] {
            assert!(wrong.parse::<TcpTarget>().is_err(), "{wrong:?}");
        }
    }
}
