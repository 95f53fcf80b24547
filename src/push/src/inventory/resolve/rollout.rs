//! `[rollout]`.

use std::time::Duration;

use super::super::raw;
use super::super::{Rollout, Undo, Wave};
use super::{At, Resolver};

/// How many hosts are worked on at once.
const PARALLEL: u32 = 16;

/// How long a risky generation waits for the operator.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// The most waves.
const WAVES_MAX: usize = 100;

impl<'a> Resolver<'a> {
    pub(super) fn rollout(&mut self, at: &At<'a>, raw: Option<&raw::Rollout>) -> Rollout {
        let empty = raw::Rollout::default();
        let raw = raw.unwrap_or(&empty);
        Rollout {
            waves: self.waves(&at.key("waves"), raw.waves.as_deref()),
            failures_max: raw.max_failures.unwrap_or(0),
            undo: match raw.undo {
                Some(raw::Undo::Wave) => Undo::Wave,
                Some(raw::Undo::All) => Undo::All,
                Some(raw::Undo::Host) | None => Undo::Host,
            },
            parallel: raw.parallel.unwrap_or(PARALLEL),
            confirm_timeout: self.some_duration(
                &at.key("confirm_timeout"),
                raw.confirm_timeout.as_ref(),
                CONFIRM_TIMEOUT,
            ),
        }
    }

    fn waves(&mut self, at: &At<'a>, raw: Option<&[raw::Wave]>) -> Vec<Wave> {
        let Some(raw) = raw else {
            return vec![Wave::Percent(100)];
        };
        let mut waves = Vec::new();
        for (i, wave) in raw.iter().enumerate() {
            let at = at.item(i);
            let read = match wave {
                raw::Wave::Hosts(hosts) => Some(Wave::Hosts(*hosts)),
                raw::Wave::Text(text) => wave_of(text),
            };
            match read {
                Some(Wave::Hosts(0) | Wave::Percent(0)) | None => {
                    self.problem(
                        &at,
                        "a wave is a number of hosts such as 1, or a share such as \"25%\"",
                    );
                }
                Some(wave) => waves.push(wave),
            }
        }
        let shares: Vec<u8> = waves.iter().filter_map(|wave| share(*wave)).collect();
        if waves.last() != Some(&Wave::Percent(100)) || raw.len() > WAVES_MAX {
            let why = format!("the last wave must be \"100%\", and there are at most {WAVES_MAX}");
            self.problem_with_help(at, (why, "for example: waves = [\"1\", \"25%\", \"100%\"]"));
        } else if !shares.is_sorted() {
            self.problem(
                at,
                "each share counts the waves before it in, so it cannot be smaller than theirs",
            );
        }
        waves
    }
}

fn wave_of(text: &str) -> Option<Wave> {
    let digits = text.strip_suffix('%').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    if text.ends_with('%') {
        let share = digits.parse().ok().filter(|share| *share <= 100);
        share.map(Wave::Percent)
    } else {
        digits.parse().ok().map(Wave::Hosts)
    }
}

fn share(wave: Wave) -> Option<u8> {
    match wave {
        Wave::Percent(share) => Some(share),
        Wave::Hosts(_) => None,
    }
}
