//! A replica becomes ten times slower: the share of requests that are slower than the
//! threshold, second by second, until it has settled; and its traffic comes back when it
//! recovers. Replicas are not moved here: routing has to do it alone.
//!
//! `STORNX_E2E_SLOW=120` gives each part up to so many seconds.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use stornx_testbed::{
    NodeSpec, Options, TestBed,
    harness::Test,
    mesh::{Answer, Work},
    wait::until,
};

use super::{
    floor::{Floor, Log, share},
    scenario,
};
use crate::support::{
    TestResult,
    daemon::{Daemon, quick, with},
    long_form,
    tape::Tape,
};

const SCENARIO: &str = include_str!("loop.yaml");
/// An answer that takes longer is slow.
const THRESHOLD: Duration = Duration::from_millis(100);
/// The zone of the replica.
const ZONE: &str = "zone-b";
/// Share of all requests that zones keep for it at least: three of a hundred from each
/// caller, and some more for chance.
const SETTLED: f64 = 0.06;

pub(crate) fn tests() -> Vec<Test> {
    let nodes = scenario("loop.yaml", SCENARIO).map(|one| NodeSpec::of_scenario(&one));
    let options = Options { nodes: nodes.unwrap_or_default(), ..Options::default() };
    vec![Test::own("slow_replica", options, slow).needs_mesh()]
}

async fn slow(bed: Arc<TestBed>) -> TestResult {
    let limit = Duration::from_secs(u64::try_from(long_form("STORNX_E2E_SLOW", 60)?)?);
    let scenario = scenario("loop.yaml", SCENARIO)?;
    // Busy enough that the few requests that are left for a slow zone tell in each window
    // whether it still is.
    let work = Work { mean_ms: 10.0, workers: 4, cores: 0.5, round_trip_ms: 5.0 };
    let floor = Floor::lay(&bed, &scenario, work, [50.0; 3]).await?;
    floor.rates_are_known().await?;
    let tape = Tape::of(&floor.admin, &floor.here);
    let settings = with(
        quick(&floor.here, &floor.prometheus.url()),
        &[
            ("SCALER_ENABLED", "false"),
            ("MOVES_ENABLED", "false"),
            ("BALANCER_WARMUP_SECONDS", "0"),
            ("LATENCY_SAME_REGION_MS", "5"),
            ("RESPONSE_TIME_THRESHOLD", "100"),
        ],
    );
    let daemon = Daemon::start(&bed, "stornx", "stornx", &settings).await?;
    daemon.wait_ready().await?;
    until("a rule", limit, || {
        std::future::ready(tape.stands("stornx-cart").map(drop).ok_or("none"))
    })
    .await?;
    tape.quiet(Duration::from_secs(4)).await?;
    let (pod, _) = floor
        .seen
        .pods_of("cart")
        .into_iter()
        .find(|(_, pod)| pod.zone == ZONE)
        .ok_or("a replica in the zone")?;
    let before = to(&floor.log.last(Duration::from_secs(3)), pod);
    println!("slow replica: {:.1} % of all requests go to it", 100.0 * before);

    let began = Instant::now();
    floor.pods.slow(pod, 10.0);
    let settled = until("requests to leave the slow replica", limit, || {
        let answers = floor.log.last(Duration::from_secs(3));
        let share = to(&answers, pod);
        let gone = answers.len() > 100 && share <= SETTLED;
        std::future::ready(if gone { Ok(share) } else { Err(format!("{:.3}", share)) })
    })
    .await?;
    let ended = Instant::now();
    let mut told = Vec::new();
    let mut at = began;
    while at < ended + Duration::from_secs(3) && at < Instant::now() {
        let next = at + Duration::from_secs(1);
        let answers = floor.log.between(at, next);
        let slow = answers.iter().filter(|one| one.took > THRESHOLD || one.by.is_err()).count();
        told.push(format!("{:.0}", 100.0 * share(slow, answers.len())));
        at = next;
    }
    println!(
        "slow replica: settled after {:.0} s (a cycle each second) with {:.1} % of all requests; slower than \
         {} ms in each second, %: {}",
        ended.duration_since(began).as_secs_f64(),
        100.0 * settled,
        THRESHOLD.as_millis(),
        told.join(" "),
    );

    let recovered = Instant::now();
    floor.pods.slow(pod, 1.0);
    until("its traffic to come back", limit, || {
        let share = to(&floor.log.last(Duration::from_secs(3)), pod);
        std::future::ready(if share >= before / 2.0 { Ok(()) } else { Err(format!("{share:.3}")) })
    })
    .await?;
    let failed = Log::failed(&floor.log.between(began, Instant::now()));
    println!(
        "slow replica: half of its traffic is back after {:.0} s; failed {failed:?}",
        recovered.elapsed().as_secs_f64()
    );
    if !failed.is_empty() {
        return Err(format!("requests failed: {failed:?}").into());
    }
    Ok(())
}

/// Share of the answers that came from a pod.
fn to(answers: &[Answer], pod: IpAddr) -> f64 {
    share(answers.iter().filter(|one| one.by == Ok(pod)).count(), answers.len())
}
