//! For tests of this crate and of those built on it: random worlds from a seed, and
//! one contract suite for each port.
//!
//! Behind the feature `testing`, which nothing enables but development dependencies.
//! Everything here is reproducible from a `u64`: the generator is SplitMix64, since a
//! test world needs no better one and the core takes no library for it.

// This is test code: a broken assumption has to stop the test there and then.
#![allow(clippy::expect_used, clippy::panic)]

pub mod contract;
mod memories;
mod places;
mod random;
mod traces;
pub mod worlds;

pub use self::{
    random::SplitMix64,
    worlds::{Case, random_case},
};

/// How many cases a property test runs: `usual` times `STORNX_CASES` per cent, where
/// that is set (10000 runs hundred times the usual number).
///
/// # Panics
/// When `STORNX_CASES` is not a whole number.
#[must_use]
pub fn cases(usual: u64, setting: Option<&str>) -> u64 {
    let percent: u64 =
        setting.map_or(100, |text| text.parse().expect("STORNX_CASES is a whole number"));
    usual.saturating_mul(percent) / 100
}
