//! Which routing writes this cycle makes, where there are more of them than it may.
//!
//! A rule costs two requests of the API server and an update of every proxy of the mesh, and
//! while a cycle writes, it does not look. So a cycle changes the routes of at most
//! `BALANCER_MAX_WRITES` hosts; the others are reported as waiting and decided anew in the next
//! one. What must not wait is not held: names of zones that a rule lacks, and rules that go.
//! They are counted all the same.
//!
//! First come changes that undo harm, then those that relieve, then those that save most; of
//! equals the first by name. A host that waits has a change that saves less than every one that was made,
//! and those end at their targets within a few cycles: nobody waits for ever.

use std::cmp::Reverse;

use super::{Proposal, balance::Routed, ledger::Ledger};
use crate::{
    ids::HostName,
    plan::{Action, RoutePurpose},
    report::RouteReason,
};

/// What a change is for, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    MustNotWait,
    Undo,
    Pressing,
    Improve,
    Decay,
}

/// Keeps what may be written in this cycle, and says of the other hosts that they wait.
pub(super) fn pace(ledger: &mut Ledger, routed: &mut Routed) {
    let mut order: Vec<usize> = (0..routed.proposals.len()).collect();
    order.sort_by(|a, b| {
        let key = |at: &usize| {
            let proposal = &routed.proposals[*at];
            (rank(routed, proposal), Reverse(Gain(proposal.report.expected.request_ms_per_second)))
        };
        key(a).cmp(&key(b)).then(a.cmp(b))
    });
    let mut kept = vec![false; routed.proposals.len()];
    for at in order {
        let must = rank(routed, &routed.proposals[at]) == Rank::MustNotWait;
        kept[at] = ledger.spend_routing_write() || must;
    }
    let proposals = std::mem::take(&mut routed.proposals);
    for (proposal, kept) in proposals.into_iter().zip(kept) {
        if kept {
            routed.proposals.push(proposal);
        } else if let Some(host) = host(&proposal)
            && let Some(report) = routed.reports.get_mut(host)
        {
            report.reason = RouteReason::Waits;
        }
    }
}

fn host(proposal: &Proposal) -> Option<&HostName> {
    match &proposal.action {
        Action::SetRoutes { host, .. } | Action::GiveBackRoutes { host, .. } => Some(host),
        _ => None,
    }
}

fn rank(routed: &Routed, proposal: &Proposal) -> Rank {
    let Action::SetRoutes { host, purpose, .. } = &proposal.action else {
        return Rank::MustNotWait;
    };
    let pressing = routed.reports.get(host).is_some_and(|report| report.pressing);
    match purpose {
        RoutePurpose::Cover => Rank::MustNotWait,
        RoutePurpose::Undo => Rank::Undo,
        RoutePurpose::Rollout => Rank::Pressing,
        RoutePurpose::Improve if pressing => Rank::Pressing,
        RoutePurpose::Improve => Rank::Improve,
        RoutePurpose::Decay => Rank::Decay,
    }
}

/// What a change saves, in order.
#[derive(Debug, PartialEq)]
struct Gain(f64);

impl Eq for Gain {}

impl PartialOrd for Gain {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Gain {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        memory::Memory,
        model::RouteTable,
        plan::GiveBackCause,
        policy::Policy,
        report::{ActionReport, Expected, HostReport, RouteWhy, TidyWhy, Why},
        testing::random_case,
        units::{Percent, Timestamp},
        view::View,
    };

    fn proposal(number: usize, purpose: Option<RoutePurpose>, gain: f64) -> Proposal {
        let host: HostName = format!("h{number}.shop.svc.cluster.local").parse().unwrap();
        let workload = format!("shop/Deployment/h{number}").parse().unwrap();
        let table = RouteTable::new();
        let expected = Expected { request_ms_per_second: gain, ..Expected::default() };
        let Some(purpose) = purpose else {
            let action = Action::GiveBackRoutes { host, workload, cause: GiveBackCause::OptedOut };
            return Proposal {
                action,
                report: ActionReport { expected, why: Why::TidyUp(TidyWhy::Routes) },
            };
        };
        let why = RouteWhy {
            host: host.clone(),
            purpose,
            delta: 10.0,
            step: 10.0,
            largest: None,
            cross_zone_before: Percent::ZERO,
            cross_zone_after: Percent::ZERO,
            peak_before: None,
            peak_after: None,
            effect: None,
        };
        let action = Action::SetRoutes { host, workload, from: table.clone(), to: table, purpose };
        Proposal { action, report: ActionReport { expected, why: Why::Route(why) } }
    }

    fn paced(most: u32, proposals: Vec<Proposal>) -> (Vec<String>, Vec<String>) {
        let reports: BTreeMap<_, _> = proposals
            .iter()
            .filter_map(|one| {
                let reason = RouteReason::Changed;
                let report = HostReport {
                    destinations: BTreeMap::new(),
                    delta: 10.0,
                    reason,
                    pressing: false,
                    verification: None,
                };
                Some((host(one)?.clone(), report))
            })
            .collect();
        let mut routed = Routed { proposals, reports };
        let snapshot = random_case(1).snapshot;
        let mut policy = Policy::default();
        policy.balancer.max_writes = most;
        let view = View::new(&snapshot, &policy, Timestamp::from_millis(1));
        let mut ledger = Ledger::new(&view, &Memory::default());
        pace(&mut ledger, &mut routed);
        let kept = routed.proposals.iter().filter_map(host);
        let kept = kept.map(|host| host.service().to_owned()).collect();
        let waits = routed.reports.iter().filter(|(_, one)| one.reason == RouteReason::Waits);
        (kept, waits.map(|(host, _)| host.service().to_owned()).collect())
    }

    #[test]
    fn what_saves_most_comes_first_and_the_plan_keeps_its_order() {
        let improve = Some(RoutePurpose::Improve);
        let all = [5.0, 1.0, 9.0, 9.0].into_iter().enumerate();
        let all: Vec<_> = all.map(|(number, gain)| proposal(number, improve, gain)).collect();
        let (kept, waits) = paced(2, all);
        assert_eq!((kept, waits), (vec!["h2".into(), "h3".into()], vec!["h0".into(), "h1".into()]));
    }

    #[test]
    fn what_must_not_wait_is_written_beyond_the_bound_and_counts() {
        let all = vec![
            proposal(0, Some(RoutePurpose::Improve), 100.0),
            proposal(1, Some(RoutePurpose::Cover), 0.0),
            proposal(2, None, 0.0),
            proposal(3, Some(RoutePurpose::Undo), 0.0),
        ];
        let (kept, waits) = paced(1, all);
        assert_eq!((kept, waits), (vec!["h1".into(), "h2".into()], vec!["h0".into(), "h3".into()]));
    }

    #[test]
    fn harm_is_undone_before_anything_is_improved_and_decay_comes_last() {
        let all = vec![
            proposal(0, Some(RoutePurpose::Decay), 0.0),
            proposal(1, Some(RoutePurpose::Improve), 100.0),
            proposal(2, Some(RoutePurpose::Rollout), -3.0),
            proposal(3, Some(RoutePurpose::Undo), 0.0),
        ];
        let (kept, _) = paced(2, all);
        assert_eq!(kept, ["h2", "h3"]);
    }
}
