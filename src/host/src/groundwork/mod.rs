//! What is made before a switch and stays: packages, logins, the host's names, its zone, its language,
//! swap,
//! certificates. Each piece is looked for first, and nothing is done where it is there; each is complete only when
//! its last step is, so that a piece that was cut short is lacking still and is made again.
//!
//! | file | does |
//! |---|---|
//! | `certificates` | which certificates are there, and how the rest is got from their authority |
//! | `packages` | how packages are got |
//! | `names` | hostname, time zone, locale: the edits of the system's own files |
//! | `welcome` | the page that Debian's nginx shows |
//!
//! Must not know what is declared besides, nor switch anything. Needs the lock.

pub mod certificates;
mod names;
mod packages;
mod welcome;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;

use push_wire::groundwork::{Groundwork, PackageName, WelcomePage, Work};
use push_wire::message::Refusal;
use push_wire::name::UserName;

use crate::accounts::{Account, judge};
use crate::dpkg::Status;
use crate::layout::Layout;
use crate::machine::{self, Access, Disk, Machine, TEXT_BYTES_MAX, Tool, ToolError};

/// Why a piece of groundwork is not there.
#[derive(Debug, thiserror::Error)]
pub enum GroundworkError {
    /// Packages that no source of the host's has.
    #[error("no package source of this host has {}", names(.0))]
    Unknown(BTreeSet<PackageName>),
    /// A time zone that the host's zone database does not have.
    #[error("this host knows no such time zone; `timedatectl list-timezones` lists those it knows")]
    Zone,
    /// certbot was content, and keeps what it got under another name.
    #[error(
        "certbot did not leave it as {0}; `certbot certificates` on the host shows what there is"
    )]
    Misplaced(String),
    /// A tool failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

fn names(packages: &BTreeSet<PackageName>) -> String {
    let names: Vec<&str> = packages.iter().map(PackageName::as_str).collect();
    names.join(", ")
}

/// What the host lacks of it.
pub fn survey<M: Disk>(
    machine: &M,
    layout: &Layout,
    wanted: &Groundwork,
) -> io::Result<BTreeSet<Work>> {
    let mut lacking = BTreeSet::new();
    if !wanted.packages.is_empty() {
        let status = text(machine, &layout.dpkg_status())?;
        let status = Status::parse(&status);
        let there = status.entries.iter().filter(|entry| entry.is_installed());
        let installed: BTreeSet<&str> = there.map(|entry| entry.name).collect();
        let missing = wanted.packages.iter();
        let missing = missing.filter(|name| !installed.contains(name.as_str()));
        lacking.extend(missing.cloned().map(Work::Package));
    }
    let passwd = text(machine, &layout.at("/etc/passwd"))?;
    let group = text(machine, &layout.at("/etc/group"))?;
    let is_whole = |user: &UserName| judge(&passwd, &group, user) == Account::Whole;
    let missing = wanted.logins.iter().filter(|user| !is_whole(user));
    lacking.extend(missing.cloned().map(Work::Login));
    lacking.extend(names::lacking(machine, layout, wanted)?);
    if let Some(bytes) = wanted.swap_bytes
        && !has_swap(machine, layout)?
    {
        lacking.insert(Work::Swap(bytes));
    }
    if wanted.welcome_page == WelcomePage::Removed && welcome::is_shown(machine, layout)? {
        lacking.insert(Work::WelcomePage);
    }
    for certificate in &wanted.certificates {
        if !certificates::is_there(machine, layout, certificate)? {
            lacking.insert(Work::Certificate(certificate.clone()));
        }
    }
    Ok(lacking)
}

/// Makes what is lacking. `tell` hears what it is at. What was made before something failed stays.
pub fn carry_out<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    lacking: &BTreeSet<Work>,
    tell: &mut dyn FnMut(&str),
) -> Result<(), Refusal> {
    let missing: BTreeSet<PackageName> = lacking
        .iter()
        .filter_map(|work| match work {
            Work::Package(name) => Some(name.clone()),
            _ => None,
        })
        .collect();
    if !missing.is_empty() {
        packages::install(machine, layout, &missing, tell)
            .map_err(|error| refused("the packages", &error))?;
    }
    for work in lacking {
        let done = match work {
            Work::Package(_) => continue,
            Work::Login(user) => machine
                .run(&Tool::CreateLogin(user.clone()))
                .map_err(GroundworkError::from),
            Work::Hostname(name) => names::set_hostname(machine, layout, name),
            Work::TimeZone(zone) => names::set_time_zone(machine, layout, zone),
            Work::Locale(locale) => names::set_locale(machine, layout, locale),
            Work::Swap(bytes) => make_swap(machine, layout, *bytes),
            Work::WelcomePage => welcome::remove(machine, layout),
            Work::Certificate(wanted) => certificates::get(machine, layout, wanted, tell),
        };
        done.map_err(|error| match work {
            Work::Certificate(_) => no_certificate(work, &error),
            Work::Package(_)
            | Work::Login(_)
            | Work::Hostname(_)
            | Work::TimeZone(_)
            | Work::Locale(_)
            | Work::Swap(_)
            | Work::WelcomePage => refused(&work.to_string(), &error),
        })?;
        tell(&work.to_string());
    }
    Ok(())
}

fn refused(what: &str, error: &GroundworkError) -> Refusal {
    Refusal::Groundwork {
        what: what.to_owned(),
        output: error.to_string(),
    }
}

/// What certbot was given to run says nothing to whoever reads why it failed.
fn no_certificate(work: &Work, error: &GroundworkError) -> Refusal {
    let output = match error {
        GroundworkError::Tool(ToolError::Failed { output, .. }) => output.clone(),
        other => other.to_string(),
    };
    Refusal::Certificate {
        what: work.to_string(),
        output,
    }
}

/// A text of the system's; empty where there is none.
fn text<M: Disk>(machine: &M, path: &Path) -> io::Result<String> {
    match machine.read(path, TEXT_BYTES_MAX) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Writes a text of the system's anew, durably.
fn write<M: Disk>(machine: &mut M, path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    machine::folders(machine, folder, &Access::public_folder())?;
    machine::replace(machine, path, text.as_bytes(), &Access::public_file())?;
    machine.sync(folder)
}

/// The last step of making it is its line in fstab(5).
fn has_swap<M: Disk>(machine: &M, layout: &Layout) -> io::Result<bool> {
    let table = text(machine, &layout.fstab())?;
    let mut entries = table
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    Ok(entries.any(|line| line.split_whitespace().nth(2) == Some("swap")))
}

fn make_swap<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    bytes: u64,
) -> Result<(), GroundworkError> {
    let file = layout.swap();
    // One that was cut short before its line was written is used by nobody that comes after a boot.
    machine.remove(&file)?;
    machine.run(&Tool::MakeSwap(file.clone(), bytes))?;
    machine.run(&Tool::SwapOn(file.clone()))?;
    let table = text(machine, &layout.fstab())?;
    let line_end = if table.is_empty() || table.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let entry = format!("{table}{line_end}{} none swap sw 0 0\n", file.display());
    Ok(write(machine, &layout.fstab(), &entry)?)
}

#[cfg(test)]
mod tests;
