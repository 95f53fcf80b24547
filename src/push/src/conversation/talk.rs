//! One method a request, each with the bound of its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use push_wire::digest::Digest;
use push_wire::groundwork::{Groundwork, Work};
use push_wire::journal::{Progress, State};
use push_wire::log;
use push_wire::manifest::Slice;
use push_wire::message::{Bytes, Hello, Refusal, Reply, Request, Status, Switch, Transaction};
use push_wire::name::{GenerationId, ProjectName, TransactionId};
use push_wire::upgrade::{Offer, Order, Record, Scope};
use tokio::time::{Instant, timeout};

use super::frames::{Reader, Writer};
use super::pack::next_frame;
use super::{Error, PackSource};

/// How long a host may compare what it is to hold with what it holds.
pub const STAGE_MAX: Duration = Duration::from_secs(120);

/// How long a host may unpack, make durable and check what it was sent.
pub const CHECK_MAX: Duration = Duration::from_secs(600);

/// How long packages and the like may take in all before anything is staged.
pub const WORK_MAX: Duration = Duration::from_secs(2 * 3600);

/// How long a host may take for a question that changes nothing.
pub const ANSWER_MAX: Duration = Duration::from_secs(60);

/// How long a running transaction may say nothing before it is called again: longer than nearly any effect
/// takes, since every probe of health is told. A unit that may take longer to stop and to start is waited for
/// over another such silence.
pub const SILENCE_MAX: Duration = Duration::from_secs(900);

/// How long a running upgrade may say nothing: a script of a package, or a health check, may take that long.
pub const UPGRADE_SILENCE_MAX: Duration = Duration::from_secs(2 * 3600);

/// How long push-host may take to end once nobody speaks to it any more.
const END_MAX: Duration = Duration::from_secs(5);

/// An open conversation: push-host has said Hello.
#[derive(Debug)]
pub struct Conversation {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) hello: Hello,
    pub(super) course: Course,
}

/// Whether a conversation can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// What was announced has been said.
    Open,
    /// A pack was announced and not sent to its end: the host would take a request for its rest.
    CutShort,
}

/// What comes of staging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staging {
    /// The host lacks contents.
    Missing {
        /// Files by digest.
        files: BTreeSet<Digest>,
        /// What it has of packs that did not arrive whole: digest, and bytes held.
        partial: BTreeMap<Digest, u64>,
    },
    /// The generation is complete, durable and checked.
    Staged {
        /// Its number.
        generation: GenerationId,
        /// Warnings of the tools that checked it. Untrusted text.
        warnings: Vec<String>,
    },
    /// Nothing was changed, for a reason.
    Refused(Box<Refusal>),
}

/// Who hears how a pack goes on.
#[derive(Clone, Copy)]
pub struct Ears<'a> {
    /// Hears how many bytes of the pack have been written.
    pub sent: &'a (dyn Fn(u64) + Sync),
    /// Hears of groundwork; untrusted text.
    pub working: &'a (dyn Fn(&str) + Sync),
}

/// What comes of asking what an upgrade would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// That.
    Offer(Box<Offer>),
    /// It cannot be told.
    Refused(Box<Refusal>),
}

/// What a host tells of an upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrading {
    /// It moves.
    Progress(Progress),
    /// It has ended, or waits for a reboot, or does not move any more.
    Stands(Box<Record>),
    /// It was not begun, or is not known.
    Refused(Box<Refusal>),
}

/// What a host tells of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It moves.
    Progress(Progress),
    /// It has ended, or is not known, or does not move any more.
    Verdict(Verdict),
    /// It was not begun.
    Refused(Box<Refusal>),
}

/// What a host's journal says of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The transaction.
    pub transaction: TransactionId,
    /// Its latest state; `None` when the journal does not know it.
    pub state: Option<State>,
}

impl Conversation {
    /// What the host said first.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Whether nothing more can be asked; whoever wants to opens another conversation.
    pub fn is_over(&self) -> bool {
        self.course == Course::CutShort
    }

    /// Asks to compose a generation: [`Request::Stage`] or [`Request::Restage`]. `working` hears of
    /// groundwork that comes first; untrusted text.
    pub async fn stage(
        &mut self,
        request: &Request,
        working: &(dyn Fn(&str) + Sync),
    ) -> Result<Staging, Error> {
        const DURING: &str = "comparing what it is to hold";
        self.writer.request(request, DURING).await?;
        self.staged(DURING, STAGE_MAX, working).await
    }

    /// What comes of staging once the groundwork is done, which takes as long as packages take.
    async fn staged(
        &mut self,
        during: &'static str,
        limit: Duration,
        working: &(dyn Fn(&str) + Sync),
    ) -> Result<Staging, Error> {
        let until = Instant::now() + WORK_MAX;
        let mut reply = self.answer(during, limit).await?;
        while let Reply::Working { what } = &reply {
            if Instant::now() >= until {
                break;
            }
            working(what);
            reply = self.answer("making the groundwork", CHECK_MAX).await?;
        }
        self.staging(reply, during)
    }

    /// Sends a pack from `offset` on and waits for what comes of it. A host that answers before all of it was sent is listened to;
    /// then the conversation is over.
    pub async fn send(
        &mut self,
        pack: &Arc<dyn PackSource>,
        offset: u64,
        ears: Ears<'_>,
    ) -> Result<Staging, Error> {
        const DURING: &str = "taking in what it lacks";
        let (digest, bytes) = (pack.digest(), pack.bytes());
        let request = Request::Pack {
            digest,
            bytes,
            offset,
        };
        self.writer.request(&request, DURING).await?;
        let host = &self.writer.host;
        tracing::info!(
            "{host}: a pack of {bytes} bytes goes there, {offset} of them are there already"
        );
        self.course = Course::CutShort;
        let mut at = offset;
        while let Some((frame, next)) = next_frame(pack, at, &self.writer.host).await? {
            tokio::select! {
                biased;
                early = self.reader.reply(DURING) => return self.staging(early?, DURING),
                written = self.writer.write(frame, DURING) => written?,
            }
            at = next;
            (ears.sent)(at);
        }
        self.course = Course::Open;
        self.staged("checking what it has got", CHECK_MAX, ears.working)
            .await
    }

    /// Tells the host to switch; then it is [`Self::told`] what happens.
    pub async fn switch(&mut self, switch: Switch) -> Result<(), Error> {
        self.writer
            .request(&Request::Switch(switch), "being told to switch")
            .await
    }

    /// Asks for all that has been and will be told of a transaction; then it is [`Self::told`].
    pub async fn watch(&mut self, transaction: TransactionId) -> Result<(), Error> {
        self.writer
            .request(
                &Request::Watch { transaction },
                "being asked for a transaction",
            )
            .await
    }

    /// The next thing that the host tells of its transaction. Nothing is lost when the future is
    /// dropped.
    pub async fn told(&mut self) -> Result<Told, Error> {
        const DURING: &str = "switching";
        match self.answer(DURING, SILENCE_MAX).await? {
            Reply::Progress(progress) => Ok(Told::Progress(progress)),
            Reply::Verdict { transaction, state } => {
                Ok(Told::Verdict(Verdict { transaction, state }))
            }
            Reply::Refused(refusal) => Ok(Told::Refused(refusal)),
            other => Err(self.unexpected(DURING, &other)),
        }
    }

    /// Says that the operator is here again. The host answers when the transaction has ended.
    pub async fn confirm(
        &mut self,
        transaction: TransactionId,
        nonce: String,
    ) -> Result<Told, Error> {
        let request = Request::Confirm { transaction, nonce };
        self.writer.request(&request, "being confirmed").await?;
        self.told().await
    }

    /// Asks to take a transaction back. The host answers when the transaction has ended.
    pub async fn take_back(&mut self, transaction: TransactionId) -> Result<Told, Error> {
        let request = Request::TakeBack { transaction };
        self.writer
            .request(&request, "being asked to take back")
            .await?;
        self.told().await
    }

    /// What is in effect.
    pub async fn status(&mut self) -> Result<Status, Error> {
        const DURING: &str = "telling its status";
        self.writer.request(&Request::Status, DURING).await?;
        match self.answer(DURING, ANSWER_MAX).await? {
            Reply::Status(status) => Ok(*status),
            other => Err(self.unexpected(DURING, &other)),
        }
    }

    /// What happened, the latest first, at most `limit` transactions.
    pub async fn history(&mut self, limit: u32) -> Result<Vec<Transaction>, Error> {
        const DURING: &str = "telling its history";
        self.writer
            .request(&Request::History { limit }, DURING)
            .await?;
        match self.answer(DURING, ANSWER_MAX).await? {
            Reply::History(transactions) => Ok(transactions),
            other => Err(self.unexpected(DURING, &other)),
        }
    }

    /// An excerpt of the host's system log.
    pub async fn log(&mut self, asked: log::Asked) -> Result<log::Excerpt, Error> {
        const DURING: &str = "telling its log";
        self.writer.request(&Request::Log(asked), DURING).await?;
        match self.answer(DURING, ANSWER_MAX).await? {
            Reply::Log(excerpt) => Ok(excerpt),
            other => Err(self.unexpected(DURING, &other)),
        }
    }

    /// What the host lacks of a groundwork.
    pub async fn survey(&mut self, wanted: Groundwork) -> Result<BTreeSet<Work>, Error> {
        const DURING: &str = "telling what it lacks";
        self.writer
            .request(&Request::Survey(wanted), DURING)
            .await?;
        match self.answer(DURING, ANSWER_MAX).await? {
            Reply::Survey(lacking) => Ok(lacking),
            other => Err(self.unexpected(DURING, &other)),
        }
    }

    /// What a project declared in an earlier generation. `None` also where a push-host that is older than
    /// this push does not know the question; then the conversation is over.
    pub async fn earlier(
        &mut self,
        project: ProjectName,
        generation: GenerationId,
    ) -> Result<Option<Box<Slice>>, Error> {
        const DURING: &str = "telling what it had";
        let request = Request::Earlier {
            project,
            generation,
        };
        self.writer.request(&request, DURING).await?;
        match self.answer(DURING, ANSWER_MAX).await? {
            Reply::Earlier(slice) => Ok(slice),
            Reply::Refused(_) => Ok(None),
            other => Err(self.unexpected(DURING, &other)),
        }
    }

    /// Texts of the current generation; those that are not what their digest says are left out.
    pub async fn texts(
        &mut self,
        digests: BTreeSet<Digest>,
    ) -> Result<BTreeMap<Digest, Bytes>, Error> {
        const DURING: &str = "sending texts";
        let request = Request::Texts {
            digests: digests.clone(),
        };
        self.writer.request(&request, DURING).await?;
        match self.answer(DURING, ANSWER_MAX).await? {
            Reply::Texts(mut texts) => {
                texts.retain(|digest, text| {
                    digests.contains(digest) && Digest::of(&text.0) == *digest
                });
                Ok(texts)
            }
            other => Err(self.unexpected(DURING, &other)),
        }
    }

    /// What an upgrade of the operating system would do, after the lists of packages have been fetched.
    /// `working` hears how that goes on; untrusted text.
    pub async fn offer(
        &mut self,
        scope: Scope,
        working: &(dyn Fn(&str) + Sync),
    ) -> Result<Offered, Error> {
        const DURING: &str = "telling what an upgrade would do";
        self.writer.request(&Request::Offer(scope), DURING).await?;
        let until = Instant::now() + WORK_MAX;
        loop {
            match self.answer(DURING, CHECK_MAX).await? {
                Reply::Working { what } if Instant::now() < until => working(&what),
                Reply::Offer(offer) => return Ok(Offered::Offer(offer)),
                Reply::Refused(refusal) => return Ok(Offered::Refused(refusal)),
                other => return Err(self.unexpected(DURING, &other)),
            }
        }
    }

    /// Orders an upgrade of the operating system, or asks how the one that was ordered goes on; then it is [`Self::upgrading`] what happens.
    pub async fn upgrade_system(&mut self, order: &Order) -> Result<(), Error> {
        let request = Request::UpgradeSystem(Box::new(order.clone()));
        self.writer.request(&request, "being told to upgrade").await
    }

    /// The next thing that the host tells of its upgrade. Nothing is lost when the future is dropped.
    pub async fn upgrading(&mut self) -> Result<Upgrading, Error> {
        const DURING: &str = "upgrading";
        match self.answer(DURING, UPGRADE_SILENCE_MAX).await? {
            Reply::Progress(progress) => Ok(Upgrading::Progress(progress)),
            Reply::Upgrade(record) => Ok(Upgrading::Stands(record)),
            Reply::Refused(refusal) => Ok(Upgrading::Refused(refusal)),
            other => Err(self.unexpected(DURING, &other)),
        }
    }

    /// Ends the conversation and gives push-host a moment to end.
    pub async fn end(self) {
        drop(self.writer);
        // How it ended does not matter any more: everything that was asked has been answered.
        let _ = self.reader.status(END_MAX).await;
    }

    pub(super) async fn answer(
        &mut self,
        during: &'static str,
        limit: Duration,
    ) -> Result<Reply, Error> {
        match timeout(limit, self.reader.reply(during)).await {
            Ok(reply) => reply,
            Err(_) => Err(Error::Silent {
                host: self.reader.host.clone(),
                during,
                waited: limit,
            }),
        }
    }

    fn staging(&self, reply: Reply, during: &'static str) -> Result<Staging, Error> {
        match reply {
            Reply::Missing { files, partial } => Ok(Staging::Missing { files, partial }),
            Reply::Staged {
                generation,
                warnings,
            } => Ok(Staging::Staged {
                generation,
                warnings,
            }),
            Reply::Refused(refusal) => Ok(Staging::Refused(refusal)),
            other => Err(self.unexpected(during, &other)),
        }
    }

    fn unexpected(&self, during: &'static str, reply: &Reply) -> Error {
        let host = self.reader.host.clone();
        match reply {
            Reply::Refused(refusal) => Error::Refused {
                host,
                during,
                refusal: refusal.clone(),
            },
            other => Error::Unexpected {
                host,
                during,
                found: kind(other),
            },
        }
    }
}

/// What a request is, for whoever looks for a fault. Never what it holds: some of it is secret.
pub(super) fn asked(request: &Request) -> &'static str {
    match request {
        Request::Upgrade { .. } => "upgrade",
        Request::Stage(_) => "stage",
        Request::Restage(_) => "restage",
        Request::Pack { .. } => "pack",
        Request::Switch(_) => "switch",
        Request::Confirm { .. } => "confirm",
        Request::TakeBack { .. } => "take back",
        Request::Watch { .. } => "watch",
        Request::Status => "status",
        Request::History { .. } => "history",
        Request::Log(_) => "log",
        Request::Texts { .. } => "texts",
        Request::Survey(_) => "survey",
        Request::Earlier { .. } => "earlier",
        Request::Offer(_) => "offer",
        Request::UpgradeSystem(_) => "upgrade the system",
    }
}

/// What a reply is, for messages.
pub(super) fn kind(reply: &Reply) -> &'static str {
    match reply {
        Reply::Hello(_) => "a greeting",
        Reply::Missing { .. } => "what it lacks",
        Reply::Staged { .. } => "a staged generation",
        Reply::Working { .. } => "work under way",
        Reply::Survey(_) => "what it lacks of the groundwork",
        Reply::Earlier(_) => "what it had",
        Reply::Refused(_) => "a refusal",
        Reply::Progress(_) => "progress",
        Reply::Verdict { .. } => "a verdict",
        Reply::Status(_) => "its status",
        Reply::History(_) => "its history",
        Reply::Log(_) => "a part of its log",
        Reply::Texts(_) => "texts",
        Reply::Offer(_) => "an offer of packages",
        Reply::Upgrade(_) => "an upgrade's record",
    }
}
