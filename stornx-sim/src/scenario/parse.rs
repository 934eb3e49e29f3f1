//! Reading a scenario: the types first, then what types cannot say. Every fault names
//! the file, the line, the path into it and what is allowed; faults of the second kind
//! are all reported at once.

use std::path::Path;

use super::Scenario;
use crate::files::{self, FileError, Grammar};

/// What a scenario file may hold.
const SCENARIO: &str =
    "a Scenario (apiVersion stornx.io/v1alpha1) in YAML, see `stornx-sim schema scenario`";

impl Scenario {
    /// Reads and checks a scenario file.
    ///
    /// # Errors
    /// [`FileError`] with every fault that was found.
    pub fn read(file: &Path) -> Result<Self, FileError> {
        Self::parse(&file.display().to_string(), &files::read(file)?)
    }

    /// Reads and checks the text of a scenario; `file` is for messages only.
    ///
    /// # Errors
    /// [`FileError`] with every fault that was found.
    pub fn parse(file: &str, text: &str) -> Result<Self, FileError> {
        let scenario: Self = files::parse(file, text, Grammar::Yaml, SCENARIO)?;
        files::refuse_problems(file, text, scenario.problems(), SCENARIO)?;
        Ok(scenario)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Place;

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

    struct Fault {
        file: String,
        line: u64,
        path: String,
        message: String,
    }

    fn faults(text: &str) -> Vec<Fault> {
        let fault = |place: Place, message| Fault {
            line: place.position.map_or(0, |(line, _)| line),
            file: place.file,
            path: place.path,
            message,
        };
        match Scenario::parse("small.yaml", text).unwrap_err() {
            FileError::Format { place, message, .. } => vec![fault(place, message)],
            FileError::Content { problems, .. } => {
                problems.into_iter().map(|(place, message)| fault(place, message)).collect()
            }
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
            let found = format!("{}: {}", fault.path, fault.message);
            assert_eq!((fault.file.as_str(), fault.line), ("small.yaml", line), "{found}");
            assert!(fault.path.contains(path), "{found}");
            assert!(fault.message.contains(allowed), "{found}");
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
