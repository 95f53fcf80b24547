//! Whether sshd reads what is declared below `/etc/ssh/sshd_config.d`. Debian and Ubuntu say so at the top of
//! `sshd_config` since OpenSSH 8.2, but an image that was upgraded for years, or a provider's own, may not;
//! `sshd -t` finds nothing wrong with a file that is never read.

use std::path::Path;

use push_wire::manifest::{HOST_SLICE, Slice};
use push_wire::message::Refusal;
use push_wire::name::ProjectName;
use push_wire::path::HostPath;

use super::Error;
use crate::layout::Layout;
use crate::machine::{Disk, TEXT_BYTES_MAX};

/// The configuration.
const CONFIG: &str = "/etc/ssh/sshd_config";

/// The folder that its patterns are relative to (sshd_config(5), "Include").
const FOLDER: &str = "/etc/ssh/";

/// Where drop-ins are.
const DROP_INS: &str = "/etc/ssh/sshd_config.d/";

/// The line that reads them.
const INCLUDE: &str = "Include /etc/ssh/sshd_config.d/*.conf";

/// What the host's own drop-in must be the first to say, since sshd takes the first value that it reads.
const DECIDED: &[&str] = &[
    "authorizedkeysfile",
    "challengeresponseauthentication",
    "kbdinteractiveauthentication",
    "passwordauthentication",
    "permitrootlogin",
    "pubkeyauthentication",
];

/// Refuses drop-ins that sshd would not read, or would read too late.
pub fn look<M: Disk>(
    machine: &M,
    layout: &Layout,
    (project, slice): (&ProjectName, &Slice),
) -> Result<(), Error> {
    let mut paths = slice.files.keys().map(HostPath::as_str);
    let Some(drop_in) = paths.find(|path| path.starts_with(DROP_INS)) else {
        return Ok(());
    };
    let config = layout.at(CONFIG);
    // Where there is none, sshd does not run, and whoever came in came otherwise.
    if machine.stat(&config)?.is_none() {
        return Ok(());
    }
    let text = read(machine, &config)?;
    let first = format!("make this line the first of {CONFIG}: {INCLUDE}");
    let Some(at) = read_at(&text, drop_in) else {
        return refused(format!("sshd would not read {drop_in}\n{first}"));
    };
    if project.as_str() != HOST_SLICE {
        return Ok(());
    }
    if let Some((line, keyword)) = decided_before(&text, at) {
        return refused(format!(
            "{keyword} in line {line} stands before the Include in line {at}, so it would win over {drop_in}\n{first}"
        ));
    }
    let Some(earlier) = decided_earlier(machine, layout, drop_in)? else {
        return Ok(());
    };
    refused(format!(
        "{earlier}, which is read first, so it would win over {drop_in}\nremove that line, or let its file \
         have a name that sorts after that one"
    ))
}

fn refused(output: String) -> Result<(), Error> {
    let tool = CONFIG.to_owned();
    Err(Refusal::Check { tool, output }.into())
}

fn read<M: Disk>(machine: &M, path: &Path) -> std::io::Result<String> {
    let bytes = machine.read(path, TEXT_BYTES_MAX)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What another drop-in decides that sshd reads before `drop_in`: in the order of their names, as glob(7) has it.
fn decided_earlier<M: Disk>(
    machine: &M,
    layout: &Layout,
    drop_in: &str,
) -> std::io::Result<Option<String>> {
    for name in machine.list(&layout.at(DROP_INS))? {
        let path = format!("{DROP_INS}{name}");
        // A hidden name is none that `*` means.
        if path.as_str() >= drop_in
            || name.starts_with('.')
            || Path::new(&name).extension().is_none_or(|end| end != "conf")
        {
            continue;
        }
        let text = read(machine, &layout.at(&path))?;
        if let Some((line, keyword)) = decided_before(&text, usize::MAX) {
            return Ok(Some(format!("{keyword} is in line {line} of {path}")));
        }
    }
    Ok(None)
}

/// The lines with their numbers, keywords in lower case, up to the first `Match`: what comes after holds for
/// some connections only.
fn lines(text: &str) -> impl Iterator<Item = (usize, String, &str)> {
    let lines = text.lines().enumerate().filter_map(|(at, line)| {
        let line = line.trim();
        let end = line.find(|c: char| c.is_ascii_whitespace() || c == '=')?;
        let (keyword, value) = line.split_at(end);
        Some((at + 1, keyword.to_ascii_lowercase(), value))
    });
    lines.take_while(|(_, keyword, _)| keyword != "match")
}

/// The line that includes a path.
fn read_at(text: &str, path: &str) -> Option<usize> {
    let includes = lines(text).filter(|(_, keyword, _)| keyword == "include");
    let mut reading = includes.filter(|(_, _, value)| {
        let patterns = value
            .split([' ', '\t', '='])
            .map(|word| word.trim_matches('"'));
        let mut whole = patterns.filter(|word| !word.is_empty()).map(|pattern| {
            if pattern.starts_with('/') {
                pattern.to_owned()
            } else {
                format!("{FOLDER}{pattern}")
            }
        });
        whole.any(|pattern| names(&pattern, path))
    });
    reading.next().map(|(at, _, _)| at)
}

/// The first line before `at` that says what the host's own drop-in is to decide.
fn decided_before(text: &str, at: usize) -> Option<(usize, String)> {
    lines(text)
        .take_while(|(line, _, _)| *line < at)
        .find(|(_, keyword, _)| DECIDED.contains(&keyword.as_str()))
        .map(|(line, keyword, _)| (line, keyword))
}

/// Whether a pattern with at most one `*`, as glob(7) reads it, names a path.
fn names(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((head, tail)) => path
            .strip_prefix(head)
            .and_then(|rest| rest.strip_suffix(tail))
            .is_some_and(|between| !between.contains('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::simulated::Simulated;
    use crate::machine::{self, Access};

    const OURS: &str = "/etc/ssh/sshd_config.d/00-push.conf";

    /// As each system ships it, in short.
    const DEBIAN_11: &str = "#\t$OpenBSD: sshd_config,v 1.103 2018/04/09 20:41:22 tj Exp $\n\n\
                             Include /etc/ssh/sshd_config.d/*.conf\n\n#Port 22\nChallengeResponseAuthentication no\n";
    const UBUNTU_24: &str = "# This is the sshd server system-wide configuration file.\n\n\
                             Include /etc/ssh/sshd_config.d/*.conf\n\n# When systemd socket activation is used \
                             (the default), the socket\n# configuration must be re-generated\nKbdInteractiveAuthentication no\n";

    #[test]
    fn the_line_that_reads_drop_ins_is_found_as_systems_ship_it_and_as_people_write_it() {
        assert_eq!(read_at(DEBIAN_11, OURS), Some(3));
        assert_eq!(read_at(UBUNTU_24, OURS), Some(3));
        for said in [
            "include sshd_config.d/*.conf",
            "INCLUDE \"/etc/ssh/sshd_config.d/*\"",
            "Include=/etc/ssh/sshd_config.d/*.conf",
            "Include /etc/ssh/other /etc/ssh/sshd_config.d/00-push.conf",
        ] {
            assert_eq!(read_at(said, OURS), Some(1), "{said}");
        }
    }

    #[test]
    fn a_configuration_that_would_not_read_a_drop_in_is_told_from_one_that_does() {
        for silent in [
            "",
            "Port 22\nPasswordAuthentication no\n",
            "#Include /etc/ssh/sshd_config.d/*.conf\n",
            "Match User git\nInclude /etc/ssh/sshd_config.d/*.conf\n",
            "Include /etc/ssh/sshd_config.d/*.cfg\n",
            "Include /etc/ssh/*.conf\n",
        ] {
            assert_eq!(read_at(silent, OURS), None, "{silent}");
        }
    }

    #[test]
    fn what_an_earlier_drop_in_decides_would_win_and_is_named() {
        let (mut host, layout) = (Simulated::default(), Layout::new("/"));
        let folder = Path::new(DROP_INS);
        machine::folders(&mut host, folder, &Access::public_folder()).unwrap();
        for (name, text) in [
            (
                "00-port.conf",
                "Port 2222\nMatch User git\nPasswordAuthentication yes\n",
            ),
            (".00-a.conf", "PermitRootLogin yes\n"),
            ("00-a.conf.bak", "PermitRootLogin yes\n"),
            ("50-cloud-init.conf", "PasswordAuthentication yes\n"),
        ] {
            let path = folder.join(name);
            host.create(&path, text.as_bytes(), &Access::public_file())
                .unwrap();
        }
        assert_eq!(decided_earlier(&host, &layout, OURS).unwrap(), None);
        let path = folder.join("00-custom.conf");
        let text = b"# by hand\nPasswordAuthentication yes\n";
        host.create(&path, text, &Access::public_file()).unwrap();
        let found = decided_earlier(&host, &layout, OURS).unwrap().unwrap();
        assert!(
            found.contains("passwordauthentication is in line 2"),
            "{found}"
        );
        assert!(found.contains("00-custom.conf"), "{found}");
    }

    #[test]
    fn what_stands_before_the_line_would_win_and_is_named() {
        let late =
            format!("Port 2222\nPasswordAuthentication yes\n{INCLUDE}\nPermitRootLogin no\n");
        let at = read_at(&late, OURS).unwrap();
        let found = decided_before(&late, at);
        assert_eq!(found, Some((2, "passwordauthentication".to_owned())));
        assert_eq!(decided_before(DEBIAN_11, 3), None);
    }
}
