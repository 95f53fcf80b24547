//! `[bootstrap]`.

use std::collections::{BTreeMap, BTreeSet};

use super::super::bootstrap::{ENDPOINTS, PARAMETERS, ParameterName, ParameterValue};
use super::super::raw;
use super::super::{Authority, Bootstrap, Bytes, Care};
use super::{At, Resolver};
use crate::name::{HostName, UserName};

/// The most keys, packages or parameters.
const ENTRIES_MAX: usize = 500;

/// The most that the system's log keeps on disk.
const JOURNAL_MAX: Bytes = Bytes(1 << 30);

/// The smallest swap file; mkswap(8) refuses less than ten pages.
const SWAP_BYTES_MIN: u64 = 1 << 20;

impl<'a> Resolver<'a> {
    pub(super) fn bootstrap(&mut self, at: &At<'a>, raw: &raw::Bootstrap) -> Option<Bootstrap> {
        let on = self.on(&at.key("on"), raw.on.as_ref());
        let keys_at = at.key("keys");
        let keys = self.set(&keys_at, raw.keys.as_ref());
        if raw
            .keys
            .as_ref()
            .is_none_or(|keys| keys.as_slice().is_empty())
        {
            self.problem_with_help(
                &keys_at,
                (
                    "nobody could log in: it needs at least one public key",
                    "keys = [\"ssh-ed25519 AAAA… you\"]; `cat ~/.ssh/id_ed25519.pub` shows yours",
                ),
            );
        }
        let packages = self.set(&at.key("packages"), raw.packages.as_ref());
        if keys.len() > ENTRIES_MAX || packages.len() > ENTRIES_MAX {
            self.problem(
                at,
                format!("there are at most {ENTRIES_MAX} keys and packages"),
            );
        }
        let time_zone = raw.time_zone.as_deref().unwrap_or("Etc/UTC");
        let locale = raw.locale.as_deref().unwrap_or("C.UTF-8");
        let swap_at = at.key("swap");
        let swap: Option<Bytes> = raw.swap.as_ref().and_then(|text| self.read(&swap_at, text));
        if swap.is_some_and(|bytes| bytes.0 < SWAP_BYTES_MIN) {
            self.problem(&swap_at, "a swap file has at least 1M");
        }
        self.logins(at, &on);
        let time_zone = self.read(&at.key("time_zone"), time_zone);
        let locale = self.read(&at.key("locale"), locale);
        let sysctl = self.parameters(&at.key("sysctl"), raw.sysctl.as_ref());
        Some(Bootstrap {
            keys,
            packages,
            hostname: care(raw.hostname),
            time_zone: time_zone?,
            locale: locale?,
            swap,
            sysctl,
            journal_max: self.read_or(
                &at.key("journal_max"),
                raw.journal_max.as_ref(),
                JOURNAL_MAX,
            ),
            upgrades: care(raw.upgrades),
            sshd: care(raw.harden_ssh),
            firewall: care(raw.firewall),
            tls: raw
                .tls
                .as_ref()
                .and_then(|raw| self.authority(&at.key("tls"), raw)),
            on,
        })
    }

    /// The login that bootstrap makes is the one that every later push uses.
    fn logins(&mut self, at: &At<'a>, on: &BTreeSet<HostName>) {
        let here = on.iter().filter_map(|name| self.hosts.get(name));
        let wrong = here.into_iter().find_map(|host| match &host.login.user {
            None => Some(format!("nobody says whom to log in to {} as", host.name)),
            Some(user) if user.as_str().parse::<UserName>().is_err() => Some(format!(
                "{user}, whom one logs in to {} as, is no name that a Debian user can have",
                host.name
            )),
            Some(_) => None,
        });
        if let Some(why) = wrong {
            let help = "[ssh] user = \"deploy\" is the login that bootstrap makes; `push bootstrap ENVIRONMENT --as root` then comes in as root the first time";
            self.problem_with_help(at, (why, help));
        }
    }

    fn authority(&mut self, at: &At<'a>, raw: &raw::Authority) -> Option<Authority> {
        let email_at = at.key("email");
        if raw.email.is_none() {
            let help = "email = \"ops@example.com\"";
            self.problem_with_help(
                &email_at,
                ("the authority wants to know whom to write to", help),
            );
        }
        if raw.terms.is_none() {
            let help = "read them (Let's Encrypt's are at https://letsencrypt.org/repository/), then write terms = \"agreed\"";
            let why = "it gives certificates only to those who accept its terms of service";
            self.problem_with_help(&at.key("terms"), (why, help));
        }
        let endpoint = raw.endpoint.as_deref().unwrap_or(ENDPOINTS[0].0);
        let known = ENDPOINTS.iter().find(|(word, _)| *word == endpoint);
        let url = known.map_or(endpoint, |(_, url)| url);
        let endpoint = self.read(&at.key("endpoint"), url);
        let ca_at = at.key("endpoint_ca");
        let vouchers = raw.endpoint_ca.as_ref().map(|text| self.file(&ca_at, text));
        let email = raw
            .email
            .as_ref()
            .and_then(|text| self.read(&email_at, text));
        Some(Authority {
            endpoint: endpoint?,
            email: email?,
            vouchers: vouchers.flatten(),
        })
    }

    fn parameters(
        &mut self,
        at: &At<'a>,
        raw: Option<&BTreeMap<String, raw::Parameter>>,
    ) -> BTreeMap<ParameterName, ParameterValue> {
        let mut all: BTreeMap<ParameterName, ParameterValue> = PARAMETERS
            .iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
            .collect();
        for (key, value) in raw.into_iter().flatten().take(ENTRIES_MAX) {
            let at = at.key(key);
            let text = match value {
                raw::Parameter::Number(number) => number.to_string(),
                raw::Parameter::Text(text) => text.clone(),
            };
            let (name, value) = (self.name(&at, key), self.read(&at, &text));
            all.extend(name.zip(value));
        }
        all
    }
}

fn care(wanted: Option<bool>) -> Care {
    match wanted {
        Some(false) => Care::Left,
        Some(true) | None => Care::Taken,
    }
}
