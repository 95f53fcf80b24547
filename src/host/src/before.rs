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

/// Looks at the units of the effects that go ahead and that come back. Where systemd does not tell, none of
/// them counts as down, and none as having run.
pub fn look<M: World>(machine: &M, ahead: &[Effect], back: &[Effect]) -> Before {
    let own: BTreeSet<UnitName> = back.iter().filter_map(Effect::starts).cloned().collect();
    let all = ahead.iter().chain(back);
    let beside: BTreeSet<UnitName> = all.filter_map(Effect::foreign).cloned().collect();
    let asked: BTreeSet<UnitName> = own.union(&beside).cloned().collect();
    if asked.is_empty() {
        return Before::default();
    }
    let states = machine.units(&asked).unwrap_or_default();
    let are = |names: BTreeSet<UnitName>, wanted: fn(&UnitState) -> bool| {
        let stands = |name: &UnitName| {
            let state = states.iter().find(|state| state.unit == name.as_str());
            state.is_some_and(wanted)
        };
        names.into_iter().filter(stands).collect()
    };
    Before {
        down: are(own, |state| {
            !matches!(state.active.as_str(), "active" | "reloading")
        }),
        beside: are(beside, |state| !is_down(state)),
    }
}

/// Whether a unit does not run.
pub fn is_down(state: &UnitState) -> bool {
    state.active == "inactive" || has_failed(state)
}

/// Whether a unit has ended as it should not, although systemd may try it again and again.
pub fn has_failed(state: &UnitState) -> bool {
    state.active == "failed" || state.sub == "auto-restart"
}
