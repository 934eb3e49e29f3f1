//! Closed loop: uneven inbound load with real requests, before and after, against what can be
//! had without StornX, on the same bed in the same run; beside what the simulator says of
//! the same set-up.
//!
//! `STORNX_E2E_LOOP=60` measures each way for so many seconds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use stornx_sim::{
    experiment::{PolicyName, RunError, compare},
    scenario::{Scenario, Timespan},
};
use stornx_testbed::{
    NodeSpec, Options, TestBed,
    harness::Test,
    mesh::{Answer, Work},
    wait::until,
};

use super::{
    floor::{Floor, Log, ZONES, quantile},
    scenario,
};
use crate::{
    Failure,
    support::{
        TestResult,
        daemon::{Daemon, quick, with},
        long_form,
        tape::{Tape, destination_rules},
    },
};

const SCENARIO: &str = include_str!("loop.yaml");
/// Requests a second from each zone.
const RATES: [f64; 3] = [105.0, 30.0, 15.0];
/// Below this p90 nothing waits any more, also on a slow machine: work alone has one of 46 ms.
const IDLE_MS: f64 = 300.0;
/// How long a way may take to take effect.
const EFFECT: Duration = Duration::from_secs(90);

pub(crate) fn tests() -> Vec<Test> {
    let nodes = scenario("loop.yaml", SCENARIO).map(|one| NodeSpec::of_scenario(&one));
    let options = Options { nodes: nodes.unwrap_or_default(), ..Options::default() };
    vec![Test::own("closed_loop", options, closed_loop).needs_mesh()]
}

/// A way to choose a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    RoundRobin,
    PreferClose,
    Failover,
    ZoneAware,
    Stornx,
}

impl Way {
    const ALL: [Self; 5] =
        [Self::RoundRobin, Self::PreferClose, Self::Failover, Self::ZoneAware, Self::Stornx];

    const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round robin",
            Self::PreferClose => "PreferClose",
            Self::Failover => "failover",
            Self::ZoneAware => "zoneAwareLbSetting",
            Self::Stornx => "StornX",
        }
    }

    /// The same in the simulator.
    const fn simulated(self) -> PolicyName {
        match self {
            Self::RoundRobin => PolicyName::Random,
            Self::PreferClose => PolicyName::PreferClose,
            Self::Failover => PolicyName::Failover,
            Self::ZoneAware => PolicyName::ZoneAware,
            Self::Stornx => PolicyName::Stornx,
        }
    }

    /// The policy of its rule.
    fn policy(self) -> Option<Value> {
        match self {
            Self::RoundRobin => Some(json!({"loadBalancer": {"simple": "ROUND_ROBIN"}})),
            Self::Failover => Some(json!({
                "outlierDetection": {"consecutive5xxErrors": 100},
                "loadBalancer": {"localityLbSetting": {
                    "enabled": true, "failover": [{"from": "region-1", "to": "region-2"}]
                }}
            })),
            Self::ZoneAware => Some(json!({"loadBalancer": {"zoneAwareLbSetting": {
                "enabled": true, "minClusterSize": 1
            }}})),
            Self::PreferClose | Self::Stornx => None,
        }
    }
}

/// What was measured of one way.
struct Measured {
    way: Way,
    requests: usize,
    p95: f64,
    p99: f64,
    cross: f64,
    failed: usize,
}

async fn closed_loop(bed: Arc<TestBed>) -> TestResult {
    let length = Duration::from_secs(u64::try_from(long_form("STORNX_E2E_LOOP", 5)?)?);
    let scenario = scenario("loop.yaml", SCENARIO)?;
    let work = Work { mean_ms: 20.0, workers: 2, cores: 1.0, round_trip_ms: 5.0 };
    let floor = Floor::lay(&bed, &scenario, work, [2.0; 3]).await?;
    let mut measured = Vec::new();
    for way in Way::ALL {
        measured.push(
            measure(&bed, &floor, way, length)
                .await
                .map_err(|error| format!("{}: {error}", way.name()))?,
        );
    }
    // Nothing is sent any more: both counts come to rest.
    set(&floor, [0.0; 3]);
    let envoys =
        until("Envoys to have counted what the loads have", EFFECT, || floor.envoys_agree())
            .await?;
    let loads = floor.cross_zone(&floor.log.all());
    println!("over all ways, across zones: {:.3} by the Envoys, {loads:.3} by the loads", envoys);
    if (envoys - loads).abs() > 0.02 {
        return Err(format!("Envoys say {envoys:.4} crossed zones, loads {loads:.4}").into());
    }
    drop(floor);
    let predicted = predict(scenario, length).await?;
    println!("closed loop: {:.0} s each, 105 + 30 + 15 requests a second", length.as_secs_f64());
    println!(
        "way | requests | p95 ms | p99 ms | cross-zone % | failed | simulated p95, p99, cross-zone"
    );
    for (one, (p95, p99, cross)) in measured.iter().zip(&predicted) {
        println!(
            "{} | {} | {:.1} | {:.1} | {:.1} | {} | {p95:.1} ({:+.0} %), {p99:.1}, {:.1} ({:+.1} points)",
            one.way.name(),
            one.requests,
            one.p95,
            one.p99,
            100.0 * one.cross,
            one.failed,
            100.0 * (one.p95 / p95 - 1.0),
            100.0 * cross,
            100.0 * (one.cross - cross),
        );
    }
    let of = |way: Way| measured.iter().find(|one| one.way == way).ok_or("measured");
    let (ours, even) = (of(Way::Stornx)?, of(Way::RoundRobin)?);
    if ours.failed > 0 {
        return Err(format!("{} requests failed", ours.failed).into());
    }
    if ours.cross >= even.cross {
        return Err("as much crosses zones as before".into());
    }
    // Seconds of requests vary by a fifth at their 95th percentile, a minute by some per cent.
    let tolerance = if length >= Duration::from_secs(30) { 1.25 } else { 1.6 };
    if ours.p95 > tolerance * even.p95 {
        return Err(format!("p95 {:.0} ms, round robin {:.0} ms", ours.p95, even.p95).into());
    }
    for rival in [Way::PreferClose, Way::Failover, Way::ZoneAware] {
        let rival = of(rival)?;
        if ours.p95 > rival.p95 / 2.0 {
            let name = rival.way.name();
            return Err(format!("p95 {:.0} ms, {name} {:.0} ms", ours.p95, rival.p95).into());
        }
    }
    let at = Way::ALL.iter().position(|way| *way == Way::Stornx).ok_or("among the ways")?;
    let (_, _, cross) = predicted[at];
    if (ours.cross - cross).abs() > 0.15 * cross {
        return Err(format!("{:.3} crosses zones, predicted {cross:.3}", ours.cross).into());
    }
    Ok(())
}

/// Lets a way take effect and measures it.
async fn measure(
    bed: &TestBed,
    floor: &Floor,
    way: Way,
    length: Duration,
) -> Result<Measured, Failure> {
    // What the way before left waiting is gone.
    set(floor, [2.0; 3]);
    until("the replicas to be idle", EFFECT, || {
        let slow = quantile(&floor.log.last(Duration::from_secs(2)), 0.9);
        let idle = slow > 0.0 && slow < IDLE_MS;
        std::future::ready(if idle { Ok(()) } else { Err(format!("{slow:.0} ms")) })
    })
    .await?;
    apply(floor, way).await?;
    let _daemon = if way == Way::Stornx {
        let tape = Tape::of(&floor.admin, &floor.here);
        set(floor, RATES);
        tokio::time::sleep(Duration::from_secs(6)).await;
        let settings = with(
            quick(&floor.here, &floor.prometheus.url()),
            &[
                ("SCALER_ENABLED", "false"),
                ("MOVES_ENABLED", "false"),
                ("BALANCER_WARMUP_SECONDS", "0"),
                ("LATENCY_SAME_NODE_MS", "0"),
                ("LATENCY_SAME_ZONE_MS", "0"),
                ("LATENCY_SAME_REGION_MS", "5"),
                ("NODE_LATENCY_METRIC", ""),
            ],
        );
        let daemon = Daemon::start(bed, "stornx", "stornx", &settings).await?;
        daemon.wait_ready().await?;
        until("a rule", EFFECT, || {
            std::future::ready(tape.stands("stornx-cart").map(drop).ok_or("none"))
        })
        .await?;
        tape.quiet(Duration::from_secs(5)).await?;
        println!("StornX: {}", tape.stands("stornx-cart").unwrap_or_default());
        Some(daemon)
    } else {
        set(floor, [10.0; 3]);
        let wanted = |share: f64| if way == Way::RoundRobin { share < 0.6 } else { share > 0.9 };
        until("the way to take effect", EFFECT, || {
            let answers = floor.log.last(Duration::from_secs(2));
            let shares = ZONES.map(|zone| floor.at_home(zone, &answers));
            let fits = answers.len() > 30 && shares.into_iter().all(wanted);
            std::future::ready(if fits { Ok(()) } else { Err(format!("{shares:?}")) })
        })
        .await?;
        set(floor, RATES);
        None
    };
    let began = Instant::now() + Duration::from_secs(1);
    tokio::time::sleep(Duration::from_secs(1) + length).await;
    let ended = Instant::now();
    set(floor, [2.0; 3]);
    // All that was due is answered, however late: at most one of each zone is due at a
    // border, and the rates change there.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let due = (ended.duration_since(began).as_secs_f64() * RATES.iter().sum::<f64>()) as usize;
    let answers: Vec<Answer> = until("the answers", EFFECT, || {
        let answers = floor.log.between(began, ended);
        let all = answers.len() + 2 * ZONES.len() >= due;
        std::future::ready(if all {
            Ok(answers)
        } else {
            Err(format!("{} of {due}", answers.len()))
        })
    })
    .await?;
    Ok(Measured {
        way,
        requests: answers.len(),
        p95: quantile(&answers, 0.95),
        p99: quantile(&answers, 0.99),
        cross: floor.cross_zone(&answers),
        failed: Log::failed(&answers).values().sum(),
    })
}

fn set(floor: &Floor, rates: [f64; 3]) {
    for (zone, rate) in ZONES.into_iter().zip(rates) {
        if let Some(load) = floor.loads.get(zone) {
            load.set(rate);
        }
    }
}

/// Takes the way before away and puts this one in its place.
async fn apply(floor: &Floor, way: Way) -> TestResult {
    let rules: Api<DynamicObject> =
        Api::namespaced_with(floor.admin.clone(), &floor.here, &destination_rules());
    if rules.get_opt("way").await?.is_some() {
        rules.delete("way", &DeleteParams::default()).await?;
    }
    let close = (way == Way::PreferClose).then_some("PreferClose");
    let services: Api<Service> = Api::namespaced(floor.admin.clone(), &floor.here);
    let patch = json!({"spec": {"trafficDistribution": close}});
    services.patch("cart", &PatchParams::default(), &Patch::Merge(&patch)).await?;
    if let Some(policy) = way.policy() {
        let rule = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "way", "namespace": floor.here},
            "spec": {"host": floor.host, "trafficPolicy": policy}
        });
        rules.patch("way", &PatchParams::apply("way").force(), &Patch::Apply(rule)).await?;
    }
    Ok(())
}

/// p95, p99 and share across zones of each way, as the simulator has them: of StornX once its
/// weights have settled, of the others over the same time as here, since what waits grows
/// with it.
async fn predict(scenario: Scenario, length: Duration) -> Result<Vec<(f64, f64, f64)>, Failure> {
    let compared = tokio::task::spawn_blocking(move || {
        let (mut predicted, seeds) = (Vec::new(), [1, 2, 3, 4, 5]);
        for way in Way::ALL {
            let mut scenario = scenario.clone();
            if way != Way::Stornx {
                scenario.warm_up = Timespan::from_seconds(1);
                scenario.duration = Timespan::from_seconds(1 + length.as_secs());
            }
            let (comparison, _) = compare(&scenario, &[way.simulated()], &seeds, |_| {})?;
            let figures = comparison.policies.into_iter().next().map(|(_, one)| one.figures);
            let figures = figures.map(|one| (one.p95_ms, one.p99_ms, one.cross_zone_share));
            predicted.extend(figures.map(|(p95, p99, cross)| (p95.mean, p99.mean, cross.mean)));
        }
        Ok::<_, RunError>(predicted)
    });
    Ok(compared.await??)
}
