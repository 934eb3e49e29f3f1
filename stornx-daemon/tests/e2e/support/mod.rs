//! What the end-to-end tests have in common.

pub(crate) mod audit;
pub(crate) mod daemon;
pub(crate) mod driver;
pub(crate) mod faults;
pub(crate) mod hook;
pub(crate) mod load;
pub(crate) mod pods;
pub(crate) mod proxy;
pub(crate) mod rights;
pub(crate) mod seen;
pub(crate) mod tape;
pub(crate) mod writes;

use std::time::Duration;

pub(crate) use stornx_testbed::harness::TestResult;

/// Any error fails a test.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long something may take that takes a second or two on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// How much of a long test is run: `variable` says, else the short form.
pub(crate) fn long_form(
    variable: &str,
    short: usize,
) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
    match std::env::var(variable) {
        Ok(text) => Ok(text.parse().map_err(|_| format!("{variable} = {text:?}: a number"))?),
        Err(_) => Ok(short),
    }
}
