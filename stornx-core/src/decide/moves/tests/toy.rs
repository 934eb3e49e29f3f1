//! A cluster that does what it is told: plans are checked and carried out, new replicas
//! become Ready where they were meant to, metrics follow the layout.

use crate::{
    check::check,
    decide::{
        moves::objective::Objective,
        plan,
        safety::{
            Safety,
            testing::{Dice, NOW, World, id, zone_name},
        },
    },
    model::{Facts, Pod, PodPhase, PodTraffic, PodUsage, Traces, Traffic},
    plan::{Action, Planned},
    remember::remember,
    units::{MilliCpu, Millis, Rps, Share, Span, Timestamp},
    view::{Remembered, View},
};

/// What one service asks of the world, whatever its layout.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) name: String,
    /// Requests per second.
    pub(super) requests: f64,
    /// CPU of all replicas in thousandths of a core.
    pub(super) cpu: f64,
}

/// A world that turns.
#[derive(Debug, Clone)]
pub(super) struct Toy {
    pub(super) world: World,
    pub(super) now: Timestamp,
    pub(super) loads: Vec<Load>,
    /// Rates without noise.
    truth: Traffic,
    names: u32,
}

impl Toy {
    pub(super) fn new(mut world: World, loads: Vec<Load>) -> Self {
        let truth = world.traffic().clone();
        let mut toy = Self { world, now: NOW, loads, truth, names: 0 };
        toy.measure(None);
        toy
    }

    /// Metrics of the layout as it is; with dice, each rate off by up to two standard
    /// deviations of what a minute counts.
    pub(super) fn measure(&mut self, mut dice: Option<&mut Dice>) {
        let mut off = |rate: f64| match &mut dice {
            Some(dice) => noisy(rate, dice),
            None => rate,
        };
        let mut traffic = self.truth.clone();
        for route in traffic.edges.iter_mut().flat_map(|edge| &mut edge.routes) {
            route.requests = Rps::saturating(off(route.requests.get()));
        }
        let mut usage = Vec::new();
        for load in &self.loads {
            let workload =
                self.world.snapshot.workloads.iter().find(|w| w.id == id(&load.name)).unwrap();
            let ready: Vec<&Pod> = workload.ready().collect();
            for pod in &ready {
                let share = ready.len() as f64;
                let requests = off(load.requests / share);
                // Work follows requests, whatever is counted of them.
                let cpu = load.cpu / share * (requests * share / load.requests.max(1e-9));
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let cpu = MilliCpu::new(cpu.round() as u64);
                let memory = workload.requests.memory;
                usage.push(PodUsage { pod: pod.name.clone(), cpu, memory, throttled: None });
                traffic.pods.push(PodTraffic {
                    pod: pod.name.clone(),
                    requests: Rps::saturating(requests),
                    p95: Some(Millis::saturating(20.0)),
                    errors: Share::ZERO,
                });
            }
        }
        *self.world.traffic() = traffic;
        if let Facts::Fresh { value, .. } = &mut self.world.snapshot.usage {
            *value = usage;
        }
    }

    /// Rates without noise, for changing the world.
    pub(super) fn truth(&mut self) -> &mut Traffic {
        &mut self.truth
    }

    pub(super) fn plan(&self) -> Planned {
        let planned = plan(&self.world.snapshot, &self.world.policy, &self.world.memory, self.now);
        let violations =
            check(&self.world.snapshot, &self.world.policy, &self.world.memory, &planned);
        assert!(violations.is_empty(), "{violations:?} in {:?}", planned.plan.actions);
        planned
    }

    /// One cycle of a minute; the number of moves it begins.
    pub(super) fn cycle(&mut self) -> usize {
        let planned = self.plan();
        let outcomes = planned.plan.actions.iter().map(|_| Ok(())).collect();
        let memory = std::mem::take(&mut self.world.memory);
        self.world.memory = remember(
            memory,
            &self.world.snapshot,
            &planned,
            &outcomes,
            &self.world.policy,
            self.now,
        );
        for action in &planned.plan.actions {
            self.carry_out(action);
        }
        self.now = self.now.after(Span::from_seconds(60));
        begun(&planned)
    }

    fn carry_out(&mut self, action: &Action) {
        let now = self.now;
        let Some(workload) =
            self.world.snapshot.workloads.iter_mut().find(|w| Some(&w.id) == action.workload())
        else {
            return;
        };
        match action {
            Action::StartMove { to, .. } => {
                workload.desired += 1;
                self.names += 1;
                workload.pods.push(Pod {
                    name: format!("shop/new-{}", self.names).parse().unwrap(),
                    node: Some(to.clone()),
                    phase: PodPhase::Ready,
                    created_at: now,
                    ready_since: Some(now),
                    traces: Traces::default(),
                });
            }
            Action::FinishMove { victim, .. } => {
                workload.desired -= 1;
                workload.pods.retain(|pod| pod.name != *victim);
            }
            Action::AbortMove { surge: Some(surge), .. } => {
                workload.desired -= 1;
                workload.pods.retain(|pod| pod.name != *surge);
            }
            _ => {}
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.world.memory.workloads.values().filter(|w| w.in_flight.is_some()).count()
    }

    /// What the layout costs, by what would be measured without noise.
    pub(super) fn cost(&self) -> f64 {
        let mut exact = self.clone();
        exact.measure(None);
        let view = View::new(&exact.world.snapshot, &exact.world.policy, exact.now);
        let safety = Safety::assess(&view, &Remembered::of(&view, &exact.world.memory));
        Objective::new(&view, &safety, &Remembered::of(&view, &exact.world.memory)).total()
    }
}

/// Moves that a plan begins.
pub(super) fn begun(planned: &Planned) -> usize {
    planned.plan.actions.iter().filter(|a| matches!(a, Action::StartMove { .. })).count()
}

fn noisy(rate: f64, dice: &mut Dice) -> f64 {
    // Nearly normal: twelve throws of a uniform number.
    let sum: f64 = (0..12).map(|_| dice.below(10_001) as f64 / 10_000.0).sum();
    let deviations = (sum - 6.0).clamp(-2.0, 2.0);
    let count = rate * 60.0;
    (count + deviations * count.sqrt()).max(0.0) / 60.0
}

/// A random application: gates in each zone, services that call later ones.
pub(super) fn random(dice: &mut Dice) -> Toy {
    let zones = 2 + dice.below(3);
    let sizes: Vec<usize> = (0..zones).map(|_| 2 + dice.below(3)).collect();
    let mut world = World::new(&sizes);
    world.policy.scaler.enabled = false;
    let node = |dice: &mut Dice| {
        let zone = dice.below(zones);
        format!("{}{}", zone_name(zone), dice.below(sizes[zone]))
    };
    let gates: Vec<String> = (0..zones).map(|zone| format!("{}0", zone_name(zone))).collect();
    let gates: Vec<&str> = gates.iter().map(String::as_str).collect();
    world.workload("gate", &gates).managed = false;
    let services = 2 + dice.below(5);
    let mut loads = Vec::new();
    let mut shares: Vec<f64> = (0..zones).map(|_| 1.0 + dice.below(10) as f64).collect();
    let sum: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= sum);
    let mut rates = vec![0.0; services];
    let mut edges: Vec<(String, usize, f64)> = Vec::new();
    for at in 0..services {
        if at == 0 || dice.one_in(3) {
            let rate = 20.0 + dice.below(900) as f64;
            rates[at] += rate;
            edges.push(("gate".to_owned(), at, rate));
        }
        for to in at + 1..services {
            if dice.one_in(2) && rates[at] > 0.0 {
                let rate = rates[at] * (1.0 + dice.below(20) as f64) / 10.0;
                rates[to] += rate;
                edges.push((format!("s{at}"), to, rate));
            }
        }
    }
    for (at, rate) in rates.iter().enumerate() {
        let replicas = 1 + dice.below(7);
        let nodes: Vec<String> = (0..replicas).map(|_| node(dice)).collect();
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        world.workload(&format!("s{at}"), &nodes);
        let used = 5.0 + dice.below(65) as f64;
        let cpu = used * replicas as f64;
        loads.push(Load { name: format!("s{at}"), requests: *rate, cpu });
    }
    for (caller, callee, rate) in edges {
        let names: Vec<String> = (0..zones).map(zone_name).collect();
        // Where inner calls come from is not what is looked at: any split will do.
        let routes: Vec<(&str, &str, f64)> = names
            .iter()
            .zip(&shares)
            .map(|(zone, share)| (zone.as_str(), zone.as_str(), rate * share))
            .collect();
        world.edge(&caller, &format!("s{callee}"), &routes);
    }
    Toy::new(world, loads)
}
