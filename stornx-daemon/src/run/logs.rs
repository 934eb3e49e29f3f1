//! Logs on standard error, as JSON or for people. The level can change while StornX runs.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

use crate::config::{Environment, LogFilter, LogFormat, Settings};

/// Changes what is logged.
#[derive(Clone)]
pub(crate) struct LogLevel(reload::Handle<EnvFilter, Registry>);

/// Starts logging, once for the process.
pub(crate) fn start(settings: &Settings) -> LogLevel {
    let (filter, handle) = reload::Layer::new(directives(&settings.log));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let json = match settings.log_format {
        LogFormat::Auto => settings.environment == Environment::Production,
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let lines = match json {
        true => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
        false => lines.compact().with_target(false).with_ansi(colours()).boxed(),
    };
    // A second start (tests in one process) keeps the first.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    LogLevel(handle)
}

/// Colours are for terminals: in a file, a pipe or a pod's log their codes are noise.
fn colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !unwanted
}

/// The client of the Kubernetes API logs each failed attempt as an error; the watches
/// and the lease say once what that means. Whoever names the client in the setting gets
/// its lines.
fn directives(filter: &LogFilter) -> EnvFilter {
    EnvFilter::new(format!("kube_client=off,{}", filter.as_str()))
}

impl LogLevel {
    /// What is logged from now on.
    pub(crate) fn set(&self, filter: &LogFilter) {
        if self.0.reload(directives(filter)).is_ok() {
            tracing::info!(level = filter.as_str(), "what is logged has changed");
        }
    }
}
