//! Instructions of a plan, its check and what is remembered of it, counted by callgrind:
//! neither the load nor the speed of the machine matters.
//!
//! Calls valgrind itself instead of a harness of benchmarks: the counted program is the
//! bench as it is, and there is no runner to install whose version must fit.

use std::{
    env, fs,
    process::{Command, ExitCode, Stdio},
};

use super::gate;

/// What is counted: the run, its size, and the part of it.
const GATED: [(&str, &str, &str); 5] = [
    ("first", "0.125", "only_plan"),
    ("later", "0.125", "only_plan"),
    ("later", "0.125", "only_check"),
    ("later", "0.125", "only_remember"),
    ("probed", "0.125", "only_plan"),
];

pub(crate) fn gate() -> ExitCode {
    if !is_there() {
        let in_ci = env::var("CI").is_ok();
        println!(
            "SKIPPED: valgrind is not installed, instructions are not counted{}",
            if in_ci { ", which CI does not accept" } else { "" }
        );
        return if in_ci { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let figures = GATED.map(|(run, size, part)| {
        let name = part.trim_start_matches("only_");
        (format!("instructions {run} {size} {name}"), instructions(&[], run, size, part))
    });
    gate::judge(&figures)
}

/// What the figures without the search for bundles are called, of which all sizes are counted:
/// the search takes steps, and no more of them on a larger cluster.
pub(crate) const UNSEARCHED: &str = "unsearched";

/// All runs and sizes: minutes. Compared like the gate's, and written with `STORNX_BLESS=1`.
/// Check and memory hardly differ between the runs: they are counted of one.
pub(crate) fn all() -> ExitCode {
    let mut figures = Vec::new();
    for size in ["0.125", "0.25", "0.5", "1"] {
        for run in ["first", "later", "probed"] {
            for part in ["only_plan", "only_check", "only_remember"] {
                if part != "only_plan" && run != "later" {
                    continue;
                }
                let name = part.trim_start_matches("only_");
                let count = instructions(&["--steps", "0"], run, size, part);
                figures.push((format!("{UNSEARCHED} {run} {size} {name}"), count));
            }
        }
    }
    gate::judge(&figures)
}

fn is_there() -> bool {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

fn instructions(options: &[&str], run: &str, size: &str, part: &str) -> u64 {
    let name = format!("stornx-{run}-{size}-{part}-{}.callgrind", std::process::id());
    let out = env::temp_dir().join(name);
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--error-exitcode=1"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(format!("--toggle-collect=*{part}*"))
        .arg(env::current_exe().unwrap())
        .args(options)
        .args(["--once", size, run])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "valgrind: {status}");
    let text = fs::read_to_string(&out).unwrap();
    let _ = fs::remove_file(&out);
    let total = text.lines().find_map(|line| line.strip_prefix("totals:"));
    total.and_then(|total| total.trim().parse().ok()).unwrap()
}
