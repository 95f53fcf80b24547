//! push-host as the laptop hears it: one command, its input, its output.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use push_wire::PROTOCOL;
use push_wire::digest::Digest;
use push_wire::facts::{Facts, Program};
use push_wire::frame::{Decoder, Frame, Kind, encode, encode_message};
use push_wire::journal::{Progress, State};
use push_wire::log::Excerpt;
use push_wire::manifest::Slice;
use push_wire::message::{Hello, Refusal, Reply, Request, Status as HostStatus, Switch};
use push_wire::name::{GenerationId, TransactionId};

use super::machine::transact;
use super::{Fault, Running, Way, World};
use crate::transport::Status;
use crate::transport::session::FarEnd;

/// Why a session is over.
pub(super) enum Over {
    /// The connection is gone without a word.
    Lost,
    /// The command has ended.
    Ended(u32, &'static str),
}

pub(super) struct Serving {
    pub(super) world: World,
    pub(super) name: String,
    far: FarEnd,
    decoder: Decoder,
}

/// Runs a command of the laptop.
pub async fn run(world: World, name: String, command: &'static str, far: FarEnd) {
    let mut serving = Serving {
        world,
        name,
        far,
        decoder: Decoder::default(),
    };
    let over = match command {
        command if command.contains("' push-look '") => serving.bring("look").await,
        command if command.contains("' push-install '") => serving.bring("install").await,
        _ => serving.start().await,
    };
    match over {
        // Some input may still be on its way; a real connection would not tell either.
        Err(Over::Lost) => {
            serving
                .world
                .host(&serving.name, |host| host.is_lost = true);
        }
        Err(Over::Ended(code, stderr)) => {
            serving.far.stderr.push(stderr.as_bytes());
            serving.far.end.tell(Ok(Status::Code(code)));
        }
        Ok(()) => serving.far.end.tell(Ok(Status::Code(0))),
    }
}

impl Serving {
    pub(super) fn hits(&self, fault: Fault) -> bool {
        self.world.hits(&self.name, fault)
    }

    async fn start(&mut self) -> Result<(), Over> {
        if self.hits(Fault::Sudo) {
            return Err(Over::Ended(1, "sudo: a password is required\n"));
        }
        if self.hits(Fault::EndsAtOnce) {
            return Err(Over::Ended(126, "cannot execute: Exec format error\n"));
        }
        if self.hits(Fault::Noise) {
            self.say_text("Welcome to \u{1b}[31mweb1\n").await?;
            return Ok(());
        }
        if self.hits(Fault::Garbage) {
            self.say_bytes(vec![0, 0, 0, 3, 77, 1, 2, 3]).await?;
            return self.idle().await;
        }
        if self.hits(Fault::Mute) {
            return self.idle().await;
        }
        if self.hits(Fault::MissingForeign) {
            self.say_text("push-host missing riscv64\n").await?;
            return Ok(());
        }
        let is_installed = self.world.host(&self.name, |host| host.is_installed);
        if !is_installed || self.hits(Fault::Missing) {
            self.world
                .host(&self.name, |host| host.is_installed = false);
            self.say_text("push-host missing x86_64\n").await?;
            return Ok(());
        }
        self.converse().await
    }

    /// Waits for the laptop to hang up.
    pub(super) async fn idle(&mut self) -> Result<(), Over> {
        while self.far.input.recv().await.is_some() {}
        Ok(())
    }

    async fn bring(&mut self, what: &str) -> Result<(), Over> {
        if self.hits(Fault::InstallRefused) {
            return Err(Over::Ended(
                1,
                "sudo: admin is not allowed to execute /bin/sh as root\n",
            ));
        }
        let mut input = Vec::new();
        let (digest, program) = loop {
            let Some(chunk) = self.far.input.recv().await else {
                return Err(Over::Lost);
            };
            input.extend(chunk);
            let mut parts = input.splitn(3, |byte| *byte == b'\n');
            let (Some(digest), Some(bytes), Some(rest)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let bytes: usize = std::str::from_utf8(bytes).unwrap().parse().unwrap();
            if rest.len() >= bytes {
                break (String::from_utf8(digest.to_vec()).unwrap(), rest.to_vec());
            }
        };
        assert_eq!(
            Digest::of(&program).to_string(),
            digest,
            "as the test's programs are"
        );
        self.world.host(&self.name, |host| {
            host.is_installed = what == "install";
            host.asked.push(what.into());
        });
        self.converse().await
    }

    async fn converse(&mut self) -> Result<(), Over> {
        self.hello().await?;
        while let Some(request) = self.request().await? {
            let name = format!("{request:?}");
            let name = name.split([' ', '(', '{']).next().unwrap().to_owned();
            self.world.host(&self.name, |host| host.asked.push(name));
            self.answer(request).await?;
        }
        Ok(())
    }

    async fn hello(&mut self) -> Result<(), Over> {
        let is_newer = self.hits(Fault::Newer);
        let is_outdated = self.hits(Fault::Outdated) || self.hits(Fault::RefusesUpgrade);
        let is_later = self.hits(Fault::LaterVersion);
        let is_busy = self.hits(Fault::Busy);
        let hello = self.world.host(&self.name, |host| {
            let is_at_work = host.running.values().any(|run| !run.state.is_final());
            let digest = match (is_outdated || is_later, host.upgraded) {
                (true, None) => Digest::of("another program"),
                (_, Some(upgraded)) => upgraded,
                (false, None) => Digest::of(super::super::tests::PROGRAM),
            };
            Hello {
                protocol: if is_newer { PROTOCOL + 1 } else { PROTOCOL },
                program: Program {
                    version: if is_later { "99.0.0" } else { "0.1.0" }.into(),
                    digest,
                },
                facts: Facts {
                    boot_id: host.boot_id(),
                    ..facts()
                },
                manifest: host.manifest.clone(),
                running: (is_busy || is_at_work)
                    .then(|| host.holder.clone())
                    .or_else(|| host.other.clone()),
                fingerprint_key: String::new(),
                releases: BTreeMap::new(),
                highest: host.manifest.generation,
                lost: [].into(),
                recovered: None,
            }
        });
        self.say(&Reply::Hello(Box::new(hello))).await
    }

    async fn answer(&mut self, request: Request) -> Result<(), Over> {
        match request {
            Request::Upgrade {
                digest,
                packed_bytes,
            } => self.upgrade(digest, packed_bytes).await,
            Request::Stage(stage) => {
                let way = if stage.slice == Slice::default() {
                    Way::Back
                } else {
                    Way::Forward
                };
                self.stage(stage.base, way).await
            }
            Request::Restage(restage) => self.stage(restage.base, Way::Back).await,
            Request::Pack {
                digest,
                bytes,
                offset,
            } => self.pack(digest, bytes, offset).await,
            Request::Switch(switch) => self.switch(switch).await,
            Request::Confirm { transaction, nonce } => self.confirm(transaction, &nonce).await,
            Request::TakeBack { transaction } => self.take_back(transaction).await,
            Request::Watch { transaction } => self.watch(transaction).await,
            Request::Status => {
                let status = HostStatus {
                    units: vec![],
                    last: None,
                    drift: vec![],
                    upgrade: None,
                };
                self.say(&Reply::Status(Box::new(status))).await
            }
            Request::History { limit } => {
                let mut history = self.world.host(&self.name, |host| host.history.clone());
                history.truncate(limit as usize);
                self.say(&Reply::History(history)).await
            }
            Request::Log(_) => self.say(&Reply::Log(Excerpt::default())).await,
            Request::Survey(wanted) => {
                let packages = wanted.packages.into_iter();
                let lacking = packages.map(push_wire::groundwork::Work::Package);
                self.say(&Reply::Survey(lacking.collect())).await
            }
            Request::Earlier { generation, .. } => {
                let slice = self
                    .world
                    .host(&self.name, |host| host.earlier.get(&generation).cloned());
                self.say(&Reply::Earlier(slice.map(Box::new))).await
            }
            Request::Offer(_) => self.offer().await,
            Request::UpgradeSystem(order) => self.upgrade_system(*order).await,
            Request::Texts { digests } => {
                let text = push_wire::message::Bytes(b"not what its digest says".to_vec());
                let texts = digests.into_iter().map(|digest| (digest, text.clone()));
                self.say(&Reply::Texts(texts.collect())).await
            }
        }
    }

    async fn upgrade(&mut self, digest: Digest, bytes: u64) -> Result<(), Over> {
        let mut arrived = 0;
        while arrived < bytes {
            arrived += self.content().await?.len() as u64;
        }
        if self.hits(Fault::RefusesUpgrade) {
            return self.refuse(Refusal::Host { why: "disk".into() }).await;
        }
        self.world
            .host(&self.name, |host| host.upgraded = Some(digest));
        self.hello().await
    }

    async fn stage(&mut self, base: GenerationId, way: Way) -> Result<(), Over> {
        if self.hits(Fault::LostAtStage) {
            return Err(Over::Lost);
        }
        if self.hits(Fault::MuteAtStage) {
            return self.idle().await;
        }
        if self.hits(Fault::GarbageAtStage) {
            return self
                .say_bytes(encode(Kind::Message, b"{\"nonsense\x1b\"").unwrap())
                .await;
        }
        if self.hits(Fault::WrongAtStage) {
            return self.say(&Reply::History(vec![])).await;
        }
        let other = self.world.host(&self.name, |host| host.other.clone());
        if let Some(holder) = other {
            return self.refuse(Refusal::Locked(holder)).await;
        }
        if self.hits(Fault::Locked) {
            let holder = self.world.host(&self.name, |host| host.holder.clone());
            return self.refuse(Refusal::Locked(holder)).await;
        }
        if self.hits(Fault::Refuses) || (way == Way::Back && self.hits(Fault::RefusesRestage)) {
            let refusal = self.world.host(&self.name, |host| host.refusal.clone());
            return self.refuse(refusal).await;
        }
        let found = self.world.host(&self.name, |host| host.manifest.generation);
        if found != base {
            let expected = base;
            return self.refuse(Refusal::Stale { expected, found }).await;
        }
        self.world.host(&self.name, |host| host.way = way);
        let (lacks, partial) = self
            .world
            .host(&self.name, |host| (host.lacks.clone(), host.partial));
        if lacks.is_empty() || way == Way::Back {
            return self.staged().await;
        }
        let files: BTreeSet<Digest> = lacks.into_iter().collect();
        let partial = partial.into_iter().collect();
        self.say(&Reply::Missing { files, partial }).await
    }

    async fn staged(&mut self) -> Result<(), Over> {
        let generation = self.world.host(&self.name, |host| {
            let generation = GenerationId(host.manifest.generation.0 + 1);
            host.staged = Some(generation);
            generation
        });
        let warnings = vec![];
        self.say(&Reply::Staged {
            generation,
            warnings,
        })
        .await
    }

    async fn pack(&mut self, digest: Digest, bytes: u64, offset: u64) -> Result<(), Over> {
        let mut arrived = offset;
        while arrived < bytes {
            let piece = self.content().await?.len() as u64;
            arrived += piece;
            self.world.host(&self.name, |host| host.taken += piece);
            let is_half = arrived * 2 >= bytes;
            if is_half && self.hits(Fault::LostMidPack) {
                self.world
                    .host(&self.name, |host| host.partial = Some((digest, arrived)));
                return Err(Over::Lost);
            }
            if is_half && self.hits(Fault::RefusedMidPack) {
                let why = "no space left on device".into();
                self.refuse(Refusal::Host { why }).await?;
                return self.idle().await;
            }
            // A host takes its time, so that a laptop that does not wait would pile up.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.world
            .host(&self.name, |host| host.received += bytes - offset);
        if self.hits(Fault::Corrupt) {
            let what = digest.to_string();
            return self.refuse(Refusal::Corrupt { what }).await;
        }
        self.world.host(&self.name, |host| host.lacks.clear());
        self.staged().await
    }

    async fn switch(&mut self, switch: Switch) -> Result<(), Over> {
        let id = switch.transaction.clone();
        if self.hits(Fault::RefusesSwitch) {
            let refusal = self.world.host(&self.name, |host| host.refusal.clone());
            return self.refuse(refusal).await;
        }
        if self.hits(Fault::OrderLost) {
            return Err(Over::Lost);
        }
        if self.hits(Fault::ClaimsOnly) {
            self.say(&Reply::Progress(Progress::State(State::Committed)))
                .await?;
            return Err(Over::Lost);
        }
        let running = Running {
            progress: vec![],
            state: State::Prepared,
            nonce: switch.nonce,
            is_confirmed: false,
            is_to_be_taken_back: false,
        };
        self.world
            .host(&self.name, |host| host.running.insert(id.clone(), running));
        let (world, name) = (self.world.clone(), self.name.clone());
        tokio::spawn(transact(world, name, id.clone(), switch.confirm_within_ms));
        if self.hits(Fault::LostAfterOrder) {
            return Err(Over::Lost);
        }
        self.follow(id).await
    }

    async fn watch(&mut self, id: TransactionId) -> Result<(), Over> {
        if self.hits(Fault::RefusesWatch) {
            return self.refuse(Refusal::Protocol { why: "no".into() }).await;
        }
        let is_open =
            |host: &mut super::Host| host.running.get(&id).map(|run| !run.state.is_final());
        match self.world.host(&self.name, is_open) {
            None => self.verdict(id, None).await,
            Some(true) if self.hits(Fault::NotKnown) => self.verdict(id, None).await,
            Some(_) => self.follow(id).await,
        }
    }

    /// Tells all progress, then the verdict.
    async fn follow(&mut self, id: TransactionId) -> Result<(), Over> {
        if self.hits(Fault::ForeignVerdict) {
            let other = "another".parse().unwrap();
            return self.verdict(other, Some(State::Committed)).await;
        }
        if self.hits(Fault::OpenVerdict) {
            return self.verdict(id, Some(State::Switching)).await;
        }
        let mut told = 0;
        loop {
            let running = self
                .world
                .when(&self.name, |host| {
                    let running = &host.running[&id];
                    let is_news = running.progress.len() > told || running.state.is_final();
                    is_news.then(|| running.clone())
                })
                .await;
            for progress in &running.progress[told..] {
                self.say(&Reply::Progress(progress.clone())).await?;
                told += 1;
                if told == 2 && self.hits(Fault::LostInProgress) {
                    return Err(Over::Lost);
                }
            }
            if running.state.is_final() {
                if self.hits(Fault::VerdictLost) {
                    return Err(Over::Lost);
                }
                return self.verdict(id, Some(running.state)).await;
            }
        }
    }

    async fn confirm(&mut self, id: TransactionId, nonce: &str) -> Result<(), Over> {
        let is_known = self
            .world
            .host(&self.name, |host| match host.running.get_mut(&id) {
                Some(running) if running.nonce == Digest::of(nonce) => {
                    running.is_confirmed = true;
                    true
                }
                Some(_) | None => false,
            });
        if is_known {
            return self.ended(id).await;
        }
        self.refuse(Refusal::Protocol {
            why: "nonce".into(),
        })
        .await
    }

    async fn take_back(&mut self, id: TransactionId) -> Result<(), Over> {
        let is_known = self.world.host(&self.name, |host| {
            let running = host.running.get_mut(&id);
            running
                .map(|running| running.is_to_be_taken_back = true)
                .is_some()
        });
        if is_known {
            return self.ended(id).await;
        }
        self.verdict(id, None).await
    }

    /// The verdict, once there is one.
    async fn ended(&mut self, id: TransactionId) -> Result<(), Over> {
        self.world.publish();
        let state = self
            .world
            .when(&self.name, |host| {
                let state = &host.running[&id].state;
                state.is_final().then(|| state.clone())
            })
            .await;
        self.verdict(id, Some(state)).await
    }

    async fn verdict(
        &mut self,
        transaction: TransactionId,
        state: Option<State>,
    ) -> Result<(), Over> {
        self.say(&Reply::Verdict { transaction, state }).await
    }

    pub(super) async fn refuse(&mut self, refusal: Refusal) -> Result<(), Over> {
        self.say(&Reply::Refused(Box::new(refusal))).await
    }

    pub(super) async fn say(&mut self, reply: &Reply) -> Result<(), Over> {
        self.say_bytes(encode_message(reply).unwrap()).await
    }

    async fn say_text(&mut self, text: &'static str) -> Result<(), Over> {
        self.say_bytes(text.as_bytes().to_vec()).await
    }

    async fn say_bytes(&mut self, bytes: Vec<u8>) -> Result<(), Over> {
        let said = self.far.output.send(Bytes::from(bytes)).await;
        said.map_err(|_| Over::Lost)
    }

    async fn frame(&mut self) -> Result<Option<Frame>, Over> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                if frame.kind == Kind::Beat {
                    continue;
                }
                return Ok(Some(frame));
            }
            match self.far.input.recv().await {
                Some(chunk) => self.decoder.push(&chunk),
                None => return Ok(None),
            }
        }
    }

    async fn content(&mut self) -> Result<Vec<u8>, Over> {
        let frame = self.frame().await?.ok_or(Over::Lost)?;
        assert_eq!(frame.kind, Kind::Content);
        Ok(frame.body)
    }

    async fn request(&mut self) -> Result<Option<Request>, Over> {
        let Some(frame) = self.frame().await? else {
            return Ok(None);
        };
        let body = match frame.kind {
            Kind::Message => frame.body,
            Kind::PackedMessage => zstd::stream::decode_all(frame.body.as_slice()).unwrap(),
            Kind::Content | Kind::Beat => panic!("content that no request announced"),
        };
        Ok(Some(serde_json::from_slice(&body).unwrap()))
    }
}

fn facts() -> Facts {
    Facts {
        os: "debian".into(),
        os_version: "12".into(),
        machine: "x86_64".into(),
        kernel: String::new(),
        systemd: Some(252),
        glibc: Some((2, 36)),
        libraries: BTreeSet::new(),
        interpreters: BTreeSet::new(),
        nginx: None,
        nft: true,
        room: BTreeMap::new(),
        host_keys: vec![],
        ssh_ports: [22].into(),
        boot_id: String::new(),
        clock_unix_s: 0,
        shutdown_at_unix_s: None,
        reboot_required: false,
    }
}
