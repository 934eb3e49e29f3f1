//! Which replica leaves.
//!
//! Replicas that do not serve go first, those that never did before those that did:
//! they cost no traffic, and a `ReplicaSet` deletes them first whatever it is told. Then,
//! from the zone with most replicas among those that may lose one, the replica whose
//! going costs the traffic least; of equals the one on the most loaded node, then the
//! first by name. A `StatefulSet` loses its highest ordinal and no other.

use super::{Travel, keep_least, used_share};
use crate::{
    decide::{
        ledger::Ledger,
        safety::{Refusal, Safety},
    },
    ids::{PodName, WorkloadKind},
    model::PodPhase,
    view::{PodView, View, WorkloadIndex, ZoneIndex},
};

/// The replicas that leave.
pub(crate) struct Removed {
    pub(crate) victims: Vec<PodName>,
    /// The floor that stopped it when fewer leave than asked for.
    pub(crate) refused: Option<Refusal>,
}

/// Chooses up to `count` replicas one after the other, each seeing the layout without
/// those before it; stops where a floor would break.
pub(crate) fn remove(
    view: &View<'_>,
    safety: &Safety,
    ledger: &Ledger,
    workload: WorkloadIndex,
    count: u32,
) -> Removed {
    let mut left = Left::of(view, workload);
    let travel = Travel::of(view, workload);
    let mut removed = Removed { victims: Vec::new(), refused: None };
    while removed.victims.len() < count as usize {
        let choice = match view.workloads[workload.at()].workload.id.kind() {
            WorkloadKind::StatefulSet => left.highest_ordinal(safety),
            WorkloadKind::Deployment => left.cheapest(safety, ledger, travel.as_ref()),
        };
        match choice {
            Ok(Some(victim)) => removed.victims.push(left.take(victim)),
            Ok(None) => break,
            Err(refusal) => {
                removed.refused = Some(refusal);
                break;
            }
        }
    }
    removed
}

/// The replicas that are left while victims are chosen.
struct Left<'a> {
    view: &'a View<'a>,
    workload: WorkloadIndex,
    pods: Vec<&'a PodView<'a>>,
    ready: Vec<u32>,
    /// Share of the workload's requests that each zone served before any removal.
    share: Vec<f64>,
}

impl<'a> Left<'a> {
    fn of(view: &'a View<'a>, workload: WorkloadIndex) -> Self {
        let joined = &view.workloads[workload.at()];
        let active = joined.pods.iter().filter(|pod| pod.pod.phase != PodPhase::Terminating);
        Self {
            view,
            workload,
            pods: active.collect(),
            ready: joined.ready.clone(),
            share: shares(view, workload),
        }
    }

    fn take(&mut self, at: usize) -> PodName {
        let pod = self.pods.remove(at);
        if let Some(zone) = serving_zone(pod) {
            self.ready[zone.at()] -= 1;
        }
        pod.pod.name.clone()
    }

    fn allowed(&self, safety: &Safety, zone: ZoneIndex) -> Result<(), Refusal> {
        let mut after = self.ready.clone();
        after[zone.at()] -= 1;
        safety.of(self.workload).floors.change_allowed(&self.ready, &after)
    }

    fn highest_ordinal(&self, safety: &Safety) -> Result<Option<usize>, Refusal> {
        let highest = self.pods.iter().enumerate().max_by_key(|(_, pod)| ordinal(&pod.pod.name));
        let Some((at, pod)) = highest else { return Ok(None) };
        if let Some(zone) = serving_zone(pod) {
            self.allowed(safety, zone)?;
        }
        Ok(Some(at))
    }

    fn cheapest(
        &self,
        safety: &Safety,
        ledger: &Ledger,
        travel: Option<&Travel>,
    ) -> Result<Option<usize>, Refusal> {
        let idle = self.pods.iter().enumerate().filter(|(_, pod)| !pod.serves());
        if let Some((at, _)) = idle.min_by_key(|(_, pod)| rank(pod.pod.phase)) {
            return Ok(Some(at));
        }
        let fullest = self.fullest_allowed(safety)?;
        let travelled = travel.map(|travel| Travelled::of(self, travel));
        let in_fullest = |zone| fullest.contains(&zone);
        let mut costs: Vec<(usize, f64)> = self
            .pods
            .iter()
            .enumerate()
            .filter(|(_, pod)| pod.zone.is_some_and(in_fullest))
            .map(|(at, _)| (at, travelled.as_ref().map_or(0.0, |t| t.cost_of_removal(self, at))))
            .collect();
        keep_least(&mut costs, travelled.as_ref().map_or(0.0, Travelled::scale));
        let load =
            |at: usize| self.pods[at].node.map_or(0.0, |node| used_share(self.view, ledger, node));
        let mut loads: Vec<_> = costs.into_iter().map(|(at, _)| (at, -load(at))).collect();
        keep_least(&mut loads, 1.0);
        Ok(loads.first().map(|(at, _)| *at))
    }

    /// The zones with most serving replicas among those that may lose one.
    fn fullest_allowed(&self, safety: &Safety) -> Result<Vec<ZoneIndex>, Refusal> {
        let zones = self.ready.iter().enumerate().filter(|(_, count)| **count > 0);
        let zones: Vec<_> = zones.map(|(at, count)| (ZoneIndex::new(at), *count)).collect();
        let mut allowed = Vec::new();
        let mut refusals = Vec::new();
        for (zone, count) in zones {
            match self.allowed(safety, zone) {
                Ok(()) => allowed.push((zone, count)),
                Err(refusal) => refusals.push(refusal),
            }
        }
        let most = allowed.iter().map(|(_, count)| *count).max();
        match (most, refusals.into_iter().min()) {
            (None, Some(refusal)) => Err(refusal),
            (most, _) => Ok(allowed
                .into_iter()
                .filter(|(_, count)| Some(*count) == most)
                .map(|(zone, _)| zone)
                .collect()),
        }
    }
}

/// What the requests travel from each replica that is left.
struct Travelled {
    /// By replica.
    costs: Vec<f64>,
    /// Sum over the replicas of each zone.
    by_zone: Vec<f64>,
}

impl Travelled {
    /// Of replicas that all serve.
    fn of(left: &Left<'_>, travel: &Travel) -> Self {
        let cost = |pod: &&PodView<'_>| pod.node.map_or(0.0, |node| travel.cost(left.view, node));
        let costs: Vec<f64> = left.pods.iter().map(cost).collect();
        let mut by_zone = vec![0.0; left.ready.len()];
        for (pod, cost) in left.pods.iter().zip(&costs) {
            if let Some(zone) = pod.zone {
                by_zone[zone.at()] += cost;
            }
        }
        Self { costs, by_zone }
    }

    /// The largest of them.
    fn scale(&self) -> f64 {
        self.costs.iter().copied().fold(0.0, f64::max)
    }

    /// By how much travel rises when the requests of one replica go to the others of
    /// its zone, or, when it is the last there, to all others.
    fn cost_of_removal(&self, left: &Left<'_>, at: usize) -> f64 {
        let Some(zone) = left.pods[at].zone else { return 0.0 };
        let (cost, here) = (self.costs[at], left.ready[zone.at()]);
        let total: u32 = left.ready.iter().sum();
        let instead = if here > 1 {
            (self.by_zone[zone.at()] - cost) / f64::from(here - 1)
        } else if total > 1 {
            (self.by_zone.iter().sum::<f64>() - cost) / f64::from(total - 1)
        } else {
            cost
        };
        left.share[zone.at()] / f64::from(here.max(1)) * (instead - cost)
    }
}

/// The share of its requests that each zone of a workload serves: as its callers see
/// it, else by replicas.
fn shares(view: &View<'_>, workload: WorkloadIndex) -> Vec<f64> {
    let joined = &view.workloads[workload.at()];
    let mut rates = vec![0.0; view.zones.len()];
    for edge in &joined.called_by {
        for route in view.routes(&view.edges[edge.at()]) {
            rates[route.to.at()] += route.requests;
        }
    }
    if rates.iter().sum::<f64>() <= 0.0 {
        rates = joined.ready.iter().map(|count| f64::from(*count)).collect();
    }
    let sum = rates.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    rates.into_iter().map(|rate| rate / sum).collect()
}

fn serving_zone(pod: &PodView<'_>) -> Option<ZoneIndex> {
    pod.zone.filter(|_| pod.serves())
}

/// The order in which replicas that do not serve go.
const fn rank(phase: PodPhase) -> u8 {
    match phase {
        PodPhase::Pending => 0,
        PodPhase::Starting => 1,
        PodPhase::Unready => 2,
        // Ready on a node that is gone: it may come back.
        PodPhase::Ready | PodPhase::Terminating => 3,
    }
}

/// The number at the end of a `StatefulSet` pod's name.
fn ordinal(name: &PodName) -> u64 {
    let digits = name.name().rsplit('-').next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}
