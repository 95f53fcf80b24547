//! What dpkg's own status file says (dpkg-query(1), deb-control(5)). Text to values; reads nothing itself.

use std::collections::BTreeSet;

use push_wire::upgrade::{Package, PackageVersion};

/// One package that dpkg knows. The texts are the file's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its architecture.
    pub architecture: &'a str,
    /// Its version.
    pub version: &'a str,
    /// What somebody wants of it: `install`, `hold`, `deinstall`.
    pub wanted: &'a str,
    /// Its state: `installed`, `half-configured`, `config-files`.
    pub state: &'a str,
}

impl Entry<'_> {
    /// Whether it is there and configured.
    pub fn is_installed(&self) -> bool {
        self.state == "installed"
    }

    /// Whether it is between two states: dpkg was cut short, or a script of the package failed.
    pub fn is_half_done(&self) -> bool {
        matches!(
            self.state,
            "half-installed"
                | "unpacked"
                | "half-configured"
                | "triggers-awaited"
                | "triggers-pending"
        )
    }

    /// Whether somebody marked it to stay as it is (`apt-mark hold`).
    pub fn is_held(&self) -> bool {
        self.wanted == "hold"
    }
}

/// What dpkg knows of all packages.
#[derive(Debug, Default)]
pub struct Status<'a> {
    /// In the order of the file.
    pub entries: Vec<Entry<'a>>,
}

impl<'a> Status<'a> {
    /// Reads the file.
    pub fn parse(text: &'a str) -> Self {
        let entries = text.split("\n\n").filter_map(|stanza| {
            let field = |key| stanza.lines().find_map(|line| line.strip_prefix(key));
            let mut status = field("Status: ")?.split_whitespace();
            Some(Entry {
                name: field("Package: ")?.trim(),
                architecture: field("Architecture: ").unwrap_or_default().trim(),
                version: field("Version: ").unwrap_or_default().trim(),
                wanted: status.next()?,
                state: status.nth(1)?,
            })
        });
        Self {
            entries: entries.collect(),
        }
    }

    /// The architecture that bare names are of: dpkg's own.
    fn native(&self) -> &'a str {
        let dpkg = self.entries.iter().find(|entry| entry.name == "dpkg");
        dpkg.map_or("", |entry| entry.architecture)
    }

    /// The packages that are there and configured, each as apt names it. A name that breaks Debian's rules
    /// is nothing that could be ordered.
    pub fn installed(&self) -> impl Iterator<Item = (Package, &Entry<'a>)> {
        let there = self.entries.iter().filter(|entry| entry.is_installed());
        there.filter_map(|entry| Some((self.named(entry)?, entry)))
    }

    /// The packages that are between two states.
    pub fn half_done(&self) -> BTreeSet<Package> {
        let half = self.entries.iter().filter(|entry| entry.is_half_done());
        half.filter_map(|entry| self.named(entry)).collect()
    }

    /// Whether this version of a package is there and configured.
    pub fn has(&self, package: &Package, version: &PackageVersion) -> bool {
        self.installed()
            .any(|(name, entry)| name == *package && entry.version == version.as_str())
    }

    /// Whether nothing of a package is there but its configuration, at most.
    pub fn lacks(&self, package: &Package) -> bool {
        let named = self
            .entries
            .iter()
            .filter(|entry| self.named(entry).as_ref() == Some(package));
        named
            .into_iter()
            .all(|entry| matches!(entry.state, "config-files" | "not-installed"))
    }

    fn named(&self, entry: &Entry<'_>) -> Option<Package> {
        let is_native =
            matches!(entry.architecture, "all" | "") || entry.architecture == self.native();
        let named = if is_native {
            entry.name.to_owned()
        } else {
            format!("{}:{}", entry.name, entry.architecture)
        };
        named.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: base-files\nEssential: yes\nStatus: install ok installed\n\
                          Architecture: amd64\nVersion: 12.4\nDescription: x\n Status: a word in a text\n\n\
                          Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                          Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.21.22\n\n\
                          Package: libc6\nStatus: install ok installed\nArchitecture: i386\nVersion: 2.36-9\n\n\
                          Package: nginx\nStatus: hold ok installed\nArchitecture: amd64\nVersion: 1.22.1-9\n";

    #[test]
    fn a_package_is_installed_when_dpkg_says_so_and_not_when_its_files_only_stayed() {
        let status = Status::parse(STATUS);
        let names: Vec<String> = status
            .installed()
            .map(|(name, _)| name.to_string())
            .collect();
        assert_eq!(names, ["base-files", "dpkg", "libc6:i386", "nginx"]);
        assert_eq!(Status::parse("").installed().count(), 0);
        assert!(status.half_done().is_empty());
        let cut =
            format!("{STATUS}\nPackage: curl\nStatus: install ok half-configured\nVersion: 8\n");
        let status = Status::parse(&cut);
        assert_eq!(status.half_done(), ["curl".parse().unwrap()].into());
        assert!(!status.has(&"curl".parse().unwrap(), &"8".parse().unwrap()));
        assert!(status.has(&"libc6:i386".parse().unwrap(), &"2.36-9".parse().unwrap()));
        assert!(!status.has(&"libc6".parse().unwrap(), &"2.36-9".parse().unwrap()));
        assert!(status.lacks(&"gone".parse().unwrap()) && !status.lacks(&"curl".parse().unwrap()));
    }
}
