//! What a host's root file system is made of: the suite's image below, and what the host writes
//! above, in a folder or on a file system of its own. Knows mounts; not what is in them.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags};
use serde::{Deserialize, Serialize};

use super::error::{Error, IoExt};
use super::mounts::unmount;
use super::record::HostFolder;
use super::tool::Tool;

/// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN`, which are one number, with the flag that leaves the
/// log unwritten: from here on nothing reaches the disk any more, as when the power goes. Perl,
/// since calling ioctl(2) from Rust takes unsafe code; it is on every Debian.
const SHUT_DOWN: &str = r#"
    open(my $disk, "<", $ARGV[0]) or die "cannot open $ARGV[0]: $!\n";
    my $nologflush = pack("L", 2);
    ioctl($disk, 0x8004587d, $nologflush) or die "cannot shut down $ARGV[0]: $!\n";
"#;

/// What a host writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disk {
    /// A folder of the laptop. A power cut ends the processes, and all they wrote is there after.
    Overlay,
    /// A file system of its own, in a file. A power cut loses what was not synced.
    Loop {
        /// Which one.
        filesystem: Filesystem,
        /// How large, in MiB. It takes as much of the laptop's disk as the host writes.
        size_mib: u32,
    },
}

/// A file system that can be stopped as a power cut does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filesystem {
    /// Debian's default. `mkfs.ext4` is in `e2fsprogs`.
    Ext4,
    /// `mkfs.xfs` is in `xfsprogs`, and wants 300 MiB at least.
    Xfs,
}

impl Filesystem {
    fn make(self) -> Tool {
        match self {
            Self::Ext4 => Tool::named("mkfs.ext4").args(["-q", "-F"]),
            Self::Xfs => Tool::named("mkfs.xfs").args(["-q", "-f"]),
        }
    }
}

impl Disk {
    /// Makes the disk, blank.
    pub(super) fn make(self, folder: &HostFolder) -> Result<(), Error> {
        for path in [folder.disk(), folder.root()] {
            fs::create_dir_all(&path).doing("making", &path)?;
        }
        share(&folder.0)?;
        match self {
            Self::Overlay => Ok(()),
            Self::Loop {
                filesystem,
                size_mib,
            } => {
                let image = folder.image();
                let file = File::create_new(&image).doing("making", &image)?;
                file.set_len(u64::from(size_mib) * 1024 * 1024)
                    .doing("setting the size of", &image)?;
                filesystem.make().arg(&image).succeed().map(drop)
            }
        }
    }

    /// Mounts the disk over an image, at the host's root.
    pub(super) fn mount(self, folder: &HostFolder, image: &Path) -> Result<(), Error> {
        let disk = folder.disk();
        match self {
            Self::Overlay => {}
            Self::Loop { .. } => {
                Tool::named("mount")
                    .args(["-o", "loop"])
                    .arg(folder.image())
                    .arg(&disk)
                    .succeed()?;
            }
        }
        let (upper, work) = (disk.join("upper"), disk.join("work"));
        for path in [&upper, &work] {
            fs::create_dir_all(path).doing("making", path)?;
        }
        let root = folder.root();
        let options = overlay_options(image, &upper, &work).doing("mounting", &root)?;
        rustix::mount::mount("overlay", &root, "overlay", MountFlags::empty(), &*options)
            .doing("mounting an overlay at", &root)
    }

    /// Unmounts it; what is not mounted is unmounted already.
    pub(super) fn unmount(self, folder: &HostFolder) -> Result<(), Error> {
        unmount(&folder.root())?;
        match self {
            Self::Overlay => Ok(()),
            Self::Loop { .. } => unmount(&folder.disk()),
        }
    }

    /// Lets nothing reach the disk from now on.
    pub(super) fn cut(self, folder: &HostFolder) -> Result<(), Error> {
        match self {
            Self::Overlay => Ok(()),
            Self::Loop { .. } => Tool::named("perl")
                .args(["-e", SHUT_DOWN])
                .arg(folder.disk())
                .succeed()
                .map(drop),
        }
    }
}

/// Makes a folder one in which an unmount is also one in every copy of it. Each container that
/// boots begins with a copy of all mounts of the laptop and hides them without letting go: a file
/// system whose power was cut would stay, dead, for as long as some other host is up. systemd has
/// `/` shared, which would do; containers and minimal systems do not.
fn share(folder: &Path) -> Result<(), Error> {
    rustix::mount::mount_bind(folder, folder).doing("mounting on itself", folder)?;
    rustix::mount::mount_change(folder, MountPropagationFlags::SHARED)
        .doing("sharing the mounts below", folder)
}

/// Overlay splits its options at commas and layers at colons, unless a backslash precedes them.
fn overlay_options(lower: &Path, upper: &Path, work: &Path) -> std::io::Result<CString> {
    let mut options = OsString::new();
    for (name, path) in [
        ("lowerdir=", lower),
        (",upperdir=", upper),
        (",workdir=", work),
    ] {
        options.push(name);
        let escaped: Vec<u8> = path
            .as_os_str()
            .as_bytes()
            .iter()
            .flat_map(|byte| match byte {
                b'\\' | b':' | b',' => vec![b'\\', *byte],
                _ => vec![*byte],
            })
            .collect();
        options.push(OsString::from_vec(escaped));
    }
    Ok(CString::new(options.into_vec())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_folder_of_any_name_stays_one_layer() {
        let options =
            overlay_options(Path::new("/a:b,c\\d"), Path::new("/u"), Path::new("/w")).unwrap();
        assert_eq!(
            options.to_str().unwrap(),
            "lowerdir=/a\\:b\\,c\\\\d,upperdir=/u,workdir=/w"
        );
    }
}
