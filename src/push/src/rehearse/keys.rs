//! SSH keys of hosts and operator, and who may log in. Knows files and OpenSSH's formats; no
//! connection is made here.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::{Error, IoExt};
use super::mounts::remove;
use super::tool::Tool;

/// The user, beside root, that every image has.
pub(super) const OPERATOR_USER: &str = "deploy";

/// Who may log in to a host, and how they become root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// `root`, by key.
    Root,
    /// `deploy`, by key, who may run anything through `sudo -n`.
    Sudo,
    /// `root`, by [`ROOT_PASSWORD`] alone, as a provider's mail says it.
    Password,
}

/// The password of [`Access::Password`]. Anybody may know it: the hosts are on a bridge of this machine alone.
pub const ROOT_PASSWORD: &str = "from-the-providers-mail";

/// What a provider's image tells sshd, where cloud-init writes it.
const PASSWORD_LOGIN: &str = "PermitRootLogin yes\nPasswordAuthentication yes\n";

impl Access {
    /// The user to log in as.
    pub fn user(self) -> &'static str {
        match self {
            Self::Root | Self::Password => "root",
            Self::Sudo => OPERATOR_USER,
        }
    }

    fn home(self) -> &'static str {
        match self {
            Self::Root | Self::Password => "root",
            Self::Sudo => "home/deploy",
        }
    }

    /// The line of sudoers(5) that this access needs.
    fn rule(self) -> Option<String> {
        match self {
            Self::Root | Self::Password => None,
            Self::Sudo => Some(format!("{OPERATOR_USER} ALL=(ALL:ALL) NOPASSWD: ALL\n")),
        }
    }
}

/// Makes an ed25519 key pair without a passphrase at `path` (0600) and `path.pub`, and returns the
/// public line without its comment.
pub(super) fn make_pair(path: &Path) -> Result<String, Error> {
    remove(path)?;
    Tool::named("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-C", "rehearsal", "-N", "", "-f"])
        .arg(path)
        .succeed()?;
    public_line(path)
}

/// The public line, `ssh-ed25519 AAAA…`, of the pair at `path`.
pub(super) fn public_line(path: &Path) -> Result<String, Error> {
    let public = path.with_extension("pub");
    let line = fs::read_to_string(&public).doing("reading", &public)?;
    let without_comment: Vec<&str> = line.split_whitespace().take(2).collect();
    Ok(without_comment.join(" "))
}

/// Lets the operator's key in at a root file system that nobody runs yet.
pub(super) fn authorize(root: &Path, access: Access, key: &str) -> Result<(), Error> {
    if access == Access::Password {
        return let_in_by_password(root);
    }
    let home = root.join(access.home());
    let owner = fs::metadata(&home).doing("looking at", &home)?;
    let folder = home.join(".ssh");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .doing("making", &folder)?;
    let file = folder.join("authorized_keys");
    write_with_mode(&file, &format!("{key}\n"), 0o600)?;
    for path in [&folder, &file] {
        let (user, group) = (
            std::os::unix::fs::MetadataExt::uid(&owner),
            std::os::unix::fs::MetadataExt::gid(&owner),
        );
        std::os::unix::fs::chown(path, Some(user), Some(group)).doing("giving away", path)?;
    }
    match access.rule() {
        Some(rule) => write_with_mode(&root.join("etc/sudoers.d/rehearsal"), &rule, 0o440),
        None => Ok(()),
    }
}

fn let_in_by_password(root: &Path) -> Result<(), Error> {
    Tool::named("chroot")
        .arg(root)
        .arg("chpasswd")
        .input(format!("root:{ROOT_PASSWORD}\n"))
        .succeed()?;
    let file = root.join("etc/ssh/sshd_config.d/50-cloud-init.conf");
    write_with_mode(&file, PASSWORD_LOGIN, 0o600)
}

fn write_with_mode(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    remove(path)?;
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .doing("making", path)?;
    // The mode that was asked for, whatever the umask takes away.
    file.set_permissions(fs::Permissions::from_mode(mode))
        .doing("setting the mode of", path)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).doing("writing", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_readable_by_its_owner_alone_and_its_line_has_no_comment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let line = make_pair(&path).unwrap();
        assert!(line.starts_with("ssh-ed25519 AAAA"), "{line}");
        assert_eq!(line.split(' ').count(), 2);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn the_operator_is_let_in_as_who_the_access_says() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["root", "home/deploy", "etc/sudoers.d"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        authorize(dir.path(), Access::Root, "ssh-ed25519 AAAA").unwrap();
        assert!(dir.path().join("root/.ssh/authorized_keys").exists());
        assert!(!dir.path().join("etc/sudoers.d/rehearsal").exists());

        authorize(dir.path(), Access::Sudo, "ssh-ed25519 AAAA").unwrap();
        let rule = fs::metadata(dir.path().join("etc/sudoers.d/rehearsal")).unwrap();
        assert_eq!(rule.permissions().mode() & 0o777, 0o440);
        assert!(dir.path().join("home/deploy/.ssh/authorized_keys").exists());
    }
}
