//! The scenarios that come with the binary. Each is a file under `scenarios/` with a
//! paragraph of intent; a name that is none of theirs is taken as the path of a file.

use std::path::Path;

use thiserror::Error;

use crate::{files::FileError, scenario::Scenario};

macro_rules! scenarios {
    ($($name:literal),* $(,)?) => {
        /// Names and texts, in the order in which they are listed.
        const SCENARIOS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../scenarios/", $name, ".yaml")))),*];
    };
}

scenarios!(
    "online-boutique",
    "uneven-inbound",
    "hpa-skew",
    "four-four-three",
    "traffic-shift",
    "chain-of-hotspots",
    "zone-loss",
    "slow-replica",
    "metrics-outage",
    "rollout-during-move",
    "steady",
);

/// A scenario that could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FindError {
    /// Neither a built-in name nor a file.
    #[error("scenario {name:?}: no such name and no such file; allowed: {}, or the path of a YAML file", names().join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The file is not a scenario.
    #[error(transparent)]
    Invalid(#[from] FileError),
}

/// Names of the built-in scenarios.
#[must_use]
pub fn names() -> Vec<&'static str> {
    SCENARIOS.iter().map(|(name, _)| *name).collect()
}

/// The text of a built-in scenario.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    SCENARIOS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// A scenario by its built-in name, or from a file.
///
/// # Errors
/// [`FindError`] with what is allowed.
pub fn find(name: &str) -> Result<Scenario, FindError> {
    if let Some(text) = text(name) {
        return Ok(Scenario::parse(&format!("{name}.yaml"), text)?);
    }
    let path = Path::new(name);
    if !path.is_file() {
        return Err(FindError::Unknown { name: name.to_owned() });
    }
    Ok(Scenario::read(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_valid_and_says_what_it_is_for() {
        for name in names() {
            let scenario = find(name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.name, name);
            assert!(scenario.intent.len() > 200, "{name}: a paragraph of intent");
        }
    }

    #[test]
    fn an_unknown_name_says_what_is_allowed() {
        let message = find("no-such-thing").unwrap_err().to_string();
        assert!(message.contains("no-such-thing") && message.contains("zone-loss"), "{message}");
    }
}
