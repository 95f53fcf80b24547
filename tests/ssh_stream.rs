//! Commands over a real sshd: bytes, exit status, stderr, loss.

use bytes::Bytes;
use push::transport::ssh::SshDialer;
use push::transport::{Connection, Dialer, Error, NoPrompt, Route, Status, Target};
use push_tests::relay::Relay;
use push_tests::sshd::{Lab, Sshd, Wishes, host_key, identity, public};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

/// A server, and a target that gets in with a key file and a pinned host key.
fn server(lab: &Lab) -> (Sshd, Target) {
    let host = lab.key("host", &["ed25519"]);
    let user = lab.key("user", &["ed25519"]);
    let wishes = Wishes {
        host_keys: vec![host.clone()],
        authorized: vec![public(&user)],
        ..Wishes::default()
    };
    let sshd = lab.sshd("sshd", &wishes);
    let mut target = sshd.target("web1");
    target.pinned = vec![host_key(&host)];
    target.identities = vec![identity(&user)];
    (sshd, target)
}

async fn dial(target: &Target) -> Result<Box<dyn Connection>, Error> {
    SshDialer::new(Arc::new(NoPrompt))
        .dial(target, Route::Shared)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gives_its_output_its_stderr_and_its_exit_status() {
    let Some(lab) = Lab::new() else { return };
    let (_sshd, target) = server(&lab);
    let connection = dial(&target).await.unwrap();
    let mut session = connection
        .exec("read line; echo \"got $line\"; printf 'oops \\033[31m\\n' >&2; exit 7")
        .await
        .unwrap();
    session.write("hello\n".into()).await.unwrap();
    assert_eq!(session.read().await.unwrap().unwrap(), "got hello\n");
    assert_eq!(session.read().await.unwrap(), None);
    let exit = session.finish(LONG).await.unwrap();
    assert_eq!(
        (exit.status, exit.stderr),
        (Status::Code(7), vec!["oops \\x1b[31m".to_owned()])
    );
    assert!(connection.traffic().sent > 1000 && connection.traffic().received > 1000);
    let before = Instant::now();
    connection.disconnect().await;
    // A server that does not hang up is given two seconds; this one does hang up.
    assert!(
        before.elapsed() < Duration::from_millis(1_900),
        "the goodbye took {:?}",
        before.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_says_its_status_by_signal_is_told_apart() {
    let Some(lab) = Lab::new() else { return };
    let (_sshd, target) = server(&lab);
    let connection = dial(&target).await.unwrap();
    let session = connection.exec("kill -TERM $$").await.unwrap();
    assert_eq!(
        session.finish(LONG).await.unwrap().status,
        Status::Signal("TERM".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn something_left_running_does_not_hold_up_the_exit_status() {
    let Some(lab) = Lab::new() else { return };
    let (_sshd, target) = server(&lab);
    let connection = dial(&target).await.unwrap();
    let session = connection
        .exec("sleep 20 & echo started; exit 3")
        .await
        .unwrap();
    let before = Instant::now();
    assert_eq!(session.finish(LONG).await.unwrap().status, Status::Code(3));
    assert!(
        before.elapsed() < Duration::from_secs(10),
        "{:?}",
        before.elapsed()
    );
}

const STREAM_BYTES: usize = 64 << 20;
const CHUNK_BYTES: usize = 256 << 10;

/// The largest resident size of this process so far, in KiB.
fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_mebibytes_go_both_ways_at_once_in_bounded_memory() {
    let Some(lab) = Lab::new() else { return };
    let (_sshd, target) = server(&lab);
    let connection = dial(&target).await.unwrap();
    let session = connection.exec("cat").await.unwrap();
    let (mut output, mut input) = session.split();
    let before = peak_kib();
    let writer = tokio::spawn(async move {
        for index in 0..STREAM_BYTES / CHUNK_BYTES {
            let chunk = vec![u8::try_from(index % 251).unwrap(); CHUNK_BYTES];
            input.write(Bytes::from(chunk)).await.unwrap();
        }
    });
    let mut count = 0;
    while let Some(bytes) = output.read().await.unwrap() {
        for byte in bytes {
            assert_eq!(usize::from(byte), count / CHUNK_BYTES % 251, "at {count}");
            count += 1;
        }
    }
    writer.await.unwrap();
    assert_eq!(count, STREAM_BYTES);
    assert_eq!(output.finish(LONG).await.unwrap().status, Status::Code(0));
    let grown = peak_kib() - before;
    assert!(grown < 40 << 10, "the stream took {grown} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_is_not_read_waits_on_the_host_and_not_in_memory() {
    let Some(lab) = Lab::new() else { return };
    let (_sshd, target) = server(&lab);
    let connection = dial(&target).await.unwrap();
    let mut session = connection.exec("yes").await.unwrap();
    session.read().await.unwrap().unwrap();
    let mut before = connection.traffic().received;
    let deadline = Instant::now() + LONG;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = connection.traffic().received;
        if now == before {
            break;
        }
        assert!(Instant::now() < deadline, "still reading after {now} bytes");
        before = now;
    }
    assert!(
        before < 32 << 20,
        "{before} bytes were taken without a reader"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_to_a_command_that_has_ended_fails_and_does_not_hang() {
    let Some(lab) = Lab::new() else { return };
    let (_sshd, target) = server(&lab);
    let connection = dial(&target).await.unwrap();
    let mut session = connection
        .exec("head -c 1000 >/dev/null; sleep 1; exit 9")
        .await
        .unwrap();
    let write = async {
        loop {
            if let Err(error) = session.write(Bytes::from(vec![0; CHUNK_BYTES])).await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(LONG, write)
        .await
        .expect("the write hangs");
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
    assert_eq!(session.finish(LONG).await.unwrap().status, Status::Code(9));
    // The connection has not suffered.
    let next = connection.exec("exit 4").await.unwrap();
    assert_eq!(next.finish(LONG).await.unwrap().status, Status::Code(4));
}

/// A target by way of a relay.
fn relayed(target: &Target, relay: &Relay) -> Target {
    Target {
        port: relay.port,
        ..target.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_in_mid_stream_ends_reads_and_writes_with_a_loss() {
    let Some(lab) = Lab::new() else { return };
    let (sshd, target) = server(&lab);
    let relay = Relay::to(sshd.port);
    let connection = dial(&relayed(&target, &relay)).await.unwrap();
    let session = connection.exec("cat >/dev/null").await.unwrap();
    let (mut output, mut input) = session.split();
    let writer = tokio::spawn(async move {
        loop {
            if let Err(error) = input.write(Bytes::from(vec![0; CHUNK_BYTES])).await {
                return error;
            }
        }
    });
    while relay.passed() < 4 << 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    relay.cut();
    let written = tokio::time::timeout(LONG, writer)
        .await
        .expect("the write hangs")
        .unwrap();
    assert!(matches!(written, Error::Lost { .. }), "{written:?}");
    let read = tokio::time::timeout(LONG, output.read())
        .await
        .expect("the read hangs");
    assert!(matches!(read, Err(Error::Lost { .. })), "{read:?}");
    let again = connection.exec("true").await;
    assert!(
        matches!(again, Err(Error::Lost { .. })),
        "{:?}",
        again.err()
    );
    assert!(written.is_unreachable());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_falls_silent_is_noticed_within_twenty_seconds() {
    let Some(lab) = Lab::new() else { return };
    let (sshd, target) = server(&lab);
    let relay = Relay::to(sshd.port);
    let connection = dial(&relayed(&target, &relay)).await.unwrap();
    let mut session = connection.exec("cat").await.unwrap();
    session.write("ping".into()).await.unwrap();
    assert_eq!(session.read().await.unwrap().unwrap(), "ping");
    relay.stall();
    let before = Instant::now();
    let read = tokio::time::timeout(LONG, session.read())
        .await
        .expect("nothing was noticed");
    let Err(Error::Lost { reason, .. }) = &read else {
        panic!("{read:?}")
    };
    assert!(reason.contains("15s"), "{reason}");
    let waited = before.elapsed();
    assert!(
        waited > Duration::from_secs(9) && waited < Duration::from_secs(20),
        "{waited:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_session_closes_the_command_s_stdin() {
    let Some(lab) = Lab::new() else { return };
    let (_sshd, target) = server(&lab);
    let connection = dial(&target).await.unwrap();
    let mark = lab.path("mark");
    let mut session = connection
        .exec("read mark; echo ready; cat >/dev/null; echo gone > \"$mark\"")
        .await
        .unwrap();
    session
        .write(Bytes::from(format!("{}\n", mark.display())))
        .await
        .unwrap();
    session.read().await.unwrap().unwrap();
    drop(session);
    let deadline = Instant::now() + LONG;
    while !mark.exists() {
        assert!(
            Instant::now() < deadline,
            "the command still waits for input"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
