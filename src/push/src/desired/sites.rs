//! nginx sites. Every value reaches the template as a finished nginx word; the template only says
//! which directive it stands in.

use std::collections::{BTreeMap, BTreeSet};

use push_wire::encode::nginx_word;
use push_wire::manifest::{Answer, Text};
use serde::Serialize;

use super::DesiredError;
use super::locations::{Block, blocks};
use super::making::{Making, OnHost};
use super::secrets::Deliveries;
use crate::inventory::{HeaderName, HeaderValue, Listen, Pem, PlainHttp, Site, SiteRole, Tls};
use crate::name::FileName;
use crate::template::{Scope, Templated};

/// The version of nginx since which HTTP/2 is a directive of its own instead of a word of `listen`.
const HTTP2_DIRECTIVE: [u32; 3] = [1, 25, 1];

/// What nginx reads into each server without TLS: [`push_wire::certificate::CHALLENGES`] is among it. A
/// pattern that no file has is no mistake to nginx.
const HOST_LOCATIONS: &str = "/etc/nginx/push.d/*.conf";

/// What the template of a site can name.
#[derive(Serialize)]
struct SiteContext<'a> {
    #[serde(flatten)]
    scope: &'a Scope,
    site: SiteText,
}

/// A site, each value as nginx reads it.
#[derive(Serialize)]
struct SiteText {
    /// The variable that says what `Connection` a proxied request has; the name is the app's own,
    /// since all sites share one space of names.
    connection: String,
    websockets: bool,
    server_names: Vec<String>,
    listen: Vec<String>,
    /// What the host itself adds to each server without TLS: nothing, unless `push bootstrap` put it there.
    host_locations: &'static str,
    /// Whether the site itself is served without TLS.
    plain: bool,
    /// Where plain HTTP only redirects to HTTPS.
    redirect_listen: Vec<String>,
    /// The port behind the name in that redirect: empty, or `:8443`.
    redirect_port: String,
    http2: bool,
    tls: Option<TlsText>,
    body_max: u64,
    headers: Vec<HeaderText>,
    locations: Vec<Block>,
}

#[derive(Serialize)]
struct TlsText {
    certificate: String,
    key: String,
}

/// A response header.
#[derive(Serialize, Clone)]
pub(super) struct HeaderText {
    name: String,
    value: String,
}

/// What the parts of a site are made with.
pub(super) struct SitePart<'m, 'a> {
    pub making: &'m Making<'a>,
    pub on_host: &'m OnHost<'a>,
    pub secrets: &'m Deliveries,
    pub what: String,
}

/// Declares an app's site, if it has one.
pub(super) fn declare(
    making: &mut Making<'_>,
    on_host: &OnHost<'_>,
    secrets: &Deliveries,
) -> Result<(), DesiredError> {
    let Some(site) = &on_host.app.site else {
        return Ok(());
    };
    let part = SitePart {
        making,
        on_host,
        secrets,
        what: format!("the site of {}", on_host.app.name),
    };
    let context = SiteContext {
        scope: &on_host.scope,
        site: part.site(site)?,
    };
    let answers = part.answers(site)?;
    let what = part.what.clone();
    let rendered = making.render(&what, &site.template, &context)?;
    let certificate = making
        .input
        .fleet
        .certificate(making.input.host, on_host.app);
    let certificate = certificate.map_err(|error| making.value_error(&what, error.to_string()))?;
    making.slice.groundwork.certificates.extend(certificate);
    let digest = making.text(rendered);
    let app = &on_host.app.name;
    making.slice.sites.insert(app.clone(), Text { digest });
    making.slice.answers.insert(app.clone(), answers);
    Ok(())
}

impl SitePart<'_, '_> {
    fn site(&self, site: &Site) -> Result<SiteText, DesiredError> {
        let redirects = site.tls.is_some() && site.plain_http == PlainHttp::Redirect;
        let http2 = site.tls.is_some();
        let directive = self.has_http2_directive();
        let mut listen: Vec<String> = Vec::new();
        let role = match site.role {
            SiteRole::Named => "",
            SiteRole::Default => " default_server",
        };
        let secure = if directive { " ssl" } else { " ssl http2" };
        for place in &site.https {
            listen.extend(places(*place).map(|place| format!("{place}{secure}{role}")));
        }
        let plain: Vec<String> = site
            .http
            .iter()
            .flat_map(|place| places(*place))
            .map(|place| format!("{place}{role}"))
            .collect();
        let is_plain = !redirects && !plain.is_empty();
        let redirect_listen = if redirects {
            plain
        } else {
            listen.extend(plain);
            Vec::new()
        };
        let app = self.on_host.app.name.as_str();
        let locations = self.locations(site)?;
        Ok(SiteText {
            connection: format!("push_{}_connection", app.replace('-', "_")),
            websockets: locations.iter().any(Block::has_websockets),
            server_names: site
                .server_names
                .iter()
                .map(|name| self.word(self.resolve(name)?.as_str()))
                .collect::<Result<_, _>>()?,
            listen,
            host_locations: HOST_LOCATIONS,
            plain: is_plain,
            redirect_listen,
            redirect_port: match redirect_port(&site.https) {
                None | Some(443) => String::new(),
                Some(port) => format!(":{port}"),
            },
            http2: http2 && directive,
            tls: match &site.tls {
                None => None,
                Some(Tls::Given { certificate, key }) => Some(TlsText {
                    certificate: self.pem(certificate)?,
                    key: self.pem(key)?,
                }),
                Some(Tls::Automatic) => self.automatic()?,
            },
            body_max: site.body_max.0,
            headers: self.headers(&site.headers)?,
            locations,
        })
    }

    /// Every name in every place where nginx listens for the site.
    fn answers(&self, site: &Site) -> Result<BTreeSet<Answer>, DesiredError> {
        let mut all = BTreeSet::new();
        for name in &site.server_names {
            let name = self.resolve(name)?;
            let places = site.http.iter().chain(&site.https);
            all.extend(places.map(|place| Answer {
                name: name.as_str().to_owned(),
                at: match place {
                    Listen::Port(port) => port.to_string(),
                    Listen::Address(address) => address.to_string(),
                },
            }));
        }
        Ok(all)
    }

    fn locations(&self, site: &Site) -> Result<Vec<Block>, DesiredError> {
        let mut all = Vec::new();
        for location in &site.locations {
            all.extend(blocks(self, site, location)?);
        }
        Ok(all)
    }

    /// A header set in a location hides those of its server, so each location is given all of them.
    pub fn headers(
        &self,
        headers: &BTreeMap<HeaderName, Templated<HeaderValue>>,
    ) -> Result<Vec<HeaderText>, DesiredError> {
        headers
            .iter()
            .map(|(name, value)| {
                Ok(HeaderText {
                    name: name.to_string(),
                    value: self.word(self.resolve(value)?.as_str())?,
                })
            })
            .collect()
    }

    /// The certificate that an authority gives, where certbot keeps it.
    fn automatic(&self) -> Result<Option<TlsText>, DesiredError> {
        let input = self.making.input;
        let found = input.fleet.certificate(input.host, self.on_host.app);
        let Some(found) = found.map_err(|error| self.refused(error.to_string()))? else {
            return Ok(None);
        };
        Ok(Some(TlsText {
            certificate: self.word(&found.chain())?,
            key: self.word(&found.key())?,
        }))
    }

    fn pem(&self, pem: &Pem) -> Result<String, DesiredError> {
        match pem {
            Pem::Secret(name) => self.word(&self.secrets.certificate(self.on_host.app, name)),
            Pem::Path(path) => self.word(path.as_str()),
        }
    }

    pub fn passwords(&self, secret: &FileName) -> Result<String, DesiredError> {
        self.word(&self.secrets.passwords(self.on_host.app, secret))
    }

    pub fn word(&self, word: &str) -> Result<String, DesiredError> {
        nginx_word(word).map_err(self.making.encode_error(&self.what))
    }

    pub fn resolve<T: crate::template::Typed>(
        &self,
        text: &Templated<T>,
    ) -> Result<T, DesiredError> {
        self.making.resolve(&self.what, text, &self.on_host.scope)
    }

    pub fn refused(&self, why: impl Into<String>) -> DesiredError {
        self.making.value_error(&self.what, why)
    }

    fn has_http2_directive(&self) -> bool {
        let found = self.making.input.hello.facts.nginx.as_deref();
        let version: Vec<u32> = found
            .unwrap_or_default()
            .split('.')
            .map_while(|part| part.parse().ok())
            .collect();
        version.as_slice() >= HTTP2_DIRECTIVE.as_slice()
    }
}

/// Where everybody is sent who comes without TLS: to a place that the host alone can reach only where
/// there is no other, and to TLS's own port rather than to another one.
fn redirect_port(https: &[Listen]) -> Option<u16> {
    let best = https
        .iter()
        .min_by_key(|place| (place.is_loopback(), place.port() != 443));
    best.map(|place| place.port())
}

/// A port without an address is meant for IPv4 and IPv6.
fn places(listen: Listen) -> impl Iterator<Item = String> {
    match listen {
        Listen::Port(port) => vec![port.to_string(), format!("[::]:{port}")],
        Listen::Address(address) => vec![address.to_string()],
    }
    .into_iter()
}
