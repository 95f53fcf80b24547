//! What happened on a host, transaction by transaction, the latest first.

use push_wire::journal::State;
use push_wire::message::Transaction;
use push_wire::name::GenerationId;

use super::style::{BAD, CHANGED, GOOD, QUIET, TITLE, paint};
use super::table::Table;
use super::text::Text;
use super::{failure, foreign, measure};

/// What one host answered.
#[derive(Debug)]
pub struct Past<'a> {
    /// The host.
    pub host: &'a str,
    /// The generation in effect.
    pub current: GenerationId,
    /// The host's clock, seconds since 1970.
    pub now_unix_s: u64,
    /// Its transactions, the latest first.
    pub transactions: &'a [Transaction],
}

/// The table of one host.
pub fn history(past: &Past<'_>) -> String {
    let mut text = Text::new();
    text.line(paint(TITLE, past.host));
    if past.transactions.is_empty() {
        text.line("  nothing was ever pushed here");
        return text.finish();
    }
    let mut table = Table::new();
    table.row(["", "WHEN", "", "BY", "COMMIT", "RESULT"].map(|head| paint(QUIET, head)));
    for transaction in past.transactions {
        row(&mut table, past, transaction);
    }
    text.block(table.render("  "));
    text.finish()
}

fn row(table: &mut Table, past: &Past<'_>, transaction: &Transaction) {
    let (first, last) = (&transaction.first, &transaction.last);
    let Some(about) = first.about.as_ref().or(last.about.as_ref()) else {
        table.note(paint(
            QUIET,
            format!(
                "transaction {} has no beginning in the journal",
                first.transaction
            ),
        ));
        return;
    };
    let mut result = vec![verdict(&last.state)];
    if let Some(restored) = about.restores {
        result.push(format!("back to what {restored} was"));
    }
    if about.to == past.current && last.state.is_committed() {
        result.push(paint(TITLE, "in effect"));
    } else if last.state.is_committed() && !transaction.there {
        result.push(paint(QUIET, "pruned"));
    }
    table.row([
        format!("{:>4}", about.to.0),
        measure::ago(first.at_unix_s, past.now_unix_s),
        paint(QUIET, measure::utc(first.at_unix_s)),
        foreign::line(&about.provenance.operator),
        about
            .provenance
            .commit
            .as_deref()
            .map_or_else(|| "-".to_owned(), foreign::commit),
        result.join(", "),
    ]);
    if !transaction.releases.is_empty() {
        let releases: Vec<String> = transaction
            .releases
            .iter()
            .map(|(app, release)| format!("{app} {}", foreign::line(release)))
            .collect();
        table.note(format!("      {}", paint(QUIET, releases.join(", "))));
    }
}

/// How a transaction ended, or where it stands.
pub fn verdict(state: &State) -> String {
    match state {
        State::Committed => paint(GOOD, "committed"),
        State::TakenBack(cause) => {
            format!("{}: {}", paint(BAD, "taken back"), failure::cause(cause))
        }
        State::Prepared => paint(CHANGED, "staged, not switched"),
        State::Switching => paint(CHANGED, "switching"),
        State::Probation(_) => paint(CHANGED, "in probation"),
        State::TakingBack(cause) => format!(
            "{}: {}",
            paint(CHANGED, "taking back"),
            failure::cause(cause)
        ),
    }
}

/// The same without colour.
pub fn plain_verdict(state: &State) -> String {
    anstream::adapter::strip_str(&verdict(state)).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use push_wire::digest::Digest;
    use push_wire::journal::{About, Cause, Record};
    use push_wire::manifest::Provenance;

    use super::*;

    fn transaction(to: u64, at_unix_s: u64, restores: Option<u64>, state: State) -> Transaction {
        let about = About {
            from: GenerationId(to - 1),
            to: GenerationId(to),
            project: "shop".parse().unwrap(),
            restores: restores.map(GenerationId),
            provenance: Provenance {
                environment: "prod".into(),
                operator: "anna".into(),
                commit: Some("3f2a91c".into()),
                at_unix_s,
                push_version: "0.1.0".into(),
                push: String::new(),
            },
            confirm_within_ms: None,
            nonce: Digest::of(""),
        };
        let record = |state, about| Record {
            sequence: to,
            transaction: format!("t{to}").parse().unwrap(),
            at_unix_s,
            state,
            about,
        };
        Transaction {
            first: record(State::Prepared, Some(about)),
            last: record(state, None),
            releases: BTreeMap::from([("api".parse().unwrap(), "20261120T101500Z-3f2a91c".into())]),
            there: to > 2,
        }
    }

    #[test]
    fn history_says_who_brought_what_when_and_how_it_ended() {
        let unhealthy = Cause::Unhealthy {
            app: "api".into(),
            why: "HTTP 503\x1b[31m".into(),
        };
        let transactions = [
            transaction(4, 1_795_169_700, Some(2), State::Committed),
            transaction(3, 1_795_160_000, None, State::TakenBack(unhealthy)),
            transaction(2, 1_795_000_000, None, State::Committed),
        ];
        let text = history(&Past {
            host: "web1",
            current: GenerationId(4),
            now_unix_s: 1_795_170_000,
            transactions: &transactions,
        });
        insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string(), @r#"
        web1
                WHEN                             BY    COMMIT   RESULT
             4  5 min ago  2026-11-20 10:15:00Z  anna  3f2a91c  committed, back to what 2 was, in effect
                api 20261120T101500Z-3f2a91c
             3  2 h ago    2026-11-20 07:33:20Z  anna  3f2a91c  taken back: api did not become healthy: HTTP 503\x1b[31m
                api 20261120T101500Z-3f2a91c
             2  1 d ago    2026-11-18 11:06:40Z  anna  3f2a91c  committed, pruned
                api 20261120T101500Z-3f2a91c
        "#);
    }
}
