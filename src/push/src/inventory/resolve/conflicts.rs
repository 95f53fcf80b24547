//! Two things of one environment that cannot be on one host together.

use std::collections::BTreeMap;

use super::super::problem::{Place, Problem, Problems};
use super::super::{App, Fleet, Host, Site, SiteRole};
use super::At;

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
        for path in fleet
            .files
            .iter()
            .filter(|(_, file)| file.on.contains(&host.name))
            .map(|(path, _)| path)
        {
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
        for listen in site.http.iter().chain(&site.https) {
            for name in site
                .server_names
                .iter()
                .filter_map(|name| name.resolve(&scope).ok())
            {
                let what = format!("the name {name} on port {}", listen.port());
                self.claim(what, &at.key("server_name"), &owner);
            }
            if site.role == SiteRole::Default {
                self.claim(
                    format!("being the default site of port {}", listen.port()),
                    &at.key("default"),
                    &owner,
                );
            }
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
