//! The last lines of nginx's own log of errors. nginx's own user may own the folder of it, so what stands
//! in its place is not trusted: no link is followed, and nothing but a file is read.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};

/// Where Debian and Ubuntu have it.
pub(super) const PLACE: &str = "/var/log/nginx/error.log";

/// How much of its end is read, in bytes.
const BYTES_MAX: u64 = 16 << 10;

/// How many lines of it are told.
const LINES_MAX: usize = 10;

/// How long a line may be, in characters.
const LINE_CHARS_MAX: usize = 500;

/// Its last lines, when it was written to within the last `age_ms` milliseconds. One that cannot be read
/// tells nothing, which is no second failure.
pub(super) fn last_lines(path: &Path, age_ms: u64) -> Vec<String> {
    let end = end(path, Duration::from_millis(age_ms)).unwrap_or_default();
    let text = String::from_utf8_lossy(&end);
    let lines: Vec<&str> = text.lines().collect();
    let lines = &lines[lines.len().saturating_sub(LINES_MAX)..];
    let shown = lines
        .iter()
        .map(|line| format!("{}: {line}", path.display()));
    shown
        .map(|line| line.chars().take(LINE_CHARS_MAX).collect())
        .collect()
}

fn end(path: &Path, age: Duration) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    // A time to come is what a clock that was set back leaves.
    let written = found.modified()?.elapsed().unwrap_or_default();
    let mut bytes = Vec::new();
    if found.is_file() && written <= age {
        file.seek(SeekFrom::Start(found.len().saturating_sub(BYTES_MAX)))?;
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs;

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn the_last_lines_are_told_bounded_and_only_of_a_file_that_was_just_written() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("error.log");
        let mut text = String::new();
        for number in 0..5000 {
            let _ = writeln!(text, "line {number}");
        }
        text.push_str("[emerg] bind() to 0.0.0.0:80 failed\n");
        fs::write(&log, &text).unwrap();
        let told = last_lines(&log, HOUR_MS);
        assert_eq!(told.len(), LINES_MAX);
        let last = format!("{}: [emerg] bind() to 0.0.0.0:80 failed", log.display());
        assert_eq!(told.last(), Some(&last));

        let hours_ago = std::time::SystemTime::now() - Duration::from_millis(2 * HOUR_MS);
        let file = File::options().write(true).open(&log).unwrap();
        file.set_modified(hours_ago).unwrap();
        assert!(last_lines(&log, HOUR_MS).is_empty());
    }

    #[test]
    fn nothing_but_a_file_is_read_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let (log, secret) = (folder.path().join("error.log"), folder.path().join("key"));
        fs::write(&secret, "a secret").unwrap();
        std::os::unix::fs::symlink(&secret, &log).unwrap();
        assert!(last_lines(&log, HOUR_MS).is_empty());
        assert!(last_lines(folder.path(), HOUR_MS).is_empty());
        assert!(last_lines(&folder.path().join("none"), HOUR_MS).is_empty());
    }
}
