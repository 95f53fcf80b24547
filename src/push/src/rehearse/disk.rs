//! What a host's root file system is made of: the suite's image below, and what the host writes
//! above, in a folder or on a file system of its own. Knows mounts; not what is in them.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::{Duration, Instant};

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

/// How much more room than its file a platter has, in MiB: for its own journal and tables.
const PLATTER_MIB: u32 = 128;

/// How often a file system in a file is tried to be mounted.
const LOOP_TRIES: u32 = 10;

/// The pause before it is tried again.
const LOOP_PAUSE: Duration = Duration::from_millis(100);

/// How long a loop device may keep its file after the last unmount.
const RELEASED_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked at.
const RELEASED_POLL: Duration = Duration::from_millis(5);

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
    /// `mkfs.btrfs` is in `btrfs-progs`, and wants 120 MiB at least.
    Btrfs,
}

/// What can be told that nothing reaches it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lever {
    /// The file system itself.
    Own,
    /// It cannot be told so; but its disk can: a file on an ext4 of its own that is. What it had
    /// not flushed to that disk is lost then, in whatever order the disk had kept it.
    Platter,
}

impl Filesystem {
    fn make(self) -> Tool {
        match self {
            Self::Ext4 => Tool::named("mkfs.ext4").args(["-q", "-F"]),
            Self::Xfs => Tool::named("mkfs.xfs").args(["-q", "-f"]),
            Self::Btrfs => Tool::named("mkfs.btrfs").args(["-q", "-f"]),
        }
    }

    fn lever(self) -> Lever {
        match self {
            Self::Ext4 | Self::Xfs => Lever::Own,
            Self::Btrfs => Lever::Platter,
        }
    }
}

/// How many files are kept on a disk for mounting it, out of its host's sight: an overlay makes a few of its
/// own while it finds out what the file system can do, some of them at once.
const SPARE_FILES: u32 = 16;

/// The size of each, in bytes: a block of any file system here.
const SPARE_BYTES: usize = 4096;

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
                if filesystem.lever() == Lever::Own {
                    return blank(&image, size_mib, filesystem);
                }
                let (platter, inner) = (folder.platter(), folder.platter_image());
                fs::create_dir_all(&platter).doing("making", &platter)?;
                blank(&image, size_mib + PLATTER_MIB, Filesystem::Ext4)?;
                mount_loop(&image, &platter)?;
                let made = blank(&inner, size_mib, filesystem);
                unmount(&platter).and(made)
            }
        }
    }

    /// Mounts the disk over an image, at the host's root.
    pub(super) fn mount(self, folder: &HostFolder, image: &Path) -> Result<(), Error> {
        let disk = folder.disk();
        match self {
            Self::Overlay => {}
            Self::Loop { filesystem, .. } => match filesystem.lever() {
                Lever::Own => mount_loop(&folder.image(), &disk)?,
                Lever::Platter => {
                    mount_loop(&folder.image(), &folder.platter())?;
                    mount_loop(&folder.platter_image(), &disk)?;
                }
            },
        }
        let (upper, work) = (disk.join("upper"), disk.join("work"));
        for path in [&upper, &work] {
            fs::create_dir_all(path).doing("making", path)?;
        }
        let root = folder.root();
        let options = overlay_options(image, &upper, &work).doing("mounting", &root)?;
        // A host may have filled its disk, and the overlay writes to it.
        let spare = disk.join("spare");
        if spare.exists() {
            fs::remove_dir_all(&spare).doing("removing", &spare)?;
        }
        rustix::mount::mount("overlay", &root, "overlay", MountFlags::empty(), &*options)
            .doing("mounting an overlay at", &root)?;
        match keep_spare(&spare) {
            Err(error) if error.kind() != io::ErrorKind::StorageFull => {
                Err(error).doing("writing to", &spare)
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Unmounts it; what is not mounted is unmounted already.
    pub(super) fn unmount(self, folder: &HostFolder) -> Result<(), Error> {
        unmount(&folder.root())?;
        match self {
            Self::Overlay => Ok(()),
            Self::Loop { filesystem, .. } => {
                unmount(&folder.disk())?;
                if filesystem.lever() == Lever::Platter {
                    released(&folder.platter_image())?;
                    unmount(&folder.platter())?;
                }
                released(&folder.image())
            }
        }
    }

    /// Lets nothing reach the disk from now on.
    pub(super) fn cut(self, folder: &HostFolder) -> Result<(), Error> {
        match self {
            Self::Overlay => Ok(()),
            Self::Loop { filesystem, .. } => Tool::named("perl")
                .args(["-e", SHUT_DOWN])
                .arg(match filesystem.lever() {
                    Lever::Own => folder.disk(),
                    Lever::Platter => folder.platter(),
                })
                .succeed()
                .map(drop),
        }
    }
}

/// Takes what the next mount needs before the host can take it.
fn keep_spare(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)?;
    for number in 0..SPARE_FILES {
        fs::write(folder.join(number.to_string()), [0; SPARE_BYTES])?;
    }
    Ok(())
}

/// Makes a file with an empty file system in it.
fn blank(image: &Path, size_mib: u32, filesystem: Filesystem) -> Result<(), Error> {
    let file = File::create_new(image).doing("making", image)?;
    file.set_len(u64::from(size_mib) * 1024 * 1024)
        .doing("setting the size of", image)?;
    filesystem.make().arg(image).succeed().map(drop)
}

/// Mounts the file system in a file. Tried again for a moment: somebody else may just have taken the
/// loop device that was free.
fn mount_loop(image: &Path, at: &Path) -> Result<(), Error> {
    let mount = || Tool::named("mount").args(["-o", "loop"]).arg(image).arg(at);
    for _ in 1..LOOP_TRIES {
        if mount().run()?.is_success() {
            return Ok(());
        }
        std::thread::sleep(LOOP_PAUSE);
    }
    mount().succeed().map(drop)
}

/// Waits until no loop device has a file any more. The mounts of a container go a moment after its
/// last process; until then the file system that was cut is there, and mounting its file would
/// bring back that one, dead, instead of what is on the disk.
fn released(image: &Path) -> Result<(), Error> {
    let image = fs::canonicalize(image).doing("looking for", image)?;
    let deadline = Instant::now() + RELEASED_WITHIN;
    while is_attached(&image)? {
        if Instant::now() >= deadline {
            return Err(std::io::Error::from(std::io::ErrorKind::TimedOut))
                .doing("waiting for the loop device of", &image);
        }
        std::thread::sleep(RELEASED_POLL);
    }
    Ok(())
}

fn is_attached(image: &Path) -> Result<bool, Error> {
    let devices = Path::new("/sys/block");
    let mut entries = fs::read_dir(devices).doing("reading", devices)?;
    // One that has no file, or is just losing it, has none of ours.
    let has_it = |device: &Path| {
        let file = fs::read(device.join("loop/backing_file")).unwrap_or_default();
        file.strip_suffix(b"\n") == Some(image.as_os_str().as_bytes())
    };
    Ok(entries.any(|entry| entry.is_ok_and(|entry| has_it(&entry.path()))))
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
