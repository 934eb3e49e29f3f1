//! Tests of the world as a whole. Their oracles are textbook formulas, the
//! documentation of Kubernetes and Istio, and an audit that counts everything anew.

pub(in crate::world) mod audit;
mod bad_input;
mod control;
mod metrics;
mod queueing;
mod routing;
mod writing;

use stornx_core::{
    ids::{HostName, WorkloadRef, ZoneName},
    model::{ClusterFacts, Distribution, MetricsFacts, Workload},
    ports::{ClusterSource, MetricsSource},
    units::{Span, Timestamp},
};

use super::*;

/// A scenario of three zones of two nodes without network time; `rest` begins with the
/// services.
pub(in crate::world) fn scenario(rest: &str) -> Scenario {
    let text = format!(
        "\
apiVersion: stornx.io/v1alpha1
name: test
intent: A test.
topology:
  zones:
    - {{name: a, nodes: [{{count: 2, cpu: 64, memory: 64Gi}}]}}
    - {{name: b, nodes: [{{count: 2, cpu: 64, memory: 64Gi}}]}}
    - {{name: c, nodes: [{{count: 2, cpu: 64, memory: 64Gi}}]}}
{rest}"
    );
    Scenario::parse("test.yaml", &text).unwrap()
}

fn world(rest: &str, seed: u64) -> SimWorld {
    SimWorld::new(&scenario(rest), seed).unwrap()
}

fn at(seconds: u64) -> Timestamp {
    SimWorld::start().after(Span::from_seconds(seconds))
}

pub(in crate::world) fn zone(name: &str) -> ZoneName {
    ZoneName::new(name).unwrap()
}

pub(in crate::world) fn host(service: &str) -> HostName {
    format!("{service}.default.svc.cluster.local").parse().unwrap()
}

fn reference(service: &str) -> WorkloadRef {
    format!("default/Deployment/{service}").parse().unwrap()
}

pub(in crate::world) fn split(weights: &[(&str, u8)]) -> Distribution {
    Distribution::new(weights.iter().map(|(name, weight)| (zone(name), *weight)).collect()).unwrap()
}

fn cluster(world: &SimWorld) -> ClusterFacts {
    pollster::block_on(ClusterSource::observe(world)).unwrap()
}

fn metrics(world: &SimWorld) -> MetricsFacts {
    let now = stornx_core::ports::Clock::now(world);
    pollster::block_on(MetricsSource::observe(world, &cluster(world), now))
}

fn workload(world: &SimWorld, service: &str) -> Workload {
    let id = reference(service);
    cluster(world).workloads.into_iter().find(|workload| workload.id == id).unwrap()
}

/// Whether a count of independent events is within four standard deviations of what is
/// expected.
#[allow(clippy::cast_precision_loss)]
fn near(count: u64, expected: f64) -> bool {
    (count as f64 - expected).abs() <= 4.0 * expected.sqrt()
}

/// How many cases a property test runs: `usual` times `STORNX_CASES` per cent, where
/// that is set.
pub(in crate::world) fn cases(usual: u32) -> u32 {
    let setting = std::env::var("STORNX_CASES").ok();
    let percent = setting.map_or(100, |text| text.parse().expect("a whole number"));
    usual.saturating_mul(percent) / 100
}
