//! What a host calls itself, the zone of its local time, and the language of its programs: edits of files
//! that the system keeps itself, so each keeps what else stands in them. The file that [`lacking`] looks at
//! is written last.

use std::io;
use std::path::{Path, PathBuf};

use push_wire::groundwork::{Groundwork, Hostname, Locale, TimeZone, Work};

use super::{GroundworkError, text, write};
use crate::layout::Layout;
use crate::machine::{self, Disk, Machine, Tool};

/// The address by which a Debian host knows its own name (Debian Reference, 5.1.1).
const OWN_ADDRESS: &str = "127.0.1.1";

/// Where the zone database is.
const ZONES: &str = "/usr/share/zoneinfo";

/// What the host lacks of these.
pub fn lacking<M: Disk>(
    machine: &M,
    layout: &Layout,
    wanted: &Groundwork,
) -> io::Result<Vec<Work>> {
    let mut lacking = Vec::new();
    if let Some(name) = &wanted.hostname
        && text(machine, &layout.at("/etc/hostname"))?.trim() != short(name)
    {
        lacking.push(Work::Hostname(name.clone()));
    }
    if let Some(zone) = &wanted.time_zone
        && machine.read_link(&layout.at("/etc/localtime"))? != Some(zone_file(zone))
    {
        lacking.push(Work::TimeZone(zone.clone()));
    }
    if let Some(locale) = &wanted.locale
        && language(&text(machine, &locale_file(machine, layout)?)?) != Some(locale.as_str())
    {
        lacking.push(Work::Locale(locale.clone()));
    }
    Ok(lacking)
}

/// The host's name, without the domain that it may be in.
fn short(name: &Hostname) -> &str {
    name.as_str().split('.').next().unwrap_or_default()
}

/// Names the host, in memory and on disk. A program that asks for the host's own address, as sudo does, has
/// to find one, so `/etc/hosts` is first.
pub fn set_hostname<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    name: &Hostname,
) -> Result<(), GroundworkError> {
    let hosts = layout.at("/etc/hosts");
    let table = text(machine, &hosts)?;
    let named = with_own_name(&table, name);
    if named != table {
        write(machine, &hosts, &named)?;
    }
    let label: Hostname = match short(name).parse() {
        Ok(label) => label,
        // The first label of a hostname is one.
        Err(_) => name.clone(),
    };
    machine.run(&Tool::SetHostname(label))?;
    Ok(write(
        machine,
        &layout.at("/etc/hostname"),
        &format!("{}\n", short(name)),
    )?)
}

/// hosts(5) with the host's own name at its own address, in place of the one that stood there.
fn with_own_name(table: &str, name: &Hostname) -> String {
    let own = if short(name) == name.as_str() {
        format!("{OWN_ADDRESS} {name}")
    } else {
        format!("{OWN_ADDRESS} {name} {}", short(name))
    };
    let is_own = |line: &str| line.split_whitespace().next() == Some(OWN_ADDRESS);
    let base = if table.trim().is_empty() {
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
    } else {
        table
    };
    let mut lines: Vec<&str> = Vec::new();
    let mut is_named = false;
    for line in base.lines() {
        if !is_own(line) {
            lines.push(line);
        } else if !is_named {
            is_named = true;
            lines.push(&own);
        }
    }
    if !is_named {
        lines.push(&own);
    }
    lines.join("\n") + "\n"
}

fn zone_file(zone: &TimeZone) -> PathBuf {
    Path::new(ZONES).join(zone.as_str())
}

/// Sets the zone of local time. Programs that run go on with the old one until they are restarted.
pub fn set_time_zone<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    zone: &TimeZone,
) -> Result<(), GroundworkError> {
    let file = zone_file(zone);
    if machine.stat(&layout.at(&file.to_string_lossy()))?.is_none() {
        return Err(GroundworkError::Zone);
    }
    // Not every Debian has this one any more; where it is there, the two agree.
    let named = layout.at("/etc/timezone");
    if machine.stat(&named)?.is_some() {
        write(machine, &named, &format!("{zone}\n"))?;
    }
    let link = layout.at("/etc/localtime");
    machine::replace_link(machine, &file, &link)?;
    Ok(machine.sync(&layout.at("/etc"))?)
}

/// Where the language is said: Debian 13 keeps `/etc/default/locale` as a link to `/etc/locale.conf`.
fn locale_file<M: Disk>(machine: &M, layout: &Layout) -> io::Result<PathBuf> {
    let file = layout.at("/etc/default/locale");
    Ok(match machine.read_link(&file)? {
        Some(_) => layout.at("/etc/locale.conf"),
        None => file,
    })
}

/// The value of `LANG`, as locale(5) files write it, with or without quotes.
fn language(text: &str) -> Option<&str> {
    let value = text.lines().find_map(|line| line.strip_prefix("LANG="))?;
    Some(value.trim().trim_matches('"'))
}

/// Sets the language of programs that start from now on; makes it first where the system does not have it.
pub fn set_locale<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    locale: &Locale,
) -> Result<(), GroundworkError> {
    if !locale.is_built_in() {
        let list = layout.at("/etc/locale.gen");
        let entry = format!("{locale} UTF-8");
        let listed = text(machine, &list)?;
        if !listed.lines().any(|line| line.trim() == entry) {
            write(machine, &list, &with_line(&listed, &entry))?;
        }
        machine.run(&Tool::MakeLocales)?;
    }
    let file = locale_file(machine, layout)?;
    let before = text(machine, &file)?;
    let others: Vec<&str> = before
        .lines()
        .filter(|line| !line.starts_with("LANG="))
        .collect();
    let others = others.join("\n");
    Ok(write(
        machine,
        &file,
        &with_line(&others, &format!("LANG={locale}")),
    )?)
}

fn with_line(text: &str, line: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    format!("{text}{end}{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_finds_its_own_name_and_keeps_what_else_it_knows() {
        let named = |table: &str, name: &str| with_own_name(table, &name.parse().unwrap());
        let table =
            "# mine\n127.0.0.1 localhost\n127.0.1.1\told old.local\n10.0.0.9 db\n127.0.1.1 twice\n";
        assert_eq!(
            named(table, "web1"),
            "# mine\n127.0.0.1 localhost\n127.0.1.1 web1\n10.0.0.9 db\n"
        );
        assert_eq!(
            named("127.0.0.1 localhost", "web1.example.com"),
            "127.0.0.1 localhost\n127.0.1.1 web1.example.com web1\n"
        );
        assert!(named("", "web1").starts_with("127.0.0.1 localhost\n"));
        let once = named(table, "web1");
        assert_eq!(named(&once, "web1"), once);
    }

    #[test]
    fn a_language_is_read_with_and_without_quotes() {
        assert_eq!(
            language("LC_TIME=C\nLANG=\"de_DE.UTF-8\"\n"),
            Some("de_DE.UTF-8")
        );
        assert_eq!(language("LANG=C.UTF-8"), Some("C.UTF-8"));
        assert_eq!(language("#LANG=C\n"), None);
    }
}
