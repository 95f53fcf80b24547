//! Two things of one environment that cannot be on one host together.

use std::collections::{BTreeMap, BTreeSet};

use push_wire::ground;

use super::super::problem::{Place, Problem, Problems};
use super::super::{App, Fleet, Host, Service, Site, SiteRole};
use super::At;
use crate::name::HostPath;

/// Finds everything that is claimed twice on a host, and names both claimants.
pub(super) fn check(fleet: &Fleet, root: &At<'_>, problems: &mut Problems) {
    for host in fleet.hosts.values() {
        let mut claims = Claims {
            host,
            taken: BTreeMap::new(),
            problems,
        };
        for app in fleet.apps_on(&host.name) {
            let at = root.key("apps").key(app.name.as_str());
            claims.app(fleet, app, &at);
        }
        claims.nginx(fleet, root);
        claims.nested(fleet, root);
        for path in fleet.files_on(&host.name) {
            let at = root.key("files").key(path.as_str());
            let unit = path.as_str().strip_prefix("/etc/systemd/system/");
            let what = match unit.filter(|unit| !unit.contains('/')) {
                Some(unit) => format!("the unit {unit}"),
                None => format!("the file {path}"),
            };
            claims.claim(what, &at, &at.path);
        }
    }
}

struct Claims<'a> {
    host: &'a Host,
    /// Who claimed what, and where that is written.
    taken: BTreeMap<String, (String, Place)>,
    problems: &'a mut Problems,
}

impl Claims<'_> {
    fn app(&mut self, fleet: &Fleet, app: &App, at: &At<'_>) {
        let owner = format!("the app {}", app.name);
        for port in fleet.ports(self.host, app) {
            self.claim(format!("the port {port}"), &at.key("ports"), &owner);
        }
        for service in &app.services {
            for path in service.drop_in_paths() {
                self.claim(format!("the file {path}"), &at.key("services"), &owner);
            }
            let mut units = vec![service.unit.to_string()];
            units.extend(
                service
                    .timer
                    .as_ref()
                    .map(|_| format!("{}.timer", service.unit.stem())),
            );
            units.extend(
                service
                    .socket
                    .as_ref()
                    .map(|_| format!("{}.socket", service.unit.stem())),
            );
            for unit in units {
                self.unit(&unit, &at.key("services"), &owner);
            }
        }
        for unit in app.units.keys() {
            self.unit(unit.as_str(), &at.key("units").key(unit.as_str()), &owner);
        }
        if let Some(site) = &app.site {
            self.claim(
                format!("the file /etc/nginx/sites-enabled/{}.conf", app.name),
                at,
                &owner,
            );
            self.site(fleet, (app, site), &at.key("site"));
        }
    }

    fn unit(&mut self, unit: &str, at: &At<'_>, owner: &str) {
        self.claim(format!("the unit {unit}"), at, owner);
    }

    fn site(&mut self, fleet: &Fleet, (app, site): (&App, &Site), at: &At<'_>) {
        let owner = format!("the site of {}", app.name);
        let scope = fleet.trial_scope(self.host, app);
        for port in site.ports() {
            for name in site
                .server_names
                .iter()
                .filter_map(|name| name.resolve(&scope).ok())
            {
                let what = format!("the name {name} on port {port}");
                self.claim(what, &at.key("server_name"), &owner);
            }
            if site.role == SiteRole::Default {
                self.claim(
                    format!("being the default site of port {port}"),
                    &at.key("default"),
                    &owner,
                );
            }
        }
    }

    /// Each port that nginx takes whole, once for all sites of the host. Where a site names an address,
    /// an app may have the same port on another one.
    fn nginx(&mut self, fleet: &Fleet, root: &At<'_>) {
        let mut known = BTreeSet::new();
        for app in fleet.apps_on(&self.host.name) {
            let Some(site) = &app.site else { continue };
            let at = root.key("apps").key(app.name.as_str()).key("site");
            let secure = site.https.iter().map(|listen| (listen, "https"));
            let all = site.http.iter().map(|listen| (listen, "http"));
            for (listen, key) in all.chain(secure) {
                if listen.is_everywhere() && known.insert(listen.port()) {
                    let owner = format!("nginx for the site of {}", app.name);
                    let what = format!("the port {}", listen.port());
                    self.claim(what, &at.key(key), &owner);
                }
            }
        }
    }

    /// What is a file is no folder of others.
    fn nested(&mut self, fleet: &Fleet, root: &At<'_>) {
        let services = fleet.apps_on(&self.host.name).flat_map(|app| &app.services);
        let drop_ins: BTreeSet<HostPath> = services.flat_map(Service::drop_in_paths).collect();
        let all = || fleet.files_on(&self.host.name).chain(&drop_ins);
        let files: BTreeSet<&str> = all().map(HostPath::as_str).collect();
        let inside = all().filter_map(|inner| Some((inner, ground::inside_of(inner, &files)?)));
        for (inner, outer) in inside {
            // One drop-in is never inside of another.
            let written = if drop_ins.contains(inner) {
                outer
            } else {
                inner.as_str()
            };
            let at = root.key("files").key(written);
            let message = format!(
                "{inner} is inside of {outer}, which is a file, on the host {}",
                self.host.name
            );
            let problem = Problem::new("inventory::conflict", message).at(at.place());
            let help = "give one of them another path, or put them on different hosts with `on`";
            self.problems.push(problem.help(help));
        }
    }

    fn claim(&mut self, what: String, at: &At<'_>, owner: &str) {
        let Some((other, place)) = self.taken.get(&what) else {
            self.taken.insert(what, (owner.to_owned(), at.place()));
            return;
        };
        let message = format!(
            "{owner} and {other} both claim {what} on the host {}",
            self.host.name
        );
        let problem = Problem::new("inventory::conflict", message).at(at.place());
        let problem = if *place == at.place() {
            problem
        } else {
            problem.also(*place, format!("{other} is here"))
        };
        self.problems.push(
            problem.help("give one of them another one, or put them on different hosts with `on`"),
        );
    }
}
