//! What a command that talks to hosts runs in: the asynchronous runtime, the operator's Ctrl-C, and
//! as many open files as the system allows.

use std::future::Future;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::Stop;
use crate::report::Complaint;
use crate::rollout::{Interrupt, InterruptHandle};

/// Threads that move bytes; what blocks has threads of its own.
const WORKERS: usize = 4;

/// Opened secrets are in this process's memory for moments: no core dump of it may reach a disk, neither
/// a file of its own nor by way of the system's collector. Children that are built with it keep theirs
/// small as well; they may raise the limit again.
pub fn leave_no_core_dump() {
    let limit = getrlimit(Resource::Core);
    let none = Rlimit {
        current: Some(0),
        ..limit
    };
    // Both only give something up, which is always allowed: setrlimit(2), PR_SET_DUMPABLE of prctl(2).
    let guarded = set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .and_then(|()| setrlimit(Resource::Core, none));
    if let Err(error) = guarded {
        tracing::warn!("core dumps of this process stay possible: {error}");
    }
}

/// Runs `work` to its end. Ctrl-C and SIGTERM reach it as its interrupt.
pub fn run<T, F: Future<Output = Result<T, Stop>>>(
    work: impl FnOnce(Interrupt) -> F,
) -> Result<T, Stop> {
    raise_open_files();
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| {
            Stop::not_started(
                Complaint::new(format!("cannot start working: {error}"))
                    .help("look at `ulimit -a`"),
            )
        })?;
    let result = runtime.block_on(async {
        let (handle, interrupt) = Interrupt::new();
        let listening = listen(handle)?;
        let result = work(interrupt).await;
        listening.abort();
        result
    });
    // Whatever still blocks, such as a build, is not waited for.
    runtime.shutdown_background();
    result
}

/// Turns signals into presses of the handle.
fn listen(handle: InterruptHandle) -> Result<tokio::task::JoinHandle<()>, Stop> {
    let refused = |error: std::io::Error| {
        Stop::not_started(Complaint::new(format!("cannot listen for Ctrl-C: {error}")))
    };
    let mut interrupts = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(refused)?;
    Ok(tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupts.recv() => handle.press(),
                _ = terminations.recv() => handle.press(),
            }
        }
    }))
}

/// A host takes a handful of open files; the usual soft limit of 1024 is a fleet of two hundred.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        // Small fleets do not need more, and large ones are told what they ran out of.
        tracing::info!(%error, "the limit of open files stays as it is");
    }
}
