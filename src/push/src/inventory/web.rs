//! What HTTP and nginx need: URLs, names of servers, headers, statuses.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::HostAddress;
use super::address::{dns, port_number, text};
use crate::name::HostPath;

/// The longest URL or path of one, in bytes.
pub const URL_BYTES_MAX: usize = 2000;

/// The longest header value, in bytes.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Why a text cannot stand where the web needs it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// Not a URL.
    #[error("it is not a URL such as \"http://127.0.0.1:8080/health\": {0}")]
    Url(&'static str),
    /// Not a path of a URL.
    #[error("it is not a path such as \"/api/\": {0}")]
    Path(&'static str),
    /// Not a name of a server.
    #[error("it is not a server name such as \"www.example.com\", \"*.example.com\" or \"_\": {0}")]
    ServerName(&'static str),
    /// Not a name of a header.
    #[error("it is not a header name such as \"X-Frame-Options\"")]
    HeaderName,
    /// Not a header value.
    #[error("a header value is one line of at most 65536 bytes without control characters")]
    HeaderValue,
    /// Not a status.
    #[error("it is not a status such as 200, a range such as \"200-299\", or a list of them")]
    Status,
}

/// A plain HTTP URL of a server that the host itself can reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpUrl {
    /// The address or name.
    pub host: HostAddress,
    /// The port; 80 unless written.
    pub port: u16,
    /// The path with its query; `/` unless written.
    pub path: HttpPath,
}

impl FromStr for HttpUrl {
    type Err = WebError;
    fn from_str(text: &str) -> Result<Self, WebError> {
        let rest = text
            .strip_prefix("http://")
            .ok_or(WebError::Url("it does not start with http://"))?;
        let (host, port, path) = authority(rest)?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self {
            host,
            port: port.unwrap_or(80),
            path: path.parse()?,
        })
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "http://{}:{}{}",
            Bracketed(&self.host),
            self.port,
            self.path
        )
    }
}

/// Splits `host:port/path`.
fn authority(text: &str) -> Result<(HostAddress, Option<u16>, &str), WebError> {
    if text.len() > URL_BYTES_MAX {
        return Err(WebError::Url("it is longer than 2000 bytes"));
    }
    let end = text.find(['/', '?', '#']).unwrap_or(text.len());
    let (authority, path) = text.split_at(end);
    if authority.contains('@') {
        return Err(WebError::Url(
            "a user or password cannot stand in it; use a secret",
        ));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest
                .split_once(']')
                .ok_or(WebError::Url("a bracket is missing"))?;
            host.parse::<Ipv6Addr>()
                .map_err(|_| WebError::Url("in brackets stands an IPv6 address"))?;
            match (port, port.strip_prefix(':')) {
                ("", _) => (host, None),
                (_, Some(port)) => (host, Some(port)),
                (_, None) => return Err(WebError::Url("after the bracket stands a port")),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let host = host
        .parse()
        .map_err(|_| WebError::Url("its host is neither an address nor a name"))?;
    let port = port
        .map(port_number)
        .transpose()
        .map_err(|_| WebError::Url("its port is not a number from 1 to 65535"))?;
    Ok((host, port, path))
}

struct Bracketed<'a>(&'a HostAddress);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.as_str().contains(':') {
            write!(f, "[{}]", self.0)
        } else {
            self.0.fmt(f)
        }
    }
}

/// The path of a URL with its query: starts with `/`, holds what RFC 3986 lets stand there and
/// nothing that nginx would read as a variable or the end of a word.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpPath(String);

impl HttpPath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HttpPath {
    type Err = WebError;
    fn from_str(text: &str) -> Result<Self, WebError> {
        if text.len() > URL_BYTES_MAX {
            return Err(WebError::Path("it is longer than 2000 bytes"));
        }
        if !text.starts_with('/') {
            return Err(WebError::Path("it does not start with '/'"));
        }
        match uri(text) {
            Ok(()) => Ok(Self(text.to_owned())),
            Err(why) => Err(WebError::Path(why)),
        }
    }
}

text!(HttpPath);

fn uri(text: &str) -> Result<(), &'static str> {
    let stands = |c: u8| c.is_ascii_alphanumeric() || b"-._~!&()*+,=:@/?%".contains(&c);
    if !text.bytes().all(stands) {
        return Err("write anything but letters, digits and -._~!&()*+,=:@/? as %XX");
    }
    let escaped = text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    });
    if escaped {
        Ok(())
    } else {
        Err("after '%' stand two hexadecimal digits")
    }
}

/// The server behind a proxying location.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Upstream {
    /// Another HTTP server.
    Tcp {
        /// `http` or `https`.
        scheme: Scheme,
        /// The address or name.
        host: HostAddress,
        /// The port; 80 or 443 unless written.
        port: u16,
        /// The path that replaces the location's; none keeps the request's as it is.
        path: Option<HttpPath>,
    },
    /// A socket in the file system: `http://unix:/run/api.sock`.
    Unix {
        /// The socket.
        socket: HostPath,
    },
}

/// How a proxied server is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Upstream {
    /// The TCP port, if it is on this host itself.
    pub fn local_port(&self) -> Option<u16> {
        match self {
            Self::Tcp { host, port, .. } if is_loopback(host) => Some(*port),
            Self::Tcp { .. } | Self::Unix { .. } => None,
        }
    }
}

/// Whether an address is the host itself.
pub(super) fn is_loopback(host: &HostAddress) -> bool {
    host.as_str() == "localhost" || host.ip().is_some_and(|ip| ip.is_loopback())
}

impl FromStr for Upstream {
    type Err = WebError;
    fn from_str(text: &str) -> Result<Self, WebError> {
        if let Some(socket) = text.strip_prefix("http://unix:") {
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            return match socket.parse() {
                Ok(path) if socket.chars().all(plain) => Ok(Self::Unix { socket: path }),
                _ => Err(WebError::Url(
                    "after unix: stands an absolute path of letters, digits and /._-",
                )),
            };
        }
        let (scheme, standard, rest) =
            match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
                (Some(rest), _) => (Scheme::Http, 80, rest),
                (_, Some(rest)) => (Scheme::Https, 443, rest),
                (None, None) => {
                    return Err(WebError::Url("it does not start with http:// or https://"));
                }
            };
        let (host, port, path) = authority(rest)?;
        let path = match path {
            "" => None,
            path => Some(path.parse()?),
        };
        Ok(Self::Tcp {
            scheme,
            host,
            port: port.unwrap_or(standard),
            path,
        })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { socket } => write!(f, "http://unix:{socket}"),
            Self::Tcp {
                scheme,
                host,
                port,
                path,
            } => {
                let scheme = match scheme {
                    Scheme::Http => "http",
                    Scheme::Https => "https",
                };
                let path = path.as_ref().map_or("", HttpPath::as_str);
                write!(f, "{scheme}://{}:{port}{path}", Bracketed(host))
            }
        }
    }
}

/// Where a redirect leads: an absolute URL or a path.
#[derive(Clone, PartialEq, Eq)]
pub struct RedirectTarget(String);

impl RedirectTarget {
    /// The target.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RedirectTarget {
    type Err = WebError;
    fn from_str(text: &str) -> Result<Self, WebError> {
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        match rest {
            Some(rest) => {
                let (_, _, path) = authority(rest)?;
                let fragment = |c| if c == '#' { '?' } else { c };
                uri(&path.chars().map(fragment).collect::<String>()).map_err(WebError::Url)?;
            }
            // Two slashes would lead to another site.
            None if text.starts_with("//") => {
                return Err(WebError::Url("name the scheme: https://…"));
            }
            None => drop(text.parse::<HttpPath>()?),
        }
        Ok(Self(text.to_owned()))
    }
}

text!(RedirectTarget);

/// A name that nginx answers to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(String);

impl ServerName {
    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerName {
    type Err = WebError;
    fn from_str(text: &str) -> Result<Self, WebError> {
        if text == "_" || text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) {
            return Ok(Self(text.to_owned()));
        }
        dns(text.strip_prefix("*.").unwrap_or(text)).map_err(WebError::ServerName)?;
        Ok(Self(text.to_ascii_lowercase()))
    }
}

text!(ServerName);

/// The name of an HTTP header.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(String);

impl HeaderName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both name one header: clients read names without case (RFC 9110, 5.1).
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl FromStr for HeaderName {
    type Err = WebError;
    fn from_str(text: &str) -> Result<Self, WebError> {
        let inside = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if (1..=64).contains(&text.len()) && text.bytes().all(inside) {
            Ok(Self(text.to_owned()))
        } else {
            Err(WebError::HeaderName)
        }
    }
}

text!(HeaderName);

/// The value of an HTTP header.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderValue(String);

impl HeaderValue {
    /// The value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderValue {
    type Err = WebError;
    fn from_str(text: &str) -> Result<Self, WebError> {
        if text.len() <= HEADER_BYTES_MAX && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(WebError::HeaderValue)
        }
    }
}

text!(HeaderValue);

/// The HTTP statuses that pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet(BTreeSet<(u16, u16)>);

impl StatusSet {
    /// 200 to 299.
    pub fn success() -> Self {
        Self([(200, 299)].into())
    }

    /// The ranges, first and last status each.
    pub fn ranges(&self) -> impl Iterator<Item = (u16, u16)> {
        self.0.iter().copied()
    }

    /// Whether a status passes.
    pub fn contains(&self, status: u16) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl FromIterator<(u16, u16)> for StatusSet {
    fn from_iter<T: IntoIterator<Item = (u16, u16)>>(ranges: T) -> Self {
        Self(ranges.into_iter().collect())
    }
}

/// Reads `200` or `200-299`.
pub(super) fn status_range(text: &str) -> Result<(u16, u16), WebError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |digits: &str| match port_number(digits) {
        Ok(status @ 100..=599) => Ok(status),
        Ok(_) | Err(_) => Err(WebError::Status),
    };
    let (first, last) = (status(first)?, status(last)?);
    if first <= last {
        Ok((first, last))
    } else {
        Err(WebError::Status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_holds_nothing_that_ends_a_word_of_nginx() {
        for hostile in [
            "",
            "127.0.0.1:80",
            "https://a",
            "http://",
            "http://a b",
            "http://a/;x",
            "http://a/}",
            "http://a/$host",
            "http://a/\n",
            "http://a/\"",
            "http://a/%0",
            "http://a/%zz",
            "http://u:p@a/",
            "http://a:0/",
            "http://[::1",
            "http://-a/",
            "http://a/é",
            "http://a/#x",
            "file:///etc/passwd",
        ] {
            assert!(hostile.parse::<HttpUrl>().is_err(), "{hostile:?}");
        }
        let url: HttpUrl = "http://[::1]:8080/health?x=1".parse().unwrap();
        assert_eq!(url.to_string(), "http://[::1]:8080/health?x=1");
    }

    #[test]
    fn an_upstream_keeps_whether_a_path_was_written() {
        let with: Upstream = "http://127.0.0.1:8080/".parse().unwrap();
        let without: Upstream = "http://127.0.0.1:8080".parse().unwrap();
        assert_ne!(with, without);
        assert_eq!(without.local_port(), Some(8080));
        assert!("http://unix:/run/a.sock".parse::<Upstream>().is_ok());
        for hostile in [
            "http://unix:/run/a;b",
            "http://unix:run",
            "http://$host",
            "http://a:80/;",
        ] {
            assert!(hostile.parse::<Upstream>().is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn a_server_name_is_a_name_and_no_expression() {
        for hostile in [
            "",
            "~^x",
            "a b",
            "a;b",
            "a}",
            "$host",
            "*.",
            "a.*",
            "*.*.a",
            "é.example",
        ] {
            assert!(hostile.parse::<ServerName>().is_err(), "{hostile:?}");
        }
        for good in ["example.com", "*.example.com", "_", "10.0.0.1", "localhost"] {
            assert!(good.parse::<ServerName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_header_is_one_line() {
        assert!("a\r\nSet-Cookie: x".parse::<HeaderValue>().is_err());
        assert!("X\r\nY".parse::<HeaderName>().is_err());
        assert!("X Y".parse::<HeaderName>().is_err());
        assert!(
            "max-age=63072000; includeSubDomains"
                .parse::<HeaderValue>()
                .is_ok()
        );
    }

    #[test]
    fn a_redirect_leads_to_a_url_or_a_path() {
        for good in ["https://example.com", "/new", "https://example.com/a#b"] {
            assert!(good.parse::<RedirectTarget>().is_ok(), "{good:?}");
        }
        for hostile in [
            "//evil.example",
            "javascript:x",
            "https://a/;",
            "x",
            "https://a/\r\n",
        ] {
            assert!(hostile.parse::<RedirectTarget>().is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn statuses_come_as_numbers_and_ranges() {
        assert_eq!(status_range("200"), Ok((200, 200)));
        assert_eq!(status_range("200-204"), Ok((200, 204)));
        for wrong in ["", "99", "600", "300-200", "2xx", "-200"] {
            assert!(status_range(wrong).is_err(), "{wrong:?}");
        }
    }
}
