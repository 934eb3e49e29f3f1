//! The figures of a run, and of several runs with their intervals. The names are those
//! of the JSON that users rely on: they are added to, never renamed.

use serde::{Deserialize, Serialize};
use stornx_core::policy::PricePolicy;

use super::statistics::Figure;
use crate::world::Measurements;

/// Hours of a month as clouds bill it.
const HOURS_PER_MONTH: f64 = 730.0;

macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The figures of one run. Shares and utilisations are 0 to 1 and more.
        #[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
        pub struct RunFigures {
            $($(#[$doc])* pub $name: f64,)*
        }

        /// The same over several runs.
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
        pub struct Figures {
            $($(#[$doc])* pub $name: Figure,)*
        }

        impl Figures {
            /// Mean and interval of each figure.
            #[must_use]
            pub fn of(runs: &[RunFigures]) -> Self {
                Self {
                    $($name: Figure::of(&runs.iter().map(|run| run.$name).collect::<Vec<_>>()),)*
                }
            }
        }
    };
}

figures!(
    /// Median end-to-end response time of users, ms.
    p50_ms,
    /// 95th percentile of it.
    p95_ms,
    /// 99th percentile of it.
    p99_ms,
    /// Share of users' requests that failed.
    error_share,
    /// Share of calls that left their zone.
    cross_zone_share,
    /// Share of calls that left their node.
    cross_node_share,
    /// Bytes that left their zone, 10^9, over the measured time.
    cross_zone_gb,
    /// What those bytes would cost in a month at the scenario's prices, US dollars.
    /// Replicas are not priced in: their hours are a figure of their own.
    usd_per_month,
    /// The same with replicas at their price.
    total_usd_per_month,
    /// Highest utilisation of the workers of any zone over a measuring window.
    peak_zone_utilisation,
    /// Highest utilisation of the workers of any one service in any zone.
    peak_service_utilisation,
    /// Replicas times hours.
    replica_hours,
    /// Routing rules written.
    rule_writes,
    /// Moves begun.
    moves,
    /// Replica counts changed by the policy.
    scale_actions,
);

impl RunFigures {
    /// The figures of what was measured.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // Counts far below 2^53.
    pub fn of(measured: &Measurements, price: &PricePolicy) -> Self {
        let quantile = |q: f64| measured.latency.quantile(q).map_or(0.0, |ms| ms.get());
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        let (zone, region) =
            (gigabytes(measured.bytes.cross_zone), gigabytes(measured.bytes.cross_region));
        let hours = measured.measured.as_seconds_f64() / 3600.0;
        let monthly = |usd: f64| if hours > 0.0 { usd / hours * HOURS_PER_MONTH } else { 0.0 };
        let usd = zone * price.cross_zone.get() + region * price.cross_region.get();
        Self {
            p50_ms: quantile(0.50),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            error_share: measured.error_share().get(),
            cross_zone_share: measured.hops.cross_zone_share().get(),
            cross_node_share: measured.hops.cross_node_share().get(),
            cross_zone_gb: zone + region,
            usd_per_month: monthly(usd),
            total_usd_per_month: monthly(usd + measured.replica_hours * price.replica_hour),
            peak_zone_utilisation: measured.peak_utilisation(),
            peak_service_utilisation: measured.peak_service_zone(),
            replica_hours: measured.replica_hours,
            rule_writes: measured.rule_writes as f64,
            moves: measured.moves as f64,
            scale_actions: measured.scale_actions as f64,
        }
    }
}
