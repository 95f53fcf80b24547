//! One host's staging: what it lacks travels, the new generation is built and checked. Nothing is
//! live; whatever happens here, the host goes on as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use push_wire::frame::DEAD_AFTER;
use push_wire::message::{Refusal, Request};
use push_wire::name::GenerationId;
use tokio::time::Instant;

use super::contact::{Contact, before_switch, failed, ms};
use super::patience::Patience;
use super::{Access, Intent, Planned};
use crate::conversation::{Ears, Error, PackSource, Permit, Staging};
use crate::event::{Obstacle, ObstacleKind, Outcome, Phase, Step};
use crate::name::HostName;

/// How often a host is staged again on a new connection after the last one was lost.
pub const CONNECTIONS_MAX: u32 = 3;

/// How often a host that was lost is called until it answers: its sshd may just be restarting, or
/// the host booting.
const CALLS_MAX: u32 = 5;

/// The pause before such a call is repeated; it doubles.
const CALL_PAUSE: Duration = Duration::from_millis(500);

/// How often one staging may ask for contents: once, and once more after some did not arrive whole.
pub const PACKS_MAX: u32 = 2;

/// How long a host may go on holding its lock for a connection of this push that was lost: until it has
/// noticed, and once more for one that is slow.
pub const OWN_LOCK_MAX: Duration = DEAD_AFTER.saturating_mul(2);

/// What a connection that was lost while staging means for the host.
const RESUMED: &str = "nothing is switched there, and what has arrived is kept for an hour or more: push again, and the upload goes on from there";

/// The shortest time between two tellings of how far a pack is.
const TELL_PAUSE_MS: u64 = 200;

/// Why staging came to nothing.
enum Trouble {
    Conversation(Error),
    Obstacle(Obstacle),
    Refused(Box<Refusal>),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Conversation(error)
    }
}

/// Stages what `intent` wants on a host. Returns the number of the staged generation.
pub async fn stage<I: Intent>(
    contact: &mut Contact,
    intent: &Arc<I>,
    planned: &Arc<Planned<I::Plan>>,
    patience: Patience,
) -> Result<GenerationId, Outcome> {
    let (mut lost, mut patience) = (0, patience);
    loop {
        let tried = try_stage(contact, intent, planned).await;
        match tried {
            Ok(generation) => return Ok(generation),
            Err(Trouble::Refused(refusal)) => match *refusal {
                Refusal::Locked(holder) => {
                    let at = (contact.access.as_ref(), &contact.host);
                    patience.wait(at, holder).await?;
                }
                other => {
                    let refusal = Box::new(other);
                    return Err(Outcome::Refused { refusal });
                }
            },
            Err(Trouble::Obstacle(obstacle)) => return Err(failed(obstacle)),
            Err(Trouble::Conversation(error)) => {
                lost += 1;
                call_again(contact, error, lost).await?;
                patience.at_least(OWN_LOCK_MAX);
            }
        }
    }
}

/// Calls a host for the first time, and has it say what it is once nobody is at it: what is on trial there
/// may not stay, so nothing is held against that. Without patience, a host with a transaction under way is
/// locked; one that somebody only stages on is as it says, and refuses by itself to be staged on.
pub async fn meet(
    access: Arc<Access>,
    host: HostName,
    permit: Permit<'_>,
    patience: &Patience,
) -> Result<Contact, Outcome> {
    let mut patience = patience.clone();
    let contact = loop {
        // A push-host that somebody is at is not replaced either.
        match Contact::make(Arc::clone(&access), host.clone(), permit).await {
            Err(Outcome::Locked { holder, .. }) => patience.wait((&access, &host), holder).await?,
            met => break met?,
        }
    };
    Box::pin(settled(contact, patience)).await
}

/// The contact, once nobody is at its host.
async fn settled(mut contact: Contact, mut patience: Patience) -> Result<Contact, Outcome> {
    while let Some(holder) = contact.conversation.hello().running.clone() {
        if holder.transaction.is_none() && patience.is_over() {
            break;
        }
        let at = (contact.access.as_ref(), &contact.host);
        let waited = match patience.wait(at, holder).await {
            Ok(()) => contact.renew().await,
            Err(locked) => {
                contact.end().await;
                return Err(locked);
            }
        };
        match waited {
            Ok(()) => {}
            // The one who is at it may be at sshd or the firewall, and take that back.
            Err(error) if error.is_lost() && !patience.is_over() => {}
            Err(error) => {
                let outcome = before_switch(&contact.access, &error);
                contact.end().await;
                return Err(outcome);
            }
        }
    }
    Ok(contact)
}

async fn call_again(contact: &mut Contact, error: Error, lost: u32) -> Result<(), Outcome> {
    if !error.is_lost() {
        return Err(before_switch(&contact.access, &error));
    }
    if lost >= CONNECTIONS_MAX {
        return Err(given_up(&contact.access, &error));
    }
    let reconnecting = Step::Reconnecting {
        during: Phase::Staging,
        attempt: lost,
        why: error.to_string(),
    };
    contact.access.tell(&contact.host, reconnecting);
    let mut pause = CALL_PAUSE;
    for _ in 1..CALLS_MAX {
        match contact.renew().await {
            Ok(()) => return Ok(()),
            // Somebody answered: asking again makes it no better, and sshd punishes who insists.
            Err(error) if !error.is_lost() => return Err(before_switch(&contact.access, &error)),
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause *= 2;
    }
    let last = contact.renew().await;
    last.map_err(|error| given_up(&contact.access, &error))
}

/// The outcome of a host that was lost while staging and is not called any more.
fn given_up(access: &Access, error: &Error) -> Outcome {
    let mut outcome = before_switch(access, error);
    if let Outcome::Unreachable { obstacle } | Outcome::Failed { obstacle } = &mut outcome {
        obstacle.help = format!("{RESUMED}\n{}", obstacle.help);
    }
    outcome
}

async fn try_stage<I: Intent>(
    contact: &mut Contact,
    intent: &Arc<I>,
    planned: &Arc<Planned<I::Plan>>,
) -> Result<GenerationId, Trouble> {
    let request = request(intent, planned).await?;
    let mut damaged = None;
    for _ in 0..PACKS_MAX {
        if contact.conversation.is_over() {
            contact.renew().await?;
        }
        let working = contact.working();
        let mut staging = contact.conversation.stage(&request, &working).await?;
        if let Staging::Missing { files, partial } = staging {
            let wanted = Arc::clone(intent);
            let pack = blocking(move || wanted.pack(&files)).await?;
            let held = partial.get(&pack.digest()).copied().unwrap_or(0);
            // More than there is would mean that it is another pack: from the start, then.
            let held = if held <= pack.bytes() { held } else { 0 };
            staging = send(contact, &pack, held).await?;
        }
        match staging {
            Staging::Staged {
                generation,
                warnings,
            } => {
                let checked = Step::Checked {
                    generation,
                    warnings,
                };
                contact.access.tell(&contact.host, checked);
                return Ok(generation);
            }
            Staging::Refused(refusal) => match *refusal {
                // What did not arrive whole is sent once more.
                Refusal::Corrupt { what } => damaged = Some(what),
                other => return Err(Trouble::Refused(Box::new(other))),
            },
            // The host tells what else it lacks when it is asked anew.
            Staging::Missing { .. } => {}
        }
    }
    let what = damaged.unwrap_or_else(|| "what the host asks for again and again".to_owned());
    Err(Trouble::Refused(Box::new(Refusal::Corrupt { what })))
}

async fn request<I: Intent>(
    intent: &Arc<I>,
    planned: &Arc<Planned<I::Plan>>,
) -> Result<Request, Trouble> {
    let (intent, planned) = (Arc::clone(intent), Arc::clone(planned));
    blocking(move || intent.request(&planned.known, &planned.proposal.plan)).await
}

async fn send(
    contact: &mut Contact,
    pack: &Arc<dyn PackSource>,
    held: u64,
) -> Result<Staging, Error> {
    let (access, host) = (Arc::clone(&contact.access), contact.host.clone());
    let bytes = pack.bytes();
    access.tell(&host, Step::Staging { bytes, held });
    let began = Instant::now();
    let told_at = AtomicU64::new(0);
    let sent = |sent: u64| {
        let now = ms(began);
        if sent == bytes || now >= told_at.load(Ordering::Relaxed) + TELL_PAUSE_MS {
            told_at.store(now, Ordering::Relaxed);
            access.tell(&host, Step::Sent { sent, bytes });
        }
    };
    let working = contact.working();
    let ears = Ears {
        sent: &sent,
        working: &working,
    };
    contact.conversation.send(pack, held, ears).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Obstacle> + Send + 'static,
) -> Result<T, Trouble> {
    off_the_async_threads(work).await.map_err(Trouble::Obstacle)
}

/// Runs what blocks. A panic in it goes on in the caller.
pub async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Obstacle> + Send + 'static,
) -> Result<T, Obstacle> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Obstacle {
                kind: ObstacleKind::Start,
                code: "push::rollout::stopped".into(),
                why: error.to_string(),
                help: "run it again".into(),
            }),
        },
    }
}
