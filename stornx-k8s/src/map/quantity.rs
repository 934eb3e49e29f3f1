//! Quantities of the API, read exactly and rounded up as Kubernetes rounds them
//! (`Quantity.MilliValue`, `Quantity.Value`).

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use stornx_core::units::{Bytes, MilliCpu};

/// Suffixes and what they stand for, in billionths.
const SUFFIXES: [(&str, i128); 17] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("k", 3),
    ("K", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
    ("", 0),
];

const BILLION: i128 = 1_000_000_000;

/// A quantity in billionths of its unit, what is finer rounded up; `None` when it is
/// none or too large to be one.
fn billionths(text: &str) -> Option<i128> {
    if let Some((number, exponent)) = text.split_once(['e', 'E'])
        && exponent.starts_with(|first: char| first.is_ascii_digit() || "+-".contains(first))
    {
        return decimal(number, exponent.parse().ok()?);
    }
    let (suffix, scale) = SUFFIXES.iter().find(|(suffix, _)| text.ends_with(suffix))?;
    let number = text.strip_suffix(suffix)?;
    if suffix.ends_with('i') {
        return decimal(number, 0)?.checked_mul(*scale);
    }
    decimal(number, i32::try_from(*scale).ok()?)
}

/// `number` times 10^`exponent`, in billionths, rounded up.
fn decimal(number: &str, exponent: i32) -> Option<i128> {
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 30 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: i128 = digits.parse().ok()?;
    let shift = exponent.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let value = if shift >= 0 {
        digits.checked_mul(10_i128.checked_pow(u32::try_from(shift).ok()?)?)?
    } else {
        match 10_i128.checked_pow(shift.unsigned_abs()) {
            Some(divisor) => digits / divisor + i128::from(digits % divisor != 0),
            None => i128::from(digits != 0),
        }
    };
    Some(if negative { -value } else { value })
}

fn rounded_up(value: i128, unit: i128) -> u64 {
    let value = value.max(0);
    u64::try_from(value / unit + i128::from(value % unit != 0)).unwrap_or(u64::MAX)
}

/// A quantity of CPU; `None` when it cannot be read, zero when it is negative.
pub(crate) fn milli_cpu(quantity: &Quantity) -> Option<MilliCpu> {
    Some(MilliCpu::new(rounded_up(billionths(&quantity.0)?, BILLION / 1000)))
}

/// A quantity of memory; `None` when it cannot be read, zero when it is negative.
pub(crate) fn bytes(quantity: &Quantity) -> Option<Bytes> {
    Some(Bytes::new(rounded_up(billionths(&quantity.0)?, BILLION)))
}

/// A count; `None` when it cannot be read.
pub(crate) fn count(quantity: &Quantity) -> Option<u32> {
    u32::try_from(bytes(quantity)?.get()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cpu(text: &str) -> Option<u64> {
        milli_cpu(&Quantity(text.to_owned())).map(MilliCpu::get)
    }

    fn memory(text: &str) -> Option<u64> {
        bytes(&Quantity(text.to_owned())).map(Bytes::get)
    }

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        assert_eq!(cpu("250m"), Some(250));
        assert_eq!(cpu("0.5"), Some(500));
        assert_eq!(cpu("2"), Some(2000));
        assert_eq!(cpu("12345678n"), Some(13));
        assert_eq!(cpu("1500u"), Some(2));
        assert_eq!(cpu("1e1"), Some(10_000));
        assert_eq!(cpu("0.0001"), Some(1), "rounded up");
        assert_eq!(memory("64Mi"), Some(64 << 20));
        assert_eq!(memory("1.5Gi"), Some(3 << 29));
        assert_eq!(memory("1G"), Some(1_000_000_000));
        assert_eq!(memory("1E"), Some(1_000_000_000_000_000_000));
        assert_eq!(memory("1Ei"), Some(1 << 60));
        assert_eq!(memory("0.5Ei"), Some(1 << 59));
        assert_eq!(memory("2E3"), Some(2000));
        assert_eq!(memory("5e-1"), Some(1), "rounded up");
        assert_eq!(memory("129e6"), Some(129_000_000));
        assert_eq!(memory("100m"), Some(1), "rounded up");
        assert_eq!(memory("-5"), Some(0));
        for bad in ["", "x", "1Xi", "1.2.3", "e", "1Ei3", "1e3i", "Ei", "--1", "1e", "m"] {
            assert_eq!(memory(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whole_numbers_with_suffixes_are_exact(number in 0_u64..1_000_000, which in 0_usize..4) {
            let (suffix, factor) = [("", 1), ("k", 1000), ("Ki", 1024), ("Mi", 1 << 20)][which];
            prop_assert_eq!(memory(&format!("{number}{suffix}")), Some(number * factor));
            prop_assert_eq!(cpu(&format!("{number}m")), Some(number));
        }

        #[test]
        fn nothing_panics(text in "\\PC*") {
            let _ = (cpu(&text), memory(&text));
        }
    }
}
