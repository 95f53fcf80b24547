//! Stands in push-host's place on a host, and lets the frames of all its sessions through one by one.
//!
//! Each frame is counted and noted in `/run/gate/log` once it has been passed on. After the frame whose
//! number is in `/run/gate/at`, nothing more passes until that file is gone. Beats pass uncounted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use push_wire::frame::{self, HEADER_BYTES, Kind};

const REAL: &str = "/usr/local/lib/push/push-host.real";
const GATE: &str = "/run/gate";

/// The pause between two looks whether the gate is open again.
const LOOK: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut real = Command::new(REAL);
    real.args(&arguments);
    if arguments != ["serve"] || !Path::new(GATE).exists() {
        let error = real.exec();
        eprintln!("gate: {error}");
        return ExitCode::FAILURE;
    }
    let mut real = real
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (to, from) = (real.stdin.take().unwrap(), real.stdout.take().unwrap());
    thread::spawn(move || pass("sent", io::stdin(), to));
    // Whatever ends it, the other side sees an end.
    let _ = pass("received", from, io::stdout());
    let status = real.wait().unwrap();
    ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
}

fn pass(way: &str, mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    loop {
        let mut head = [0; HEADER_BYTES];
        from.read_exact(&mut head)?;
        let (kind, length) = frame::header(head).map_err(io::Error::other)?;
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        to.write_all(&[head.as_slice(), &body].concat())?;
        to.flush()?;
        if kind != Kind::Beat {
            note(&format!("{way} {}", name(kind, &body)))?;
        }
    }
}

/// What a frame is, in a word.
fn name(kind: Kind, body: &[u8]) -> String {
    match kind {
        Kind::Message => {
            let text = String::from_utf8_lossy(body);
            let words: Vec<&str> = text
                .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .filter(|word| !word.is_empty())
                .take(3)
                .collect();
            words.join(" ")
        }
        Kind::PackedMessage => "a packed message".to_owned(),
        Kind::Content => "contents".to_owned(),
        Kind::Beat => "a beat".to_owned(),
    }
}

fn note(line: &str) -> io::Result<()> {
    // Whoever else has a frame waits for this one.
    let lock = File::create(format!("{GATE}/lock"))?;
    lock.lock()?;
    let path = format!("{GATE}/log");
    let log = fs::read_to_string(&path).unwrap_or_default();
    let number = log.lines().count() + 1;
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(format!("{number} {line}\n").as_bytes())?;
    let at = format!("{GATE}/at");
    if fs::read_to_string(&at).is_ok_and(|at| at.trim() == number.to_string()) {
        File::create(format!("{GATE}/reached"))?;
        while Path::new(&at).exists() {
            thread::sleep(LOOK);
        }
    }
    Ok(())
}
