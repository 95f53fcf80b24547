//! Where the laptop gets its packages, so that images come from the same place: mirrors out
//! of apt's source lists, proxies and the like out of apt's configuration. Reads, never writes.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::suite::{Distribution, Suite};
use super::tool::Tool;

/// What of apt's configuration matters for fetching. Credentials may be in it: it goes into a file
/// that only root reads, and never into an argv.
const FETCHING: [&str; 7] = [
    "Acquire::http",
    "Acquire::https",
    "Acquire::ftp",
    "Acquire::Retries",
    "Acquire::ForceIPv4",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
];

/// Suites by which a Debian source is told from other sources.
const DEBIAN_SUITES: [&str; 10] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
];

/// Suites by which an Ubuntu source is told from other sources.
const UBUNTU_SUITES: [&str; 5] = ["focal", "jammy", "noble", "questing", "resolute"];

/// Ubuntu's archive, for a laptop that uses no mirror of it; mmdebstrap knows Debian's by itself.
const UBUNTU_ARCHIVE: &str = "http://archive.ubuntu.com/ubuntu";

/// The mirrors that this machine uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mirrors {
    debian: Mirror,
    ubuntu: Mirror,
}

/// The mirrors of one distribution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Mirror {
    main: Option<String>,
    security: Option<String>,
}

impl Mirrors {
    /// Reads apt's source lists.
    pub fn of_this_machine() -> Self {
        let mut mirrors = Self::default();
        for file in source_files(Path::new("/etc/apt")) {
            // A list that cannot be read is apt's to complain about; there may be others.
            if let Ok(text) = fs::read_to_string(&file) {
                let is_deb822 = file.extension().is_some_and(|e| e == "sources");
                let sources = if is_deb822 {
                    deb822(&text)
                } else {
                    one_line(&text)
                };
                for source in &sources {
                    mirrors.learn(source);
                }
            }
        }
        mirrors
    }

    /// The lines of a `sources.list` for a suite. None, where the laptop uses no mirror of Debian:
    /// then mmdebstrap's own default is as good as any.
    pub fn lines(&self, suite: Suite) -> Vec<String> {
        let distribution = suite.distribution();
        let (mirror, archive) = match distribution {
            Distribution::Debian => (&self.debian, None),
            Distribution::Ubuntu => (&self.ubuntu, Some(UBUNTU_ARCHIVE)),
        };
        let Some(main) = mirror.main.as_deref().or(archive) else {
            return Vec::new();
        };
        // A laptop without a security source still knows no better place for it. Ubuntu's main archive
        // carries security updates as well.
        let security = mirror.security.as_deref().or(archive.map(|_| main));
        let signed = distribution
            .keyring()
            .map(|keyring| format!("[signed-by={keyring}] "));
        let signed = signed.unwrap_or_default();
        let components = distribution.components();
        let line = |at: &str, of: &str| format!("deb {signed}{at} {suite}{of} {components}");
        let mut lines = vec![line(main, ""), line(main, "-updates")];
        lines.extend(security.map(|at| line(at, "-security")));
        lines
    }

    fn learn(&mut self, source: &Source) {
        if !source
            .components
            .iter()
            .any(|component| component == "main")
        {
            return;
        }
        for suite in &source.suites {
            let (base, kind) = suite.split_once(['-', '/']).unwrap_or((suite, ""));
            let mirror = if DEBIAN_SUITES.contains(&base) {
                &mut self.debian
            } else if UBUNTU_SUITES.contains(&base) {
                &mut self.ubuntu
            } else {
                continue;
            };
            let place = match kind {
                "" => &mut mirror.main,
                "security" => &mut mirror.security,
                _ => continue,
            };
            if place.is_none() {
                *place = source.uris.first().cloned();
            }
        }
    }
}

/// The part of apt's configuration that says how to fetch, in apt's own syntax.
pub(super) fn fetching() -> Result<String, Error> {
    Tool::named("apt-config")
        .args(["dump", "--no-empty", "--format", "%F \"%v\";%n"])
        .args(FETCHING)
        .succeed()
}

/// The value after `key` at the start of a line.
pub(super) fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .map(str::trim)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
}

fn source_files(apt: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(apt.join("sources.list.d"))
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e == "list" || e == "sources")
        })
        .collect();
    files.sort();
    files.insert(0, apt.join("sources.list"));
    files
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Reads the format of `*.sources`: stanzas of fields (deb822, see sources.list(5)).
fn deb822(text: &str) -> Vec<Source> {
    let without_comments: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    without_comments
        .split(|line| line.trim().is_empty())
        .map(|stanza| stanza.join("\n"))
        .filter(|stanza| field(stanza, "Enabled:") != Some("no"))
        .filter(|stanza| field(stanza, "Types:").is_some_and(|types| types.contains("deb")))
        .map(|stanza| {
            let list = |key| field(&stanza, key).map(words).unwrap_or_default();
            Source {
                uris: list("URIs:"),
                suites: list("Suites:"),
                components: list("Components:"),
            }
        })
        .collect()
}

/// Reads the format of `*.list`: `deb [options] uri suite component…`.
fn one_line(text: &str) -> Vec<Source> {
    text.lines()
        .filter_map(|line| line.split('#').next()?.trim().strip_prefix("deb "))
        .filter_map(|line| {
            let line = line.trim_start();
            let line = match line.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?.1,
                None => line,
            };
            let mut fields = words(line).into_iter();
            Some(Source {
                uris: vec![fields.next()?],
                suites: vec![fields.next()?],
                components: fields.collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(sources: &[Source]) -> Mirrors {
        let mut mirrors = Mirrors::default();
        for source in sources {
            mirrors.learn(source);
        }
        mirrors
    }

    #[test]
    fn the_laptops_mirrors_are_found_in_stanzas_among_those_of_others() {
        let text = "\
Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main

Types: deb
URIs: https://tools.example/apt
Suites: nodistro
Components: main
";
        let lines = learned(&deb822(text)).lines(Suite::Trixie);
        assert_eq!(
            lines,
            [
                "deb http://mirror.example/debian trixie main",
                "deb http://mirror.example/debian trixie-updates main",
                "deb http://mirror.example/security trixie-security main",
            ]
        );
    }

    #[test]
    fn ubuntu_comes_from_its_own_archive_unless_the_laptop_has_a_mirror() {
        let line = |at: &str, of: &str| {
            let keyring = "signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg";
            format!("deb [{keyring}] {at} noble{of} main universe")
        };
        let archive = "http://archive.ubuntu.com/ubuntu";
        assert_eq!(
            Mirrors::default().lines(Suite::Noble),
            ["", "-updates", "-security"].map(|of| line(archive, of))
        );
        let own = "deb http://near.example/ubuntu jammy main restricted\n\
                   deb http://near.example/security jammy-security main\n";
        let lines = learned(&one_line(own)).lines(Suite::Noble);
        assert_eq!(lines[1], line("http://near.example/ubuntu", "-updates"));
        assert_eq!(lines[2], line("http://near.example/security", "-security"));
    }

    #[test]
    fn the_laptops_mirrors_are_found_in_lines() {
        let text = "\
# deb http://old.example/debian bookworm main
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/x.gpg] http://mirror.example/debian bookworm main # why
deb http://mirror.example/security bookworm-security main
";
        assert_eq!(
            learned(&one_line(text)).debian,
            Mirror {
                main: Some("http://mirror.example/debian".to_owned()),
                security: Some("http://mirror.example/security".to_owned()),
            }
        );
    }

    #[test]
    fn a_disabled_source_is_not_used_and_another_distributions_is_not_debian() {
        let disabled =
            "Types: deb\nEnabled: no\nURIs: http://a.example\nSuites: trixie\nComponents: main\n";
        let other = "deb http://b.example/apt nodistro main\n";
        assert_eq!(learned(&deb822(disabled)), Mirrors::default());
        assert_eq!(learned(&one_line(other)), Mirrors::default());
        assert!(Mirrors::default().lines(Suite::Bookworm).is_empty());
    }
}
