//! Secrets: which file each becomes on the host, who may read it, and whether the host has it.

use std::collections::{BTreeMap, BTreeSet};

use hmac::{Hmac, KeyInit as _, Mac as _};
use push_wire::bundle::{Bundle, Form, Piece};
use push_wire::digest::{Digest, Hasher};
use push_wire::manifest::{Reader, Secret};
use push_wire::message::Bytes;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::making::{Making, OnHost};
use super::{DesiredError, Door, Opened, VaultError};
use crate::inventory::{
    App, HostKey, Pem, Probe, SECRET_VARIABLES as ENVIRONMENT, SecretForm, Tls,
};
use crate::name::{FileName, UserName, VariableName};
use crate::template::{Fragment, TemplateName};

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
    /// Several, and text around them: the lines of an environment file, or a rendered template.
    Composed(Vec<Part>),
}

/// A part of a composed file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Secret(FileName, Form),
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

/// Which files an app's secrets become.
pub(super) fn deliveries(
    making: &Making<'_>,
    on_host: &OnHost<'_>,
) -> Result<Deliveries, DesiredError> {
    let app = on_host.app;
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
                    reader: if *form == SecretForm::Credential {
                        Reader::AppStart
                    } else {
                        Reader::App
                    },
                };
                all.files.insert(name.clone(), delivery);
            }
            SecretForm::Rendered { template, names } => {
                let delivery = Delivery {
                    content: rendered(making, on_host, (template, names))?,
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
            content: Content::Composed(lines(variables)),
            owner: UserName::root(),
            reader: Reader::AppStart,
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

/// The lines of an environment file.
fn lines(variables: BTreeMap<VariableName, FileName>) -> Vec<Part> {
    let line = |(variable, name): (VariableName, FileName)| {
        Part::Secret(name, Form::Variable(variable.to_string()))
    };
    variables.into_iter().map(line).collect()
}

/// What a template makes around secrets.
fn rendered(
    making: &Making<'_>,
    on_host: &OnHost<'_>,
    (template, names): (&TemplateName, &BTreeSet<FileName>),
) -> Result<Content, DesiredError> {
    let what = format!("templates/{template}");
    let allowed = names.iter().map(FileName::to_string).collect();
    let fragments = making
        .input
        .engine
        .render_fragments(template, &on_host.scope, &allowed)
        .map_err(making.template_error(&what))?;
    let parts = fragments.into_iter().map(|fragment| match fragment {
        Fragment::Text(text) => Ok(Part::Text(text)),
        Fragment::Secret(name) => Ok(Part::Secret(parsed(making, &name)?, Form::Inline)),
    });
    parts.collect::<Result<_, _>>().map(Content::Composed)
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
    let pems = site.tls.iter().filter_map(Tls::given).flatten();
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
    let travelling = travelling(making, &delivery.content, recipient)?;
    let opened = match &travelling {
        Some(_) => None,
        None => Some(content(making, &delivery.content)?),
    };
    let fingerprint = fingerprint(making, &delivery.content, (opened.as_ref(), &source))?;
    if let Some(old) = old
        && old.fingerprint == fingerprint
    {
        return Ok(old);
    }
    let sealed = match (travelling, opened) {
        (Some(sealed), _) => sealed,
        (None, opened) => making
            .input
            .vault
            .seal(&opened.unwrap_or_default(), &recipient.key)
            .map_err(|error| secret_error(making, place.file, error))?,
    };
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
        Content::Composed(parts) => {
            let mut hasher = Hasher::new();
            for part in parts {
                match part {
                    Part::Text(text) => {
                        hasher.update(format!("\n{}\n{text}", text.len()).as_bytes());
                    }
                    Part::Secret(name, form) => {
                        hasher.update(spelling(form).as_bytes());
                        hasher.update(b"=");
                        hasher.update(digest(name)?.as_bytes());
                    }
                }
            }
            Ok(hasher.finish())
        }
    }
}

/// The variable that a secret becomes, if it does.
fn spelling(form: &Form) -> &str {
    match form {
        Form::Inline => "",
        Form::Variable(name) => name,
    }
}

/// What travels when everything in it is sealed to the host already, so that nothing has to be opened.
fn travelling(
    making: &Making<'_>,
    content: &Content,
    recipient: &Recipient,
) -> Result<Option<Vec<u8>>, DesiredError> {
    let to = Door {
        host: &making.input.host.name,
        key: &recipient.key,
    };
    let as_it_is = |name: &FileName| {
        let found = making.input.vault.as_it_is(name, &to);
        found.map_err(|error| secret_error(making, name, error))
    };
    let parts = match content {
        Content::One(name) => return as_it_is(name),
        Content::Composed(parts) => parts,
    };
    let mut pieces = Vec::new();
    for part in parts {
        pieces.push(match part {
            Part::Text(text) => Piece::Text(text.clone()),
            Part::Secret(name, form) => match as_it_is(name)? {
                Some(sealed) => Piece::Sealed {
                    content: Bytes(sealed),
                    form: form.clone(),
                },
                None => return Ok(None),
            },
        });
    }
    let bundle = Bundle { pieces }.encode();
    bundle
        .map(Some)
        .map_err(|error| making.value_error("a composed secret", error.to_string()))
}

fn content(making: &Making<'_>, content: &Content) -> Result<Zeroizing<Vec<u8>>, DesiredError> {
    let open = |name: &FileName| {
        let opened = making.input.vault.open(name);
        opened.map_err(|error| secret_error(making, name, error))
    };
    match content {
        Content::One(name) => open(name).map(|Opened(content)| content),
        Content::Composed(parts) => {
            let mut whole = Zeroizing::new(Vec::new());
            for part in parts {
                match part {
                    Part::Text(text) => whole.extend_from_slice(text.as_bytes()),
                    Part::Secret(name, form) => {
                        let Opened(value) = open(name)?;
                        let written = form.write(&value).map_err(|error| {
                            let why = error.to_string();
                            let help =
                                "deliver it as a file instead: { name = …, as = \"file\" }".into();
                            secret_error(making, name, VaultError { why, help })
                        })?;
                        whole.extend_from_slice(&Zeroizing::new(written));
                    }
                }
            }
            Ok(whole)
        }
    }
}

/// What tells one content from another under the host's key. Where account is kept of contents, it is
/// made of that, so that it is the same whether or not anybody could open them.
fn fingerprint(
    making: &Making<'_>,
    content: &Content,
    (opened, source): (Option<&Zeroizing<Vec<u8>>>, &Digest),
) -> Result<Digest, DesiredError> {
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
    match (revisions(making, content), opened) {
        (Some(revisions), _) => mac.update(&revisions),
        (None, Some(opened)) => mac.update(opened),
        (None, None) => {
            mac.update(b"push sealed 1\n");
            mac.update(source.as_bytes());
        }
    }
    Ok(Digest::from_bytes(mac.finalize().into_bytes().into()))
}

/// The revisions of everything in a file, and the text around them; `None` when one is not known.
fn revisions(making: &Making<'_>, content: &Content) -> Option<Vec<u8>> {
    let revision = |name: &FileName| making.input.vault.revision(name);
    let mut all = b"push revisions 1\n".to_vec();
    match content {
        Content::One(name) => all.extend(revision(name)?.into_bytes()),
        Content::Composed(parts) => {
            for part in parts {
                let (kind, text) = match part {
                    Part::Text(text) => ("text", text.clone()),
                    Part::Secret(name, form) => (spelling(form), revision(name)?),
                };
                all.extend(format!("{kind}\n{}\n{text}\n", text.len()).into_bytes());
            }
        }
    }
    Some(all)
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
