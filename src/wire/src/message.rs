//! Requests of the laptop and replies of the host. One request is answered by one reply, except
//! [`Request::Switch`] and [`Request::Watch`]: any number of [`Reply::Progress`], then a verdict;
//! that what is staged with groundwork, and [`Request::Offer`], is told of by any number of
//! [`Reply::Working`] first; and that an upgrade of the operating system is any number of
//! [`Reply::Progress`], then [`Reply::Upgrade`].
//!
//! ```text
//! laptop                                   host
//!                                  ◀─ Hello        unasked, as soon as `push-host serve` runs
//! [Upgrade + contents              ─▶ exec, Hello] only when push-host is older
//! [Survey                          ─▶
//!                                  ◀─ Survey]      what is lacking of the groundwork
//! [Earlier                         ─▶
//!                                  ◀─ Earlier]     what a generation to go back to declares
//! Stage, or Restage                ─▶              composes, compares, claims
//!                                  ◀─ Missing | Working … Staged | Refused
//! [Pack + contents                 ─▶]
//!                                  ◀─ Working … Staged | Refused
//! Switch                           ─▶
//!                                  ◀─ Progress …  Verdict
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::facts::{Facts, Needs, Program};
use crate::groundwork::{Groundwork, Work};
use crate::journal::{Progress, Record, State, UnitState};
use crate::log;
use crate::manifest::{Claim, Manifest, Provenance, Slice};
use crate::name::{AppName, GenerationId, ProjectName, TransactionId, UserName};
use crate::path::HostPath;
use crate::tree::Tree;
use crate::upgrade;

/// What the laptop asks of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Replace push-host by the program whose gzipped bytes follow, then say Hello again.
    Upgrade {
        /// The SHA-256 of the program, unpacked.
        digest: Digest,
        /// The bytes that follow as contents.
        packed_bytes: u64,
    },
    /// Compose and check a new generation in which a project's slice is replaced.
    Stage(Box<Stage>),
    /// Compose and check a new generation in which a project's slice is as it was before.
    Restage(Restage),
    /// The contents that were missing follow, as one zstd stream of [`crate::frame::PackEntry`]s.
    Pack {
        /// The SHA-256 of the packed bytes; what arrived of it earlier is not sent again.
        digest: Digest,
        /// The size of the whole pack in bytes.
        bytes: u64,
        /// Where the following contents start.
        offset: u64,
    },
    /// Carry out the switch to the generation that was staged on this connection.
    Switch(Switch),
    /// Come in again: the operator of this transaction is here, over a new connection.
    Confirm {
        /// The transaction.
        transaction: TransactionId,
        /// What only its operator knows.
        nonce: String,
    },
    /// Take a transaction back unless it is already committed.
    TakeBack {
        /// The transaction.
        transaction: TransactionId,
    },
    /// Tell how a transaction goes on, from its first progress to its verdict.
    Watch {
        /// The transaction.
        transaction: TransactionId,
    },
    /// Tell what is in effect now.
    Status,
    /// Tell what happened, the latest first.
    History {
        /// At most so many transactions.
        limit: u32,
    },
    /// Send an excerpt of the system's log.
    Log(log::Asked),
    /// Tell what of this groundwork the host lacks.
    Survey(Groundwork),
    /// Tell what a project declared in an earlier generation.
    Earlier {
        /// The project.
        project: ProjectName,
        /// The generation.
        generation: GenerationId,
    },
    /// Send the texts of these digests that the current generation holds.
    Texts {
        /// Which.
        digests: BTreeSet<Digest>,
    },
    /// Fetch the lists of packages, and tell what an upgrade of the operating system would do.
    Offer(upgrade::Scope),
    /// Upgrade the operating system, and tell how that goes on, from its first progress since boot to its end.
    /// Ordered again, it is told again and not done again; one that nobody carries on is taken up.
    UpgradeSystem(Box<upgrade::Order>),
}

/// A new slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// The project whose slice it is.
    pub project: ProjectName,
    /// The generation that the plan was made against; another one found is refused as stale.
    pub base: GenerationId,
    /// The slice; a slice without anything removes the project from the host.
    pub slice: Slice,
    /// Rendered texts and sealed secrets that the host does not hold in its current generation.
    /// The bytes are base64 in JSON.
    pub texts: BTreeMap<Digest, Bytes>,
    /// The listings of releases that the host does not have.
    pub trees: BTreeMap<Digest, Tree>,
    /// What each app's programs need.
    pub needs: BTreeMap<AppName, Needs>,
    /// Who pushes.
    pub provenance: Provenance,
    /// The port that the operator came in by, as the laptop dialled it.
    pub way_in: u16,
}

/// A slice as an earlier generation had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restage {
    /// The project.
    pub project: ProjectName,
    /// The generation that the plan was made against.
    pub base: GenerationId,
    /// The generation to go back to.
    pub to: GenerationId,
    /// Who asks.
    pub provenance: Provenance,
    /// The port that the operator came in by, as the laptop dialled it.
    pub way_in: u16,
}

/// How a switch is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// The staged generation.
    pub generation: GenerationId,
    /// A name for this run, never used before.
    pub transaction: TransactionId,
    /// The SHA-256 of the nonce that a confirmation will carry.
    pub nonce: Digest,
    /// How long the operator has to come in again, in milliseconds; `None` when health alone
    /// decides.
    pub confirm_within_ms: Option<u64>,
}

/// What a host answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Who is there.
    Hello(Box<Hello>),
    /// What the host lacks of the staged releases.
    Missing {
        /// Files by digest.
        files: BTreeSet<Digest>,
        /// Packs of which a part is there already: digest, and bytes held.
        partial: BTreeMap<Digest, u64>,
    },
    /// The generation is complete, durable and checked. Nothing is live.
    Staged {
        /// Its number.
        generation: GenerationId,
        /// Warnings of the tools that checked it. Untrusted text.
        warnings: Vec<String>,
    },
    /// Nothing was changed, for a reason.
    Refused(Box<Refusal>),
    /// A transaction moves.
    Progress(Progress),
    /// How a transaction ended, or that it has not.
    Verdict {
        /// The transaction.
        transaction: TransactionId,
        /// Its latest state in the journal; `None` when the journal does not know it.
        state: Option<State>,
    },
    /// Groundwork is under way, before anything else is staged; another reply follows.
    Working {
        /// What it is at. Untrusted text.
        what: String,
    },
    /// What a host lacks of the groundwork that it was asked about.
    Survey(BTreeSet<Work>),
    /// What a project declared in an earlier generation; `None` when that is gone, is not as push left
    /// it, or has nothing of the project.
    Earlier(Option<Box<Slice>>),
    /// What is in effect.
    Status(Box<Status>),
    /// What happened.
    History(Vec<Transaction>),
    /// What the log holds of what was asked for.
    Log(log::Excerpt),
    /// The texts that were asked for and are there.
    Texts(BTreeMap<Digest, Bytes>),
    /// What an upgrade of the operating system would do.
    Offer(Box<upgrade::Offer>),
    /// What the host remembers of an upgrade that has ended, or that waits for a reboot.
    Upgrade(Box<upgrade::Record>),
}

/// A host's first word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL`] of the host.
    pub protocol: u16,
    /// The program that speaks.
    pub program: Program,
    /// The host.
    pub facts: Facts,
    /// What is in effect; [`Manifest::empty`] before the first push.
    pub manifest: Manifest,
    /// The transaction that has not ended yet, if one runs.
    pub running: Option<Holder>,
    /// The key under which fingerprints of secrets are made, 32 bytes in hexadecimal. Known to root
    /// on the host and to whoever may push there, and to nobody else.
    pub fingerprint_key: String,
    /// The releases that are whole on this host, by app and tree: none of their files are missing.
    pub releases: BTreeMap<AppName, BTreeMap<Digest, String>>,
    /// The highest generation number ever used here.
    pub highest: GenerationId,
    /// Texts of the generation in effect, sealed secrets among them, that somebody changed in place and
    /// that no generation holds any more as they were declared: whoever wants them brings them.
    #[serde(default)]
    pub lost: BTreeSet<Digest>,
    /// A transaction that was found unfinished with nobody to carry it on, and was recovered for that.
    pub recovered: Option<Recovered>,
}

/// A transaction that a session had recovered before it said Hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// The transaction.
    pub transaction: TransactionId,
    /// How it stood when Hello was said; a recovery that takes long goes on.
    pub state: State,
}

/// Who holds a host's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The operator.
    pub operator: String,
    /// Since when, seconds since 1970 by the host's clock.
    pub since_unix_s: u64,
    /// What it is doing.
    pub step: String,
    /// The transaction, once there is one.
    pub transaction: Option<TransactionId>,
    /// The run of push, as [`Provenance::push`] names it; empty where that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub push: String,
}

/// Why a host changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The host is not where the plan saw it.
    Stale {
        /// What the plan saw.
        expected: GenerationId,
        /// What is there.
        found: GenerationId,
    },
    /// The host goes down before the switch has surely ended.
    GoesDown {
        /// When, seconds since 1970 by the host's own clock.
        at_unix_s: u64,
    },
    /// Somebody else is at it.
    Locked(Holder),
    /// Another slice has what this one wants.
    Claimed(Vec<Claim>),
    /// Paths that exist, differ, and are not push's.
    Occupied(Vec<HostPath>),
    /// A path on which somebody else than root decides what is there: root writes nothing below it.
    Unsafe {
        /// Which.
        path: String,
        /// Who decides.
        why: String,
    },
    /// Not enough room.
    Room {
        /// The folder.
        folder: String,
        /// What is missing.
        why: String,
    },
    /// An app's programs would not start here.
    Needs {
        /// The app.
        app: AppName,
        /// What is not there.
        why: String,
    },
    /// A file is to belong to a user that the host does not know.
    NoUser {
        /// The file.
        path: HostPath,
        /// Its declared owner.
        owner: UserName,
    },
    /// A file is to belong to a group that the host does not know.
    NoGroup {
        /// The file.
        path: HostPath,
        /// Its declared group.
        group: UserName,
    },
    /// A tool that the slice needs is not installed.
    Tool {
        /// The tool, such as `nginx`.
        tool: String,
        /// What needs it.
        needed_for: String,
    },
    /// Groundwork could not be done. What was done of it stays.
    Groundwork {
        /// The piece.
        what: String,
        /// What the tools said. Untrusted text.
        output: String,
    },
    /// apt or dpkg cannot be asked, or did not do what was asked.
    Packages {
        /// What could not be done, in words of push.
        what: String,
        /// What the tools said. Untrusted text.
        output: String,
    },
    /// A certificate is not to be had. Another one is not touched.
    Certificate {
        /// For which names, from whom.
        what: String,
        /// What was said. Untrusted text.
        output: String,
    },
    /// A real tool refused the composed result.
    Check {
        /// The command.
        tool: String,
        /// What it printed. Untrusted text.
        output: String,
    },
    /// nginx was asked what it would read, and it would not read what includes the sites.
    NotIncluded {
        /// The file that nothing includes.
        file: String,
    },
    /// A secret cannot be opened with the host's key.
    Secret {
        /// The app.
        app: AppName,
        /// The file.
        name: String,
        /// The reason; never content.
        why: String,
    },
    /// A content is not what its digest says.
    Corrupt {
        /// Which.
        what: String,
    },
    /// The generation to go back to is not there or was never committed.
    NoGeneration {
        /// Which.
        wanted: GenerationId,
        /// The committed ones that are there.
        there: Vec<GenerationId>,
    },
    /// A request that breaks the protocol or its limits.
    Protocol {
        /// What is wrong with it.
        why: String,
    },
    /// The host's disk or one of its programs failed.
    Host {
        /// What failed.
        why: String,
    },
}

/// The cause in one sentence, without what belongs to it. Untrusted text where it comes from a host.
impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stale { expected, found } => write!(
                f,
                "it is at generation {found} now, the plan was made at {expected}: somebody pushed meanwhile"
            ),
            Self::GoesDown { .. } => {
                f.write_str("a shutdown or reboot of it is scheduled, too soon for a switch")
            }
            Self::Locked(holder) => write!(f, "{} is at it ({})", holder.operator, holder.step),
            Self::Claimed(_) => f.write_str("another project on that host has what this one wants"),
            Self::Occupied(_) => {
                f.write_str("files are in the way that push did not put there, and they differ")
            }
            Self::Unsafe { path, why } => write!(f, "push does not write below {path}: it {why}"),
            Self::Room { folder, why } => write!(f, "there is not enough room in {folder}: {why}"),
            Self::Needs { app, why } => write!(f, "{app} would not start there: {why}"),
            Self::NoUser { path, owner } => {
                write!(
                    f,
                    "{path} is to belong to the user {owner}, whom that host does not have"
                )
            }
            Self::NoGroup { path, group } => {
                write!(
                    f,
                    "{path} is to belong to the group {group}, which that host does not have"
                )
            }
            Self::Tool { tool, needed_for } => {
                write!(f, "{needed_for} needs {tool}, which is not installed there")
            }
            Self::Groundwork { what, .. } => {
                write!(
                    f,
                    "{what} could not be made there; what was made before, stays"
                )
            }
            Self::Packages { what, .. } => f.write_str(what),
            Self::Certificate { what, .. } => write!(f, "no {what}"),
            Self::Check { tool, .. } => write!(f, "`{tool}` refuses the new configuration"),
            Self::NotIncluded { file } => {
                write!(
                    f,
                    "nginx there reads no {file}, by which it would serve the declared sites"
                )
            }
            Self::Secret { app, name, why } => {
                write!(
                    f,
                    "the secret {name} of {app} cannot be opened there: {why}"
                )
            }
            Self::Corrupt { what } => write!(f, "{what} is not what was sent"),
            Self::NoGeneration { wanted, .. } => {
                write!(f, "there is no committed generation {wanted} to go back to")
            }
            Self::Protocol { why } => write!(f, "it does not understand this push: {why}"),
            Self::Host { why } => write!(f, "the host itself failed: {why}"),
        }
    }
}

/// What is in effect on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The units of each app.
    pub units: Vec<UnitState>,
    /// The latest record of each unfinished or last transaction.
    pub last: Option<Transaction>,
    /// Differences between what is declared and what is there, in words. Untrusted text.
    pub drift: Vec<String>,
    /// The latest upgrade of the operating system by push.
    #[serde(default)]
    pub upgrade: Option<Box<upgrade::Record>>,
}

/// One transaction, as the journal tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Its first record.
    pub first: Record,
    /// Its latest record.
    pub last: Record,
    /// The releases that it brought, by app, while its manifest is still there.
    pub releases: BTreeMap<AppName, String>,
    /// Whether its generation is still there to go back to.
    pub there: bool,
}

/// Bytes that travel inside JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> String {
        crate::frame::to_base64(&bytes.0)
    }
}

impl TryFrom<String> for Bytes {
    type Error = crate::frame::FrameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        crate::frame::from_base64(&text).map(Self)
    }
}
