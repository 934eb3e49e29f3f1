//! The settings of the daemon: defaults, then a YAML file, then the environment, the
//! later one winning. Names, meanings and limits stand once, in [`table`]; a start
//! with bad values is refused with all of them listed.

mod file;
mod problems;
mod show;
mod table;
mod values;

use std::{collections::BTreeMap, fmt, path::Path};

use stornx_core::{ids::Namespace, policy::Policy};

pub(crate) use self::{
    problems::Refused,
    show::{as_env, as_markdown, as_yaml},
};
use self::{
    problems::{SettingProblem, near},
    table::SETTINGS,
    values::{ApiUrl, Schedule},
};

/// Where StornX runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Environment {
    /// In a cluster, by service account; logs as JSON.
    Production,
    /// On a workstation, by kubeconfig; logs for people.
    Development,
}

/// Every setting.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    environment: Environment,
    port: u16,
    prometheus: ApiUrl,
    schedule: Schedule,
    labels_schedule: Schedule,
    dry_run: bool,
    /// The settings of the decisions, managed namespaces included.
    pub(crate) policy: Policy,
}

impl Default for Settings {
    fn default() -> Self {
        let mut policy = Policy::default();
        // The namespace that every cluster has: a valid name.
        policy.namespaces.extend(Namespace::new("default"));
        Self {
            environment: Environment::Production,
            port: 3000,
            prometheus: ApiUrl::default_prometheus(),
            schedule: Schedule::every_minute(),
            labels_schedule: Schedule::every_minute(),
            dry_run: false,
            policy,
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Built in.
    Default,
    /// A line of the settings file.
    File {
        /// The file as the user named it.
        path: String,
        /// The line, from 1.
        line: u64,
    },
    /// An environment variable.
    Environment,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment => f.write_str("environment"),
        }
    }
}

/// The settings in force and where each that is not built in comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Effective {
    /// The settings.
    pub(crate) settings: Settings,
    origins: BTreeMap<&'static str, Origin>,
}

impl Effective {
    /// Where the value of a setting comes from.
    pub(crate) fn origin(&self, name: &str) -> Origin {
        self.origins.get(name).cloned().unwrap_or(Origin::Default)
    }

    /// The policy for a snapshot that was recorded elsewhere: unless namespaces were
    /// given, every workload that was managed where it was recorded is managed.
    pub(crate) fn policy_for_recorded(&self) -> Policy {
        let mut policy = self.settings.policy.clone();
        if self.origin("NAMESPACES") == Origin::Default {
            policy.namespaces.clear();
        }
        policy
    }
}

/// A value before it is understood.
struct Given {
    name: String,
    text: String,
    origin: Origin,
}

/// Reads the settings from the layers there are.
///
/// # Errors
/// [`Refused`] lists every bad value of every layer at once. A value of the file that
/// the environment replaces must be good, too: it would come into force unnoticed
/// when the variable goes.
pub(crate) fn load(
    file: Option<&Path>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Effective, Refused> {
    let mut effective = Effective { settings: Settings::default(), origins: BTreeMap::new() };
    let mut problems = Vec::new();

    let mut given = match file {
        Some(path) => file::read(path)?,
        None => Vec::new(),
    };
    given.extend(SETTINGS.iter().filter_map(|setting| {
        environment(setting.name).map(|text| Given {
            name: setting.name.to_owned(),
            text,
            origin: Origin::Environment,
        })
    }));
    for given in given {
        match SETTINGS.iter().find(|setting| setting.name == given.name) {
            None => problems.push(SettingProblem::unknown(&given, near(&given.name))),
            Some(setting) => match (setting.set)(&mut effective.settings, given.text.trim()) {
                Some(()) => {
                    effective.origins.insert(setting.name, given.origin);
                }
                None => problems.push(SettingProblem::bad(&given, setting.allowed)),
            },
        }
    }
    problems.extend(problems::of_policy(&effective));

    if problems.is_empty() { Ok(effective) } else { Err(Refused::Values(problems)) }
}

/// Reads the settings from a file, if one is named, and the environment of this
/// process.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_from_process(file: Option<&Path>) -> Result<Effective, Refused> {
    load(file, |name| {
        // A value that is not Unicode is shown as well as it can be, and refused.
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    })
}

#[cfg(test)]
mod tests;
