//! A systemd unit's state in words.

use push_wire::journal::UnitState;

use super::{foreign, measure};

/// How a unit stands: `active (running)`, `failed, exit-code, status 101`.
pub fn standing(state: &UnitState) -> String {
    let [active, sub, result, status] =
        [&state.active, &state.sub, &state.result, &state.exit_status]
            .map(|said| foreign::line(said));
    let mut said = vec![if active == sub || sub.is_empty() {
        active
    } else {
        format!("{active} ({sub})")
    }];
    if !matches!(result.as_str(), "" | "success") {
        said.push(result);
    }
    if !matches!(status.as_str(), "" | "0") {
        said.push(format!("status {status}"));
    }
    said.join(", ")
}

/// How often systemd has restarted a unit by itself, if it has.
pub fn restarts(state: &UnitState) -> Option<String> {
    let restarts = usize::try_from(state.restarts).unwrap_or(usize::MAX);
    (restarts > 0).then(|| measure::count(restarts, "restart"))
}
