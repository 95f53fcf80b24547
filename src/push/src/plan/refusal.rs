//! What is known before anything is sent to make a host refuse.

use std::collections::BTreeMap;

use push_wire::certificate::{CHALLENGES, Certificate};
use push_wire::facts::{Facts, Needs};
use push_wire::manifest::Claim;
use push_wire::message::Hello;
use serde::Serialize;

use crate::desired::Desired;
use crate::name::AppName;

/// Bytes that stay free on each file system besides what a push brings.
const RESERVE_BYTES: u64 = 64 << 20;

/// Where releases go.
const RELEASES: &str = "/srv";

/// Where generations go.
const GENERATIONS: &str = "/etc/push";

/// Why a host would refuse a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Programs made for another machine.
    #[error("{app} is built for {needed}, and this host is {found}")]
    Machine {
        /// The app.
        app: AppName,
        /// What it is built for.
        needed: String,
        /// What the host is.
        found: String,
    },
    /// The dynamic loader that the programs ask for is not there.
    #[error("{app} needs the loader {needed}, which this host does not have")]
    Interpreter {
        /// The app.
        app: AppName,
        /// The loader's path.
        needed: String,
    },
    /// Symbols of a glibc that is newer than the host's.
    #[error("{app} needs glibc {needed}, and this host has {found}")]
    Glibc {
        /// The app.
        app: AppName,
        /// What it needs.
        needed: String,
        /// What the host has.
        found: String,
    },
    /// Shared libraries that the host does not have and the release does not bring.
    #[error("{app} needs shared libraries that this host does not have: {}", .needed.join(", "))]
    Libraries {
        /// The app.
        app: AppName,
        /// Their names.
        needed: Vec<String>,
    },
    /// Another project of this host has it.
    #[error("{} belongs to the project {} on this host", .0.what, .0.holder)]
    Claimed(Claim),
    /// A program of the system that is not installed.
    #[error("{tool} is not installed, and {needed_for} needs it")]
    Tool {
        /// The program.
        tool: &'static str,
        /// What needs it.
        needed_for: String,
    },
    /// Nothing on the host would answer an authority.
    #[error("this host is not prepared for a {0}")]
    Unprepared(Box<Certificate>),
    /// A directive that the host's systemd does not know yet.
    #[error("{directive} needs systemd {needed}, and this host has {found}")]
    Systemd {
        /// The directive.
        directive: String,
        /// The version that brought it.
        needed: u32,
        /// The host's version.
        found: u32,
    },
    /// Too little space.
    #[error("{folder} has {free} bytes free, and this push needs {needed}")]
    Bytes {
        /// The folder.
        folder: String,
        /// What is needed, the reserve included.
        needed: u64,
        /// What is free.
        free: u64,
    },
    /// Too few inodes.
    #[error("{folder} has {free} inodes free, and this push needs {needed}")]
    Inodes {
        /// The folder.
        folder: String,
        /// What is needed.
        needed: u64,
        /// What is free.
        free: u64,
    },
    /// The host goes down soon.
    #[error("a shutdown or reboot of this host is scheduled, and comes too soon for a push")]
    Shutdown,
}

impl Refusal {
    /// What to do next.
    pub fn help(&self) -> String {
        match self {
            Self::Machine { found, .. } => {
                format!(
                    "build it for {found}: `cargo build --target {found}-unknown-linux-musl`, say"
                )
            }
            Self::Interpreter { .. } | Self::Glibc { .. } => {
                "build it on the host's own release of the system, or statically (a musl target)"
                    .into()
            }
            Self::Libraries { .. } => {
                "install them on the host, ship them inside the release, or link statically".into()
            }
            Self::Claimed(claim) => {
                format!(
                    "give it another name, or push {} without it first",
                    claim.holder
                )
            }
            Self::Tool { tool, .. } => format!("on the host: `apt-get install {}`", package(tool)),
            Self::Unprepared(_) => {
                "`push bootstrap` with this environment prepares it: certbot, and what nginx answers"
                    .into()
            }
            Self::Systemd { .. } => "upgrade the host, or use an own template without it".into(),
            Self::Bytes { folder, .. } => format!("make room: `du -xh --max-depth=2 {folder}`"),
            Self::Inodes { folder, .. } => {
                format!("remove small files: `du -x --inodes --max-depth=2 {folder}`")
            }
            Self::Shutdown => "push again afterwards, or cancel it: `shutdown -c`".into(),
        }
    }
}

fn package(tool: &str) -> &str {
    match tool {
        "nft" => "nftables",
        other => other,
    }
}

pub(super) fn refusals(hello: &Hello, desired: &Desired) -> Vec<Refusal> {
    let facts = &hello.facts;
    let mut all = Vec::new();
    for (app, needs) in &desired.needs {
        programs(app, needs, facts, &mut all);
    }
    let claims = hello.manifest.claims(&desired.project, &desired.slice);
    all.extend(claims.into_iter().map(Refusal::Claimed));
    tools(facts, desired, &mut all);
    certificates(hello, desired, &mut all);
    room(hello, desired, &mut all);
    if facts.goes_down_soon(0).is_some() {
        all.push(Refusal::Shutdown);
    }
    all
}

fn programs(app: &AppName, needs: &Needs, facts: &Facts, all: &mut Vec<Refusal>) {
    let app = app.clone();
    if let Some(needed) = &needs.machine
        && !needs.run_on(&facts.machine)
    {
        // The rest would be wrong too, and say nothing new.
        all.push(Refusal::Machine {
            app,
            needed: needed.clone(),
            found: facts.machine.clone(),
        });
        return;
    }
    if let Some(needed) = &needs.interpreter
        && !facts.interpreters.contains(needed)
    {
        all.push(Refusal::Interpreter {
            app,
            needed: needed.clone(),
        });
        return;
    }
    if let Some(needed) = needs.glibc
        && facts.glibc.is_none_or(|found| found < needed)
    {
        let version = |(major, minor): (u32, u32)| format!("{major}.{minor}");
        all.push(Refusal::Glibc {
            app: app.clone(),
            needed: version(needed),
            found: facts.glibc.map_or_else(|| "none".to_owned(), version),
        });
    }
    let missing: Vec<String> = needs
        .libraries
        .difference(&facts.libraries)
        .cloned()
        .collect();
    if !missing.is_empty() {
        all.push(Refusal::Libraries {
            app,
            needed: missing,
        });
    }
}

/// What answers is brought by the host's own slice, along with certbot.
fn certificates(hello: &Hello, desired: &Desired, all: &mut Vec<Refusal>) {
    let files = hello.manifest.files();
    let answers = files.into_keys().any(|path| path.as_str() == CHALLENGES);
    let wanted = desired.slice.groundwork.certificates.first();
    if let Some(wanted) = wanted.filter(|_| !answers) {
        all.push(Refusal::Unprepared(Box::new(wanted.clone())));
    }
}

fn tools(facts: &Facts, desired: &Desired, all: &mut Vec<Refusal>) {
    let brings = |program: &str| desired.slice.groundwork.brings(program);
    if let (Some(app), None) = (desired.slice.sites.keys().next(), &facts.nginx)
        && !brings("nginx")
    {
        all.push(Refusal::Tool {
            tool: "nginx",
            needed_for: format!("the site of {app}"),
        });
    }
    if desired.slice.firewall.is_some() && !facts.nft && !brings("nft") {
        all.push(Refusal::Tool {
            tool: "nft",
            needed_for: "the firewall".to_owned(),
        });
    }
    let Some(found) = facts.systemd else {
        all.push(Refusal::Tool {
            tool: "systemd",
            needed_for: "every app".to_owned(),
        });
        return;
    };
    for (directive, needed) in &desired.directives {
        if found < *needed {
            all.push(Refusal::Systemd {
                directive: directive.clone(),
                needed: *needed,
                found,
            });
        }
    }
}

/// What is needed for certain, so that nothing is refused that the host would take: a host that
/// has an app already shares the contents of its releases, and only it knows how many.
fn room(hello: &Hello, desired: &Desired, all: &mut Vec<Refusal>) {
    let mut new = Load::default();
    for (name, app) in &desired.slice.apps {
        let known = hello
            .releases
            .get(name)
            .is_some_and(|held| !held.is_empty());
        if !known && let Some(tree) = desired.trees.get(&app.tree) {
            let files: BTreeMap<_, _> = tree
                .files()
                .map(|(_, digest, size)| (digest, size))
                .collect();
            new.bytes += files.values().sum::<u64>();
            new.inodes += tree.entries.len() as u64;
        }
    }
    let mut texts = Load::default();
    for (_, text) in desired.lacking_texts(hello) {
        texts.bytes += text.0.len() as u64;
        texts.inodes += 1;
    }
    for (folder, load) in [(RELEASES, new), (GENERATIONS, texts)] {
        let Some(room) = hello.facts.room.get(folder) else {
            continue;
        };
        let folder = folder.to_owned();
        let needed = load.bytes + RESERVE_BYTES;
        if load.bytes > 0 && room.bytes < needed {
            all.push(Refusal::Bytes {
                folder: folder.clone(),
                needed,
                free: room.bytes,
            });
        }
        if room.inodes < load.inodes {
            all.push(Refusal::Inodes {
                folder,
                needed: load.inodes,
                free: room.inodes,
            });
        }
    }
}

/// What a folder has to take.
#[derive(Default)]
struct Load {
    bytes: u64,
    inodes: u64,
}
