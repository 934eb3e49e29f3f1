//! The image. No container engine runs here: its file is read as BuildKit reads it, and the
//! program in it is built by `.ci/run image` with the same script.

use stornx_testbed::harness::Test;

use crate::{
    bless::{file, root},
    support::TestResult,
    tools::{dockerlint, objects},
};

const FILE: &str = "deploy/image/Dockerfile";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::plain("image_file_is_read_by_buildkit", || async { lint() }),
        Test::plain("image_is_what_the_chart_runs", || async { agrees() }),
    ]
}

fn lint() -> TestResult {
    let said = dockerlint(&root().join(FILE))?;
    if !said.contains("2 stages, 0 warnings") {
        return Err(said.into());
    }
    // It does find what is wrong.
    let wrong = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("Dockerfile.wrong");
    std::fs::write(&wrong, "FROM scratch as build\nCMD stornx run\n")?;
    match dockerlint(&wrong) {
        Err(error) if error.to_string().contains("FromAsCasing") => Ok(()),
        other => Err(format!("a wrong file: {other:?}").into()),
    }
}

/// The last stage is nothing but the program, run as the user and with the ports of the chart.
fn agrees() -> TestResult {
    let text = file(FILE)?;
    let last = text.rsplit("\nFROM ").next().unwrap_or_default();
    for line in [
        "scratch\n",
        "\nENTRYPOINT [\"/stornx\"]\n",
        "\nUSER 65532:65532\n",
        "\nEXPOSE 3000 8443\n",
    ] {
        if !last.contains(line) {
            return Err(format!("the last stage has no {line:?}: {last}").into());
        }
    }
    if last.contains("\nRUN ") {
        return Err("something runs in the last stage, where there is no shell".into());
    }
    let objects = objects(&["config.dryRun=false"])?;
    let pod = &objects.get("Deployment/stornx")?["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let ports = [&container["ports"][0]["containerPort"], &container["ports"][1]["containerPort"]];
    if pod["securityContext"]["runAsUser"] != 65532
        || ports.map(|port| port.as_u64()) != [Some(3000), Some(8443)]
    {
        return Err(format!("the chart runs it otherwise: {pod}").into());
    }
    // The toolchain of the image is that of the repository.
    let channel = file("rust-toolchain.toml")?;
    let version = text.split("ARG RUST_VERSION=").nth(1).and_then(|rest| rest.lines().next());
    match version {
        Some(version) if channel.contains(&format!("channel = \"{version}.")) => Ok(()),
        other => Err(format!("another toolchain: {other:?}").into()),
    }
}
