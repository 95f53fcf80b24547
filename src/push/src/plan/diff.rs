//! The texts behind a plan, line by line.

use std::collections::BTreeMap;

use push_wire::digest::Digest;
use push_wire::message::Bytes;
use serde::Serialize;
use similar::TextDiff as Lines;

use super::{Change, HostPlan};
use crate::desired::Desired;

/// How many unchanged lines stand around a change.
const CONTEXT_LINES: usize = 3;

/// The largest text that is compared line by line, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// How one text changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TextDiff {
    /// What it is: `unit api.service`, `site api`, `file /etc/x`.
    pub what: String,
    /// A unified diff. The old lines come from the host: untrusted text.
    pub unified: String,
}

/// The changes of texts that a plan brings. `old` are the host's texts of [`HostPlan::old_texts`];
/// one that the host did not send is said to be unknown.
pub fn diffs(plan: &HostPlan, old: &BTreeMap<Digest, Bytes>, desired: &Desired) -> Vec<TextDiff> {
    let sides = Sides { old, desired };
    let units = plan.units.iter().map(|(name, change)| {
        let change = digests(change, |unit| unit.digest);
        sides.diff(format!("unit {name}"), &change)
    });
    let sites = plan.sites.iter().map(|(name, change)| {
        let change = digests(change, |site| site.digest);
        sides.diff(format!("site {name}"), &change)
    });
    let files = plan.files.iter().map(|(path, change)| {
        let change = digests(change, |file| file.digest);
        sides.diff(format!("file {path}"), &change)
    });
    units.chain(sites).chain(files).flatten().collect()
}

fn digests<T>(change: &Change<T>, digest: impl Fn(&T) -> Digest) -> Change<Digest> {
    Change {
        from: change.from.as_ref().map(&digest),
        to: change.to.as_ref().map(&digest),
    }
}

struct Sides<'a> {
    old: &'a BTreeMap<Digest, Bytes>,
    desired: &'a Desired,
}

impl Sides<'_> {
    /// `None` where only something beside the text changes.
    fn diff(&self, what: String, change: &Change<Digest>) -> Option<TextDiff> {
        if change.from == change.to {
            return None;
        }
        let from = text(change.from, |digest| self.old.get(digest));
        let to = text(change.to, |digest| self.desired.texts.get(digest));
        let unified = match (from, to) {
            (Ok(from), Ok(to)) => unified(&what, from, to),
            (Err(why), _) | (_, Err(why)) => format!("{what}: {why}\n"),
        };
        Some(TextDiff { what, unified })
    }
}

/// An absent side is the empty text.
fn text<'a>(
    side: Option<Digest>,
    find: impl Fn(&Digest) -> Option<&'a Bytes>,
) -> Result<&'a str, &'static str> {
    let Some(digest) = side else {
        return Ok("");
    };
    match find(&digest) {
        None => Err("its text is not known"),
        Some(Bytes(bytes)) if bytes.len() > TEXT_BYTES_MAX => Err("it is too large to compare"),
        Some(Bytes(bytes)) => {
            std::str::from_utf8(bytes).map_err(|_| "it changes, and is not UTF-8 text")
        }
    }
}

fn unified(what: &str, from: &str, to: &str) -> String {
    Lines::from_lines(from, to)
        .unified_diff()
        .context_radius(CONTEXT_LINES)
        .header(what, what)
        .to_string()
}
