//! How nginx serves an app.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::{Bytes, HeaderName, HeaderValue, HttpPath, RedirectTarget, ServerName, Upstream};
use crate::name::{FileName, HostPath};
use crate::template::{TemplateName, Templated};

/// One nginx server of an app.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// The template that renders it; `nginx/site` unless the operator has their own.
    pub template: TemplateName,
    /// The names it answers to; at least one.
    pub server_names: Vec<Templated<ServerName>>,
    /// Where it listens without TLS.
    pub http: Vec<Listen>,
    /// Where it listens with TLS; empty without `tls`.
    pub https: Vec<Listen>,
    /// Whether it also answers requests for names that no site has.
    pub role: SiteRole,
    /// Its certificate.
    pub tls: Option<Tls>,
    /// What plain HTTP does when there is TLS.
    pub plain_http: PlainHttp,
    /// What is served where. At least one; `/` is among them unless only paths below it are served.
    pub locations: Vec<Location>,
    /// Response headers of every location.
    pub headers: BTreeMap<HeaderName, Templated<HeaderValue>>,
    /// The largest request body.
    pub body_max: Bytes,
    /// The secret whose lines are `name:hash`, as `htpasswd` writes them, for the whole site.
    pub basic_auth: Option<FileName>,
}

/// A place where nginx listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listen {
    /// A port on every address, IPv4 and IPv6.
    Port(u16),
    /// A port on one address.
    Address(SocketAddr),
}

impl Listen {
    /// The TCP port.
    pub fn port(self) -> u16 {
        match self {
            Self::Port(port) => port,
            Self::Address(address) => address.port(),
        }
    }

    /// Whether only the host itself can come in there.
    pub fn is_loopback(self) -> bool {
        match self {
            Self::Port(_) => false,
            Self::Address(address) => address.ip().to_canonical().is_loopback(),
        }
    }

    /// Whether nothing else can listen on the port, whatever its address.
    pub fn is_everywhere(self) -> bool {
        match self {
            Self::Port(_) => true,
            Self::Address(address) => address.ip().is_unspecified(),
        }
    }
}

/// Whether a site answers for names that no site has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteRole {
    /// It answers to its own names.
    Named,
    /// It answers to any name that no other site has.
    Default,
}

/// What plain HTTP does on a site with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainHttp {
    /// It serves the same.
    Serve,
    /// It redirects to HTTPS.
    Redirect,
}

/// Where a certificate and its key come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// They are there.
    Given {
        /// The certificate with its chain, PEM.
        certificate: Pem,
        /// The key, PEM.
        key: Pem,
    },
    /// The authority of `[bootstrap.tls]` gives them.
    Automatic,
}

impl Tls {
    /// The certificate and the key, where they are given.
    pub fn given(&self) -> Option<[&Pem; 2]> {
        match self {
            Self::Given { certificate, key } => Some([certificate, key]),
            Self::Automatic => None,
        }
    }
}

/// Where a PEM file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    /// A secret of this inventory.
    Secret(FileName),
    /// A file that is on the host already.
    Path(HostPath),
}

/// What is served under one path.
#[derive(Debug, Clone, PartialEq)]
pub struct Location {
    /// The path.
    pub path: HttpPath,
    /// Whether the path itself is meant, or everything below it.
    pub matching: Matching,
    /// What is served.
    pub serve: Serve,
    /// Response headers, besides the site's.
    pub headers: BTreeMap<HeaderName, Templated<HeaderValue>>,
    /// The largest request body, if not the site's.
    pub body_max: Option<Bytes>,
    /// Another secret than the site's for basic authentication.
    pub basic_auth: Option<FileName>,
}

/// How a location's path is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Matching {
    /// The path and everything below it.
    Prefix,
    /// This path and no other.
    Exact,
}

/// What a location serves.
#[derive(Debug, Clone, PartialEq)]
pub enum Serve {
    /// Whatever another server answers.
    Proxy {
        /// That server.
        to: Templated<Upstream>,
        /// Whether connections may become websockets.
        websockets: Websockets,
        /// Whether the location's path is taken off before the request is passed on.
        prefix: Prefix,
    },
    /// Files.
    Root {
        /// Their folder; a relative one is inside the release.
        dir: Templated<HostPath>,
        /// What a path without a file gets.
        missing: Missing,
    },
    /// Another address.
    Redirect {
        /// Where to.
        to: Templated<RedirectTarget>,
        /// 301, 302, 307 or 308.
        status: u16,
        /// Whether the path of the request is kept.
        path: RedirectPath,
    },
    /// A fixed answer.
    Return {
        /// The status, 200 to 599.
        status: u16,
        /// The text.
        body: Option<String>,
    },
}

/// Whether connections may become websockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Websockets {
    /// They may.
    Allowed,
    /// They may not.
    Refused,
}

/// What happens to a location's path when a request is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// It stays.
    Keep,
    /// It is taken off.
    Strip,
}

/// What a path without a file gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// Status 404.
    NotFound,
    /// This file instead, as single-page applications want it.
    Fallback(HttpPath),
}

/// What happens to the path of a request that is redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectPath {
    /// It is appended.
    Keep,
    /// It is dropped.
    Drop,
}

impl Site {
    /// The TCP ports that nginx listens on for it, on whatever addresses.
    pub fn ports(&self) -> BTreeSet<u16> {
        let listens = self.http.iter().chain(&self.https);
        listens.map(|listen| listen.port()).collect()
    }

    /// The secrets that nginx reads for this site.
    pub fn secret_names(&self) -> impl Iterator<Item = &FileName> {
        let pems = self.tls.iter().filter_map(Tls::given).flatten();
        let tls = pems.filter_map(|pem| match pem {
            Pem::Secret(name) => Some(name),
            Pem::Path(_) => None,
        });
        let locations = self
            .locations
            .iter()
            .filter_map(|location| location.basic_auth.as_ref());
        tls.chain(self.basic_auth.as_ref()).chain(locations)
    }
}
