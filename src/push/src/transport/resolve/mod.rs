//! From what the inventory says about a host, and what the operator's ssh_config says about its
//! name, to a [`Target`].
//!
//! ssh_config is asked of `ssh -G` itself: no parser but OpenSSH's own honours Match, Include and
//! first-value-wins. Where there is no `ssh`, its defaults hold. The inventory wins over ssh_config.
//!
//! Must not connect to anything. A new option is read in `Settings::read` and used in
//! `Resolver::target`.

mod expand;
mod jump;
mod settings;

use super::error::Error;
use super::host_key::HostKey;
use super::target::{CONNECT_TIMEOUT, Identity, NamedBy, Offer, Target};
use crate::visible;
use expand::Tokens;
use jump::Hop;
use settings::Settings;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore};

/// How many `ssh -G` run at once.
const ASKING_MAX: usize = 16;
/// How many hosts may lie on the way to one.
const JUMPS_MAX: usize = 8;
/// Longest name, address or user, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// How much of a refused value is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 100;

/// What the inventory says about a host. What it leaves out comes from ssh_config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The host's name; also the alias that ssh_config is asked about.
    pub host: String,
    /// `address`: an IP address or DNS name that wins over the `HostName` which ssh_config has for the
    /// host; without one that `HostName` holds. It is no alias itself: ssh_config's blocks are those of
    /// one name, and that is the host's.
    pub address: Option<String>,
    /// `port`.
    pub port: Option<u16>,
    /// `user`.
    pub user: Option<String>,
    /// `host_key`, one or several OpenSSH public key lines.
    pub host_keys: Vec<String>,
    /// `identity`; `~` and tokens are expanded.
    pub identities: Vec<String>,
    /// `jump`, in the syntax of ProxyJump; hosts of the inventory are known by their names.
    /// `none` goes straight whatever ssh_config says.
    pub jump: Option<String>,
}

/// What the laptop contributes: where the operator's files are and who is asking.
#[derive(Debug, Clone)]
pub struct Laptop {
    /// The program to ask, `ssh`.
    pub ssh: OsString,
    /// `-F`: an ssh_config other than the usual one.
    pub config: Option<PathBuf>,
    /// The operator's home directory.
    pub home: PathBuf,
    /// The operator's account on the laptop.
    pub user: String,
    /// `SSH_AUTH_SOCK`.
    pub agent: Option<PathBuf>,
}

impl Laptop {
    /// Reads `HOME`, `USER` and `SSH_AUTH_SOCK`.
    pub fn from_environment() -> Self {
        Self {
            ssh: "ssh".into(),
            config: None,
            home: std::env::var_os("HOME").map_or_else(|| "/".into(), PathBuf::from),
            user: std::env::var("USER")
                .or_else(|_| std::env::var("LOGNAME"))
                .unwrap_or_else(|_| "root".into()),
            agent: std::env::var_os("SSH_AUTH_SOCK")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
        }
    }
}

/// Turns hosts of the inventory into targets, asking ssh_config once a host.
#[derive(Debug)]
pub struct Resolver {
    laptop: Laptop,
    fleet: BTreeMap<String, Wanted>,
    asking: Semaphore,
    answers: Mutex<HashMap<Query, Answer>>,
}

type Answer = Arc<OnceCell<Result<Settings, Error>>>;

/// What `ssh -G` is asked: the command line decides which blocks of ssh_config hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Query {
    alias: String,
    address: Option<String>,
    port: Option<u16>,
    user: Option<String>,
}

impl Resolver {
    /// Knows the hosts of the inventory, so that one can be the way to another.
    pub fn new(laptop: Laptop, fleet: impl IntoIterator<Item = Wanted>) -> Self {
        Self {
            laptop,
            fleet: fleet
                .into_iter()
                .map(|wanted| (wanted.host.clone(), wanted))
                .collect(),
            asking: Semaphore::new(ASKING_MAX),
            answers: Mutex::default(),
        }
    }

    /// Resolves a host of the inventory, or, when there is none of that name, an alias of ssh_config.
    pub async fn resolve(&self, host: &str) -> Result<Target, Error> {
        let wanted = self.wanted(host);
        let (mut target, settings) = self.target(&wanted).await?;
        let jump = wanted.jump.as_deref().or(settings.one("proxyjump"));
        target.jumps = self.chain(&target, jump).await?;
        if target.jumps.is_empty() && wanted.jump.is_none() {
            target.proxy_command = self.proxy_command(&target, &settings)?;
        }
        Ok(target)
    }

    fn wanted(&self, host: &str) -> Wanted {
        self.fleet.get(host).cloned().unwrap_or_else(|| Wanted {
            host: host.to_owned(),
            ..Wanted::default()
        })
    }

    /// The hosts on the way. As in OpenSSH only the first one's own way counts, its ProxyCommand too:
    /// `a,b` goes to `b` through `a`, whatever the configuration says about `b` alone.
    async fn chain(&self, target: &Target, jump: Option<&str>) -> Result<Vec<Target>, Error> {
        let mut chain: Vec<Target> = Vec::new();
        let mut next = jump.map(str::to_owned);
        while let Some(list) = next.take() {
            let hops = jump::parse(&target.host, &list)?;
            let mut links = Vec::new();
            for (index, hop) in hops.iter().enumerate() {
                let (mut link, wanted, settings) = self.hop(hop).await?;
                if index == 0 {
                    let jump = wanted.jump.as_deref().or(settings.one("proxyjump"));
                    next = jump.map(str::to_owned);
                    if next.is_none() {
                        link.proxy_command = self.proxy_command(&link, &settings)?;
                    }
                }
                links.push(link);
            }
            links.append(&mut chain);
            chain = links;
            check_chain(target, &chain)?;
        }
        Ok(chain)
    }

    /// A jump host, and what is said of it.
    async fn hop(&self, hop: &Hop) -> Result<(Target, Wanted, Settings), Error> {
        let mut wanted = self.wanted(&hop.host);
        wanted.user = hop.user.clone().or(wanted.user);
        wanted.port = hop.port.or(wanted.port);
        let (target, settings) = self.target(&wanted).await?;
        Ok((target, wanted, settings))
    }

    async fn target(&self, wanted: &Wanted) -> Result<(Target, Settings), Error> {
        check(wanted)?;
        let settings = self.settings(wanted).await?;
        let address = wanted
            .address
            .clone()
            .unwrap_or_else(|| settings.one("hostname").unwrap_or(&wanted.host).into());
        let port = wanted
            .port
            .or_else(|| settings.one("port")?.parse().ok())
            .unwrap_or(22);
        let user = wanted
            .user
            .clone()
            .unwrap_or_else(|| settings.one("user").unwrap_or(&self.laptop.user).into());
        check_name("address", &address, is_address_byte)?;
        check_name("user", &user, is_user_byte)?;
        let mut target = Target {
            user,
            ..Target::at(&wanted.host, &address, port)
        };
        target.pinned = pins(wanted)?;
        target.host_key_alias = settings.one("hostkeyalias").map(str::to_owned);
        if settings.one("identitiesonly") == Some("yes") {
            target.offer = Offer::OnlyIdentities;
        }
        if let Some(seconds) = settings
            .one("connecttimeout")
            .and_then(|text| text.parse().ok())
            .filter(|s| *s > 0)
        {
            target.connect_timeout = Duration::from_secs(seconds).min(CONNECT_TIMEOUT * 12);
        }
        self.add_files(&mut target, wanted, &settings)?;
        Ok((target, settings))
    }

    fn add_files(
        &self,
        target: &mut Target,
        wanted: &Wanted,
        settings: &Settings,
    ) -> Result<(), Error> {
        let place = target.clone();
        let tokens = Tokens {
            laptop: &self.laptop,
            target: &place,
        };
        let files = |names: Vec<&str>| -> Result<Vec<PathBuf>, Error> {
            names
                .into_iter()
                .filter(|name| *name != "none")
                .map(|name| tokens.path(name))
                .collect()
        };
        for name in &wanted.identities {
            target.identities.push(Identity {
                path: tokens.path(name)?,
                named_by: NamedBy::Operator,
            });
        }
        for name in settings.all("identityfile").filter(|name| *name != "none") {
            let named_by = if settings::is_usual_identity(name) {
                NamedBy::Default
            } else {
                NamedBy::Operator
            };
            // Naming a key in the inventory replaces OpenSSH's guesses.
            if named_by == NamedBy::Operator || wanted.identities.is_empty() {
                target.identities.push(Identity {
                    path: tokens.path(name)?,
                    named_by,
                });
            }
        }
        target.certificates = files(settings.all("certificatefile").collect())?;
        target.known_hosts = files(settings.words("userknownhostsfile"))?;
        target
            .known_hosts
            .extend(files(settings.words("globalknownhostsfile"))?);
        target.agent = match settings.one("identityagent") {
            None | Some("SSH_AUTH_SOCK") => self.laptop.agent.clone(),
            Some("none") => None,
            Some(name) => match name.strip_prefix('$').filter(|rest| !rest.starts_with('{')) {
                Some(variable) => std::env::var_os(variable).map(PathBuf::from),
                None => Some(tokens.path(name)?),
            },
        };
        Ok(())
    }

    fn proxy_command(&self, target: &Target, settings: &Settings) -> Result<Option<String>, Error> {
        match settings.one("proxycommand") {
            None | Some("none") => Ok(None),
            Some(command) => Tokens {
                laptop: &self.laptop,
                target,
            }
            .text(command)
            .map(Some),
        }
    }

    async fn settings(&self, wanted: &Wanted) -> Result<Settings, Error> {
        let query = Query {
            alias: wanted.host.clone(),
            address: wanted.address.clone(),
            port: wanted.port,
            user: wanted.user.clone(),
        };
        let answer = {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.entry(query.clone()).or_default().clone()
        };
        let ask = || async {
            let _turn = self.asking.acquire().await;
            settings::ask(&self.laptop, &query).await
        };
        answer.get_or_init(ask).await.clone()
    }
}

/// No more than [`JUMPS_MAX`] hops, none of them twice, none of them the host itself.
fn check_chain(target: &Target, chain: &[Target]) -> Result<(), Error> {
    let is_same =
        |a: &Target, b: &Target| (&a.address, a.port, &a.user) == (&b.address, b.port, &b.user);
    let repeats = chain.iter().enumerate().any(|(index, hop)| {
        is_same(hop, target) || chain[..index].iter().any(|earlier| is_same(hop, earlier))
    });
    if !repeats && chain.len() <= JUMPS_MAX {
        return Ok(());
    }
    let names: Vec<&str> = chain
        .iter()
        .take(JUMPS_MAX + 1)
        .map(|hop| hop.host.as_str())
        .collect();
    Err(Error::JumpLoop {
        host: target.host.clone(),
        chain: names.join(" → "),
    })
}

fn pins(wanted: &Wanted) -> Result<Vec<HostKey>, Error> {
    let parse = |line: &String| {
        HostKey::parse(line).ok_or_else(|| Error::BadPin {
            host: wanted.host.clone(),
            line: visible::escape(line.as_bytes(), SHOWN_BYTES_MAX),
        })
    };
    wanted.host_keys.iter().map(parse).collect()
}

fn check(wanted: &Wanted) -> Result<(), Error> {
    check_name("host", &wanted.host, is_address_byte)?;
    if let Some(address) = &wanted.address {
        check_name("address", address, is_address_byte)?;
    }
    if let Some(user) = &wanted.user {
        check_name("user", user, is_user_byte)?;
    }
    Ok(())
}

/// Names reach the command line of `ssh -G`, and by way of tokens the operator's own commands:
/// nothing is let through that ssh or a shell would take for something else.
fn check_name(what: &'static str, value: &str, is_allowed: fn(u8) -> bool) -> Result<(), Error> {
    let broken = match value.as_bytes() {
        [] => Some("it is empty"),
        bytes if bytes.len() > NAME_BYTES_MAX => Some("it is longer than 255 bytes"),
        [b'-', ..] => Some("it starts with a dash"),
        bytes if !bytes.iter().all(|byte| is_allowed(*byte)) => {
            Some("only letters, digits, dots, dashes and underscores are allowed")
        }
        _ => None,
    };
    match broken {
        None => Ok(()),
        Some(reason) => Err(Error::BadName {
            what,
            value: visible::escape(value.as_bytes(), SHOWN_BYTES_MAX),
            reason,
        }),
    }
}

/// Host names, IPv4, and IPv6 with a zone.
fn is_address_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-:%".contains(&byte)
}

fn is_user_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-+@".contains(&byte)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
