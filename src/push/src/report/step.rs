//! What happens to a host, in a few words. A new kind of [`Step`] does not compile until its words
//! exist here.

use push_wire::message::Holder;
use push_wire::name::GenerationId;

use super::{foreign, history, measure, outcome};
use crate::event::{Confirm, Phase, Step, Summary, Whose};

/// What a host is doing now, for its live line.
pub fn doing(step: &Step) -> String {
    match step {
        Step::Connecting => "connecting".to_owned(),
        Step::Connected { .. } => "connected".to_owned(),
        Step::Installing { machine, bytes } => {
            format!(
                "installing push-host for {} ({})",
                foreign::line(machine),
                measure::bytes(*bytes)
            )
        }
        Step::Upgrading { from, bytes } => {
            format!(
                "replacing push-host {} ({})",
                foreign::line(from),
                measure::bytes(*bytes)
            )
        }
        Step::Looking { machine, bytes } => {
            format!(
                "push-host is not there: running it once, not installed, for {} ({})",
                foreign::line(machine),
                measure::bytes(*bytes)
            )
        }
        Step::Greeted { generation, .. } => greeted(*generation),
        Step::Recovered { transaction, state } => format!(
            "transaction {transaction} was found cut short, and recovered: {}",
            foreign::line(&history::plain_verdict(state))
        ),
        Step::Planned(summary) => planned(summary),
        Step::Drifted { .. } => "not as it was pushed".to_owned(),
        Step::Waiting { holder, whose } => waiting(holder, *whose),
        Step::Working { what } => format!("groundwork: {}", foreign::line(what)),
        Step::Staging { bytes, held } => staging(*bytes, *held),
        Step::Sent { sent, bytes } => sending(*sent, *bytes),
        Step::Checked { generation, .. } => {
            format!("staged generation {generation}, nothing is live yet")
        }
        Step::Switching { generation, .. } => format!("switching to generation {generation}"),
        Step::Running { effect } => effect.to_string(),
        Step::Probation { confirm } => probation(*confirm).to_owned(),
        Step::Health {
            app,
            passed,
            wanted,
            answer,
        } => health(app, *passed, *wanted, answer.as_deref()),
        Step::Confirming => "coming in again over a new connection".to_owned(),
        Step::NotConfirmed { why } => {
            format!("could not come in again, trying on: {}", foreign::line(why))
        }
        Step::Confirmed => "came in again".to_owned(),
        Step::TakingBack { cause } => format!("taking back: {}", foreign::line(&cause.to_string())),
        Step::Evidence { .. } => "taking back, evidence is saved".to_owned(),
        Step::Reconnecting {
            during,
            attempt,
            why,
        } => reconnecting(*during, *attempt, why),
        Step::Restoring { to } => format!("bringing back what generation {to} was"),
        Step::Offered {
            packages,
            security,
            removals,
        } => offered(*packages, *security, *removals),
        Step::SystemUpgrade { .. } => "told to upgrade, the host goes on alone".to_owned(),
        Step::UpgradeRuns { what } => foreign::line(what),
        Step::Rebooting => "rebooting; waiting for it to come back".to_owned(),
        Step::Finished { outcome, took_ms } => finished(outcome, *took_ms),
    }
}

fn offered(packages: usize, security: usize, removals: usize) -> String {
    match (packages, removals) {
        (0, 0) => "every package is as new as it may be".to_owned(),
        _ => format!(
            "{} to upgrade, {security} for security, {removals} to remove",
            measure::count(packages, "package")
        ),
    }
}

fn probation(confirm: Confirm) -> &'static str {
    match confirm {
        Confirm::NotNeeded => "on trial",
        Confirm::Needed => "on trial: stays only if a new connection gets in",
    }
}

fn reconnecting(during: Phase, attempt: u32, why: &str) -> String {
    let meaning = match during {
        Phase::Staging => " while staging, nothing is switched there",
        Phase::Switching | Phase::Upgrading => ", the host goes on alone",
    };
    let why = foreign::line(why);
    format!("connection lost{meaning}; calling it again ({attempt}): {why}")
}

/// What a step is worth telling under `-v`, where each has its time in front; the end of a host is
/// told in any case, and bytes on their way are told at the end of them.
pub fn detail(step: &Step) -> Option<String> {
    match step {
        Step::Connected { took_ms } => Some(format!("connected, {}", milliseconds(*took_ms))),
        Step::Greeted {
            took_ms,
            generation,
        } => Some(format!(
            "push-host answers after {}: {}",
            milliseconds(*took_ms),
            greeted(*generation)
        )),
        Step::Planned(summary) => Some(plan_in_full(summary)),
        Step::Switching {
            generation,
            transaction,
        } => Some(format!(
            "told to switch to generation {generation}, transaction {transaction}"
        )),
        Step::Sent { sent, bytes } if sent < bytes => None,
        Step::Finished { .. } => None,
        other => Some(doing(other)),
    }
}

fn plan_in_full(summary: &Summary) -> String {
    let mut said = vec![planned(summary)];
    if !summary.effects.is_empty() {
        let effects: Vec<String> = summary.effects.iter().map(ToString::to_string).collect();
        said.push(format!("then {}", effects.join(", ")));
    }
    let risks = summary.risks.iter().map(|risk| format!("risky: {risk}"));
    said.extend(risks);
    format!(
        "plan against generation {}: {}",
        summary.base,
        said.join("; ")
    )
}

fn milliseconds(ms: u64) -> String {
    measure::took(std::time::Duration::from_millis(ms))
}

/// Whether a step is worth a line of its own where lines cannot change in place. What follows each
/// other many times a second, or is told by the step after it, is not.
pub fn is_news(step: &Step) -> bool {
    match step {
        Step::Installing { .. }
        | Step::Upgrading { .. }
        | Step::Looking { .. }
        | Step::Recovered { .. }
        | Step::Waiting { .. }
        | Step::Working { .. }
        | Step::Checked { .. }
        | Step::Switching { .. }
        | Step::Running { .. }
        | Step::NotConfirmed { .. }
        | Step::Confirmed
        | Step::TakingBack { .. }
        | Step::Reconnecting { .. }
        | Step::Restoring { .. }
        | Step::SystemUpgrade { .. }
        | Step::Rebooting
        | Step::Finished { .. } => true,
        Step::Staging { bytes, held } => bytes > held,
        Step::Probation { confirm } => *confirm == Confirm::Needed,
        Step::Health { passed, wanted, .. } => passed == wanted,
        Step::Connecting
        | Step::Connected { .. }
        | Step::Greeted { .. }
        | Step::Planned(_)
        // Told line by line.
        | Step::Drifted { .. }
        | Step::Offered { .. }
        | Step::UpgradeRuns { .. }
        | Step::Sent { .. }
        | Step::Confirming
        | Step::Evidence { .. } => false,
    }
}

/// A finished host's last line, without what led to it.
pub fn finished(outcome: &crate::event::Outcome, took_ms: u64) -> String {
    format!("{}, {}", outcome::verdict(outcome), milliseconds(took_ms))
}

fn waiting(holder: &Holder, whose: Whose) -> String {
    let step = foreign::line(&holder.step);
    match whose {
        Whose::Ours => {
            format!("waits for an earlier connection of this same push, which was lost ({step})")
        }
        Whose::Others => format!("waits for {} ({step})", foreign::line(&holder.operator)),
    }
}

fn greeted(generation: GenerationId) -> String {
    if generation.is_none() {
        return "nothing was pushed there yet".to_owned();
    }
    format!("at generation {generation}")
}

fn staging(bytes: u64, held: u64) -> String {
    match (measure::bytes(bytes), held) {
        _ if bytes == 0 => "staging, everything is there already".to_owned(),
        (bytes, 0) => format!("sending {bytes}"),
        (bytes, held) => format!(
            "sending {bytes}, of which {} are there already",
            measure::bytes(held)
        ),
    }
}

fn sending(sent: u64, bytes: u64) -> String {
    if sent >= bytes {
        return "staging and checking".to_owned();
    }
    format!(
        "sending {} of {}",
        measure::bytes(sent),
        measure::bytes(bytes)
    )
}

fn planned(summary: &Summary) -> String {
    let Summary {
        added,
        changed,
        removed,
        ..
    } = summary;
    match (added, changed, removed) {
        (0, 0, 0) => "nothing to do".to_owned(),
        _ => format!("{added} to add, {changed} to change, {removed} to remove"),
    }
}

fn health(app: &str, passed: u32, wanted: u32, answer: Option<&str>) -> String {
    let app = foreign::line(app);
    match answer {
        None => format!("{app} is healthy ({} of {wanted})", passed.min(wanted)),
        Some(answer) => format!("{app} is not healthy yet: {}", foreign::line(answer)),
    }
}
