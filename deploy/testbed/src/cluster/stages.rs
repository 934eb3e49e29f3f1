//! How kwok plays the kubelets: pods get their address at once and become Ready after a
//! delay, unless they are asked not to; deletions finish; nodes fail on demand.
//!
//! Containers, not pods, are what a stage looks at: a pod that the node controller has
//! marked not ready stays so, as with a kubelet that is gone.
//!
//! The stages lie in `stages.yaml`. Durations in annotations are those of Go (`20s`).

use std::time::Duration;

/// Annotation of a pod: `false` keeps it, or makes it, not Ready.
pub const READY: &str = "testbed.stornx.io/ready";

/// Annotation of a pod: from being scheduled to Ready, e.g. `20s`.
pub const READY_AFTER: &str = "testbed.stornx.io/ready-after";

/// Annotation of a node: `true` makes its readiness unknown.
pub const FAILED: &str = "testbed.stornx.io/failed";

const STAGES: &str = include_str!("stages.yaml");

/// The configuration of kwok. In large clusters it plays more stages side by side.
pub(super) fn configuration(ready_after: Duration, gone_after: Duration, large: bool) -> String {
    STAGES
        .replace("PARALLEL", if large { "32" } else { "8" })
        .replace("READY_AFTER_MS", &ready_after.as_millis().to_string())
        .replace("GONE_AFTER_MS", &gone_after.as_millis().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotations_are_those_of_the_stages() {
        for annotation in [READY, READY_AFTER, FAILED] {
            assert!(STAGES.contains(&format!("annotations[\"{annotation}\"]")), "{annotation}");
        }
    }

    #[test]
    fn every_word_is_filled_in() {
        let text = configuration(Duration::from_millis(300), Duration::ZERO, false);
        assert!(text.contains("durationMilliseconds: 300"), "{text}");
        for word in ["PARALLEL", "READY_AFTER_MS", "GONE_AFTER_MS"] {
            assert!(STAGES.contains(word) && !text.lines().skip(1).any(|line| line.contains(word)));
        }
    }
}
