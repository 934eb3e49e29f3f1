//! What the end-to-end tests have in common.

pub(crate) mod audit;
pub(crate) mod daemon;
pub(crate) mod load;
pub(crate) mod proxy;
pub(crate) mod rights;
pub(crate) mod seen;
pub(crate) mod writes;

use std::time::Duration;

pub(crate) use stornx_testbed::harness::TestResult;

/// How long something may take that takes a second or two on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);
