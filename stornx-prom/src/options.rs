//! How Prometheus is reached and how its series are labelled.
//!
//! Decides nothing but what is allowed: every bad value is reported, all of them at once,
//! each with what is allowed. Secrets never show in debug output.

use std::{fmt, path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue};
use reqwest::Url;
use stornx_core::units::Span;
use thiserror::Error;

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How we say who we are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Bearer ...`.
    Bearer(Secret),
    /// The same, read from a file again in every cycle: mounted tokens are renewed.
    BearerFile(PathBuf),
    /// `Authorization: Basic ...`.
    Basic {
        /// User.
        user: String,
        /// Password.
        password: Secret,
    },
}

/// Names of labels. Set-ups differ: what finds the targets of Prometheus decides.
///
/// Istio's own metrics carry workload names and no pod; the pod is a label of the scrape
/// target. Where a scrape configuration does not say `honor_labels` and a label of the
/// metric has the name of one of the target, the metric's becomes `exported_pod`: then
/// name that one here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// The pod whose proxy says so, on series of the mesh.
    pub mesh_pod: String,
    /// The namespace of that pod.
    pub mesh_namespace: String,
    /// The pod on series of cAdvisor.
    pub usage_pod: String,
    /// The namespace on series of cAdvisor.
    pub usage_namespace: String,
    /// The container on series of cAdvisor; empty on sums of a pod.
    pub container: String,
}

impl Default for Labels {
    /// `pod`, `namespace` and `container`, as the kubelet, Istio's samples and the
    /// Prometheus operator have them.
    fn default() -> Self {
        Self {
            mesh_pod: "pod".to_owned(),
            mesh_namespace: "namespace".to_owned(),
            usage_pod: "pod".to_owned(),
            usage_namespace: "namespace".to_owned(),
            container: "container".to_owned(),
        }
    }
}

/// One option that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionProblem {
    /// Which option: the name of the builder's method, and after a dot the part of it that
    /// is meant where it has several: `url`, `timeout`, `body_limit`, `auth.bearer`,
    /// `auth.bearer_file`, `auth.user`, `auth.password`, `ca_pem`, `header` (its name),
    /// `header.value`, `rate_window`, `max_sample_age`, `labels.mesh_pod` and the other
    /// fields of [`Labels`], `latency_metric`.
    pub option: &'static str,
    /// What it was, as it would be shown; `***` for secrets.
    pub value: String,
    /// What is allowed, in words: for a message `OPTION = VALUE is not valid: ALLOWED`.
    pub allowed: String,
}

/// Options that cannot be used, all of them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct OptionsError {
    /// What is wrong.
    pub problems: Vec<OptionProblem>,
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let OptionProblem { option, value, allowed } = problem;
            let between = if at == 0 { "" } else { "; " };
            write!(f, "{between}{option} {value:?} is not valid: {allowed}")?;
        }
        Ok(())
    }
}

/// How Prometheus is reached and read. Made by [`PrometheusOptions::builder`], so that
/// what exists has been checked.
#[derive(Debug, Clone)]
pub struct PrometheusOptions {
    /// Ends with a slash, so that paths are joined below it.
    pub(crate) base: Url,
    pub(crate) timeout: Duration,
    pub(crate) body_limit: usize,
    pub(crate) auth: Auth,
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) window: Span,
    pub(crate) max_sample_age: Span,
    pub(crate) labels: Labels,
    /// None when none is to be asked for.
    pub(crate) latency_metric: Option<String>,
}

impl PrometheusOptions {
    /// Options for the Prometheus at `url`, everything else by default.
    pub fn builder(url: impl Into<String>) -> PrometheusOptionsBuilder {
        PrometheusOptionsBuilder {
            url: url.into(),
            timeout: Duration::from_secs(10),
            // 20,000 pods that call five workloads each are 200,000 rows of 340 bytes, 65 MB.
            // Rows are not kept: what is limited is time, not memory.
            body_limit: 256 << 20,
            auth: Auth::None,
            ca: None,
            headers: Vec::new(),
            // Two scrapes at the slowest common interval of a minute, and one that is late.
            window: Span::from_seconds(150),
            max_sample_age: Span::from_seconds(120),
            labels: Labels::default(),
            latency_metric: "node_avg_latency_ms".to_owned(),
        }
    }
}

/// Collects options; [`build`](Self::build) checks them.
#[derive(Debug, Clone)]
#[must_use]
pub struct PrometheusOptionsBuilder {
    url: String,
    timeout: Duration,
    body_limit: usize,
    auth: Auth,
    ca: Option<Vec<u8>>,
    headers: Vec<(String, String)>,
    window: Span,
    max_sample_age: Span,
    labels: Labels,
    latency_metric: String,
}

impl PrometheusOptionsBuilder {
    /// How long one query may take, from connecting to the last byte. 10 s.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many bytes one answer may have, decompressed. 256 MiB.
    pub const fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Who we are. Nobody.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// The certificates (PEM) of the authorities to trust instead of the machine's.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// One more header on every request, for example `X-Scope-OrgID`.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The window over which rates are averaged. 150 s.
    pub const fn rate_window(mut self, window: Span) -> Self {
        self.window = window;
        self
    }

    /// How old the last sample of a pod may be, by Prometheus's own clock; older pods are
    /// left out. 120 s.
    pub const fn max_sample_age(mut self, age: Span) -> Self {
        self.max_sample_age = age;
        self
    }

    /// Names of labels.
    pub fn labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// The metric of round-trip times in milliseconds, labelled `from_node` and `to_node`;
    /// empty: none is asked for. `node_avg_latency_ms`.
    pub fn latency_metric(mut self, name: impl Into<String>) -> Self {
        self.latency_metric = name.into();
        self
    }

    /// Checks everything. Opens no file, resolves no name and connects to nothing: whether
    /// a file of a token is there and whether Prometheus answers shows in each cycle anew.
    ///
    /// # Errors
    /// [`OptionsError`] with every option that cannot be used, and what is allowed.
    pub fn build(self) -> Result<PrometheusOptions, OptionsError> {
        let mut problems = Vec::new();
        let base = check_url(&self.url, &mut problems);
        check_numbers(&self, &mut problems);
        check_auth(&self.auth, &mut problems);
        check_names(&self, &mut problems);
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            check_header(name, value, &mut headers, &mut problems);
        }
        if let Some(pem) = &self.ca
            && let Err(reason) = crate::tls::roots(pem)
        {
            let allowed = format!("one or more CERTIFICATE sections in PEM ({reason})");
            let value = format!("{} bytes", pem.len());
            problems.push(OptionProblem { option: "ca_pem", value, allowed });
        }
        match base {
            Some(base) if problems.is_empty() => Ok(PrometheusOptions {
                base,
                timeout: self.timeout,
                body_limit: self.body_limit,
                auth: self.auth,
                ca: self.ca,
                headers,
                window: self.window,
                max_sample_age: self.max_sample_age,
                labels: self.labels,
                latency_metric: Some(self.latency_metric).filter(|name| !name.is_empty()),
            }),
            _ => Err(OptionsError { problems }),
        }
    }
}

fn problem(option: &'static str, value: impl Into<String>, allowed: &str) -> OptionProblem {
    OptionProblem { option, value: value.into(), allowed: allowed.to_owned() }
}

fn check_url(text: &str, problems: &mut Vec<OptionProblem>) -> Option<Url> {
    const ALLOWED: &str = "http:// or https://, a host, and perhaps a path prefix, \
        e.g. https://mimir.example.com/prometheus; no user, query or fragment";
    let Ok(mut url) = text.parse::<Url>() else {
        problems.push(problem("url", text, ALLOWED));
        return None;
    };
    let plain = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.query().is_none()
        && url.fragment().is_none();
    if !url.username().is_empty() || url.password().is_some() {
        // Not repeated: it holds a password.
        problems.push(problem("url", "***", ALLOWED));
        return None;
    }
    if !plain {
        problems.push(problem("url", text, ALLOWED));
        return None;
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Some(url)
}

fn check_numbers(options: &PrometheusOptionsBuilder, problems: &mut Vec<OptionProblem>) {
    let mut check = |option, value: String, ok: bool, allowed| {
        if !ok {
            problems.push(problem(option, value, allowed));
        }
    };
    let timeout = options.timeout;
    let range = Duration::from_millis(100)..=Duration::from_secs(300);
    check("timeout", format!("{timeout:?}"), range.contains(&timeout), "100 ms to 300 s");
    let limit = options.body_limit;
    let range = 1024..=1 << 30;
    check("body_limit", format!("{limit} bytes"), range.contains(&limit), "1 KiB to 1 GiB");
    let range = Span::from_seconds(1)..=Span::from_seconds(3600);
    for (option, span) in
        [("rate_window", options.window), ("max_sample_age", options.max_sample_age)]
    {
        check(option, span.to_string(), range.contains(&span), "1 s to 3600 s");
    }
}

fn check_auth(auth: &Auth, problems: &mut Vec<OptionProblem>) {
    match auth {
        Auth::None => {}
        Auth::Bearer(token) => {
            if let Err(allowed) = check_token(token.expose()) {
                problems.push(problem("auth.bearer", "***", allowed));
            }
        }
        Auth::BearerFile(path) => {
            if path.as_os_str().is_empty() {
                problems.push(problem("auth.bearer_file", "", "the path of a file"));
            }
        }
        Auth::Basic { user, password } => {
            let printable = |text: &str| !text.chars().any(char::is_control);
            if user.is_empty() || user.contains(':') || !printable(user) {
                problems.push(problem("auth.user", user, "not empty, no ':', printable"));
            }
            if !printable(password.expose()) {
                problems.push(problem("auth.password", "***", "printable characters"));
            }
        }
    }
}

/// What a bearer token may be; the reason when it is not.
pub(crate) fn check_token(token: &str) -> Result<(), &'static str> {
    if !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err("one line of printable ASCII without spaces")
    }
}

fn check_names(options: &PrometheusOptionsBuilder, problems: &mut Vec<OptionProblem>) {
    let labels = &options.labels;
    for (option, name) in [
        ("labels.mesh_pod", &labels.mesh_pod),
        ("labels.mesh_namespace", &labels.mesh_namespace),
        ("labels.usage_pod", &labels.usage_pod),
        ("labels.usage_namespace", &labels.usage_namespace),
        ("labels.container", &labels.container),
    ] {
        if !is_name(name, "_") {
            problems.push(problem(option, name, "letters, digits and '_', no digit first"));
        }
    }
    let metric = &options.latency_metric;
    if !metric.is_empty() && !is_name(metric, "_:") {
        let allowed = "letters, digits, '_' and ':', no digit first; or empty";
        problems.push(problem("latency_metric", metric, allowed));
    }
}

/// A name of a label or metric as Prometheus has always allowed it: it goes into queries
/// without quotes.
fn is_name(text: &str, others: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|char| char.is_ascii_alphanumeric() || others.contains(char))
}

fn check_header(
    name: &str,
    value: &str,
    headers: &mut Vec<(HeaderName, HeaderValue)>,
    problems: &mut Vec<OptionProblem>,
) {
    const OURS: [&str; 5] =
        ["authorization", "content-type", "content-length", "host", "accept-encoding"];
    match HeaderName::try_from(name) {
        Ok(name) if !OURS.contains(&name.as_str()) => match HeaderValue::try_from(value) {
            Ok(mut value) => {
                // Tenants and keys of gateways are nobody's business.
                value.set_sensitive(true);
                headers.push((name, value));
            }
            Err(_) => problems.push(problem("header.value", "***", "visible characters")),
        },
        _ => problems.push(problem(
            "header",
            name,
            "a header name that is not one of authorization, content-type, content-length, \
             host, accept-encoding",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_named_with_what_is_allowed() {
        let labels = Labels { mesh_pod: "1pod".to_owned(), ..Labels::default() };
        let error = PrometheusOptions::builder("ftp://x")
            .timeout(Duration::ZERO)
            .body_limit(1)
            .auth(Auth::Bearer(Secret::new("a b")))
            .header("Host", "x")
            .header("X-Scope-OrgID", "a\nb")
            .rate_window(Span::ZERO)
            .max_sample_age(Span::from_seconds(7200))
            .labels(labels)
            .latency_metric("a-b")
            .ca_pem("nonsense")
            .build()
            .unwrap_err();
        let options: Vec<_> = error.problems.iter().map(|problem| problem.option).collect();
        assert_eq!(
            options,
            [
                "url",
                "timeout",
                "body_limit",
                "rate_window",
                "max_sample_age",
                "auth.bearer",
                "labels.mesh_pod",
                "latency_metric",
                "header",
                "header.value",
                "ca_pem"
            ]
        );
        let text = error.to_string();
        assert!(text.contains("timeout \"0ns\" is not valid: 100 ms to 300 s"), "{text}");
        assert!(!text.contains("a b"), "{text}");
    }

    #[test]
    fn a_path_prefix_is_kept_and_passwords_are_not_shown() {
        let options = PrometheusOptions::builder("https://mimir.example.com/prometheus")
            .auth(Auth::Basic { user: "me".to_owned(), password: Secret::new("hush") })
            .header("X-Scope-OrgID", "team-7")
            .build()
            .unwrap();
        let url = options.base.join("api/v1/query").unwrap();
        assert_eq!(url.as_str(), "https://mimir.example.com/prometheus/api/v1/query");
        let shown = format!("{options:?}");
        assert!(!shown.contains("hush") && !shown.contains("team-7"), "{shown}");
        let error = PrometheusOptions::builder("http://me:hush@x").build().unwrap_err();
        assert!(!error.to_string().contains("hush"));
    }

    #[test]
    fn options_are_checked_without_a_look_at_the_world() {
        let auth = Auth::BearerFile("/nowhere/at/all".into());
        let options = PrometheusOptions::builder("https://no-such-host.invalid:9/x").auth(auth);
        assert!(options.clone().build().is_ok());
        // A problem has all that a message needs, also of a part of an option.
        let labels = Labels { container: "a b".to_owned(), ..Labels::default() };
        let error = options.labels(labels).header("X-A", "\u{7}").build().unwrap_err();
        let expected = [
            problem("labels.container", "a b", "letters, digits and '_', no digit first"),
            problem("header.value", "***", "visible characters"),
        ];
        assert_eq!(error.problems, expected);
    }
}
