//! What the programs of a release need of a host: machine, interpreter, glibc, shared libraries.
//!
//! Only programs and the libraries of the release that they load count. A release may carry any
//! number of other binaries (prebuilt modules for every platform, as `node_modules` does), which say
//! nothing about where it runs.

use std::collections::{BTreeMap, BTreeSet};

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};
use object::read::{ReadCache, ReadRef};
use object::{Endianness, FileKind};
use push_wire::facts::Needs;
use push_wire::path::TreePath;
use push_wire::tree::Entry;

use super::ReleaseError;
use super::listing::Listing;

/// What one ELF file says of itself.
#[derive(Debug, Default)]
struct Binary {
    machine: Option<String>,
    interpreter: Option<String>,
    glibc: Option<(u32, u32)>,
    libraries: BTreeSet<String>,
    program: bool,
}

/// What the release needs. A file that only looks like ELF says nothing; whether it runs is found
/// out by running it.
pub(super) fn needs(listing: &Listing) -> Result<Needs, ReleaseError> {
    let mut programs = Vec::new();
    let mut brought: BTreeMap<String, Binary> = BTreeMap::new();
    for path in &listing.elf {
        let Some(Entry::File {
            digest, executable, ..
        }) = listing.tree.entries.get(path)
        else {
            continue;
        };
        let Some(content) = listing.contents.get(digest) else {
            continue;
        };
        let binary = parse(content.window()?).unwrap_or_default();
        if binary.program && *executable {
            programs.push(binary);
        } else {
            brought.insert(file_name(path), binary);
        }
    }
    // A library is often found under the name of a link to it.
    let names: BTreeSet<String> = listing.tree.entries.keys().map(file_name).collect();
    let machines: BTreeSet<_> = programs.iter().filter_map(|p| p.machine.clone()).collect();
    if machines.len() > 1 {
        return Ok(Needs::default()); // Made for several machines: it chooses by itself.
    }
    let mut needs = Needs {
        machine: machines.into_iter().next(),
        ..Needs::default()
    };
    let mut ahead = programs;
    while let Some(binary) = ahead.pop() {
        needs.glibc = needs.glibc.max(binary.glibc);
        needs.interpreter = needs.interpreter.or(binary.interpreter);
        for library in binary.libraries {
            if let Some(own) = brought.remove(&library) {
                ahead.push(own);
            } else if !names.contains(&library) {
                needs.libraries.insert(library);
            }
        }
    }
    Ok(needs)
}

fn file_name(path: &TreePath) -> String {
    path.components().last().unwrap_or_default().to_owned()
}

fn parse(file: super::content::Window) -> Option<Binary> {
    let data = ReadCache::new(file);
    match FileKind::parse(&data).ok()? {
        FileKind::Elf32 => read::<elf::FileHeader32<Endianness>, _>(&data),
        FileKind::Elf64 => read::<elf::FileHeader64<Endianness>, _>(&data),
        _ => None,
    }
}

fn read<'data, Elf, R>(data: R) -> Option<Binary>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = Elf::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let mut binary = Binary {
        machine: Some(machine(header.e_machine(endian), endian)),
        ..Binary::default()
    };
    for segment in header.program_headers(endian, data).ok()? {
        if let Ok(Some(path)) = segment.interpreter(endian, data) {
            binary.interpreter = Some(text(path));
        }
    }
    let kind = header.e_type(endian);
    let static_pie = kind == elf::ET_DYN && header.e_entry(endian).into() != 0;
    binary.program = kind == elf::ET_EXEC || binary.interpreter.is_some() || static_pie;
    let sections = header.sections(endian, data).ok()?;
    if let Ok(Some((entries, link))) = sections.dynamic(endian, data)
        && let Ok(strings) = sections.strings(endian, data, link)
    {
        use object::read::elf::Dyn as _;
        for entry in entries {
            if entry.tag(endian) == elf::DT_NEEDED
                && let Ok(name) = entry.string(endian, strings)
            {
                binary.libraries.insert(text(name));
            }
        }
    }
    if let Ok(Some((mut files, link))) = sections.gnu_verneed(endian, data)
        && let Ok(strings) = sections.strings(endian, data, link)
    {
        while let Ok(Some((_, mut versions))) = files.next() {
            while let Ok(Some(version)) = versions.next() {
                let name = version.name(endian, strings).unwrap_or_default();
                binary.glibc = binary.glibc.max(glibc(&text(name)));
            }
        }
    }
    Some(binary)
}

/// The version in `GLIBC_2.34` or `GLIBC_2.3.4`. `GLIBC_ABI_DT_RELR` came with glibc 2.36.
fn glibc(name: &str) -> Option<(u32, u32)> {
    if name == "GLIBC_ABI_DT_RELR" {
        return Some((2, 36));
    }
    let mut parts = name.strip_prefix("GLIBC_")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The machine, as `uname -m` says it there.
fn machine(code: u16, endian: Endianness) -> String {
    let little = endian == Endianness::Little;
    match code {
        elf::EM_X86_64 => "x86_64".into(),
        elf::EM_AARCH64 => "aarch64".into(),
        elf::EM_386 => "i686".into(),
        elf::EM_ARM => "armv7l".into(),
        elf::EM_RISCV => "riscv64".into(),
        elf::EM_S390 => "s390x".into(),
        elf::EM_PPC64 if little => "ppc64le".into(),
        other => format!("machine {other}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glibc_version_is_read_from_the_names_of_symbol_versions() {
        assert_eq!(glibc("GLIBC_2.34"), Some((2, 34)));
        assert_eq!(glibc("GLIBC_2.3.4"), Some((2, 3)));
        assert_eq!(glibc("GLIBC_PRIVATE"), None);
        assert_eq!(glibc("GLIBC_ABI_DT_RELR"), Some((2, 36)));
        assert_eq!(glibc("GCC_3.0"), None);
    }
}
