//! Builds `push-host` for every Linux machine that the toolchain can build a static program for,
//! and leaves the programs, gzipped, with a table of them, for `embedded.rs` to include.
//!
//! For each machine the musl target is taken where it is installed; for the build machine's own
//! architecture, the GNU target with a static C runtime serves where musl is not.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The machines that push knows, as `uname -m` names them.
const MACHINES: [&str; 2] = ["x86_64", "aarch64"];

fn main() -> Result<()> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let sources = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("..");
    for watched in ["host", "wire", "../Cargo.lock", "../Cargo.toml"] {
        println!(
            "cargo::rerun-if-changed={}",
            sources.join(watched).display()
        );
    }
    let mut table = String::from("&[\n");
    for machine in MACHINES {
        let Some(target) = target_for(machine)? else {
            continue;
        };
        let program = build(&target, &out, &sources)?;
        let file = out.join(format!("push-host.{machine}.gz"));
        let digest = pack(&program, &file)?;
        writeln!(
            table,
            "    Embedded {{ machine: {machine:?}, digest: {digest:?}, gzip: include_bytes!({:?}) }},",
            file.to_str().ok_or("OUT_DIR is not UTF-8")?
        )?;
    }
    table.push(']');
    fs::write(out.join("embedded.rs"), table)?;
    Ok(())
}

/// The target to build for `machine`, or `None` when the toolchain has none.
fn target_for(machine: &str) -> Result<Option<String>> {
    let musl = format!("{machine}-unknown-linux-musl");
    if is_installed(&musl)? {
        return Ok(Some(musl));
    }
    let gnu = format!("{machine}-unknown-linux-gnu");
    Ok((env::var("HOST")? == gnu).then_some(gnu))
}

fn is_installed(target: &str) -> Result<bool> {
    let rustc = env::var("RUSTC")?;
    let found = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .output()?;
    let folder = String::from_utf8(found.stdout)?;
    Ok(found.status.success() && Path::new(folder.trim()).is_dir())
}

/// Builds `push-host` in a target folder of its own, which all profiles of this checkout share.
fn build(target: &str, out: &Path, sources: &Path) -> Result<PathBuf> {
    let folder = out
        .ancestors()
        .nth(4)
        .ok_or("OUT_DIR is not inside a target folder")?
        .join("push-host");
    let profile = if env::var("PROFILE")? == "release" {
        "host"
    } else {
        "host-dev"
    };
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .args([
            "build",
            "--locked",
            "--package",
            "push-host",
            "--profile",
            profile,
            "--target",
            target,
        ])
        .arg("--target-dir")
        .arg(&folder)
        .current_dir(sources)
        // What clippy or a coverage tool sets for this build must not reach the program for hosts.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    if target.ends_with("musl") && env::var("HOST")?.split('-').next() != target.split('-').next() {
        // Everything in push-host is Rust, so the linker that comes with Rust is enough.
        let variable = target.replace('-', "_").to_uppercase();
        cargo.env(format!("CARGO_TARGET_{variable}_LINKER"), "rust-lld");
    }
    let ended = cargo.output()?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        return Err(format!("push-host does not build for {target}:\n{said}").into());
    }
    Ok(folder.join(target).join(profile).join("push-host"))
}

/// Gzips a program; returns its SHA-256.
fn pack(program: &Path, file: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(program)?.read_to_end(&mut bytes)?;
    let mut gzip = GzEncoder::new(fs::File::create(file)?, Compression::best());
    gzip.write_all(&bytes)?;
    gzip.finish()?;
    Ok(Sha256::digest(&bytes)
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}
