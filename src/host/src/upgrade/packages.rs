//! dpkg's part of an upgrade. dpkg's own status file is the judge of what is there: the line to a running apt may
//! be cut when what it upgrades is systemd.

use push_wire::journal::Evidence;
use push_wire::upgrade::{Change, End, Order, Packages, Removal, Stage};

use super::bad;
use crate::dpkg::Status;
use crate::layout::Layout;
use crate::machine::{Job, Machine, TEXT_BYTES_MAX, ToolError};

/// How many lines of apt's last words are kept.
const WORDS_LINES_MAX: usize = 30;

/// How many names a sentence lists before it counts.
const NAMES_MAX: usize = 8;

/// Does what was ordered, or nothing: where the package sources offer something else than was shown, that is the
/// end of it. What an earlier run of the same order has done already is not done again.
pub fn install<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    order: &Order,
    tell: &mut dyn FnMut(&str),
) -> Result<(), End> {
    finish(machine, layout, tell)?;
    let offered = machine.packages(order.scope);
    let offered = offered.map_err(|error| bad(Stage::Packages, &error))?;
    let text = status(machine, layout)?;
    let before = Status::parse(&text);
    if let Some(why) = differs(&order.packages, &offered, &before) {
        let begun = order.packages.changes.iter();
        let mut begun = begun.filter(|change| before.has(&change.package, &change.to));
        // A part of it was done before a cut; then not nothing is installed.
        return Err(match begun.next() {
            Some(_) => bad(Stage::Packages, &why),
            None => End::Stale { why },
        });
    }
    if offered.is_empty() {
        return Ok(());
    }
    tell("upgrading packages");
    let done = machine.work(&Job::Upgrade(order.scope), tell);
    let text = status(machine, layout)?;
    match unfinished(&order.packages, &Status::parse(&text)) {
        None => {
            if let Err(error) = done {
                machine.warn(&format!("everything is installed, and yet {error}"));
            }
            Ok(())
        }
        Some(why) => Err(End::Bad {
            at: Stage::Packages,
            why,
            evidence: done.err().map(|error| Box::new(last_words(&error))),
        }),
    }
}

/// Finishes what an earlier installation left half done.
fn finish<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    tell: &mut dyn FnMut(&str),
) -> Result<(), End> {
    let wrong = |error: &dyn std::fmt::Display| bad(Stage::Packages, error);
    let updates = machine.list(&layout.dpkg_updates());
    let updates = updates.map_err(|error| wrong(&error))?;
    let text = status(machine, layout)?;
    let half = Status::parse(&text).half_done();
    if updates.is_empty() && half.is_empty() {
        return Ok(());
    }
    tell("finishing what an earlier installation left half done");
    machine.work(&Job::Finish, tell).map_err(|error| End::Bad {
        at: Stage::Packages,
        why: "what an earlier installation left half done cannot be finished".to_owned(),
        evidence: Some(Box::new(last_words(&error))),
    })
}

fn status<M: Machine>(machine: &M, layout: &Layout) -> Result<String, End> {
    let bytes = machine.read(&layout.dpkg_status(), TEXT_BYTES_MAX);
    let bytes = bytes.map_err(|error| bad(Stage::Packages, &error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// How what is offered now differs from what was ordered and is not there yet.
fn differs(ordered: &Packages, offered: &Packages, there: &Status<'_>) -> Option<String> {
    let is_same = |one: &Change, other: &Change| one.package == other.package && one.to == other.to;
    let new = offered
        .changes
        .iter()
        .find(|change| !ordered.changes.iter().any(|known| is_same(known, change)));
    if let Some(Change { package, to, .. }) = new {
        return Some(format!(
            "{package} {to} is offered now, which was not shown"
        ));
    }
    let gone = ordered.changes.iter().find(|change| {
        let is_offered = offered.changes.iter().any(|now| is_same(now, change));
        !is_offered && !there.has(&change.package, &change.to)
    });
    if let Some(Change { package, to, .. }) = gone {
        return Some(format!("{package} {to} is not offered any more"));
    }
    let is_known = |gone: &Removal| {
        let mut known = ordered.removals.iter();
        known.any(|known| known.package == gone.package)
    };
    let removed = offered.removals.iter().find(|gone| !is_known(gone));
    removed.map(|gone| format!("{} would be removed now, which was not shown", gone.package))
}

/// What is not as it was ordered to be.
fn unfinished(ordered: &Packages, there: &Status<'_>) -> Option<String> {
    let half = there.half_done();
    let missing = ordered
        .changes
        .iter()
        .filter(|change| !half.contains(&change.package))
        .filter(|change| !there.has(&change.package, &change.to));
    let missing: Vec<String> = missing
        .map(|change| format!("{} {}", change.package, change.to))
        .collect();
    let still: Vec<String> = ordered
        .removals
        .iter()
        .filter(|removal| !there.lacks(&removal.package))
        .map(|removal| removal.package.to_string())
        .collect();
    let half: Vec<String> = half.iter().map(ToString::to_string).collect();
    let parts = [
        ("left half done", half),
        ("not installed", missing),
        ("not removed", still),
    ];
    let said: Vec<String> = parts
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what}: {}", listed(names)))
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>();
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What apt and dpkg said at last.
fn last_words(error: &ToolError) -> Evidence {
    let said = error.to_string();
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let from = lines.len().saturating_sub(WORDS_LINES_MAX);
    Evidence {
        subject: "apt-get".to_owned(),
        journal: lines[from..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect(),
        ..Evidence::default()
    }
}
