//! The key under which fingerprints of secrets are made: so that a manifest tells whether a secret
//! changed, to who may push to this host, and nothing to anybody else.

use std::io;

use push_wire::digest::Digest;

use crate::layout::Layout;
use crate::lock;
use crate::machine::{self, Access, Clock, Disk};

/// The key's size in bytes.
const KEY_BYTES: usize = 32;

/// The key in hexadecimal; made when it is asked for first, and never again.
pub fn key<M: Disk + Clock>(machine: &mut M, layout: &Layout) -> io::Result<String> {
    if machine.stat(&layout.fingerprint_key())?.is_none() {
        make(machine, layout)?;
    }
    read(machine, layout)
}

/// The key for somebody who only looks: where there is none yet, one that nobody keeps.
pub fn key_to_look<M: Disk>(machine: &M, layout: &Layout) -> io::Result<String> {
    match machine.stat(&layout.fingerprint_key())? {
        Some(_) => read(machine, layout),
        None => Ok(written(random()?)),
    }
}

fn read<M: Disk>(machine: &M, layout: &Layout) -> io::Result<String> {
    let path = layout.fingerprint_key();
    let bytes = machine.read(&path, KEY_BYTES as u64)?;
    match <[u8; KEY_BYTES]>::try_from(bytes) {
        Ok(bytes) => Ok(written(bytes)),
        Err(_) => Err(io::Error::other(format!(
            "{} is not {KEY_BYTES} bytes long; remove it, and the next push seals every secret anew",
            path.display()
        ))),
    }
}

/// 32 bytes are written as a digest is; it is none.
fn written(bytes: [u8; KEY_BYTES]) -> String {
    Digest::from_bytes(bytes).to_string()
}

/// Makes the key, unless another session was faster: each would otherwise tell its operator its own.
fn make<M: Disk + Clock>(machine: &mut M, layout: &Layout) -> io::Result<()> {
    let _alone = lock::take_briefly(machine, layout)?;
    let path = layout.fingerprint_key();
    if machine.stat(&path)?.is_some() {
        return Ok(());
    }
    machine::folders(machine, &layout.state(), &Access::private_folder())?;
    machine::replace(machine, &path, &random()?, &Access::private_file())?;
    machine.sync(&layout.state())
}

/// Bytes that nobody can guess.
fn random() -> io::Result<[u8; KEY_BYTES]> {
    let mut bytes = [0; KEY_BYTES];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if filled == KEY_BYTES {
        Ok(bytes)
    } else {
        // The kernel promises up to 256 bytes in one piece: getrandom(2).
        Err(io::Error::other("the kernel gave too few random bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::real::Real;

    /// How many sessions come at once.
    const SESSIONS: usize = 8;

    #[test]
    fn first_sessions_that_come_at_once_are_told_one_key() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let layout = Layout::new(folder.path());
            let together = std::sync::Barrier::new(SESSIONS);
            let keys: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
                let session = || {
                    let mut machine = Real::new(layout.clone());
                    together.wait();
                    key(&mut machine, &layout).unwrap()
                };
                let all: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(session)).collect();
                all.into_iter().map(|one| one.join().unwrap()).collect()
            });
            assert_eq!(keys.len(), 1, "each told its own");
            assert_eq!(
                keys.first(),
                Some(&key(&mut Real::new(layout.clone()), &layout).unwrap())
            );
        }
    }
}
