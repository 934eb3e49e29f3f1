//! The settings of Prometheus, and the options of its client that they mean. What the
//! client does not take is told with the names of the settings.

use std::{path::Path, time::Duration};

use stornx_core::units::Span;
use stornx_prom::{Auth, Labels, PrometheusOptions, Secret};

use super::values::{ApiUrl, Headers, Text};

/// How Prometheus is reached and read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PrometheusSettings {
    pub(crate) url: ApiUrl,
    pub(crate) timeout: Span,
    /// Largest answer in MiB.
    pub(crate) body_limit: u32,
    pub(crate) rate_window: Span,
    pub(crate) token_file: Text,
    pub(crate) user: Text,
    pub(crate) password_file: Text,
    pub(crate) ca_file: Text,
    pub(crate) headers: Headers,
    pub(crate) mesh_pod_label: Text,
    pub(crate) mesh_namespace_label: Text,
    pub(crate) usage_pod_label: Text,
    pub(crate) usage_namespace_label: Text,
    pub(crate) container_label: Text,
    pub(crate) latency_metric: Text,
}

impl Default for PrometheusSettings {
    fn default() -> Self {
        Self {
            url: ApiUrl::default_prometheus(),
            timeout: Span::from_seconds(10),
            body_limit: 256,
            rate_window: Span::from_seconds(150),
            token_file: Text::default(),
            user: Text::default(),
            password_file: Text::default(),
            ca_file: Text::default(),
            headers: Headers::default(),
            mesh_pod_label: Text::of("pod"),
            mesh_namespace_label: Text::of("namespace"),
            usage_pod_label: Text::of("pod"),
            usage_namespace_label: Text::of("namespace"),
            container_label: Text::of("container"),
            latency_metric: Text::of("node_avg_latency_ms"),
        }
    }
}

/// A setting that the client does not take.
pub(crate) struct Refusal {
    pub(super) setting: &'static str,
    pub(super) allowed: String,
}

impl PrometheusSettings {
    /// The options of the client. Reads the files that are named.
    ///
    /// # Errors
    /// Every setting that cannot be used.
    pub(crate) fn options(&self, max_age: Span) -> Result<PrometheusOptions, Vec<Refusal>> {
        let mut refusals = Vec::new();
        let auth = self.auth(&mut refusals);
        let ca = read("PROMETHEUS_CA_FILE", &self.ca_file, &mut refusals);
        let or = |text: &Text, usual: &str| text.given().unwrap_or(usual).to_owned();
        let mut builder = PrometheusOptions::builder(self.url.as_str())
            .timeout(Duration::from_millis(self.timeout.as_millis()))
            .body_limit(
                usize::try_from(self.body_limit).unwrap_or(usize::MAX).saturating_mul(1 << 20),
            )
            .auth(auth)
            .rate_window(self.rate_window)
            .max_sample_age(max_age)
            .latency_metric(self.latency_metric.given().unwrap_or_default())
            .labels(Labels {
                mesh_pod: or(&self.mesh_pod_label, "pod"),
                mesh_namespace: or(&self.mesh_namespace_label, "namespace"),
                usage_pod: or(&self.usage_pod_label, "pod"),
                usage_namespace: or(&self.usage_namespace_label, "namespace"),
                container: or(&self.container_label, "container"),
            });
        for (name, value) in self.headers.iter() {
            builder = builder.header(name, value);
        }
        if let Some(pem) = ca {
            builder = builder.ca_pem(pem);
        }
        match builder.build() {
            Ok(options) if refusals.is_empty() => return Ok(options),
            Ok(_) => {}
            Err(error) => refusals.extend(error.problems.into_iter().map(|problem| Refusal {
                setting: setting_of(problem.option),
                allowed: problem.allowed,
            })),
        }
        Err(refusals)
    }

    fn auth(&self, refusals: &mut Vec<Refusal>) -> Auth {
        let mut refuse = |setting, allowed: &str| {
            refusals.push(Refusal { setting, allowed: allowed.to_owned() });
        };
        match (self.token_file.given(), self.user.given(), self.password_file.given()) {
            (Some(_), Some(_), _) => {
                refuse("PROMETHEUS_USER", "empty beside PROMETHEUS_TOKEN_FILE")
            }
            (None, Some(_), None) => {
                refuse("PROMETHEUS_USER", "a user beside PROMETHEUS_PASSWORD_FILE");
            }
            (None, None, Some(_)) => {
                refuse("PROMETHEUS_PASSWORD_FILE", "a file beside PROMETHEUS_USER");
            }
            (Some(path), None, _) => {
                if read("PROMETHEUS_TOKEN_FILE", &self.token_file, refusals).is_some() {
                    return Auth::BearerFile(path.into());
                }
            }
            (None, Some(user), Some(_)) => {
                let password = read("PROMETHEUS_PASSWORD_FILE", &self.password_file, refusals);
                if let Some(password) = password.and_then(|bytes| String::from_utf8(bytes).ok()) {
                    let password = Secret::new(password.trim_end());
                    return Auth::Basic { user: user.to_owned(), password };
                }
            }
            (None, None, None) => {}
        }
        Auth::None
    }
}

/// What a file holds that a setting names; `None` when it names none, or one that cannot
/// be read, which is then among the refusals.
fn read(setting: &'static str, file: &Text, refusals: &mut Vec<Refusal>) -> Option<Vec<u8>> {
    let path = file.given()?;
    match std::fs::read(Path::new(path)) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let allowed = format!("a file that can be read ({error})");
            refusals.push(Refusal { setting, allowed });
            None
        }
    }
}

/// The setting behind an option of the client.
fn setting_of(option: &str) -> &'static str {
    match option {
        "timeout" => "PROMETHEUS_TIMEOUT_SECONDS",
        "body_limit" => "PROMETHEUS_BODY_LIMIT_MB",
        "rate_window" => "PROMETHEUS_RATE_WINDOW_SECONDS",
        "max_sample_age" => "METRICS_MAX_AGE_SECONDS",
        "header" | "header.name" | "header.value" => "PROMETHEUS_HEADERS",
        "ca_pem" => "PROMETHEUS_CA_FILE",
        "auth.bearer_file" => "PROMETHEUS_TOKEN_FILE",
        "auth.user" => "PROMETHEUS_USER",
        "auth.password" => "PROMETHEUS_PASSWORD_FILE",
        "latency_metric" => "NODE_LATENCY_METRIC",
        "labels.mesh_pod" => "PROMETHEUS_MESH_POD_LABEL",
        "labels.mesh_namespace" => "PROMETHEUS_MESH_NAMESPACE_LABEL",
        "labels.usage_pod" => "PROMETHEUS_USAGE_POD_LABEL",
        "labels.usage_namespace" => "PROMETHEUS_USAGE_NAMESPACE_LABEL",
        "labels.container" => "PROMETHEUS_CONTAINER_LABEL",
        _ => "PROMETHEUS_URL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_refuses_is_told_by_the_name_of_its_setting() {
        let bad = PrometheusSettings {
            timeout: Span::ZERO,
            body_limit: 5000,
            rate_window: Span::from_seconds(4000),
            ca_file: Text::of("/nowhere/ca.pem"),
            user: Text::of("a:b"),
            password_file: Text::of("/nowhere/password"),
            mesh_pod_label: Text::of("a-b"),
            usage_namespace_label: Text::of("1a"),
            latency_metric: Text::of("a b"),
            ..PrometheusSettings::default()
        };
        let refusals = bad.options(Span::ZERO).unwrap_err();
        let mut names: Vec<_> = refusals.iter().map(|refusal| refusal.setting).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "METRICS_MAX_AGE_SECONDS",
                "NODE_LATENCY_METRIC",
                "PROMETHEUS_BODY_LIMIT_MB",
                "PROMETHEUS_CA_FILE",
                "PROMETHEUS_MESH_POD_LABEL",
                "PROMETHEUS_PASSWORD_FILE",
                "PROMETHEUS_RATE_WINDOW_SECONDS",
                "PROMETHEUS_TIMEOUT_SECONDS",
                "PROMETHEUS_USAGE_NAMESPACE_LABEL",
            ]
        );
        // No metric is a choice.
        let none = PrometheusSettings { latency_metric: Text::default(), ..Default::default() };
        assert!(none.options(Span::from_seconds(60)).is_ok());
    }
}
