//! The node of each new replica: feasible, in an allowed zone, and there the one from
//! which the workload's requests travel least; without traffic the least used one.
//! Equals are decided by how full they are, then by name: a tie by name alone would
//! heap all replicas of a workload on one node.

use super::{
    Travel,
    feasible::{Refusals, feasible},
    keep_least,
    layout::Layout,
    spread::keep_allowed,
    used_share,
};
use crate::{
    decide::ledger::Ledger,
    report::{PlacementReason, PlacementStrategy},
    units::Rps,
    view::{NodeIndex, View, WorkloadIndex},
};

/// New replicas with their nodes and reasons.
pub(crate) struct Placed {
    pub(crate) nodes: Vec<NodeIndex>,
    pub(crate) reasons: Vec<PlacementReason>,
    /// What kept the nodes out when fewer were placed than asked for.
    pub(crate) refused: Option<Refusals>,
}

/// The nodes that can take one more replica of a workload laid out as `layout`.
///
/// # Errors
/// What keeps each node out, when there is none.
fn candidates(
    view: &View<'_>,
    ledger: &Ledger,
    workload: WorkloadIndex,
    layout: &Layout,
) -> Result<Vec<NodeIndex>, Refusals> {
    let mut refusals = Refusals::default();
    let mut nodes = feasible(view, ledger, workload, layout, &mut refusals);
    keep_allowed(view, workload, layout, &mut nodes, &mut refusals);
    if nodes.is_empty() { Err(refusals) } else { Ok(nodes) }
}

/// Places up to `count` new replicas one after the other, each seeing what was promised
/// to those before it, and promises their room in the ledger.
pub(crate) fn place(
    view: &View<'_>,
    ledger: &mut Ledger,
    workload: WorkloadIndex,
    count: u32,
) -> Placed {
    let mut layout = Layout::of(view, workload);
    let travel = Travel::of(view, workload);
    let mut placed = Placed { nodes: Vec::new(), reasons: Vec::new(), refused: None };
    for _ in 0..count {
        let nodes = match candidates(view, ledger, workload, &layout) {
            Ok(nodes) => nodes,
            Err(refusals) => {
                placed.refused = Some(refusals);
                break;
            }
        };
        let costs = costs(view, ledger, travel.as_ref(), nodes);
        let Some(best) = least(view, ledger, &costs, None) else { break };
        let runner_up = least(view, ledger, &costs, Some(best.0));
        let choice = Choice { view, travel: travel.as_ref(), costs: &costs, best, runner_up };
        placed.reasons.push(choice.explain());
        placed.nodes.push(best.0);
        layout.add(view, best.0);
        ledger.promise(best.0, view.workloads[workload.at()].workload.requests);
    }
    placed
}

fn costs(
    view: &View<'_>,
    ledger: &Ledger,
    travel: Option<&Travel>,
    nodes: Vec<NodeIndex>,
) -> Vec<(NodeIndex, f64)> {
    let cost = |node| match travel {
        Some(travel) => travel.cost(view, node),
        None => used_share(view, ledger, node),
    };
    nodes.into_iter().map(|node| (node, cost(node))).collect()
}

/// The node with the least cost, then the least used, then the first by name.
fn least(
    view: &View<'_>,
    ledger: &Ledger,
    costs: &[(NodeIndex, f64)],
    except: Option<NodeIndex>,
) -> Option<(NodeIndex, f64)> {
    let others = costs.iter().filter(|(node, _)| Some(*node) != except);
    let mut left: Vec<_> = others.map(|at| (*at, at.1)).collect();
    let scale = left.iter().map(|(_, cost)| cost.abs()).fold(0.0, f64::max);
    keep_least(&mut left, scale);
    let used = |at: &(NodeIndex, f64)| used_share(view, ledger, at.0);
    let mut left: Vec<_> = left.into_iter().map(|(at, _)| (at, used(&at))).collect();
    keep_least(&mut left, 1.0);
    left.first().map(|(at, _)| *at)
}

/// A choice with what it was made from.
struct Choice<'a> {
    view: &'a View<'a>,
    travel: Option<&'a Travel>,
    costs: &'a [(NodeIndex, f64)],
    best: (NodeIndex, f64),
    runner_up: Option<(NodeIndex, f64)>,
}

impl Choice<'_> {
    fn explain(&self) -> PlacementReason {
        let node = &self.view.nodes[self.best.0.at()];
        let heaviest = self.travel.and_then(|t| t.heaviest(self.view)).map(|(neighbour, rate)| {
            let neighbour = self.view.workloads[neighbour.at()].workload;
            (neighbour.id.clone(), Rps::saturating(rate))
        });
        let name = |at: NodeIndex| self.view.nodes[at.at()].node.name.clone();
        PlacementReason {
            node: node.node.name.clone(),
            zone: node.node.zone.clone(),
            strategy: self.travel.map_or(PlacementStrategy::LeastUsed, Travel::strategy),
            heaviest,
            cost: self.best.1,
            runner_up: self.runner_up.map(|(at, cost)| (name(at), cost)),
            candidates: u32::try_from(self.costs.len()).unwrap_or(u32::MAX),
            measured: self.travel.is_some_and(|t| t.is_measured(self.view, self.best.0)),
        }
    }
}
