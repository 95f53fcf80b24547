//! What one generation declares, slice by slice. It holds digests and never contents, and no secret.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::digest::Digest;
use crate::firewall::Firewall;
use crate::groundwork::Groundwork;
use crate::health::Health;
use crate::name::{AppName, FileName, GenerationId, ProjectName, ReleaseId, UnitName, UserName};
use crate::path::{HostPath, TreePath};

/// The format written by this build; a later one is refused.
pub const FORMAT: u32 = 1;

/// The slice of the host itself, which belongs to no project: what `push bootstrap` declares.
pub const HOST_SLICE: &str = "host";

/// Everything declared on one host: `/etc/push/generations/<n>/manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The generation's own number.
    pub generation: GenerationId,
    /// The generation whose content an operator went back to, if this one is a rollback.
    pub restores: Option<GenerationId>,
    /// The TCP ports that operators come in by, open whatever the rules say.
    pub ways_in: BTreeSet<u16>,
    /// What each project declares, and who brought it.
    pub slices: BTreeMap<ProjectName, Placed>,
}

/// A slice with where it comes from. Only the slice counts when manifests are compared for effects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// What is declared.
    pub slice: Slice,
    /// Who brought it, when, from what.
    pub provenance: Provenance,
}

/// Who made a change and from what. For people; nothing is decided by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The environment that was pushed.
    pub environment: String,
    /// The operator: a person, or the CI job's actor.
    pub operator: String,
    /// The commit of the operator's checkout, with `-dirty` when it held more.
    pub commit: Option<String>,
    /// When it was made, seconds since 1970 by the laptop's clock.
    pub at_unix_s: u64,
    /// The version of push.
    pub push_version: String,
    /// A random name of the run of push, the same on all its hosts; empty where none was told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub push: String,
}

/// What one project declares on one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// The apps.
    pub apps: BTreeMap<AppName, App>,
    /// The systemd units, those of apps included. Content: `systemd/<name>`.
    pub units: BTreeMap<UnitName, Unit>,
    /// The nginx sites, named after their apps. Content: `nginx/<name>.conf`.
    pub sites: BTreeMap<AppName, Text>,
    /// What the sites answer to, by app. Their texts say the same; this is what another project's sites
    /// are held against. A generation of an earlier push-host does not tell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<AppName, BTreeSet<Answer>>,
    /// What is let in; `None` leaves the firewall to others.
    pub firewall: Option<Firewall>,
    /// Other files, by their path on the host. Content: `files/<path>`.
    pub files: BTreeMap<HostPath, File>,
    /// Secrets, by app and file name. Sealed content: `secrets/<app>/<name>.age`.
    pub secrets: BTreeMap<AppName, BTreeMap<FileName, Secret>>,
    /// What is made before the switch and stays when the rest is taken back.
    #[serde(default, skip_serializing_if = "Groundwork::is_empty")]
    pub groundwork: Groundwork,
    /// How often it was applied again although nothing of it had changed: a slice with another number than
    /// before takes hold as a first one does.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub again: u32,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Slice {
    /// The slice applied as often as the one of `project` that is in effect: what it says differs, or nothing.
    #[must_use]
    pub fn applied_as_in(self, current: &Manifest, project: &ProjectName) -> Self {
        let again = current.slice(project).map_or(0, |slice| slice.again);
        Self { again, ..self }
    }

    /// The slice applied once more.
    #[must_use]
    pub fn once_more(self) -> Self {
        Self {
            again: self.again.wrapping_add(1),
            ..self
        }
    }
}

/// A text of the generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// Its content.
    pub digest: Digest,
}

/// A name that nginx answers to in one place. Of two sites with the same, it serves one and says nothing
/// but a warning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The name, in lower case.
    pub name: String,
    /// Where nginx listens for it: a port, or an address with one.
    pub at: String,
}

/// An app's release and what surrounds it. An app that ships nothing has the release `none`, an empty
/// tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The release: `/srv/<app>/releases/<id>`.
    pub release: ReleaseId,
    /// The digest of the release's tree: the same digest is the same release.
    pub tree: Digest,
    /// The bytes of the release's files together.
    pub size: u64,
    /// The user that the app runs as; created if missing.
    pub user: UserName,
    /// Folders that survive releases, `/srv/<app>/shared/<path>`, owned by the user. Each is linked
    /// to from the same path inside the release.
    pub shared: BTreeSet<TreePath>,
    /// The TCP and UDP ports that the app says it listens on; claimed for it on the host.
    pub ports: BTreeSet<u16>,
    /// How many committed releases of it stay on the host.
    pub keep_releases: u32,
    /// What makes it healthy; `None` asks nothing beyond its units having started.
    pub health: Option<Health>,
}

/// A systemd unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// The content of the unit file.
    pub digest: Digest,
    /// The app that it belongs to: the unit restarts with the app's release and secrets.
    pub app: AppName,
    /// The targets whose `.wants` it stands in: empty means that nothing starts it at boot.
    pub wanted_by: BTreeSet<UnitName>,
    /// Whether it runs all the time or only when something else calls for it.
    pub runs: Runs,
    /// What a new release of its app, or a changed secret, does to it.
    pub on_release: OnRelease,
}

/// When a unit runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runs {
    /// Started by the switch, and watched: a service, a socket, a timer.
    Always,
    /// Started by a timer, a socket, a dependency or a person.
    OnDemand,
}

/// What a new release does to a running unit of its app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRelease {
    /// It is restarted.
    Restart,
    /// It is told to reload.
    Reload,
    /// Nothing: the unit does not run the release's code (a socket, a timer).
    Nothing,
}

/// Any other file on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its content.
    pub digest: Digest,
    /// Its owner.
    pub owner: UserName,
    /// Its group.
    pub group: UserName,
    /// Its permission bits, at most 0o777.
    pub mode: u32,
    /// What has to happen after it appeared, changed or went.
    pub on_change: OnChange,
}

/// What a changed file asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnChange {
    /// Nothing; whoever needs it reads it anew.
    Nothing,
    /// The unit is restarted if it runs.
    Restart(UnitName),
    /// The unit is reloaded if it runs.
    Reload(UnitName),
    /// systemd reads its configuration again.
    DaemonReload,
    /// The kernel's parameters are set again.
    Sysctl,
}

/// A secret as delivered to its reader. What is sealed may be composed of several secrets of the
/// inventory (an environment file).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// The digest of the sealed content; differs with every sealing, so it is not compared.
    pub sealed: Digest,
    /// A digest over the inventory's own sealed files that it was made from.
    pub source: Digest,
    /// HMAC-SHA256 of the opened content under the host's fingerprint key.
    pub fingerprint: Digest,
    /// The SHA-256 of the host key's blob that it is sealed to.
    pub recipient: Digest,
    /// Who may read the opened file; its mode is always 0400.
    pub owner: UserName,
    /// Who holds it in memory and must be told when it changes.
    pub reader: Reader,
}

/// Who must be told when a secret changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reader {
    /// The units of its app, which read it again when they are told to.
    App,
    /// The units of its app as they start: systemd gives it to them, as a credential or a variable
    /// (systemd.exec(5), `LoadCredential=`, `EnvironmentFile=`).
    AppStart,
    /// nginx.
    Nginx,
    /// Nobody: it is read each time (a health probe's token, an htpasswd file).
    Nobody,
}

impl Secret {
    /// Whether both deliver the same content to the same reader, however it was sealed.
    pub fn same_content(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
            && self.owner == other.owner
            && self.reader == other.reader
    }
}

impl Manifest {
    /// A host before its first push.
    pub fn empty() -> Self {
        Self::nothing(GenerationId::NONE)
    }

    /// A generation that declares nothing, or of which nothing is known.
    pub fn nothing(generation: GenerationId) -> Self {
        Self {
            format: FORMAT,
            generation,
            restores: None,
            ways_in: BTreeSet::new(),
            slices: BTreeMap::new(),
        }
    }

    /// What `project` declares here, if anything.
    pub fn slice(&self, project: &ProjectName) -> Option<&Slice> {
        self.slices.get(project).map(|placed| &placed.slice)
    }

    /// This manifest without the slices that `other` has applied again, or that were applied again since: what
    /// the host has of them in memory and in place is not relied on.
    pub fn relied_on(&self, other: &Self) -> Self {
        let mut relied_on = self.clone();
        let mut is_firewall_relied_on = true;
        relied_on.slices.retain(|project, placed| {
            let others = other.slice(project);
            let is_so = others.is_none_or(|others| others.again == placed.slice.again);
            is_firewall_relied_on &= is_so || placed.slice.firewall.is_none();
            is_so
        });
        // It is one, whoever declares something of it.
        if !is_firewall_relied_on {
            for placed in relied_on.slices.values_mut() {
                placed.slice.firewall = None;
            }
        }
        relied_on
    }

    /// Every slice with its project.
    pub fn all(&self) -> impl Iterator<Item = (&ProjectName, &Slice)> {
        self.slices
            .iter()
            .map(|(project, placed)| (project, &placed.slice))
    }

    /// Every app of every slice.
    pub fn apps(&self) -> BTreeMap<&AppName, &App> {
        self.all().flat_map(|(_, slice)| &slice.apps).collect()
    }

    /// Every unit of every slice.
    pub fn units(&self) -> BTreeMap<&UnitName, &Unit> {
        self.all().flat_map(|(_, slice)| &slice.units).collect()
    }

    /// Every site of every slice.
    pub fn sites(&self) -> BTreeMap<&AppName, &Text> {
        self.all().flat_map(|(_, slice)| &slice.sites).collect()
    }

    /// Every file of every slice.
    pub fn files(&self) -> BTreeMap<&HostPath, &File> {
        self.all().flat_map(|(_, slice)| &slice.files).collect()
    }

    /// Every secret of every slice.
    pub fn secrets(&self) -> BTreeMap<(&AppName, &FileName), &Secret> {
        self.all()
            .flat_map(|(_, slice)| &slice.secrets)
            .flat_map(|(app, files)| {
                files
                    .iter()
                    .map(move |(file, secret)| ((app, file), secret))
            })
            .collect()
    }

    /// How long the health of an app may take to be found out at most, in seconds; the apps are asked
    /// side by side.
    pub fn health_s(&self) -> u64 {
        let apps = self.apps().into_values();
        let health = apps.filter_map(|app| app.health.as_ref());
        let longest_ms = health
            .map(|health| health.timeout_ms.saturating_add(health.quiet_ms))
            .max();
        longest_ms.unwrap_or(0).div_ceil(1000)
    }

    /// Every certificate of every slice.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.all()
            .flat_map(|(_, slice)| &slice.groundwork.certificates)
    }

    /// All rules together, or `None` when no slice declares a firewall.
    pub fn firewall(&self) -> Option<Firewall> {
        let declared: Vec<&Firewall> = self
            .all()
            .filter_map(|(_, slice)| slice.firewall.as_ref())
            .collect();
        // One slice that answers pings is enough, as one that lets a port in is.
        let ping = declared.iter().map(|firewall| firewall.ping).max()?;
        let allow = declared
            .iter()
            .flat_map(|firewall| firewall.allow.clone())
            .collect();
        // One slice that has newcomers slowed down is enough, too.
        let logins = declared.iter().map(|firewall| firewall.logins).max()?;
        Some(Firewall {
            allow,
            ping,
            logins,
        })
    }

    /// The nftables file that this generation's rules make, if any slice declares a firewall.
    pub fn nftables(&self) -> Option<String> {
        self.firewall()
            .map(|firewall| crate::firewall::render(&firewall, &self.ways_in))
    }
}

/// A name, path or port that two slices claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// What is claimed: `app api`, `port 8080`, `file /etc/x`, `unit api.service`.
    pub what: String,
    /// The slice that has it.
    pub holder: ProjectName,
    /// The slice that wants it too.
    pub claimant: ProjectName,
}

impl Manifest {
    /// What `slice` of `project` would take from the other slices of this host.
    pub fn claims(&self, project: &ProjectName, slice: &Slice) -> Vec<Claim> {
        let wanted = claimed(slice);
        self.all()
            .filter(|(holder, _)| *holder != project)
            .flat_map(|(holder, theirs)| {
                claimed(theirs)
                    .intersection(&wanted)
                    .cloned()
                    .collect::<Vec<_>>()
                    .into_iter()
                    .map(move |what| Claim {
                        what,
                        holder: holder.clone(),
                        claimant: project.clone(),
                    })
            })
            .collect()
    }
}

fn claimed(slice: &Slice) -> BTreeSet<String> {
    let apps = slice.apps.keys().map(|app| format!("app {app}"));
    let ports = slice
        .apps
        .values()
        .flat_map(|app| &app.ports)
        .map(|port| format!("port {port}"));
    let units = slice.units.keys().map(|unit| format!("unit {unit}"));
    let files = slice.files.keys().map(|path| format!("file {path}"));
    let names = slice.answers.values().flatten();
    let names = names.map(|Answer { name, at }| format!("server name {name} at {at}"));
    let rest = units.chain(files).chain(names);
    apps.chain(ports).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answering(project: &str, all: &[(&str, &str)]) -> (ProjectName, Slice) {
        let answer = |(name, at): &(&str, &str)| Answer {
            name: (*name).to_owned(),
            at: (*at).to_owned(),
        };
        let mut slice = Slice::default();
        let app = format!("{project}-web").parse().unwrap();
        slice.answers.insert(app, all.iter().map(answer).collect());
        (project.parse().unwrap(), slice)
    }

    #[test]
    fn two_projects_cannot_answer_to_one_name_in_one_place() {
        let mut manifest = Manifest::empty();
        let (shop, slice) = answering("shop", &[("a.example", "80"), ("a.example", "443")]);
        let provenance = Provenance::default();
        let placed = Placed { slice, provenance };
        manifest.slices.insert(shop, placed);
        let wanted = [
            ("a.example", "443"),
            ("a.example", "10.0.0.1:80"),
            ("b.example", "80"),
        ];
        let (blog, slice) = answering("blog", &wanted);
        let claims = manifest.claims(&blog, &slice);
        let what: Vec<&str> = claims.iter().map(|claim| claim.what.as_str()).collect();
        assert_eq!(what, ["server name a.example at 443"]);
        assert_eq!(claims[0].holder.as_str(), "shop");
    }

    /// Generations outlive the push-host that wrote them.
    #[test]
    fn a_slice_that_was_written_before_sites_told_what_they_answer_to_still_reads() {
        let before = r#"{"apps":{},"units":{},"sites":{},"firewall":null,"files":{},"secrets":{}}"#;
        let slice: Slice = serde_json::from_str(before).unwrap();
        assert_eq!(slice, Slice::default());
        assert_eq!(serde_json::to_string(&slice).unwrap(), before);
        let (_, told) = answering("shop", &[("a.example", "80")]);
        let written = serde_json::to_string(&told).unwrap();
        assert_eq!(serde_json::from_str::<Slice>(&written).unwrap(), told);
        let again = Slice {
            again: 2,
            ..Slice::default()
        };
        let written = serde_json::to_string(&again).unwrap();
        assert_eq!(serde_json::from_str::<Slice>(&written).unwrap(), again);
    }
}
