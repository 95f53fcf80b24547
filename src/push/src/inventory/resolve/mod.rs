//! What the inventory means: raw tables to a [`Fleet`], defaults filled in, names and values
//! checked, selectors replaced by the hosts they select.
//!
//! One file for each table. They go on after a mistake, so that one run tells all of them; the fleet
//! is only used when there was none. Texts with expressions are remembered and checked at the end,
//! for every host they are meant for.

mod app;
mod bootstrap;
mod certificates;
mod conflicts;
mod files;
mod firewall;
mod health;
mod host;
mod readers;
mod rollout;
mod service;
mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use push_wire::manifest::HOST_SLICE;

use super::document::Node;
use super::problem::{Place, Problem, Problems};
use super::raw::{self, OneOrMany};
use super::shape::{join, short};
use super::{
    Beside, Fleet, Protection, Sealed, Selector, TEMPLATES, nearest, quantity, secret_files,
};
use crate::name::{AppName, EnvironmentName, FileName, HostName, ProjectName};
use crate::template::{Engine, Scope, Template, TemplateError, TemplateName, Templated, Typed};

/// How many committed releases a host keeps unless the inventory says.
const KEEP_RELEASES: u32 = 5;

/// Resolves a tree whose shape has been checked.
pub(super) fn fleet(
    tree: &Node,
    raw: &raw::Inventory,
    (beside, problems): (&Beside<'_>, &mut Problems),
) -> Option<Fleet> {
    let mut resolver = Resolver {
        problems: std::mem::take(problems),
        templates: Templates::Closed(beside.project.join(TEMPLATES)),
        secrets: match beside.secrets {
            Sealed::All => Some(secret_files(beside.project, beside.environment)),
            Sealed::SomeMaybe => None,
        },
        environment: beside.environment,
        hosts: BTreeMap::new(),
        later: Vec::new(),
    };
    let at = At::root(tree);
    let project = resolver.project(&at, raw.project.as_deref());
    resolver.hosts(&at, raw);
    let ssh = resolver.ssh(&at.key("ssh"), raw.ssh.as_ref());
    let identities = resolver.identities(&at.key("secrets"), raw.secrets.as_ref());
    let readers = resolver.readers(&at.key("secrets"), raw.secrets.as_ref());
    let apps = resolver.apps(&at.key("apps"), raw.apps.as_ref());
    let firewall_at = at.key("firewall");
    let firewall = raw
        .firewall
        .as_ref()
        .map(|raw| resolver.firewall(&firewall_at, raw));
    let files = resolver.files(&at.key("files"), raw.files.as_ref());
    let bootstrap_at = at.key("bootstrap");
    let bootstrap = raw
        .bootstrap
        .as_ref()
        .and_then(|raw| resolver.bootstrap(&bootstrap_at, raw));
    let rollout = resolver.rollout(&at.key("rollout"), raw.rollout.as_ref());
    let Resolver {
        problems: found,
        hosts,
        later,
        ..
    } = resolver;
    *problems = found;
    let fleet = Fleet {
        environment: beside.environment.clone(),
        project: project?,
        protection: match raw.protected {
            Some(true) => Protection::Protected,
            Some(false) | None => Protection::Plain,
        },
        keep_releases: raw.keep_releases.unwrap_or(KEEP_RELEASES),
        ssh,
        identities,
        readers,
        hosts,
        apps,
        firewall,
        bootstrap,
        files,
        rollout,
    };
    if problems.is_empty() {
        check_texts(&fleet, &later, problems);
    }
    if problems.is_empty() {
        conflicts::check(&fleet, &at, problems);
        certificates::check(&fleet, &at, problems);
    }
    Some(fleet)
}

/// The templates, which most inventories name none of and which are then not read.
enum Templates {
    Closed(PathBuf),
    Open(Box<Result<Engine, TemplateError>>),
}

impl Templates {
    fn check(&mut self, name: &TemplateName) -> Result<(), TemplateError> {
        if let Self::Closed(folder) = self {
            *self = Self::Open(Box::new(Engine::open(folder)));
        }
        match self {
            Self::Open(opened) => match opened.as_ref() {
                Ok(engine) => engine.check(name),
                Err(error) => Err(error.clone()),
            },
            Self::Closed(_) => Ok(()),
        }
    }

    /// The secrets that a template names.
    fn secrets_named(&mut self, name: &TemplateName) -> Result<BTreeSet<String>, TemplateError> {
        self.check(name)?;
        match self {
            Self::Open(opened) => match opened.as_ref() {
                Ok(engine) => engine.secrets_named(name),
                Err(error) => Err(error.clone()),
            },
            Self::Closed(_) => Ok(BTreeSet::new()),
        }
    }
}

struct Resolver<'a> {
    problems: Problems,
    /// The templates there are, to find names that no file has.
    templates: Templates,
    /// The secrets there are; `None` when any name will do.
    secrets: Option<BTreeMap<FileName, PathBuf>>,
    environment: &'a EnvironmentName,
    hosts: BTreeMap<HostName, super::Host>,
    later: Vec<Later<'a>>,
}

/// A text that can only be checked for a host.
struct Later<'a> {
    at: At<'a>,
    owner: Owner,
    check: Box<Check>,
}

type Check = dyn Fn(&Scope) -> Result<(), TemplateError>;

/// What a text with expressions belongs to, and so what it can name.
#[derive(Debug, Clone)]
enum Owner {
    /// It can name the app and its release.
    App(AppName),
    /// It can name the host alone.
    Hosts(BTreeSet<HostName>),
}

/// A value in the tree, or the nearest one above it that is written.
#[derive(Debug, Clone)]
pub(super) struct At<'a> {
    node: &'a Node,
    is_written: Written,
    path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Yes,
    No,
}

impl<'a> At<'a> {
    fn root(tree: &'a Node) -> Self {
        Self {
            node: tree,
            is_written: Written::Yes,
            path: String::new(),
        }
    }

    pub(super) fn key(&self, key: &str) -> At<'a> {
        let child = match self.is_written {
            Written::Yes => self.node.child(key),
            Written::No => None,
        };
        self.below(child, join(&self.path, key))
    }

    /// An element of a list; the value itself where one stands for a list of one.
    fn item(&self, at: usize) -> At<'a> {
        match (self.node.element(at), self.node.element(0)) {
            (Some(element), _) => self.below(Some(element), format!("{}[{at}]", self.path)),
            (None, _) => self.clone(),
        }
    }

    fn below(&self, node: Option<&'a Node>, path: String) -> At<'a> {
        match node {
            Some(node) => At {
                node,
                is_written: Written::Yes,
                path,
            },
            None => At {
                node: self.node,
                is_written: Written::No,
                path,
            },
        }
    }

    /// Where it is written; the key of the table above it, when it is not.
    pub(super) fn place(&self) -> Place {
        match self.is_written {
            Written::Yes => self.node.place,
            Written::No => self.node.key,
        }
    }

    fn key_place(&self) -> Place {
        self.node.key
    }
}

impl<'a> Resolver<'a> {
    fn project(&mut self, at: &At<'a>, raw: Option<&str>) -> Option<ProjectName> {
        let at = at.key("project");
        let Some(text) = raw else {
            let problem = Problem::new(
                "inventory::missing-key",
                "the inventory needs the key project",
            );
            self.problems.push(
                problem
                    .at(at.place())
                    .help("name what hosts shall know this project by: project = \"shop\""),
            );
            return None;
        };
        if text == HOST_SLICE {
            let why = "it is the name of what belongs to the host itself, which bootstrap declares";
            self.problem_with_help(
                &at,
                (why, "name the project after what it is: project = \"shop\""),
            );
        }
        self.read(&at, text)
    }

    fn problem(&mut self, at: &At<'a>, why: impl Display) {
        self.problems.push(value_problem(at, why));
    }

    fn problem_with_help(&mut self, at: &At<'a>, (why, help): (impl Display, &str)) {
        self.problems.push(value_problem(at, why).help(help));
    }

    /// Reads a value.
    fn read<T: FromStr<Err: Display>>(&mut self, at: &At<'a>, text: &str) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(at, Quoted(text, error));
                None
            }
        }
    }

    /// Reads a value that may be absent; a mistake is told and the default stands in.
    fn read_or<T: FromStr<Err: Display>>(
        &mut self,
        at: &At<'a>,
        text: Option<&String>,
        default: T,
    ) -> T {
        text.and_then(|text| self.read(at, text)).unwrap_or(default)
    }

    /// Reads the key of a table.
    fn name<T: FromStr<Err: Display>>(&mut self, at: &At<'a>, key: &str) -> Option<T> {
        match key.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                let message = format!("{}: {error}", at.path);
                self.problems
                    .push(Problem::new("inventory::name", message).at(at.key_place()));
                None
            }
        }
    }

    /// Reads a list; what is wrong in it is left out.
    fn list<T: FromStr<Err: Display>>(&mut self, at: &At<'a>, texts: Option<&OneOrMany>) -> Vec<T> {
        let texts = texts.map(OneOrMany::as_slice).unwrap_or_default();
        texts
            .iter()
            .enumerate()
            .filter_map(|(i, text)| self.read(&at.item(i), text))
            .collect()
    }

    /// Reads a list whose order means nothing.
    fn set<T: FromStr<Err: Display> + Ord>(
        &mut self,
        at: &At<'a>,
        texts: Option<&OneOrMany>,
    ) -> BTreeSet<T> {
        self.list(at, texts).into_iter().collect()
    }

    fn duration(&mut self, at: &At<'a>, text: Option<&String>, default: Duration) -> Duration {
        let Some(text) = text else { return default };
        match quantity::duration(text) {
            Ok(duration) => duration,
            Err(error) => {
                self.problem(at, Quoted(text, error));
                default
            }
        }
    }

    /// The same, for what is useless without at least a millisecond.
    fn some_duration(&mut self, at: &At<'a>, text: Option<&String>, default: Duration) -> Duration {
        let duration = self.duration(at, text, default);
        if duration.is_zero() {
            self.problem(at, "it must be longer than nothing");
        }
        duration
    }

    /// Reads a text with expressions that becomes a `T`. One without any is checked at once, one with
    /// some at the end, for every host.
    fn templated<T: Typed + 'static>(
        &mut self,
        at: &At<'a>,
        text: &str,
        owner: &Owner,
    ) -> Option<Templated<T>> {
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(error) => {
                self.problem_with_help(at, (&error, &error.help()));
                return None;
            }
        };
        let templated = Templated::<T>::new(template);
        if templated.is_literal() {
            self.read::<T>(at, text)?;
        } else {
            let check = templated.clone();
            self.check_later(at, owner, move |scope| check.resolve(scope).map(drop));
        }
        Some(templated)
    }

    /// Reads the name of a template, which must exist and be one.
    fn template(&mut self, at: &At<'a>, text: &str) -> Option<TemplateName> {
        let name = text.parse::<TemplateName>();
        let checked = name.and_then(|name| self.templates.check(&name).map(|()| name));
        checked
            .map_err(|error| self.problem_with_help(at, (&error, &error.help())))
            .ok()
    }

    /// Reads the name of a secret, which must exist.
    fn secret_name(&mut self, at: &At<'a>, text: &str) -> Option<FileName> {
        let name: FileName = self.read(at, text)?;
        if let Some(secrets) = &self.secrets
            && !secrets.contains_key(&name)
        {
            let known: Vec<&str> = secrets.keys().map(FileName::as_str).collect();
            let help = match nearest::nearest(text, &known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!(
                    "`push secret set {} {name}` asks for its value and seals it",
                    self.environment
                ),
            };
            let why =
                format!("there is no secret {name}: inventory/secrets/{name}.age does not exist");
            self.problem_with_help(at, (why, &help));
        }
        Some(name)
    }

    fn check_later(
        &mut self,
        at: &At<'a>,
        owner: &Owner,
        check: impl Fn(&Scope) -> Result<(), TemplateError> + 'static,
    ) {
        self.later.push(Later {
            at: at.clone(),
            owner: owner.clone(),
            check: Box::new(check),
        });
    }

    /// The hosts that a key `on` selects; all without one.
    fn on(&mut self, at: &At<'a>, words: Option<&OneOrMany>) -> BTreeSet<HostName> {
        let Some(words) = words else {
            return self.hosts.keys().cloned().collect();
        };
        let selected =
            Selector::parse_list(words.as_slice()).and_then(|selector| selector.among(&self.hosts));
        match selected {
            Ok(hosts) => hosts,
            // Without any host that is right there is nothing to select from, and the hosts' own
            // mistakes say why.
            Err(_) if self.hosts.is_empty() => BTreeSet::new(),
            Err(error) => {
                self.problem_with_help(at, (&error, &error.help()));
                BTreeSet::new()
            }
        }
    }
}

/// A value, shortened, before what is wrong with it.
struct Quoted<'a, E>(&'a str, E);

impl<E: Display> Display for Quoted<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let error = self.1.to_string();
        let text = format!("{:?}", short(self.0));
        // Some errors name their value themselves.
        if error.contains(&text) || self.0.is_empty() {
            f.write_str(&error)
        } else {
            write!(f, "{text}: {error}")
        }
    }
}

fn value_problem(at: &At<'_>, why: impl Display) -> Problem {
    Problem::new("inventory::value", format!("{}: {why}", at.path)).at(at.place())
}

/// Renders every text with expressions for every host it is meant for. The first host where one
/// fails is named.
fn check_texts(fleet: &Fleet, later: &[Later<'_>], problems: &mut Problems) {
    for text in later {
        let failed = match &text.owner {
            Owner::App(name) => fleet.apps.get(name).and_then(|app| {
                let mut hosts = app.on.iter().filter_map(|name| fleet.hosts.get(name));
                hosts.find_map(|host| {
                    Some((host, (text.check)(&fleet.trial_scope(host, app)).err()?))
                })
            }),
            Owner::Hosts(names) => {
                let mut hosts = names.iter().filter_map(|name| fleet.hosts.get(name));
                hosts.find_map(|host| Some((host, (text.check)(&fleet.scope(host)).err()?)))
            }
        };
        if let Some((host, error)) = failed {
            let why = format!("for the host {}, {error}", host.name);
            let code = match error {
                TemplateError::Unknown { .. } => "inventory::unknown-variable",
                _ => "inventory::value",
            };
            let problem = Problem {
                code,
                ..value_problem(&text.at, why)
            };
            problems.push(problem.help(help(&error, fleet, &text.owner)));
        }
    }
}

fn help(error: &TemplateError, fleet: &Fleet, owner: &Owner) -> String {
    let ships = match owner {
        Owner::App(name) => fleet.apps.get(name).is_some_and(|app| app.source.is_some()),
        Owner::Hosts(_) => true,
    };
    match error {
        TemplateError::Unknown { name, .. } if name.starts_with("release") && !ships => {
            "the app ships nothing: give it a source, or write an absolute path".to_owned()
        }
        error => error.help(),
    }
}
