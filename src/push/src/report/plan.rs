//! What a push would do, as people read it: hosts with the same plan together, what comes, changes
//! and goes, what is run for it, what is risky, what stays when the rest is taken back.
//!
//! A new kind of declared thing is a new function here that adds its rows.

use std::collections::BTreeMap;
use std::fmt::Display;

use push_wire::effect::Effect;
use push_wire::firewall::{LOGINS_PER_MINUTE, Logins, Ping};
use push_wire::manifest::{File, Secret, Unit};

use super::style::{BAD, CHANGED, GOOD, HELP, QUIET, RISKY, TITLE, paint};
use super::table::Table;
use super::text::Text;
use super::{drift, foreign, measure};
use crate::name::{GenerationId, HostName};
use crate::plan::{Change, FleetPlan, HostPlan, ReleaseNote, TextDiff};

/// The whole plan; one line when there is nothing to do.
pub fn plan(plan: &FleetPlan) -> String {
    grouped_plan(plan, body)
}

/// The whole plan with the lines of each text that changes; `diffs` holds them by host.
pub fn diff(plan: &FleetPlan, diffs: &BTreeMap<HostName, Vec<TextDiff>>) -> String {
    let with_texts = |host: &HostPlan| {
        let texts = diffs.get(&host.host).map(|all| unified(all));
        format!("{}{}", body(host), texts.unwrap_or_default())
    };
    grouped_plan(plan, with_texts)
}

fn grouped_plan(plan: &FleetPlan, body: impl Fn(&HostPlan) -> String) -> String {
    let mut text = Text::new();
    for (body, hosts) in grouped(plan.hosts.values().filter(|host| !host.is_empty()), body) {
        let base = hosts.first().map_or(GenerationId::NONE, |host| host.base);
        let at = if base.is_none() {
            "first push".to_owned()
        } else {
            format!("at generation {base}")
        };
        text.line(format_args!("{}  {}", heading(&hosts), paint(QUIET, at)));
        text.block(body);
        text.line("");
    }
    for (host, drift) in &plan.drift {
        let Some(planned) = plan.hosts.get(host) else {
            continue;
        };
        let heading = if planned.is_empty() {
            "nothing to change, but not as it was pushed"
        } else if planned.again {
            "not as it was pushed before"
        } else {
            "not as it was pushed; this push puts right only what it changes"
        };
        text.line(format_args!(
            "{}  {}",
            paint(TITLE, host),
            paint(QUIET, heading)
        ));
        text.block(drift::lines(drift));
        let at = (plan.environment.as_str(), host.as_str());
        let (own, left) = (&planned.project, drift.clone());
        let left = if planned.again {
            left.without(own)
        } else {
            left
        };
        text.block(drift::cure(&left, own.as_str(), at));
        text.line("");
    }
    text.line(summary(plan));
    text.finish()
}

/// Hosts whose text is the same, together, in the order of their first names.
fn grouped<'a>(
    hosts: impl Iterator<Item = &'a HostPlan>,
    text: impl Fn(&HostPlan) -> String,
) -> Vec<(String, Vec<&'a HostPlan>)> {
    let mut groups: Vec<(String, Vec<&HostPlan>)> = Vec::new();
    for host in hosts {
        let text = text(host);
        match groups
            .iter_mut()
            .find(|(known, others)| *known == text && others[0].base == host.base)
        {
            Some((_, others)) => others.push(host),
            None => groups.push((text, vec![host])),
        }
    }
    groups
}

fn heading(hosts: &[&HostPlan]) -> String {
    let names: Vec<String> = hosts.iter().map(|plan| paint(TITLE, &plan.host)).collect();
    match names.len() {
        1 => names.concat(),
        many => format!("{} ({many} hosts)", names.join(", ")),
    }
}

/// Everything about one host.
pub(super) fn body(plan: &HostPlan) -> String {
    let mut table = Table::new();
    apps(&mut table, plan);
    for (name, change) in &plan.units {
        row(&mut table, change, ["unit", name.as_str()], unit(change));
    }
    for (app, change) in &plan.sites {
        row(&mut table, change, ["site", app.as_str()], String::new());
    }
    firewall(&mut table, plan);
    for (path, change) in &plan.files {
        row(&mut table, change, ["file", path.as_str()], file(change));
    }
    for (app, files) in &plan.secrets {
        for (name, change) in files {
            row(
                &mut table,
                change,
                ["secret", &format!("{app}/{name}")],
                secret(change),
            );
        }
    }
    let mut text = Text::new();
    text.block(table.render("  "));
    if plan.again {
        text.line(format_args!(
            "  {} all of it is applied again, changed or not",
            paint(CHANGED, "~")
        ));
    }
    notes(&mut text, plan);
    text.finish()
}

fn apps(table: &mut Table, plan: &HostPlan) {
    for (app, change) in &plan.releases {
        row(table, change, ["release", app.as_str()], release(change));
    }
    for (app, settings) in &plan.settings {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        cells(
            table,
            &paint(CHANGED, "~"),
            ["app", app.as_str()],
            settings.join(", "),
        );
    }
}

fn firewall(table: &mut Table, plan: &HostPlan) {
    if let Some(change) = &plan.firewall {
        let added = change
            .added
            .iter()
            .map(|rule| paint(GOOD, format!("+{rule}")));
        let removed = change
            .removed
            .iter()
            .map(|rule| paint(BAD, format!("-{rule}")));
        let ping = change
            .ping
            .as_ref()
            .and_then(|ping| ping.to)
            .map(|ping| match ping {
                Ping::Answered => "pings answered".to_owned(),
                Ping::Dropped => "pings dropped".to_owned(),
            });
        let logins = change
            .logins
            .as_ref()
            .map(|logins| match logins.to.unwrap_or_default() {
                Logins::Limited => format!("at most {LOGINS_PER_MINUTE} logins a minute each"),
                Logins::Unlimited => "logins unlimited".to_owned(),
            });
        let rules: Vec<String> = removed.chain(added).chain(ping).chain(logins).collect();
        row(table, &change.declared, ["firewall", ""], rules.join("  "));
    }
    let opened = "stays open for the operator, whatever the rules say";
    let closed = "closes: sshd is not there, and this push came in by another";
    let opened = plan.ways_in.iter().map(|port| (GOOD, "+", port, opened));
    let closed = plan.ways_closed.iter().map(|port| (BAD, "-", port, closed));
    for (style, sign, port, words) in opened.chain(closed) {
        let port = format!("{port}/tcp");
        cells(table, &paint(style, sign), ["way in", &port], words.into());
    }
}

/// What is run, what is risky, what stays, what is in the way, what travels.
fn notes(text: &mut Text, plan: &HostPlan) {
    let effects: Vec<String> = plan.effects.iter().map(ToString::to_string).collect();
    if !effects.is_empty() {
        text.line(format_args!(
            "  {} {}",
            paint(QUIET, "then:"),
            effects.join(", ")
        ));
    }
    for risk in &plan.risks {
        text.line(format_args!("  {} {risk}", paint(RISKY, "! risky:")));
    }
    if plan.is_risky() {
        text.line("           stays only if push gets in again over a new connection");
    }
    for stays in &plan.forward_only {
        text.line(format_args!(
            "  {} {stays}",
            paint(QUIET, "not taken back:")
        ));
    }
    if plan.bytes_max > 0 {
        text.line(format_args!(
            "  {} at most {}",
            paint(QUIET, "to send:"),
            measure::bytes(plan.bytes_max)
        ));
    }
    for refusal in &plan.refusals {
        text.line(format_args!(
            "  {} {}",
            paint(BAD, "✗ refused:"),
            foreign::line(&refusal.to_string())
        ));
        text.line(format_args!(
            "    {} {}",
            paint(HELP, "help:"),
            foreign::line(&refusal.help())
        ));
    }
}

fn row<T>(table: &mut Table, change: &Change<T>, [kind, name]: [&str; 2], words: String) {
    let mark = if change.is_added() {
        paint(GOOD, "+")
    } else if change.is_removed() {
        paint(BAD, "-")
    } else {
        paint(CHANGED, "~")
    };
    cells(table, &mark, [kind, name], words);
}

fn cells(table: &mut Table, mark: &str, [kind, name]: [&str; 2], words: String) {
    table.row([format!("{mark} {kind}"), foreign::line(name), words]);
}

fn release(change: &Change<ReleaseNote>) -> String {
    match (&change.from, &change.to) {
        (Some(from), Some(to)) => {
            format!(
                "{} → {} ({})",
                from.id,
                paint(TITLE, &to.id),
                measure::bytes(to.size)
            )
        }
        (None, Some(to)) => format!("{} ({})", paint(TITLE, &to.id), measure::bytes(to.size)),
        (Some(from), None) => format!(
            "{} goes out of service; its files stay until pruned, shared folders, if any, for good",
            from.id
        ),
        (None, None) => String::new(),
    }
}

/// Words only for what the name and the mark do not say: text that stays while something else changes.
fn unit(change: &Change<Unit>) -> String {
    let (Some(from), Some(to)) = (&change.from, &change.to) else {
        return String::new();
    };
    let mut words = Vec::new();
    if from.digest != to.digest {
        words.push("text".to_owned());
    }
    if from.wanted_by != to.wanted_by {
        words.push("started at boot".to_owned());
    }
    if from.runs != to.runs || from.on_release != to.on_release {
        words.push("when it runs".to_owned());
    }
    words.join(", ")
}

fn file(change: &Change<File>) -> String {
    let (Some(from), Some(to)) = (&change.from, &change.to) else {
        return String::new();
    };
    let mut words = Vec::new();
    if from.digest != to.digest {
        words.push("text".to_owned());
    }
    words.extend(arrow("owner", &from.owner, &to.owner));
    words.extend(arrow("group", &from.group, &to.group));
    words.extend(arrow(
        "mode",
        &format!("{:04o}", from.mode),
        &format!("{:04o}", to.mode),
    ));
    words.join(", ")
}

fn arrow<T: Display + PartialEq>(what: &str, from: &T, to: &T) -> Option<String> {
    (from != to).then(|| format!("{what} {from} → {to}"))
}

fn secret(change: &Change<Secret>) -> String {
    match (&change.from, &change.to) {
        (Some(from), Some(to)) if from.same_content(to) => {
            "the same content, sealed anew".to_owned()
        }
        (Some(_), Some(_)) => "other content".to_owned(),
        (None, _) | (_, None) => String::new(),
    }
}

/// Text diffs in colour. The lines come from templates and from hosts, so they are escaped.
fn unified(diffs: &[TextDiff]) -> String {
    let mut text = Text::new();
    for line in diffs.iter().flat_map(|diff| diff.unified.lines()) {
        let style = match line.as_bytes() {
            [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => TITLE,
            [b'+', ..] => GOOD,
            [b'-', ..] => BAD,
            [b'@', ..] => HELP,
            _ => anstyle::Style::new(),
        };
        text.line(format_args!(
            "  {}",
            paint(style, foreign::line(line).replace("\\x09", "\t"))
        ));
    }
    text.finish()
}

/// One line about everything.
fn summary(plan: &FleetPlan) -> String {
    let changing: Vec<&HostPlan> = plan
        .hosts
        .values()
        .filter(|host| !host.is_empty())
        .collect();
    if plan.hosts.is_empty() {
        return format!("{}: no plan could be made for any host", plan.environment);
    }
    let same = plan.hosts.len() - changing.len();
    if changing.is_empty() && !plan.drift.is_empty() {
        return format!(
            "{}: nothing to change, but {} not as pushed",
            plan.environment,
            match plan.drift.len() {
                1 => "1 host is".to_owned(),
                many => format!("{many} hosts are"),
            }
        );
    }
    if changing.is_empty() {
        return format!(
            "{}: nothing to do, {} as {} should be",
            plan.environment,
            measure::count(same, "host"),
            if same == 1 { "it" } else { "they" }
        );
    }
    let mut parts = vec![format!(
        "{} to change",
        measure::count(changing.len(), "host")
    )];
    let counted = |what: &str, number: usize| (number > 0).then(|| format!("{number} {what}"));
    parts.extend(counted("unchanged", same));
    let all = |wanted: fn(&Effect) -> bool| {
        changing
            .iter()
            .flat_map(|host| &host.effects)
            .filter(|effect| wanted(effect))
            .count()
    };
    let restarts = all(|effect| {
        matches!(
            effect,
            Effect::Restart(_) | Effect::RestartForeign(_) | Effect::RestartSocket(_)
        )
    });
    let reloads = all(|effect| {
        matches!(
            effect,
            Effect::Reload(_) | Effect::ReloadForeign(_) | Effect::ReloadNginx
        )
    });
    let stops = all(|effect| matches!(effect, Effect::Stop(_)));
    parts.extend((restarts > 0).then(|| measure::count(restarts, "restart")));
    parts.extend((reloads > 0).then(|| measure::count(reloads, "reload")));
    parts.extend((stops > 0).then(|| measure::count(stops, "stop")));
    let bytes: u64 = changing.iter().map(|host| host.bytes_max).sum();
    parts.extend((bytes > 0).then(|| format!("at most {} to send", measure::bytes(bytes))));
    let risky = changing.iter().filter(|host| host.is_risky()).count();
    parts.extend(
        (risky > 0).then(|| paint(RISKY, format!("risky on {}", measure::count(risky, "host")))),
    );
    let refused = changing.iter().filter(|host| host.is_refused()).count();
    parts.extend((refused > 0).then(|| {
        paint(
            BAD,
            format!("refused by {}", measure::count(refused, "host")),
        )
    }));
    format!("{}: {}", plan.environment, parts.join(", "))
}

#[cfg(test)]
mod tests;
