//! What `push secret` says. Holds names and places, never a value.

use serde::Serialize;

use super::measure::count;
use super::style::{BAD, GOOD, HELP, QUIET, paint};
use super::table::Table;
use crate::name::EnvironmentName;

/// One secret, as a list shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Who can open it, and is declared to.
    pub readers: Vec<String>,
    /// Who can open it only until it is sealed anew.
    pub until_rekey: Vec<String>,
    /// Who is declared, and can open it only when it has been sealed anew.
    pub after_rekey: Vec<String>,
    /// The apps and files that use it.
    pub used_by: Vec<String>,
    /// The hosts that get it.
    pub hosts: Vec<String>,
    /// When it was sealed, and by whom; `None` when `secrets.lock` tells nothing of this very file.
    pub sealed: Option<String>,
}

impl Listed {
    /// Every reader, with when that ends or begins.
    fn readers(&self) -> Vec<String> {
        let until = self.until_rekey.iter().map(|who| (who, "until rekey"));
        let after = self.after_rekey.iter().map(|who| (who, "after rekey"));
        let marked = until.chain(after).map(|(who, when)| {
            let when = paint(BAD, format!("({when})"));
            format!("{who} {when}")
        });
        self.readers.iter().cloned().chain(marked).collect()
    }
}

/// The table of an environment's secrets.
pub fn list(environment: &str, rows: &[Listed]) -> String {
    if rows.is_empty() {
        return format!(
            "{environment} has no secrets; `push secret set {environment} NAME` makes one\n"
        );
    }
    let mut table = Table::new();
    table.row(["SECRET", "READERS", "USED BY", "ON", "SEALED"].map(|head| paint(QUIET, head)));
    for row in rows {
        let or = |words: &[String], none: &str| match words {
            [] => paint(BAD, none),
            words => words.join(", "),
        };
        table.row([
            row.name.clone(),
            or(&row.readers(), "nobody"),
            or(&row.used_by, "nothing"),
            row.hosts.join(", "),
            row.sealed
                .clone()
                .unwrap_or_else(|| paint(BAD, "unknown to secrets.lock")),
        ]);
    }
    table.render("")
}

/// One file was written; `what` is `made` or `changed`.
pub fn written(what: &str, file: &str, readers: &str) -> String {
    format!("{what} {file}, sealed to {readers}\n")
}

/// What is left to do after a change.
pub fn next(environment: &EnvironmentName) -> String {
    format!("Next: commit inventory/, then `push {environment}`.\n")
}

/// One thing that is wrong, and its cure.
pub fn fault(what: &str, help: &str) -> String {
    format!("{what}\n  {} {help}\n", paint(HELP.bold(), "help:"))
}

/// The last line of a verification.
pub fn verified(environment: &str, secrets: usize, faults: usize) -> String {
    let secrets = count(secrets, "secret");
    if faults == 0 {
        return format!(
            "{environment}: {secrets}, {}\n",
            paint(GOOD, "all as declared")
        );
    }
    let faults = count(faults, "fault");
    format!("{environment}: {secrets}, {}\n", paint(BAD, faults))
}

/// Somebody was let in.
pub fn granted(who: &str, secrets: &[crate::name::FileName]) -> String {
    if secrets.is_empty() {
        return format!("{who} is declared; no sealed file had to change\n");
    }
    let names: Vec<&str> = secrets.iter().map(crate::name::FileName::as_str).collect();
    format!("{who} can open {} now\n", names.join(", "))
}

/// Somebody was let out.
pub fn revoked(who: &str, secrets: &[&str]) -> String {
    if secrets.is_empty() {
        return format!("{who} is no longer declared; no sealed file had to change\n");
    }
    format!("{who} can no longer open {}\n", secrets.join(", "))
}

/// What sealing anew does not undo.
pub fn still_known(
    environment: &EnvironmentName,
    who: &str,
    secrets: &[&str],
    others: &[String],
) -> String {
    let (beside, flag) = if others.is_empty() {
        (String::new(), "")
    } else {
        (format!(", for {} as well", others.join(", ")), " --shared")
    };
    format!(
        "{who} knows the values as they are, and git keeps the old files. Set new ones{beside}: `push secret rotate {environment} {}{flag}`\n",
        secrets.join(" ")
    )
}

/// An environment has a secret of its own now, beside one that others share.
pub fn left_to_others(name: &str, others: &[EnvironmentName]) -> Option<String> {
    let first = others.first()?;
    let all: Vec<&str> = others.iter().map(EnvironmentName::as_str).collect();
    Some(format!(
        "The shared {name} is left to {}: `push secret rekey {first}` seals it to those who use it still.\n",
        all.join(", ")
    ))
}

/// A key was made.
pub fn made_identity(file: &str) -> String {
    format!("made your key, {file}: keep a copy of it in a safe place, and commit it nowhere\n")
}

/// The operator was declared.
pub fn declared(environment: &EnvironmentName, name: &str, key: &str) -> String {
    format!(
        "declared {name} in inventory/{environment}.toml: {key}\n\
         Next: `push secret set {environment} NAME` makes a secret.\n"
    )
}
