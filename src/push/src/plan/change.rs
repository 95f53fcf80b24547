//! Both sides of each change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use push_wire::digest::Digest;
use push_wire::firewall::{Firewall, Logins, Ping, Rule};
use push_wire::groundwork::{PackageName, Work};
use push_wire::manifest::{App, Manifest, OnChange, Secret, Slice};
use serde::Serialize;

use crate::name::{AppName, FileName, HostPath, ReleaseId, TreePath, UserName};

/// Both sides of a change. `None` is absence, not ignorance: a plan is only made once the host has
/// been asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change<T> {
    /// What is there.
    pub from: Option<T>,
    /// What shall be there.
    pub to: Option<T>,
}

impl<T> Change<T> {
    /// Whether something new comes.
    pub fn is_added(&self) -> bool {
        self.from.is_none()
    }

    /// Whether something goes.
    pub fn is_removed(&self) -> bool {
        self.to.is_none()
    }
}

/// What a plan says of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReleaseNote {
    /// Its id.
    pub id: ReleaseId,
    /// The digest of its tree.
    pub tree: Digest,
    /// The bytes of its files.
    pub size: u64,
}

/// What changes about an app besides its release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// The user it runs as.
    User(Change<UserName>),
    /// Folders that survive releases, and stay whose they are although another user runs the app now.
    StayOwned {
        /// The user whose they are.
        by: UserName,
        /// The folders.
        shared: BTreeSet<TreePath>,
    },
    /// Folders that survive releases.
    Shared {
        /// New ones.
        added: BTreeSet<TreePath>,
        /// Those no longer linked to; their content stays on the host.
        removed: BTreeSet<TreePath>,
    },
    /// Ports it claims.
    Ports {
        /// New ones.
        added: BTreeSet<u16>,
        /// Those given up.
        removed: BTreeSet<u16>,
    },
    /// What makes it healthy.
    Health,
    /// How many releases stay.
    KeepReleases(Change<u32>),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(change) => write!(f, "user {}", Arrow(change)),
            Self::StayOwned { by, shared } => {
                let shared: Vec<&str> = shared.iter().map(TreePath::as_str).collect();
                let folders = shared.join(", ");
                write!(
                    f,
                    "shared {folders} stays {by}'s until root hands it over (chown -R)"
                )
            }
            Self::Shared { added, removed } => {
                f.write_str("shared folders")?;
                signed(f, added, removed)
            }
            Self::Ports { added, removed } => {
                f.write_str("ports")?;
                signed(f, added, removed)
            }
            Self::Health => f.write_str("health check"),
            Self::KeepReleases(change) => write!(f, "keep_releases {}", Arrow(change)),
        }
    }
}

struct Arrow<'a, T>(&'a Change<T>);

impl<T: fmt::Display> fmt::Display for Arrow<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.from, &self.0.to) {
            (Some(from), Some(to)) => write!(f, "{from} → {to}"),
            (None, Some(to)) => write!(f, "+{to}"),
            (Some(from), None) => write!(f, "-{from}"),
            (None, None) => Ok(()),
        }
    }
}

fn signed<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    added: &BTreeSet<T>,
    removed: &BTreeSet<T>,
) -> fmt::Result {
    removed.iter().try_for_each(|each| write!(f, " -{each}"))?;
    added.iter().try_for_each(|each| write!(f, " +{each}"))
}

/// What changes about what is let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirewallChange {
    /// How many rules this slice declared before, and how many from now on; absent without a
    /// firewall.
    pub declared: Change<usize>,
    /// Rules that come.
    pub added: BTreeSet<Rule>,
    /// Rules that go.
    pub removed: BTreeSet<Rule>,
    /// Whether pings are answered, where that changes.
    pub ping: Option<Change<Ping>>,
    /// Whether newcomers at the operator's ports are slowed down, where that changes.
    pub logins: Option<Change<Logins>>,
}

impl FirewallChange {
    /// The change from one declaration to another, unless they are the same.
    pub fn between(from: Option<&Firewall>, to: Option<&Firewall>) -> Option<Self> {
        if from == to {
            return None;
        }
        let rules = |firewall: Option<&Firewall>| {
            firewall
                .map(|firewall| firewall.allow.clone())
                .unwrap_or_default()
        };
        let (old, new) = (rules(from), rules(to));
        let ping = Change {
            from: from.map(|firewall| firewall.ping),
            to: to.map(|firewall| firewall.ping),
        };
        let logins = Change {
            from: from.map(|firewall| firewall.logins),
            to: to.map(|firewall| firewall.logins),
        };
        Some(Self {
            declared: Change {
                from: from.map(|firewall| firewall.allow.len()),
                to: to.map(|firewall| firewall.allow.len()),
            },
            added: new.difference(&old).cloned().collect(),
            removed: old.difference(&new).cloned().collect(),
            ping: (ping.from != ping.to).then_some(ping),
            logins: (logins.from.unwrap_or_default() != logins.to.unwrap_or_default())
                .then_some(logins),
        })
    }
}

/// What is done before the switch and stays when the rest is taken back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardOnly {
    /// A system user is made, unless it is there.
    User(UserName),
    /// A folder that survives releases is made, unless it is there.
    Shared {
        /// The app.
        app: AppName,
        /// The folder below `/srv/<app>/shared`.
        folder: TreePath,
    },
    /// Kernel parameters are set, and stay as they are until a boot where their file is taken back:
    /// sysctl.d(5) knows no value of before.
    Parameters(HostPath),
    /// Packages are installed.
    Packages(BTreeSet<PackageName>),
    /// Another piece of groundwork is made.
    Groundwork(Work),
}

impl fmt::Display for ForwardOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user {user} is created unless it exists"),
            Self::Shared { app, folder } => {
                write!(f, "/srv/{app}/shared/{folder} is created unless it exists")
            }
            Self::Parameters(file) => {
                write!(f, "kernel parameters of {file} stay set until a boot")
            }
            Self::Packages(names) => {
                let names: Vec<&str> = names.iter().map(PackageName::as_str).collect();
                let verb = if names.len() == 1 { "is" } else { "are" };
                write!(f, "{} {verb} installed", names.join(", "))
            }
            Self::Groundwork(work) => write!(f, "{work}"),
        }
    }
}

/// The keys whose values are not the same on both sides.
pub(super) fn changes<K: Ord + Clone, V: Clone>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
) -> BTreeMap<K, Change<V>> {
    let keys: BTreeSet<&K> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter_map(|key| match (old.get(key), new.get(key)) {
            (Some(from), Some(to)) if same(from, to) => None,
            (from, to) => Some((
                key.clone(),
                Change {
                    from: from.cloned(),
                    to: to.cloned(),
                },
            )),
        })
        .collect()
}

pub(super) fn releases(
    old: &BTreeMap<AppName, App>,
    new: &BTreeMap<AppName, App>,
) -> BTreeMap<AppName, Change<ReleaseNote>> {
    let note = |app: App| ReleaseNote {
        id: app.release,
        tree: app.tree,
        size: app.size,
    };
    changes(old, new, |from, to| {
        from.release == to.release && from.tree == to.tree
    })
    .into_iter()
    .map(|(app, change)| {
        let from = change.from.map(note);
        let to = change.to.map(note);
        (app, Change { from, to })
    })
    .collect()
}

pub(super) fn settings(
    old: &BTreeMap<AppName, App>,
    new: &BTreeMap<AppName, App>,
) -> BTreeMap<AppName, Vec<Setting>> {
    new.iter()
        .filter_map(|(name, to)| {
            let from = old.get(name)?;
            if super::same_settings(from, to) {
                return None;
            }
            Some((name.clone(), app_settings(from, to)))
        })
        .collect()
}

fn app_settings(from: &App, to: &App) -> Vec<Setting> {
    let mut all = Vec::new();
    if from.user != to.user {
        all.push(Setting::User(both(&from.user, &to.user)));
        let kept: BTreeSet<TreePath> = from.shared.intersection(&to.shared).cloned().collect();
        if !kept.is_empty() {
            all.push(Setting::StayOwned {
                by: from.user.clone(),
                shared: kept,
            });
        }
    }
    if from.shared != to.shared {
        all.push(Setting::Shared {
            added: to.shared.difference(&from.shared).cloned().collect(),
            removed: from.shared.difference(&to.shared).cloned().collect(),
        });
    }
    if from.ports != to.ports {
        all.push(Setting::Ports {
            added: to.ports.difference(&from.ports).copied().collect(),
            removed: from.ports.difference(&to.ports).copied().collect(),
        });
    }
    if from.health != to.health {
        all.push(Setting::Health);
    }
    if from.keep_releases != to.keep_releases {
        all.push(Setting::KeepReleases(both(
            &from.keep_releases,
            &to.keep_releases,
        )));
    }
    all
}

fn both<T: Clone>(from: &T, to: &T) -> Change<T> {
    Change {
        from: Some(from.clone()),
        to: Some(to.clone()),
    }
}

type Secrets = BTreeMap<AppName, BTreeMap<FileName, Secret>>;

/// A secret that was sealed anew to another key is a change too, though nobody is told of it.
pub(super) fn secrets(
    old: &Secrets,
    new: &Secrets,
) -> BTreeMap<AppName, BTreeMap<FileName, Change<Secret>>> {
    let none = BTreeMap::new();
    let apps: BTreeSet<&AppName> = old.keys().chain(new.keys()).collect();
    apps.into_iter()
        .map(|app| {
            let from = old.get(app).unwrap_or(&none);
            let to = new.get(app).unwrap_or(&none);
            (app.clone(), changes(from, to, PartialEq::eq))
        })
        .filter(|(_, files)| !files.is_empty())
        .collect()
}

/// What is lacking, as it stays: the packages in one line.
pub(super) fn groundwork(lacking: &BTreeSet<Work>) -> Vec<ForwardOnly> {
    let mut packages = BTreeSet::new();
    let mut all = Vec::new();
    for work in lacking {
        match work {
            Work::Package(name) => {
                packages.insert(name.clone());
            }
            Work::Login(_)
            | Work::Hostname(_)
            | Work::TimeZone(_)
            | Work::Locale(_)
            | Work::Swap(_)
            | Work::WelcomePage
            | Work::Certificate(_) => all.push(ForwardOnly::Groundwork(work.clone())),
        }
    }
    if !packages.is_empty() {
        all.insert(0, ForwardOnly::Packages(packages));
    }
    all
}

pub(super) fn forward_only(from: &Manifest, new: &Slice) -> Vec<ForwardOnly> {
    let there = from.apps();
    let users: BTreeSet<&UserName> = there.values().map(|app| &app.user).collect();
    let mut all = BTreeSet::new();
    for (name, app) in &new.apps {
        if !users.contains(&app.user) {
            all.insert(ForwardOnly::User(app.user.clone()));
        }
        let before = there.get(name).map(|app| &app.shared);
        for folder in &app.shared {
            if before.is_none_or(|shared| !shared.contains(folder)) {
                all.insert(ForwardOnly::Shared {
                    app: name.clone(),
                    folder: folder.clone(),
                });
            }
        }
    }
    let files = from.files();
    let changed = new.files.iter().filter(|(path, file)| {
        let before = files.get(*path).map(|file| file.digest);
        file.on_change == OnChange::Sysctl && before != Some(file.digest)
    });
    all.extend(changed.map(|(path, _)| ForwardOnly::Parameters(path.clone())));
    all.into_iter().collect()
}
