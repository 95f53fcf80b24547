//! Arguments, and one file a command. Joins the rooms: reads the project, asks the rollout, hands
//! values to the report, and turns what came of it into an exit code.
//!
//! | file | holds |
//! |---|---|
//! | [`arguments`] | what several commands take; how `push prod` becomes `push deploy prod` |
//! | [`project`] | the folder that holds `inventory/`, and its environments |
//! | [`consent`] | questions to the operator, and what happens when there is nobody to ask |
//! | [`deploy`] [`plan`] [`diff`] [`rollback`] [`status`] [`history`] [`rehearse`] [`init`] [`completion`] | one command each |
//!
//! Must not print, and must not decide how a host is worked on. To add a command: a file with an
//! arguments struct whose doc comment is its help and one `run`, a variant of [`Verb`], a line in
//! `name::VERBS` so that no environment is called like it, and cases in `tests/cli`.

pub mod arguments;
pub mod completion;
pub mod consent;
pub mod init;
pub mod project;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::arguments::{Common, with_verb};
use self::project::Project;
use crate::event::ExitCode;
use crate::report::{Complaint, Report, trace};

/// `push ENVIRONMENT` makes the hosts of inventory/ENVIRONMENT.toml run what it declares: code,
/// units, nginx, firewall and secrets switch together, and switch back when the result is not healthy.
#[derive(Debug, Parser)]
#[command(
    name = "push",
    version,
    override_usage = "push [OPTIONS] ENVIRONMENT\n       push [OPTIONS] VERB …",
    after_help = "`push prod` is short for `push deploy prod`; `push` alone lists the environments.",
    max_term_width = 100,
    subcommand_help_heading = "Verbs",
    subcommand_value_name = "VERB"
)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::Init),
    Completion(completion::Completion),
}

/// Runs the program with its arguments, the program's own name first.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let command = Cli::command();
    let arguments = with_verb(&command, arguments);
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|found| Cli::from_arg_matches(&found));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let report = Report::of_process(cli.common.form(), cli.common.verbosity());
    trace::install(&report);
    match perform(&cli, &report) {
        Ok(exit) => exit,
        Err(stop) => {
            report.error(&stop.complaint);
            stop.exit
        }
    }
}

/// Why a command ended before it had a result of its own.
#[derive(Debug)]
pub struct Stop {
    /// The exit code.
    pub exit: ExitCode,
    /// What the operator is told.
    pub complaint: Complaint,
}

impl Stop {
    /// The command line or the inventory is wrong; no host was touched.
    pub fn usage(complaint: Complaint) -> Self {
        Self {
            exit: ExitCode::Usage,
            complaint,
        }
    }

    /// The laptop lacks something.
    pub fn not_started(complaint: Complaint) -> Self {
        Self {
            exit: ExitCode::NotStarted,
            complaint,
        }
    }

    /// Refused by the operator or by a check.
    pub fn refused(complaint: Complaint) -> Self {
        Self {
            exit: ExitCode::Refused,
            complaint,
        }
    }
}

fn perform(cli: &Cli, report: &Report) -> Result<ExitCode, Stop> {
    let folder = folder(cli.common.directory.as_ref())?;
    match &cli.verb {
        Some(Verb::Init(init)) => init::run(init, &folder, report),
        Some(Verb::Completion(completion)) => Ok(completion::run(completion, report)),
        None => environments(&folder, report),
    }
}

/// Help and version are answers and end well; everything else that clap says is an error.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing is left to tell anybody when not even this can be written.
    let _ = error.print();
    match error.exit_code() {
        0 => ExitCode::Done,
        _ => ExitCode::Usage,
    }
}

/// The folder to work in. It becomes the process's own, so that builds, `ssh` and messages agree on it.
fn folder(asked: Option<&PathBuf>) -> Result<PathBuf, Stop> {
    if let Some(folder) = asked {
        std::env::set_current_dir(folder).map_err(|error| {
            Stop::usage(
                Complaint::new(format!("cannot work in {}: {error}", folder.display()))
                    .help("`-C` takes an existing folder"),
            )
        })?;
    }
    std::env::current_dir().map_err(|error| {
        Stop::not_started(
            Complaint::new(format!("the current folder is gone: {error}"))
                .help("change to a folder that exists"),
        )
    })
}

/// `push` alone: says what there is to push, and pushes nothing.
fn environments(folder: &std::path::Path, report: &Report) -> Result<ExitCode, Stop> {
    let known = Project::find(folder)
        .and_then(|project| project.environments())
        .map_err(Stop::usage)?;
    for name in &known {
        report.answer(&format!("{name}\n"));
        report.json(&serde_json::json!({"type": "environment", "name": name}));
    }
    if known.is_empty() {
        let nothing = Complaint::new("the inventory holds no environment");
        return Err(Stop::usage(
            nothing.help("run `push init ENVIRONMENT` to start one"),
        ));
    }
    let unnamed = Complaint::new("no environment was named, so nothing was done")
        .help("name one of those above: `push ENVIRONMENT`; `push --help` shows the verbs");
    Err(Stop::usage(unnamed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_reserved_and_no_environment_can_be_called_like_it() {
        Cli::command().debug_assert();
        for verb in Cli::command().get_subcommands() {
            assert!(
                crate::name::VERBS.contains(&verb.get_name()),
                "{}",
                verb.get_name()
            );
        }
    }
}
