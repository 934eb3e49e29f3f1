//! Traffic that wanders from zone to zone, on the real control plane: replicas follow it,
//! none goes back to where the last move of its workload came from within the back-off, and
//! nothing of any move is left over.
//!
//! The engine decides by itself, on figures of Prometheus, under the rights of
//! `deploy/rbac`. The simulator does the same for 10,000 cycles
//! (`stornx-sim/tests/wandering.rs`).
//!
//! Long form: `STORNX_E2E_WANDER=10000` cycles, two in a second at most.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use stornx_core::{
    engine::CycleOutcome,
    ids::{NodeName, WorkloadRef},
    plan::Action,
    policy::Policy,
    report::{MoveWhy, Why},
    units::{Percent, Rps, Span, Timestamp},
};
use stornx_prom::{Prometheus, PrometheusOptions};
use stornx_sim::{
    builtin,
    scenario::{
        Scenario, Timespan,
        event::{Event, TrafficShift},
    },
};
use stornx_testbed::{
    Options, TestBed,
    apps::Boutique,
    cluster::NodeSpec,
    emulate::{Emulation, Settings},
    harness::Test,
    prometheus::Scrape,
};

use crate::{
    Failure,
    moves::wait_steering,
    support::{
        SOON, TestResult,
        driver::{Driver, Setup},
        hook, long_form,
        pods::Lives,
        rights::{self, OWN},
        seen,
    },
};

/// Cycles of the short form.
const SHORT: usize = 20;
/// How often most of the traffic enters another zone, seconds.
const SHIFT: u64 = 120;
/// Over what the rates of Prometheus are taken.
const WINDOW: Span = Span::from_seconds(5);

pub(crate) fn tests() -> Vec<Test> {
    let nodes = builtin::find("traffic-shift").map(|one| NodeSpec::of_scenario(&one));
    let options = Options { nodes: nodes.unwrap_or_default(), ..Options::default() };
    vec![Test::own("wandering_traffic", options, wander)]
}

/// The services of `traffic-shift`, with most of the traffic entering one zone after the
/// other.
fn scenario(seconds: u64) -> Result<Scenario, Failure> {
    let mut scenario = builtin::find("traffic-shift")?;
    let zones = ["zone-a", "zone-b", "zone-c"];
    let shift = |number: u64| {
        let busy = usize::try_from(number % 3).unwrap_or(0);
        let rate = |at: usize| Rps::saturating(if at == busy { 120.0 } else { 6.0 });
        let rates = zones.iter().enumerate();
        let rates: Result<_, Failure> =
            rates.map(|(at, zone)| Ok((zone.parse()?, rate(at)))).collect();
        Ok::<_, Failure>(Event::TrafficShift(TrafficShift {
            at: Timespan::from_seconds(number * SHIFT),
            over: Timespan::from_seconds(5),
            entry: None,
            rates: rates?,
        }))
    };
    scenario.events = (0..=seconds / SHIFT).map(shift).collect::<Result<_, _>>()?;
    scenario.warm_up = Timespan::from_seconds(1);
    scenario.duration = Timespan::from_seconds(seconds + SHIFT);
    Ok(scenario)
}

fn policy(namespace: &str) -> Result<Policy, Failure> {
    let mut policy = Policy::default();
    policy.namespaces.insert(namespace.parse()?);
    policy.scaler.enabled = false;
    // Replicas may gather where the load is.
    (policy.fault_tolerance.max_skew, policy.fault_tolerance.survive) = (3, Percent::ZERO);
    policy.balancer.warmup = Span::from_seconds(1);
    policy.moves.timeout = Span::from_seconds(30);
    policy.moves.backoff = Span::from_seconds(30);
    Ok(policy)
}

async fn wander(bed: Arc<TestBed>) -> TestResult {
    let wanted = long_form("STORNX_E2E_WANDER", SHORT)?;
    let admin = bed.client("admin").await?;
    // A cycle takes half a second as a rule, at most one.
    let scenario = scenario(u64::try_from(wanted)?)?;
    let apps = Boutique::of_scenario(&scenario);
    apps.deploy(&admin).await?;
    apps.wait_ready(&admin, SOON).await?;
    let here = apps.namespace.as_str();
    rights::grant(&admin, "stornx", &[here]).await?;
    hook::install(&admin, OWN).await?;
    let emulation = Emulation::start(&admin, Settings::new(scenario)).await?;
    let prometheus = bed.start_prometheus(&Scrape::each_second([emulation.address()])).await?;
    let lives = Lives::watch(&admin, here);
    let options = PrometheusOptions::builder(prometheus.url()).rate_window(WINDOW).build()?;
    let policy = policy(here)?;
    let mut seen = Seen { backoff: policy.moves.backoff, ..Seen::default() };
    let setup = Setup {
        product: Some(Arc::new(Prometheus::new(options)?)),
        idle: Duration::from_millis(350),
        ..Setup::new(policy, Arc::new(|_, _, _| Vec::new()))?
    };
    let driver = Driver::start(bed.client("stornx").await?, setup).await?;
    wait_steering(&driver).await?;
    lives.count_fewest();
    let before = lives.endpoints();

    let limit = Duration::from_secs(120) + Duration::from_secs(3) * u32::try_from(wanted)?;
    driver
        .turn(limit, |outcome| {
            seen.note(outcome);
            // The last moves are waited for, and no new one is.
            Ok(seen.cycles >= wanted && seen.rests)
        })
        .await?;
    println!(
        "wander: {} cycles, {} moves begun, {} closed, {} of them taken back; {} back too soon; \
         given up: {:?}; errors: {:?}",
        seen.cycles,
        seen.begun,
        seen.closed,
        seen.taken_back,
        seen.back_too_soon.len(),
        seen.given_up,
        seen.errors
    );
    // Whether something moves in the first seconds already is left to chance.
    if (seen.begun == 0 && wanted > SHORT) || seen.closed != seen.begun {
        return Err(format!("{} moves begun, {} closed", seen.begun, seen.closed).into());
    }
    if !seen.back_too_soon.is_empty() {
        return Err(format!("back too soon: {:?}", seen.back_too_soon).into());
    }
    if seen.violations > 0 {
        return Err(format!("{} plans failed their check", seen.violations).into());
    }
    for workload in apps.workloads.iter().filter(|one| one.namespace == here) {
        let count = seen::replicas(&admin, here, &workload.name).await?;
        if u32::try_from(count)? != workload.replicas {
            return Err(format!("{} has {count} replicas", workload.name).into());
        }
    }
    let fewest = lives.fewest();
    if let Some((service, ready)) =
        before.iter().find(|(name, ready)| fewest.get(*name).is_none_or(|now| now < ready))
    {
        return Err(format!("{service} had {ready} ready endpoints, then {fewest:?}").into());
    }
    let marked = lives.marked();
    if !marked.is_empty() {
        return Err(format!("still marked: {marked:?}").into());
    }
    Ok(())
}

/// What the cycles did.
#[derive(Default)]
struct Seen {
    backoff: Span,
    cycles: usize,
    begun: usize,
    closed: usize,
    taken_back: usize,
    /// Where the last move of each workload came from, and when it began.
    last: BTreeMap<WorkloadRef, (NodeName, Timestamp)>,
    back_too_soon: Vec<String>,
    given_up: BTreeMap<String, usize>,
    violations: usize,
    errors: BTreeMap<String, usize>,
    /// Nothing is under way.
    rests: bool,
}

impl Seen {
    fn note(&mut self, outcome: &CycleOutcome) {
        self.cycles += 1;
        self.violations += usize::from(!outcome.violations.is_empty());
        for error in &outcome.errors {
            *self.errors.entry(error.to_string()).or_default() += 1;
        }
        if let Some(planned) = &outcome.planned {
            let whys = planned.report.actions.iter().map(|report| &report.why);
            let actions = planned.plan.actions.iter().zip(whys).zip(&outcome.outcomes);
            for ((action, why), _) in actions.filter(|(_, result)| result.is_ok()) {
                self.note_action(action, why, outcome.at);
            }
        }
        self.rests = outcome.errors.is_empty()
            && outcome.memory.as_ref().is_some_and(|memory| {
                let idle = |one: &stornx_core::memory::WorkloadMemory| {
                    one.in_flight.is_none() && one.intents.is_empty()
                };
                memory.workloads.values().all(idle)
            });
    }

    fn note_action(&mut self, action: &Action, why: &Why, at: Timestamp) {
        match (action, why) {
            (Action::StartMove { workload, from, to, .. }, _) => {
                self.begun += 1;
                let undo = matches!(why, Why::Move(MoveWhy::Undo { .. }));
                self.taken_back += usize::from(undo);
                let before = self.last.insert(workload.clone(), (from.clone(), at));
                if let Some((came_from, began)) = before
                    && !undo
                    && came_from == *to
                    && at.since(began) < self.backoff
                {
                    self.back_too_soon.push(action.to_string());
                }
            }
            (Action::CloseMove { .. }, Why::Move(why)) => {
                self.closed += 1;
                if let MoveWhy::GivenUp { cause } = why {
                    *self.given_up.entry(format!("{cause:?}")).or_default() += 1;
                }
            }
            _ => {}
        }
    }
}
