//! The README of the chart, made from `values.yaml`, the table of settings and the meanings in
//! the daemon.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;
use stornx_testbed::harness::Test;

use super::settings::{table, values};
use crate::{
    Failure,
    bless::{file, same},
    support::TestResult,
};

const HEAD: &str = "\
# The StornX chart

<!-- Generated from values.yaml; a test fails when it differs. -->

Installs [StornX](../../../README.md) as a Deployment with the least rights that its settings need.
[docs/install.md](../../../docs/install.md) leads through it, with and without Istio.

```sh
helm install stornx deploy/helm/stornx -n stornx --create-namespace \\
  --set config.namespaces=shop --set image.repository=stornx    # the image that you have built
```

It begins with a dry run: it says what it would do, writes nothing, and has no right to. When you have
seen that, `--set config.dryRun=false` lets it act.

| file | for |
| --- | --- |
| `values.yaml` | everything, with its default |
| `values-production.yaml` | two replicas, a priority class, a network policy |
| `values-development.yaml` | logs for people, small requests |

Values are checked against a closed schema: a name that does not exist is an error. Numbers and switches
under `config` may be text. Names under `config` that the chart of the TypeScript original has mean the same;
its sections for Prometheus, Istio, Kiali, metrics-server and kube-netlag are accepted and not read.

What StornX writes beside its work (the ConfigMap with its memory, its Lease, the address behind its webhook) belongs
to the release and goes with it. Tools that install without looking at the cluster (Argo CD) have to ignore
differences in `EndpointSlice` (`/endpoints`, `/ports`) and `MutatingWebhookConfiguration`
(`/webhooks/0/namespaceSelector`, `/webhooks/0/clientConfig/caBundle`), which StornX writes.
";

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::plain("chart_readme_is_up_to_date", || async { readme() })]
}

/// A value with what is said of it.
struct Row {
    path: String,
    says: String,
}

/// The commented values, in their order: the comment, which begins with `-- `, stands above a key.
fn rows(text: &str) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let mut keys: Vec<(usize, String)> = Vec::new();
    let mut says = String::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let depth = line.len() - trimmed.len();
        if let Some(comment) = trimmed.strip_prefix("# ") {
            match comment.strip_prefix("-- ") {
                Some(first) => first.clone_into(&mut says),
                None if !says.is_empty() => says = format!("{says} {comment}"),
                None => {}
            }
            continue;
        }
        let Some((key, value)) = trimmed.split_once(':') else {
            says.clear();
            continue;
        };
        keys.retain(|(other, _)| *other < depth);
        keys.push((depth, key.to_owned()));
        let path = keys.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join(".");
        let inside_documented =
            rows.iter().any(|row: &Row| path.starts_with(&format!("{}.", row.path)));
        if !says.is_empty() || (!value.trim().is_empty() && !inside_documented) {
            rows.push(Row { path, says: std::mem::take(&mut says) });
        }
    }
    Ok(rows)
}

fn readme() -> TestResult {
    let names: BTreeMap<String, String> =
        table()?.into_iter().map(|(name, key)| (format!("config.{key}"), name)).collect();
    let meanings = meanings()?;
    let all = values()?;
    let mut text = HEAD.to_owned();
    let mut part = String::new();
    for Row { path, says } in rows(&file("deploy/helm/stornx/values.yaml")?)? {
        let first = if path.starts_with("config.") { "Settings of StornX" } else { "Values" };
        if part != first {
            let more =
                if text.contains("\n## Values\n") && first == "Values" { " around it" } else { "" };
            let _ = write!(
                text,
                "\n## {first}{more}\n\n| value | default | meaning |\n| --- | --- | --- |\n"
            );
            first.clone_into(&mut part);
        }
        let pointer = format!("/{}", path.replace('.', "/"));
        let default = all.pointer(&pointer).ok_or_else(|| format!("no {path}"))?;
        let mut says = if says.is_empty() { "as in Kubernetes".to_owned() } else { says };
        if let Some(name) = names.get(&path) {
            // Where the chart adds nothing of its own, the words are the daemon's.
            let meaning = meanings.get(name).cloned().unwrap_or_default();
            if !OWN_WORDS.contains(&name.as_str()) && says != meaning {
                return Err(format!("{path} says {says:?}, the daemon {meaning:?}").into());
            }
            says = format!("`{name}`: {says}");
        }
        let shown = match default {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let _ = writeln!(text, "| `{path}` | `{shown}` | {says} |");
    }
    same("deploy/helm/stornx/README.md", &text)
}

/// Settings of which the chart says more than the daemon.
const OWN_WORDS: [&str; 8] = [
    "HISTORY_FILE",
    "ENV",
    "NAMESPACES",
    "DRY_RUN",
    "OWN_NAME",
    "OWN_NAMESPACE",
    "WEBHOOK_CERT_FILE",
    "WEBHOOK_KEY_FILE",
];

/// What each setting means, from the reference.
fn meanings() -> Result<BTreeMap<String, String>, Failure> {
    let reference = file("docs/settings.md")?;
    let rows = reference.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`').to_owned();
        Some((name, cells.nth(1)?.to_owned()))
    });
    Ok(rows.collect())
}
