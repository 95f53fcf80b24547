//! One app: what is shipped, what runs, who may read what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{EnvValue, Health, Service, Site};
use crate::name::{AppName, FileName, HostName, TreePath, UnitName, UserName, VariableName};
use crate::template::{TemplateName, Templated};

/// The file that holds the secret variables of an app's services.
pub const SECRET_VARIABLES: &str = "environment";

/// Something that runs on hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// Its name; also the stem of its units and its folder under `/srv`.
    pub name: AppName,
    /// The hosts it runs on; never empty.
    pub on: BTreeSet<HostName>,
    /// The operator's own command that makes the source; run once, on the laptop, before anything.
    pub build: Option<Build>,
    /// What is shipped: a file, a directory or an archive, relative to the project's folder.
    pub source: Option<PathBuf>,
    /// The user that its services run as, and that owns its shared folders.
    pub user: UserName,
    /// The environment of each of its services.
    pub env: BTreeMap<VariableName, Templated<EnvValue>>,
    /// The secrets its services read.
    pub secrets: BTreeMap<FileName, SecretForm>,
    /// Folders below `/srv/<app>/shared` that survive releases.
    pub shared: BTreeSet<TreePath>,
    /// The ports that it is declared to listen on; [`Fleet::ports`](super::Fleet::ports) knows more.
    pub ports: BTreeSet<u16>,
    /// Its services: `<app>.service` first, then `<app>-<name>.service`.
    pub services: Vec<Service>,
    /// Units written out by the operator.
    pub units: BTreeMap<UnitName, OwnUnit>,
    /// When it counts as healthy.
    pub health: Health,
    /// How nginx serves it.
    pub site: Option<Site>,
}

/// The operator's own text, given to `sh -c` on the laptop as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build(pub String);

/// How a service is given a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretForm {
    /// A systemd credential: `$CREDENTIALS_DIRECTORY/<name>`.
    Credential,
    /// A file, `/run/push/secrets/<app>/<name>`, readable by the app's user alone.
    File,
    /// A variable of the service's environment, through an environment file on tmpfs.
    Variable(VariableName),
    /// A file that a template makes around secrets.
    Rendered {
        /// The template.
        template: TemplateName,
        /// The secrets that it names.
        names: BTreeSet<FileName>,
    },
}

/// A unit whose text is the operator's own template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnUnit {
    /// The template.
    pub template: TemplateName,
    /// Whether it is started at boot and on a push.
    pub start: Start,
}

/// Whether a unit is enabled and started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Enabled, and started by the push.
    Enabled,
    /// Only there for others to start.
    OnDemand,
}

impl App {
    /// `/srv/<app>`
    pub fn dir(&self) -> String {
        format!("/srv/{}", self.name)
    }

    /// Where a secret's plaintext lies on the host.
    pub fn secret_path(&self, secret: &FileName) -> String {
        format!("/run/push/secrets/{}/{secret}", self.name)
    }

    /// Every secret that something of this app needs, each once: its services', its site's, its
    /// health checks'.
    pub fn secret_names(&self) -> BTreeSet<&FileName> {
        let services = self.secrets.iter().flat_map(|(name, form)| match form {
            SecretForm::Credential | SecretForm::File | SecretForm::Variable(_) => vec![name],
            SecretForm::Rendered { names, .. } => names.iter().collect(),
        });
        let site = self.site.iter().flat_map(Site::secret_names);
        services
            .chain(site)
            .chain(self.health.secret_names())
            .collect()
    }
}
