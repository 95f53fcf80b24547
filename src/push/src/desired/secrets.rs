//! Secrets: which file each becomes on the host, who may read it, and whether the host has it.

use std::collections::{BTreeMap, BTreeSet};

use hmac::{Hmac, KeyInit as _, Mac as _};
use push_wire::digest::{Digest, Hasher};
use push_wire::encode::environment_file_line;
use push_wire::manifest::{Reader, Secret};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::making::Making;
use super::{DesiredError, Opened, VaultError};
use crate::inventory::{App, HostKey, Pem, Probe, SecretForm};
use crate::name::{FileName, UserName, VariableName};

/// The file that holds the variables of an app's services.
pub(super) const ENVIRONMENT: &str = "environment";

/// What nginx reads is kept apart from what the app's user reads.
const NGINX_PREFIX: &str = "nginx.";

/// A secret file of an app on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Delivery {
    content: Content,
    owner: UserName,
    reader: Reader,
}

/// What a secret file is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    /// One secret of the inventory as it is.
    One(FileName),
    /// Lines of an environment file.
    Variables(BTreeMap<VariableName, FileName>),
}

/// The secret files of an app, and under which names nginx finds its own.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    files: BTreeMap<FileName, Delivery>,
    certificates: BTreeMap<FileName, FileName>,
    passwords: BTreeMap<FileName, FileName>,
}

impl Deliveries {
    /// The path of a certificate or key that nginx's master process reads.
    pub fn certificate(&self, app: &App, secret: &FileName) -> String {
        app.secret_path(self.certificates.get(secret).unwrap_or(secret))
    }

    /// The path of a password file that nginx's workers read.
    pub fn passwords(&self, app: &App, secret: &FileName) -> String {
        app.secret_path(self.passwords.get(secret).unwrap_or(secret))
    }

    /// Whether services have variables that are secret.
    pub fn has_environment(&self) -> bool {
        self.files.contains_key(ENVIRONMENT)
    }

    /// Places a file under the secret's own name, or under nginx's when that is taken.
    fn place(&mut self, secret: &FileName, delivery: &Delivery) -> Option<FileName> {
        let other = format!("{NGINX_PREFIX}{secret}").parse().ok();
        let chosen = [Some(secret.clone()), other]
            .into_iter()
            .flatten()
            .find(|name| self.files.get(name).is_none_or(|taken| taken == delivery))?;
        self.files.insert(chosen.clone(), delivery.clone());
        Some(chosen)
    }
}

/// Every secret that an app names, however it gets it.
pub fn named(app: &App) -> BTreeSet<&FileName> {
    let site = app.site.iter();
    let pems = site
        .clone()
        .flat_map(|site| &site.tls)
        .flat_map(|tls| [&tls.certificate, &tls.key])
        .filter_map(|pem| match pem {
            Pem::Secret(name) => Some(name),
            Pem::Path(_) => None,
        });
    let passwords = site.flat_map(|site| {
        let locations = site.locations.iter().map(|location| &location.basic_auth);
        locations.chain([&site.basic_auth]).flatten()
    });
    let tokens = app.health.probes.iter().filter_map(|probe| match probe {
        Probe::Http(http) => http.bearer.as_ref(),
        Probe::Tcp(_) | Probe::Command(_) => None,
    });
    app.secrets
        .keys()
        .chain(pems)
        .chain(passwords)
        .chain(tokens)
        .collect()
}

/// Which files an app's secrets become.
pub(super) fn deliveries(making: &Making<'_>, app: &App) -> Result<Deliveries, DesiredError> {
    let mut all = Deliveries::default();
    let mut variables = BTreeMap::new();
    for (name, form) in &app.secrets {
        match form {
            SecretForm::Variable(variable) => {
                variables.insert(variable.clone(), name.clone());
            }
            SecretForm::Credential | SecretForm::File => {
                let delivery = Delivery {
                    content: Content::One(name.clone()),
                    owner: app.user.clone(),
                    reader: Reader::App,
                };
                all.files.insert(name.clone(), delivery);
            }
        }
    }
    if !variables.is_empty() {
        let file: FileName = parsed(making, ENVIRONMENT)?;
        // systemd itself reads it, so the app's user need not.
        let delivery = Delivery {
            content: Content::Variables(variables),
            owner: UserName::root(),
            reader: Reader::App,
        };
        if all.files.insert(file, delivery).is_some() {
            let what = format!("the secret {ENVIRONMENT} of {}", app.name);
            let why = "the app's secret variables need a file of that name; rename the secret";
            return Err(making.value_error(&what, why));
        }
    }
    web(making, app, &mut all)?;
    tokens(app, &mut all);
    Ok(all)
}

fn parsed(making: &Making<'_>, name: &str) -> Result<FileName, DesiredError> {
    name.parse()
        .map_err(|error| making.value_error("a secret", format!("{error}")))
}

/// What nginx reads.
fn web(making: &Making<'_>, app: &App, all: &mut Deliveries) -> Result<(), DesiredError> {
    let Some(site) = &app.site else {
        return Ok(());
    };
    let crowded = |name: &FileName| {
        let what = format!("the secret {name} of {}", app.name);
        making.value_error(
            &what,
            "it is used in more ways than there are files; copy it",
        )
    };
    let pems = site.tls.iter().flat_map(|tls| [&tls.certificate, &tls.key]);
    for pem in pems {
        if let Pem::Secret(name) = pem {
            let delivery = Delivery {
                content: Content::One(name.clone()),
                owner: UserName::root(),
                reader: Reader::Nginx,
            };
            let file = all.place(name, &delivery).ok_or_else(|| crowded(name))?;
            all.certificates.insert(name.clone(), file);
        }
    }
    let locations = site.locations.iter().map(|location| &location.basic_auth);
    for name in locations.chain([&site.basic_auth]).flatten() {
        // Workers open it at every request, so nobody has to be told of a change.
        let delivery = Delivery {
            content: Content::One(name.clone()),
            owner: UserName::nginx(),
            reader: Reader::Nobody,
        };
        let file = all.place(name, &delivery).ok_or_else(|| crowded(name))?;
        all.passwords.insert(name.clone(), file);
    }
    Ok(())
}

/// Tokens of health checks, which push-host reads as root, whoever else may.
fn tokens(app: &App, all: &mut Deliveries) {
    for probe in &app.health.probes {
        if let Probe::Http(http) = probe
            && let Some(name) = &http.bearer
        {
            all.files.entry(name.clone()).or_insert_with(|| Delivery {
                content: Content::One(name.clone()),
                owner: UserName::root(),
                reader: Reader::Nobody,
            });
        }
    }
}

/// Declares an app's secret files, and seals those that the host does not have.
pub(super) fn declare(
    making: &mut Making<'_>,
    app: &App,
    all: &Deliveries,
) -> Result<(), DesiredError> {
    if all.files.is_empty() {
        return Ok(());
    }
    let recipient = Recipient::of(making)?;
    let mut declared = BTreeMap::new();
    for (file, delivery) in &all.files {
        let place = Place { app, file };
        declared.insert(
            file.clone(),
            secret(making, &place, (delivery, &recipient))?,
        );
    }
    making.slice.secrets.insert(app.name.clone(), declared);
    Ok(())
}

struct Place<'a> {
    app: &'a App,
    file: &'a FileName,
}

/// Nothing is opened when the host has what comes of the same sealed files.
fn secret(
    making: &mut Making<'_>,
    place: &Place<'_>,
    (delivery, recipient): (&Delivery, &Recipient),
) -> Result<Secret, DesiredError> {
    let source = source(making, &delivery.content)?;
    let old = making
        .input
        .hello
        .manifest
        .slice(&making.input.fleet.project)
        .and_then(|slice| slice.secrets.get(&place.app.name)?.get(place.file))
        .filter(|old| old.recipient == recipient.digest)
        // A sealed secret that is damaged there is sealed anew.
        .filter(|old| !making.input.hello.lost.contains(&old.sealed))
        .map(|old| Secret {
            owner: delivery.owner.clone(),
            reader: delivery.reader,
            ..old.clone()
        });
    if let Some(old) = &old
        && old.source == source
    {
        return Ok(old.clone());
    }
    let content = content(making, &delivery.content)?;
    let fingerprint = fingerprint(making, &content)?;
    if let Some(old) = old
        && old.fingerprint == fingerprint
    {
        return Ok(old);
    }
    let sealed = making
        .input
        .vault
        .seal(&content, &recipient.key)
        .map_err(|error| secret_error(making, place.file, error))?;
    Ok(Secret {
        sealed: making.text(sealed),
        source,
        fingerprint,
        recipient: recipient.digest,
        owner: delivery.owner.clone(),
        reader: delivery.reader,
    })
}

/// The digest of what a file is made from: names of variables, and sealed files.
fn source(making: &Making<'_>, content: &Content) -> Result<Digest, DesiredError> {
    let digest = |name: &FileName| {
        let found = making.input.vault.source(name);
        found.map_err(|error| secret_error(making, name, error))
    };
    match content {
        Content::One(name) => digest(name),
        Content::Variables(variables) => {
            let mut hasher = Hasher::new();
            for (variable, name) in variables {
                hasher.update(variable.as_str().as_bytes());
                hasher.update(b"=");
                hasher.update(digest(name)?.as_bytes());
            }
            Ok(hasher.finish())
        }
    }
}

fn content(making: &Making<'_>, content: &Content) -> Result<Zeroizing<Vec<u8>>, DesiredError> {
    let open = |name: &FileName| {
        let opened = making.input.vault.open(name);
        opened.map_err(|error| secret_error(making, name, error))
    };
    match content {
        Content::One(name) => open(name).map(|Opened(content)| content),
        Content::Variables(variables) => {
            let mut lines = Zeroizing::new(Vec::new());
            for (variable, name) in variables {
                let Opened(value) = open(name)?;
                let line = line(variable, &value).map_err(|why| {
                    let help = "deliver it as a file instead: { name = …, as = \"file\" }".into();
                    secret_error(making, name, VaultError { why, help })
                })?;
                lines.extend_from_slice(line.as_bytes());
            }
            Ok(lines)
        }
    }
}

/// One line of an environment file. The line feed with which editors end a file is not part of a
/// variable's value.
fn line(variable: &VariableName, value: &[u8]) -> Result<Zeroizing<String>, String> {
    let text = std::str::from_utf8(value)
        .map_err(|_| format!("it is not UTF-8, so that no variable {variable} can hold it"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    environment_file_line(variable.as_str(), text)
        .map(Zeroizing::new)
        // The error's own text would name a character of the secret.
        .map_err(|_| format!("it holds a character that no variable {variable} can hold"))
}

fn fingerprint(making: &Making<'_>, content: &[u8]) -> Result<Digest, DesiredError> {
    let wrong = || {
        making.value_error(
            "its fingerprint key",
            "what the host sent is not 32 bytes in hexadecimal",
        )
    };
    // A digest is written as 32 bytes in hexadecimal too.
    let key: Digest = making
        .input
        .hello
        .fingerprint_key
        .parse()
        .map_err(|_| wrong())?;
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(|_| wrong())?;
    mac.update(content);
    Ok(Digest::from_bytes(mac.finalize().into_bytes().into()))
}

fn secret_error(making: &Making<'_>, secret: &FileName, error: VaultError) -> DesiredError {
    DesiredError::Secret {
        host: making.input.host.name.clone(),
        secret: secret.clone(),
        error,
    }
}

/// The host key that secrets are sealed to.
struct Recipient {
    key: String,
    digest: Digest,
}

impl Recipient {
    /// A pinned key before others, Ed25519 before RSA. Only keys that push-host itself names count:
    /// it must be able to read the private half.
    fn of(making: &Making<'_>) -> Result<Self, DesiredError> {
        let pinned = &making.input.host.host_keys;
        let keys = making.input.hello.facts.host_keys.iter();
        let best = keys
            .filter_map(|line| line.parse::<HostKey>().ok())
            .filter(HostKey::is_recipient)
            .min_by_key(|key| (!pinned.contains(key), key.algorithm() != "ssh-ed25519"));
        let none = || DesiredError::NoRecipient {
            host: making.input.host.name.clone(),
        };
        let key = best.ok_or_else(none)?.as_str().to_owned();
        let blob = key.split(' ').nth(1).unwrap_or_default();
        let blob = push_wire::frame::from_base64(blob).map_err(|_| none())?;
        Ok(Self {
            digest: Digest::of(blob),
            key,
        })
    }
}
