//! Units. A number that crosses a boundary says what it counts; values that make
//! no sense (negative, infinite, NaN) are refused where they enter.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Sub},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A number or quantity that cannot be a value of its unit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{unit} {value} is not valid: {allowed}")]
pub struct UnitError {
    unit: &'static str,
    value: String,
    allowed: &'static str,
}

/// One zero only: the negative one (the sum of no numbers, for example) would be equal
/// to it, come before it in the order, and print differently.
const fn positive_zero(value: f64) -> f64 {
    value + 0.0
}

macro_rules! real_unit {
    ($(#[$doc:meta])* $name:ident, $unit:literal, $max:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Default, Serialize)]
        #[serde(transparent)]
        pub struct $name(f64);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0.0);

            /// Checks and wraps a number.
            ///
            /// # Errors
            /// [`UnitError`] when the number is not finite or outside the unit's range.
            pub fn new(value: f64) -> Result<Self, UnitError> {
                if value.is_finite() && (0.0..=$max).contains(&value) {
                    Ok(Self(positive_zero(value)))
                } else {
                    Err(UnitError { unit: $unit, value: value.to_string(), allowed: $rule })
                }
            }

            /// Wraps a computed number: what is not a number becomes zero, what lies
            /// outside the unit's range becomes the nearest end of it.
            #[must_use]
            pub fn saturating(value: f64) -> Self {
                if value.is_nan() { Self(0.0) } else { Self(positive_zero(value.clamp(0.0, $max))) }
            }

            /// The bare number in this unit.
            #[must_use]
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        impl Eq for $name {}
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.0.total_cmp(&other.0)
            }
        }
        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self::saturating(self.0 + other.0)
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
                values.fold(Self::ZERO, Add::add)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", self.0, $unit)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(f64::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let maximum: f64 = $max;
                schemars::json_schema!({
                    "type": "number", "minimum": 0, "maximum": maximum,
                    "description": concat!("in ", $unit, ": ", $rule)
                })
            }
        }
    };
}

real_unit!(
    /// Requests (or connections, or TCP exchanges) per second.
    Rps, "/s", 1e12, "a finite number from 0 to 1e12"
);
real_unit!(
    /// Milliseconds: of latency, of round-trip time.
    Millis, "ms", 1e12, "a finite number from 0 to 1e12"
);
real_unit!(
    /// Per cent. May exceed 100 where a measured utilisation does.
    Percent, "%", 1e6, "a finite number from 0 to 1e6"
);
real_unit!(
    /// Bytes per second on an edge or a route.
    BytesPerSecond, "B/s", 1e15, "a finite number from 0 to 1e15"
);
real_unit!(
    /// A share of a whole, 0 to 1.
    Share, "share", 1.0, "a finite number from 0 to 1"
);
real_unit!(
    /// US dollars per 10^9 bytes.
    UsdPerGigabyte, "USD/GB", 1e6, "a finite number from 0 to 1e6"
);

impl Rps {
    /// Nothing at all.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 <= 0.0
    }
}

macro_rules! quantity_unit {
    ($(#[$doc:meta])* $name:ident, $unit:literal, $parse:ident, $print:ident, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// Wraps a whole number of this unit.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The bare number in this unit.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The bare number for arithmetic in floating point.
            #[must_use]
            #[allow(clippy::cast_precision_loss)] // Exact up to 2^53, far above any node.
            pub const fn as_f64(self) -> f64 {
                self.0 as f64
            }

            /// Difference, zero where it would be negative.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// Multiple, the largest value where it would overflow.
            #[must_use]
            pub const fn times(self, factor: u64) -> Self {
                Self(self.0.saturating_mul(factor))
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                self.saturating_sub(other)
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
                values.fold(Self::ZERO, Add::add)
            }
        }
        impl FromStr for $name {
            type Err = UnitError;
            fn from_str(text: &str) -> Result<Self, UnitError> {
                $parse(text)
                    .map(Self)
                    .ok_or_else(|| UnitError { unit: $unit, value: text.to_owned(), allowed: $rule })
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $print(self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Quantity;
                impl de::Visitor<'_> for Quantity {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($rule)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, value: u64) -> Result<$name, E> {
                        self.visit_str(&value.to_string())
                    }
                    fn visit_i64<E: de::Error>(self, value: i64) -> Result<$name, E> {
                        self.visit_str(&value.to_string())
                    }
                    fn visit_f64<E: de::Error>(self, value: f64) -> Result<$name, E> {
                        self.visit_str(&value.to_string())
                    }
                }
                deserializer.deserialize_any(Quantity)
            }
        }
        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": ["string", "number"], "description": $rule })
            }
        }
    };
}

quantity_unit!(
    /// Thousandths of a CPU core. Written as a Kubernetes quantity (`250m`, `2`).
    MilliCpu, "cpu quantity", parse_milli_cpu, print_milli_cpu,
    "a Kubernetes CPU quantity of at least 0, e.g. 250m, 0.5, 2"
);
quantity_unit!(
    /// Bytes. Written as a Kubernetes quantity (`64Mi`, `1G`, `1048576`).
    Bytes, "byte quantity", parse_bytes, print_bytes,
    "a Kubernetes quantity of at least 0, e.g. 1048576, 64Mi, 1.5Gi, 2G"
);

/// `number` times `scale`, rounded to a whole number; `None` when it is no number,
/// negative, or too large.
fn scaled(number: &str, scale: f64) -> Option<u64> {
    let plain = !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && number.bytes().any(|b| b.is_ascii_digit());
    if !plain {
        return None;
    }
    if let (Ok(whole), true) = (number.parse::<u64>(), scale >= 1.0) {
        // Exact for whole numbers: scales of one and more are whole themselves.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        return whole.checked_mul(scale as u64);
    }
    let value = (number.parse::<f64>().ok()? * scale).round();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (value < 9.0e18).then_some(value as u64)
}

fn parse_milli_cpu(text: &str) -> Option<u64> {
    match text.strip_suffix('m') {
        Some(number) => scaled(number, 1.0),
        None => scaled(text, 1000.0),
    }
}

fn print_milli_cpu(value: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if value.is_multiple_of(1000) { write!(f, "{}", value / 1000) } else { write!(f, "{value}m") }
}

const BYTE_SUFFIXES: [(&str, u64); 10] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
];

fn parse_bytes(text: &str) -> Option<u64> {
    for (suffix, scale) in BYTE_SUFFIXES {
        if let Some(number) = text.strip_suffix(suffix) {
            #[allow(clippy::cast_precision_loss)] // The scales are powers of 2 or 10.
            return scaled(number, scale as f64);
        }
    }
    scaled(text, 1.0)
}

fn print_bytes(value: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let binary = BYTE_SUFFIXES[..5].iter().rev();
    match binary.copied().find(|(_, scale)| value > 0 && value.is_multiple_of(*scale)) {
        Some((suffix, scale)) => write!(f, "{}{suffix}", value / scale),
        None => write!(f, "{value}"),
    }
}

/// CPU and memory together: what a replica asks for, may use, or a node offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// CPU.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: Bytes,
}

impl Resources {
    /// Whether `self` fits into `free`, resource by resource.
    #[must_use]
    pub fn fits(&self, free: &Self) -> bool {
        self.cpu <= free.cpu && self.memory <= free.memory
    }

    /// Difference, each resource zero where it would be negative.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self { cpu: self.cpu - other.cpu, memory: self.memory - other.memory }
    }
}

impl Add for Resources {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, memory: self.memory + other.memory }
    }
}

/// An instant: milliseconds since the Unix epoch. The core never asks a clock; an
/// instant is always an argument.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Wraps milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` lies later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// The instant `span` later.
    #[must_use]
    pub const fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

/// A length of time in milliseconds; in files a whole number of milliseconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Span(u64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Wraps whole seconds.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Wraps milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// No time at all.
    #[must_use]
    #[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
    pub const fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// Seconds.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // Exact up to 2^53 ms, 285,000 years.
    pub const fn as_seconds_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Multiple, the longest span where it would overflow.
    #[must_use]
    pub const fn times(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(f, "{} s", self.0 / 1000)
        } else {
            write!(f, "{} ms", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_kubernetes_writes_them() {
        for (text, millis) in [("250m", 250), ("0.5", 500), ("2", 2000), ("1.5", 1500), ("0", 0)] {
            assert_eq!(text.parse::<MilliCpu>().unwrap().get(), millis, "{text}");
        }
        for (text, bytes) in
            [("64Mi", 64 << 20), ("1.5Gi", 3 << 29), ("2G", 2_000_000_000), ("1k", 1000), ("7", 7)]
        {
            assert_eq!(text.parse::<Bytes>().unwrap().get(), bytes, "{text}");
        }
        for bad in ["", "m", "-1", "1e3", "1mm", "1.2.3", "Mi", ".", "99999999999999999999"] {
            assert!(bad.parse::<MilliCpu>().is_err(), "{bad}");
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn quantities_print_what_they_read() {
        for value in [0, 1, 999, 1000, 1024, 1500, 65_536, 3 << 29, 1_000_000_007] {
            let (cpu, bytes) = (MilliCpu::new(value), Bytes::new(value));
            assert_eq!(cpu.to_string().parse::<MilliCpu>().unwrap(), cpu);
            assert_eq!(bytes.to_string().parse::<Bytes>().unwrap(), bytes);
        }
    }

    #[test]
    fn real_units_refuse_what_makes_no_sense() {
        for bad in [f64::NAN, f64::INFINITY, -0.1] {
            assert!(Rps::new(bad).is_err());
        }
        assert!(Share::new(1.01).is_err());
        for zero in [Rps::new(-0.0).unwrap(), Rps::saturating(-0.0), [].into_iter().sum()] {
            assert_eq!((zero, zero.cmp(&Rps::ZERO)), (Rps::ZERO, std::cmp::Ordering::Equal));
        }
        assert_eq!(Share::saturating(1.01), Share::new(1.0).unwrap());
        assert_eq!(Millis::saturating(f64::NAN), Millis::ZERO);
    }
}
