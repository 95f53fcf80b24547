//! Ctrl-C, once and twice. Once: stop safely and wait for the hosts' answers. Twice: leave.

use std::time::Duration;

use tokio::sync::watch;

/// How long hosts that are asked to take back are waited for. They go on alone afterwards.
pub const VERDICT_AFTER_INTERRUPT_MAX: Duration = Duration::from_secs(180);

/// The side of whoever hears Ctrl-C.
#[derive(Debug)]
pub struct InterruptHandle(watch::Sender<u8>);

/// The side of whoever has to stop.
#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<u8>);

/// Presses after which nobody waits any more.
const LEAVE: u8 = 2;

impl Interrupt {
    /// Both sides. Dropping the handle is not an interrupt.
    pub fn new() -> (InterruptHandle, Self) {
        let (sender, receiver) = watch::channel(0);
        (InterruptHandle(sender), Self(receiver))
    }

    /// Whether the operator wants to stop.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Whether the operator wants to leave at once.
    pub fn is_left(&self) -> bool {
        *self.0.borrow() >= LEAVE
    }

    /// Returns when the operator wants to stop.
    pub async fn asked(&self) {
        self.pressed(1).await;
    }

    /// Returns when the operator wants to leave at once.
    pub async fn left(&self) {
        self.pressed(LEAVE).await;
    }

    /// `work`, or `None` if the operator wants to stop before it is done; then it is dropped.
    pub async fn unless_asked<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.asked() => None,
            done = work => Some(done),
        }
    }

    async fn pressed(&self, times: u8) {
        let mut presses = self.0.clone();
        if presses.wait_for(|pressed| *pressed >= times).await.is_err() {
            // Nobody can press any more.
            std::future::pending::<()>().await;
        }
    }
}

impl InterruptHandle {
    /// One more Ctrl-C.
    pub fn press(&self) {
        self.0
            .send_modify(|pressed| *pressed = pressed.saturating_add(1));
    }
}
