use super::*;
use std::path::Path;

fn laptop(home: &Path, config: &str) -> Laptop {
    std::fs::write(home.join("config"), config).unwrap();
    Laptop {
        ssh: "ssh".into(),
        config: Some(home.join("config")),
        home: home.to_owned(),
        user: "me".into(),
        agent: Some("/run/agent".into()),
    }
}

fn wanted(host: &str) -> Wanted {
    Wanted {
        host: host.to_owned(),
        ..Wanted::default()
    }
}

/// Whether there is an OpenSSH client to ask.
fn has_ssh() -> bool {
    let found = std::process::Command::new("ssh").arg("-V").output().is_ok();
    if !found {
        tracing::warn!("skipped: ssh is not installed");
    }
    found
}

async fn resolve(config: &str, fleet: Vec<Wanted>, host: &str) -> Result<Target, Error> {
    let home = tempfile::tempdir().unwrap();
    let mut target = Resolver::new(laptop(home.path(), config), fleet)
        .resolve(host)
        .await?;
    // Paths below the scratch directory are shown as below `HOME`.
    let shown = |path: &PathBuf| match path.strip_prefix(home.path()) {
        Ok(rest) => Path::new("HOME").join(rest),
        Err(_) => path.clone(),
    };
    for identity in &mut target.identities {
        identity.path = shown(&identity.path);
    }
    target.certificates = target.certificates.iter().map(shown).collect();
    target.known_hosts = target.known_hosts.iter().map(shown).collect();
    target.agent = target.agent.as_ref().map(shown);
    Ok(target)
}

const CONFIG: &str = "\
Host web1
  HostName 203.0.113.10
  User deploy
  Port 2222
  HostKeyAlias web-one
  IdentityFile ~/keys/%n_%r
  CertificateFile ~/keys/%h-cert.pub
  IdentitiesOnly yes
  IdentityAgent /run/%n.sock
  UserKnownHostsFile /srv/known /srv/known2
  GlobalKnownHostsFile none
  ConnectTimeout 3
Match host db exec \"false\"
  User root
  ProxyJump nowhere
Host proxied
  ProxyCommand nc -x proxy %h %p # %%
";

#[tokio::test]
async fn what_ssh_config_says_is_taken_with_its_tokens_expanded() {
    if !has_ssh() {
        return;
    }
    let target = resolve(CONFIG, vec![], "web1").await.unwrap();
    let identity = Identity {
        path: "HOME/keys/web1_deploy".into(),
        named_by: NamedBy::Operator,
    };
    let expected = Target {
        user: "deploy".into(),
        host_key_alias: Some("web-one".into()),
        known_hosts: vec!["/srv/known".into(), "/srv/known2".into()],
        identities: vec![identity],
        certificates: vec!["HOME/keys/203.0.113.10-cert.pub".into()],
        offer: Offer::OnlyIdentities,
        agent: Some("/run/web1.sock".into()),
        connect_timeout: Duration::from_secs(3),
        ..Target::at("web1", "203.0.113.10", 2222)
    };
    assert_eq!(target, expected);
}

#[tokio::test]
async fn the_inventory_wins_over_ssh_config() {
    if !has_ssh() {
        return;
    }
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    let web1 = Wanted {
        address: Some("198.51.100.1".into()),
        port: Some(22),
        user: Some("root".into()),
        host_keys: vec![key.into()],
        identities: vec!["~/deploy".into()],
        ..wanted("web1")
    };
    let target = resolve(CONFIG, vec![web1], "web1").await.unwrap();
    assert_eq!(target.place(), "198.51.100.1:22");
    assert_eq!(target.user, "root");
    assert_eq!(target.pinned[0].to_string(), key);
    let paths: Vec<_> = target
        .identities
        .iter()
        .map(|identity| identity.path.to_str().unwrap())
        .collect();
    assert_eq!(paths, ["HOME/deploy", "HOME/keys/web1_root"]);
}

#[tokio::test]
async fn a_match_block_is_understood_as_ssh_understands_it() {
    if !has_ssh() {
        return;
    }
    let target = resolve(CONFIG, vec![], "db").await.unwrap();
    assert!(target.jumps.is_empty());
    let usual = target
        .identities
        .iter()
        .all(|identity| identity.named_by == NamedBy::Default);
    assert!(usual && !target.identities.is_empty());
    assert_eq!(target.agent, Some("/run/agent".into()));
}

#[tokio::test]
async fn a_proxy_command_gets_its_tokens() {
    if !has_ssh() {
        return;
    }
    let target = resolve(CONFIG, vec![], "proxied").await.unwrap();
    let command = target.proxy_command.unwrap();
    assert!(command.starts_with("nc -x proxy proxied 22"), "{command}");
}

fn names(target: &Target) -> Vec<&str> {
    target.jumps.iter().map(|hop| hop.host.as_str()).collect()
}

#[tokio::test]
async fn the_way_leads_over_the_jump_hosts_of_the_first_jump_host() {
    if !has_ssh() {
        return;
    }
    let config = "Host web1\n ProxyJump me@b:2222,c\nHost b\n ProxyJump a\nHost c\n ProxyJump x\n";
    let target = resolve(config, vec![], "web1").await.unwrap();
    assert_eq!(names(&target), ["a", "b", "c"]);
    assert_eq!(
        (target.jumps[1].port, target.jumps[1].user.as_str()),
        (2222, "me")
    );

    let straight = Wanted {
        jump: Some("none".into()),
        ..wanted("web1")
    };
    let target = resolve(config, vec![straight], "web1").await.unwrap();
    assert!(target.jumps.is_empty());
}

#[tokio::test]
async fn the_jump_host_that_is_dialled_first_is_come_by_as_ssh_config_says() {
    if !has_ssh() {
        return;
    }
    let config = "Host web1\n ProxyJump b,c\nHost b\n ProxyJump a\nHost a\n User me\nHost *\n ProxyCommand nc -x proxy %n %r\n";
    let target = resolve(config, vec![], "web1").await.unwrap();
    let commands = target.jumps.iter().map(|hop| hop.proxy_command.as_deref());
    assert_eq!(names(&target), ["a", "b", "c"]);
    assert_eq!(
        commands.collect::<Vec<_>>(),
        [Some("nc -x proxy a me"), None, None]
    );
    assert_eq!(target.proxy_command, None);

    let straight = Wanted {
        jump: Some("none".into()),
        ..wanted("a")
    };
    let target = resolve(config, vec![straight], "web1").await.unwrap();
    assert_eq!(target.jumps[0].proxy_command, None);
}

#[tokio::test]
async fn a_jump_host_of_the_inventory_brings_its_address_and_its_pinned_key() {
    if !has_ssh() {
        return;
    }
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    let bastion = Wanted {
        address: Some("192.0.2.1".into()),
        host_keys: vec![key.into()],
        ..wanted("bastion")
    };
    let web1 = Wanted {
        jump: Some("bastion".into()),
        ..wanted("web1")
    };
    let target = resolve("", vec![bastion, web1], "web1").await.unwrap();
    assert_eq!(target.jumps[0].place(), "192.0.2.1:22");
    assert_eq!(target.jumps[0].pinned.len(), 1);
}

#[tokio::test]
async fn the_zone_of_an_address_is_no_token_to_ssh() {
    if !has_ssh() {
        return;
    }
    let web1 = Wanted {
        address: Some("fe80::1%eth0".into()),
        ..wanted("web1")
    };
    let config = "Host web1\n IdentityFile /keys/%h\n";
    let target = resolve(config, vec![web1], "web1").await.unwrap();
    assert_eq!(target.place(), "[fe80::1%eth0]:22");
    assert_eq!(target.identities[0].path, Path::new("/keys/fe80::1%eth0"));
}

#[tokio::test]
async fn jump_hosts_that_lead_in_a_circle_are_refused() {
    if !has_ssh() {
        return;
    }
    for config in [
        "Host web1\n ProxyJump a\nHost a\n ProxyJump b\nHost b\n ProxyJump a\n",
        "Host web1\n ProxyJump a\nHost a\n HostName web1\n",
        "Host web1\n ProxyJump a,b,c,d,e,f,g,h,i\n",
    ] {
        let error = resolve(config, vec![], "web1").await.unwrap_err();
        assert!(
            matches!(error, Error::JumpLoop { .. }),
            "{config}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_broken_ssh_config_is_told_with_what_ssh_says_about_it() {
    if !has_ssh() {
        return;
    }
    let error = resolve("Host *\n Port many\n", vec![], "web1")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Config { .. }), "{error:?}");
    assert!(error.to_string().contains("line 2"), "{error}");
}

#[tokio::test]
async fn without_an_ssh_program_its_defaults_hold() {
    let home = tempfile::tempdir().unwrap();
    let laptop = Laptop {
        ssh: "/nowhere/ssh".into(),
        ..laptop(home.path(), "Host *\n Port 99\n")
    };
    let target = Resolver::new(laptop, []).resolve("web1").await.unwrap();
    assert_eq!(
        (target.place().as_str(), target.user.as_str()),
        ("web1:22", "me")
    );
    assert_eq!(target.known_hosts[0], home.path().join(".ssh/known_hosts"));
    assert!(
        target
            .identities
            .iter()
            .any(|identity| identity.path == home.path().join(".ssh/id_ed25519"))
    );
}

#[tokio::test]
async fn an_ssh_program_that_hangs_is_given_up() {
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("ssh");
    std::fs::write(&program, "#!/bin/sh\nsleep 30\n").unwrap();
    std::fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let laptop = Laptop {
        ssh: program.into(),
        ..laptop(home.path(), "")
    };
    let before = std::time::Instant::now();
    let error = Resolver::new(laptop, []).resolve("web1").await.unwrap_err();
    assert!(error.to_string().contains("10s"), "{error}");
    assert!(before.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn names_that_ssh_or_a_shell_would_misread_are_refused_before_ssh_is_asked() {
    let long = "a".repeat(256);
    for host in [
        "",
        "-oProxyCommand=id",
        "a b",
        "a;id",
        "$(id)",
        "a\nb",
        "ä",
        "a/b",
        &long,
    ] {
        let error = resolve("", vec![], host).await.unwrap_err();
        assert!(
            matches!(error, Error::BadName { .. }),
            "{host:?}: {error:?}"
        );
    }
    for user in ["-l", "a b", "a`id`"] {
        let web1 = Wanted {
            user: Some(user.into()),
            ..wanted("web1")
        };
        let error = resolve("", vec![web1], "web1").await.unwrap_err();
        assert!(
            matches!(error, Error::BadName { .. }),
            "{user:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_host_key_that_is_no_key_is_refused() {
    let web1 = Wanted {
        host_keys: vec!["ssh-ed25519 \x1b[31m".into()],
        ..wanted("web1")
    };
    let error = resolve("", vec![web1], "web1").await.unwrap_err();
    assert!(matches!(error, Error::BadPin { .. }), "{error:?}");
    assert!(!error.to_string().contains('\x1b'));
}
