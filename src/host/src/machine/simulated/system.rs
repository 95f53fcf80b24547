//! The files that apt, dpkg, useradd and certbot keep on a simulated host: each change of theirs is whole and durable,
//! as they take care that it is, and the power may go between any two.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use push_wire::certificate::{CERTBOT, Certificate};
use push_wire::groundwork::PackageName;
use push_wire::name::UserName;
use push_wire::upgrade::{Packages, Scope};

use super::services::Services;
use super::{Simulated, failed};
use crate::dpkg::Status;
use crate::machine::{Access, Course, Job, Outdated, Standing, System, ToolError};

const STATUS: &str = "/var/lib/dpkg/status";
const PASSWD: &str = "/etc/passwd";

impl System for Simulated {
    fn packages(&self, _scope: Scope) -> Result<Packages, ToolError> {
        self.look().map_err(|error| wrong(&error))?;
        let text = self.system_file(STATUS)?;
        let status = Status::parse(&text);
        let mut offer = self.services.offer.clone();
        offer
            .changes
            .retain(|change| !status.has(&change.package, &change.to));
        Ok(offer)
    }

    fn outdated(&self) -> io::Result<Outdated> {
        self.look()?;
        Ok(Outdated {
            found: self.services.outdated.clone(),
            kernels: vec![],
        })
    }

    fn standing(&self) -> Result<Standing, ToolError> {
        self.look().map_err(|error| wrong(&error))?;
        Ok(Standing {
            course: Course::Up,
            failed: self.services.failed.clone(),
        })
    }
}

impl Services {
    /// Those of these packages that the lists name. Some exist nowhere.
    pub(super) fn candidates(&self, packages: &BTreeSet<PackageName>) -> BTreeSet<PackageName> {
        let exists = |name: &&PackageName| !name.as_str().starts_with("no-such");
        let is_listed = |name: &&PackageName| {
            let listed = self.listed.as_ref();
            listed.is_none_or(|listed| listed.contains(name.as_str()))
        };
        let known = packages.iter().filter(exists).filter(is_listed);
        known.cloned().collect()
    }
}

impl Simulated {
    pub(super) fn do_job(&mut self, job: &Job) -> Result<(), ToolError> {
        match job {
            Job::Finish => {
                self.tool("dpkg --configure -a")?;
                self.services.jobs.push("finish".to_owned());
                let status = self
                    .system_file(STATUS)?
                    .replace("half-configured", "installed");
                self.keep(STATUS, &status)
            }
            Job::Refresh | Job::RefreshAll => {
                self.tool("apt-get update")?;
                self.services.jobs.push("refresh".to_owned());
                self.services.listed = None;
                Ok(())
            }
            Job::Install(packages) => packages.iter().try_for_each(|name| self.install(name)),
            Job::Upgrade(_) => self.upgrade(),
        }
    }

    /// Unpacks a package and then configures it; the power may go in between.
    fn install(&mut self, name: &PackageName) -> Result<(), ToolError> {
        self.services.jobs.push(format!("install {name}"));
        for state in ["half-configured", "installed"] {
            self.tool("apt-get install")?;
            let stanza = |state: &str| format!("Package: {name}\nStatus: install ok {state}\n\n");
            let others = self
                .system_file(STATUS)?
                .replace(&stanza("half-configured"), "");
            self.keep(STATUS, &(others + &stanza(state)))?;
        }
        Ok(())
    }

    /// Brings each package that the sources have newer to that, one after the other.
    fn upgrade(&mut self) -> Result<(), ToolError> {
        for change in self.services.offer.changes.clone() {
            self.services
                .jobs
                .push(format!("upgrade {}", change.package));
            for state in ["half-configured", "installed"] {
                self.tool("apt-get upgrade")?;
                if state == "installed" && self.services.broken.contains(change.package.as_str()) {
                    return Err(failed(
                        "apt-get upgrade",
                        "E: Sub-process returned an error code",
                    ));
                }
                let head = format!("Package: {}\n", change.package);
                let text = self.system_file(STATUS)?;
                let others: String = text
                    .split_inclusive("\n\n")
                    .filter(|stanza| !stanza.starts_with(&head))
                    .collect();
                let stanza = format!(
                    "{head}Status: install ok {state}\nVersion: {}\n\n",
                    change.to
                );
                self.keep(STATUS, &(others + &stanza))?;
            }
        }
        Ok(())
    }

    /// As certbot does it: the name is taken first, and the settings of renewal are written last. A name
    /// that is taken is not used again.
    pub(super) fn issue(&mut self, wanted: &Certificate) -> Result<(), ToolError> {
        let settings = format!("{CERTBOT}/renewal/{}.conf", wanted.lineage());
        self.services.jobs.push(format!("certify {}", wanted.app));
        if let Some(why) = &self.services.uncertified {
            return Err(failed("certbot", why));
        }
        let pem = "-----BEGIN CERTIFICATE-----\n";
        for (path, text) in [
            (settings.clone(), ""),
            (wanted.chain(), pem),
            (wanted.key(), "-----BEGIN PRIVATE KEY-----\n"),
            (settings, "[renewalparams]\n"),
        ] {
            self.tool("certbot")?;
            let is_taken = text.is_empty() && self.disk.read(Path::new(&path)).is_ok();
            if is_taken {
                return Err(failed("certbot", "the name is taken"));
            }
            let folder = Path::new(&path).parent().unwrap_or(Path::new("/"));
            crate::machine::folders(self, folder, &Access::public_folder())
                .map_err(|error| wrong(&error))?;
            self.keep(&path, text)?;
        }
        Ok(())
    }

    pub(super) fn create_login(&mut self, user: &UserName) -> Result<(), ToolError> {
        let line = format!("{user}:x:1000:1000::/home/{user}:/bin/bash\n");
        let known = self.system_file(PASSWD)?;
        if known.contains(&line) {
            return Ok(());
        }
        self.keep(PASSWD, &(known + &line))
    }

    fn system_file(&self, path: &str) -> Result<String, ToolError> {
        let bytes = self
            .disk
            .read(Path::new(path))
            .map_err(|error| wrong(&error))?;
        String::from_utf8(bytes).map_err(|error| failed("a file of the system", &error.to_string()))
    }

    fn keep(&mut self, path: &str, text: &str) -> Result<(), ToolError> {
        let path = Path::new(path);
        self.disk
            .remove(path)
            .and_then(|()| self.disk.create_empty(path, 0o644))
            .and_then(|()| self.disk.set_access(path, (0o644, (0, 0))))
            .and_then(|()| self.disk.append(path, text.as_bytes()))
            .and_then(|()| self.disk.sync_all(path.parent().unwrap_or(path)))
            .map_err(|error| wrong(&error))
    }
}

fn wrong(error: &io::Error) -> ToolError {
    failed("a file of the system", &error.to_string())
}
