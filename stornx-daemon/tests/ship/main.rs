//! What is shipped around the program: the chart, the image, dashboards and alerts, pipelines.
//! Each is read by the tool that its users have (Helm, kubeconform, promtool, actionlint, the
//! linter of BuildKit), and the chart is installed on a real API server.

mod bless;
mod chart;
#[path = "../documentation/mod.rs"]
mod documentation;
mod documented;
mod image;
mod monitoring;
mod pipelines;
// The end-to-end tests use all of it, these tests a part.
#[allow(dead_code)]
#[path = "../e2e/support/mod.rs"]
mod support;
mod tools;

use std::process::ExitCode;

use stornx_testbed::{Options, harness};

/// Any error fails a test.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    if let Err(error) = tools::prepare() {
        eprintln!("ship: {error}");
        return ExitCode::FAILURE;
    }
    let mut tests = Vec::new();
    tests.extend(chart::tests());
    tests.extend(documented::tests());
    tests.extend(image::tests());
    tests.extend(monitoring::tests());
    tests.extend(pipelines::tests());
    harness::main(Options::default(), tests)
}
