//! The settings of the daemon: defaults, then a YAML file, then the environment, the
//! later one winning. Names, meanings and limits stand once, in [`table`]; a start
//! with bad values is refused with all of them listed.

mod file;
mod history;
mod problems;
mod prometheus;
mod quiet;
mod show;
mod table;
mod values;
mod webhook;

use std::{collections::BTreeMap, fmt, path::Path};

use stornx_core::{
    engine::{EngineOptions, Pace},
    ids::Namespace,
    policy::Policy,
    units::Span,
};

#[cfg(test)]
pub(crate) use self::values::SettingValue;
use self::{
    history::HistorySettings,
    problems::{SettingProblem, near},
    table::SETTINGS,
};
pub(crate) use self::{
    problems::Refused,
    show::{as_env, as_markdown, as_yaml},
};
pub(crate) use self::{
    prometheus::PrometheusSettings,
    quiet::QuietHours,
    values::{LogFilter, Schedule, Text},
    webhook::WebhookSettings,
};

/// Where StornX runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Environment {
    /// In a cluster, by service account; logs as JSON.
    Production,
    /// On a workstation, by kubeconfig; logs for people.
    Development,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LogFormat {
    /// JSON in production, text in development.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// How the Kubernetes API is used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KubernetesSettings {
    /// Where the memory and the lease lie; empty: where StornX itself runs.
    pub(crate) own_namespace: Text,
    /// Name of both.
    pub(crate) name: Text,
    /// How long a lease lasts after its holder was last heard of.
    pub(crate) lease: Span,
    /// Longest wait for one write.
    pub(crate) write_timeout: Span,
    /// A watch that has failed for longer makes the cluster unknown.
    pub(crate) max_age: Span,
}

impl Default for KubernetesSettings {
    /// The lease of 15 seconds is that of Kubernetes' own controllers.
    fn default() -> Self {
        Self {
            own_namespace: Text::default(),
            name: Text::of("stornx"),
            lease: Span::from_seconds(15),
            write_timeout: Span::from_seconds(4),
            max_age: Span::from_seconds(60),
        }
    }
}

/// Every setting.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) environment: Environment,
    pub(crate) port: u16,
    pub(crate) schedule: Schedule,
    /// When nodes are labelled.
    pub(crate) labels_schedule: Schedule,
    pub(crate) pace: Pace,
    /// When no move begins.
    pub(crate) quiet: QuietHours,
    /// Dry run, deadline, greatest age of metrics.
    pub(crate) engine: EngineOptions,
    pub(crate) log: LogFilter,
    pub(crate) log_format: LogFormat,
    pub(crate) history: HistorySettings,
    pub(crate) prometheus: PrometheusSettings,
    pub(crate) kubernetes: KubernetesSettings,
    pub(crate) webhook: WebhookSettings,
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
            schedule: Schedule::every_minute(),
            labels_schedule: Schedule::every_minute(),
            pace: Pace::default(),
            quiet: QuietHours::default(),
            engine: EngineOptions::default(),
            log: LogFilter::default(),
            log_format: LogFormat::default(),
            history: HistorySettings::default(),
            prometheus: PrometheusSettings::default(),
            kubernetes: KubernetesSettings::default(),
            webhook: WebhookSettings::default(),
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
    problems.extend(problems::of_loop(&effective));
    problems.extend(problems::of_prometheus(&effective));
    problems.extend(problems::of_webhook(&effective));

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
