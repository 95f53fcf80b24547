//! Work that takes minutes, as a transient unit: it goes on to its end when the connection, or push-host
//! itself, goes in the midst of it, and whoever comes next waits for that end.

use std::time::{Duration, Instant};

use super::process::Program;
use crate::machine::ToolError;

/// How long after its limit systemd may take to say that it ended a job.
const JOB_END: Duration = Duration::from_secs(120);

/// How long systemd may take to say whether a job still runs.
const QUESTION_LIMIT: Duration = Duration::from_secs(60);

/// The pause between two looks at a job that still runs, and between two tries.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

/// What every job has in its environment.
const ENVIRONMENT: &[&str] = &[
    "--setenv=LC_ALL=C.UTF-8",
    "--setenv=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
];

/// A unit in which jobs run, never two at a time.
pub(super) struct Unit {
    /// Its name.
    pub name: &'static str,
    /// How long a job may take. systemd ends it then.
    pub limit: Duration,
    /// More of the environment, as options of systemd-run(1).
    pub environment: &'static [&'static str],
}

impl Unit {
    /// Runs a program to its end; `tell` hears the latest line of its output every so often.
    pub fn run(&self, argv: &[String], tell: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
        let limit = format!("--property=RuntimeMaxSec={}", self.limit.as_secs());
        let name = format!("--unit={}", self.name);
        let mut unit = vec![
            "systemd-run",
            "--quiet",
            "--collect",
            "--wait",
            "--pipe",
            "--service-type=exec",
            "--property=KillMode=mixed",
            &limit,
            &name,
        ];
        unit.extend(ENVIRONMENT);
        unit.extend(self.environment);
        unit.push("--");
        unit.extend(argv.iter().map(String::as_str));
        // There is no latest line before the first.
        let mut tell = |line: &str| {
            if !line.is_empty() {
                tell(line);
            }
        };
        let ended = Program::new(&unit, self.limit + JOB_END).run_telling(&mut tell)?;
        if ended.status.success() {
            return Ok(());
        }
        Err(ToolError::Failed {
            tool: argv.join(" "),
            output: ended.said(),
        })
    }

    /// A job whose push-host was killed still runs.
    pub fn wait_for_the_last(&self, tell: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
        let began = Instant::now();
        loop {
            let active = Program::new(
                &["systemctl", "is-active", "--quiet", "--", self.name],
                QUESTION_LIMIT,
            )
            .run()?;
            if !active.status.success() {
                return Ok(());
            }
            if began.elapsed() >= self.limit + JOB_END {
                return Err(ToolError::Late {
                    tool: self.name.to_owned(),
                    seconds: began.elapsed().as_secs(),
                });
            }
            tell("waiting for the work that an earlier run began");
            std::thread::sleep(PAUSE);
        }
    }
}
