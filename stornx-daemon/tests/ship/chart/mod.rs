//! The Helm chart.

mod branches;
mod install;
mod readme;
mod rights;
mod schemas;
mod settings;

use stornx_testbed::harness::Test;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    tests.extend(settings::tests());
    tests.extend(branches::tests());
    tests.extend(rights::tests());
    tests.extend(readme::tests());
    tests.extend(schemas::tests());
    tests.extend(install::tests());
    tests
}
