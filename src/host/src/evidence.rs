//! What a host knows about a failure, collected before anything is undone: afterwards the failed
//! units, their sockets and their last answers are gone. All of it is bounded by the machine.

use std::collections::BTreeSet;

use push_wire::effect::Effect;
use push_wire::journal::{Cause, Evidence};
use push_wire::manifest::Manifest;
use push_wire::name::UnitName;

use crate::machine::Machine;

/// Collects it, if the cause is one that evidence helps with.
pub fn collect<M: Machine>(
    machine: &M,
    (to, run): (&Manifest, &[Effect]),
    (cause, since_boottime_ms): (&Cause, u64),
) -> Option<Evidence> {
    let (subject, answer) = match cause {
        Cause::Effect { effect, why } => (effect.clone(), Some(why.clone())),
        Cause::Unhealthy { app, why } => (app.clone(), Some(why.clone())),
        Cause::Unconfirmed | Cause::Asked | Cause::Restarted | Cause::Host { .. } => return None,
    };
    let units = concerned(to, run, &subject);
    Some(of_units(
        machine,
        (subject, answer),
        (&units, since_boottime_ms),
    ))
}

/// What is known about some units that failed.
pub fn of_units<M: Machine>(
    machine: &M,
    (subject, answer): (String, Option<String>),
    (units, since_boottime_ms): (&BTreeSet<UnitName>, u64),
) -> Evidence {
    let (listening, disk) = machine.surroundings();
    let journal = machine.log(units, since_boottime_ms);
    // What systemd does not tell is missing from the evidence, not a second failure.
    let units = machine.units(units).unwrap_or_default();
    Evidence {
        subject,
        units,
        journal,
        answer,
        listening,
        disk,
    }
}

/// The units of the app that failed, or the unit of the effect that did.
fn concerned(to: &Manifest, run: &[Effect], subject: &str) -> BTreeSet<UnitName> {
    let of_app = to
        .units()
        .into_iter()
        .filter(|(_, unit)| unit.app.as_str() == subject);
    let of_effect = run
        .iter()
        .filter(|effect| effect.to_string() == subject)
        .filter_map(unit);
    of_app
        .map(|(name, _)| name.clone())
        .chain(of_effect)
        .collect()
}

fn unit(effect: &Effect) -> Option<UnitName> {
    match effect {
        Effect::Stop(unit)
        | Effect::RestartSocket(unit)
        | Effect::Restart(unit)
        | Effect::Reload(unit)
        | Effect::RestartForeign(unit)
        | Effect::ReloadForeign(unit) => Some(unit.clone()),
        Effect::ReloadNginx => "nginx.service".parse().ok(),
        Effect::Sysctl => "systemd-sysctl.service".parse().ok(),
        Effect::OpenSecrets
        | Effect::DaemonReload
        | Effect::LoadFirewall
        | Effect::RemoveFirewall => None,
    }
}
