//! Sizes, durations and times as people read them. Knows nothing of what is measured.
//! Machine-readable output never goes through here.

use jiff::Timestamp;

const KIB: u64 = 1024;
const MIB: u64 = KIB * 1024;
const GIB: u64 = MIB * 1024;

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 60 * MINUTE_S;
const DAY_S: u64 = 24 * HOUR_S;

/// Below this many units, one more decimal digit is worth its place.
const PRECISE_BELOW: u64 = 10;

/// A size: `812 B`, `1.2 MiB`, `340 MiB`.
pub fn bytes(count: u64) -> String {
    let (unit, name) = match count {
        0..KIB => return format!("{count} B"),
        KIB..MIB => (KIB, "KiB"),
        MIB..GIB => (MIB, "MiB"),
        GIB.. => (GIB, "GiB"),
    };
    if count < PRECISE_BELOW * unit {
        let tenths = count.saturating_mul(10) / unit;
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        format!("{} {name}", count / unit)
    }
}

/// A span of seconds in its largest unit: `40 s`, `3 min`, `2 h`, `5 d`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..MINUTE_S => format!("{seconds} s"),
        MINUTE_S..HOUR_S => format!("{} min", seconds / MINUTE_S),
        HOUR_S..DAY_S => format!("{} h", seconds / HOUR_S),
        DAY_S.. => format!("{} d", seconds / DAY_S),
    }
}

/// How long something took: `0.4 s`, `12.3 s`, `2 min 5 s`.
pub fn took(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < MINUTE_S {
        format!("{seconds}.{} s", duration.subsec_millis() / 100)
    } else {
        format!("{} min {} s", seconds / MINUTE_S, seconds % MINUTE_S)
    }
}

/// How long ago `then_unix_s` was at `now_unix_s`. The two may come from clocks that disagree.
pub fn ago(then_unix_s: u64, now_unix_s: u64) -> String {
    match now_unix_s.checked_sub(then_unix_s) {
        Some(0) => "just now".to_owned(),
        Some(seconds) => format!("{} ago", span(seconds)),
        None => "in the future".to_owned(),
    }
}

/// A time of a host's or a laptop's clock, in UTC: `2026-11-20 10:15:00Z`.
pub fn utc(unix_s: u64) -> String {
    i64::try_from(unix_s)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(
            || format!("{unix_s} s after 1970"),
            |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        )
}

/// When a release was made, as its id `<YYYYmmddTHHMMSS.mmmZ>…` says, seconds since 1970; `None` for an id
/// of another form.
pub fn release_made_at(id: &str) -> Option<u64> {
    let stamp = id.split('-').next()?;
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S%.fZ", stamp).ok()?;
    let second = time
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?
        .timestamp()
        .as_second();
    u64::try_from(second).ok()
}

/// `1 host`, `2 hosts`.
pub fn count(number: usize, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_say_1024() {
        let said: Vec<String> = [
            0,
            1023,
            1024,
            1536,
            10 * KIB,
            MIB - 1,
            MIB,
            340 * MIB,
            u64::MAX,
        ]
        .map(bytes)
        .into();
        assert_eq!(
            said,
            [
                "0 B",
                "1023 B",
                "1.0 KiB",
                "1.5 KiB",
                "10 KiB",
                "1023 KiB",
                "1.0 MiB",
                "340 MiB",
                "17179869183 GiB"
            ]
        );
    }

    #[test]
    fn ages_name_one_unit_and_survive_a_clock_that_is_ahead() {
        assert_eq!(ago(100, 100), "just now");
        assert_eq!(ago(100, 159), "59 s ago");
        assert_eq!(ago(0, 7200), "2 h ago");
        assert_eq!(ago(0, 3 * DAY_S), "3 d ago");
        assert_eq!(ago(101, 100), "in the future");
    }

    #[test]
    fn a_release_id_tells_when_it_was_made() {
        assert_eq!(
            release_made_at("20261120T101500Z-3f2a91c-dirty"),
            Some(1_795_169_700)
        );
        assert_eq!(release_made_at("20261120T101500Z"), Some(1_795_169_700));
        assert_eq!(
            release_made_at("20261120T101500.999Z-3f2a91c"),
            Some(1_795_169_700)
        );
        assert_eq!(release_made_at("v1.2"), None);
    }

    #[test]
    fn times_are_utc_and_an_impossible_one_is_shown_as_it_is() {
        assert_eq!(utc(1_795_169_700), "2026-11-20 10:15:00Z");
        assert_eq!(utc(u64::MAX), "18446744073709551615 s after 1970");
    }
}
