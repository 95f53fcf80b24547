//! Conversations with a simulated host: whole ones, hostile ones, and ones that are cut anywhere.

mod confirm;
mod cuts;
mod hostile;
mod refusals;
mod releases;
mod upgrading;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Write};
use std::sync::{Arc, Mutex};

use push_wire::digest::Digest;
use push_wire::facts::{Facts, Program};
use push_wire::frame::{self, HEADER_BYTES, Kind, PackEntry};
use push_wire::journal::State;
use push_wire::manifest::{Manifest, Provenance, Reader, Secret, Slice, Text};
use push_wire::message::{Bytes, Hello, Refusal, Reply, Request, Stage, Switch};
use push_wire::name::{GenerationId, TransactionId, UserName};
use push_wire::tree::{Entry, Tree};

use super::{End, Line, Outside, look, serve};
use crate::connection::Connection;
use crate::journal;
use crate::layout::Layout;
use crate::machine::simulated::{SEAL, Simulated};
use crate::progress::{self, Request as Left};
use crate::stage::Checks;
use crate::stage::tests::{app, facts, file, unit};
use crate::status::Firewall;
use crate::store;
use crate::transaction::transact;

/// The session's other processes, played.
struct Played {
    facts: Facts,
    check: Result<Vec<String>, Refusal>,
    launched: Vec<TransactionId>,
    /// What keeps a push-host that was sent from starting.
    program_refused: Option<String>,
    /// What systemd says instead of starting a transaction.
    launch_refused: Option<String>,
    recoveries: u32,
    connection: Option<Connection>,
}

impl Default for Played {
    fn default() -> Self {
        Self {
            facts: facts(),
            check: Ok(vec![]),
            launched: vec![],
            program_refused: None,
            launch_refused: None,
            recoveries: 0,
            connection: Some(Connection::played(1)),
        }
    }
}

impl Checks for Played {
    fn check(&mut self, _from: &Manifest, _to: &Manifest) -> Result<Vec<String>, Refusal> {
        self.check.clone()
    }
}

impl Outside for Played {
    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    fn shutdown_at_unix_s(&self) -> Option<u64> {
        self.facts.shutdown_at_unix_s
    }

    fn program(&self) -> Program {
        Program {
            version: "0".to_owned(),
            digest: Digest::of("program"),
        }
    }

    fn firewall(&self) -> Firewall {
        Firewall::Unknown
    }

    fn starts(&self, program: &std::path::Path) -> Result<(), String> {
        assert!(program.is_absolute());
        self.program_refused.clone().map_or(Ok(()), Err)
    }

    fn launch(&mut self, transaction: &TransactionId) -> Result<(), String> {
        self.launched.push(transaction.clone());
        self.launch_refused.clone().map_or(Ok(()), Err)
    }

    fn recover(&mut self) -> Result<(), String> {
        self.recoveries += 1;
        Ok(())
    }

    fn upgrade(&mut self, id: &TransactionId) -> Result<(), String> {
        self.launched.push(id.clone());
        self.launch_refused.clone().map_or(Ok(()), Err)
    }

    fn connection(&self) -> Option<Connection> {
        self.connection.clone()
    }
}

fn layout() -> Layout {
    Layout::new("/")
}

/// What was said, so far.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What was said to all of `input`, and how the conversation ended.
fn converse_as(host: &mut Simulated, played: &mut Played, input: Vec<u8>) -> (Vec<Reply>, End) {
    let output = Output::default();
    let end = serve(host, &layout(), played, line(input, &output)).unwrap();
    (replies(&output), end)
}

/// A line that says `input` and then ends.
fn line(input: Vec<u8>, output: &Output) -> Line<Cursor<Vec<u8>>, Output> {
    Line {
        input: Cursor::new(input),
        output: output.clone(),
        give_up: || {},
    }
}

/// What stands in an output that holds nothing but frames.
fn replies(output: &Output) -> Vec<Reply> {
    let output = output.0.lock().unwrap();
    let mut rest = output.as_slice();
    let mut replies = Vec::new();
    while let Some(head) = rest.first_chunk::<HEADER_BYTES>() {
        let (kind, length) = frame::header(*head).unwrap();
        assert_eq!(kind, Kind::Message);
        let (body, after) = rest[HEADER_BYTES..].split_at(length);
        replies.push(frame::decode_message(body).unwrap());
        rest = after;
    }
    assert!(rest.is_empty(), "something else than frames was said");
    replies
}

/// What follows Hello.
fn converse(host: &mut Simulated, input: Vec<u8>) -> Vec<Reply> {
    let (mut replies, end) = converse_as(host, &mut Played::default(), input);
    assert_eq!(end, End::Gone);
    replies.remove(0);
    replies
}

fn hello(host: &mut Simulated) -> Hello {
    let (mut replies, _) = converse_as(host, &mut Played::default(), vec![]);
    match replies.remove(0) {
        Reply::Hello(hello) => *hello,
        other => panic!("{other:?}"),
    }
}

fn said(request: &Request) -> Vec<u8> {
    frame::encode_message(request).unwrap()
}

/// A pack of contents, as zstd.
fn packed(contents: &[&[u8]]) -> Vec<u8> {
    let mut plain = Vec::new();
    for content in contents {
        let entry = PackEntry {
            digest: Digest::of(content),
            size: content.len() as u64,
        };
        plain.extend(entry.encode());
        plain.extend(*content);
    }
    compress(&plain)
}

fn compress(plain: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
}

/// The request to take a pack, with its contents.
fn sent(pack: &[u8]) -> Vec<u8> {
    let request = Request::Pack {
        digest: Digest::of(pack),
        bytes: pack.len() as u64,
        offset: 0,
    };
    let mut bytes = said(&request);
    bytes.extend(contents(pack));
    bytes
}

fn contents(bytes: &[u8]) -> Vec<u8> {
    bytes
        .chunks(7)
        .flat_map(|piece| frame::encode(Kind::Content, piece).unwrap())
        .collect()
}

fn program(content: &[u8]) -> Entry {
    Entry::File {
        digest: Digest::of(content),
        size: content.len() as u64,
        executable: true,
    }
}

fn data(content: &[u8]) -> Entry {
    Entry::File {
        digest: Digest::of(content),
        size: content.len() as u64,
        executable: false,
    }
}

const BINARY: &[u8] = b"a program";
const PAGE: &[u8] = b"a page";

/// A tree whose one content is wanted as data and as a program.
fn tree() -> Tree {
    let entries = [
        ("bin", Entry::Folder),
        ("bin/api", program(BINARY)),
        ("copy", data(BINARY)),
        ("empty", data(b"")),
        (
            "link",
            Entry::Link {
                target: "bin/api".to_owned(),
            },
        ),
        ("page", data(PAGE)),
    ];
    Tree {
        entries: entries
            .map(|(path, entry)| (path.parse().unwrap(), entry))
            .into(),
    }
}

/// A push of one app with everything that an app can have.
fn stage(base: u64) -> Stage {
    let mut stage = Stage {
        project: "shop".parse().unwrap(),
        base: GenerationId(base),
        slice: Slice::default(),
        texts: BTreeMap::new(),
        trees: BTreeMap::new(),
        needs: BTreeMap::new(),
        provenance: Provenance {
            operator: "mia".to_owned(),
            ..Provenance::default()
        },
        way_in: 2222,
    };
    release(&mut stage, "r1", &tree());
    let text = "app=api";
    stage
        .slice
        .units
        .insert("api.service".parse().unwrap(), unit(text));
    put(&mut stage, text.as_bytes());
    let digest = put(&mut stage, b"a site");
    stage
        .slice
        .sites
        .insert("api".parse().unwrap(), Text { digest });
    put(&mut stage, b"a file");
    stage
        .slice
        .files
        .insert("/etc/x/y".parse().unwrap(), file("a file"));
    let sealed = put(&mut stage, &[SEAL, b"s3cret"].concat());
    let secret = Secret {
        sealed,
        source: sealed,
        fingerprint: sealed,
        recipient: sealed,
        owner: UserName::root(),
        reader: Reader::App,
    };
    let files = [("key".parse().unwrap(), secret)].into();
    stage.slice.secrets.insert("api".parse().unwrap(), files);
    stage
}

fn put(stage: &mut Stage, text: &[u8]) -> Digest {
    let digest = Digest::of(text);
    stage.texts.insert(digest, Bytes(text.to_vec()));
    digest
}

fn release(stage: &mut Stage, id: &str, tree: &Tree) {
    let mut app = app(id, tree);
    app.shared = ["var/data".parse().unwrap()].into();
    stage.slice.apps.insert("api".parse().unwrap(), app);
    stage.trees = [(tree.digest(), tree.clone())].into();
}

fn staging(stage: &Stage) -> Vec<u8> {
    said(&Request::Stage(Box::new(stage.clone())))
}

/// Stages the first generation as an honest laptop does, sending what is missing; returns its number.
fn push(host: &mut Simulated) -> u64 {
    let mut replies = converse(host, staging(&stage(0)));
    if let Reply::Missing { files, .. } = &replies[0] {
        let all = [BINARY, b"".as_slice(), PAGE].into_iter();
        let missing: Vec<&[u8]> = all.filter(|it| files.contains(&Digest::of(it))).collect();
        replies = converse(host, [staging(&stage(0)), sent(&packed(&missing))].concat());
    }
    match replies.last() {
        Some(Reply::Staged { generation, .. }) => generation.0,
        other => panic!("{other:?}"),
    }
}

/// Stages a first generation and switches to it.
fn pushed() -> Simulated {
    let mut host = Simulated::default();
    let input = [staging(&stage(0)), sent(&packed(&[BINARY, b"", PAGE]))].concat();
    let replies = converse(&mut host, input);
    assert!(
        matches!(replies[..], [Reply::Missing { .. }, Reply::Staged { .. }]),
        "{replies:?}"
    );
    assert_eq!(switch(&mut host, 1, "t1"), State::Committed);
    host
}

/// What the launched unit would do.
fn switch(host: &mut Simulated, generation: u64, name: &str) -> State {
    let left = left(host, generation, name);
    progress::leave_request(host, &layout(), &left).unwrap();
    transact(host, &layout(), &left).unwrap()
}

/// What a session leaves for the unit that it launches.
fn left(host: &Simulated, generation: u64, name: &str) -> Left {
    let layout = layout();
    let manifest = store::manifest(host, &layout, GenerationId(generation)).unwrap();
    let from = store::current(host, &layout).unwrap();
    Left {
        switch: Switch {
            generation: GenerationId(generation),
            transaction: name.parse().unwrap(),
            nonce: Digest::of("nonce"),
            confirm_within_ms: None,
        },
        about: push_wire::journal::About {
            from,
            to: GenerationId(generation),
            project: "shop".parse().unwrap(),
            restores: manifest.restores,
            provenance: Provenance::default(),
            confirm_within_ms: None,
            nonce: Digest::of("nonce"),
        },
        begun_on: None,
    }
}

/// Leaves a host with a transaction `t2` that is in a state, ordered over the first connection.
fn under_way(host: &mut Simulated, state: State) {
    let (layout, transaction): (_, TransactionId) = (layout(), "t2".parse().unwrap());
    let mut journal = journal::read(host, &layout).unwrap();
    let about = push_wire::journal::About {
        to: GenerationId(2),
        from: GenerationId(1),
        nonce: Digest::of("nonce"),
        ..journal.about(&"t1".parse().unwrap()).unwrap().clone()
    };
    let left = Left {
        switch: Switch {
            generation: about.to,
            transaction: transaction.clone(),
            nonce: about.nonce,
            confirm_within_ms: Some(30_000),
        },
        about: about.clone(),
        begun_on: Some(Connection::played(1)),
    };
    progress::leave_request(host, &layout, &left).unwrap();
    let entry = |state, about| journal::Entry {
        transaction: transaction.clone(),
        state,
        about,
    };
    let prepared = entry(State::Prepared, Some(about));
    journal.begin(host, &layout, prepared).unwrap();
    if state != State::Prepared {
        journal.append(host, &layout, entry(state, None)).unwrap();
    }
}

/// Every whole generation that is there; each must be as it was staged.
fn generations(host: &Simulated) -> BTreeSet<u64> {
    let ids = store::generations(host, &layout()).unwrap();
    for id in &ids {
        let manifest = store::manifest(host, &layout(), *id).unwrap();
        store::verify(host, &layout(), &manifest).unwrap();
    }
    ids.into_iter().map(|id| id.0).collect()
}
