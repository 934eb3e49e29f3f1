//! Reading a scenario: the types first, then what types cannot say. Every fault names
//! the file, the line, the path into it and what is allowed; faults of the second kind
//! are all reported at once.

use std::{fmt, path::Path};

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;
use stornx_core::model::Problem;
use thiserror::Error;

use super::Scenario;

/// One thing wrong with a scenario file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, or the name of the built-in scenario.
    pub file: String,
    /// The line, from 1; 0 when it is not known.
    pub line: u64,
    /// The path into the file; `.` for the whole.
    pub path: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.path, self.message)
    }
}

/// A scenario that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScenarioError {
    /// The file could not be read.
    #[error("{file}: cannot be read: {detail}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        detail: String,
    },
    /// The file is not a valid scenario.
    #[error("{}", list(.faults))]
    Invalid {
        /// Everything that is wrong with it.
        faults: Vec<Fault>,
    },
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n")
}

impl Scenario {
    /// Reads and checks a scenario file.
    ///
    /// # Errors
    /// [`ScenarioError`] with every fault that was found.
    pub fn read(file: &Path) -> Result<Self, ScenarioError> {
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(&name, &text),
            Err(error) => Err(ScenarioError::Unreadable { file: name, detail: error.to_string() }),
        }
    }

    /// Reads and checks the text of a scenario; `file` is for messages only.
    ///
    /// # Errors
    /// [`ScenarioError`] with every fault that was found.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        let mut path = ".".to_owned();
        let parsed = serde_saphyr::with_deserializer_from_str(text, |yaml| {
            serde_path_to_error::deserialize::<_, Self>(yaml).map_err(|error| {
                path = error.path().to_string();
                error.into_inner()
            })
        });
        let scenario = match parsed {
            Ok(scenario) => scenario,
            Err(error) => {
                let line = error.location().map_or(0, |location| location.line());
                let message = first_line(&error.without_snippet().to_string());
                let file = file.to_owned();
                return Err(ScenarioError::Invalid {
                    faults: vec![Fault { file, line, path, message }],
                });
            }
        };
        let problems = scenario.problems();
        if problems.is_empty() {
            Ok(scenario)
        } else {
            Err(ScenarioError::Invalid { faults: located(file, text, problems) })
        }
    }
}

/// The first line of a message, without the place that the parser adds at its end.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.split_once(" at line ").map_or(line, |(text, _)| text).to_owned()
}

/// Problems with the lines that they are on.
fn located(file: &str, text: &str, problems: Vec<Problem>) -> Vec<Fault> {
    let tree = serde_saphyr::from_str::<Spanned<Tree>>(text).ok();
    problems
        .into_iter()
        .map(|Problem { path, message }| {
            let line = tree.as_ref().map_or(0, |tree| line_of(tree, &path));
            Fault { file: file.to_owned(), line, path, message }
        })
        .collect()
}

/// The line of the deepest part of `path` that is in the file (the rest is a default).
fn line_of(root: &Spanned<Tree>, path: &str) -> u64 {
    let mut here = root;
    for part in path.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
        let next = match &here.value {
            Tree::Map(entries) => entries.iter().find(|(key, _)| key == part).map(|e| &e.1),
            Tree::List(items) => part.parse().ok().and_then(|i: usize| items.get(i)),
            Tree::Leaf => None,
        };
        match next {
            Some(next) => here = next,
            None => break,
        }
    }
    here.referenced.line()
}

/// The shape of a YAML document, for its line numbers alone.
#[derive(Debug)]
enum Tree {
    Map(Vec<(String, Spanned<Tree>)>),
    List(Vec<Spanned<Tree>>),
    Leaf,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TreeVisitor;

        impl<'de> de::Visitor<'de> for TreeVisitor {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any YAML")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Tree::Map(entries))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Tree, D::Error> {
                Tree::deserialize(inner)
            }
        }

        deserializer.deserialize_any(TreeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const SMALL: &str = "\
apiVersion: stornx.io/v1alpha1
name: small
intent: Two services in two zones.
topology:
  zones:
    - name: a
      nodes: [{count: 2, cpu: 4, memory: 8Gi}]
    - name: b
      nodes: [{name: big, cpu: 8, memory: 16Gi}]
services:
  - name: front
    replicas: 2
    requests: {cpu: 500m, memory: 128Mi}
    work: {meanMs: 2}
    stages:
      - calls: [{to: back, mean: 1.5}]
  - name: back
    replicas: 2
    requests: {cpu: 500m, memory: 128Mi}
    work: {meanMs: 1, distribution: lognormal}
entries:
  - service: front
    rates: {a: 50, b: [{at: 0s, perSecond: 1}, {at: 5m, perSecond: 9.5}]}
events:
  - zoneLoss: {at: 4m, zone: b, until: 6m}
duration: 10m
warmUp: 2m
policy:
  balancer: {maxStep: 30}
";

    fn faults(text: &str) -> Vec<Fault> {
        match Scenario::parse("small.yaml", text).unwrap_err() {
            ScenarioError::Invalid { faults } => faults,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_scenario_reads_with_its_defaults() {
        let scenario = Scenario::parse("small.yaml", SMALL).unwrap();
        assert_eq!(scenario.services[0].stages[0].calls[0].retries, 2);
        let balancer = &scenario.policy.balancer;
        let expected = [30.0, 5.0].map(stornx_core::units::Percent::saturating);
        assert_eq!([balancer.max_step, balancer.min_step], expected);
        assert_eq!(scenario.cycle.as_millis(), 60_000);
        let again = serde_saphyr::to_string(&scenario).unwrap();
        assert_eq!(Scenario::parse("again.yaml", &again).unwrap(), scenario);
    }

    #[test]
    fn bad_types_name_file_line_path_and_what_is_allowed() {
        for (from, to, line, path, allowed) in [
            ("warmUp: 2m", "warmUp: 120", 27, "warmUp", "a unit ms, s, m or h"),
            ("cpu: 8,", "cpu: lots,", 9, "topology.zones[1].nodes[0].cpu", "Kubernetes CPU"),
            ("warmUp: 2m", "warmUpp: 2m", 27, "warmUpp", "warmUp"),
            ("to: back,", "too: back,", 16, "services[0].stages[0].calls[0].too", "one of to,"),
            ("zoneLoss", "zoneLost", 25, "events[0]", "zoneLoss"),
            ("maxStep: 30", "maxStep: -1", 29, "policy.balancer.maxStep", "from 0"),
            ("a: 50", "a: many", 23, "entries[0].rates.a", "requests per second"),
        ] {
            let text = SMALL.replacen(from, to, 1);
            assert_ne!(text, SMALL);
            let faults = faults(&text);
            let fault = &faults[0];
            assert_eq!((fault.file.as_str(), fault.line), ("small.yaml", line), "{fault}");
            assert!(fault.path.contains(path), "{fault}");
            assert!(fault.message.contains(allowed), "{fault}");
        }
    }

    #[test]
    fn what_types_cannot_say_is_reported_all_at_once_with_lines() {
        let text = SMALL
            .replace("to: back", "to: nowhere")
            .replace("zone: b", "zone: z")
            .replace("warmUp: 2m", "warmUp: 20m");
        let found: Vec<_> =
            faults(&text).into_iter().map(|fault| (fault.line, fault.path)).collect();
        assert_eq!(
            found,
            [
                (16, "services[0].stages[0].calls[0].to".to_owned()),
                (25, "events[0].zoneLoss.zone".to_owned()),
                (27, "warmUp".to_owned()),
            ]
        );
    }

    #[test]
    fn no_text_makes_it_panic() {
        for end in 0..SMALL.len() {
            let _ = Scenario::parse("cut.yaml", &SMALL[..end]);
        }
    }
}
