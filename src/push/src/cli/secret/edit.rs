//! `push secret edit`.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use tokio::process::Command;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::super::Stop;
use super::memory::Memory;
use super::place::{self, Content, Is, Purpose, Secrets};
use crate::child;
use crate::event::{ExitCode, VERSION};
use crate::inventory::split_words;
use crate::report::{Complaint, Report, secret as words};
use crate::secret::{SECRET_BYTES_MAX, Secret};

/// The editors whose copies beside the file are known, with what keeps them from making any elsewhere.
const EDITORS: &[(&[&str], &[&str])] = &[
    (
        &["vi", "vim", "nvim", "vim.basic", "vim.tiny", "vim.nox"],
        &[
            "-n",
            "-i",
            "NONE",
            "-c",
            "set nobackup nowritebackup noundofile",
        ],
    ),
    (&["nano", "rnano"], &["--ignorercfiles"]),
    (
        &["emacs"],
        &[
            "-Q",
            "--eval",
            "(setq make-backup-files nil auto-save-default nil create-lockfiles nil)",
        ],
    ),
    (&["ed", "micro", "hx", "kak", "true", "cat"], &[]),
];

/// What is run when the environment names no editor.
const USUAL_EDITOR: &str = "vi";

/// Change a secret's value in $VISUAL or $EDITOR, without a disk ever seeing it
///
/// The value is in a file in memory, for you alone, while the editor runs, and gone afterwards. vim,
/// nano and emacs are told to keep no swap, backup or history; with another editor, see that it keeps
/// none outside the file's own folder. A secret that other environments see as well is changed with `--shared`
/// alone.
#[derive(Debug, clap::Args)]
pub struct Edit {
    /// The environment
    environment: Option<String>,
    /// The secret
    name: Option<String>,
    /// Change it for all environments, where they share it
    #[arg(long)]
    shared: bool,
}

/// Edits one.
pub fn run(arguments: &Edit, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let place = (arguments.environment.as_deref(), folder);
    let mut secrets = Secrets::open(place, Purpose::Change, report)?;
    let Some(word) = &arguments.name else {
        return Err(place::unnamed(&secrets, "edit"));
    };
    let (name, sealed) = secrets.existing(word)?;
    secrets.ours((&name, &sealed), arguments.shared.into(), "edit")?;
    let recipients = secrets.somebody(&name, &sealed)?;
    let old = secrets
        .opened(&secrets.keys()?, &sealed)
        .map_err(|error| place::unavailable(&error))?;
    let new = edited(name.as_str(), &old, report)?;
    let file = secrets.shown(&sealed.path);
    let is_changed = new.expose() != old.expose();
    if is_changed {
        let content = Content {
            name: name.clone(),
            sealed,
            secret: new,
            is: Is::New,
        };
        secrets.write(&[content], None)?;
        report.answer(&words::written(
            "changed",
            &file,
            &recipients.names().join(", "),
        ));
        report.answer(&words::next(&secrets.environment));
    } else {
        report.answer(&format!("{name} is as it was\n"));
    }
    report.json(&serde_json::json!({
        "v": VERSION, "type": "secret_edited", "name": name, "file": file, "changed": is_changed,
    }));
    Ok(ExitCode::Done)
}

/// The value after the editor has ended well.
fn edited(name: &str, old: &Secret, report: &Report) -> Result<Secret, Stop> {
    let (program, arguments) = editor(report)?;
    let refused = |why: String, help: &str| {
        Stop::refused(Complaint::new(format!("{why}, so nothing was changed")).help(help))
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            refused(
                format!("cannot start working: {error}"),
                "look at `ulimit -a`",
            )
        })?;
    runtime.block_on(async {
        // From here on a signal ends nothing by itself, so that the file goes in any case.
        let waiting = Waiting::new()
            .map_err(|error| refused(format!("cannot listen for signals: {error}"), ""))?;
        let memory = Memory::new()
            .map_err(|error| refused(format!("no file in memory can be made: {error}"), ""))?;
        let Some(memory) = memory else {
            return Err(no_memory(name));
        };
        let file = memory
            .write(name, old.expose())
            .map_err(|error| refused(format!("no file in memory can be made: {error}"), ""))?;
        let mut command = Command::from(child::command(&program));
        command
            .args(&arguments)
            .arg(&file)
            .current_dir(memory.folder())
            .env("TMPDIR", memory.folder())
            .kill_on_drop(true);
        let ended = waiting.through(&mut command).await.map_err(|error| {
            let why = format!(
                "the editor {} cannot be started: {error}",
                program.display()
            );
            refused(why, "name another one in EDITOR")
        })?;
        let Some(status) = ended else {
            return Err(Stop {
                exit: ExitCode::Interrupted,
                complaint: Complaint::new("interrupted, so nothing was changed"),
            });
        };
        if !status.success() {
            let why = format!("the editor ended with {status}");
            return Err(refused(why, "save the file and leave the editor as usual"));
        }
        let new = memory
            .read(name, SECRET_BYTES_MAX)
            .map_err(|error| refused(format!("the edited file cannot be read: {error}"), ""))?;
        if new.is_empty() {
            return Err(refused(
                "the file was left empty".to_owned(),
                "to take a secret away, remove its file",
            ));
        }
        if new.len() as u64 > SECRET_BYTES_MAX {
            let why = format!("the file is larger than a secret can be: {SECRET_BYTES_MAX} bytes");
            return Err(refused(why, ""));
        }
        Ok(Secret::new(new))
    })
}

/// The editor and its arguments, with those that keep it from leaving copies.
fn editor(report: &Report) -> Result<(PathBuf, Vec<String>), Stop> {
    let named = ["VISUAL", "EDITOR"].iter().find_map(|name| {
        std::env::var(name)
            .ok()
            .filter(|value| !value.trim().is_empty())
    });
    let line = named.unwrap_or_else(|| USUAL_EDITOR.to_owned());
    let mut words = split_words(&line).map_err(|error| {
        Stop::usage(
            Complaint::new(format!("EDITOR cannot be split into words: {error}"))
                .help("write it as in a shell, such as EDITOR=\"code --wait\""),
        )
    })?;
    if words.is_empty() {
        words.push(USUAL_EDITOR.to_owned());
    }
    let program = PathBuf::from(words.remove(0));
    let stem = program
        .file_name()
        .and_then(std::ffi::OsStr::to_str)
        .unwrap_or_default();
    match EDITORS.iter().find(|(names, _)| names.contains(&stem)) {
        Some((_, quiet)) => words.extend(quiet.iter().map(|word| (*word).to_owned())),
        None => report.say(&format!(
            "push does not know {stem}: see that it keeps no backup or history of the file outside its folder\n"
        )),
    }
    Ok((program, words))
}

fn no_memory(name: &str) -> Stop {
    Stop::refused(
        Complaint::new("no folder in memory was found, and no disk may see the value; nothing was changed")
            .help(format!(
                "mount a tmpfs on /dev/shm, or pipe the value through: `push secret show ENVIRONMENT {name} | … | push secret set ENVIRONMENT {name}`"
            )),
    )
}

/// The signals that would end push while the editor has the value.
struct Waiting {
    interrupt: tokio::signal::unix::Signal,
    ends: [tokio::signal::unix::Signal; 3],
}

impl Waiting {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            ends: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
                signal(SignalKind::quit())?,
            ],
        })
    }

    /// Runs the editor to its end; `None` when a signal ended it. Ctrl-C is the editor's own affair. How
    /// long somebody edits is theirs to say, so nothing bounds it.
    async fn through(mut self, command: &mut Command) -> std::io::Result<Option<ExitStatus>> {
        let mut child = command.spawn()?;
        let [terminate, hangup, quit] = &mut self.ends;
        loop {
            tokio::select! {
                status = child.wait() => return status.map(Some),
                _ = self.interrupt.recv() => {}
                _ = terminate.recv() => break,
                _ = hangup.recv() => break,
                _ = quit.recv() => break,
            }
        }
        child.kill().await?;
        Ok(None)
    }
}
