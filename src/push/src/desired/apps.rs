//! Apps: which release, what makes them healthy, which ports are theirs.

use push_wire::health as wire;
use push_wire::manifest;
use push_wire::tree::Tree;

use super::Applying;
use super::making::{Making, OnHost};
use super::{DesiredError, Input};
use crate::inventory::{App, Health, HttpProbe, Probe};
use crate::name::ReleaseId;
use crate::release::Payload;

/// The release of an app that ships nothing.
const NO_RELEASE: &str = "none";

/// The app as it will be on this host: under the id that the host already has for the same content.
pub(super) fn on_host<'a>(
    making: &Making<'_>,
    app: &'a App,
    payload: &Payload,
) -> Result<OnHost<'a>, DesiredError> {
    let input = making.input;
    let ships = app.source.is_some();
    let release = if ships {
        match input.applying {
            Applying::Changes => held(input, payload).unwrap_or_else(|| input.release.clone()),
            // What the host has under another name may have been changed there.
            Applying::Everything => input.release.clone(),
        }
    } else {
        NO_RELEASE
            .parse()
            .map_err(|error| making.value_error("the release", format!("{error}")))?
    };
    let scope = input
        .fleet
        .app_scope(input.host, app, ships.then_some(&release));
    Ok(OnHost {
        app,
        release,
        scope,
    })
}

/// The id of the release with the same content: the one in effect before any other that is whole.
fn held(input: &Input<'_>, payload: &Payload) -> Option<ReleaseId> {
    let manifest = &input.hello.manifest;
    let current = manifest
        .slice(&input.fleet.project)
        .and_then(|slice| slice.apps.get(&payload.app))
        .filter(|app| app.tree == payload.digest)
        .map(|app| app.release.clone());
    current.or_else(|| {
        let trees = input.hello.releases.get(&payload.app)?;
        trees.get(&payload.digest)?.parse().ok()
    })
}

/// What the manifest says of it.
pub(super) fn declare(
    making: &mut Making<'_>,
    on_host: &OnHost<'_>,
    payload: &Payload,
) -> Result<(), DesiredError> {
    let app = on_host.app;
    let declared = manifest::App {
        release: on_host.release.clone(),
        tree: payload.digest,
        size: Tree::size(&payload.tree),
        user: app.user.clone(),
        shared: app.shared.clone(),
        ports: making.input.fleet.ports(making.input.host, app),
        keep_releases: making.input.fleet.keep_releases,
        health: Some(health(making, on_host, &app.health)?),
    };
    making.slice.apps.insert(app.name.clone(), declared);
    Ok(())
}

fn health(
    making: &Making<'_>,
    on_host: &OnHost<'_>,
    health: &Health,
) -> Result<wire::Health, DesiredError> {
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(wire::Health {
        probes: health
            .probes
            .iter()
            .map(|probe| self::probe(making, on_host, probe))
            .collect::<Result<_, _>>()?,
        timeout_ms: ms(health.timeout),
        interval_ms: ms(health.interval),
        passes: health.passes,
        quiet_ms: ms(health.quiet),
    })
}

fn probe(
    making: &Making<'_>,
    on_host: &OnHost<'_>,
    probe: &Probe,
) -> Result<wire::Probe, DesiredError> {
    let what = format!("the health check of {}", on_host.app.name);
    let scope = &on_host.scope;
    Ok(match probe {
        Probe::Http(http) => wire::Probe::Http(Box::new(http_probe(making, on_host, http)?)),
        Probe::Tcp(target) => {
            let target = making.resolve(&what, target, scope)?;
            wire::Probe::Tcp {
                host: target.host.to_string(),
                port: target.port,
            }
        }
        Probe::Command(words) => wire::Probe::Command {
            argv: words
                .iter()
                .map(|word| Ok(making.resolve(&what, word, scope)?.as_str().to_owned()))
                .collect::<Result<_, DesiredError>>()?,
        },
    })
}

fn http_probe(
    making: &Making<'_>,
    on_host: &OnHost<'_>,
    http: &HttpProbe,
) -> Result<wire::HttpProbe, DesiredError> {
    let what = format!("the health check of {}", on_host.app.name);
    let scope = &on_host.scope;
    Ok(wire::HttpProbe {
        url: making.resolve(&what, &http.url, scope)?.to_string(),
        send: http
            .send
            .iter()
            .map(|(name, value)| {
                let value = making.resolve(&what, value, scope)?;
                Ok((name.to_string(), value.as_str().to_owned()))
            })
            .collect::<Result<_, DesiredError>>()?,
        bearer: http.bearer.clone(),
        status: http.status.ranges().collect(),
        headers: http
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        body: http.body.clone(),
        json: http.json.clone(),
    })
}
