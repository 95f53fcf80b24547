//! Who is talked to and who is not: pinned keys, known_hosts and host certificates against a real sshd.

use push::transport::ssh::SshDialer;
use push::transport::{Connection, Dialer, Error, NoPrompt, Route, Target, VerifiedBy};
use push_tests::sshd::{Lab, Sshd, Wishes, host_key, identity, public, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A server with two host keys, and a target that has what it takes to log in.
struct Scene {
    lab: Lab,
    sshd: Sshd,
    target: Target,
    ed25519: PathBuf,
    ecdsa: PathBuf,
}

impl Scene {
    fn new() -> Option<Self> {
        Self::with(|_, _| String::new())
    }

    fn with(config: impl FnOnce(&Lab, &Path) -> String) -> Option<Self> {
        let lab = Lab::new()?;
        let ed25519 = lab.key("host_ed25519", &["ed25519"]);
        let ecdsa = lab.key("host_ecdsa", &["ecdsa"]);
        let user = lab.key("user", &["ed25519"]);
        let wishes = Wishes {
            host_keys: vec![ed25519.clone(), ecdsa.clone()],
            authorized: vec![public(&user)],
            config: config(&lab, &ed25519),
        };
        let sshd = lab.sshd("sshd", &wishes);
        let target = Target {
            identities: vec![identity(&user)],
            ..sshd.target("web1")
        };
        Some(Self {
            lab,
            sshd,
            target,
            ed25519,
            ecdsa,
        })
    }

    /// Dials with this known_hosts file; `ED25519` and `ECDSA` stand for the server's keys, `NAME` for its name.
    async fn dial_knowing(&self, known_hosts: &str) -> Result<Box<dyn Connection>, Error> {
        let text = known_hosts
            .replace("NAME", &format!("[127.0.0.1]:{}", self.sshd.port))
            .replace("ED25519", &host_key(&self.ed25519).to_string())
            .replace("ECDSA", &host_key(&self.ecdsa).to_string());
        let known_hosts = vec![
            self.lab.write("known_hosts", &text),
            self.lab.path("absent"),
        ];
        dial(&Target {
            known_hosts,
            ..self.target.clone()
        })
        .await
    }

    /// Whether the server saw anybody try to log in.
    fn saw_a_login(&self) -> bool {
        let log = self.sshd.logged();
        log.contains("Accepted")
            || log.contains("Postponed")
            || log.contains("userauth")
            || log.contains("Failed")
    }
}

async fn dial(target: &Target) -> Result<Box<dyn Connection>, Error> {
    SshDialer::new(Arc::new(NoPrompt))
        .dial(target, Route::Shared)
        .await
}

fn error(result: Result<Box<dyn Connection>, Error>) -> Error {
    match result {
        Ok(connection) => panic!("connected to {:?}", connection.server_key()),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_key_lets_in_and_any_other_key_stops_before_the_login() {
    let Some(scene) = Scene::new() else { return };
    for key in [&scene.ed25519, &scene.ecdsa] {
        let pinned = vec![host_key(key)];
        let connection = dial(&Target {
            pinned: pinned.clone(),
            ..scene.target.clone()
        })
        .await
        .unwrap();
        assert_eq!(connection.server_key().key, pinned[0]);
        assert_eq!(connection.server_key().verified_by, VerifiedBy::Pinned);
    }

    let Some(scene) = Scene::new() else { return };
    let wrong = host_key(&scene.lab.key("wrong", &["ed25519"]));
    let error = error(
        dial(&Target {
            pinned: vec![wrong],
            ..scene.target.clone()
        })
        .await,
    );
    assert!(
        matches!(&error, Error::HostKeyChanged { key, .. } if *key == host_key(&scene.ed25519)),
        "{error:?}"
    );
    assert!(!scene.saw_a_login(), "{}", scene.sshd.logged());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_key_is_believed_whatever_known_hosts_says_unless_that_revokes_it() {
    let Some(scene) = Scene::new() else { return };
    let right = host_key(&scene.ed25519);
    let other = host_key(&scene.lab.key("other", &["ed25519"]));
    let pinned = |known_hosts: &str| Target {
        pinned: vec![right.clone()],
        known_hosts: vec![scene.lab.write("kh", known_hosts)],
        ..scene.target.clone()
    };
    let port = scene.sshd.port;
    for fine in [
        String::new(),
        format!("[127.0.0.1]:{port} {other}\n"),
        format!("@revoked * {other}\n"),
        format!("@revoked elsewhere.example {right}\n"),
    ] {
        let connection = dial(&pinned(&fine)).await.unwrap();
        assert_eq!(
            connection.server_key().verified_by,
            VerifiedBy::Pinned,
            "{fine}"
        );
    }
    let before = scene.sshd.logged().matches("Accepted").count();
    let revoking = pinned(&format!(
        "# stolen in May\n[127.0.0.1]:{port} {right}\n@revoked * {right}\n"
    ));
    let error = error(dial(&revoking).await);
    let Error::HostKeyRevoked { file, line, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((file, *line), (&revoking.known_hosts[0], 3));
    let said = error.to_string();
    assert!(said.contains(&format!("{}:3", file.display())), "{said}");
    let logins = scene.sshd.logged().matches("Accepted").count();
    assert_eq!(logins, before, "nothing is sent to it");
    // Whether it is revoked cannot be told from a file that cannot be read.
    let unreadable = Target {
        known_hosts: vec![scene.lab.path(".")],
        ..pinned("")
    };
    let refused = self::error(dial(&unreadable).await);
    assert!(matches!(refused, Error::KnownHosts { .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_stops_before_the_login_and_says_what_to_pin() {
    let Some(scene) = Scene::new() else { return };
    let error = error(scene.dial_knowing("# nothing\n").await);
    let Error::HostKeyUnknown { key, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*key, host_key(&scene.ed25519));
    assert!(error.to_string().contains(&key.fingerprint()));
    assert!(
        error
            .help(&"prod".parse().unwrap())
            .contains("on the host's own console"),
        "{}",
        error.help(&"prod".parse().unwrap())
    );
    assert!(
        error
            .help(&"prod".parse().unwrap())
            .contains("`push trust web1`"),
        "{}",
        error.help(&"prod".parse().unwrap())
    );
    assert!(!scene.saw_a_login(), "{}", scene.sshd.logged());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_that_is_known_is_the_one_that_is_asked_for() {
    let Some(scene) = Scene::new() else { return };
    let connection = scene.dial_knowing("# comment\nNAME ECDSA\n").await.unwrap();
    let key = connection.server_key();
    assert_eq!(key.key, host_key(&scene.ecdsa));
    assert!(
        matches!(&key.verified_by, VerifiedBy::KnownHosts { line: 2, .. }),
        "{key:?}"
    );
    scene.dial_knowing("127.0.0.* ED25519\n").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_a_revoked_and_an_untyped_key_each_stop_with_their_own_reason() {
    let Some(scene) = Scene::new() else { return };
    let other = host_key(&scene.lab.key("other", &["ed25519"]));
    let rsa = host_key(&scene.lab.key("rsa", &["rsa"]));

    let changed = error(scene.dial_knowing(&format!("NAME {other}\n")).await);
    assert!(
        matches!(changed, Error::HostKeyChanged { .. }),
        "{changed:?}"
    );
    assert!(
        changed.to_string().contains(&other.fingerprint()),
        "{changed}"
    );

    let revoked = error(
        scene
            .dial_knowing("NAME ED25519\n@revoked * ED25519\n")
            .await,
    );
    assert!(
        matches!(revoked, Error::HostKeyRevoked { line: 2, .. }),
        "{revoked:?}"
    );

    let other_type = error(scene.dial_knowing(&format!("NAME {rsa}\n")).await);
    assert!(
        matches!(other_type, Error::HostKeyOtherType { .. }),
        "{other_type:?}"
    );

    let several = scene
        .dial_knowing(&format!("NAME {other}\nNAME ED25519\n"))
        .await;
    assert!(several.is_ok(), "{:?}", several.err());
    assert_eq!(scene.sshd.logged().matches("Accepted publickey").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_hosts_file_that_cannot_be_read_is_an_error() {
    let Some(scene) = Scene::new() else { return };
    // A directory in the file's place cannot be read even by root.
    let known_hosts = vec![scene.lab.path(".")];
    let error = error(
        dial(&Target {
            known_hosts,
            ..scene.target.clone()
        })
        .await,
    );
    assert!(matches!(error, Error::KnownHosts { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_a_known_authority_is_believed_for_its_names_only() {
    let certified = |principals: &'static str| {
        move |lab: &Lab, host: &Path| {
            let ca = lab.key("ca", &["ed25519"]);
            lab.certify(&ca, host, &["-h", "-I", "web1", "-n", principals]);
            format!("HostCertificate {}-cert.pub\n", host.display())
        }
    };
    let Some(scene) = Scene::with(certified("127.0.0.1,web1")) else {
        return;
    };
    let authority = host_key(&scene.lab.path("ca"));
    let line = format!("@cert-authority * {authority}\n");

    let connection = scene.dial_knowing(&line).await.unwrap();
    let verified_by = VerifiedBy::Certificate {
        authority: authority.fingerprint(),
        key_id: "web1".into(),
    };
    assert_eq!(connection.server_key().verified_by, verified_by);
    assert_eq!(connection.server_key().key, host_key(&scene.ed25519));

    let revoked = error(
        scene
            .dial_knowing(&format!("{line}@revoked * {authority}\n"))
            .await,
    );
    assert!(
        matches!(revoked, Error::HostKeyRevoked { .. }),
        "{revoked:?}"
    );
    // Without an authority no certificate is asked for, and the bare key counts.
    scene.dial_knowing("NAME ED25519\n").await.unwrap();

    let Some(scene) = Scene::with(certified("web2")) else {
        return;
    };
    let line = format!("@cert-authority * {}\n", host_key(&scene.lab.path("ca")));
    let misnamed = error(scene.dial_knowing(&line).await);
    assert!(
        matches!(&misnamed, Error::HostKeyUnknown { note: Some(_), .. }),
        "{misnamed:?}"
    );
    assert!(!scene.saw_a_login());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_and_a_person_s_certificate_prove_nothing() {
    for arguments in [
        &[
            "-h",
            "-I",
            "old",
            "-n",
            "127.0.0.1",
            "-V",
            "20200101:20210101",
        ][..],
        &["-I", "person", "-n", "127.0.0.1"],
    ] {
        let scene = Scene::with(|lab, host| {
            let ca = lab.key("ca", &["ed25519"]);
            lab.certify(&ca, host, arguments);
            format!("HostCertificate {}-cert.pub\n", host.display())
        });
        let Some(scene) = scene else { return };
        let line = format!("@cert-authority * {}\n", host_key(&scene.lab.path("ca")));
        let error = error(scene.dial_knowing(&line).await);
        assert!(
            matches!(&error, Error::HostKeyUnknown { .. }),
            "{arguments:?}: {error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_can_be_looked_at_without_logging_in() {
    let Some(scene) = Scene::new() else { return };
    let dialer = SshDialer::new(Arc::new(NoPrompt));
    let shown = dialer.shown_key(&scene.target).await.unwrap();
    assert_eq!(shown.key, host_key(&scene.ed25519));
    assert!(matches!(shown.verdict, Err(Error::HostKeyUnknown { .. })));
    let pinned = Target {
        pinned: vec![host_key(&scene.ecdsa)],
        ..scene.target.clone()
    };
    let shown = dialer.shown_key(&pinned).await.unwrap();
    assert_eq!(shown.key, host_key(&scene.ecdsa));
    assert!(matches!(shown.verdict, Ok(VerifiedBy::Pinned)));
    assert!(!scene.saw_a_login());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_only_signs_with_sha1_is_refused_with_the_reason() {
    let Some(lab) = Lab::new() else { return };
    let rsa = lab.key("host_rsa", &["rsa", "-b", "2048"]);
    let wishes = Wishes {
        host_keys: vec![rsa.clone()],
        authorized: vec![],
        config: "HostKeyAlgorithms ssh-rsa\n".into(),
    };
    let sshd = lab.sshd("sshd", &wishes);
    let target = Target {
        pinned: vec![host_key(&rsa)],
        ..sshd.target("old")
    };
    let error = error(dial(&target).await);
    assert!(matches!(&error, Error::WeakAlgorithms { .. }), "{error:?}");
    assert!(error.to_string().contains("ssh-rsa"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_key_that_is_too_short_is_refused_even_when_it_is_pinned() {
    let Some(lab) = Lab::new() else { return };
    let rsa = lab.key("host_rsa", &["rsa", "-b", "1024"]);
    let wishes = Wishes {
        host_keys: vec![rsa.clone()],
        ..Wishes::default()
    };
    let sshd = lab.sshd("sshd", &wishes);
    let target = Target {
        pinned: vec![host_key(&rsa)],
        ..sshd.target("old")
    };
    let error = error(dial(&target).await);
    assert!(
        error.to_string().contains("RSA key of 1024 bits"),
        "{error}"
    );
    assert!(
        matches!(error, Error::ShortHostKey { bits: 1024, .. }),
        "{error:?}"
    );
    assert!(
        error
            .help(&"prod".parse().unwrap())
            .contains("push trust old"),
        "{}",
        error.help(&"prod".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hashed_names_patterns_and_an_alias_lead_to_the_key() {
    let Some(scene) = Scene::new() else { return };
    let name = format!("[127.0.0.1]:{}", scene.sshd.port);
    let key = host_key(&scene.ed25519);
    let hashed = scene.lab.write("hashed", &format!("{name} {key}\n"));
    run(Command::new("ssh-keygen").arg("-H").arg("-f").arg(&hashed));
    let hashed = std::fs::read_to_string(&hashed).unwrap();
    assert!(hashed.starts_with("|1|"), "{hashed}");
    scene.dial_knowing(&hashed).await.unwrap();
    scene
        .dial_knowing("other,[127.0.0.*]:*,!nobody ED25519\n")
        .await
        .unwrap();
    let negated = error(scene.dial_knowing("!NAME,[127.0.0.*]:* ED25519\n").await);
    assert!(
        matches!(negated, Error::HostKeyUnknown { .. }),
        "{negated:?}"
    );

    let alias = Target {
        host_key_alias: Some("the-real-web1".into()),
        known_hosts: vec![scene.lab.write("alias", &format!("the-real-web1 {key}\n"))],
        ..scene.target.clone()
    };
    dial(&alias).await.unwrap();
    let other = Target {
        host_key_alias: Some("another".into()),
        ..alias
    };
    let error = error(dial(&other).await);
    assert!(matches!(error, Error::HostKeyUnknown { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_the_algorithms_of_openssh_8_4_is_talked_to() {
    let Some(scene) = Scene::with(|_, _| {
        "KexAlgorithms curve25519-sha256,ecdh-sha2-nistp256,diffie-hellman-group16-sha512\n\
         Ciphers chacha20-poly1305@openssh.com,aes128-ctr,aes256-gcm@openssh.com\n\
         MACs hmac-sha2-256-etm@openssh.com,hmac-sha2-512\n\
         HostKeyAlgorithms ssh-ed25519,rsa-sha2-512,ecdsa-sha2-nistp256\n"
            .into()
    }) else {
        return;
    };
    scene.dial_knowing("NAME ED25519\n").await.unwrap();
    for (option, only) in [
        ("KexAlgorithms", "diffie-hellman-group-exchange-sha256"),
        ("KexAlgorithms", "diffie-hellman-group14-sha256"),
        ("Ciphers", "aes256-ctr"),
        ("MACs", "hmac-sha2-256"),
    ] {
        let cipher = if option == "MACs" {
            "Ciphers aes128-ctr\n"
        } else {
            ""
        };
        let config = format!("{option} {only}\n{cipher}");
        let Some(scene) = Scene::with(|_, _| config.clone()) else {
            return;
        };
        let dialed = scene.dial_knowing("NAME ED25519\n").await;
        assert!(dialed.is_ok(), "{config}: {:?}", dialed.err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn algorithms_that_are_too_weak_are_refused_with_the_reason() {
    for (option, weak) in [
        ("KexAlgorithms", "diffie-hellman-group1-sha1"),
        ("Ciphers", "aes128-cbc"),
        ("Ciphers", "3des-cbc"),
    ] {
        let Some(scene) = Scene::with(|_, _| format!("{option} {weak}\n")) else {
            return;
        };
        let error = error(scene.dial_knowing("NAME ED25519\n").await);
        assert!(
            matches!(&error, Error::WeakAlgorithms { theirs, .. } if theirs.contains(weak)),
            "{option} {weak}: {error:?}"
        );
        assert!(error.to_string().contains("that is safe"), "{error}");
        assert!(
            error.help(&"prod".parse().unwrap()).contains("OpenSSH 8.4"),
            "{}",
            error.help(&"prod".parse().unwrap())
        );
        assert!(!scene.saw_a_login());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_certificates_are_checked_again_at_every_connection_of_one_dialer() {
    let certified = |lab: &Lab, host: &Path| {
        let ca = lab.key("ca", &["ed25519"]);
        lab.certify(&ca, host, &["-h", "-I", "web1", "-n", "127.0.0.1"]);
        format!("HostCertificate {}-cert.pub\n", host.display())
    };
    let Some(scene) = Scene::with(certified) else {
        return;
    };
    let authority = host_key(&scene.lab.path("ca"));
    let known = scene
        .lab
        .write("known", &format!("@cert-authority * {authority}\n"));
    let by_certificate = Target {
        known_hosts: vec![known.clone()],
        ..scene.target.clone()
    };
    let by_pin = Target {
        pinned: vec![host_key(&scene.ed25519)],
        ..scene.target.clone()
    };
    let dialer = SshDialer::new(Arc::new(NoPrompt));
    for target in [&by_certificate, &by_pin] {
        for route in [Route::Shared, Route::Fresh] {
            dialer.dial(target, route).await.unwrap();
        }
    }
    // The authority is no longer believed.
    scene.lab.write("known", "# nothing\n");
    let refused = error(dialer.dial(&by_certificate, Route::Fresh).await);
    assert!(
        matches!(refused, Error::HostKeyUnknown { .. }),
        "{refused:?}"
    );

    // Another server answers on the same port: a key of the same type, and no certificate.
    scene
        .lab
        .write("known", &format!("@cert-authority * {authority}\n"));
    let Scene { lab, sshd, .. } = scene;
    let wishes = Wishes {
        host_keys: vec![lab.key("impostor", &["ed25519"])],
        authorized: vec![public(&lab.path("user"))],
        config: format!("ListenAddress 127.0.0.1:{}\n", sshd.port),
    };
    drop(sshd);
    let impostor = lab.sshd("impostor_sshd", &wishes);
    for route in [Route::Shared, Route::Fresh] {
        let changed = error(dialer.dial(&by_pin, route).await);
        assert!(
            matches!(changed, Error::HostKeyChanged { .. }),
            "{changed:?}"
        );
        let unknown = error(dialer.dial(&by_certificate, route).await);
        assert!(
            matches!(unknown, Error::HostKeyUnknown { .. }),
            "{unknown:?}"
        );
    }
    let log = impostor.logged();
    assert!(
        log.contains("Connection from") && !log.contains("Accepted"),
        "{log}"
    );
}
