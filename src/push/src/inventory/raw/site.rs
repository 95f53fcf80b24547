//! `[apps.NAME.site]`, as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::OneOrMany;

/// How nginx serves an app.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Site {
    /// The names it answers to: "example.com", "*.example.com".
    pub server_name: Option<OneOrMany>,
    /// Where it listens without TLS: ports, or addresses with ports (80).
    pub http: Option<Listens>,
    /// Where it listens with TLS (443 with tls).
    pub https: Option<Listens>,
    /// Whether it also answers to names that no site has (false).
    pub default: Option<bool>,
    /// Its certificate: "auto" for one of the authority of [bootstrap.tls], or where it is.
    pub tls: Option<Tls>,
    /// What plain HTTP does when there is TLS: "redirect" or "serve" ("redirect").
    pub plain_http: Option<PlainHttp>,
    /// What / serves.
    #[serde(flatten)]
    pub serve: Serve,
    /// What other paths serve.
    pub locations: Option<Vec<Location>>,
    /// Response headers.
    pub headers: Option<BTreeMap<String, String>>,
    /// The largest request body ("1M").
    pub body_max: Option<String>,
    /// The secret with name:hash lines, as htpasswd writes them, for the whole site (none).
    pub basic_auth: Option<String>,
    /// An own template in place of nginx/site.
    pub template: Option<String>,
}

/// What is served; at most one of proxy, root, redirect and respond.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Serve {
    /// The server to pass requests on to: http://127.0.0.1:8080 or http://unix:/run/api.sock.
    pub proxy: Option<String>,
    /// Whether proxied connections may become websockets (false).
    pub websockets: Option<bool>,
    /// Whether the location's path is taken off before a request is passed on (false).
    pub strip_prefix: Option<bool>,
    /// The folder to serve files from; a relative one is inside the release.
    pub root: Option<String>,
    /// The file that a path without a file gets, such as "/index.html" (status 404).
    pub fallback: Option<String>,
    /// The URL or path to redirect to.
    pub redirect: Option<String>,
    /// The status of the redirect: 301, 302, 307 or 308 (308).
    pub redirect_status: Option<u16>,
    /// Whether the path of the request is appended to it (false).
    pub keep_path: Option<bool>,
    /// The status of a fixed answer.
    #[schemars(range(min = 200, max = 599))]
    pub respond: Option<u16>,
    /// The text of the fixed answer (none).
    pub respond_body: Option<String>,
}

/// What one path serves.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Location {
    /// The path.
    pub path: Option<String>,
    /// Whether only the path itself is meant (false: everything below it).
    pub exact: Option<bool>,
    /// What it serves.
    #[serde(flatten)]
    pub serve: Serve,
    /// Response headers, besides the site's.
    pub headers: Option<BTreeMap<String, String>>,
    /// The largest request body (as the site's).
    pub body_max: Option<String>,
    /// Another secret for basic authentication (as the site's).
    pub basic_auth: Option<String>,
}

/// Where a certificate comes from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Tls {
    /// An authority gives it.
    Automatic(Automatic),
    /// It is there.
    Given(Given),
}

/// The word for a certificate that an authority gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Automatic {
    /// The authority of [bootstrap.tls].
    Auto,
}

/// A certificate and its key: names of secrets, or absolute paths of files on the host.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Given {
    /// The certificate with its chain.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// What plain HTTP does on a site with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlainHttp {
    /// It redirects to HTTPS.
    Redirect,
    /// It serves the same.
    Serve,
}

/// One place to listen, or several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Listens {
    /// One.
    One(Listen),
    /// Several.
    Many(Vec<Listen>),
}

impl Listens {
    /// The places.
    pub fn as_slice(&self) -> &[Listen] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// A place to listen.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Listen {
    /// A port on every address.
    Port(u16),
    /// An address with a port, or for a socket a path.
    Text(String),
}
