//! Groundwork: what a host is given before a switch and keeps when the rest is taken back. Packages,
//! logins, its names, its clock's zone, its language, swap, certificates.
//!
//! Each is idempotent: what is there already is left as it is, so doing it again does nothing. A new
//! kind is a field of [`Groundwork`] and a variant of [`Work`]; the host's own `groundwork` then does
//! not compile until it can tell whether it is there, and make it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::checked_text;
use crate::name::UserName;

/// The longest name of a package, in bytes; the longest in Debian has about 80.
const PACKAGE_BYTES_MAX: usize = 128;

/// The longest hostname, in bytes (`HOST_NAME_MAX` of Linux).
const HOSTNAME_BYTES_MAX: usize = 64;

/// The longest name of a time zone or a locale, in bytes.
const ZONE_BYTES_MAX: usize = 64;

/// Why a text cannot stand for a piece of groundwork.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no {kind}: {grammar}")]
pub struct GroundworkError {
    kind: &'static str,
    grammar: &'static str,
}

checked_text!(
    /// The name of a Debian package (Debian Policy, 5.6.1). It does not end in `-`, which apt-get
    /// would read as an order to remove.
    PackageName,
    GroundworkError,
    package
);
checked_text!(
    /// What a host calls itself: labels of a-z, 0-9 and `-`, joined by dots (RFC 1123).
    Hostname,
    GroundworkError,
    hostname
);
checked_text!(
    /// A time zone as the zone database names it: `Europe/Berlin`, `Etc/UTC`.
    TimeZone,
    GroundworkError,
    time_zone
);
checked_text!(
    /// A locale that counts in UTF-8: `C.UTF-8`, `de_DE.UTF-8`.
    Locale,
    GroundworkError,
    locale
);

/// What is to be there before a switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Groundwork {
    /// Packages of the system, installed with what they need and nothing that they recommend.
    pub packages: BTreeSet<PackageName>,
    /// People's logins: a home, a shell, no password.
    pub logins: BTreeSet<UserName>,
    /// What the host calls itself.
    pub hostname: Option<Hostname>,
    /// The zone of its local time.
    pub time_zone: Option<TimeZone>,
    /// The language of its programs.
    pub locale: Option<Locale>,
    /// The size of a swap file, in bytes, where there is none yet.
    pub swap_bytes: Option<u64>,
    /// What becomes of the page that Debian's nginx shows for every name.
    #[serde(default, skip_serializing_if = "WelcomePage::is_left")]
    pub welcome_page: WelcomePage,
    /// Certificates that are asked for where they are not there yet.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub certificates: BTreeSet<Certificate>,
}

/// What becomes of the page that Debian's nginx shows for every name that no site has. As long as it is
/// there, no site of push's can be the one for such names, nor can challenges be answered for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WelcomePage {
    /// It stays.
    #[default]
    Left,
    /// It goes, unless somebody has changed it.
    Removed,
}

impl WelcomePage {
    /// Whether it stays.
    pub fn is_left(&self) -> bool {
        *self == Self::Left
    }
}

/// One piece of groundwork that a host lacks, or would do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A package is not installed.
    Package(PackageName),
    /// Nobody can log in by this name.
    Login(UserName),
    /// The host calls itself something else.
    Hostname(Hostname),
    /// Its local time is another one.
    TimeZone(TimeZone),
    /// Its programs speak otherwise.
    Locale(Locale),
    /// It has no swap file.
    Swap(u64),
    /// Its nginx shows its welcome page, or would once it is installed.
    WelcomePage,
    /// It does not have this certificate.
    Certificate(Certificate),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(name) => write!(f, "package {name}"),
            Self::Login(user) => write!(f, "login {user}"),
            Self::Hostname(name) => write!(f, "hostname {name}"),
            Self::TimeZone(zone) => write!(f, "time zone {zone}"),
            Self::Locale(locale) => write!(f, "locale {locale}"),
            Self::Swap(bytes) => write!(f, "swap file of {} MiB", bytes >> 20),
            Self::WelcomePage => f.write_str("nginx without its welcome page"),
            Self::Certificate(certificate) => write!(f, "{certificate}"),
        }
    }
}

impl Groundwork {
    /// Whether nothing is to be there.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a program of the system comes with one of the packages.
    pub fn brings(&self, program: &str) -> bool {
        self.packages.iter().any(|package| match program {
            "nft" => package.as_str() == "nftables",
            "nginx" => package.as_str() == "nginx" || package.as_str().starts_with("nginx-"),
            other => package.as_str() == other,
        })
    }
}

fn package(text: &str) -> Result<(), GroundworkError> {
    let wrong = GroundworkError {
        kind: "name of a package",
        grammar: "use a-z, 0-9, '+', '-' and '.', starting with a letter or a digit",
    };
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = (2..=PACKAGE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|c| plain(c) || b"+-.".contains(&c))
        && text.bytes().next().is_some_and(plain)
        && !text.ends_with(['-', '.']);
    fits.then_some(()).ok_or(wrong)
}

fn hostname(text: &str) -> Result<(), GroundworkError> {
    let wrong = GroundworkError {
        kind: "hostname",
        grammar: "use a-z, 0-9 and '-' in labels joined by dots, 64 bytes at most",
    };
    let label = |label: &str| {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !label.is_empty()
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let fits = text.len() <= HOSTNAME_BYTES_MAX && text.split('.').all(label);
    fits.then_some(()).ok_or(wrong)
}

fn time_zone(text: &str) -> Result<(), GroundworkError> {
    let wrong = GroundworkError {
        kind: "time zone",
        grammar: "write it as the zone database does: Europe/Berlin, Etc/UTC",
    };
    let part = |part: &str| {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"_+-".contains(&c);
        part.bytes().all(plain) && part.bytes().next().is_some_and(|c| c.is_ascii_alphabetic())
    };
    let fits = text.len() <= ZONE_BYTES_MAX && text.split('/').all(part);
    fits.then_some(()).ok_or(wrong)
}

fn locale(text: &str) -> Result<(), GroundworkError> {
    let wrong = GroundworkError {
        kind: "locale",
        grammar: "write C.UTF-8, or a language and a country: de_DE.UTF-8",
    };
    let plain = |c: u8| c.is_ascii_alphabetic() || c == b'_' || c == b'@';
    let fits = text.len() <= ZONE_BYTES_MAX
        && text.strip_suffix(".UTF-8").is_some_and(|language| {
            language.bytes().all(plain)
                && language
                    .bytes()
                    .next()
                    .is_some_and(|c| c.is_ascii_alphabetic())
        });
    fits.then_some(()).ok_or(wrong)
}

impl Locale {
    /// Whether every system has it without making it.
    pub fn is_built_in(&self) -> bool {
        self.as_str() == "C.UTF-8"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_can_be_neither_an_option_nor_an_order_to_remove() {
        for hostile in [
            "",
            "a",
            "-y",
            "nginx-",
            "--purge",
            "a b",
            "nginx;id",
            "nginx/stable",
            "nginx=1.0",
            "nginx:arm64",
            "*",
            "^ssh",
            "Nginx",
            "nginx\n",
            "../x",
            "é",
            "x.",
        ] {
            assert!(hostile.parse::<PackageName>().is_err(), "{hostile:?}");
        }
        for good in ["g++", "nginx", "libstdc++6", "python3.11", "0ad"] {
            assert!(good.parse::<PackageName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn names_of_hosts_zones_and_locales_leave_no_folder_and_no_line() {
        for hostile in [
            "",
            "a b",
            "a\nb",
            "-a",
            "a-",
            "a..b",
            "A",
            "a/b",
            &"a".repeat(65),
        ] {
            assert!(hostile.parse::<Hostname>().is_err(), "{hostile:?}");
        }
        for hostile in [
            "",
            "../../etc/shadow",
            "/etc",
            "Europe/../x",
            "Europe/",
            "a b",
            "-x",
            "a\n",
        ] {
            assert!(hostile.parse::<TimeZone>().is_err(), "{hostile:?}");
        }
        for hostile in [
            "",
            "C",
            "de_DE",
            "de_DE.UTF-8\nx",
            "x;id.UTF-8",
            ".UTF-8",
            "/x.UTF-8",
        ] {
            assert!(hostile.parse::<Locale>().is_err(), "{hostile:?}");
        }
        assert!("web1.example.com".parse::<Hostname>().is_ok());
        assert!("America/Argentina/Buenos_Aires".parse::<TimeZone>().is_ok());
        assert!("Etc/GMT+1".parse::<TimeZone>().is_ok());
        assert!("ca_ES@valencia.UTF-8".parse::<Locale>().is_ok());
    }

    #[test]
    fn a_package_brings_the_program_that_debian_puts_into_it() {
        let ground = Groundwork {
            packages: ["nftables", "nginx-light"]
                .map(|name| name.parse().unwrap())
                .into(),
            ..Groundwork::default()
        };
        assert!(ground.brings("nft") && ground.brings("nginx"));
        assert!(!ground.brings("sshd"));
    }
}
