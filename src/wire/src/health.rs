//! What makes a release healthy. The host asks, by itself; the laptop only declares.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::FileName;

/// How an app's health is found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is asked; all of it must pass. Empty asks nothing: the app's units themselves are
    /// always watched as well.
    pub probes: Vec<Probe>,
    /// How long until the verdict must be in, in milliseconds from the end of the effects.
    pub timeout_ms: u64,
    /// The pause between two tries, in milliseconds.
    pub interval_ms: u64,
    /// How many tries in a row must pass.
    pub passes: u32,
    /// How long, in milliseconds, the app's units must keep their InvocationID and restart count.
    pub quiet_ms: u64,
}

/// One kind of question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A TCP connection opens.
    Tcp {
        /// A host name or an address as seen from the host, mostly `127.0.0.1`.
        host: String,
        /// The port.
        port: u16,
    },
    /// An HTTP request is answered as expected.
    Http(Box<HttpProbe>),
    /// A program of the app ends with status 0. Run as the app's user, without a shell.
    Command {
        /// The program and its arguments.
        argv: Vec<String>,
    },
}

/// An HTTP request over plain TCP, and the answer that passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// The whole URL; only `http` is spoken.
    pub url: String,
    /// Headers to send, the `Host` header among them if the URL's is not the one wanted.
    pub send: BTreeMap<String, String>,
    /// The file under `/run/push/secrets/<app>` whose content is sent as a bearer token.
    pub bearer: Option<FileName>,
    /// The ranges of status codes that pass, both ends included; never empty.
    pub status: Vec<(u16, u16)>,
    /// Headers that must be there with exactly these values.
    pub headers: BTreeMap<String, String>,
    /// A text that the body must hold.
    pub body: Option<String>,
    /// Fields of the JSON body, by dotted path, with the values they must have.
    pub json: BTreeMap<String, serde_json::Value>,
}
