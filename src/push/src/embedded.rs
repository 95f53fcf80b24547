//! The programs for hosts that this build carries. It knows nothing of how they get there.
//!
//! A machine is added in `build.rs`, which builds its program.

use push_wire::digest::Digest;

/// `push-host` for one kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// The SHA-256 of the unpacked program.
    pub digest: Digest,
    /// The program, gzipped.
    pub gzip: &'static [u8],
}

struct Embedded {
    machine: &'static str,
    digest: &'static str,
    gzip: &'static [u8],
}

static PROGRAMS: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The program for a machine, as `uname -m` names it; `None` when this build carries none.
pub fn program(machine: &str) -> Option<Program> {
    let found = PROGRAMS
        .iter()
        .find(|embedded| embedded.machine == machine)?;
    // The build script wrote the digest, so it parses.
    let digest = found.digest.parse().ok()?;
    Some(Program {
        digest,
        gzip: found.gzip,
    })
}

/// The machines that this build carries a program for.
pub fn machines() -> Vec<&'static str> {
    PROGRAMS.iter().map(|embedded| embedded.machine).collect()
}

/// The commands that give a build a program for `machine`, or `None` for a machine that push does
/// not know.
pub fn how_to_build(machine: &str) -> Option<String> {
    let known = ["x86_64", "aarch64"].contains(&machine);
    known.then(|| {
        format!("rustup target add {machine}-unknown-linux-musl && cargo install --path src/push")
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn each_program_unpacks_to_what_its_digest_says() {
        assert!(
            !machines().is_empty(),
            "a build without any program can push nowhere"
        );
        for machine in machines() {
            let program = program(machine).unwrap();
            let mut bytes = Vec::new();
            flate2::read::GzDecoder::new(program.gzip)
                .read_to_end(&mut bytes)
                .unwrap();
            assert_eq!(Digest::of(&bytes), program.digest);
        }
    }

    #[test]
    fn each_program_is_static() {
        use object::read::elf::{ElfFile64, ProgramHeader as _};
        for machine in machines() {
            let mut bytes = Vec::new();
            flate2::read::GzDecoder::new(program(machine).unwrap().gzip)
                .read_to_end(&mut bytes)
                .unwrap();
            let elf = ElfFile64::<object::Endianness>::parse(&*bytes).unwrap();
            let endian = elf.endian();
            let interpreted = elf
                .elf_program_headers()
                .iter()
                .any(|header| header.p_type(endian) == object::elf::PT_INTERP);
            assert!(
                !interpreted,
                "{machine}: a host would need this build machine's C library"
            );
        }
    }
}
