//! Counts by series, as the proxies of a mesh keep them: what each pod sent on each edge,
//! and what it served of each, by how it ended.
//!
//! A caller counts a call once, when it is over; a callee counts each attempt that
//! reached it. What a proxy counted ends with its pod.

use super::{
    agenda::Nanos,
    prometheus::Counters,
    state::{NONE, Outcome, World},
};

/// One series.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    pub(crate) counters: Counters,
    /// Sum of all durations.
    pub(crate) took: u128,
}

/// The series of a pod for one edge, by outcome.
pub(crate) type ByOutcome = Vec<(Outcome, Series)>;

/// The series of a pod.
#[derive(Debug, Default)]
pub(crate) struct PodTally {
    /// By edge.
    pub(crate) sent: Vec<(u32, ByOutcome)>,
    pub(crate) served: Vec<(u32, ByOutcome)>,
}

/// All series.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pods: Vec<PodTally>,
}

impl Tally {
    pub(crate) fn pod(&self, pod: u32) -> Option<&PodTally> {
        self.pods.get(pod as usize)
    }

    fn pod_mut(&mut self, pod: u32) -> &mut PodTally {
        let at = pod as usize;
        if at >= self.pods.len() {
            self.pods.resize_with(at + 1, PodTally::default);
        }
        &mut self.pods[at]
    }

    /// The proxy of a pod has ended.
    pub(crate) fn forget(&mut self, pod: u32) {
        *self.pod_mut(pod) = PodTally::default();
    }
}

/// What is counted of one call.
#[derive(Debug, Clone, Copy)]
struct Counted {
    edge: u32,
    outcome: Outcome,
    took: Nanos,
    request: u64,
    response: u64,
}

/// Counts a call among the few edges and outcomes of a pod; the list stays in order.
fn count(edges: &mut Vec<(u32, ByOutcome)>, counted: Counted) {
    let Counted { edge, outcome, took, request, response } = counted;
    let at = edges.binary_search_by_key(&edge, |(edge, _)| *edge).unwrap_or_else(|at| {
        edges.insert(at, (edge, ByOutcome::new()));
        at
    });
    let outcomes = &mut edges[at].1;
    let at =
        outcomes.binary_search_by_key(&outcome, |(outcome, _)| *outcome).unwrap_or_else(|at| {
            outcomes.insert(at, (outcome, Series::default()));
            at
        });
    let series = &mut outcomes[at].1;
    series.counters.record(took, outcome == Outcome::Succeeded, request, response);
    series.took += u128::from(took);
}

impl World {
    /// A call is over for its caller.
    pub(crate) fn tally_sent(&mut self, handle: u32, outcome: Outcome) {
        let Some(tally) = &mut self.tally else { return };
        let call = &self.calls[handle as usize];
        let spec = &self.model.calls[call.spec as usize];
        let reached = call.callee != NONE;
        let counted = Counted {
            edge: spec.edge,
            // Also of a caller that has waited in vain for an endpoint.
            outcome: if reached { outcome } else { Outcome::NoEndpoint },
            took: self.now - call.sent,
            request: if reached { spec.request_bytes } else { 0 },
            response: if outcome == Outcome::Succeeded { spec.response_bytes } else { 0 },
        };
        count(&mut tally.pod_mut(call.caller).sent, counted);
    }

    /// A callee is done with an attempt.
    pub(crate) fn tally_served(
        &mut self,
        handle: u32,
        outcome: Outcome,
        request: u64,
        response: u64,
    ) {
        let Some(tally) = &mut self.tally else { return };
        let call = &self.calls[handle as usize];
        let edge = self.model.calls[call.spec as usize].edge;
        let took = self.now - call.reached;
        let counted = Counted { edge, outcome, took, request, response };
        count(&mut tally.pod_mut(call.callee).served, counted);
    }
}
