//! Nothing is cut off: replicas come, go, move and fall silent at random, also all of them
//! into one zone, while the daemon runs, is stopped, killed and started again. No request
//! through a real Envoy fails for lack of an endpoint.
//!
//! `STORNX_E2E_CUT_OFF=1200` runs the long form, in seconds.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;
use stornx_testbed::{
    NodeSpec, Options, TestBed,
    apps::{self, Workload},
    cluster::stages::READY,
    harness::Test,
    mesh::Work,
    wait::until,
};

use super::{
    floor::{Floor, Log, ZONES},
    scenario,
};
use crate::{
    Failure,
    support::{
        SOON, TestResult,
        daemon::{Daemon, quick, with},
        driver::Dice,
        long_form,
        pods::Lives,
        tape::{Said, Tape},
    },
};

const SCENARIO: &str = include_str!("cut_off.yaml");
/// Replicas of the one that is called, when nothing is done to it.
const REPLICAS: u32 = 6;

/// Requests a second that enter in each zone.
const RATES: [f64; 3] = [20.0; 3];

pub(crate) fn tests() -> Vec<Test> {
    let nodes = scenario("cut_off.yaml", SCENARIO).map(|one| NodeSpec::of_scenario(&one));
    let options = Options { nodes: nodes.unwrap_or_default(), ..Options::default() };
    vec![Test::own("nothing_is_cut_off", options, cut_off).needs_mesh()]
}

async fn cut_off(bed: Arc<TestBed>) -> TestResult {
    let seconds = long_form("STORNX_E2E_CUT_OFF", 40)?;
    let scenario = scenario("cut_off.yaml", SCENARIO)?;
    let work = Work { mean_ms: 3.0, workers: 8, cores: 1.0, round_trip_ms: 2.0 };
    let floor = Floor::lay(&bed, &scenario, work, RATES).await?;
    floor.rates_are_known().await?;
    let tape = Tape::of(&floor.admin, &floor.here);
    let lives = Lives::watch(&floor.admin, &floor.here);
    let settings = with(
        quick(&floor.here, &floor.prometheus.url()),
        &[
            ("SCALER_ENABLED", "false"),
            ("BALANCER_WARMUP_SECONDS", "0"),
            // One that was killed is followed soon.
            ("LEASE_SECONDS", "3"),
            ("WRITE_TIMEOUT_SECONDS", "1"),
        ],
    );
    let mut daemon = Some(Daemon::start(&bed, "stornx", "stornx", &settings).await?);
    let written = |said: &Said| matches!(said, Said::Weights(rule, _) if rule == "stornx-cart");
    tape.between(0, |_| true, written).await?;
    lives.count_fewest();

    let trouble = Trouble { dice: Dice::new(17), cart: cart(&floor), floor: &floor };
    let (began, from) = (Instant::now(), tape.len());
    let limit = Duration::from_secs(u64::try_from(seconds)?);
    let (mut done, mut reigns): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    while began.elapsed() < limit {
        done.push(trouble.make().await?);
        if trouble.dice.below(8) == 0 {
            match daemon.take() {
                Some(mut one) if trouble.dice.below(2) == 0 => {
                    one.terminate().await?;
                    reigns.push("stopped");
                }
                Some(mut one) => {
                    one.kill();
                    reigns.push("killed");
                }
                None => {
                    daemon = Some(Daemon::start(&bed, "stornx", "stornx", &settings).await?);
                    reigns.push("started");
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(
            200 + 100 * u64::try_from(trouble.dice.below(10))?,
        ))
        .await;
    }
    // What was due is answered, however late; what nobody waits for any more counts as failed.
    let ended = Instant::now();
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // A few thousand requests; at most one of each zone is due at a border.
    let due = (ended.duration_since(began).as_secs_f64() * RATES.iter().sum::<f64>()) as usize;
    let answers = until("the answers", SOON, || {
        let answers = floor.log.between(began, ended);
        let all = answers.len() + 2 * RATES.len() >= due;
        let few = format!("{} of {due}", answers.len());
        std::future::ready(if all { Ok(answers) } else { Err(few) })
    })
    .await?;
    let failed = Log::failed(&answers);
    let count = |all: &[&str]| {
        let kinds: BTreeSet<_> = all.iter().copied().collect();
        let count = |kind: &str| all.iter().filter(|one| **one == kind).count();
        kinds
            .into_iter()
            .map(|kind| format!("{kind} {}", count(kind)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let writes = tape.since(from).iter().filter(|(_, said)| written(said)).count();
    let fewest = lives.fewest().get("cart").copied();
    println!(
        "nothing is cut off: {} requests in {:.0} s, failed: {failed:?}; {}; the daemon was {}; \
         {writes} rules written; fewest endpoints at one time: {fewest:?}",
        answers.len(),
        ended.duration_since(began).as_secs_f64(),
        count(&done),
        count(&reigns),
    );
    if fewest.is_none_or(|fewest| fewest == 0) {
        return Err("the test itself left no endpoint".into());
    }
    // No endpoint (`UH`), no cluster (`NC`), no route (`NR`): what a rule can do. A machine that
    // has no time for a request for seconds does the rest, and only a few of it.
    let no_endpoint = |cause: &str| ["UH", "NC", "NR"].iter().any(|flag| cause.contains(flag));
    let cut: usize = failed.iter().filter(|(cause, _)| no_endpoint(cause)).map(|(_, n)| n).sum();
    let starved: usize = failed.values().sum::<usize>() - cut;
    if cut > 0 {
        return Err(format!("{cut} requests found no endpoint: {failed:?}").into());
    }
    if starved * 1000 > answers.len() {
        return Err(format!("{starved} requests failed otherwise: {failed:?}").into());
    }
    if writes == 0 {
        return Err("no rule was written".into());
    }
    Ok(())
}

fn cart(floor: &Floor) -> Workload {
    Workload::new(&floor.here, "cart", REPLICAS)
}

/// What is done at random, each so that an endpoint is left.
struct Trouble<'a> {
    dice: Dice,
    cart: Workload,
    floor: &'a Floor,
}

impl Trouble<'_> {
    async fn make(&self) -> Result<&'static str, Failure> {
        let admin = &self.floor.admin;
        Ok(match self.dice.below(5) {
            0 => {
                let replicas = 3 + u32::try_from(self.dice.below(6))?;
                apps::scale(admin, &self.cart, replicas).await?;
                "scaled"
            }
            1 => {
                self.delete(|_| true, 2).await?;
                "deleted"
            }
            2 => {
                let ready = self.ready().await?;
                if let Some(pod) = ready.get(self.dice.below(ready.len()))
                    && ready.len() > 2
                {
                    self.silence(pod).await?;
                }
                "silent"
            }
            3 => {
                // All of one zone move to the others.
                let zone = ZONES[self.dice.below(3)];
                self.cordon(&[zone]).await?;
                self.delete(|of| of == zone, 1).await?;
                "zone emptied"
            }
            _ => {
                // All come up in one zone.
                let zone = ZONES[self.dice.below(3)];
                let others: Vec<&str> = ZONES.into_iter().filter(|one| *one != zone).collect();
                self.cordon(&others).await?;
                apps::scale(admin, &self.cart, REPLICAS + 2).await?;
                self.delete(|of| of != zone, 1).await?;
                "gathered"
            }
        })
    }

    async fn ready(&self) -> Result<Vec<String>, Failure> {
        let cart = &self.cart;
        let pods = apps::ready_pods(&self.floor.admin, &cart.namespace, &cart.selector()).await?;
        Ok(pods.iter().map(kube::ResourceExt::name_any).collect())
    }

    /// Deletes replicas of some zones: one where at least two have to be left, else all that
    /// may go. At least `left` in all stay ready.
    async fn delete(&self, zones: impl Fn(&str) -> bool, left: usize) -> TestResult {
        let api: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(self.floor.admin.clone(), &self.cart.namespace);
        let ready = self.ready().await?;
        let mut may_go = ready.len().saturating_sub(left.max(1));
        for pod in ready {
            let zone = self.floor.seen.zone_of(&format!("{}/{pod}", self.cart.namespace));
            if may_go == 0 || !zone.is_some_and(|zone| zones(&zone)) {
                continue;
            }
            may_go -= 1;
            api.delete(&pod, &DeleteParams::default().grace_period(0)).await?;
            if left > 1 {
                break;
            }
        }
        Ok(())
    }

    /// Makes a replica not ready, until it is deleted.
    async fn silence(&self, pod: &str) -> TestResult {
        let api: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(self.floor.admin.clone(), &self.cart.namespace);
        let patch = json!({"metadata": {"annotations": {READY: "false"}}});
        api.patch(pod, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }

    /// No new replicas in these zones, and in all others.
    async fn cordon(&self, zones: &[&str]) -> TestResult {
        let api: Api<Node> = Api::all(self.floor.admin.clone());
        for node in api.list(&ListParams::default()).await?.items {
            let zone = node.labels().get("topology.kubernetes.io/zone").cloned();
            let cordoned = zone.is_some_and(|zone| zones.contains(&zone.as_str()));
            let patch = json!({"spec": {"unschedulable": cordoned}});
            api.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
        Ok(())
    }
}
