//! How each kind of value is read from text and written back. What a reader refuses
//! is not explained here: the table says for each setting what is allowed.

use std::collections::BTreeSet;

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use stornx_core::{
    ids::Namespace,
    policy::{AutoscaledMoves, Granularity, MetricsType, TargetRule},
    units::{Millis, Percent, Span, UsdPerGigabyte},
};

use super::{Environment, LogFormat};

/// A value that a setting can have. Reading what was written gives the same value.
pub(crate) trait SettingValue: Sized {
    /// The value that `text` means, `None` when it means none.
    fn read(text: &str) -> Option<Self>;
    /// The value as text.
    fn write(&self) -> String;
}

impl SettingValue for bool {
    fn read(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        }
    }
    fn write(&self) -> String {
        self.to_string()
    }
}

macro_rules! by_from_str {
    ($($kind:ty),*) => {$(
        impl SettingValue for $kind {
            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
            fn write(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
by_from_str!(u16, u32, f64);

macro_rules! real {
    ($($kind:ty),*) => {$(
        impl SettingValue for $kind {
            fn read(text: &str) -> Option<Self> {
                Self::new(text.parse().ok()?).ok()
            }
            fn write(&self) -> String {
                self.get().to_string()
            }
        }
    )*};
}
real!(Percent, Millis, UsdPerGigabyte);

impl SettingValue for Span {
    /// Seconds, whole to the millisecond.
    fn read(text: &str) -> Option<Self> {
        let seconds: f64 = text.parse().ok()?;
        // A thousand years is beyond every use and within exact arithmetic.
        if !(0.0..=3.2e10).contains(&seconds) {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(Self::from_millis((seconds * 1000.0).round() as u64))
    }
    fn write(&self) -> String {
        self.as_seconds_f64().to_string()
    }
}

impl SettingValue for MetricsType {
    fn read(text: &str) -> Option<Self> {
        match text {
            "cpu" => Some(Self::Cpu),
            "memory" => Some(Self::Memory),
            "combined" => Some(Self::Combined),
            _ => None,
        }
    }
    fn write(&self) -> String {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Combined => "combined",
        }
        .to_owned()
    }
}

impl SettingValue for TargetRule {
    fn read(text: &str) -> Option<Self> {
        match text {
            "flow" => Some(Self::Flow),
            "proportional" => Some(Self::Proportional),
            _ => None,
        }
    }
    fn write(&self) -> String {
        match self {
            Self::Flow => "flow",
            Self::Proportional => "proportional",
        }
        .to_owned()
    }
}

impl SettingValue for Granularity {
    fn read(text: &str) -> Option<Self> {
        match text {
            "zone" => Some(Self::Zone),
            "node" => Some(Self::Node),
            _ => None,
        }
    }
    fn write(&self) -> String {
        match self {
            Self::Zone => "zone",
            Self::Node => "node",
        }
        .to_owned()
    }
}

impl SettingValue for AutoscaledMoves {
    fn read(text: &str) -> Option<Self> {
        match text {
            "never" => Some(Self::Never),
            "evict" => Some(Self::Evict),
            "hold" => Some(Self::Hold),
            _ => None,
        }
    }
    fn write(&self) -> String {
        match self {
            Self::Never => "never",
            Self::Evict => "evict",
            Self::Hold => "hold",
        }
        .to_owned()
    }
}

impl SettingValue for Environment {
    fn read(text: &str) -> Option<Self> {
        match text {
            "production" => Some(Self::Production),
            "development" => Some(Self::Development),
            _ => None,
        }
    }
    fn write(&self) -> String {
        match self {
            Self::Production => "production",
            Self::Development => "development",
        }
        .to_owned()
    }
}

impl SettingValue for LogFormat {
    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "json" => Some(Self::Json),
            "text" => Some(Self::Text),
            _ => None,
        }
    }
    fn write(&self) -> String {
        match self {
            Self::Auto => "auto",
            Self::Json => "json",
            Self::Text => "text",
        }
        .to_owned()
    }
}

impl SettingValue for BTreeSet<Namespace> {
    /// Comma-separated; at least one.
    fn read(text: &str) -> Option<Self> {
        text.split(',').map(|name| Namespace::new(name.trim()).ok()).collect()
    }
    fn write(&self) -> String {
        self.iter().map(Namespace::as_str).collect::<Vec<_>>().join(",")
    }
}

/// A text, empty when it is not set: a name, a path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Text(String);

impl Text {
    pub(crate) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text; `None` when it is empty.
    pub(crate) fn given(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }
}

impl SettingValue for Text {
    fn read(text: &str) -> Option<Self> {
        (!text.chars().any(char::is_control)).then(|| Self::of(text))
    }
    fn write(&self) -> String {
        self.0.clone()
    }
}

/// Headers of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl SettingValue for Headers {
    fn read(text: &str) -> Option<Self> {
        let header = |part: &str| {
            let (name, value) = part.split_once('=')?;
            let (name, value) = (name.trim(), value.trim());
            http::HeaderName::try_from(name).ok()?;
            http::HeaderValue::try_from(value).ok()?;
            Some((name.to_owned(), value.to_owned()))
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(header).collect::<Option<_>>().map(Self)
    }
    fn write(&self) -> String {
        let pairs: Vec<_> = self.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join(",")
    }
}

/// What is logged: a level, or directives by target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFilter(String);

impl LogFilter {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl SettingValue for LogFilter {
    fn read(text: &str) -> Option<Self> {
        let level = |part: &str| {
            let level = part.rsplit('=').next().unwrap_or(part);
            level.parse::<tracing::Level>().is_ok() || level == "off"
        };
        let good = text.split(',').all(|part| level(part.trim()));
        let parsed = tracing_subscriber::EnvFilter::builder().parse(text).is_ok();
        (good && parsed).then(|| Self(text.to_owned()))
    }
    fn write(&self) -> String {
        self.0.clone()
    }
}

/// The base URL of an HTTP API: `http` or `https` with a host, no query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiUrl(String);

impl ApiUrl {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The Prometheus of the usual add-on installation.
    pub(crate) fn default_prometheus() -> Self {
        Self("http://prometheus.prometheus.svc.cluster.local:9090".to_owned())
    }
}

impl SettingValue for ApiUrl {
    fn read(text: &str) -> Option<Self> {
        let uri: http::Uri = text.parse().ok()?;
        let over_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.host().is_some_and(|host| !host.is_empty());
        (over_http && host && uri.query().is_none()).then(|| Self(text.to_owned()))
    }
    fn write(&self) -> String {
        self.0.clone()
    }
}

/// A cron expression of five fields, or six with seconds first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule(String);

impl Schedule {
    /// Every full minute.
    pub(crate) fn every_minute() -> Self {
        Self("* * * * *".to_owned())
    }

    /// The first instant after `now` at which it comes due, in the time zone of `now`.
    pub(crate) fn next_after(&self, now: jiff::Zoned) -> Option<jiff::Zoned> {
        parse_cron(&self.0)?.find_next_occurrence(&now, false).ok()
    }
}

/// A cron expression of five fields, or six with seconds first.
pub(super) fn parse_cron(text: &str) -> Option<Cron> {
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    parser.parse(text).ok()
}

impl SettingValue for Schedule {
    fn read(text: &str) -> Option<Self> {
        if !matches!(text.split_whitespace().count(), 5 | 6) {
            return None;
        }
        let cron = parse_cron(text)?;
        happens(&cron).then(|| Self(text.to_owned()))
    }
    fn write(&self) -> String {
        self.0.clone()
    }
}

/// Whether a schedule ever comes due (the 30th of February does not). Any start will
/// do: a fixed one keeps the answer the same every day.
fn happens(cron: &Cron) -> bool {
    jiff::civil::date(2026, 1, 1)
        .to_zoned(jiff::tz::TimeZone::UTC)
        .is_ok_and(|start| cron.find_next_occurrence(&start, false).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_have_five_or_six_fields_and_come_due() {
        for good in ["* * * * *", "*/30 * * * * *", "0 3 * * MON-FRI", "0 0 29 2 *"] {
            assert_eq!(Schedule::read(good).unwrap().write(), good);
        }
        for bad in
            ["", "* * * *", "* * * * * * *", "61 * * * *", "@daily", "0 0 30 2 *", "a * * * *"]
        {
            assert_eq!(Schedule::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn urls_are_http_with_a_host() {
        for good in ["http://prometheus:9090", "https://mimir.example.com/prometheus"] {
            assert!(ApiUrl::read(good).is_some(), "{good}");
        }
        for bad in ["", "prometheus:9090", "ftp://x", "http://", "http://x?y=1", "/api"] {
            assert_eq!(ApiUrl::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_outside_their_unit_mean_nothing() {
        for bad in ["", "x", "-1", "NaN", "inf"] {
            assert_eq!(Percent::read(bad), None, "{bad}");
            assert_eq!(Span::read(bad), None, "{bad}");
        }
        assert_eq!(Span::read("1.5"), Some(Span::from_millis(1500)));
        assert_eq!(u32::read("-1"), None);
    }

    #[test]
    fn namespaces_are_a_list_of_names() {
        let read = BTreeSet::<Namespace>::read("shop, bank").unwrap();
        assert_eq!(read.write(), "bank,shop");
        for bad in ["", "shop,", "a b", ","] {
            assert_eq!(BTreeSet::<Namespace>::read(bad), None, "{bad}");
        }
    }
}
