//! Brings a host that this push has committed back to what it was, because others failed (`undo`).
//! It is a push of its own on that host, with a verdict of its own.

use std::time::Duration;

use push_wire::manifest::{Provenance, Slice};
use push_wire::message::{Refusal, Request, Restage, Stage};
use push_wire::name::{GenerationId, ProjectName};
use tokio::time::Instant;

use super::contact::{Contact, obstacle};
use super::patience::LOCK_PAUSE;
use super::staging::OWN_LOCK_MAX;
use super::switching::{End, Order, switch};
use crate::conversation::{Error, Staging};
use crate::event::{Obstacle, ObstacleKind, Outcome, Restoration, Step};

/// What a host was, and what this push has made of it.
#[derive(Debug, Clone)]
pub struct Former {
    /// The project.
    pub project: ProjectName,
    /// The generation in effect before.
    pub from: GenerationId,
    /// The generation that this push has committed.
    pub committed: GenerationId,
    /// Whether the project declared anything there before.
    pub slice: Before,
    /// How long the operator has to come in again.
    pub confirm_within: Duration,
    /// Who asks.
    pub provenance: Provenance,
}

/// Whether a project declared anything on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It did.
    Declared,
    /// It was the project's first push there.
    Nothing,
}

/// Brings a host back.
pub async fn restore(contact: &mut Contact, former: &Former) -> Outcome {
    let to = former.from;
    contact.access.tell(&contact.host, Step::Restoring { to });
    let staged = match staged(contact, former).await {
        Ok(Staging::Staged { generation, .. }) => generation,
        Ok(Staging::Refused(refusal)) => {
            return not_restored(former, Restoration::Refused { refusal });
        }
        Ok(Staging::Missing { .. }) => return failed(former, incomplete()),
        Err(error) => return failed(former, obstacle(&contact.access, &error)),
    };
    let order = Order {
        to: staged,
        // What comes back may close the way in, and only the host could tell.
        confirm_within: Some(former.confirm_within),
    };
    match switch(contact, order).await.end {
        End::Committed => Outcome::Restored {
            content_of: former.from,
            now_at: staged,
        },
        End::TakenBack(cause) => not_restored(former, Restoration::TakenBack { cause }),
        End::Refused(refusal) => not_restored(former, Restoration::Refused { refusal }),
        End::NotOrdered(obstacle) | End::NeverArrived(obstacle) => failed(former, obstacle),
        End::Unknown { transaction, .. } => {
            not_restored(former, Restoration::InDoubt { transaction })
        }
    }
}

/// Stages the former slice; on a new connection if the one there was is lost.
async fn staged(contact: &mut Contact, former: &Former) -> Result<Staging, Error> {
    let request = request(contact, former);
    let working = contact.working();
    match contact.conversation.stage(&request, &working).await {
        Err(error) if error.is_lost() => contact.renew().await?,
        other => return other,
    }
    // The host may not have noticed yet that the other connection is lost.
    let until = Instant::now() + OWN_LOCK_MAX;
    loop {
        match contact.conversation.stage(&request, &working).await {
            Ok(Staging::Refused(refusal))
                if matches!(*refusal, Refusal::Locked(_)) && Instant::now() < until =>
            {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            other => return other,
        }
    }
}

fn request(contact: &Contact, former: &Former) -> Request {
    let way_in = contact.known().way_in;
    match former.slice {
        Before::Declared => Request::Restage(Restage {
            project: former.project.clone(),
            base: former.committed,
            to: former.from,
            provenance: former.provenance.clone(),
            way_in,
        }),
        Before::Nothing => Request::Stage(Box::new(Stage {
            project: former.project.clone(),
            base: former.committed,
            slice: Slice::default(),
            texts: [].into(),
            trees: [].into(),
            needs: [].into(),
            provenance: former.provenance.clone(),
            way_in,
        })),
    }
}

fn failed(former: &Former, obstacle: Obstacle) -> Outcome {
    not_restored(former, Restoration::Failed { obstacle })
}

fn not_restored(former: &Former, restoration: Restoration) -> Outcome {
    Outcome::NotRestored {
        committed: former.committed,
        restoration,
    }
}

fn incomplete() -> Obstacle {
    Obstacle {
        kind: ObstacleKind::Gate,
        code: "push::rollout::not_restored".into(),
        why: "the host no longer holds all files of its former generation".into(),
        help: "check out the commit that it was pushed from and run `push deploy`".into(),
    }
}
