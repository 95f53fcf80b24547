//! What a template can see.

use std::collections::BTreeMap;

use serde::Serialize;

/// Everything that `{{ … }}` may name. Serialised under these very names.
#[derive(Debug, Clone, Serialize)]
pub struct Scope {
    /// `host.…`
    pub host: HostScope,
    /// `environment.name`
    pub environment: EnvironmentScope,
    /// `project`
    pub project: String,
    /// `app.…`; absent where a text belongs to no app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<AppScope>,
    /// `release.…`; absent where a text belongs to no app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseScope>,
    /// `secret.path.…`; absent where a text belongs to no app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretScope>,
}

/// `host.name`, `host.address`, `host.tags`, `host.vars.…`
#[derive(Debug, Clone, Serialize)]
pub struct HostScope {
    /// The name in the inventory.
    pub name: String,
    /// The address push connects to.
    pub address: String,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// What `hosts.NAME.vars` holds.
    pub vars: BTreeMap<String, serde_json::Value>,
}

/// `environment.name`
#[derive(Debug, Clone, Serialize)]
pub struct EnvironmentScope {
    /// The stem of the environment's file.
    pub name: String,
}

/// `app.name`, `app.user`, `app.dir`, `app.shared`
#[derive(Debug, Clone, Serialize)]
pub struct AppScope {
    /// The app's name.
    pub name: String,
    /// The user it runs as.
    pub user: String,
    /// `/srv/<app>`
    pub dir: String,
    /// `/srv/<app>/shared`
    pub shared: String,
}

/// `release.id`, `release.dir`, `release.current`
#[derive(Debug, Clone, Serialize)]
pub struct ReleaseScope {
    /// The release's id.
    pub id: String,
    /// `/srv/<app>/releases/<id>`
    pub dir: String,
    /// `/srv/<app>/current`
    pub current: String,
}

/// `secret.path.<name>`; a `-` in a secret's name is written `_` here, as Jinja would subtract.
#[derive(Debug, Clone, Serialize)]
pub struct SecretScope {
    /// Where each secret's plaintext lies on the host while the app runs.
    pub path: BTreeMap<String, String>,
}

/// How many variables a message lists at most.
const LISTED_MAX: usize = 40;

impl Scope {
    /// The name of every variable, as a template writes it, for messages.
    pub fn variables(&self) -> Vec<String> {
        serde_json::to_value(self)
            .map(|value| names(&value))
            .unwrap_or_default()
    }
}

/// The dotted name of every value in a context, for messages.
pub(super) fn names(context: &serde_json::Value) -> Vec<String> {
    let mut names = Vec::new();
    collect("", context, &mut names);
    names.truncate(LISTED_MAX);
    names
}

fn collect(prefix: &str, value: &serde_json::Value, names: &mut Vec<String>) {
    let serde_json::Value::Object(fields) = value else {
        names.push(prefix.to_owned());
        return;
    };
    for (key, value) in fields {
        match prefix {
            "" => collect(key, value, names),
            _ => collect(&format!("{prefix}.{key}"), value, names),
        }
    }
}
