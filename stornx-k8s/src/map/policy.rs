//! What the owner of a workload asks of StornX, by annotations on the workload.
//!
//! | annotation | values | meaning |
//! | --- | --- | --- |
//! | `stornx.io/policy` | `on`, `off` | `off`: leave this workload alone altogether |
//! | `stornx.io/scaling` | `on`, `off` | `off`: never change its replica count |
//! | `stornx.io/moves` | `on`, `off` | `off`: never move its replicas |
//! | `stornx.io/routing` | `on`, `off` | `off`: never write routes for its hosts |
//! | `stornx.io/min-replicas` | whole number | least replicas |
//! | `stornx.io/max-replicas` | whole number from 1 | most replicas |
//! | `stornx.io/response-time` | number above 0 | target p95 in milliseconds |
//!
//! Anything else under `stornx.io/` is taken for a typing mistake. Whoever writes an
//! annotation wants something; when it is not clear what, the workload is left alone,
//! and the mistake is named.

use std::collections::BTreeMap;

use stornx_core::{model::WorkloadPolicy, units::Millis};

const PREFIX: &str = "stornx.io/";

/// The annotations that are understood.
pub const ANNOTATIONS: [&str; 7] = [
    "stornx.io/policy",
    "stornx.io/scaling",
    "stornx.io/moves",
    "stornx.io/routing",
    "stornx.io/min-replicas",
    "stornx.io/max-replicas",
    "stornx.io/response-time",
];

/// The policy that annotations ask for, and the mistakes in them. With a mistake the
/// workload is opted out.
pub(crate) fn policy(annotations: &BTreeMap<String, String>) -> (WorkloadPolicy, Option<String>) {
    let mut policy = WorkloadPolicy::default();
    let mut mistakes = Vec::new();
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        if !ANNOTATIONS.contains(&key.as_str()) {
            mistakes.push(format!("{key} is not one of {}", ANNOTATIONS.join(", ")));
        } else if let Err(allowed) = apply(&mut policy, name, value.trim()) {
            mistakes.push(format!("{key}: {value:?} is not {allowed}"));
        }
    }
    if let (Some(min), Some(max)) = (policy.min_replicas, policy.max_replicas)
        && min > max
    {
        mistakes.push(format!("{PREFIX}min-replicas: {min} is above max-replicas, {max}"));
    }
    if mistakes.is_empty() {
        return (policy, None);
    }
    (WorkloadPolicy { opted_out: true, ..WorkloadPolicy::default() }, Some(mistakes.join("; ")))
}

/// Sets what one annotation asks for, or says what would be allowed.
fn apply(policy: &mut WorkloadPolicy, name: &str, value: &str) -> Result<(), &'static str> {
    let off = || match value {
        "off" => Ok(true),
        "on" => Ok(false),
        _ => Err("on or off"),
    };
    match name {
        "policy" => policy.opted_out = off()?,
        "scaling" => policy.no_scaling = off()?,
        "moves" => policy.no_moves = off()?,
        "routing" => policy.no_routing = off()?,
        "min-replicas" => {
            policy.min_replicas = Some(value.parse().map_err(|_| "a whole number from 0")?);
        }
        "max-replicas" => {
            let max = value.parse().ok().filter(|max| *max > 0);
            policy.max_replicas = Some(max.ok_or("a whole number from 1")?);
        }
        "response-time" => {
            let millis = value.parse().ok().and_then(|value| Millis::new(value).ok());
            let millis = millis.filter(|millis| *millis > Millis::ZERO);
            policy.response_time = Some(millis.ok_or("a number of milliseconds above 0")?);
        }
        // The caller knows the names; one without a case here would be a mistake too.
        _ => return Err("understood"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> (WorkloadPolicy, Option<String>) {
        policy(&annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn annotations_set_what_they_say() {
        let (policy, mistake) = read(&[
            ("stornx.io/scaling", "off"),
            ("stornx.io/moves", "off"),
            ("stornx.io/routing", "on"),
            ("stornx.io/min-replicas", "2"),
            ("stornx.io/max-replicas", "9"),
            ("stornx.io/response-time", "80.5"),
            ("example.com/policy", "off"),
        ]);
        assert_eq!(mistake, None);
        assert!(policy.no_scaling && policy.no_moves && !policy.no_routing && !policy.opted_out);
        assert_eq!((policy.min_replicas, policy.max_replicas), (Some(2), Some(9)));
        assert_eq!(policy.response_time.unwrap().get().to_string(), "80.5");
        assert!(read(&[("stornx.io/policy", "off")]).0.opted_out);
        assert_eq!(read(&[]), (WorkloadPolicy::default(), None));
    }

    #[test]
    fn a_mistake_leaves_the_workload_alone_and_is_named() {
        for (key, value) in [
            ("stornx.io/policy", "disabled"),
            ("stornx.io/scaling", ""),
            ("stornx.io/min-replicas", "-1"),
            ("stornx.io/max-replicas", "0"),
            ("stornx.io/response-time", "100ms"),
            ("stornx.io/response-time", "NaN"),
            ("stornx.io/scalling", "off"),
        ] {
            let (policy, mistake) = read(&[(key, value), ("stornx.io/moves", "off")]);
            let mistake = mistake.unwrap();
            assert!(policy.opted_out && mistake.contains(key), "{mistake}");
        }
        let (policy, mistake) =
            read(&[("stornx.io/min-replicas", "5"), ("stornx.io/max-replicas", "4")]);
        assert!(policy.opted_out && mistake.unwrap().contains("above max-replicas"));
    }

    #[test]
    fn every_annotation_is_documented_and_understood() {
        let page = include_str!("../../../docs/annotations.md");
        for key in ANNOTATIONS {
            assert!(page.contains(&format!("| `{key}` |")), "{key}");
            let mut policy = WorkloadPolicy::default();
            let values = ["off", "3"];
            let name = key.trim_start_matches(PREFIX);
            assert!(values.iter().any(|value| apply(&mut policy, name, value).is_ok()), "{key}");
        }
    }
}
