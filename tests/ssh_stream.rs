//! Commands over a real sshd: bytes, exit status, stderr, loss.

use push::transport::ssh::SshDialer;
use push::transport::{Connection, Dialer, Error, NoPrompt, Route, Status, Target};
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
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "the goodbye took {:?}",
        before.elapsed()
    );
}
