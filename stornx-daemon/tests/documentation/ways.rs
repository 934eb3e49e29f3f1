//! How each command of the documentation is tested. What a rule says goes for commands that are
//! still to be written, too: they are run unless an exception below names them with a reason.

use std::collections::BTreeMap;

use super::read::{Line, Place, all_commands};

/// How a command is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// Runs as it stands, without a cluster, by the test `docs` of its crate.
    Runs,
    /// Runs with `STORNX_SLOW=1`; without, its options are looked at as in `Form`.
    Slow,
    /// Runs on the test bed in the order of its page, by the test `ship`.
    Bed,
    /// Does not run: the program has this command and knows these options.
    Form,
    /// Does not run: the workspace has the package, test, feature or path that cargo is told.
    Cargo,
    /// Nothing looks at it.
    Untested,
}

/// Commands that are not run though the rules would have it: how they begin, on which page (all
/// when empty), what is done instead, and why.
const EXCEPTIONS: &[(&str, &str, Way, &str)] = &[
    ("README.md", "git clone", Way::Untested, "from the internet"),
    ("README.md", "cd stornx", Way::Untested, "into the clone"),
    (
        "",
        "docker build",
        Way::Untested,
        "no container engine; `ship` reads the file as BuildKit does",
    ),
    ("", "docker buildx build", Way::Untested, "no container engine"),
    ("", "kind load", Way::Untested, "no container engine"),
    ("", "helm repo add", Way::Form, "from the internet"),
    ("", "helm install prometheus ", Way::Form, "a chart from the internet"),
    ("", "helm install istio-base ", Way::Form, "a chart from the internet"),
    ("", "helm install istiod ", Way::Form, "a chart from the internet"),
    ("", "helm install grafana ", Way::Form, "a chart from the internet"),
    ("", "helm install kiali-server ", Way::Form, "a chart from the internet"),
    ("", "helm install metrics-server ", Way::Form, "a chart from the internet"),
    ("", "kubectl -n istio-system port-forward", Way::Form, "Kiali is not there"),
    ("CONTRIBUTING.md", ".ci/run", Way::Untested, "it is what runs the tests"),
    ("CONTRIBUTING.md", "cargo insta review", Way::Untested, "a tool of its own, and it asks"),
    ("CONTRIBUTING.md", "cargo install cargo-mutants", Way::Untested, "from the internet"),
    ("CONTRIBUTING.md", "cargo mutants", Way::Untested, "a tool of its own, and hours"),
    (
        "docs/simulator.md",
        "stornx plan --snapshot out/large.json",
        Way::Form,
        "the command before it makes the file; it is of another crate, whose tests run it",
    ),
    (
        "docs/simulator.md",
        "valgrind",
        Way::Untested,
        "CI counts instructions of a plan, not of a hop",
    ),
];

/// How a command is tested; an error where nothing says so.
pub(crate) fn way(line: &Line) -> Result<Way, String> {
    if let Some((.., way, _)) = EXCEPTIONS.iter().find(|exception| names(exception, line)) {
        return Ok(*way);
    }
    let mention = line.place == Place::Prose && line.words().len() < 4;
    match (line.program(), line.place) {
        ("stornx" | "stornx-sim", Place::Console) => Ok(Way::Runs),
        ("stornx" | "stornx-sim", Place::Slow) => Ok(Way::Slow),
        ("stornx" | "stornx-sim", Place::Prose) | ("istioctl", _) => Ok(Way::Form),
        ("kubectl" | "helm" | "curl", Place::Prose) if mention => Ok(Way::Form),
        ("stornx", Place::Shell) | ("kubectl" | "helm" | "curl" | "export", _) => Ok(Way::Bed),
        ("cargo", _) => Ok(Way::Cargo),
        _ => Err(format!("{}: no test knows what to do with it", line.at())),
    }
}

fn names((page, start, ..): &(&str, &str, Way, &str), line: &Line) -> bool {
    let words = line.words().join(" ");
    (page.is_empty() || *page == line.page)
        && (words.starts_with(start) || line.command.starts_with(start))
}

/// Every command with its way.
pub(crate) fn sorted() -> Result<Vec<(Line, Way)>, String> {
    all_commands().into_iter().map(|line| way(&line).map(|way| (line, way))).collect()
}

/// Those that are tested in this way.
pub(crate) fn of(way: Way) -> Result<Vec<Line>, String> {
    Ok(sorted()?.into_iter().filter(|(_, other)| *other == way).map(|(line, _)| line).collect())
}

/// How many there are of each; exceptions that no command needs are an error.
pub(crate) fn count() -> Result<BTreeMap<Way, usize>, String> {
    let all = sorted()?;
    let idle = |exception: &&(_, _, _, _)| !all.iter().any(|(line, _)| names(exception, line));
    if let Some((page, start, ..)) = EXCEPTIONS.iter().find(idle) {
        return Err(format!("an exception for nothing: {page} {start:?}"));
    }
    let mut counts = BTreeMap::new();
    for (_, way) in all {
        *counts.entry(way).or_default() += 1;
    }
    Ok(counts)
}
