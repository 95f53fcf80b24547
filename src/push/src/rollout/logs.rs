//! The system's log of many hosts at once: its latest lines, and what comes after them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use push_wire::log::{Asked, Excerpt, LINES_MAX, Source};
use push_wire::manifest::Manifest;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;

use super::asking::{Answers, ask};
use super::contact::{Contact, before_switch};
use super::each::each;
use super::{Access, Outcome};
use crate::name::{AppName, HostName, ProjectName, UnitName};
use crate::transport::Pending;

/// How long after one look into a log the next one is taken.
const LOOK: Duration = Duration::from_secs(1);

/// What is wanted of each host's log.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose lines.
    pub of: Whose,
    /// At most so many to begin with.
    pub lines: u32,
}

/// Whose lines are wanted.
#[derive(Debug, Clone)]
pub enum Whose {
    /// A project's: of these apps, or of all that it has on a host where none is named.
    Project(ProjectName, BTreeSet<AppName>),
    /// These units', whoever declares them.
    Units(BTreeSet<UnitName>),
    /// push's own.
    Push,
}

impl Wanted {
    /// Whose lines that are on a host with this manifest.
    pub fn source(&self, manifest: &Manifest) -> Source {
        match &self.of {
            Whose::Push => Source::Push,
            Whose::Units(units) => Source::Units(units.clone()),
            Whose::Project(project, apps) => {
                let units = manifest.slice(project).into_iter();
                let units = units.flat_map(|slice| &slice.units);
                let wanted = units.filter(|(_, unit)| apps.is_empty() || apps.contains(&unit.app));
                Source::Units(wanted.map(|(name, _)| name.clone()).collect())
            }
        }
    }

    fn asked(&self, manifest: &Manifest, after: Option<String>) -> Asked {
        Asked {
            of: self.source(manifest),
            lines: if after.is_some() {
                LINES_MAX
            } else {
                self.lines
            },
            after,
        }
    }
}

/// The latest lines of each host's log.
pub async fn excerpts(access: Arc<Access>, wanted: Wanted) -> Answers<Excerpt> {
    ask(access, move |conversation| {
        let asked = wanted.asked(&conversation.hello().manifest, None);
        Box::pin(conversation.log(asked))
    })
    .await
}

/// What is heard of a host whose log is followed.
#[derive(Debug)]
pub enum Heard {
    /// What is new.
    Lines(Excerpt),
    /// Nothing any more: this became of it.
    Ended(Outcome),
}

/// Tells the latest lines of each host's log, and then what comes, until the operator has enough of it or
/// nobody hears it any more. A host that is lost is told of at once, and the others go on.
pub async fn follow(access: Arc<Access>, wanted: Wanted, heard: Sender<(HostName, Heard)>) {
    let (hosts, count) = (access.targets.clone(), access.targets.len());
    let turns = Arc::new(Semaphore::new(access.parallel));
    each(hosts, count, |host, _| {
        let (access, wanted, heard) = (Arc::clone(&access), wanted.clone(), heard.clone());
        let turns = Arc::clone(&turns);
        async move {
            let interrupt = access.interrupt.clone();
            let following = async {
                let contact = {
                    // The semaphore is never closed, so there is always a turn.
                    let _turn = turns.acquire().await;
                    let permit = || -> Pending<'static, _> { Box::pin(async { Ok(()) }) };
                    Contact::make(Arc::clone(&access), host.clone(), &permit).await?
                };
                listen(contact, &wanted, &heard).await
            };
            let ended = interrupt.unless_asked(following).await;
            if let Err(outcome) = ended.unwrap_or(Err(Outcome::Interrupted)) {
                // Whoever does not hear it has gone.
                let _ = heard.send((host, Heard::Ended(outcome))).await;
            }
        }
    })
    .await;
}

/// Listens to one host, as long as somebody hears it.
async fn listen(
    mut contact: Contact,
    wanted: &Wanted,
    heard: &Sender<(HostName, Heard)>,
) -> Result<(), Outcome> {
    let manifest = contact.conversation.hello().manifest.clone();
    let mut after = None;
    loop {
        let asked = wanted.asked(&manifest, after.clone());
        let excerpt = match contact.conversation.log(asked).await {
            Ok(excerpt) => excerpt,
            Err(error) => {
                let outcome = before_switch(&contact.access, &error);
                contact.end().await;
                return Err(outcome);
            }
        };
        after = excerpt.end.clone().or(after);
        let is_full = excerpt.lines.len() >= LINES_MAX as usize;
        let is_new = !excerpt.lines.is_empty() || excerpt.is_cut;
        let told = (contact.host.clone(), Heard::Lines(excerpt));
        if heard.is_closed() || (is_new && heard.send(told).await.is_err()) {
            contact.end().await;
            return Ok(());
        }
        if !is_full {
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_not_held_to_the_lines_that_were_wanted_first() {
        let wanted = Wanted {
            of: Whose::Push,
            lines: 1,
        };
        let manifest = Manifest::empty();
        assert_eq!(wanted.asked(&manifest, None).lines, 1);
        let after = Some("s=1".to_owned());
        assert_eq!(wanted.asked(&manifest, after).lines, LINES_MAX);
    }
}
