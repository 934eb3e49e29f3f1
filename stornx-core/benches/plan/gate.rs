//! Compares what was measured with what is committed in `figures.txt` beside this file.

use std::{env, fmt::Write as _, fs, path::PathBuf, process::ExitCode};

/// Part of a committed figure by which a measured one may differ. Counts differ by less
/// than a hundredth between two runs, and by a little more between two versions of the C
/// library.
const TOLERANCE: f64 = 0.05;

/// Set to write what was measured into the file.
const BLESS: &str = "STORNX_BLESS";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/plan/figures.txt")
}

/// Names with their figures.
pub(crate) fn committed() -> Vec<(String, u64)> {
    let text = fs::read_to_string(path()).unwrap_or_default();
    let line = |line: &str| {
        let (name, figure) = line.rsplit_once(' ')?;
        Some((name.trim().to_owned(), figure.replace('_', "").parse().ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}

/// Fails if a figure is off by more than the tolerance, in either direction: what became
/// cheaper is committed too, or the next loss would hide in it.
pub(crate) fn judge(measured: &[(String, u64)]) -> ExitCode {
    let mut known = committed();
    if env::var(BLESS).is_ok_and(|value| value == "1") {
        for (name, figure) in measured {
            match known.iter_mut().find(|(other, _)| other == name) {
                Some(entry) => entry.1 = *figure,
                None => known.push((name.clone(), *figure)),
            }
        }
        write(&known);
        return ExitCode::SUCCESS;
    }
    let mut passed = true;
    for (name, figure) in measured {
        let committed = known.iter().find(|(other, _)| other == name).map(|(_, figure)| *figure);
        let change = committed.map(|committed| *figure as f64 / committed as f64 - 1.0);
        let verdict = match change {
            Some(change) if change.abs() <= TOLERANCE => "ok",
            Some(change) if change < 0.0 => "CHEAPER, commit it",
            Some(_) => "DEARER",
            None => "NOT COMMITTED",
        };
        passed &= verdict == "ok";
        let change = change.map_or_else(String::new, |change| format!("{:+.1} %", 100.0 * change));
        println!("{name:<40} {figure:>15} {change:>9}  {verdict}");
    }
    if passed {
        return ExitCode::SUCCESS;
    }
    println!("Meant? Write the new figures with {BLESS}=1 and commit {}.", path().display());
    ExitCode::FAILURE
}

fn write(figures: &[(String, u64)]) {
    let mut text = String::from(
        "# Instructions and peak heap (bytes) of plan, check and memory, at the sizes of the\n\
         # bench. `.ci/run cost` compares; written with STORNX_BLESS=1.\n",
    );
    for (name, figure) in figures {
        let _ = writeln!(text, "{name} {figure}");
    }
    fs::write(path(), text).unwrap();
}
