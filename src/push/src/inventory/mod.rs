//! The inventory: TOML to [`Fleet`].
//!
//! Text comes in with all its mistakes; a [`Fleet`] comes out that has none, or the list of what is
//! wrong, each with its line. Must not know how anything reaches a host, nor what a host looks like
//! now. Reads files below `inventory/` and nothing else.
//!
//! To add a key: the field in `raw` (its doc comment becomes the schema's text), its meaning in
//! `resolve`, a line in `inventory/example.toml`, which a test demands.

mod address;
mod app;
mod files;
mod firewall;
mod fleet;
mod health;
mod nearest;
mod quantity;
mod selector;
mod service;
mod site;
mod web;

pub use address::{AddressError, HostAddress, HostKey, Network, TcpTarget};
pub use app::{App, Build, OwnUnit, SecretForm, Start};
pub use files::{FileContent, Files, ManagedFile, OnChange};
pub use firewall::{Allow, Firewall, Ping, PortRange, Protocol, SERVICES};
pub use fleet::{Fleet, Host, Jump, Login, Protection, Rollout, Ssh, Undo, Wave};
pub use health::{Health, HttpProbe, Probe};
pub use nearest::nearest;
pub use quantity::{Bytes, DURATION_MAX, Mode, Percent, QuantityError, duration};
pub use selector::{Selector, SelectorError};
pub use service::{
    Calendar, Hardening, Limits, ListenStream, LowPorts, Persistence, Reload, Restart, Service,
    ServiceKind, Signal, Socket, Timer,
};
pub use site::{
    Listen, Location, Matching, Missing, Pem, PlainHttp, Prefix, RedirectPath, Serve, Site,
    SiteRole, Tls, Websockets,
};
pub use web::{
    HeaderName, HeaderValue, HttpPath, HttpUrl, RedirectTarget, Scheme, ServerName, StatusSet,
    Upstream, WebError, Word,
};
