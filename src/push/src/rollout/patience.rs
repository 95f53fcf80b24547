//! How long a push waits for another one that holds a host, and what it tells meanwhile.

use std::time::Duration;

use push_wire::message::Holder;
use tokio::time::Instant;

use super::Access;
use crate::event::{Outcome, Step, Whose};
use crate::name::HostName;

/// The pause before a locked host is asked again.
pub const LOCK_PAUSE: Duration = Duration::from_secs(2);

/// How long a push waits for another one that holds a host.
#[derive(Debug, Clone)]
pub struct Patience {
    until: Instant,
    /// The name of this push, by which it knows itself in a host's words.
    push: String,
    /// Who was waited for last, so that each of their steps is told once.
    told: Option<Holder>,
}

impl Patience {
    /// The push of this name waits for so long from now on.
    pub fn of(wait: Duration, push: &str) -> Self {
        Self {
            until: Instant::now() + wait,
            push: push.to_owned(),
            told: None,
        }
    }

    /// Waits at least for so long from now on.
    pub fn at_least(&mut self, wait: Duration) {
        self.until = self.until.max(Instant::now() + wait);
    }

    /// Whether nobody waits any more.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Waits for a moment for whoever holds a host; when nobody waits any more, that is its outcome.
    pub async fn wait(
        &mut self,
        (access, host): (&Access, &HostName),
        holder: Holder,
    ) -> Result<(), Outcome> {
        let whose = whose(&holder, &self.push);
        if self.is_over() {
            return Err(Outcome::Locked { holder, whose });
        }
        let told = self.told.as_ref();
        if told.is_none_or(|told| !is_the_same(told, &holder)) {
            self.told = Some(holder.clone());
            access.tell(host, Step::Waiting { holder, whose });
        }
        tokio::time::sleep(LOCK_PAUSE).await;
        Ok(())
    }
}

/// Whose push `holder` is, seen from the push called `push`.
pub fn whose(holder: &Holder, push: &str) -> Whose {
    if !push.is_empty() && holder.push == push {
        Whose::Ours
    } else {
        Whose::Others
    }
}

/// Whether the same push is at the same step as before.
fn is_the_same(before: &Holder, now: &Holder) -> bool {
    (&before.operator, &before.push, &before.step) == (&now.operator, &now.push, &now.step)
}
