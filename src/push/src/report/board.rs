//! The live lines of a terminal: one for each host that is being worked on, as many as fit, and one
//! for all the others. Knows words, not what they mean.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::measure;
use super::style::QUIET;
use crate::name::HostName;

/// The most hosts with a line of their own.
const LINES_MAX: usize = 8;

/// How often the spinners turn.
const TICK: Duration = Duration::from_millis(100);

/// The live lines.
#[derive(Debug)]
pub struct Board {
    live: MultiProgress,
    /// The hosts of the push, finished ones included.
    expected: usize,
    finished: usize,
    lines: BTreeMap<HostName, ProgressBar>,
    /// The words of hosts that have no line of their own.
    others: BTreeMap<HostName, String>,
    rest: Option<ProgressBar>,
    name_width: usize,
}

impl Board {
    /// No lines yet.
    pub fn new(live: MultiProgress) -> Self {
        Self {
            live,
            expected: 0,
            finished: 0,
            lines: BTreeMap::new(),
            others: BTreeMap::new(),
            rest: None,
            name_width: 0,
        }
    }

    /// So many hosts will be shown.
    pub fn expect(&mut self, hosts: usize) {
        self.expected = hosts;
    }

    /// A host does this now.
    pub fn show(&mut self, host: &HostName, words: &str) {
        if let Some(line) = self.lines.get(host) {
            line.set_message(words.to_owned());
        } else if self.lines.len() < LINES_MAX {
            self.others.remove(host);
            self.open(host, words);
        } else {
            self.others.insert(host.clone(), words.to_owned());
        }
        self.count_others();
    }

    /// A host has ended: its line goes, and one that waited for it takes its place.
    pub fn release(&mut self, host: &HostName) {
        self.finished += 1;
        self.others.remove(host);
        if let Some(line) = self.lines.remove(host) {
            line.finish_and_clear();
            self.live.remove(&line);
        }
        if self.lines.len() < LINES_MAX
            && let Some((next, words)) = self.others.pop_first()
        {
            self.open(&next, &words);
        }
        self.count_others();
    }

    /// All lines go.
    pub fn clear(&mut self) {
        for line in std::mem::take(&mut self.lines)
            .into_values()
            .chain(self.rest.take())
        {
            line.finish_and_clear();
            self.live.remove(&line);
        }
        self.others.clear();
    }

    fn open(&mut self, host: &HostName, words: &str) {
        self.name_width = self.name_width.max(host.as_str().len());
        let line = ProgressBar::new_spinner()
            .with_style(style("{prefix:.bold} {spinner} {wide_msg}"))
            .with_prefix(format!("{host:<width$}", width = self.name_width))
            .with_message(words.to_owned());
        // The lines stand in the order of the hosts' names, the line for all the others last.
        let before = self.lines.range(..host.clone()).count();
        let line = self.live.insert(before, line);
        line.enable_steady_tick(TICK);
        self.lines.insert(host.clone(), line);
    }

    fn count_others(&mut self) {
        let waiting = self
            .expected
            .saturating_sub(self.finished + self.lines.len());
        if waiting == 0 {
            if let Some(rest) = self.rest.take() {
                rest.finish_and_clear();
                self.live.remove(&rest);
            }
            return;
        }
        let rest = self.rest.get_or_insert_with(|| {
            self.live
                .add(ProgressBar::new_spinner().with_style(style("{wide_msg}")))
        });
        rest.set_message(format!(
            "{QUIET}and {} more, {} done{QUIET:#}",
            measure::count(waiting, "host"),
            self.finished
        ));
    }
}

/// A style from one of the templates of this file, which are known to be well-formed.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
