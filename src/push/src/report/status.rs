//! What is in effect on a host: its generation, its apps and their units, what runs, what drifted.

use std::collections::BTreeMap;

use push_wire::journal::UnitState;
use push_wire::manifest::{App, Manifest};
use push_wire::message::{Holder, Status};
use push_wire::name::AppName;

use super::style::{BAD, CHANGED, GOOD, QUIET, TITLE, paint};
use super::table::Table;
use super::text::Text;
use super::{drift, foreign, history, measure, unit, upgrade};
use crate::plan::Drift;

/// What one host answered.
#[derive(Debug)]
pub struct Present<'a> {
    /// The project whose environment it was asked for in.
    pub project: &'a str,
    /// That environment.
    pub environment: &'a str,
    /// The host.
    pub host: &'a str,
    /// What is in effect.
    pub manifest: &'a Manifest,
    /// The host's clock, seconds since 1970.
    pub now_unix_s: u64,
    /// The transaction that has not ended, if one runs.
    pub running: Option<&'a Holder>,
    /// What the host says of its units.
    pub status: &'a Status,
}

/// The account of one host.
pub fn status(present: &Present<'_>) -> String {
    let mut text = Text::new();
    heading(&mut text, present);
    let mut table = Table::new();
    let units = by_app(present);
    for (app, declared) in present.manifest.apps() {
        table.note(app_line(present, app, declared));
        units
            .get(&Some(app))
            .into_iter()
            .flatten()
            .for_each(|unit| table.row(unit_cells(unit)));
    }
    // Units that the host reports and no app of the manifest owns: left over, or of another release.
    units
        .get(&None)
        .into_iter()
        .flatten()
        .for_each(|unit| table.row(unit_cells(unit)));
    text.block(table.render("  "));
    let drift = Drift::of(present.manifest, present.status.drift.clone());
    text.block(drift::lines(&drift));
    let at = (present.environment, present.host);
    text.block(drift::cure(&drift, present.project, at));
    text.finish()
}

fn heading(text: &mut Text, present: &Present<'_>) {
    let host = paint(TITLE, present.host);
    let number = present.manifest.generation;
    let last = last_push(present);
    match present.manifest.restores {
        _ if number.is_none() => {
            text.line(format_args!("{host}  nothing was pushed here yet{last}"));
        }
        None => text.line(format_args!("{host}  generation {number}{last}")),
        Some(restored) => {
            text.line(format_args!(
                "{host}  generation {number} (back to what {restored} was){last}"
            ));
        }
    }
    if let Some(record) = &present.status.upgrade {
        let latest = upgrade::latest(record, present.now_unix_s);
        text.line(format_args!("  {} {latest}", paint(QUIET, "upgrade:")));
    }
    if let Some(holder) = present.running {
        let holder = holder_line(holder, present.now_unix_s);
        text.line(format_args!("  {} {holder}", paint(CHANGED, "running:")));
    }
}

fn last_push(present: &Present<'_>) -> String {
    let Some(last) = &present.status.last else {
        return String::new();
    };
    let by = last.first.about.as_ref().map_or_else(String::new, |about| {
        let commit = about
            .provenance
            .commit
            .as_deref()
            .map(|commit| format!(" from {}", foreign::commit(commit)));
        format!(
            " by {}{}",
            foreign::line(&about.provenance.operator),
            commit.unwrap_or_default()
        )
    });
    format!(
        ", last push {}{by}: {}",
        measure::ago(last.first.at_unix_s, present.now_unix_s),
        history::verdict(&last.last.state)
    )
}

/// Who holds a host, in one line.
pub fn holder_line(holder: &Holder, now_unix_s: u64) -> String {
    format!(
        "{}, {}, for {}",
        foreign::line(&holder.operator),
        foreign::line(&holder.step),
        measure::span(now_unix_s.saturating_sub(holder.since_unix_s))
    )
}

fn by_app<'a>(present: &Present<'a>) -> BTreeMap<Option<&'a AppName>, Vec<&'a UnitState>> {
    let owners: BTreeMap<&str, &AppName> = present
        .manifest
        .units()
        .into_iter()
        .map(|(name, unit)| (name.as_str(), &unit.app))
        .collect();
    let mut units: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for unit in &present.status.units {
        units
            .entry(owners.get(unit.unit.as_str()).copied())
            .or_default()
            .push(unit);
    }
    units
}

fn app_line(present: &Present<'_>, name: &AppName, app: &App) -> String {
    let project = present
        .manifest
        .all()
        .find(|(_, slice)| slice.apps.contains_key(name));
    let project = project.map(|(project, _)| project.to_string());
    let age = measure::release_made_at(app.release.as_str())
        .map(|made| format!("made {}", measure::ago(made, present.now_unix_s)));
    let beside: Vec<String> = [age, Some(measure::bytes(app.size)), project]
        .into_iter()
        .flatten()
        .collect();
    format!(
        "{} {}  {}",
        paint(TITLE, name),
        app.release,
        paint(QUIET, beside.join(", "))
    )
}

fn unit_cells(state: &UnitState) -> [String; 6] {
    let (mark, style) = match state.active.as_str() {
        "active" => ("●", GOOD),
        "failed" => ("✗", BAD),
        "activating" | "deactivating" | "reloading" => ("◌", CHANGED),
        _ => ("○", QUIET),
    };
    let restarts = unit::restarts(state).map(|count| paint(CHANGED, count));
    let age = state
        .active_for_s
        .map(|seconds| format!("for {}", measure::span(seconds)));
    [
        format!("  {}", paint(style, mark)),
        foreign::line(&state.unit),
        unit::standing(state),
        age.unwrap_or_default(),
        state.memory_bytes.map(measure::bytes).unwrap_or_default(),
        restarts.unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use push_wire::digest::Digest;
    use push_wire::manifest::{OnRelease, Placed, Provenance, Runs, Slice, Unit};
    use push_wire::name::GenerationId;

    use super::*;

    fn manifest() -> Manifest {
        let mut slice = Slice::default();
        slice.apps.insert(
            "api".parse().unwrap(),
            App {
                release: "20261120T101500Z-3f2a91c".parse().unwrap(),
                tree: Digest::of(""),
                size: 12_400_000,
                user: "api".parse().unwrap(),
                shared: BTreeSet::new(),
                ports: BTreeSet::new(),
                health: None,
                keep_releases: 5,
            },
        );
        slice.units.insert(
            "api.service".parse().unwrap(),
            Unit {
                digest: Digest::of(""),
                app: "api".parse().unwrap(),
                wanted_by: BTreeSet::new(),
                runs: Runs::Always,
                on_release: OnRelease::Restart,
            },
        );
        let placed = Placed {
            slice,
            provenance: Provenance::default(),
        };
        Manifest {
            generation: GenerationId(7),
            slices: BTreeMap::from([("shop".parse().unwrap(), placed)]),
            ..Manifest::empty()
        }
    }

    fn unit(name: &str, active: &str, restarts: u32) -> UnitState {
        UnitState {
            unit: name.into(),
            active: active.into(),
            sub: if active == "active" {
                "running".into()
            } else {
                active.into()
            },
            result: if active == "failed" {
                "exit-code".into()
            } else {
                "success".into()
            },
            exit_status: if active == "failed" {
                "101".into()
            } else {
                "0".into()
            },
            restarts,
            invocation: String::new(),
            active_for_s: (active == "active").then_some(7300),
            memory_bytes: (active == "active").then_some(32_000_000),
        }
    }

    fn said(status: &Status, running: Option<&Holder>) -> String {
        let manifest = manifest();
        let text = super::status(&Present {
            project: "shop",
            environment: "prod",
            host: "web1",
            manifest: &manifest,
            now_unix_s: 1_795_177_000,
            running,
            status,
        });
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn status_shows_apps_units_a_running_push_and_what_drifted() {
        let status = Status {
            units: vec![
                unit("api.service", "active", 0),
                unit("old.service", "failed", 5),
            ],
            last: None,
            drift: vec!["/etc/nginx/conf.d/push.conf differs\x1b[2J".into()],
            upgrade: None,
        };
        let holder = Holder {
            operator: "ci".into(),
            since_unix_s: 1_795_176_960,
            step: "switching".into(),
            transaction: None,
            push: String::new(),
        };
        insta::assert_snapshot!(said(&status, Some(&holder)), @r#"
        web1  generation 7
          running: ci, switching, for 40 s
          api 20261120T101500Z-3f2a91c  made 2 h ago, 11 MiB, shop
            ●  api.service  active (running)               for 2 h  30 MiB
            ✗  old.service  failed, exit-code, status 101                   5 restarts
          drift: /etc/nginx/conf.d/push.conf differs\x1b[2J
            help: `push prod -l web1 --again` applies again what shop declares there
        "#);
    }
}
