//! Lengths of time as people write them: `250ms`, `90s`, `10m`, `1.5h`. A bare number
//! is refused, since nothing would say what it counts.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use stornx_core::units::Span;
use thiserror::Error;

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("length of time {value:?} is not valid: {}", Timespan::RULE)]
pub struct TimespanError {
    value: String,
}

/// A length of time, or an instant counted from the start of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timespan(Span);

impl Timespan {
    /// What its text may be.
    pub const RULE: &'static str = "a number of at least 0 with a unit ms, s, m or h, at most ten years, e.g. 250ms, 90s, 10m, 1.5h";

    /// No time at all.
    pub const ZERO: Self = Self(Span::ZERO);

    /// Wraps whole milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Span::from_millis(millis))
    }

    /// Wraps whole seconds.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(Span::from_seconds(seconds))
    }

    /// As the unit of the core.
    #[must_use]
    pub const fn span(self) -> Span {
        self.0
    }

    /// In milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0.as_millis()
    }

    /// In seconds.
    #[must_use]
    pub const fn as_seconds_f64(self) -> f64 {
        self.0.as_seconds_f64()
    }
}

impl FromStr for Timespan {
    type Err = TimespanError;

    fn from_str(text: &str) -> Result<Self, TimespanError> {
        let refuse = || TimespanError { value: text.to_owned() };
        let unit_at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(refuse)?;
        let (number, unit) = text.split_at(unit_at);
        let scale = match unit {
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3600e3,
            _ => return Err(refuse()),
        };
        let millis = number.parse::<f64>().map_err(|_| refuse())? * scale;
        // Ten years: far above any run, and sums of a few in nanoseconds still fit.
        if !(0.0..=3.2e11).contains(&millis) {
            return Err(refuse());
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(Self::from_millis(millis.round() as u64))
    }
}

impl fmt::Display for Timespan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_millis() {
            0 => f.write_str("0s"),
            ms if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            ms if ms.is_multiple_of(60_000) => write!(f, "{}m", ms / 60_000),
            ms if ms.is_multiple_of(1_000) => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl Serialize for Timespan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timespan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for Timespan {
    fn schema_name() -> Cow<'static, str> {
        "Timespan".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9]+(\\.[0-9]+)?(ms|s|m|h)$",
            "description": Self::RULE
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit_and_prints_what_it_reads() {
        for (text, millis) in [("250ms", 250), ("90s", 90_000), ("1.5h", 5_400_000), ("0s", 0)] {
            let time: Timespan = text.parse().unwrap();
            assert_eq!(time.as_millis(), millis, "{text}");
            assert_eq!(time.to_string().parse::<Timespan>().unwrap(), time);
        }
    }

    #[test]
    fn refuses_what_has_no_unit_or_no_number() {
        for bad in ["", "10", "s", "-1s", "1d", "1 s", "1.2.3s", "1e3s", "99999h", "1s "] {
            let error = bad.parse::<Timespan>().unwrap_err().to_string();
            assert!(error.contains("a unit ms, s, m or h"), "{error}");
        }
    }
}
