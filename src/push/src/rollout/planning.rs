//! One host's planning: its past and its texts are fetched as far as the intent wants them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::contact::{Contact, before_switch, failed};
use super::staging::off_the_async_threads;
use super::{Change, Intent, Known, Planned};
use crate::event::{Obstacle, ObstacleKind, Outcome};
use crate::name::HostName;
use crate::plan::Drift;

/// Holds what is wanted against what a host says. A host that is about to go down is refused.
pub async fn plan<I: Intent>(
    contact: &mut Contact,
    intent: Arc<I>,
) -> Result<Planned<I::Plan>, Outcome> {
    let mut known: Known = contact.known();
    let limit = intent.history_wanted();
    if limit > 0 {
        let history = contact.conversation.history(limit).await;
        known.history = history.map_err(|error| before_switch(&contact.access, &error))?;
    }
    if let Some(wanted) = intent.groundwork(&contact.host) {
        let lacking = contact.conversation.survey(wanted).await;
        known.lacking = lacking.map_err(|error| before_switch(&contact.access, &error))?;
    }
    if let Some((project, generation)) = intent.earlier(&known) {
        let earlier = contact.conversation.earlier(project, generation).await;
        known.earlier = earlier.map_err(|error| before_switch(&contact.access, &error))?;
    }
    let asks_for_drift = intent.looks_for_drift();
    let known = Arc::new(known);
    let seen = Arc::clone(&known);
    let planned = off_the_async_threads(move || intent.plan(&seen)).await;
    let mut proposal = planned.map_err(failed)?;
    if proposal.change == Change::Something && known.hello.facts.goes_down_soon(0).is_some() {
        proposal
            .refused
            .get_or_insert_with(|| shutdown(&contact.host));
    }
    let wanted = proposal.texts_wanted.clone();
    let texts = if wanted.is_empty() {
        BTreeMap::new()
    } else {
        let texts = contact.conversation.texts(wanted).await;
        texts.map_err(|error| before_switch(&contact.access, &error))?
    };
    let drift = if asks_for_drift && !known.hello.manifest.generation.is_none() {
        let lines = match contact.conversation.status().await {
            Ok(status) => status.drift,
            Err(error) if error.is_lost() => return Err(before_switch(&contact.access, &error)),
            // Whoever pushes may put it right.
            Err(error) => vec![format!("it cannot be looked at: {error}")],
        };
        Drift::of(&known.hello.manifest, lines)
    } else {
        Drift::default()
    };
    Ok(Planned {
        known,
        proposal,
        texts,
        drift,
    })
}

fn shutdown(host: &HostName) -> Obstacle {
    Obstacle {
        kind: ObstacleKind::Gate,
        code: "push::rollout::shutdown_scheduled".into(),
        why: format!("a shutdown or reboot of {host} is scheduled, and comes too soon for a push"),
        help: format!("wait for it, or cancel it there with `shutdown -c`, then push {host} again"),
    }
}
