//! Who still runs from files that are gone: an upgrade has put others in their place. Read from `/proc`, so that
//! no other package is needed for it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::PROC_BYTES_MAX;
use crate::machine::{Outdated, Owner};

/// What the kernel adds to the name of a file that is gone. Source: proc(5).
const GONE: &str = " (deleted)";

/// Where packages put programs and libraries. What is mapped from elsewhere (shared memory, what a program
/// compiled for itself) was put there by no package.
const PACKAGED: [&str; 6] = ["/usr/", "/lib", "/bin/", "/sbin/", "/opt/", "/srv/"];

/// The unit that a process of the host's own pid namespace belongs to, and a file that it runs from.
pub(super) fn outdated(boot_unix_s: u64) -> io::Result<Outdated> {
    let mut found = BTreeMap::new();
    let own = fs::read_link("/proc/self/ns/pid")?;
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let Some(pid) = number(&process) else {
            continue;
        };
        let maps = text(&process.join("maps"));
        let Some(path) = maps.lines().find_map(replaced) else {
            continue;
        };
        // A container's packages are its own affair. One that ended meanwhile is nobody's.
        if fs::read_link(process.join("ns/pid")).ok() != Some(own.clone()) {
            continue;
        }
        let owner = match pid {
            1 => Owner::Init,
            _ => owner(&text(&process.join("cgroup"))),
        };
        found.entry(owner).or_insert_with(|| PathBuf::from(path));
    }
    Ok(Outdated {
        found,
        kernels: kernels(Path::new("/boot"), boot_unix_s)?,
    })
}

fn number(process: &Path) -> Option<u32> {
    process.file_name()?.to_str()?.parse().ok()
}

fn text(path: &Path) -> String {
    let bytes = super::disk::read(path, PROC_BYTES_MAX).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The program text or library of a line of `/proc/<pid>/maps` whose file a package has replaced.
fn replaced(line: &str) -> Option<&str> {
    let rights = line.split(' ').nth(1)?;
    let path = &line[line.find(" /")? + 1..];
    let path = path.strip_suffix(GONE)?;
    let is_packaged = PACKAGED.iter().any(|folder| path.starts_with(folder));
    (rights.contains('x') && is_packaged).then_some(path)
}

/// The service of a line of `/proc/<pid>/cgroup`: the outermost one, which is the system's own.
fn owner(cgroup: &str) -> Owner {
    let paths = cgroup.lines().filter_map(|line| {
        let (hierarchy, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        // Version 2, or systemd's own hierarchy of version 1.
        (hierarchy == "0" || controllers == "name=systemd").then_some(path)
    });
    let mut units = paths.flat_map(|path| path.split('/'));
    let service = units.find_map(|part| {
        let is_service = Path::new(part)
            .extension()
            .is_some_and(|kind| kind == "service");
        is_service.then(|| part.parse().ok()).flatten()
    });
    service.map_or(Owner::Other, Owner::Service)
}

/// Kernels that came since the boot. A package sets the time of its files' content, nobody that of their place.
fn kernels(folder: &Path, boot_unix_s: u64) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let came = u64::try_from(entry.metadata()?.ctime()).unwrap_or(0);
        if name.starts_with("vmlinuz-") && came > boot_unix_s {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_program_text_that_a_package_brought_and_replaced_counts() {
        let line =
            |rights: &str, path: &str| format!("7f0-7f1 {rights} 00000000 08:01 12    {path}");
        let ssl = line("r-xp", "/usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)");
        assert_eq!(
            replaced(&ssl),
            Some("/usr/lib/x86_64-linux-gnu/libssl.so.3")
        );
        for fine in [
            line("r-xp", "/usr/lib/x86_64-linux-gnu/libssl.so.3"),
            line("r--p", "/usr/share/locale/de.mo (deleted)"),
            line("rwxp", "/dev/zero (deleted)"),
            line("rwxs", "/memfd:jit (deleted)"),
            line("rwxp", "/tmp/ffi1 (deleted)"),
            line("rw-p", "[heap]"),
            "7f0-7f1 r-xp 00000000 00:00 0".to_owned(),
            String::new(),
        ] {
            assert_eq!(replaced(&fine), None, "{fine}");
        }
    }

    #[test]
    fn a_process_belongs_to_the_outermost_service_of_either_kind_of_cgroup() {
        let service = |text: &str| Owner::Service(text.parse().unwrap());
        assert_eq!(
            owner("0::/system.slice/nginx.service\n"),
            service("nginx.service")
        );
        assert_eq!(
            owner("0::/system.slice/system-getty.slice/getty@tty1.service\n"),
            service("getty@tty1.service")
        );
        let old = "12:pids:/system.slice/x.scope\n1:name=systemd:/system.slice/ssh.service\n";
        assert_eq!(owner(old), service("ssh.service"));
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service\n";
        assert_eq!(owner(user), service("user@1000.service"));
        for other in [
            "0::/user.slice/user-0.slice/session-3.scope\n",
            "0::/docker/abc\n",
            "",
            "x",
        ] {
            assert_eq!(owner(other), Owner::Other, "{other}");
        }
    }

    #[test]
    fn a_kernel_that_came_since_the_boot_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("vmlinuz-6.1.0-40-amd64"), "").unwrap();
        std::fs::write(folder.path().join("initrd.img-6.1.0-40-amd64"), "").unwrap();
        assert_eq!(
            kernels(folder.path(), 1).unwrap(),
            ["vmlinuz-6.1.0-40-amd64"]
        );
        assert!(kernels(folder.path(), u64::MAX).unwrap().is_empty());
        assert!(kernels(Path::new("/no/such/folder"), 1).unwrap().is_empty());
    }
}
