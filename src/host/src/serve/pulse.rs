//! Whether anybody is there. The host's side of the signs of life: it sends beats, and it notices
//! when the line brings nothing any more, whatever the session is busy with. Then the session is
//! given up as it stands: its process ends, and the lock goes with it. A transaction is another
//! process and goes on alone.
//!
//! Must not know what is talked about. Only time that was spent waiting for the other side counts, so
//! a host that is slow itself does not throw its operator out.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use push_wire::frame::{BEAT, BEAT_EVERY, DEAD_AFTER};

/// The pause between two looks at the clock.
const LOOK: Duration = Duration::from_millis(500);

/// How long a session may go on with what it is doing once its operator's side has been closed.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What is done when nobody is there any more; it may not return.
pub type GiveUp = fn();

/// Both kinds of signs of life, for as long as this value lives.
pub struct Pulse {
    _heart: SyncSender<()>,
    _watch: SyncSender<()>,
}

impl Pulse {
    /// Begins to beat on `output`, and to watch the input that `heard` belongs to.
    pub fn start<W: Write + Send + 'static>(
        output: &Arc<Mutex<W>>,
        heard: Arc<Heard>,
        give_up: GiveUp,
    ) -> Self {
        // Nothing is ever sent: the threads end when the senders go.
        let (heart, stopped) = mpsc::sync_channel(0);
        let output = Arc::downgrade(output);
        std::thread::spawn(move || {
            while is_wanted(&stopped, BEAT_EVERY) {
                let Some(output) = output.upgrade() else {
                    return;
                };
                let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
                // That nobody hears us is for the watch to notice.
                if output
                    .write_all(&BEAT)
                    .and_then(|()| output.flush())
                    .is_err()
                {
                    return;
                }
            }
        });
        let (watch, stopped) = mpsc::sync_channel(0);
        std::thread::spawn(move || {
            while is_wanted(&stopped, LOOK) {
                if heard.is_over() {
                    return give_up();
                }
            }
        });
        Self {
            _heart: heart,
            _watch: watch,
        }
    }
}

/// Waits; false once nobody wants to go on.
fn is_wanted(stopped: &Receiver<()>, pause: Duration) -> bool {
    stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
}

/// When something was last heard.
#[derive(Debug)]
pub struct Heard {
    began: Instant,
    /// Since when the present read waits; in milliseconds since `began`, 0 when none does.
    waits_since: AtomicU64,
    /// Since when there has been nothing more to read, likewise.
    ended_at: AtomicU64,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            waits_since: AtomicU64::new(0),
            ended_at: AtomicU64::new(0),
        }
    }
}

impl Heard {
    fn is_over(&self) -> bool {
        let has_lasted = |since: &AtomicU64, limit: Duration| match since.load(Ordering::Relaxed) {
            0 => false,
            since => Duration::from_millis(self.now().saturating_sub(since)) >= limit,
        };
        has_lasted(&self.waits_since, DEAD_AFTER) || has_lasted(&self.ended_at, END_WITHIN)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).map_or(u64::MAX, |now| now.max(1))
    }
}

/// An input that is listened to.
pub struct Listening<R> {
    input: R,
    heard: Arc<Heard>,
}

impl<R> Listening<R> {
    /// Listens to `input`.
    pub fn to(input: R, heard: Arc<Heard>) -> Self {
        Self { input, heard }
    }
}

impl<R: Read> Read for Listening<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let heard = &self.heard;
        heard.waits_since.store(heard.now(), Ordering::Relaxed);
        let read = self.input.read(buffer);
        heard.waits_since.store(0, Ordering::Relaxed);
        if !buffer.is_empty() && matches!(read, Ok(0) | Err(_)) {
            heard.ended_at.store(heard.now(), Ordering::Relaxed);
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    /// Waits for ever, once it has given what it has.
    struct ThenSilent(Option<u8>);

    impl Read for ThenSilent {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.take() {
                Some(byte) => {
                    buffer[0] = byte;
                    Ok(1)
                }
                None => loop {
                    std::thread::park();
                },
            }
        }
    }

    fn listening(input: impl Read + Send + 'static) -> Arc<Heard> {
        let heard = Arc::new(Heard::default());
        let mut input = Listening::to(input, Arc::clone(&heard));
        std::thread::spawn(move || while matches!(input.read(&mut [0]), Ok(1..)) {});
        heard
    }

    #[test]
    fn silence_is_over_in_time_and_not_before() {
        let began = Instant::now();
        let heard = listening(ThenSilent(Some(b'x')));
        while !heard.is_over() {
            assert!(began.elapsed() < Duration::from_secs(15));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(began.elapsed() >= DEAD_AFTER);
    }

    #[test]
    fn a_session_that_is_busy_itself_is_not_over_and_one_whose_input_ended_soon_is() {
        let idle = Heard::default();
        let ended = listening(io::empty());
        std::thread::sleep(END_WITHIN + Duration::from_millis(200));
        assert!(!idle.is_over());
        assert!(ended.is_over());
    }

    #[test]
    fn a_beat_is_sent_while_nobody_says_anything_and_whoever_has_gone_is_given_up() {
        static GIVEN_UP: AtomicBool = AtomicBool::new(false);
        let output = Arc::new(Mutex::new(Vec::new()));
        let heard = listening(io::empty());
        let pulse = Pulse::start(&output, heard, || GIVEN_UP.store(true, Ordering::Relaxed));
        std::thread::sleep(BEAT_EVERY + LOOK);
        assert_eq!(*output.lock().unwrap(), BEAT);
        std::thread::sleep(END_WITHIN);
        assert!(GIVEN_UP.load(Ordering::Relaxed));
        drop(pulse);
    }
}
