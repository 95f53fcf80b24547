//! Numbers with units, as people write them: `30s`, `512M`, `150%`, `0640`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest duration an inventory may name: nothing waits longer than a day.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a text is not such a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a duration.
    #[error("it is not a duration such as \"30s\", \"5m\" or \"1h30m\"")]
    Duration,
    /// More than [`DURATION_MAX`].
    #[error("it is longer than 24 hours")]
    TooLong,
    /// Not a size.
    #[error("it is not a size such as \"512M\" or \"2G\"")]
    Bytes,
    /// Not a share.
    #[error("it is not a share such as \"50%\", from 1% to 10000%")]
    Percent,
    /// Not a mode.
    #[error("it is not a mode of three or four octal digits such as \"0640\"")]
    Mode,
    /// A mode with set-user-id, set-group-id or sticky bit.
    #[error("set-user-id, set-group-id and sticky bits are not given to files")]
    SpecialMode,
}

/// Reads `30s`, `5m`, `1h30m`, `250ms`; units from large to small, each once.
pub fn duration(text: &str) -> Result<Duration, QuantityError> {
    const UNITS: &[(&str, u64)] = &[("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total_ms = 0_u64;
    if rest.is_empty() {
        return Err(QuantityError::Duration);
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let unit = after.len()
            - after
                .trim_start_matches(|c: char| c.is_ascii_lowercase())
                .len();
        let (unit, after) = after.split_at(unit);
        let number: u64 = number.parse().map_err(|_| QuantityError::Duration)?;
        let (_, unit_ms) = units
            .find(|(name, _)| *name == unit)
            .ok_or(QuantityError::Duration)?;
        let ms = number.checked_mul(*unit_ms).ok_or(QuantityError::TooLong)?;
        total_ms = total_ms.checked_add(ms).ok_or(QuantityError::TooLong)?;
        rest = after;
    }
    let total = Duration::from_millis(total_ms);
    if total > DURATION_MAX {
        return Err(QuantityError::TooLong);
    }
    Ok(total)
}

/// A number of bytes, written with a binary unit: `512M` is 512 × 1024 × 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &text[digits.len()..] {
            "" | "B" => 0,
            "K" | "k" => 10,
            "M" | "m" => 20,
            "G" | "g" => 30,
            "T" => 40,
            _ => return Err(QuantityError::Bytes),
        };
        if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
            return Err(QuantityError::Bytes);
        }
        let number: u64 = digits.parse().map_err(|_| QuantityError::Bytes)?;
        number
            .checked_mul(1 << shift)
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .map(Self)
            .ok_or(QuantityError::Bytes)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A share of one processor; above 100 is several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u32);

/// A hundred processors.
const PERCENT_MAX: u32 = 10_000;

impl FromStr for Percent {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let digits = text.strip_suffix('%').ok_or(QuantityError::Percent)?;
        if !digits.bytes().all(|c| c.is_ascii_digit()) {
            return Err(QuantityError::Percent);
        }
        match digits.parse() {
            Ok(percent @ 1..=PERCENT_MAX) => Ok(Self(percent)),
            _ => Err(QuantityError::Percent),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// The permission bits of a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mode(pub u32);

impl FromStr for Mode {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if !matches!(text.len(), 3 | 4) || !text.bytes().all(|c| matches!(c, b'0'..=b'7')) {
            return Err(QuantityError::Mode);
        }
        match u32::from_str_radix(text, 8) {
            Ok(bits @ 0..=0o777) => Ok(Self(bits)),
            Ok(_) => Err(QuantityError::SpecialMode),
            Err(_) => Err(QuantityError::Mode),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_says_its_units_from_large_to_small() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("1m250ms"), Ok(Duration::from_millis(60_250)));
        assert_eq!(duration("24h"), Ok(DURATION_MAX));
        assert_eq!(duration("25h"), Err(QuantityError::TooLong));
        for wrong in [
            "",
            "30",
            "s",
            "-1s",
            "1s1m",
            "1 s",
            "1s ",
            "1.5h",
            "١s",
            "1d",
            "99999999999999999999s",
        ] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_size_is_binary_and_cannot_overflow() {
        assert_eq!("512M".parse(), Ok(Bytes(512 << 20)));
        assert_eq!("1024".parse(), Ok(Bytes(1024)));
        for wrong in ["", "M", "1.5G", "-1", "+1", "1X", "99999999T", "1 M", "é"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_mode_never_gives_a_file_anothers_rights() {
        assert_eq!("0640".parse(), Ok(Mode(0o640)));
        assert_eq!(
            "755".parse::<Mode>().map(|mode| mode.to_string()),
            Ok("0755".to_owned())
        );
        assert_eq!("4755".parse::<Mode>(), Err(QuantityError::SpecialMode));
        for wrong in ["", "7", "0888", "rwxr-x", "06400"] {
            assert!(wrong.parse::<Mode>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_share_is_at_least_one_percent() {
        assert_eq!("150%".parse(), Ok(Percent(150)));
        for wrong in ["0%", "50", "%", "-5%", "10001%", "+5%"] {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong:?}");
        }
    }
}
