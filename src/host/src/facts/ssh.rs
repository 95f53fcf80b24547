//! How operators come in: the ports of sshd and the host's public keys.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{ask, read};

/// Where sshd keeps its keys.
const KEYS: &str = "/etc/ssh";

/// The port of a host that does not say one (sshd_config(5)).
const DEFAULT_PORT: u16 = 22;

/// The ports that sshd listens on: those of its socket where systemd listens for it (Ubuntu 22.10 and later),
/// and as it says itself, else as its configuration says, else 22.
pub fn ports() -> BTreeSet<u16> {
    let socket = ask(&["systemctl", "is-active", "--quiet", "ssh.socket"])
        .and_then(|_| ask(&["systemctl", "show", "--value", "-p", "Listen", "ssh.socket"]))
        .map(|text| activated(&text));
    let mut ports = socket.unwrap_or_default();
    ports.extend(own_ports());
    ports
}

/// The ports of a socket unit, as systemctl(1) shows its `Listen`: `[::]:22 (Stream)`.
fn activated(text: &str) -> BTreeSet<u16> {
    text.split_whitespace()
        .filter_map(|word| word.rsplit_once(':')?.1.parse().ok())
        .collect()
}

fn own_ports() -> BTreeSet<u16> {
    let said = ask(&["sshd", "-T"]).map(|text| configured(&text));
    said.filter(|ports| !ports.is_empty())
        .or_else(|| Some(configured(&all_configuration())))
        .filter(|ports| !ports.is_empty())
        .unwrap_or_else(|| [DEFAULT_PORT].into())
}

/// `sshd -T` refuses where a key or a folder is missing; the text still names the ports.
fn all_configuration() -> String {
    let mut text = read("/etc/ssh/sshd_config");
    for entry in fs::read_dir("/etc/ssh/sshd_config.d")
        .into_iter()
        .flatten()
        .flatten()
    {
        if let Some(path) = entry
            .path()
            .to_str()
            .filter(|path| has_extension(path, "conf"))
        {
            text.push('\n');
            text.push_str(&read(path));
        }
    }
    text
}

/// The values of `Port`, and the ports of `ListenAddress`, in the words of sshd_config(5).
fn configured(text: &str) -> BTreeSet<u16> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let keyword = words.next()?.to_ascii_lowercase();
            let value = words.next()?;
            match keyword.as_str() {
                "port" => value.parse().ok(),
                // `0.0.0.0:22` or `[::]:22`; an address alone takes its port from `Port`.
                "listenaddress" if value.starts_with('[') => {
                    value.rsplit_once("]:")?.1.parse().ok()
                }
                "listenaddress" if value.matches(':').count() == 1 => {
                    value.rsplit_once(':')?.1.parse().ok()
                }
                _ => None,
            }
        })
        .collect()
}

/// The public keys, `type base64`, sorted by file name.
pub fn host_keys() -> Vec<String> {
    let mut files: Vec<_> = fs::read_dir(KEYS)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("ssh_host_") && has_extension(name, "pub"))
        .collect();
    files.sort_unstable();
    files
        .iter()
        .filter_map(|name| key(&read(Path::new(KEYS).join(name).to_str()?)))
        .collect()
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|found| found == extension)
}

/// A key without its comment.
fn key(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_both_ways_of_saying_them() {
        let said =
            "port 22\naddressfamily any\nlistenaddress [::]:2222\nlistenaddress 0.0.0.0:2223\n";
        assert_eq!(configured(said), [22, 2222, 2223].into());
        let file =
            "# Port 1\n  Port 2200\nListenAddress 10.0.0.1\nListenAddress ::\nPermitRootLogin no\n";
        assert_eq!(configured(file), [2200].into());
        assert!(configured("Port x\nPort 70000").is_empty());
    }

    #[test]
    fn the_ports_of_a_socket_are_read_as_ubuntu_shows_them() {
        let both = "0.0.0.0:2222 (Stream)\n[::]:2223 (Stream)\n";
        assert_eq!(activated(both), [2222, 2223].into());
        assert_eq!(activated("[::]:22 (Stream)"), [22].into());
        assert!(activated("/run/ssh.sock (Stream)\n").is_empty());
    }

    #[test]
    fn a_key_loses_its_comment() {
        assert_eq!(
            key("ssh-ed25519 AAAA root@host\n").as_deref(),
            Some("ssh-ed25519 AAAA")
        );
        assert_eq!(key("\n"), None);
    }
}
