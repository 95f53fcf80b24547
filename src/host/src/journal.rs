//! The write-ahead log of a host, and the only judge of what happened on it. Records are appended and
//! synced before anything that they announce is done or told.
//!
//! ```text
//! file   = "push journal 1\n" · record …
//! record = length of the body (4 bytes, big endian) · first 8 bytes of SHA-256(length · body) · body (JSON)
//! ```
//!
//! What a power cut leaves behind the last whole record is a torn tail: ignored by readers, cut off
//! by the next append. A whole record behind bytes that are none is no tail but damage, and refused:
//! a record may be missing, and a missing COMMITTED must not be guessed. A file that is not ours, or
//! that a later push wrote, is refused as well. Only the holder of the lock appends.
//!
//! A new state is added in `push_wire::journal`; a change of the form here needs a new number in
//! [`HEAD`].

use std::io;

use push_wire::digest::Digest;
use push_wire::journal::{About, Record, State};
use push_wire::name::{GenerationId, TransactionId};

use crate::layout::Layout;
use crate::machine::{self, Access, Clock, Disk};
use crate::{lock, progress};

/// What the file starts with.
const HEAD: &[u8] = b"push journal 1\n";

/// What every version's file starts with.
const HEAD_OF_ANY: &[u8] = b"push journal ";

/// The bytes before each body.
const RECORD_HEAD_BYTES: usize = 12;

/// The largest body, in bytes; also the most that one torn append can leave.
const BODY_BYTES_MAX: usize = 256 << 10;

/// The largest journal that is read, in bytes.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// Above this size in bytes, a new transaction begins by leaving the oldest ones out.
const COMPACT_ABOVE_BYTES: usize = 2 << 20;

/// How many of the latest transactions stay when the journal is compacted.
const TRANSACTIONS_KEPT: usize = 200;

/// The bytes kept for a transaction's records when it begins, so that a full disk cannot keep it from
/// being taken back.
const RESERVE_BYTES: u64 = 64 << 10;

/// Why the journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file is something else.
    #[error("{path} is not a journal of push")]
    Foreign {
        /// Where.
        path: String,
    },
    /// A later push wrote it.
    #[error("{path} was written by a later push: this one does not know {found:?}")]
    Later {
        /// Where.
        path: String,
        /// What is not known.
        found: String,
    },
    /// Bytes that are no record stand before whole records.
    #[error("{path} is damaged at byte {at}: whole records follow it, so one may be missing")]
    Damaged {
        /// Where.
        path: String,
        /// The first byte that is not understood.
        at: usize,
    },
    /// A record that is too large to be written.
    #[error("a record of {bytes} bytes, over the limit of {BODY_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The disk failed.
    #[error("the journal: {0}")]
    Disk(#[from] io::Error),
}

impl JournalError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Foreign { .. } | Self::Damaged { .. } => {
                "see what is in effect with `readlink /etc/push/current`, then set the journal aside: \
                 `mv /var/lib/push/journal /var/lib/push/journal.broken`; the next push starts a new one"
            }
            Self::Later { .. } => "use the push that wrote it, or a later one",
            Self::TooLarge { .. } => "this is a fault of push; please report it",
            Self::Disk(_) => "look at the disk of the host: `df -h /var/lib/push`, `dmesg`",
        }
    }
}

/// The journal as it was read, with where the next record goes.
#[derive(Debug, Clone)]
pub struct Journal {
    records: Vec<Record>,
    /// The end of the last whole record; 0 when the file is not there yet.
    whole_bytes: usize,
    /// Whether bytes of a torn append stand behind it.
    torn: bool,
}

/// Reads the journal; one that is not there is empty. Needs no lock.
pub fn read<M: Disk>(machine: &M, layout: &Layout) -> Result<Journal, JournalError> {
    let path = layout.journal();
    if machine.stat(&path)?.is_none() {
        return Ok(Journal {
            records: vec![],
            whole_bytes: 0,
            torn: false,
        });
    }
    let bytes = machine.read(&path, JOURNAL_BYTES_MAX)?;
    parse(&bytes, &path.display().to_string())
}

/// Reads the records that nobody takes away any more, for whoever tells an operator a verdict
/// without holding the lock. A record is seen before it is synced, and cut off again when that
/// fails; so what was read is synced, only what is still there afterwards counts, and an end counts
/// only when it [is settled](is_settled).
pub fn read_settled<M: Disk>(machine: &mut M, layout: &Layout) -> Result<Journal, JournalError> {
    let before = read(machine, layout)?;
    if before.whole_bytes == 0 {
        return Ok(before);
    }
    machine.sync(&layout.journal())?;
    let mut after = read(machine, layout)?;
    after
        .records
        .retain(|record| before.records.contains(record));
    if let Some(last) = after.records.last().cloned()
        && last.state.is_final()
        && !is_settled(machine, layout, &last)?
    {
        after.records.pop();
    }
    Ok(after)
}

/// Whether the transaction that wrote a record of its end has found it durable, so that it will not cut
/// it off again: it has told so, or is not at it any more, or the host was booted since. A reader's own
/// sync cannot tell: after it, the transaction's may still fail.
pub fn is_settled<M: Disk>(
    machine: &mut M,
    layout: &Layout,
    end: &Record,
) -> Result<bool, JournalError> {
    let place = layout.transaction(&end.transaction);
    Ok(machine.stat(place.folder())?.is_none()
        || progress::has_told(machine, layout, (&end.transaction, &end.state))?
        || lock::holder(machine, layout)?.is_none())
}

impl Journal {
    /// Every record, the oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The latest record.
    pub fn last(&self) -> Option<&Record> {
        self.records.last()
    }

    /// The latest record of a transaction.
    pub fn latest(&self, transaction: &TransactionId) -> Option<&Record> {
        self.records
            .iter()
            .rev()
            .find(|record| record.transaction == *transaction)
    }

    /// What a transaction is about.
    pub fn about(&self, transaction: &TransactionId) -> Option<&About> {
        self.records
            .iter()
            .filter(|record| record.transaction == *transaction)
            .find_map(|record| record.about.as_ref())
    }

    /// The transaction that has begun and not ended, with where it stands.
    pub fn unfinished(&self) -> Option<&Record> {
        self.last().filter(|record| !record.state.is_final())
    }

    /// Each transaction with its first and its latest record, the oldest first.
    pub fn transactions(&self) -> Vec<(&Record, &Record)> {
        let mut all: Vec<(&Record, &Record)> = Vec::new();
        for record in &self.records {
            match all.last_mut() {
                Some((first, last)) if first.transaction == record.transaction => *last = record,
                Some(_) | None => all.push((record, record)),
            }
        }
        all
    }

    /// The generation that the latest transaction left in effect; `None` while one is unfinished, and where
    /// nothing is told of it.
    pub fn in_effect(&self) -> Option<GenerationId> {
        let (first, last) = self.transactions().last().copied()?;
        let about = first.about.as_ref()?;
        match last.state {
            State::Committed => Some(about.to),
            State::TakenBack(_) => Some(about.from),
            State::Prepared | State::Switching | State::Probation(_) | State::TakingBack(_) => None,
        }
    }

    /// Whether the journal remembers this transaction.
    pub fn knows(&self, transaction: &TransactionId) -> bool {
        self.latest(transaction).is_some()
    }

    /// Begins a transaction: makes the file if need be, leaves the oldest transactions out if it has
    /// grown large, keeps room for what follows, and writes the first record.
    pub fn begin<M: Disk + Clock>(
        &mut self,
        machine: &mut M,
        layout: &Layout,
        entry: Entry,
    ) -> Result<Record, JournalError> {
        if self.whole_bytes == 0 || self.whole_bytes > COMPACT_ABOVE_BYTES {
            self.rewrite(machine, layout)?;
        }
        self.cut_torn_tail(machine, layout)?;
        machine.reserve(&layout.journal(), RESERVE_BYTES)?;
        self.append(machine, layout, entry)
    }

    /// Writes what was read anew, whole. A sync that failed may have lost what can still be read, and no
    /// later sync brings it to the disk: so whoever goes on with the journal of a process that died does
    /// not rely on it.
    pub fn renew<M: Disk>(&mut self, machine: &mut M, layout: &Layout) -> Result<(), JournalError> {
        self.rewrite(machine, layout)
    }

    /// Appends a record and makes it durable. When this fails, the record counts as never written,
    /// and what may stand of it is cut off by the next append.
    pub fn append<M: Disk + Clock>(
        &mut self,
        machine: &mut M,
        layout: &Layout,
        entry: Entry,
    ) -> Result<Record, JournalError> {
        if self.whole_bytes == 0 {
            self.rewrite(machine, layout)?;
        }
        let path = layout.journal();
        self.cut_torn_tail(machine, layout)?;
        let record = Record {
            sequence: self.last().map_or(1, |last| last.sequence + 1),
            transaction: entry.transaction,
            at_unix_s: machine.unix_s(),
            state: entry.state,
            about: entry.about,
        };
        let bytes = encode(&record)?;
        self.torn = true;
        machine.append(&path, &bytes)?;
        machine.sync(&path)?;
        self.torn = false;
        self.whole_bytes += bytes.len();
        self.records.push(record.clone());
        Ok(record)
    }

    /// Cuts off at once what a failed append may have left, so that nobody reads a record that does
    /// not count.
    pub fn cut_torn_tail<M: Disk>(
        &mut self,
        machine: &mut M,
        layout: &Layout,
    ) -> Result<(), JournalError> {
        if self.torn {
            machine.truncate(&layout.journal(), self.whole_bytes as u64)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Writes the whole file anew, with the latest transactions only. The room for what follows is kept
    /// before the old file, with its own, is given up.
    fn rewrite<M: Disk>(&mut self, machine: &mut M, layout: &Layout) -> Result<(), JournalError> {
        let transactions = self.transactions();
        let first_kept = transactions
            .len()
            .checked_sub(TRANSACTIONS_KEPT)
            .and_then(|at| transactions.get(at))
            .map_or(0, |(first, _)| first.sequence);
        let kept: Vec<Record> = self
            .records
            .iter()
            .filter(|record| record.sequence >= first_kept)
            .cloned()
            .collect();
        let mut bytes = HEAD.to_vec();
        for record in &kept {
            bytes.extend(encode(record)?);
        }
        machine::folders(machine, &layout.state(), &Access::private_folder())?;
        let replaced = machine::replace_by(machine, &layout.journal(), |machine, new| {
            machine.create(new, &bytes, &Access::private_file())?;
            machine.reserve(new, RESERVE_BYTES)
        });
        if let Err(error) = replaced {
            // A rename may fail although it is done: what is there counts, not what should be.
            *self = read(machine, layout)?;
            return Err(error.into());
        }
        // From here on this is the file that whoever appends or cuts has before them.
        self.records = kept;
        self.whole_bytes = bytes.len();
        self.torn = false;
        Ok(machine.sync(&layout.state())?)
    }
}

/// What a record is to say.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The transaction.
    pub transaction: TransactionId,
    /// Where it stands.
    pub state: State,
    /// What it is about, with its first record.
    pub about: Option<About>,
}

fn encode(record: &Record) -> Result<Vec<u8>, JournalError> {
    let body = serde_json::to_vec(record).map_err(io::Error::from)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= BODY_BYTES_MAX);
    let length = length
        .ok_or(JournalError::TooLarge { bytes: body.len() })?
        .to_be_bytes();
    let mut bytes = length.to_vec();
    bytes.extend(checksum(length, &body));
    bytes.extend(body);
    Ok(bytes)
}

fn checksum(length: [u8; 4], body: &[u8]) -> [u8; 8] {
    let mut hasher = push_wire::digest::Hasher::new();
    hasher.update(&length);
    hasher.update(body);
    let digest: Digest = hasher.finish();
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    first
}

fn parse(bytes: &[u8], path: &str) -> Result<Journal, JournalError> {
    check_head(bytes, path)?;
    let mut records: Vec<Record> = Vec::new();
    let mut at = HEAD.len();
    while let Some((body, end)) = body_at(bytes, at) {
        // A whole record that does not parse was written by a push that knows more states.
        let record: Record = serde_json::from_slice(body)
            .map_err(|_| later(path, &body[..body.len().min(HEAD.len() * 4)]))?;
        if records
            .last()
            .is_some_and(|last| record.sequence != last.sequence + 1)
        {
            break;
        }
        records.push(record);
        at = end;
    }
    // One torn append leaves at most one record's bytes, and no whole record among them.
    let tail = &bytes[at..];
    let damaged = tail.len() > BODY_BYTES_MAX + RECORD_HEAD_BYTES
        || (0..tail.len()).any(|start| body_at(tail, start).is_some());
    if damaged {
        return Err(JournalError::Damaged {
            path: path.to_owned(),
            at,
        });
    }
    Ok(Journal {
        records,
        whole_bytes: at,
        torn: !tail.is_empty(),
    })
}

fn check_head(bytes: &[u8], path: &str) -> Result<(), JournalError> {
    if bytes.starts_with(HEAD) {
        return Ok(());
    }
    if !bytes.starts_with(HEAD_OF_ANY) {
        return Err(JournalError::Foreign {
            path: path.to_owned(),
        });
    }
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    Err(later(path, line.get(..HEAD.len() * 2).unwrap_or(line)))
}

fn later(path: &str, found: &[u8]) -> JournalError {
    JournalError::Later {
        path: path.to_owned(),
        found: found.escape_ascii().to_string(),
    }
}

/// The body of the whole record that starts at `at`, with where it ends.
fn body_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..)?;
    let length: [u8; 4] = rest.get(..4)?.try_into().ok()?;
    let body_bytes = usize::try_from(u32::from_be_bytes(length)).ok()?;
    if body_bytes == 0 || body_bytes > BODY_BYTES_MAX {
        return None;
    }
    let end = RECORD_HEAD_BYTES + body_bytes;
    let body = rest.get(RECORD_HEAD_BYTES..end)?;
    (rest.get(4..RECORD_HEAD_BYTES)? == checksum(length, body)).then_some((body, at + end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::simulated::Simulated;
    use crate::machine::simulated::trouble::{Fault, Trouble};
    use push_wire::manifest::Provenance;
    use push_wire::name::GenerationId;

    fn about(to: u64) -> About {
        About {
            from: GenerationId(to - 1),
            to: GenerationId(to),
            project: "shop".parse().unwrap(),
            restores: None,
            provenance: Provenance {
                operator: "o".repeat(8000),
                ..Provenance::default()
            },
            confirm_within_ms: None,
            nonce: Digest::of("nonce"),
        }
    }

    fn entry(to: u64, state: State, about: Option<About>) -> Entry {
        let transaction = format!("t{to}").parse().unwrap();
        Entry {
            transaction,
            state,
            about,
        }
    }

    #[test]
    fn a_journal_stays_bounded_and_keeps_the_latest_transactions_whole() {
        let (mut world, layout) = (Simulated::default(), Layout::new("/"));
        for to in 1..=600 {
            let mut journal = read(&world, &layout).unwrap();
            let first = entry(to, State::Prepared, Some(about(to)));
            journal.begin(&mut world, &layout, first).unwrap();
            let last = entry(to, State::Committed, None);
            journal.append(&mut world, &layout, last).unwrap();
        }
        let journal = read(&world, &layout).unwrap();
        assert!(journal.whole_bytes < COMPACT_ABOVE_BYTES + (64 << 10));
        let transactions = journal.transactions();
        assert!((TRANSACTIONS_KEPT..600).contains(&transactions.len()));
        for (first, last) in transactions {
            assert!(first.about.is_some() && last.state.is_committed());
        }
        assert_eq!(
            journal.last().unwrap().sequence,
            1200,
            "numbers go on rising"
        );
    }

    /// A journal that has grown beyond what is kept, and the end of which was torn.
    fn grown_and_torn() -> (Simulated, Journal) {
        let (mut world, layout) = (Simulated::default(), Layout::new("/"));
        let mut journal = read(&world, &layout).unwrap();
        for to in 1..=TRANSACTIONS_KEPT as u64 + 50 {
            let first = entry(to, State::Prepared, Some(about(to)));
            journal.begin(&mut world, &layout, first).unwrap();
            let last = entry(to, State::Committed, None);
            journal.append(&mut world, &layout, last).unwrap();
        }
        world.append(&layout.journal(), b"half").unwrap();
        journal = read(&world, &layout).unwrap();
        (world, journal)
    }

    #[test]
    fn a_journal_that_is_written_anew_in_trouble_can_be_gone_on_with() {
        let layout = Layout::new("/");
        for fault in [Fault::Fails, Fault::Misreports, Fault::Full] {
            for call in 1..=12 {
                let (world, mut journal) = grown_and_torn();
                let trouble = match fault {
                    // A disk that is full stays so.
                    Fault::Full => Trouble::from(fault, call),
                    _ => Trouble::once(fault, call),
                };
                let mut world = world.with(&[trouble]);
                let renewed = journal.renew(&mut world, &layout);
                let told = format!("{trouble:?}: {renewed:?}");
                if fault != Fault::Full {
                    world.repair();
                }
                let end = entry(999, State::Committed, None);
                journal.append(&mut world, &layout, end).expect(&told);
                let found = read(&world, &layout).expect(&told);
                assert_eq!(found.records(), journal.records(), "{told}");
                assert_eq!(found.last().unwrap().transaction.as_str(), "t999", "{told}");
            }
        }
    }

    #[test]
    fn a_record_over_the_limit_is_refused_and_nothing_of_it_is_written() {
        let (mut world, layout) = (Simulated::default(), Layout::new("/"));
        let mut journal = read(&world, &layout).unwrap();
        let mut huge = about(1);
        huge.provenance.operator = "o".repeat(BODY_BYTES_MAX);
        let refused = journal.begin(&mut world, &layout, entry(1, State::Prepared, Some(huge)));
        assert!(matches!(refused, Err(JournalError::TooLarge { .. })));
        assert!(read(&world, &layout).unwrap().records().is_empty());
    }
}
