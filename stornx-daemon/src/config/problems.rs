//! What is wrong with the settings, all at once and each with its place: name, value,
//! source, what is allowed.

use std::fmt;

use stornx_core::units::Span;

use super::{Effective, Given, table::SETTINGS};

/// One thing wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SettingProblem(String);

impl SettingProblem {
    /// A value that its setting cannot have.
    pub(super) fn bad(given: &Given, allowed: &str) -> Self {
        Self(format!("{} = {:?} ({}): allowed is {allowed}", given.name, given.text, given.origin))
    }

    /// A name that no setting has.
    pub(super) fn unknown(given: &Given, near: Option<&str>) -> Self {
        let hint = near.map_or_else(
            || "`stornx config` lists all settings".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        Self(format!("{} ({}): no such setting; {hint}", given.name, given.origin))
    }
}

/// Why a start is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The settings file cannot be read.
    #[error("settings file {path}: {detail}")]
    File {
        /// The file as the user named it.
        path: String,
        /// What came of reading it.
        detail: String,
    },
    /// The settings file is not a list of names and values.
    #[error("settings file {path}: {detail}; allowed is YAML of the form NAME: value")]
    Form {
        /// The file, with its line where known.
        path: String,
        /// What was found.
        detail: String,
    },
    /// Some values are not allowed.
    #[error("{}", list(.0))]
    Values(Vec<SettingProblem>),
}

fn list(problems: &[SettingProblem]) -> String {
    let count = match problems.len() {
        1 => "1 setting is".to_owned(),
        more => format!("{more} settings are"),
    };
    let lines: String = problems.iter().map(|problem| format!("\n  {}", problem.0)).collect();
    format!("{count} not allowed:{lines}")
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the policy says about values that can be read but not used. Where the rule
/// names another setting, that one's value and source are shown as well: either may
/// be the wrong one.
pub(super) fn of_policy(effective: &Effective) -> Vec<SettingProblem> {
    let place = |name: &str| {
        let setting = SETTINGS.iter().find(|setting| setting.name == name)?;
        let value = (setting.get)(&effective.settings);
        Some(format!("{name} = {value:?} ({})", effective.origin(name)))
    };
    let sentence = |problem: stornx_core::policy::PolicyProblem| {
        let named = place(problem.name)
            .unwrap_or_else(|| format!("{} = {:?}", problem.name, problem.value));
        let others: Vec<_> = problem
            .allowed
            .split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
            .filter_map(place)
            .collect();
        let with = if others.is_empty() {
            String::new()
        } else {
            format!(", where {}", others.join(" and "))
        };
        SettingProblem(format!("{named}: allowed is {}{with}", problem.allowed))
    };
    effective.settings.policy.problems().into_iter().map(sentence).collect()
}

/// What the numbers of the live loop must hold.
pub(super) fn of_loop(effective: &Effective) -> Vec<SettingProblem> {
    let settings = &effective.settings;
    let (kubernetes, pace) = (&settings.kubernetes, &settings.pace);
    let second = Span::from_seconds(1);
    let rules = [
        // A lease must outlast the longest write by enough to be renewed twice, or nobody
        // could ever write.
        (
            "LEASE_SECONDS",
            kubernetes.lease >= kubernetes.write_timeout.times(3),
            "at least three times WRITE_TIMEOUT_SECONDS",
        ),
        ("WRITE_TIMEOUT_SECONDS", kubernetes.write_timeout > Span::ZERO, "seconds above 0"),
        ("CLUSTER_MAX_AGE_SECONDS", kubernetes.max_age >= second.times(5), "seconds, at least 5"),
        ("GLANCE_SECONDS", pace.glance >= second, "seconds, at least 1"),
        ("HISTORY_HOURS", (1..=720).contains(&settings.history.hours), "1 to 720"),
        ("CYCLE_DEADLINE_SECONDS", settings.engine.deadline > Span::ZERO, "seconds above 0"),
    ];
    let place = |name: &str| {
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        let value = setting.map(|setting| (setting.get)(settings)).unwrap_or_default();
        format!("{name} = {value:?} ({})", effective.origin(name))
    };
    let broken = rules.into_iter().filter(|(_, holds, _)| !holds);
    broken
        .map(|(name, _, allowed)| {
            let mut text = format!("{}: allowed is {allowed}", place(name));
            if allowed.contains("WRITE_TIMEOUT_SECONDS") {
                text += &format!(", where {}", place("WRITE_TIMEOUT_SECONDS"));
            }
            SettingProblem(text)
        })
        .collect()
}

/// What the client of Prometheus does not take.
pub(super) fn of_prometheus(effective: &Effective) -> Vec<SettingProblem> {
    let settings = &effective.settings;
    let refusals = settings.prometheus.options(settings.engine.metrics_max_age).err();
    let sentence = |refusal: super::prometheus::Refusal| {
        let name = refusal.setting;
        let value = SETTINGS
            .iter()
            .find(|setting| setting.name == name)
            .map(|setting| (setting.get)(settings))
            .unwrap_or_default();
        let origin = effective.origin(name);
        SettingProblem(format!("{name} = {value:?} ({origin}): allowed is {}", refusal.allowed))
    };
    refusals.into_iter().flatten().map(sentence).collect()
}

/// What the webhook cannot be served with.
pub(super) fn of_webhook(effective: &Effective) -> Vec<SettingProblem> {
    let settings = &effective.settings;
    let sentence = |(name, allowed): (&'static str, &'static str)| {
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        let value = setting.map(|setting| (setting.get)(settings)).unwrap_or_default();
        let origin = effective.origin(name);
        SettingProblem(format!("{name} = {value:?} ({origin}): allowed is {allowed}"))
    };
    settings.webhook.refusals().into_iter().map(sentence).collect()
}

/// The setting whose name is most like `name`, when one is.
pub(super) fn near(name: &str) -> Option<&'static str> {
    // Three slips in a name of 20 letters are still that name; half of it is another.
    const LIKE: f64 = 0.8;
    let name = name.to_uppercase();
    SETTINGS
        .iter()
        .map(|setting| (strsim::normalized_damerau_levenshtein(&name, setting.name), setting.name))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, name)| name)
}
