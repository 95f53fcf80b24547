//! The name of a template: its path below `templates/`.

use std::fmt;
use std::str::FromStr;

use super::TemplateError;
use crate::name::TreePath;

/// The folder of the operator's templates, as an inventory may or may not write it.
const FOLDER: &str = "templates/";

/// The name of a template: a path inside `templates/`, which cannot lead out of it. An inventory
/// may write it with or without the folder: `templates/logrotate` is `logrotate`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TemplateName(String);

impl TemplateName {
    /// The path below `templates/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! built_in {
    ($($(#[$doc:meta])* $function:ident = $path:literal),* $(,)?) => {
        impl TemplateName {
            $($(#[$doc])*
            pub fn $function() -> Self {
                Self($path.to_owned())
            })*
        }
    };
}

built_in! {
    /// The built-in template of services.
    service = "systemd/service",
    /// The built-in template of timers.
    timer = "systemd/timer",
    /// The built-in template of sockets.
    socket = "systemd/socket",
    /// The built-in template of nginx sites.
    site = "nginx/site",
    /// The built-in template of who may log in.
    authorized_keys = "bootstrap/authorized_keys",
    /// The built-in template of sshd's own settings.
    sshd = "bootstrap/sshd",
    /// The built-in template of what the login may do as root.
    sudoers = "bootstrap/sudoers",
    /// The built-in template of unattended upgrades.
    upgrades = "bootstrap/upgrades",
    /// The built-in template of the limits of the system's log.
    journald = "bootstrap/journald",
    /// The built-in template of parameters of the kernel.
    sysctl = "bootstrap/sysctl",
    /// The built-in template of what cloud-init leaves alone.
    cloud = "bootstrap/cloud",
    /// The built-in template of where an authority's challenges are answered.
    acme_location = "bootstrap/acme_location",
    /// The built-in template of the server that answers them for names without a site.
    acme_server = "bootstrap/acme_server",
    /// The built-in template of what certbot's timer needs to believe an authority of one's own.
    certbot = "bootstrap/certbot",
}

impl FromStr for TemplateName {
    type Err = TemplateError;
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let refuse = |why| TemplateError::Name {
            name: text.to_owned(),
            why,
        };
        let inside = text.strip_prefix(FOLDER).unwrap_or(text);
        if inside.chars().any(char::is_control) {
            return Err(refuse("it holds a control character"));
        }
        inside
            .parse::<TreePath>()
            .map_err(|error: push_wire::path::PathError| refuse(error.why))?;
        Ok(Self(inside.to_owned()))
    }
}

impl fmt::Display for TemplateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
