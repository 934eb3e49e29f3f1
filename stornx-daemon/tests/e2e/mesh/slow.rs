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

use stornx_testbed::{NodeSpec, Options, TestBed, harness::Test, mesh::Work, wait::until};

use super::{
    floor::{Floor, Log, share as part},
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
/// Requests a second from each zone.
const RATES: [f64; 3] = [50.0; 3];
/// Over what shares are taken.
const WINDOW: Duration = Duration::from_secs(3);
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
    let floor = Floor::lay(&bed, &scenario, work, RATES).await?;
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
    let share = || to(&floor.log, pod);
    let before = share();
    println!("slow replica: {:.1} % of all requests go to it", 100.0 * before);

    let began = Instant::now();
    floor.pods.slow(pod, 10.0);
    let settled = until("requests to leave the slow replica", limit, || {
        let share = share();
        let gone = began.elapsed() > WINDOW && share <= SETTLED;
        std::future::ready(if gone { Ok(share) } else { Err(format!("{share:.3}")) })
    })
    .await?;
    let ended = Instant::now();

    let recovered = Instant::now();
    floor.pods.slow(pod, 1.0);
    until("its traffic to come back", limit, || {
        let share = share();
        std::future::ready(if share >= before / 2.0 { Ok(()) } else { Err(format!("{share:.3}")) })
    })
    .await?;
    let back = recovered.elapsed();
    // All that was due meanwhile is answered, however late: what is still open would be the
    // slowest of all.
    let seconds = ended.duration_since(began).as_secs() + 2;
    let until_then = began + Duration::from_secs(seconds);
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let due = (RATES.iter().sum::<f64>() * seconds as f64) as usize;
    until("the answers", limit, || {
        let answered = floor.log.between(began, until_then).len();
        let all = Instant::now() > until_then && answered + 2 * RATES.len() >= due;
        std::future::ready(if all { Ok(()) } else { Err(format!("{answered} of {due}")) })
    })
    .await?;
    let slow = (0..seconds).map(|second| {
        let from = began + Duration::from_secs(second);
        let answers = floor.log.between(from, from + Duration::from_secs(1));
        let slow = answers.iter().filter(|one| one.took > THRESHOLD || one.by.is_err()).count();
        format!("{:.0}", 100.0 * part(slow, answers.len()))
    });
    let slow: Vec<_> = slow.collect();
    let failed = Log::failed(&floor.log.between(began, Instant::now()));
    println!(
        "slow replica: settled after {:.0} s (a cycle each second) with {:.1} % of all requests; slower \
         than {} ms in each second, %: {}; half of its traffic is back after {:.0} s; failed {failed:?}",
        ended.duration_since(began).as_secs_f64(),
        100.0 * settled,
        THRESHOLD.as_millis(),
        slow.join(" "),
        back.as_secs_f64(),
    );
    if !failed.is_empty() {
        return Err(format!("requests failed: {failed:?}").into());
    }
    Ok(())
}

/// Share of the last requests that went to a pod. Those that are not answered yet wait there:
/// nowhere else does anything wait.
fn to(log: &Log, pod: IpAddr) -> f64 {
    let answers = log.last(WINDOW);
    let others = answers.iter().filter(|one| one.by != Ok(pod)).count();
    #[allow(clippy::cast_precision_loss)] // Hundreds.
    {
        (1.0 - others as f64 / (RATES.iter().sum::<f64>() * WINDOW.as_secs_f64())).max(0.0)
    }
}
