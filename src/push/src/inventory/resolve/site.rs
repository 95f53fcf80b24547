//! `[apps.NAME.site]`.

use std::collections::BTreeMap;

use super::super::raw;
use super::super::{
    Bytes, HttpPath, Listen, Location, Matching, Missing, Pem, PlainHttp, Prefix, RedirectPath,
    Serve, ServerName, Site, SiteRole, Tls, Upstream, Websockets, address,
};
use super::{At, Owner, Resolver};
use crate::name::HostPath;
use crate::template::{Template, TemplateName, Templated};

/// The largest request body unless the inventory says, in bytes; nginx's own default.
const BODY_MAX: Bytes = Bytes(1 << 20);

/// The most locations of a site.
const LOCATIONS_MAX: usize = 200;

/// The most names of a site.
const NAMES_MAX: usize = 200;

impl<'a> Resolver<'a> {
    pub(super) fn site(&mut self, at: &At<'a>, raw: &raw::Site, owner: &Owner) -> Site {
        let names_at = at.key("server_name");
        let texts = raw
            .server_name
            .as_ref()
            .map(raw::OneOrMany::as_slice)
            .unwrap_or_default();
        let mut server_names = Vec::new();
        for (i, text) in texts.iter().enumerate().take(NAMES_MAX) {
            server_names.extend(self.templated::<ServerName>(&names_at.item(i), text, owner));
        }
        if texts.is_empty() || texts.len() > NAMES_MAX {
            let help = "for example: server_name = [\"www.example.com\"]; \"_\" with default = true for any";
            self.problem_with_help(
                &names_at,
                (format!("a site has 1 to {NAMES_MAX} names"), help),
            );
        }
        let tls = raw
            .tls
            .as_ref()
            .and_then(|raw| self.tls(&at.key("tls"), raw));
        let template = self.own_template(&at.key("template"), raw.template.as_ref(), "nginx/site");
        Site {
            http: self.http_listens(&at.key("http"), raw),
            https: self.https(&at.key("https"), raw),
            role: match raw.default {
                Some(true) => SiteRole::Default,
                Some(false) | None => SiteRole::Named,
            },
            plain_http: match raw.plain_http {
                Some(raw::PlainHttp::Redirect) => PlainHttp::Redirect,
                None if raw.tls.is_some() => PlainHttp::Redirect,
                Some(raw::PlainHttp::Serve) | None => PlainHttp::Serve,
            },
            locations: self.locations(at, raw, owner),
            headers: self.headers(&at.key("headers"), raw.headers.as_ref(), owner),
            body_max: self.read_or(&at.key("body_max"), raw.body_max.as_ref(), BODY_MAX),
            basic_auth: raw
                .basic_auth
                .as_ref()
                .and_then(|text| self.secret_name(&at.key("basic_auth"), text)),
            server_names,
            tls,
            template: template.unwrap_or_else(TemplateName::site),
        }
    }

    fn https(&mut self, at: &At<'a>, raw: &raw::Site) -> Vec<Listen> {
        if raw.tls.is_none() {
            if raw.https.is_some() {
                let help =
                    "add tls = { certificate = \"SECRET\", key = \"SECRET\" }, or tls = \"auto\"";
                self.problem_with_help(at, ("it needs a certificate", help));
            }
            if raw.plain_http == Some(raw::PlainHttp::Redirect) {
                self.problem(
                    at,
                    "without tls there is nothing that plain HTTP could redirect to",
                );
            }
            return Vec::new();
        }
        let listens = self.listens(at, raw.https.as_ref(), &[Listen::Port(443)]);
        if is_nowhere(raw.https.as_ref()) && raw.template.is_none() {
            let help = "leave `https` out for port 443, or leave `tls` out";
            self.problem_with_help(at, ("a certificate is for listening with TLS", help));
        }
        listens
    }

    /// nginx listens on port 80 for a server that listens nowhere. An own template has its own places.
    fn http_listens(&mut self, at: &At<'a>, raw: &raw::Site) -> Vec<Listen> {
        if is_nowhere(raw.http.as_ref()) && raw.tls.is_none() && raw.template.is_none() {
            let help = "leave `http` out for port 80, or leave out the site";
            self.problem_with_help(at, ("a site that listens nowhere serves nobody", help));
        }
        self.listens(at, raw.http.as_ref(), &[Listen::Port(80)])
    }

    fn listens(
        &mut self,
        at: &At<'a>,
        raw: Option<&raw::Listens>,
        default: &[Listen],
    ) -> Vec<Listen> {
        let Some(raw) = raw else {
            return default.to_vec();
        };
        let mut listens = Vec::new();
        for (i, place) in raw.as_slice().iter().enumerate() {
            let listen = match place {
                raw::Listen::Port(port) => {
                    address::port_number(&port.to_string()).map(Listen::Port)
                }
                raw::Listen::Text(text) => address::port_number(text)
                    .map(Listen::Port)
                    .or_else(|_| address::socket_address(text).map(Listen::Address)),
            };
            match listen {
                Ok(listen) if listens.contains(&listen) => {
                    self.problem(&at.item(i), "it is there twice");
                }
                Ok(listen) => listens.push(listen),
                Err(_) => {
                    let help = "write 80, \"127.0.0.1:8080\" or \"[::1]:8080\"";
                    self.problem_with_help(
                        &at.item(i),
                        ("it is no place where nginx can listen", help),
                    );
                }
            }
        }
        listens
    }

    fn tls(&mut self, at: &At<'a>, raw: &raw::Tls) -> Option<Tls> {
        match raw {
            raw::Tls::Automatic(raw::Automatic::Auto) => Some(Tls::Automatic),
            raw::Tls::Given(given) => self.given(at, given),
        }
    }

    fn given(&mut self, at: &At<'a>, raw: &raw::Given) -> Option<Tls> {
        let certificate = self.pem(&at.key("certificate"), &raw.certificate);
        let key = self.pem(&at.key("key"), &raw.key);
        Some(Tls::Given {
            certificate: certificate?,
            key: key?,
        })
    }

    fn pem(&mut self, at: &At<'a>, text: &str) -> Option<Pem> {
        if text.starts_with('/') {
            self.read(at, text).map(Pem::Path)
        } else {
            self.secret_name(at, text).map(Pem::Secret)
        }
    }

    fn locations(&mut self, at: &At<'a>, raw: &raw::Site, owner: &Owner) -> Vec<Location> {
        let mut locations: Vec<Location> = Vec::new();
        if let (Some(serve), Ok(path)) = (self.serve(at, &raw.serve, owner), "/".parse()) {
            locations.push(Location {
                path,
                matching: Matching::Prefix,
                serve,
                headers: BTreeMap::default(),
                body_max: None,
                basic_auth: None,
            });
        }
        let root = locations.first().map(|location| &location.serve);
        self.guarded(at, (root, raw.basic_auth.as_ref()));
        let listed = at.key("locations");
        for (i, asked) in raw
            .locations
            .iter()
            .flatten()
            .enumerate()
            .take(LOCATIONS_MAX)
        {
            let at = listed.item(i);
            let Some(location) = self.location(&at, asked, owner) else {
                continue;
            };
            let secret = asked.basic_auth.as_ref().or(raw.basic_auth.as_ref());
            self.guarded(&at, (Some(&location.serve), secret));
            self.served_once(&at, (&location, &locations));
            locations.push(location);
        }
        if raw.locations.as_ref().map_or(0, Vec::len) > LOCATIONS_MAX {
            self.problem(
                &listed,
                format!("a site has at most {LOCATIONS_MAX} locations"),
            );
        }
        let nothing = raw.locations.as_ref().is_none_or(Vec::is_empty) && raw.template.is_none();
        if locations.is_empty() && nothing && !is_served(&raw.serve) {
            let help =
                "write proxy = \"http://127.0.0.1:8080\", root = \"public\", redirect or respond";
            self.problem_with_help(at, ("this site serves nothing", help));
        }
        locations
    }

    /// A path and what lies below it are served by `/api`; what lies below it, by `/api/` as well.
    fn served_once(&mut self, at: &At<'a>, (location, others): (&Location, &[Location])) {
        let mut alike = others
            .iter()
            .filter(|other| other.matching == location.matching);
        let twin = match location.matching {
            Matching::Exact => alike.find(|other| other.path == location.path),
            Matching::Prefix => alike.find(|other| below(&other.path) == below(&location.path)),
        };
        let Some(twin) = twin else { return };
        if twin.path == location.path {
            self.problem(at, format!("the path {} is served twice", location.path));
            return;
        }
        let why = format!(
            "{} and {} both serve what lies below {}",
            twin.path,
            location.path,
            below(&location.path)
        );
        let help =
            "leave one of them out, or write exact = true at the one that means its path alone";
        self.problem_with_help(at, (why, help));
    }

    /// A password that nobody is asked for would only seem to guard.
    fn guarded(&mut self, at: &At<'a>, (serve, secret): (Option<&Serve>, Option<&String>)) {
        let key = match serve {
            Some(Serve::Redirect { .. }) => "redirect",
            Some(Serve::Return { .. }) => "respond",
            Some(Serve::Proxy { .. } | Serve::Root { .. }) | None => return,
        };
        if secret.is_some() {
            let why = "nginx answers by itself before it asks for a password, so that basic_auth does not guard it";
            let help = "write basic_auth only at locations with proxy or root, or give the answer in a site without it";
            self.problem_with_help(&at.key(key), (why, help));
        }
    }

    fn location(&mut self, at: &At<'a>, raw: &raw::Location, owner: &Owner) -> Option<Location> {
        let Some(path) = &raw.path else {
            self.problem(at, "a location needs a path");
            return None;
        };
        let path = self.read::<HttpPath>(&at.key("path"), path)?;
        if path.as_str().contains(['?', '%']) {
            self.problem(
                &at.key("path"),
                "nginx compares paths decoded and without their query",
            );
        }
        let Some(serve) = self.serve(at, &raw.serve, owner) else {
            if !is_served(&raw.serve) {
                self.problem(at, "it needs one of proxy, root, redirect and respond");
            }
            return None;
        };
        Some(Location {
            path,
            matching: match raw.exact {
                Some(true) => Matching::Exact,
                Some(false) | None => Matching::Prefix,
            },
            serve,
            headers: self.headers(&at.key("headers"), raw.headers.as_ref(), owner),
            body_max: raw
                .body_max
                .as_ref()
                .and_then(|text| self.read(&at.key("body_max"), text)),
            basic_auth: raw
                .basic_auth
                .as_ref()
                .and_then(|text| self.secret_name(&at.key("basic_auth"), text)),
        })
    }

    /// What is served; `None` when nothing is, or when it is wrong.
    fn serve(&mut self, at: &At<'a>, raw: &raw::Serve, owner: &Owner) -> Option<Serve> {
        let kinds = [
            raw.proxy.is_some(),
            raw.root.is_some(),
            raw.redirect.is_some(),
            raw.respond.is_some(),
        ];
        if kinds.iter().filter(|written| **written).count() > 1 {
            self.problem(
                at,
                "only one of proxy, root, redirect and respond can be served",
            );
            return None;
        }
        self.stray_keys(at, raw);
        if let Some(text) = &raw.proxy {
            return Some(Serve::Proxy {
                to: self.upstream(&at.key("proxy"), text, owner)?,
                websockets: if raw.websockets == Some(true) {
                    Websockets::Allowed
                } else {
                    Websockets::Refused
                },
                prefix: if raw.strip_prefix == Some(true) {
                    Prefix::Strip
                } else {
                    Prefix::Keep
                },
            });
        }
        if let Some(text) = &raw.root {
            return Some(Serve::Root {
                dir: self.root(&at.key("root"), text, owner)?,
                missing: match &raw.fallback {
                    Some(path) => Missing::Fallback(self.fallback(&at.key("fallback"), path)?),
                    None => Missing::NotFound,
                },
            });
        }
        if let Some(text) = &raw.redirect {
            let status = raw.redirect_status.unwrap_or(308);
            if !matches!(status, 301 | 302 | 307 | 308) {
                self.problem(
                    &at.key("redirect_status"),
                    "a redirect has status 301, 302, 307 or 308",
                );
            }
            if raw.keep_path == Some(true) && is_literal(text) && text.contains(['?', '#']) {
                let why = "no path can follow what is redirected to: it holds a '?' or a '#'";
                self.problem(&at.key("keep_path"), why);
            }
            return Some(Serve::Redirect {
                to: self.templated(&at.key("redirect"), text, owner)?,
                status,
                path: if raw.keep_path == Some(true) {
                    RedirectPath::Keep
                } else {
                    RedirectPath::Drop
                },
            });
        }
        Some(Serve::Return {
            status: raw.respond?,
            body: self.body(at, raw),
        })
    }

    fn upstream(&mut self, at: &At<'a>, text: &str, owner: &Owner) -> Option<Templated<Upstream>> {
        if is_literal(text) && text.contains('?') {
            self.problem(at, "the address to pass requests on to cannot hold a '?'");
        }
        self.templated(at, text, owner)
    }

    fn fallback(&mut self, at: &At<'a>, text: &str) -> Option<HttpPath> {
        if text.contains(['?', '%']) {
            self.problem(
                at,
                "it is the name of a file, which holds no '?' and no '%'",
            );
        }
        self.read(at, text)
    }

    fn body(&mut self, at: &At<'a>, raw: &raw::Serve) -> Option<String> {
        let text = raw.respond_body.clone()?;
        if text.chars().any(|c| c.is_control() || c == '$') || text.len() > 4096 {
            let why = "it is one line of at most 4096 bytes without '$', which nginx cannot write";
            self.problem(&at.key("respond_body"), why);
        }
        Some(text)
    }

    /// A folder: an absolute path, or one inside the release.
    fn root(&mut self, at: &At<'a>, text: &str, owner: &Owner) -> Option<Templated<HostPath>> {
        let absolute = match text.starts_with('/') || text.starts_with("{{") {
            true => text.to_owned(),
            false if text == "." => "{{ release.current }}".to_owned(),
            false => format!("{{{{ release.current }}}}/{text}"),
        };
        self.templated(at, &absolute, owner)
    }

    /// Keys that belong to something else than what is served.
    fn stray_keys(&mut self, at: &At<'a>, raw: &raw::Serve) {
        /// A key, and whether it is written.
        type Key = (&'static str, bool);
        let is = Option::is_some;
        let groups: [(&str, bool, &[Key]); 4] = [
            (
                "proxy",
                is(&raw.proxy),
                &[
                    ("websockets", raw.websockets.is_some()),
                    ("strip_prefix", raw.strip_prefix.is_some()),
                ],
            ),
            ("root", is(&raw.root), &[("fallback", is(&raw.fallback))]),
            (
                "redirect",
                is(&raw.redirect),
                &[
                    ("redirect_status", raw.redirect_status.is_some()),
                    ("keep_path", raw.keep_path.is_some()),
                ],
            ),
            (
                "respond",
                raw.respond.is_some(),
                &[("respond_body", is(&raw.respond_body))],
            ),
        ];
        let stray = groups.iter().filter(|(_, is_meant, _)| !is_meant);
        for (needs, _, keys) in stray {
            for (key, _) in keys.iter().filter(|(_, is_written)| *is_written) {
                self.problem(&at.key(key), format!("it means nothing without {needs}"));
            }
        }
    }
}

/// What has expressions is looked at once they are filled in.
fn is_literal(text: &str) -> bool {
    Template::parse(text).is_ok_and(|template| template.is_literal())
}

/// The path below which a prefix serves everything.
fn below(path: &HttpPath) -> String {
    format!(
        "{}/",
        path.as_str().strip_suffix('/').unwrap_or(path.as_str())
    )
}

fn is_nowhere(raw: Option<&raw::Listens>) -> bool {
    raw.is_some_and(|listens| listens.as_slice().is_empty())
}

fn is_served(raw: &raw::Serve) -> bool {
    raw.proxy.is_some() || raw.root.is_some() || raw.redirect.is_some() || raw.respond.is_some()
}
