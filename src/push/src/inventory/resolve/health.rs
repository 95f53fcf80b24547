//! `[apps.NAME.health]`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::raw;
use super::super::web::status_range;
use super::super::{
    HeaderName, HeaderValue, Health, HttpProbe, HttpUrl, Probe, SecretForm, StatusSet, TcpTarget,
};
use super::{At, Owner, Resolver};
use crate::name::FileName;
use crate::template::Templated;

/// How long it may take until everything passes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The pause between two tries.
const INTERVAL: Duration = Duration::from_secs(1);

/// For how long no unit may end or restart afterwards.
const QUIET: Duration = Duration::from_secs(3);

/// The longest text that a body must contain, in bytes.
const BODY_BYTES_MAX: usize = 4096;

impl<'a> Resolver<'a> {
    pub(super) fn health(
        &mut self,
        at: &At<'a>,
        (raw, secrets): (Option<&raw::Health>, &BTreeMap<FileName, SecretForm>),
        owner: &Owner,
    ) -> Health {
        let empty = raw::Health::default();
        let raw = raw.unwrap_or(&empty);
        let mut probes = Vec::new();
        if let Some(url) = &raw.http {
            probes.extend(
                self.http(at, (url, raw, secrets), owner)
                    .map(|probe| Probe::Http(Box::new(probe))),
            );
        } else {
            self.only_with_http(at, raw);
        }
        if let Some(text) = &raw.tcp {
            probes.extend(
                self.templated::<TcpTarget>(&at.key("tcp"), text, owner)
                    .map(Probe::Tcp),
            );
        }
        if let Some(words) = &raw.command {
            probes.push(Probe::Command(self.command(
                &at.key("command"),
                words,
                owner,
            )));
        }
        let health = Health {
            probes,
            timeout: self.some_duration(&at.key("timeout"), raw.timeout.as_ref(), TIMEOUT),
            interval: self.some_duration(&at.key("interval"), raw.interval.as_ref(), INTERVAL),
            passes: raw.passes.unwrap_or(1),
            quiet: self.duration(&at.key("quiet"), raw.quiet.as_ref(), QUIET),
        };
        let least = health
            .interval
            .saturating_mul(health.passes.saturating_sub(1));
        if least >= health.timeout {
            let why = format!(
                "{} passes with pauses between them never fit in it",
                health.passes
            );
            self.problem_with_help(
                &at.key("timeout"),
                (why, "make timeout longer, or interval shorter"),
            );
        }
        self.quiet_in_time(at, raw, &health);
        health
    }

    /// A quiet period that ends after the timeout never passes, and each push would be taken back.
    fn quiet_in_time(&mut self, at: &At<'a>, raw: &raw::Health, health: &Health) {
        if health.quiet <= health.timeout {
            return;
        }
        let (key, why) = match (&raw.timeout, &raw.quiet) {
            (Some(_), Some(quiet)) => ("timeout", format!("it ends before quiet does, {quiet:?}")),
            (Some(_), None) => (
                "timeout",
                format!("it ends before quiet does, which is {QUIET:?} unless it is written"),
            ),
            (None, _) => (
                "quiet",
                format!("it ends after timeout does, which is {TIMEOUT:?} unless it is written"),
            ),
        };
        self.problem_with_help(
            &at.key(key),
            (why, "make timeout at least as long as quiet"),
        );
    }

    fn only_with_http(&mut self, at: &At<'a>, raw: &raw::Health) {
        let written = [
            ("status", raw.status.is_some()),
            ("body", raw.body.is_some()),
            ("json", raw.json.is_some()),
            ("send", raw.send.is_some()),
            ("headers", raw.headers.is_some()),
            ("bearer", raw.bearer.is_some()),
        ];
        for (key, _) in written.iter().filter(|(_, written)| *written) {
            self.problem(&at.key(key), "it means nothing without http");
        }
    }

    fn http(
        &mut self,
        at: &At<'a>,
        (url, raw, secrets): (&str, &raw::Health, &BTreeMap<FileName, SecretForm>),
        owner: &Owner,
    ) -> Option<HttpProbe> {
        let url = self.templated::<HttpUrl>(&at.key("http"), url, owner);
        if raw
            .body
            .as_ref()
            .is_some_and(|text| text.is_empty() || text.len() > BODY_BYTES_MAX)
        {
            self.problem(
                &at.key("body"),
                format!("it is a text of 1 to {BODY_BYTES_MAX} bytes"),
            );
        }
        let json = raw
            .json
            .iter()
            .flatten()
            .map(|(key, field)| (key.clone(), json(field)));
        let json: BTreeMap<_, _> = json.collect();
        for key in json.keys().filter(|key| key.split('.').any(str::is_empty)) {
            self.problem(
                &at.key("json").key(key),
                "it is not a path such as \"status\" or \"checks.database\"",
            );
        }
        let bearer_at = at.key("bearer");
        Some(HttpProbe {
            status: self.statuses(&at.key("status"), raw.status.as_ref()),
            body: raw.body.clone(),
            json,
            send: self.headers(&at.key("send"), raw.send.as_ref(), owner),
            headers: self.expected(&at.key("headers"), raw.headers.as_ref()),
            bearer: raw
                .bearer
                .as_ref()
                .and_then(|text| self.own_secret(&bearer_at, text, secrets)),
            url: url?,
        })
    }

    fn statuses(&mut self, at: &At<'a>, raw: Option<&raw::Statuses>) -> StatusSet {
        let statuses = match raw {
            None => return StatusSet::success(),
            Some(raw::Statuses::One(one)) => std::slice::from_ref(one),
            Some(raw::Statuses::Many(many)) => many.as_slice(),
        };
        let mut ranges = Vec::new();
        for (i, status) in statuses.iter().enumerate() {
            let text = match status {
                raw::Status::Number(number) => number.to_string(),
                raw::Status::Text(text) => text.clone(),
            };
            match status_range(&text) {
                Ok(range) => ranges.push(range),
                Err(error) => self.problem(&at.item(i), error),
            }
        }
        if statuses.is_empty() {
            self.problem(at, "without any status nothing ever passes");
        }
        ranges.into_iter().collect()
    }

    /// Headers to send.
    pub(super) fn headers(
        &mut self,
        at: &At<'a>,
        raw: Option<&BTreeMap<String, String>>,
        owner: &Owner,
    ) -> BTreeMap<HeaderName, Templated<HeaderValue>> {
        let mut headers = BTreeMap::new();
        for (key, text) in raw.into_iter().flatten() {
            let at = at.key(key);
            let name = self.name::<HeaderName>(&at, key);
            let is_same = |name: &HeaderName| headers.keys().any(|other| name.is_same(other));
            if name.as_ref().is_some_and(is_same) {
                let help = "leave one of them out: case makes no difference in their names";
                self.problem_with_help(&at, ("this header is there twice", help));
            }
            headers.extend(name.zip(self.templated(&at, text, owner)));
        }
        headers
    }

    fn expected(
        &mut self,
        at: &At<'a>,
        raw: Option<&BTreeMap<String, String>>,
    ) -> BTreeMap<HeaderName, HeaderValue> {
        let mut headers = BTreeMap::new();
        for (key, text) in raw.into_iter().flatten() {
            let at = at.key(key);
            let name = self.name::<HeaderName>(&at, key);
            headers.extend(name.zip(self.read(&at, text)));
        }
        headers
    }
}

fn json(field: &raw::JsonField) -> serde_json::Value {
    match field {
        raw::JsonField::Text(text) => text.as_str().into(),
        raw::JsonField::Integer(number) => (*number).into(),
        raw::JsonField::Boolean(yes) => (*yes).into(),
    }
}
