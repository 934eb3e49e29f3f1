//! Traces of cycles for OpenTelemetry, behind the feature `otel`: one span for each
//! cycle, one below it for each of its steps, with what came of it. Sent over OTLP/HTTP
//! where the variables of the OpenTelemetry specification say; an endpoint that does not
//! answer costs spans and nothing else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use opentelemetry::{
    Context, KeyValue,
    trace::{Span as _, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use stornx_core::{
    engine::{CycleOutcome, Phase},
    units::Timestamp,
};

use super::pace::Cause;

/// Sends traces.
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Starts sending.
    pub(crate) fn start() -> anyhow::Result<Self> {
        // The exporter's HTTP client takes the provider of the process; a second start
        // (tests in one process) keeps the first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let exporter =
            SpanExporter::builder().with_http().build().context("the exporter of traces")?;
        let resource = Resource::builder().with_service_name("stornx").build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer("stornx");
        Ok(Self { provider, tracer })
    }

    /// The trace of a cycle that has ended.
    pub(crate) fn cycle(&self, cause: Cause, outcome: &CycleOutcome) {
        let began = instant(outcome.at);
        let actions = outcome.outcomes.len();
        let done = outcome.outcomes.iter().filter(|result| result.is_ok()).count();
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let cycle = self
            .tracer
            .span_builder("cycle")
            .with_start_time(began)
            .with_attributes([
                KeyValue::new("stornx.cause", cause.name()),
                KeyValue::new("stornx.actions.planned", count(actions)),
                KeyValue::new("stornx.actions.done", count(done)),
                KeyValue::new("stornx.violations", count(outcome.violations.len())),
            ])
            .start(&self.tracer);
        let inside = Context::current_with_span(cycle);
        let mut at = began;
        for phase in Phase::ALL {
            let Some(took) = outcome.took.get(&phase) else { continue };
            let mut step = self
                .tracer
                .span_builder(phase.as_str())
                .with_start_time(at)
                .start_with_context(&self.tracer, &inside);
            for error in outcome.errors.iter().filter(|error| error.phase() == phase) {
                step.record_error(error);
            }
            at += Duration::from_millis(took.as_millis());
            step.end_with_timestamp(at);
        }
        inside.span().end_with_timestamp(at);
    }

    /// Sends what is left, as far as it goes quickly.
    pub(crate) fn end(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(Duration::from_millis(300)) {
            tracing::debug!("traces are lost: {error}");
        }
    }
}

fn instant(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at.as_millis())
}
