//! How a host is reached: TCP, jump hosts, ProxyCommand, ssh_config, and servers that misbehave.

use push::transport::resolve::{Laptop, Resolver, Wanted};
use push::transport::ssh::SshDialer;
use push::transport::{Connection, Dialer, Error, NoPrompt, Route, Status, Target};
use push_tests::sshd::{Lab, Sshd, Wishes, account, free_port, host_key, identity, public};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

/// A lab with a host key and a user key that all its servers share.
struct Scene {
    lab: Lab,
    host: PathBuf,
    user: PathBuf,
}

impl Scene {
    fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let (host, user) = (lab.key("host", &["ed25519"]), lab.key("user", &["ed25519"]));
        Some(Self { lab, host, user })
    }

    fn server(&self, name: &str, config: &str) -> (Sshd, Target) {
        let wishes = Wishes {
            host_keys: vec![self.host.clone()],
            authorized: vec![public(&self.user)],
            config: config.into(),
        };
        let sshd = self.lab.sshd(name, &wishes);
        let target = Target {
            pinned: vec![host_key(&self.host)],
            identities: vec![identity(&self.user)],
            ..sshd.target(name)
        };
        (sshd, target)
    }
}

fn dialer() -> SshDialer {
    SshDialer::new(Arc::new(NoPrompt))
}

async fn dial(target: &Target) -> Result<Box<dyn Connection>, Error> {
    dialer().dial(target, Route::Shared).await
}

async fn status(connection: &dyn Connection) -> Status {
    connection
        .exec("exit 5")
        .await
        .unwrap()
        .finish(LONG)
        .await
        .unwrap()
        .status
}

fn logins(sshd: &Sshd) -> usize {
    sshd.logged().matches("Accepted publickey").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_jump_hosts_lead_to_a_host_and_are_shared_by_the_hosts_behind_them() {
    let Some(scene) = Scene::new() else { return };
    let (one, first) = scene.server("one", "");
    let (two, second) = scene.server("two", "");
    let (last, target) = scene.server("web1", "");
    let target = Target {
        jumps: vec![first, second],
        ..target
    };
    let dialer = dialer();
    let (a, b, c) = tokio::join!(
        dialer.dial(&target, Route::Shared),
        dialer.dial(&target, Route::Shared),
        dialer.dial(&target, Route::Shared)
    );
    for connection in [a, b, c] {
        assert_eq!(status(connection.unwrap().as_ref()).await, Status::Code(5));
    }
    assert_eq!((logins(&one), logins(&two), logins(&last)), (1, 1, 3));

    // The confirming connection takes nothing for granted.
    let fresh = dialer.dial(&target, Route::Fresh).await.unwrap();
    assert_eq!(status(fresh.as_ref()).await, Status::Code(5));
    assert_eq!((logins(&one), logins(&two), logins(&last)), (2, 2, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_behind_a_jump_host_that_is_not_read_does_not_stop_its_neighbour() {
    let Some(scene) = Scene::new() else { return };
    let (_one, jump) = scene.server("one", "");
    let (_last, target) = scene.server("web1", "");
    let target = Target {
        jumps: vec![jump],
        ..target
    };
    let dialer = dialer();
    let stuck = dialer.dial(&target, Route::Shared).await.unwrap();
    let mut flood = stuck.exec("yes").await.unwrap();
    flood.read().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let neighbour = tokio::time::timeout(LONG, dialer.dial(&target, Route::Shared))
        .await
        .expect("held up")
        .unwrap();
    assert_eq!(status(neighbour.as_ref()).await, Status::Code(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_at_a_jump_host_names_the_jump_host() {
    let Some(scene) = Scene::new() else { return };
    let (_last, target) = scene.server("web1", "");
    let dead = Target::at("bastion", "127.0.0.1", free_port());
    let error = dial(&Target {
        jumps: vec![dead],
        ..target.clone()
    })
    .await
    .err()
    .unwrap();
    let Error::Jump { hop, cause, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(hop, "bastion");
    assert!(matches!(**cause, Error::Unreachable { .. }) && error.is_unreachable());

    let (_one, jump) = scene.server("closed", "AllowTcpForwarding no\n");
    let error = dial(&Target {
        jumps: vec![jump],
        ..target.clone()
    })
    .await
    .err()
    .unwrap();
    assert!(matches!(error, Error::ForwardRefused { .. }), "{error:?}");

    let (_two, jump) = scene.server("open", "");
    let gone = Target {
        port: free_port(),
        jumps: vec![jump],
        ..target
    };
    let error = dial(&gone).await.err().unwrap();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_command_carries_the_connection_and_its_complaint_is_told() {
    let Some(scene) = Scene::new() else { return };
    let (sshd, target) = scene.server("web1", "");
    let script = "import os,socket,sys,threading\n\
        s=socket.create_connection(('127.0.0.1',int(sys.argv[1])))\n\
        def up():\n  while True:\n    b=os.read(0,65536)\n    if not b: break\n    s.sendall(b)\n\
        threading.Thread(target=up,daemon=True).start()\n\
        while True:\n  b=s.recv(65536)\n  if not b: break\n  os.write(1,b)\n";
    let script = scene.lab.write("proxy.py", script);
    let command = format!("exec python3 {} {}", script.display(), sshd.port);
    let proxied = Target {
        port: 1,
        proxy_command: Some(command),
        ..target.clone()
    };
    let connection = dial(&proxied).await.unwrap();
    assert_eq!(status(connection.as_ref()).await, Status::Code(5));
    connection.disconnect().await;

    let broken = Target {
        proxy_command: Some("echo no such tunnel >&2; exit 1".into()),
        ..target
    };
    let error = dial(&broken).await.err().unwrap();
    assert!(matches!(error, Error::ProxyCommand { .. }), "{error:?}");
    assert!(error.to_string().contains("no such tunnel"), "{error}");
}

/// Accepts connections and does something with each of them, in a thread of its own.
fn fake_server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Target {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    Target {
        user: "me".into(),
        ..Target::at("web1", "127.0.0.1", port)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_port_and_a_name_without_address_are_unreachable_at_once() {
    let error = dial(&Target::at("web1", "127.0.0.1", free_port()))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, Error::Unreachable { .. }) && error.is_unreachable(),
        "{error:?}"
    );
    let error = dial(&Target::at("web1", "web1.invalid", 22))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, Error::Unresolved { .. }) && error.is_unreachable(),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_is_given_up_and_its_socket_closed() {
    let (tell, told) = std::sync::mpsc::channel();
    let target = fake_server(move |mut stream| {
        let mut everything = Vec::new();
        let _ = stream.read_to_end(&mut everything);
        let _ = tell.send(everything);
    });
    let before = Instant::now();
    let error = tokio::time::timeout(LONG, dial(&target))
        .await
        .expect("no deadline")
        .err()
        .unwrap();
    assert!(
        matches!(error, Error::Silent { .. }) && error.is_unreachable(),
        "{error:?}"
    );
    assert!(
        before.elapsed() < Duration::from_secs(35),
        "{:?}",
        before.elapsed()
    );
    let sent = told
        .recv_timeout(Duration::from_secs(5))
        .expect("the socket is still open");
    assert!(sent.starts_with(b"SSH-2.0-push"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_in_the_middle_of_the_key_exchange_is_let_go() {
    let (tell, told) = std::sync::mpsc::channel();
    let target = fake_server(move |mut stream| {
        stream.write_all(b"SSH-2.0-stuck\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        let _ = tell.send(());
    });
    let dialed = tokio::time::timeout(LONG, dial(&target))
        .await
        .expect("no deadline");
    assert!(matches!(dialed.err().unwrap(), Error::Silent { .. }));
    told.recv_timeout(Duration::from_secs(5))
        .expect("the library's task holds the socket");
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_a_dial_closes_its_socket() {
    let (tell, told) = std::sync::mpsc::channel();
    let target = fake_server(move |mut stream| {
        stream.write_all(b"SSH-2.0-stuck\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        let _ = tell.send(());
    });
    let _ = tokio::time::timeout(Duration::from_millis(500), dial(&target)).await;
    told.recv_timeout(Duration::from_secs(5))
        .expect("the socket is still open");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_ssh_server_is_shown_escaped() {
    let target = fake_server(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\x1b[31mred\r\n");
    });
    let error = dial(&target).await.err().unwrap();
    let Error::Handshake { reason, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        reason.contains("HTTP/1.1 400") && reason.contains("\\x1b[31m"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_penalty_is_told_and_not_fought() {
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = count.clone();
    let target = fake_server(move |mut stream| {
        seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let _ = stream.write_all(b"Not allowed at this time\r\n");
    });
    let error = dial(&target).await.err().unwrap();
    assert!(matches!(error, Error::Penalized { .. }), "{error:?}");
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_connections_gets_through_a_server_that_drops_most_of_them() {
    let Some(scene) = Scene::new() else { return };
    let (sshd, target) = scene.server("web1", "MaxStartups 4:50:10\n");
    let dialer = Arc::new(dialer());
    let mut storm = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (dialer, target) = (dialer.clone(), target.clone());
        storm.spawn(async move { dialer.dial(&target, Route::Shared).await.map(drop) });
    }
    let results = storm.join_all().await;
    let failed: Vec<&Error> = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .collect();
    assert!(failed.is_empty(), "{} of 40: {:?}", failed.len(), failed[0]);
    assert!(
        sshd.logged().contains("MaxStartups"),
        "the server dropped nothing: the test shows nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_config_and_inventory_together_lead_to_the_host() {
    let Some(scene) = Scene::new() else { return };
    let (_one, jump) = scene.server("bastion", "");
    let (last, _) = scene.server("web1", "");
    let known_hosts = format!("* {}\n", host_key(&scene.host));
    let known_hosts = scene.lab.write("known_hosts", &known_hosts);
    let config = format!(
        "Host bastion\n Port {}\n HostName 127.0.0.1\nHost web1\n ProxyJump bastion\n HostName 127.0.0.1\n\
         Host *\n UserKnownHostsFile {}\n GlobalKnownHostsFile none\n IdentityFile {}\n User {}\n",
        jump.port,
        known_hosts.display(),
        scene.user.display(),
        account()
    );
    let laptop = Laptop {
        config: Some(scene.lab.write("ssh_config", &config)),
        ..laptop(scene.lab.path(".").as_path())
    };
    let wanted = Wanted {
        host: "web1".into(),
        port: Some(last.port),
        ..Wanted::default()
    };
    let target = Resolver::new(laptop, [wanted])
        .resolve("web1")
        .await
        .unwrap();
    assert_eq!(target.jumps[0].port, jump.port);
    let connection = dial(&target).await.unwrap();
    assert_eq!(status(connection.as_ref()).await, Status::Code(5));
}

fn laptop(home: &Path) -> Laptop {
    Laptop {
        ssh: "ssh".into(),
        config: None,
        home: home.to_owned(),
        user: account(),
        agent: None,
    }
}
