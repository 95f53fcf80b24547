//! Arguments, and one file a command. Joins the rooms: reads the project, asks the rollout, hands
//! values to the report, and turns what came of it into an exit code.
//!
//! | file | holds |
//! |---|---|
//! | [`arguments`] | what several commands take; how `push prod` becomes `push deploy prod` |
//! | [`project`] | the folder that holds `inventory/`, and its environments |
//! | [`consent`] | questions to the operator, and what happens when there is nobody to ask |
//! | [`environment`] [`shipment`] [`vault`] | the fleet selected, what is shipped to it, its secrets |
//! | [`reach`] [`runtime`] [`prompt`] [`gate`] | how hosts are reached, Ctrl-C, passphrases, what is shown and asked first |
//! | [`introduction`] | first contact with a host whose key is not pinned |
//! | [`unanswered`] | hosts that did not answer a question |
//! | [`rehearsal`] | the story that `push rehearse` tells |
//! | [`secret`] | the verbs of `push secret` |
//! | [`bootstrap`] [`deploy`] [`plan`] [`diff`] [`rollback`] [`status`] [`history`] [`logs`] [`upgrade`] [`trust`] [`ssh`] [`doctor`] [`rehearse`] [`init`] [`completion`] | one command each |
//!
//! Must not print, and must not decide how a host is worked on. To add a command: a file with an
//! arguments struct whose doc comment is its help and one `run`, a variant of [`Verb`], a line in
//! `name::VERBS` so that no environment is called like it, and cases in `tests/cli`.

pub mod arguments;
pub mod bootstrap;
pub mod completion;
pub mod consent;
pub mod deploy;
pub mod diff;
pub mod doctor;
pub mod environment;
pub mod gate;
pub mod history;
pub mod init;
pub mod introduction;
pub mod logs;
pub mod plan;
pub mod project;
pub mod prompt;
pub mod reach;
pub mod rehearsal;
pub mod rehearse;
pub mod rollback;
pub mod runtime;
pub mod secret;
pub mod shipment;
pub mod ssh;
pub mod status;
pub mod trust;
pub mod unanswered;
pub mod upgrade;
pub mod vault;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::arguments::{Common, directory_of, with_verb};
use self::project::Project;
use crate::event::{ExitCode, VERSION};
use crate::report::{Complaint, Form, Report, Verbosity, trace};

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
    Deploy(deploy::Deploy),
    Bootstrap(bootstrap::Bootstrap),
    Plan(plan::Plan),
    Diff(diff::Diff),
    Rollback(rollback::Back),
    Status(status::Status),
    History(history::History),
    Logs(logs::Logs),
    Upgrade(upgrade::Upgrade),
    Trust(trust::Trust),
    Ssh(ssh::Ssh),
    Doctor(doctor::Doctor),
    Rehearse(rehearse::Rehearse),
    Init(init::Init),
    Secret(secret::Secret),
    Completion(completion::Completion),
}

/// Runs the program with its arguments, the program's own name first.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let command = Cli::command();
    let (arguments, environment) = with_verb(&command, arguments);
    let asked = directory_of(&command, &arguments);
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|found| Cli::from_arg_matches(&found));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage(&error, (environment.as_deref(), asked.as_ref())),
    };
    let report = Report::of_process(cli.common.form(), cli.common.verbosity());
    trace::install(&report);
    runtime::leave_no_core_dump();
    std::panic::set_hook(Box::new(|panic| own_fault(&panic.to_string())));
    // Whatever a host was doing then, it settles alone, and nobody here knows how.
    let performed = std::panic::catch_unwind(AssertUnwindSafe(|| perform(&cli, &report)));
    let exit = match performed.unwrap_or(Ok(ExitCode::InDoubt)) {
        Ok(exit) => exit,
        Err(stop) => {
            report.error(&stop.complaint);
            stop.exit
        }
    };
    match report.lost() {
        Some(why) => exit.max(unwritten(&why)),
        None => exit,
    }
}

/// An answer that nobody got is not one: a script that reads none must not take it for an empty one.
fn unwritten(why: &str) -> ExitCode {
    let complaint = Complaint::new(format!("the answer cannot be written to stdout: {why}")).help(
        "what was to be done was done all the same; look at where stdout leads, such as `df -h .`",
    );
    // For people only: where programs read, nothing arrives.
    Report::of_process(Form::Text, Verbosity::Normal).error(&complaint);
    ExitCode::NotStarted
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
        Some(Verb::Deploy(deploy)) => deploy::run(deploy, &folder, report),
        Some(Verb::Bootstrap(bootstrap)) => bootstrap::run(bootstrap, &folder, report),
        Some(Verb::Plan(plan)) => plan::run(plan, &folder, report),
        Some(Verb::Diff(diff)) => diff::run(diff, &folder, report),
        Some(Verb::Rollback(back)) => rollback::run(back, &folder, report),
        Some(Verb::Status(status)) => status::run(status, &folder, report),
        Some(Verb::History(history)) => history::run(history, &folder, report),
        Some(Verb::Logs(logs)) => logs::run(logs, &folder, report),
        Some(Verb::Upgrade(upgrade)) => upgrade::run(upgrade, &folder, report),
        Some(Verb::Trust(trust)) => trust::run(trust, &folder, report),
        Some(Verb::Ssh(ssh)) => ssh::run(ssh, &folder, report),
        Some(Verb::Doctor(doctor)) => doctor::run(doctor, &folder, report),
        Some(Verb::Rehearse(rehearse)) => rehearse::run(rehearse, &folder, report),
        Some(Verb::Init(init)) => init::run(init, &folder, report),
        Some(Verb::Secret(secret)) => secret::run(secret, &folder, report),
        Some(Verb::Completion(completion)) => Ok(completion::run(completion, report)),
        None => environments(&folder, report),
    }
}

/// A mistake of push itself is told like any other error, not as a stack of its functions.
fn own_fault(panic: &str) {
    let complaint = Complaint::new(format!("push made a mistake: {panic}"))
        .help("please report it; `push status ENVIRONMENT` shows what the hosts are doing");
    // A report of its own: the other one may be what failed.
    Report::of_process(Form::Text, Verbosity::Normal).error(&complaint);
}

/// Help and version are answers and end well; everything else that clap says is an error.
fn usage(
    error: &clap::Error,
    (environment, directory): (Option<&str>, Option<&PathBuf>),
) -> ExitCode {
    if let Some(complaint) = environment.and_then(|word| mistyped(error, word, directory)) {
        Report::of_process(Form::Text, Verbosity::Normal).error(&complaint);
        return ExitCode::Usage;
    }
    let is_answer = error.exit_code() == 0;
    match error.print() {
        Err(failed) if is_answer && failed.kind() != std::io::ErrorKind::BrokenPipe => {
            unwritten(&failed.to_string())
        }
        // Nothing is left to tell anybody when not even a usage can be written.
        Ok(()) | Err(_) if is_answer => ExitCode::Done,
        Ok(()) | Err(_) => ExitCode::Usage,
    }
}

/// `push plann prod` is a mistyped verb rather than an environment with an argument too many.
fn mistyped(error: &clap::Error, word: &str, directory: Option<&PathBuf>) -> Option<Complaint> {
    if error.kind() != clap::error::ErrorKind::UnknownArgument {
        return None;
    }
    let project = Project::find(&folder(directory).ok()?).ok()?;
    project.environment(word).err()
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
fn environments(folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let project = Project::find(folder).map_err(Stop::usage)?;
    for name in project.environments() {
        report.answer(&format!("{name}\n"));
        report.json(&serde_json::json!({"v": VERSION, "type": "environment", "name": name}));
    }
    Err(Stop::usage(project.unnamed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A help that names a verb which this version lacks sends a tired operator into a wall.
    #[test]
    fn no_message_and_no_page_names_a_verb_that_there_is_not() {
        let verbs = Cli::command();
        let verbs: Vec<&str> = verbs
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut texts = vec![];
        for folder in [sources.clone(), sources.join("../inventory")] {
            collect(&folder, &mut texts);
        }
        texts.push(sources.join("../README.md"));
        assert!(texts.len() > 100, "{}", texts.len());
        let mut wrong = vec![];
        for path in texts {
            let text = std::fs::read_to_string(&path).unwrap();
            // A comment of the source may speak of what is to come; nobody is told to type it.
            let told = text.lines().filter(|line| {
                let comment = path.extension().is_some_and(|kind| kind == "rs");
                !(comment && line.trim_start().starts_with("//"))
            });
            for line in told {
                for said in line.split("`push ").skip(1) {
                    let word: String = said.chars().take_while(char::is_ascii_lowercase).collect();
                    if !word.is_empty() && word != "prod" && !verbs.contains(&word.as_str()) {
                        wrong.push(format!("{}: {}", path.display(), line.trim()));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// What is told to be typed is parsed as if it were: a help that does not parse sends a tired operator
    /// into a wall, too.
    #[test]
    fn every_command_that_a_message_tells_to_type_parses() {
        let mut sources = vec![];
        collect(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
            &mut sources,
        );
        sources.retain(|path| path.extension().is_some_and(|kind| kind == "rs"));
        let (mut tried, mut wrong) = (0, vec![]);
        for path in sources {
            for told in commands(&std::fs::read_to_string(&path).unwrap()) {
                tried += 1;
                let words = told.split_whitespace().map(OsString::from).collect();
                let (words, _) = with_verb(&Cli::command(), words);
                let parsed = Cli::command().try_get_matches_from(words);
                if let Err(error) = parsed.and_then(|found| Cli::from_arg_matches(&found))
                    && !is_named_only(&told, &error)
                {
                    wrong.push(format!("{}: `{told}`: {error}", path.display()));
                }
            }
        }
        assert!(tried > 50, "{tried}");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Whether a verb is only named, or help asked for, or the verb itself is a value.
    fn is_named_only(told: &str, error: &clap::Error) -> bool {
        let words: Vec<&str> = told.split_whitespace().collect();
        error.exit_code() == 0
            || words.len() == 2
            || matches!(words.as_slice(), ["push", "x" | "secret", "x", ..])
    }

    /// The commands of push between backquotes in a source, comments aside, with a word in place of each
    /// value and without what is the shell's.
    fn commands(source: &str) -> Vec<String> {
        let lines = source.lines().map(str::trim);
        let lines = lines.filter(|line| !line.starts_with("//"));
        // A string that goes on in the next line goes on without its indentation.
        let joined = lines.fold(String::new(), |text, line| match text.strip_suffix('\\') {
            Some(begun) => format!("{begun}{line}"),
            None => format!("{text}\n{line}"),
        });
        let told = joined
            .lines()
            .flat_map(|line| line.split('`').skip(1).step_by(2));
        // What stands between two strings of a line is no command.
        let told = told.filter(|told| {
            told.starts_with("push ") && !told.contains('…') && !told.contains("\")")
        });
        told.map(filled).collect()
    }

    /// A command with a word in place of each `{value}`, without what is the shell's.
    fn filled(told: &str) -> String {
        let told = told.split([';', '|', '<', '>']).next().unwrap_or_default();
        let mut parts = told.split('{');
        let first = parts.next().unwrap_or_default().to_owned();
        let rest = parts.map(|part| format!("x{}", part.split_once('}').map_or("", |it| it.1)));
        let command = first + &rest.collect::<String>();
        command.replace('\'', "")
    }

    fn collect(folder: &Path, texts: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.extension().and_then(std::ffi::OsStr::to_str);
            if path.is_dir() {
                collect(&path, texts);
            } else if matches!(kind, Some("rs" | "toml" | "snap" | "sh")) {
                texts.push(path);
            }
        }
    }

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
