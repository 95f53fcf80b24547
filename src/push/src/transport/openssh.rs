//! The operator's own `ssh` with the settings by which push reaches a host: an ssh_config that says
//! where each host on the way is, whom to log in as, and which key it must show. What it leaves open
//! comes from the operator's own files, as it does for push.
//!
//! Pure: texts from a [`Target`]. A new setting of a target is a line in [`block`].

use std::fmt::Write as _;
use std::path::Path;

use super::error::Error;
use super::target::{NamedBy, Offer, Target, host_name};

/// The texts of the two files that `ssh -F` needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// An ssh_config.
    pub config: String,
    /// The known_hosts file that it names: the pinned keys of all hosts on the way.
    pub known_hosts: String,
}

/// What ssh is handed so that it gets to `target` as push does; `known_hosts` is where that file will lie.
pub fn handover(target: &Target, known_hosts: &Path) -> Result<Handover, Error> {
    let known_hosts = word(target, known_hosts)?;
    let mut handover = Handover {
        config: "# Written by `push ssh`; changes are overwritten.\n".to_owned(),
        known_hosts: String::new(),
    };
    for (at, hop) in target.jumps.iter().enumerate() {
        // The chain holds the whole way already, so the first hop is reached straight.
        let way = (at == 0 && hop.proxy_command.is_none()).then(|| "none".to_owned());
        handover.add(hop, way, &known_hosts)?;
    }
    let names: Vec<String> = target.jumps.iter().map(|hop| hop_name(&hop.host)).collect();
    let way = match names.as_slice() {
        [] => target.proxy_command.is_none().then(|| "none".to_owned()),
        names => Some(names.join(",")),
    };
    handover.add(target, way, &known_hosts)?;
    handover
        .config
        .push_str("Host *\n  Include ~/.ssh/config\n  Include /etc/ssh/ssh_config\n");
    Ok(handover)
}

impl Handover {
    /// The block of one host. ssh takes the first value of an option that it meets, so these win.
    fn add(
        &mut self,
        target: &Target,
        way: Option<String>,
        known_hosts: &str,
    ) -> Result<(), Error> {
        let mut lines = vec![
            format!("HostName {}", host_name(&target.address)),
            format!("Port {}", target.port),
            format!("User {}", target.user),
            format!("ConnectTimeout {}", target.connect_timeout.as_secs().max(1)),
        ];
        lines.extend(way.map(|way| format!("ProxyJump {way}")));
        for identity in &target.identities {
            if identity.named_by == NamedBy::Operator {
                lines.push(format!("IdentityFile {}", word(target, &identity.path)?));
            }
        }
        if target.offer == Offer::OnlyIdentities {
            lines.push("IdentitiesOnly yes".to_owned());
        }
        if !target.pinned.is_empty() {
            lines.extend([
                format!("HostKeyAlias {}", target.host),
                format!("UserKnownHostsFile {known_hosts}"),
                "GlobalKnownHostsFile /dev/null".to_owned(),
                "StrictHostKeyChecking yes".to_owned(),
                "CheckHostIP no".to_owned(),
                "UpdateHostKeys no".to_owned(),
            ]);
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.config, "Host {}", target.host);
        for line in lines {
            let _ = writeln!(self.config, "  {line}");
        }
        for key in &target.pinned {
            let _ = writeln!(self.known_hosts, "{} {key}", target.host);
        }
        Ok(())
    }
}

/// A host as `ProxyJump` names it: what follows the last colon of an IPv6 address is no port.
fn hop_name(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// A path as a value of ssh_config: in quotes, with no token or variable in it.
fn word(target: &Target, path: &Path) -> Result<String, Error> {
    let unusable = || Error::Config {
        host: target.host.clone(),
        reason: format!(
            "the path {} has characters that ssh_config cannot hold",
            crate::visible::escape(path.as_os_str().as_encoded_bytes(), 300)
        ),
    };
    let text = path.to_str().ok_or_else(unusable)?;
    if text.contains(['"', '\\', '$']) || text.chars().any(char::is_control) {
        return Err(unusable());
    }
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::HostKey;
    use crate::transport::target::Identity;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn target() -> Target {
        let hop = Target {
            user: "admin".into(),
            pinned: vec![HostKey::parse(KEY).unwrap()],
            ..Target::at("bastion", "192.0.2.1", 22)
        };
        Target {
            user: "deploy".into(),
            pinned: vec![HostKey::parse(KEY).unwrap()],
            identities: vec![
                Identity {
                    path: "/home/me/100% mine".into(),
                    named_by: NamedBy::Operator,
                },
                Identity {
                    path: "/home/me/.ssh/id_rsa".into(),
                    named_by: NamedBy::Default,
                },
            ],
            offer: Offer::OnlyIdentities,
            jumps: vec![hop],
            ..Target::at("web1", "10.0.0.7", 2222)
        }
    }

    #[test]
    fn ssh_is_told_of_every_host_on_the_way_what_push_knows() {
        let handover = handover(&target(), Path::new("/cache/known_hosts")).unwrap();
        insta::assert_snapshot!(handover.config, @r#"
        # Written by `push ssh`; changes are overwritten.
        Host bastion
          HostName 192.0.2.1
          Port 22
          User admin
          ConnectTimeout 10
          ProxyJump none
          HostKeyAlias bastion
          UserKnownHostsFile "/cache/known_hosts"
          GlobalKnownHostsFile /dev/null
          StrictHostKeyChecking yes
          CheckHostIP no
          UpdateHostKeys no
        Host web1
          HostName 10.0.0.7
          Port 2222
          User deploy
          ConnectTimeout 10
          ProxyJump bastion
          IdentityFile "/home/me/100%% mine"
          IdentitiesOnly yes
          HostKeyAlias web1
          UserKnownHostsFile "/cache/known_hosts"
          GlobalKnownHostsFile /dev/null
          StrictHostKeyChecking yes
          CheckHostIP no
          UpdateHostKeys no
        Host *
          Include ~/.ssh/config
          Include /etc/ssh/ssh_config
        "#);
        assert_eq!(handover.known_hosts, format!("bastion {KEY}\nweb1 {KEY}\n"));
    }

    #[test]
    fn a_host_that_is_not_pinned_is_left_to_the_operator_s_known_hosts() {
        let target = Target::at("web1", "192.0.2.1", 22);
        let handover = handover(&target, Path::new("/known_hosts")).unwrap();
        assert!(!handover.config.contains("KnownHosts"), "{handover:?}");
        assert_eq!(handover.known_hosts, "");
    }

    /// What the operator's own ssh makes of a handover; `None` where there is none.
    fn read_by_ssh(target: &Target) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config");
        let handover = handover(target, &folder.path().join("known_hosts")).unwrap();
        std::fs::write(&config, handover.config).unwrap();
        let mut ssh = std::process::Command::new("ssh");
        ssh.args(["-G", "-T", "-F"]).arg(&config).arg(&target.host);
        let answer = ssh.output().ok()?;
        let complaint = String::from_utf8_lossy(&answer.stderr);
        assert!(answer.status.success(), "{complaint}");
        Some(String::from_utf8(answer.stdout).unwrap())
    }

    #[test]
    fn ssh_reads_the_zone_of_an_address_as_it_is() {
        let target = Target {
            user: "me".into(),
            ..Target::at("web1", "fe80::1%eth0", 22)
        };
        let handover = handover(&target, Path::new("/known_hosts")).unwrap();
        assert!(handover.config.contains("HostName fe80::1%%eth0\n"));
        if let Some(read) = read_by_ssh(&target) {
            assert!(read.contains("\nhostname fe80::1%eth0\n"), "{read}");
        }
    }

    #[test]
    fn ssh_goes_through_a_jump_host_that_has_no_name() {
        let hop = Target {
            user: "admin".into(),
            ..Target::at("2001:db8::1", "2001:db8::1", 2222)
        };
        let target = Target {
            jumps: vec![hop],
            ..target()
        };
        let text = handover(&target, Path::new("/known_hosts")).unwrap().config;
        assert!(text.contains("ProxyJump [2001:db8::1]\n"), "{text}");
        assert!(text.contains("Host 2001:db8::1\n"), "{text}");
        if let Some(read) = read_by_ssh(&target) {
            assert!(read.contains("\nproxyjump [2001:db8::1]\n"), "{read}");
        }
    }

    #[test]
    fn a_path_cannot_bring_in_an_option_of_its_own() {
        for hostile in ["a\"b", "a\nProxyCommand x", "${HOME}", "a\\"] {
            let refused = handover(&target(), Path::new(hostile));
            assert!(matches!(refused, Err(Error::Config { .. })), "{hostile:?}");
        }
    }
}
