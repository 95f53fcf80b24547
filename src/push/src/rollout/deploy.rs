//! The intent of `push deploy` and `push plan`: what the inventory declares.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use push_wire::digest::Digest;
use push_wire::groundwork::Groundwork;
use push_wire::manifest::Provenance;
use push_wire::message::Request;

use super::{Change, Intent, Known, Proposal};
use crate::conversation::PackSource;
use crate::desired::{Applying, Desired, DesiredError, Door, Input, Vault, VaultError, desired};
use crate::event::{Confirm, Obstacle, ObstacleKind, Summary};
use crate::inventory::Fleet;
use crate::name::{AppName, FileName, HostName, ReleaseId};
use crate::plan::{Change as Difference, HostPlan};
use crate::release::{Packs, Payload};
use crate::template::Engine;

/// Everything that a deploy brings, read and checked before a host is called.
pub struct Deploy {
    /// The environment.
    pub fleet: Fleet,
    /// The hosts that are pushed to.
    pub hosts: BTreeSet<HostName>,
    /// The templates.
    pub engine: Engine,
    /// What each app ships.
    pub payloads: BTreeMap<AppName, Arc<Payload>>,
    /// The packs of all of it.
    pub packs: Packs,
    /// The id of releases made by this push.
    pub release: ReleaseId,
    /// The files that are carried byte for byte.
    pub verbatim: BTreeMap<PathBuf, Vec<u8>>,
    /// Opens secrets, and seals them.
    pub vault: Box<dyn Vault + Send>,
    /// What of it is applied.
    pub applying: Applying,
    /// Who pushes.
    pub provenance: Provenance,
}

/// What a deploy does to one host.
#[derive(Debug)]
pub struct DeployPlan {
    /// For the operator.
    pub host: HostPlan,
    /// What is declared.
    pub desired: Desired,
}

impl Deploy {
    /// Every secret that some app of this push names.
    fn secrets(&self) -> BTreeSet<&FileName> {
        let shipped = |name: &&AppName| self.payloads.contains_key(*name);
        let apps = self.fleet.apps.keys().filter(shipped);
        apps.flat_map(|name| self.fleet.apps[name].secret_names())
            .collect()
    }

    /// Whether every host of this push that uses a secret opens its file as it is. A pinned key is what
    /// tells before the host was asked.
    fn travels(&self, secret: &FileName) -> Result<bool, VaultError> {
        let users = self.fleet.apps.values();
        let users = users.filter(|app| app.secret_names().contains(secret));
        let hosts: BTreeSet<&HostName> = users.flat_map(|app| &app.on).collect();
        for name in hosts.into_iter().filter(|host| self.hosts.contains(*host)) {
            let keys = self.fleet.hosts.get(name).map(|host| &host.host_keys);
            let mut opens = false;
            for key in keys.into_iter().flatten().filter(|key| key.is_recipient()) {
                let to = Door {
                    host: name,
                    key: key.as_str(),
                };
                opens |= self.vault.as_it_is(secret, &to)?.is_some();
            }
            if !opens {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the sealed file of each secret is there. Opens none, and needs no key.
    pub fn sealed(&self) -> Result<(), Obstacle> {
        for name in self.secrets() {
            let read = self.vault.source(name);
            read.map_err(|error| no_secret(name, &error))?;
        }
        Ok(())
    }
}

impl Intent for Deploy {
    type Plan = DeployPlan;

    fn looks_for_drift(&self) -> bool {
        true
    }

    /// A host that push-host comes to holds no secret yet, so every secret that does not travel as it is
    /// is opened once.
    fn ready(&self) -> Result<(), Obstacle> {
        for name in self.secrets() {
            let refused = |error: VaultError| no_secret(name, &error);
            if !self.travels(name).map_err(refused)? {
                self.vault.open(name).map_err(refused)?;
            }
        }
        Ok(())
    }

    fn groundwork(&self, host: &HostName) -> Option<Groundwork> {
        let host = self.fleet.hosts.get(host)?;
        // Whatever is wrong with it is told by the plan.
        let certificates = self.fleet.certificates(host).ok()?;
        let wanted = Groundwork {
            certificates,
            ..Groundwork::default()
        };
        (!wanted.is_empty()).then_some(wanted)
    }

    fn plan(&self, known: &Known) -> Result<Proposal<DeployPlan>, Obstacle> {
        let host = self
            .fleet
            .hosts
            .get(&known.host)
            .ok_or_else(|| not_declared(&known.host))?;
        let input = Input {
            fleet: &self.fleet,
            host,
            engine: &self.engine,
            payloads: &self.payloads,
            release: &self.release,
            verbatim: &self.verbatim,
            vault: self.vault.as_ref(),
            hello: &known.hello,
            applying: self.applying,
        };
        let desired = desired(&input).map_err(|error| undesired(&error))?;
        let plan = HostPlan::new(&known.hello, &desired, known.way_in);
        Ok(proposal(plan.on_groundwork(&known.lacking), desired))
    }

    fn request(&self, known: &Known, plan: &DeployPlan) -> Result<Request, Obstacle> {
        let provenance = self.provenance.clone();
        let stage = plan.desired.stage(&known.hello, provenance, known.way_in);
        Ok(Request::Stage(Box::new(stage)))
    }

    fn pack(&self, missing: &BTreeSet<Digest>) -> Result<Arc<dyn PackSource>, Obstacle> {
        match self.packs.pack(missing) {
            Ok(pack) => Ok(pack),
            Err(error) => Err(Obstacle {
                kind: ObstacleKind::Start,
                code: "push::release".into(),
                why: error.to_string(),
                help: error.help(),
            }),
        }
    }
}

/// What would be done to a host by this plan.
pub(super) fn proposal(plan: HostPlan, desired: Desired) -> Proposal<DeployPlan> {
    Proposal {
        summary: summary(&plan),
        change: if plan.is_empty() {
            Change::Nothing
        } else {
            Change::Something
        },
        confirm: if plan.is_risky() {
            Confirm::Needed
        } else {
            Confirm::NotNeeded
        },
        refused: refused(&plan),
        texts_wanted: plan.old_texts(),
        plan: DeployPlan {
            host: plan,
            desired,
        },
    }
}

pub(super) fn summary(plan: &HostPlan) -> Summary {
    let mut summary = Summary {
        base: plan.base,
        added: plan.groundwork.len(),
        changed: usize::from(plan.firewall.is_some()),
        removed: 0,
        effects: plan.effects.clone(),
        risks: plan.risks.clone(),
    };
    count(&mut summary, plan.releases.values());
    count(&mut summary, plan.units.values());
    count(&mut summary, plan.sites.values());
    count(&mut summary, plan.files.values());
    count(
        &mut summary,
        plan.secrets.values().flat_map(BTreeMap::values),
    );
    summary.changed += plan
        .settings
        .keys()
        .filter(|app| !plan.releases.contains_key(*app))
        .count();
    summary
}

fn count<'a, T: 'a>(summary: &mut Summary, changes: impl Iterator<Item = &'a Difference<T>>) {
    for change in changes {
        match (&change.from, &change.to) {
            (None, _) => summary.added += 1,
            (Some(_), None) => summary.removed += 1,
            (Some(_), Some(_)) => summary.changed += 1,
        }
    }
}

/// What is known already to make the host refuse it.
fn refused(plan: &HostPlan) -> Option<Obstacle> {
    let first = plan.refusals.first()?;
    let all: Vec<String> = plan.refusals.iter().map(ToString::to_string).collect();
    Some(Obstacle {
        kind: ObstacleKind::Gate,
        code: "push::plan::refused".into(),
        why: all.join("; "),
        help: first.help(),
    })
}

fn no_secret(name: &FileName, error: &VaultError) -> Obstacle {
    Obstacle {
        kind: ObstacleKind::Secret,
        code: "push::desired::secret".into(),
        why: format!("the secret {name}: {error}"),
        help: error.help.clone(),
    }
}

pub(super) fn undesired(error: &DesiredError) -> Obstacle {
    let (kind, code) = if error.is_about_secrets() {
        (ObstacleKind::Secret, "push::desired::secret")
    } else {
        (ObstacleKind::Gate, "push::desired")
    };
    Obstacle {
        kind,
        code: code.into(),
        why: error.to_string(),
        help: error.help(),
    }
}

pub(super) fn not_declared(host: &HostName) -> Obstacle {
    Obstacle {
        kind: ObstacleKind::Start,
        code: "push::rollout::not_declared".into(),
        why: format!("the inventory has no host {host}"),
        help: "this is a mistake in push; please report it".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Opened;
    use crate::inventory;

    const HOST_KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    /// Every file is sealed to `web1` alone, and nobody opens any.
    struct OfOneHost;

    fn refused() -> VaultError {
        VaultError {
            why: "there is no key".into(),
            help: "bring one".into(),
        }
    }

    impl Vault for OfOneHost {
        fn source(&self, secret: &FileName) -> Result<Digest, VaultError> {
            Ok(Digest::of(secret.as_str()))
        }

        fn revision(&self, _: &FileName) -> Option<String> {
            None
        }

        fn as_it_is(&self, _: &FileName, to: &Door<'_>) -> Result<Option<Vec<u8>>, VaultError> {
            match to.host.as_str() {
                "web1" => Ok(Some(Vec::new())),
                _ => Err(refused()),
            }
        }

        fn open(&self, _: &FileName) -> Result<Opened, VaultError> {
            Err(refused())
        }

        fn seal(&self, _: &[u8], _: &str) -> Result<Vec<u8>, VaultError> {
            Err(refused())
        }
    }

    #[test]
    fn what_another_host_cannot_open_does_not_hold_up_those_that_are_pushed_to() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("inventory/secrets")).unwrap();
        std::fs::write(root.join("inventory/secrets/url.age"), "").unwrap();
        let host = |name: &str| {
            format!("[hosts.{name}]\naddress = \"192.0.2.1\"\nhost_key = \"{HOST_KEY}\"\n")
        };
        let app = "[apps.api]\non = \"*\"\nsecrets = [\"url\"]\nsource = \"app\"\n";
        let text = [
            "project = \"shop\"\n",
            &host("web1"),
            &host("web2"),
            app,
            "[apps.api.service]\nexec = \"/bin/true\"\n",
        ];
        std::fs::write(root.join("inventory/prod.toml"), text.concat()).unwrap();
        let fleet = inventory::load(root, &"prod".parse().unwrap()).unwrap();
        let ready = |hosts: &[&str]| {
            let payload = Payload::nothing(&"api".parse().unwrap());
            let shipment = Deploy {
                fleet: fleet.clone(),
                hosts: hosts.iter().map(|name| name.parse().unwrap()).collect(),
                engine: Engine::built_in(),
                packs: Packs::new([&payload]),
                payloads: BTreeMap::from([(payload.app.clone(), Arc::new(payload))]),
                release: "r1".parse().unwrap(),
                verbatim: BTreeMap::new(),
                vault: Box::new(OfOneHost),
                applying: Applying::Changes,
                provenance: Provenance::default(),
            };
            shipment.ready()
        };
        assert_eq!(ready(&["web1"]), Ok(()));
        assert!(ready(&["web1", "web2"]).is_err());
    }
}
