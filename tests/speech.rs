//! One session with push-host on a real host, spoken frame by frame over the system's own ssh: what a
//! laptop says, or what it never should. It gives signs of life like a laptop, until it is muted.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex};

use push::rehearse::{Fleet, HostSpec, RehearsalHost};
use push_wire::digest::Digest;
use push_wire::frame::{self, BEAT, BEAT_EVERY, HEADER_BYTES, Kind, PackEntry};
use push_wire::journal::{Progress, State};
use push_wire::message::{Hello, Refusal, Reply, Request, Stage, Switch};
use push_wire::name::GenerationId;

use crate::hosts;

/// Where push-host is on a host.
pub const PROGRAM: &str = "/usr/local/lib/push/push-host";

/// Boots hosts that have this build's push-host.
pub fn boot(specs: &[HostSpec]) -> Option<Fleet> {
    let fleet = hosts::boot(specs)?;
    let program = program();
    for host in fleet.hosts() {
        host.succeed(&["mkdir", "-p", "/usr/local/lib/push"])
            .unwrap();
        host.write(PROGRAM, &program, 0o755).unwrap();
    }
    Some(fleet)
}

/// This build's push-host.
pub fn program() -> Vec<u8> {
    let program = push::embedded::program("x86_64").expect("a program for this machine");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(program.gzip)
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

/// What was refused.
pub fn refusal(reply: Reply) -> Refusal {
    match reply {
        Reply::Refused(refusal) => *refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// One session with push-host.
pub struct Session {
    child: Child,
    to: Arc<Mutex<ChildStdin>>,
    from: ChildStdout,
    heart: Option<SyncSender<()>>,
}

impl Session {
    /// Comes in over a connection of its own.
    pub fn open(host: &RehearsalHost) -> (Self, Hello) {
        Self::open_by(host, &[])
    }

    /// Comes in over a connection of its own that others may share, by the socket at `control`; or
    /// over that one, once it is there.
    pub fn open_shared(host: &RehearsalHost, control: &Path) -> (Self, Hello) {
        let control = format!("ControlPath={}", control.display());
        Self::open_by(host, &["-o", "ControlMaster=auto", "-o", &control])
    }

    fn open_by(host: &RehearsalHost, options: &[&str]) -> (Self, Hello) {
        let mut child = hosts::ssh_command_with(host, options)
            .args(["sudo", "-n", PROGRAM, "serve"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let to = Arc::new(Mutex::new(to));
        let (heart, stopped) = mpsc::sync_channel(0);
        let mouth = Arc::downgrade(&to);
        std::thread::spawn(move || {
            while stopped.recv_timeout(BEAT_EVERY) == Err(RecvTimeoutError::Timeout) {
                let Some(to) = mouth.upgrade() else { return };
                // A session that has ended is noticed by whoever says something.
                let _ = to.lock().unwrap().write_all(&BEAT);
            }
        });
        let mut session = Self {
            child,
            to,
            from,
            heart: Some(heart),
        };
        let Reply::Hello(hello) = session.hear() else {
            panic!("the first word is Hello")
        };
        (session, *hello)
    }

    /// Gives no more signs of life, and keeps the connection open.
    pub fn mute(&mut self) {
        self.heart = None;
    }

    /// Sends a request.
    pub fn say(&mut self, request: &Request) {
        self.write(&frame::encode_message(request).unwrap());
    }

    /// Sends bytes, whatever they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.to.lock().unwrap().write_all(bytes).unwrap();
    }

    /// The next reply; `None` at the end.
    pub fn try_hear(&mut self) -> Option<Reply> {
        loop {
            let mut head = [0; HEADER_BYTES];
            self.from.read_exact(&mut head).ok()?;
            let (kind, length) = frame::header(head).unwrap();
            let mut body = vec![0; length];
            self.from.read_exact(&mut body).ok()?;
            if kind != Kind::Beat {
                return Some(frame::decode_message(&body).unwrap());
            }
        }
    }

    /// The next reply.
    pub fn hear(&mut self) -> Reply {
        self.try_hear().expect("push-host has ended")
    }

    /// Sends a request and hears the reply.
    pub fn ask(&mut self, request: &Request) -> Reply {
        self.say(request);
        self.hear()
    }

    /// Sends contents.
    pub fn contents(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(1000) {
            self.write(&frame::encode(Kind::Content, piece).unwrap());
        }
    }

    /// Stages, sending what is missing.
    pub fn stage(&mut self, stage: &Stage, contents: &[&[u8]]) -> Reply {
        let reply = self.ask(&Request::Stage(Box::new(stage.clone())));
        let Reply::Missing { files, .. } = reply else {
            return reply;
        };
        let mut plain = Vec::new();
        for content in contents
            .iter()
            .filter(|content| files.contains(&Digest::of(content)))
        {
            let entry = PackEntry {
                digest: Digest::of(content),
                size: content.len() as u64,
            };
            plain.extend(entry.encode());
            plain.extend(*content);
        }
        let pack = zstd::encode_all(plain.as_slice(), 3).unwrap();
        self.say(&Request::Pack {
            digest: Digest::of(&pack),
            bytes: pack.len() as u64,
            offset: 0,
        });
        self.contents(&pack);
        self.hear()
    }

    /// Orders a switch; whose nonce is the word nonce.
    pub fn order(&mut self, generation: GenerationId, name: &str, confirm_within_ms: Option<u64>) {
        self.say(&Request::Switch(Switch {
            generation,
            transaction: name.parse().unwrap(),
            nonce: Digest::of("nonce"),
            confirm_within_ms,
        }));
    }

    /// Hears progress until a transaction is on trial.
    pub fn until_trial(&mut self) {
        while !matches!(
            self.hear(),
            Reply::Progress(Progress::State(State::Probation(_)))
        ) {}
    }

    /// Hears progress until the verdict.
    pub fn verdict(&mut self) -> Option<State> {
        loop {
            match self.hear() {
                Reply::Progress(_) => {}
                Reply::Verdict { state, .. } => return state,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Switches; returns the verdict.
    pub fn switch(&mut self, generation: GenerationId, name: &str) -> Option<State> {
        self.order(generation, name, None);
        self.verdict()
    }

    /// Whether the connection's own process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
