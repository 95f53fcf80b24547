//! When an app counts as healthy.

use std::collections::BTreeMap;
use std::time::Duration;

use super::web::is_loopback;
use super::{HeaderName, HeaderValue, HttpUrl, StatusSet, TcpTarget, Word};
use crate::name::FileName;
use crate::template::{Scope, Templated};

/// What must hold, and for how long, before a generation is committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// All of these must pass. Whatever they say, a unit that failed or restarted is not healthy.
    pub probes: Vec<Probe>,
    /// How long it may take until all probes pass.
    pub timeout: Duration,
    /// The pause between two tries.
    pub interval: Duration,
    /// How often in a row each probe must pass.
    pub passes: u32,
    /// For how long afterwards no unit may end or restart.
    pub quiet: Duration,
}

/// One question to the app, asked on the host.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// An HTTP request.
    Http(Box<HttpProbe>),
    /// Something accepts a TCP connection.
    Tcp(Templated<TcpTarget>),
    /// A program, as the app's user, ends with status 0.
    Command(Vec<Templated<Word>>),
}

/// An HTTP request and what must come back.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpProbe {
    /// What to ask.
    pub url: Templated<HttpUrl>,
    /// The statuses that pass; 200 to 299 unless given.
    pub status: StatusSet,
    /// A text that the body must contain.
    pub body: Option<String>,
    /// Fields of the JSON body, by dotted path, that must equal these.
    pub json: BTreeMap<String, serde_json::Value>,
    /// Headers to send.
    pub send: BTreeMap<HeaderName, Templated<HeaderValue>>,
    /// Headers that must come back with exactly these values.
    pub headers: BTreeMap<HeaderName, HeaderValue>,
    /// The secret to send as a bearer token; one of the app's own.
    pub bearer: Option<FileName>,
}

impl Health {
    /// The secrets that probes send.
    pub fn secret_names(&self) -> impl Iterator<Item = &FileName> {
        self.probes.iter().filter_map(|probe| match probe {
            Probe::Http(http) => http.bearer.as_ref(),
            Probe::Tcp(_) | Probe::Command(_) => None,
        })
    }
}

impl Probe {
    /// The port of this host that it asks, if it is one and nothing else is meant.
    pub(super) fn local_port(&self, scope: &Scope) -> Option<u16> {
        let (host, port) = match self {
            Self::Http(http) => http
                .url
                .resolve(scope)
                .ok()
                .map(|url| (url.host, url.port))?,
            Self::Tcp(target) => target
                .resolve(scope)
                .ok()
                .map(|target| (target.host, target.port))?,
            Self::Command(_) => return None,
        };
        is_loopback(&host).then_some(port)
    }
}
