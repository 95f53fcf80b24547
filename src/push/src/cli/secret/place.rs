//! The secrets of an environment, as `push secret` works on them: what is declared, what is sealed, and
//! how several files change together.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};

use super::super::Stop;
use super::super::project::Project;
use super::super::vault::keyring;
use super::declare::Draft;
use crate::event::ExitCode;
use crate::inventory::{self, Colours, FOLDER, Fleet, SECRETS, nearest, secret_files};
use crate::name::{EnvironmentName, FileName};
use crate::release::operator;
use crate::report::{Complaint, Report};
use crate::secret::{
    self, Change, Disk, Entry, Keyring, Lock, Recipients, Secret, SecretError, Users,
};

/// What a verb does to the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It reads a value, whoever else may read it, and writes nothing.
    Show,
    /// It reads them, and writes nothing.
    Look,
    /// It changes them; nobody else does meanwhile.
    Change,
}

/// For whom a secret is made or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nobody said: its environment, and never another one unasked.
    Unsaid,
    /// Its environment alone.
    Own,
    /// Every environment.
    Every,
}

impl From<bool> for Reach {
    fn from(shared: bool) -> Self {
        if shared { Self::Every } else { Self::Unsaid }
    }
}

/// One secret that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its file.
    pub path: PathBuf,
    /// What the lock calls it: `database-url`, `prod/database-url`.
    pub key: String,
}

impl Sealed {
    /// Whether every environment sees it that has none of its own.
    fn is_shared(&self) -> bool {
        !self.key.contains('/')
    }
}

/// The secrets of one environment.
pub struct Secrets {
    /// The project.
    pub project: Project,
    /// The environment.
    pub environment: EnvironmentName,
    /// What it declares, and what the other environments do that share secrets with it.
    pub fleets: BTreeMap<EnvironmentName, Fleet>,
    /// Which secrets each of them uses.
    pub usages: BTreeMap<EnvironmentName, BTreeMap<FileName, Users>>,
    /// The secrets that it sees.
    pub files: BTreeMap<FileName, Sealed>,
    /// What the lock says.
    pub lock: Lock,
    report: Report,
    /// Lets go of the folder when it is dropped.
    _held: Option<File>,
}

impl Secrets {
    /// Reads the environment that the operator named. A change that was cut off is finished first.
    pub fn open(
        (word, folder): (Option<&str>, &Path),
        purpose: Purpose,
        report: &Report,
    ) -> Result<Self, Stop> {
        let project = Project::find(folder).map_err(Stop::usage)?;
        let Some(word) = word else {
            return Err(Stop::usage(project.unnamed()));
        };
        let environment = project.environment(word).map_err(Stop::usage)?;
        let root = project.root().to_owned();
        let held = match purpose {
            Purpose::Show | Purpose::Look => None,
            Purpose::Change => Some(hold(&root)?),
        };
        finish(&root, purpose)?;
        let mut secrets = Self {
            files: sealed_files(&root, &environment),
            lock: Lock::read(&root).map_err(|error| unavailable(&error))?,
            fleets: BTreeMap::new(),
            usages: BTreeMap::new(),
            report: report.clone(),
            _held: held,
            project,
            environment,
        };
        match purpose {
            // A mistake in another environment must not stand between an operator and a value.
            Purpose::Show => secrets.read(&secrets.environment.clone())?,
            Purpose::Look | Purpose::Change => secrets.load()?,
        }
        Ok(secrets)
    }

    /// Reads the environment, and every other one when it shares secrets with them.
    fn load(&mut self) -> Result<(), Stop> {
        self.read(&self.environment.clone())?;
        if self.files.values().any(Sealed::is_shared) {
            self.load_others()?;
        }
        Ok(())
    }

    fn load_others(&mut self) -> Result<(), Stop> {
        for name in self.project.environments() {
            self.read(&name)?;
        }
        Ok(())
    }

    fn read(&mut self, name: &EnvironmentName) -> Result<(), Stop> {
        if !self.fleets.contains_key(name) {
            let fleet = inventory::load_before_sealing(self.root(), name).map_err(|errors| {
                Stop::usage(Complaint::drawn(errors.render(Colours::Terminal)))
            })?;
            self.usages.insert(name.clone(), secret::usage(&fleet));
            self.fleets.insert(name.clone(), fleet);
        }
        Ok(())
    }

    /// The project's folder.
    pub fn root(&self) -> &Path {
        self.project.root()
    }

    /// The environment's own inventory.
    pub fn fleet(&self) -> &Fleet {
        &self.fleets[&self.environment]
    }

    /// The same, to try what another declaration would mean.
    pub fn fleet_mut(&mut self) -> Option<&mut Fleet> {
        self.fleets.get_mut(&self.environment)
    }

    /// The path of a file as messages show it.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(self.root())
            .unwrap_or(path)
            .display()
            .to_string()
    }

    /// The name of a secret that exists.
    pub fn existing(&self, word: &str) -> Result<(FileName, Sealed), Stop> {
        let name = name(word)?;
        if let Some(sealed) = self.files.get(&name) {
            return Ok((name, sealed.clone()));
        }
        let known: Vec<&str> = self.files.keys().map(FileName::as_str).collect();
        let guess = nearest(word, &known).map_or_else(
            || {
                format!(
                    "`push secret list {0}` shows those that there are; `push secret set {0} {name}` makes it",
                    self.environment
                )
            },
            |near| format!("did you mean {near:?}?"),
        );
        Err(Stop {
            exit: ExitCode::Usage,
            complaint: Complaint::new(format!(
                "{} has no secret {name}: {FOLDER}/{SECRETS}/{name}.age does not exist",
                self.environment
            ))
            .help(guess),
        })
    }

    /// The environments besides this one that see a secret.
    pub fn others(&self, name: &FileName, sealed: &Sealed) -> Vec<EnvironmentName> {
        let sees = |environment: &EnvironmentName| {
            secret_files(self.root(), environment).get(name) == Some(&sealed.path)
        };
        let all = self.project.environments().into_iter();
        all.filter(|other| *other != self.environment && sees(other))
            .collect()
    }

    /// Refuses to change what other environments see as well, unless that was asked for. `command` changes it.
    pub fn ours(
        &self,
        (name, sealed): (&FileName, &Sealed),
        reach: Reach,
        command: &str,
    ) -> Result<(), Stop> {
        let others = self.others(name, sealed);
        if reach != Reach::Unsaid || others.is_empty() {
            return Ok(());
        }
        let others: Vec<&str> = others.iter().map(EnvironmentName::as_str).collect();
        let (own, others) = (&self.environment, others.join(", "));
        Err(Stop::usage(
            Complaint::new(format!(
                "{} is the secret of {others} as well, so nothing was changed",
                self.shown(&sealed.path)
            ))
            .help(format!(
                "`push secret {command} {own} {name} --shared` changes it for {own}, {others}; \
                 `push secret set {own} {name} --own` gives {own} one of its own"
            )),
        ))
    }

    /// Where a secret is, or will be: in the environment's own folder, unless all share it or shall.
    pub fn place_of(&mut self, name: &FileName, reach: Reach) -> Result<Sealed, Stop> {
        let shared = reach == Reach::Every;
        let own = format!("{}/{name}", self.environment);
        let key = match self.files.get(name) {
            Some(sealed) if shared && sealed.key == own => {
                let help = format!("remove {} first", self.shown(&sealed.path));
                return Err(Stop::usage(
                    Complaint::new(format!(
                        "{} has a {name} of its own, which goes before one that all share",
                        self.environment
                    ))
                    .help(help),
                ));
            }
            Some(sealed) if reach == Reach::Own && sealed.key != own => own,
            Some(sealed) => {
                self.ours((name, sealed), reach, "set")?;
                return Ok(sealed.clone());
            }
            None if shared => {
                self.load_others()?;
                name.to_string()
            }
            None => own,
        };
        Ok(Sealed {
            path: secrets_folder(self.root()).join(format!("{key}.age")),
            key,
        })
    }

    /// Whom a secret shall be sealed to: who is declared by its environment, or by all that use it when
    /// they share it.
    pub fn recipients(&self, name: &FileName, sealed: &Sealed) -> Result<Recipients, SecretError> {
        let declared = self.declared(name, sealed)?.into_iter();
        Ok(declared.fold(Recipients::default(), |all, (_, one)| all.and(one)))
    }

    /// The same, by the environment that declares them.
    pub fn declared(
        &self,
        name: &FileName,
        sealed: &Sealed,
    ) -> Result<Vec<(&EnvironmentName, Recipients)>, SecretError> {
        let mut all = Vec::new();
        for (environment, fleet) in &self.fleets {
            let users = self.usages[environment].get(name);
            let is_own = *environment == self.environment;
            let counts = if sealed.is_shared() {
                let has_own = secret_files(self.root(), environment)
                    .get(name)
                    .is_some_and(|path| *path != sealed.path);
                !has_own && (users.is_some() || fleet.readers.own.contains_key(name) || is_own)
            } else {
                is_own
            };
            if counts {
                all.push((environment, Recipients::declared(fleet, name, users)?));
            }
        }
        Ok(all)
    }

    /// The same for sealing: there must be somebody.
    pub fn somebody(&self, name: &FileName, sealed: &Sealed) -> Result<Recipients, Stop> {
        let all = self
            .recipients(name, sealed)
            .map_err(|error| unavailable(&error))?;
        if all.is_empty() {
            return Err(Stop::usage(
                Complaint::new(format!(
                    "nobody is declared to read {name} in {}, so it cannot be sealed",
                    self.environment
                ))
                .help(format!(
                    "`push secret init {}` declares you; or write [secrets.people] and [secrets.readers] into {FOLDER}/{}.toml",
                    self.environment, self.environment
                )),
            ));
        }
        Ok(all)
    }

    /// The operator's keys. A passphrase is asked for when one is needed.
    pub fn keys(&self) -> Result<Keyring, Stop> {
        let named = &self.fleet().identities;
        keyring(self.root(), named, &self.report).map_err(|error| unavailable(&error))
    }

    /// Opens one secret.
    pub fn opened(&self, keys: &Keyring, sealed: &Sealed) -> Result<Secret, SecretError> {
        let shown = self.shown(&sealed.path);
        let content = secret::read_sealed(&sealed.path, &shown)?;
        keys.open_sealed(&shown, &content)
    }

    /// Seals contents and writes them with the lock, and with the inventory when its text changes: all
    /// of it or nothing. Somebody else may have saved the inventory while a passphrase was asked for: then
    /// nothing.
    pub fn write(&mut self, contents: &[Content], inventory: Option<&Draft>) -> Result<(), Stop> {
        let mut change = Change::new();
        let by = operator(self.root());
        let at = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut lock = self.lock.clone();
        for content in contents {
            let recipients = self.somebody(&content.name, &content.sealed)?;
            let sealed = recipients
                .for_age()
                .and_then(|all| secret::seal(content.secret.expose(), &all))
                .map_err(|error| unavailable(&error))?;
            let entry = Entry {
                sha256: push_wire::digest::Digest::of(&sealed),
                revision: self.revision(content)?,
                recipients: recipients.lines(),
                by: by.clone(),
                at: at.clone(),
            };
            lock.entries.insert(content.sealed.key.clone(), entry);
            change.write(self.inside(&content.sealed.path), sealed);
        }
        let own = Path::new(FOLDER).join(format!("{}.toml", self.environment));
        if let Some(draft) = inventory {
            change.write(own.clone(), draft.to.clone().into_bytes());
        }
        let folder = secrets_folder(self.root());
        lock.entries.retain(|key, _| {
            change_has(contents, key) || folder.join(format!("{key}.age")).exists()
        });
        if lock != self.lock {
            change.write(
                self.inside(&secret::lock_file(self.root())),
                lock.text().into_bytes(),
            );
        }
        if let Some(draft) = inventory {
            still(&own, self.root(), draft)?;
        }
        change
            .carry_out(&mut Disk, self.root())
            .map_err(|error| unwritten(&error))?;
        self.lock = lock;
        Ok(())
    }

    /// The same revision for the same content, as far as the lock can be believed.
    fn revision(&self, content: &Content) -> Result<String, Stop> {
        let old = std::fs::read(&content.sealed.path).unwrap_or_default();
        match (content.is, self.lock.entry_of(&content.sealed.key, &old)) {
            (Is::Same, Some(entry)) => Ok(entry.revision.clone()),
            (Is::Same, None) | (Is::New, _) => secret::fresh_revision().map_err(|error| {
                Stop::not_started(
                    Complaint::new(format!("/dev/urandom cannot be read: {error}"))
                        .help("look at `ls -l /dev/urandom`"),
                )
            }),
        }
    }

    fn inside(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.root()).unwrap_or(path).to_owned()
    }
}

/// Whether an inventory is still what its new text was made of.
fn still(file: &Path, root: &Path, draft: &Draft) -> Result<(), Stop> {
    let unreadable = |error: std::io::Error| {
        Stop::not_started(
            Complaint::new(format!("{} cannot be read: {error}", file.display()))
                .help(format!("look at `ls -l {}`", file.display())),
        )
    };
    let now = std::fs::read(root.join(file)).map_err(unreadable)?;
    if now == draft.from.as_bytes() {
        return Ok(());
    }
    Err(Stop::not_started(
        Complaint::new(format!(
            "{} was changed by somebody else meanwhile, so nothing was written",
            file.display()
        ))
        .help("save what is open, then type the same again"),
    ))
}

fn change_has(contents: &[Content], key: &str) -> bool {
    contents.iter().any(|content| content.sealed.key == key)
}

/// Whether a content is what the file held already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// It is sealed anew, to others maybe.
    Same,
    /// It is another value, or the file is new.
    New,
}

/// A secret that is to be sealed.
pub struct Content {
    /// Its name.
    pub name: FileName,
    /// Where it goes.
    pub sealed: Sealed,
    /// What is in it.
    pub secret: Secret,
    /// Whether that is new.
    pub is: Is,
}

/// The name of a secret, as it was typed. It cannot leave its folder.
pub fn name(word: &str) -> Result<FileName, Stop> {
    word.strip_suffix(".age")
        .unwrap_or(word)
        .parse()
        .map_err(|error| {
            Stop::usage(
                Complaint::of(&error).help(
                    "a secret is named like its file below inventory/secrets, without `.age`",
                ),
            )
        })
}

/// What an operator is told who named no secret.
pub fn unnamed(secrets: &Secrets, verb: &str) -> Stop {
    let names: Vec<&str> = secrets.files.keys().map(FileName::as_str).collect();
    let known = if names.is_empty() {
        format!("{} has none yet", secrets.environment)
    } else {
        format!("these exist: {}", names.join(", "))
    };
    Stop::usage(
        Complaint::new("no secret was named, so nothing was done").help(format!(
            "`push secret {verb} {} NAME`; {known}",
            secrets.environment
        )),
    )
}

/// A secret that cannot be had.
pub fn unavailable(error: &SecretError) -> Stop {
    Stop {
        exit: ExitCode::Secrets,
        complaint: Complaint::of(error).help(error.help()),
    }
}

fn unwritten(error: &std::io::Error) -> Stop {
    Stop::not_started(
        Complaint::new(format!("{FOLDER}/{SECRETS} cannot be written: {error}")).help(
            "no file is half changed; make room or fix the permissions, then type the same again",
        ),
    )
}

fn secrets_folder(root: &Path) -> PathBuf {
    root.join(FOLDER).join(SECRETS)
}

fn sealed_files(root: &Path, environment: &EnvironmentName) -> BTreeMap<FileName, Sealed> {
    secret_files(root, environment)
        .into_iter()
        .map(|(name, path)| {
            let key = secret::lock_key(root, &path);
            (name, Sealed { path, key })
        })
        .collect()
}

/// Keeps others from changing secrets of this project until it is dropped. The kernel lets go of it
/// however this process ends.
fn hold(root: &Path) -> Result<File, Stop> {
    let folder = secrets_folder(root);
    let opened = std::fs::create_dir_all(&folder).and_then(|()| File::open(&folder));
    let file = opened.map_err(|error| unwritten(&error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Stop {
            exit: ExitCode::Locked,
            complaint: Complaint::new("another `push secret` is at work on these secrets")
                .help("wait until it has ended; an editor may be open"),
        }),
        Err(error) => Err(unwritten(&error.into())),
    }
}

/// Finishes a change that was cut off; whoever only looks says so instead.
pub fn finish(root: &Path, purpose: Purpose) -> Result<(), Stop> {
    match purpose {
        Purpose::Change => secret::recover(&mut Disk, root).map_err(|error| unwritten(&error)),
        Purpose::Show | Purpose::Look if secret::is_unfinished(root) => {
            let _held = hold(root)?;
            secret::recover(&mut Disk, root).map_err(|error| unwritten(&error))
        }
        Purpose::Show | Purpose::Look => Ok(()),
    }
}
