//! The locations of a site, as the blocks that nginx needs for them.
//!
//! nginx's own prefixes are prefixes of text: `/api` would also match `/apix`. A location of the
//! inventory means a path and what lies below it, so that it mostly becomes two blocks: `= /api` and
//! `/api/`.

use serde::Serialize;

use super::DesiredError;
use super::sites::{HeaderText, SitePart};
use crate::inventory::{
    HttpPath, Location, Matching, Missing, Prefix, RedirectPath, Serve, Site, Upstream, Websockets,
};

/// How long a proxied server may be silent.
const PROXY_SILENCE: &str = "60s";

/// How long a websocket may be silent.
const WEBSOCKET_SILENCE: &str = "1h";

/// A `location` block.
#[derive(Serialize)]
pub(super) struct Block {
    /// What follows the word `location`.
    matching: String,
    headers: Vec<HeaderText>,
    body_max: Option<u64>,
    passwords: Option<String>,
    proxy: Option<ProxyText>,
    files: Option<FilesText>,
    /// What follows the word `return`.
    answer: Option<String>,
}

impl Block {
    pub fn has_websockets(&self) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.websockets)
    }
}

#[derive(Serialize)]
struct ProxyText {
    pass: String,
    websockets: bool,
    silence: &'static str,
    /// The name in the certificate of an HTTPS upstream.
    name: Option<String>,
}

#[derive(Serialize)]
struct FilesText {
    /// `root` or `alias`.
    directive: &'static str,
    dir: String,
    /// What follows `try_files`.
    try_files: Option<String>,
}

/// Where a block stands relative to its location.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spot {
    /// Exactly the path.
    Exact,
    /// What lies below the path, which ends in `/`.
    Below,
    /// The path itself, where what lies below it has a block of its own.
    Itself,
}

/// The blocks of one location.
pub(super) fn blocks(
    part: &SitePart<'_, '_>,
    site: &Site,
    location: &Location,
) -> Result<Vec<Block>, DesiredError> {
    // The inventory lets no `%` and no `?` stand in it: nginx compares it with decoded paths.
    let path = location.path.to_string();
    let spots = match location.matching {
        Matching::Exact => vec![(Spot::Exact, path)],
        Matching::Prefix if path.ends_with('/') => vec![(Spot::Below, path)],
        Matching::Prefix if has_exact(site, location) => vec![(Spot::Below, format!("{path}/"))],
        Matching::Prefix => vec![
            (Spot::Itself, path.clone()),
            (Spot::Below, format!("{path}/")),
        ],
    };
    spots
        .into_iter()
        .map(|(spot, path)| block(part, (site, location), (spot, &path)))
        .collect()
}

/// Whether the site serves the very path in another way: nginx takes no second block for it.
fn has_exact(site: &Site, location: &Location) -> bool {
    let mut others = site.locations.iter();
    others.any(|other| other.matching == Matching::Exact && other.path == location.path)
}

fn block(
    part: &SitePart<'_, '_>,
    (site, location): (&Site, &Location),
    (spot, path): (Spot, &str),
) -> Result<Block, DesiredError> {
    let answers = matches!(
        location.serve,
        Serve::Redirect { .. } | Serve::Return { .. }
    );
    let secret = location.basic_auth.as_ref().or(site.basic_auth.as_ref());
    if answers && secret.is_some() {
        return Err(part.refused(format!(
            "nginx gives the fixed answer of {path} before it asks for a password"
        )));
    }
    let word = part.word(path)?;
    let mut headers = site.headers.clone();
    headers.retain(|name, _| !location.headers.keys().any(|own| own.is_same(name)));
    headers.extend(location.headers.clone());
    let mut block = Block {
        matching: match spot {
            Spot::Exact | Spot::Itself => format!("= {word}"),
            Spot::Below => word,
        },
        headers: part.headers(&headers)?,
        body_max: location.body_max.map(|max| max.0),
        passwords: secret.map(|secret| part.passwords(secret)).transpose()?,
        proxy: None,
        files: None,
        answer: None,
    };
    match &location.serve {
        Serve::Proxy {
            to,
            websockets,
            prefix,
        } => {
            let upstream = part.resolve(to)?;
            let target = Target {
                upstream: &upstream,
                prefix: *prefix,
            };
            block.proxy = Some(ProxyText {
                pass: part.word(&target.pass(part, spot)?)?,
                websockets: *websockets == Websockets::Allowed,
                silence: match websockets {
                    Websockets::Allowed => WEBSOCKET_SILENCE,
                    Websockets::Refused => PROXY_SILENCE,
                },
                name: tls_name(&upstream)
                    .map(|name| part.word(&name))
                    .transpose()?,
            });
        }
        Serve::Root { dir, missing } if spot != Spot::Itself => {
            let dir = part.resolve(dir)?;
            block.files = Some(files(part, (spot, path), (dir.as_str(), missing))?);
        }
        // As nginx does for folders: what is relative in a page resolves below the path.
        Serve::Root { .. } => {
            block.answer = Some(format!("301 {}", part.word(&format!("{path}/"))?));
        }
        Serve::Redirect { to, status, path } => {
            let to = part.resolve(to)?;
            block.answer = Some(format!("{status} {}", redirect(part, to.as_str(), *path)?));
        }
        Serve::Return { status, body } => {
            block.answer = Some(match body {
                Some(body) => format!("{status} {}", part.word(body)?),
                None => status.to_string(),
            });
        }
    }
    Ok(block)
}

struct Target<'a> {
    upstream: &'a Upstream,
    prefix: Prefix,
}

impl Target<'_> {
    /// What `proxy_pass` is given. With a path in it, nginx puts that path in the place of the
    /// location's; both then end in `/`, or neither does.
    fn pass(&self, part: &SitePart<'_, '_>, spot: Spot) -> Result<String, DesiredError> {
        let path = match self.upstream {
            Upstream::Tcp { path, .. } => path.as_ref().map(HttpPath::as_str),
            Upstream::Unix { .. } => None,
        };
        let path = match (path, self.prefix) {
            (Some(path), _) => Some(path),
            (None, Prefix::Strip) => Some("/"),
            (None, Prefix::Keep) => None,
        };
        if path.is_some_and(|path| path.contains('?')) {
            return Err(part.refused("the address to proxy to holds a '?'"));
        }
        let path = path.map(|path| match spot {
            Spot::Below => format!("{}/", path.trim_end_matches('/')),
            Spot::Exact => path.to_owned(),
            Spot::Itself => match path.trim_end_matches('/') {
                "" => "/".to_owned(),
                trimmed => trimmed.to_owned(),
            },
        });
        let path = path.unwrap_or_default();
        Ok(match self.upstream {
            Upstream::Unix { socket } if path.is_empty() => format!("http://unix:{socket}"),
            Upstream::Unix { socket } => format!("http://unix:{socket}:{path}"),
            Upstream::Tcp {
                scheme, host, port, ..
            } => {
                let bare = Upstream::Tcp {
                    scheme: *scheme,
                    host: host.clone(),
                    port: *port,
                    path: None,
                };
                format!("{bare}{path}")
            }
        })
    }
}

fn tls_name(upstream: &Upstream) -> Option<String> {
    match upstream {
        Upstream::Tcp {
            scheme: crate::inventory::Scheme::Https,
            host,
            ..
        } => Some(host.to_string()),
        Upstream::Tcp { .. } | Upstream::Unix { .. } => None,
    }
}

/// A path below the location is looked for in the folder without the location's own path.
fn files(
    part: &SitePart<'_, '_>,
    (spot, path): (Spot, &str),
    (dir, missing): (&str, &Missing),
) -> Result<FilesText, DesiredError> {
    if spot != Spot::Below {
        let name = path.rsplit('/').next().unwrap_or_default();
        let name = if name.is_empty() { "index.html" } else { name };
        return Ok(FilesText {
            directive: "alias",
            dir: part.word(&format!("{dir}/{name}"))?,
            try_files: None,
        });
    }
    let fallback = match missing {
        Missing::NotFound => None,
        Missing::Fallback(file) => {
            let inside = file.as_str().trim_start_matches('/');
            if inside.contains(['%', '?']) {
                return Err(part.refused(format!("the fallback {file} is no name of a file")));
            }
            let target = part.word(&format!("{path}{inside}"))?;
            Some(format!("$uri $uri/index.html {target}"))
        }
    };
    Ok(if path == "/" {
        FilesText {
            directive: "root",
            dir: part.word(dir)?,
            try_files: fallback,
        }
    } else {
        FilesText {
            directive: "alias",
            dir: part.word(&format!("{dir}/"))?,
            try_files: fallback,
        }
    })
}

/// The variable is ours: no target can hold a `$`.
fn redirect(part: &SitePart<'_, '_>, to: &str, path: RedirectPath) -> Result<String, DesiredError> {
    match path {
        RedirectPath::Drop => part.word(to),
        RedirectPath::Keep if to.contains(['?', '#']) => {
            Err(part.refused(format!("no path can follow {to}: it holds a '?' or a '#'")))
        }
        RedirectPath::Keep => {
            let word = part.word(to.trim_end_matches('/'))?;
            let open = word.strip_suffix('"').unwrap_or(&word);
            Ok(format!("{open}$request_uri\""))
        }
    }
}
