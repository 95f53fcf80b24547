//! How the units that a switch touches stood before it. What did not run then is not what a switch has to
//! bring back, and what ran then must not be left dead by one.

use std::collections::BTreeSet;

use push_wire::effect::Effect;
use push_wire::journal::UnitState;
use push_wire::name::UnitName;

use crate::machine::World;

/// How the units stood.
#[derive(Debug, Default)]
pub struct Before {
    /// push's own that the way back starts, and that did not run.
    pub down: BTreeSet<UnitName>,
    /// Those that push does not declare, and that ran.
    pub beside: BTreeSet<UnitName>,
}

/// Looks at the units of the effects that go ahead and that come back; `None` where systemd does not tell.
pub fn look<M: World>(machine: &M, ahead: &[Effect], back: &[Effect]) -> Option<Before> {
    let own: BTreeSet<UnitName> = back.iter().filter_map(Effect::starts).cloned().collect();
    let all = ahead.iter().chain(back);
    let beside: BTreeSet<UnitName> = all.filter_map(Effect::foreign).cloned().collect();
    let asked: BTreeSet<UnitName> = own.union(&beside).cloned().collect();
    if asked.is_empty() {
        return Some(Before::default());
    }
    let states = machine.units(&asked).ok()?;
    let are = |names: BTreeSet<UnitName>, wanted: fn(&UnitState) -> bool| {
        let stands = |name: &UnitName| {
            let state = states.iter().find(|state| state.unit == name.as_str());
            state.is_some_and(wanted)
        };
        names.into_iter().filter(stands).collect()
    };
    // What starts for the first time is not down; what starts again and again is.
    Some(Before {
        down: are(own, |state| {
            is_down(state) || (state.active == "activating" && state.restarts > 0)
        }),
        beside: are(beside, |state| {
            matches!(state.active.as_str(), "active" | "reloading")
        }),
    })
}

/// Whether a unit does not run.
pub fn is_down(state: &UnitState) -> bool {
    state.active == "inactive" || has_failed(state)
}

/// Whether a unit has ended as it should not, although systemd may try it again and again. One that has
/// ended well may have had nothing more to do.
pub fn has_died(state: &UnitState) -> bool {
    let ended_well = matches!(state.result.as_str(), "success" | "");
    has_failed(state) || (state.active == "inactive" && !ended_well)
}

fn has_failed(state: &UnitState) -> bool {
    state.active == "failed" || state.sub == "auto-restart"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(active: &str, sub: &str, result: &str) -> UnitState {
        UnitState {
            active: active.to_owned(),
            sub: sub.to_owned(),
            result: result.to_owned(),
            ..UnitState::default()
        }
    }

    #[test]
    fn what_had_nothing_more_to_do_has_not_died() {
        for died in [
            state("failed", "failed", "exit-code"),
            state("activating", "auto-restart", "exit-code"),
            state("inactive", "dead", "exit-code"),
        ] {
            assert!(has_died(&died) && is_down(&died), "{died:?}");
        }
        let ended = state("inactive", "dead", "success");
        assert!(is_down(&ended) && !has_died(&ended));
        for runs in ["active", "reloading", "activating"] {
            let runs = state(runs, "running", "success");
            assert!(!is_down(&runs) && !has_died(&runs), "{runs:?}");
        }
    }
}
