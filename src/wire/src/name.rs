//! Checked names. A value of these types is safe as a path component, in a unit, in nginx and in
//! nftables, because its grammar leaves nothing to escape; nothing else may be used as a name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::checked_text;

/// The longest name, in bytes. `useradd` refuses longer ones (32), and app names become users.
pub const NAME_BYTES_MAX: usize = 32;

/// The longest unit name, in bytes (`UNIT_NAME_MAX` of systemd, less the final NUL).
pub const UNIT_BYTES_MAX: usize = 255;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing is there.
    #[error("{} {kind} cannot be empty", article(kind))]
    Empty {
        /// What the text was meant to be.
        kind: &'static str,
    },
    /// More bytes than the things behind the name can carry.
    #[error(
        "{} {kind} has at most {max} bytes, this one has {found}",
        article(kind)
    )]
    TooLong {
        /// What the text was meant to be.
        kind: &'static str,
        /// The limit in bytes.
        max: usize,
        /// What was found, in bytes.
        found: usize,
    },
    /// A character outside the grammar.
    #[error("{found:?} cannot stand in {} {kind}: {grammar}", article(kind))]
    Character {
        /// What the text was meant to be.
        kind: &'static str,
        /// The first character that does not fit.
        found: char,
        /// The grammar in words.
        grammar: &'static str,
    },
    /// The name is one that the system or push itself uses.
    #[error("{name:?} is reserved: {why}")]
    Reserved {
        /// The name.
        name: String,
        /// Whose it is.
        why: &'static str,
    },
}

const LOWER: &str = "use a-z, 0-9 and '-', starting with a letter, not ending in '-'";
const FILE: &str = "use letters, digits, '.', '_' and '-', starting with a letter or a digit";
const UNIT: &str = "use letters, digits and ':_.@-', ending in .service, .socket, .timer, .target, .path or .mount";

/// How the names of push's own units start.
const PUSH_PREFIX: &str = "push-";

/// Names that belong to the system's own users, units or folders.
const RESERVED: &[&str] = &[
    "adm",
    "audio",
    "backup",
    "bin",
    "cron",
    "current",
    "daemon",
    "dbus",
    "disk",
    "docker",
    "games",
    "generations",
    "getty",
    "irc",
    "kmem",
    "list",
    "lp",
    "mail",
    "man",
    "messagebus",
    "mysql",
    "network",
    "networking",
    "news",
    "nftables",
    "nginx",
    "nobody",
    "nogroup",
    "polkit",
    "postgres",
    "proxy",
    "push",
    "push-host",
    "redis",
    "releases",
    "root",
    "shadow",
    "shared",
    "shutdown",
    "ssh",
    "sshd",
    "staff",
    "sudo",
    "sync",
    "sys",
    "syslog",
    "tty",
    "users",
    "utmp",
    "uucp",
    "video",
    "www-data",
];

/// `a` or `an`. A kind that starts with `u` is a unit or a user, which are spoken as `you`.
fn article(kind: &str) -> &'static str {
    if kind.starts_with(['a', 'e', 'i', 'o']) {
        "an"
    } else {
        "a"
    }
}

fn lower(kind: &'static str, text: &str) -> Result<(), NameError> {
    length(kind, text, NAME_BYTES_MAX)?;
    let wrong = |at, c| match c {
        'a'..='z' => false,
        '0'..='9' => at == 0,
        '-' => at == 0 || at + 1 == text.len(),
        _ => true,
    };
    first_wrong(kind, text, LOWER, wrong)?;
    let reserved = |why| {
        Err(NameError::Reserved {
            name: text.to_owned(),
            why,
        })
    };
    if RESERVED.contains(&text) {
        return reserved("the system or push itself uses it");
    }
    if text.starts_with("systemd-") {
        return reserved("names that start with systemd- are systemd's");
    }
    Ok(())
}

fn file(kind: &'static str, text: &str) -> Result<(), NameError> {
    length(kind, text, NAME_BYTES_MAX * 2)?;
    first_wrong(kind, text, FILE, |at, c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => false,
        '.' | '_' | '-' => at == 0,
        _ => true,
    })
}

fn unit(kind: &'static str, text: &str) -> Result<(), NameError> {
    length(kind, text, UNIT_BYTES_MAX)?;
    first_wrong(kind, text, UNIT, |at, c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => false,
        ':' | '_' | '.' | '@' | '-' => at == 0,
        _ => true,
    })?;
    let (stem, suffix) = text.rsplit_once('.').unwrap_or((text, ""));
    if !matches!(
        suffix,
        "service" | "socket" | "timer" | "target" | "path" | "mount"
    ) || stem.is_empty()
    {
        return Err(NameError::Character {
            kind,
            found: text.chars().last().unwrap_or('.'),
            grammar: UNIT,
        });
    }
    Ok(())
}

/// Refuses a name that is empty or longer than `max` bytes.
pub fn length(kind: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    match text.len() {
        0 => Err(NameError::Empty { kind }),
        found if found > max => Err(NameError::TooLong { kind, max, found }),
        _ => Ok(()),
    }
}

/// Refuses a name by the first character that is wrong where it stands, counted in bytes; `grammar` says
/// which ones are right.
pub fn first_wrong(
    kind: &'static str,
    text: &str,
    grammar: &'static str,
    wrong: impl Fn(usize, char) -> bool,
) -> Result<(), NameError> {
    match text.char_indices().find(|(at, c)| wrong(*at, *c)) {
        Some((_, found)) => Err(NameError::Character {
            kind,
            found,
            grammar,
        }),
        None => Ok(()),
    }
}

checked_text!(
    /// The name of a slice on its hosts.
    ProjectName,
    NameError,
    |text| lower("project name", text)
);
checked_text!(
    /// The name of an app; also of its user, its folder under `/srv` and the stem of its units.
    AppName,
    NameError,
    |text| lower("app name", text)
);
checked_text!(
    /// A system user or group that push may create or give files to. Unlike an app it may be one
    /// of the system's own, such as `www-data`.
    UserName,
    NameError,
    |text| user("user name", text)
);
checked_text!(
    /// The file name of a secret, of a credential, or of a shared folder's last component.
    FileName,
    NameError,
    |text| file("file name", text)
);
checked_text!(
    /// The name of a systemd unit with its suffix, such as `api.service`.
    UnitName,
    NameError,
    |text| unit("unit name", text)
);
checked_text!(
    /// A release's id, `<UTC time>-<git sha>` with `-dirty`: a file name.
    ReleaseId,
    NameError,
    |text| file("release id", text)
);
checked_text!(
    /// One run of one transaction; chosen at random by the laptop, compared by the host.
    TransactionId,
    NameError,
    |text| file("transaction id", text)
);

fn user(kind: &'static str, text: &str) -> Result<(), NameError> {
    length(kind, text, NAME_BYTES_MAX)?;
    first_wrong(kind, text, LOWER, |at, c| match c {
        'a'..='z' | '_' => false,
        '0'..='9' => at == 0,
        '-' => at == 0 || at + 1 == text.len(),
        _ => true,
    })
}

impl UserName {
    /// The user that owns what nobody else needs to read.
    pub fn root() -> Self {
        Self("root".to_owned())
    }

    /// The user that nginx's workers run as on Debian and Ubuntu.
    pub fn nginx() -> Self {
        Self("www-data".to_owned())
    }
}

impl From<&AppName> for UserName {
    fn from(app: &AppName) -> Self {
        // Every app name satisfies the user grammar: it is the narrower one.
        Self(app.0.clone())
    }
}

impl AppName {
    /// Whether its units would be called like push's own. A host may hold such an app of an earlier
    /// push, so that it is a name, but none to declare.
    pub fn is_pushs(&self) -> bool {
        self.0.starts_with(PUSH_PREFIX)
    }
}

impl UnitName {
    /// The service of an app.
    pub fn service(app: &AppName) -> Self {
        Self(format!("{app}.service"))
    }

    /// The unit's type: what follows the last dot.
    pub fn suffix(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, suffix)| suffix)
    }

    /// What precedes the last dot.
    pub fn stem(&self) -> &str {
        self.0
            .rsplit_once('.')
            .map_or(self.as_str(), |(stem, _)| stem)
    }

    /// Whether the unit is one of the system's own: push may restart such a unit after changing a
    /// file that it reads, but never declares it.
    pub fn is_the_systems(&self) -> bool {
        let stem = self.stem().split('@').next().unwrap_or_default();
        RESERVED.contains(&stem) || stem.starts_with("systemd-") || stem.starts_with(PUSH_PREFIX)
    }

    /// Whether this is a template that only instances of can run (`name@.service`).
    pub fn is_template(&self) -> bool {
        self.stem().ends_with('@')
    }
}

/// The number of a generation on one host. They rise by one; order is by number, never by clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GenerationId(pub u64);

impl GenerationId {
    /// The state of a host before its first push: no generation at all.
    pub const NONE: Self = Self(0);

    /// Whether this is the state before the first push.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for GenerationId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_about_a_name_reads_like_a_sentence() {
        for (error, said) in [
            ("".parse::<AppName>().err(), "an app name cannot be empty"),
            ("".parse::<UserName>().err(), "a user name cannot be empty"),
            ("".parse::<FileName>().err(), "a file name cannot be empty"),
        ] {
            assert_eq!(error.unwrap().to_string(), said);
        }
    }

    #[test]
    fn a_name_from_outside_cannot_leave_its_folder_or_its_line() {
        for hostile in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a b",
            "-x",
            "x-",
            "x\n",
            "%d",
            "$HOME",
            "a;b",
            "a}b",
            "\u{1b}[31m",
            "A",
            "current",
            "ssh",
            "systemd-x",
            "é",
            "x\\x2d",
            "1a",
        ] {
            assert!(hostile.parse::<AppName>().is_err(), "{hostile:?}");
            assert!(hostile.parse::<ProjectName>().is_err(), "{hostile:?}");
        }
        assert!("a".repeat(33).parse::<AppName>().is_err());
        assert!("api-2".parse::<AppName>().is_ok());
    }

    #[test]
    fn a_unit_name_has_a_type_and_the_systems_own_are_known() {
        assert!("ssh.service".parse::<UnitName>().unwrap().is_the_systems());
        assert!(!"api.service".parse::<UnitName>().unwrap().is_the_systems());
        for own in ["push-recover.service", "push-x@.service"] {
            assert!(own.parse::<UnitName>().unwrap().is_the_systems(), "{own}");
        }
        for hostile in [
            "api",
            ".service",
            "../a.service",
            "a b.service",
            "a.service.d",
            "%i.service",
            "-a.service",
        ] {
            assert!(hostile.parse::<UnitName>().is_err(), "{hostile:?}");
        }
        for good in [
            "api.service",
            "api@.service",
            "api-clean.timer",
            "api.socket",
        ] {
            assert!(good.parse::<UnitName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_name_read_from_json_is_checked_too() {
        assert!(serde_json::from_str::<AppName>("\"../etc\"").is_err());
        assert!(serde_json::from_str::<ReleaseId>("\"..\"").is_err());
    }
}
