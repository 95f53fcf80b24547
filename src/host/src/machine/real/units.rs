//! What systemd says of units, and the last lines of their log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use push_wire::journal::UnitState;
use push_wire::name::UnitName;
use rustix::time::ClockId;

use super::milliseconds;
use super::process::Program;
use crate::machine::{Course, Standing, ToolError};

/// How long systemd has to answer.
const SHOW_LIMIT: Duration = Duration::from_secs(20);

/// How much of systemd's answer is kept, in bytes: about 300 for each unit.
const SHOW_BYTES_MAX: usize = 1 << 20;

/// The least that a job of a unit has to end, for a systemd that does not say more.
pub(super) const JOB_LEAST: Duration = Duration::from_secs(300);

/// The most; a transaction has hardly longer.
const JOB_MOST: Duration = Duration::from_secs(25 * 3600);

/// What a unit gets that systemd would wait for without end, as it does for any one-shot that says nothing:
/// whoever wants longer says so in the unit.
const JOB_ENDLESS: Duration = Duration::from_secs(15 * 60);

/// What a job has over its unit's own limits, so that systemd is the one who ends it.
const JOB_MARGIN: Duration = Duration::from_secs(60);

/// How often a unit that stops is waited for besides its commands: after SIGTERM, and after SIGKILL.
const KILLS: u32 = 2;

/// How long the journal has to be searched.
const LOG_LIMIT: Duration = Duration::from_secs(10);

/// How many lines of log are looked at, to find those since a moment.
const LOG_LINES_READ: &str = "200";

/// How many lines of log are told.
const LOG_LINES_MAX: usize = 50;

/// How long a line of log may be, in characters.
const LOG_LINE_CHARS_MAX: usize = 500;

/// How much of the log is kept, in bytes.
const LOG_BYTES_MAX: usize = 256 << 10;

const PROPERTIES: &str = "--property=Id,ActiveState,SubState,Result,ExecMainStatus,NRestarts,\
                          InvocationID,ActiveEnterTimestampMonotonic,MemoryCurrent";

/// What bounds a job of a unit, with one line for each of its commands.
const JOB_PROPERTIES: &str = "--property=TimeoutStartUSec,TimeoutStopUSec,ExecStartPre,ExecStart,\
                              ExecStartPost,ExecStop,ExecStopPost";

/// The state of each unit that can run, in the order of their names.
pub(super) fn show(units: &BTreeSet<UnitName>) -> Result<Vec<UnitState>, ToolError> {
    let units: Vec<&UnitName> = units.iter().filter(|unit| !unit.is_template()).collect();
    if units.is_empty() {
        return Ok(vec![]);
    }
    let mut argv = vec!["systemctl", "show", PROPERTIES, "--"];
    argv.extend(units.iter().map(|unit| unit.as_str()));
    let shown = Program::new(&argv, SHOW_LIMIT)
        .output_bytes_max(SHOW_BYTES_MAX)
        .succeed()?;
    let now_us = milliseconds(ClockId::Monotonic) * 1000;
    let blocks = shown.stdout.split("\n\n").map(|block| state(block, now_us));
    // systemd answers in the order of the question, and an alias by the name of what it stands for.
    Ok(units
        .iter()
        .zip(blocks)
        .map(|(unit, state)| UnitState {
            unit: unit.to_string(),
            ..state
        })
        .collect())
}

/// How long a unit may take to stop and to start again, by what systemd gives it.
pub(super) fn job_limit(unit: &UnitName) -> Duration {
    let argv = ["systemctl", "show", JOB_PROPERTIES, "--", unit.as_str()];
    let shown = Program::new(&argv, SHOW_LIMIT)
        .output_bytes_max(SHOW_BYTES_MAX)
        .succeed();
    shown.map_or(JOB_LEAST, |shown| limit(&shown.stdout))
}

/// systemd gives each command of a start, and each step of a stop, its time anew. Source:
/// systemd.service(5), `TimeoutStartSec=` and `TimeoutStopSec=`.
fn limit(block: &str) -> Duration {
    let each = |key| {
        let said = block
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        said.map_or(Duration::ZERO, time_span)
    };
    let commands = |key| {
        let lines = block.lines().filter(|line| line.starts_with(key));
        u32::try_from(lines.count()).unwrap_or(u32::MAX)
    };
    let start = each("TimeoutStartUSec").saturating_mul(commands("ExecStart"));
    let stop = each("TimeoutStopUSec").saturating_mul(commands("ExecStop").saturating_add(KILLS));
    start
        .saturating_add(stop)
        .saturating_add(JOB_MARGIN)
        .clamp(JOB_LEAST, JOB_MOST)
}

/// A time as systemd shows it, such as `1h 30min` or `1.5s`, without parts of a second. Source:
/// systemd.time(7), "DISPLAYING TIME SPANS".
fn time_span(shown: &str) -> Duration {
    if shown == "infinity" {
        return JOB_ENDLESS;
    }
    let seconds = shown.split_whitespace().map(|part| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        let (number, rest) = part.split_at(end);
        let unit_s = match rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit()) {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            "d" => 24 * 3600,
            // Weeks and more are over the limit anyway; what is less than a second is nothing.
            "w" | "month" | "y" => 7 * 24 * 3600,
            _ => 0,
        };
        number.parse::<u64>().unwrap_or(0).saturating_mul(unit_s)
    });
    Duration::from_secs(seconds.fold(0, u64::saturating_add))
}

/// Which units have failed, and whether the boot has come to its end. Source: systemctl(1).
pub(super) fn standing() -> Result<Standing, ToolError> {
    let argv = [
        "systemctl",
        "list-units",
        "--all",
        "--plain",
        "--full",
        "--no-legend",
        "--no-pager",
        "--state=failed,auto-restart",
    ];
    let listed = Program::new(&argv, SHOW_LIMIT)
        .output_bytes_max(SHOW_BYTES_MAX)
        .succeed()?;
    Ok(Standing {
        course: course_now()?,
        failed: failed(&listed.stdout),
    })
}

/// Whether systemd comes up or goes down.
pub(crate) fn course_now() -> Result<Course, ToolError> {
    // Its status says how the system is, too: only what it prints is asked for.
    let running = Program::new(&["systemctl", "is-system-running"], SHOW_LIMIT).run()?;
    Ok(course(&running.stdout))
}

/// The word of `systemctl is-system-running`. Source: systemctl(1).
fn course(said: &str) -> Course {
    match said.trim() {
        "initializing" | "starting" => Course::Starting,
        "stopping" => Course::GoingDown,
        _ => Course::Up,
    }
}

/// The first word of each line; some versions put a mark before it.
fn failed(listed: &str) -> BTreeSet<String> {
    let units = listed.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.find(|word| word.contains('.'))
    });
    units.map(str::to_owned).collect()
}

fn state(block: &str, now_us: u64) -> UnitState {
    let values: BTreeMap<&str, &str> = block
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let text = |key| values.get(key).copied().unwrap_or_default().to_owned();
    let number = |key| values.get(key).and_then(|value| value.parse::<u64>().ok());
    let active = text("ActiveState");
    UnitState {
        unit: text("Id"),
        sub: text("SubState"),
        result: text("Result"),
        exit_status: text("ExecMainStatus"),
        restarts: number("NRestarts")
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(0),
        invocation: text("InvocationID"),
        active_for_s: number("ActiveEnterTimestampMonotonic")
            .filter(|since| active == "active" && *since > 0)
            .map(|since| now_us.saturating_sub(since) / 1_000_000),
        // Older versions write the largest number where memory is not counted.
        memory_bytes: number("MemoryCurrent").filter(|bytes| *bytes != u64::MAX),
        active,
    }
}

/// The last lines of the units' log within the last `age_ms` milliseconds. Lines are chosen by their
/// monotonic stamp, which setting the clock does not touch.
pub(super) fn log(units: &BTreeSet<UnitName>, age_ms: u64) -> Vec<String> {
    let mut argv = vec![
        "journalctl",
        "--no-pager",
        "--quiet",
        "--boot",
        // Lines with odd bytes as well, which are escaped where they are shown: without it a program
        // that colours its last words, say, leaves `[25B blob data]`.
        "--all",
        "--output=short-monotonic",
    ];
    argv.extend(["--lines", LOG_LINES_READ]);
    for unit in units {
        argv.extend(["--unit", unit.as_str()]);
    }
    if units.is_empty() {
        return vec![];
    }
    let since_ms = milliseconds(ClockId::Monotonic).saturating_sub(age_ms);
    match Program::new(&argv, LOG_LIMIT)
        .output_bytes_max(LOG_BYTES_MAX)
        .run()
    {
        Ok(ended) => last_lines(&ended.stdout, since_ms),
        Err(error) => vec![error.to_string()],
    }
}

fn last_lines(text: &str, since_ms: u64) -> Vec<String> {
    let lines: Vec<String> = text
        .lines()
        .filter(|line| stamp_ms(line).is_none_or(|stamp| stamp >= since_ms))
        .map(|line| line.chars().take(LOG_LINE_CHARS_MAX).collect())
        .collect();
    lines[lines.len().saturating_sub(LOG_LINES_MAX)..].to_vec()
}

/// The stamp of a line such as `[ 1234.567890] host api[99]: text`.
fn stamp_ms(line: &str) -> Option<u64> {
    let (seconds, fraction) = line
        .strip_prefix('[')?
        .split_once(']')?
        .0
        .trim()
        .split_once('.')?;
    let milliseconds: u64 = fraction.get(..3)?.parse().ok()?;
    Some(seconds.parse::<u64>().ok()? * 1000 + milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_answer_is_read_whatever_it_leaves_out() {
        let block = "Id=api.service\nActiveState=active\nSubState=running\nResult=success\n\
                     ExecMainStatus=0\nNRestarts=2\nInvocationID=abc\n\
                     ActiveEnterTimestampMonotonic=5000000\nMemoryCurrent=[not set]";
        let found = state(block, 9_000_000);
        assert_eq!(
            (found.restarts, found.active_for_s, found.memory_bytes),
            (2, Some(4), None)
        );
        assert_eq!(
            (found.active.as_str(), found.invocation.as_str()),
            ("active", "abc")
        );
        let found = state("ActiveState=inactive\nActiveEnterTimestampMonotonic=0", 9);
        assert_eq!(
            (found.active.as_str(), found.active_for_s),
            ("inactive", None)
        );
        assert_eq!(state("\u{1b}[31m no equals sign", 9), UnitState::default());
    }

    #[test]
    fn a_job_has_the_time_that_systemd_gives_its_unit_and_never_less_than_before() {
        let seconds = |block: &str| limit(block).as_secs();
        // A start of ten minutes, with a command before it that may take as long.
        let slow = "TimeoutStartUSec=10min\nTimeoutStopUSec=1min 30s\n\
                    ExecStartPre={ path=/srv/api/migrate ; argv[]=... }\nExecStart={ path=/srv/api/api }\n";
        assert_eq!(seconds(slow), 2 * 600 + 2 * 90 + 60);
        let usual = "TimeoutStartUSec=1min\nTimeoutStopUSec=30s\nExecStart={ path=/srv/api/api }";
        assert_eq!(seconds(usual), 300);
        let endless = "TimeoutStartUSec=infinity\nTimeoutStopUSec=1.5s\nExecStart={ path=/job }";
        assert_eq!(seconds(endless), 15 * 60 + 2 + 60);
        let longest = "TimeoutStartUSec=1d\nTimeoutStopUSec=1w 2d\nExecStart={ path=/srv/api/api }";
        assert_eq!(limit(longest), JOB_MOST);
        for nothing in [
            "",
            "TimeoutUSec=1h",
            "TimeoutStartUSec=\u{1b}[31m",
            "TimeoutStartUSec=",
        ] {
            assert_eq!(limit(nothing), JOB_LEAST, "{nothing}");
        }
    }

    #[test]
    fn units_that_failed_are_read_with_and_without_a_mark() {
        let listed =
            "api.service loaded failed failed The API\n● data.mount loaded failed failed /data\n";
        assert_eq!(
            failed(listed),
            ["api.service", "data.mount"].map(str::to_owned).into()
        );
        assert!(failed("").is_empty());
    }

    #[test]
    fn a_log_is_cut_to_the_lines_since_the_switch() {
        let text = "[   10.000000] h api[1]: before\n[   12.500000] h api[1]: after\n  continued\n";
        assert_eq!(
            last_lines(text, 12_000),
            ["[   12.500000] h api[1]: after", "  continued"]
        );
        let endless = "[    1.000000] x\n".repeat(LOG_LINES_MAX * 3);
        assert_eq!(last_lines(&endless, 0).len(), LOG_LINES_MAX);
    }
}
