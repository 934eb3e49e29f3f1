//! Which routing writes this cycle makes, where there are more of them than it may.
//!
//! A rule costs two requests of the API server and an update of every proxy of the mesh, and
//! while a cycle writes, it does not look. So a cycle changes the routes of at most
//! `BALANCER_MAX_WRITES` hosts; the others are reported as waiting and decided anew in the next
//! one. What must not wait is not held: names of zones that a rule lacks, rules that go, and
//! changes that undo harm. They come before everything else in the plan, and are counted all
//! the same.
//!
//! First come changes that relieve, then those that save most; of equals the first by name. A host that waits has a change that saves less than every one that was made,
//! and those end at their targets within a few cycles: nobody waits for ever.
//!
//! A change that was refused last time is wanted again in every cycle, and may be refused in
//! every cycle. So it comes after all others, the one that was tried longest ago first, and
//! what must not wait is not counted then: what is refused takes no write from anybody.

use std::cmp::Reverse;

use super::{Proposal, balance::Routed, ledger::Ledger};
use crate::{
    ids::HostName,
    memory::Memory,
    plan::{Action, RoutePurpose},
    report::RouteReason,
};

/// What a change is for, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    MustNotWait,
    Pressing,
    Improve,
    Decay,
}

/// Keeps what may be written in this cycle, and says of the other hosts that they wait.
/// What must not wait is taken out, in the order of hosts, undos last: it is to be done first.
pub(super) fn pace(ledger: &mut Ledger, memory: &Memory, routed: &mut Routed) -> Vec<Proposal> {
    let refused = |proposal: &Proposal| {
        let memory = host(proposal).and_then(|host| memory.hosts.get(host));
        memory.and_then(|memory| memory.refused_at)
    };
    // Each is looked up once, not in every comparison.
    let keys: Vec<_> = routed
        .proposals
        .iter()
        .map(|proposal| {
            let rank = rank(routed, proposal);
            let gain = Gain(proposal.report.expected.request_ms_per_second);
            (refused(proposal), rank, Reverse(gain))
        })
        .collect();
    let must: Vec<bool> = keys.iter().map(|(_, rank, _)| *rank == Rank::MustNotWait).collect();
    let mut order: Vec<usize> = (0..routed.proposals.len()).collect();
    order.sort_by(|a, b| {
        let key = |at: usize| {
            let (refused, rank, gain) = &keys[at];
            (refused.filter(|_| !must[at]), rank, gain)
        };
        key(*a).cmp(&key(*b)).then(a.cmp(b))
    });
    let mut kept = vec![false; routed.proposals.len()];
    for at in order {
        let free = must[at] && keys[at].0.is_some();
        kept[at] = free || ledger.spend_routing_write() || must[at];
    }
    let proposals = std::mem::take(&mut routed.proposals);
    let mut first = Vec::new();
    for (proposal, (kept, must)) in proposals.into_iter().zip(kept.into_iter().zip(must)) {
        if must {
            first.push(proposal);
        } else if kept {
            routed.proposals.push(proposal);
        } else if let Some(host) = host(&proposal)
            && let Some(report) = routed.reports.get_mut(host)
        {
            report.reason = RouteReason::Waits;
        }
    }
    // What cuts off comes before what is slow.
    first.sort_by_key(is_undo);
    first
}

fn is_undo(proposal: &Proposal) -> bool {
    matches!(proposal.action, Action::SetRoutes { purpose: RoutePurpose::Undo, .. })
}

fn host(proposal: &Proposal) -> Option<&HostName> {
    proposal.action.host()
}

fn rank(routed: &Routed, proposal: &Proposal) -> Rank {
    let Action::SetRoutes { host, purpose, .. } = &proposal.action else {
        return Rank::MustNotWait;
    };
    let pressing = routed.reports.get(host).is_some_and(|report| report.pressing);
    match purpose {
        RoutePurpose::Cover | RoutePurpose::Undo => Rank::MustNotWait,
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
        memory::HostMemory,
        model::RouteTable,
        plan::GiveBackCause,
        policy::Policy,
        report::{ActionReport, Expected, HostReport, RouteWhy, TidyWhy, Why},
        testing::random_case,
        units::{Percent, Timestamp},
        view::{Remembered, View},
    };

    fn proposal(number: usize, purpose: Option<RoutePurpose>, gain: f64) -> Proposal {
        let host: HostName = format!("h{number}.shop.svc.cluster.local").parse().unwrap();
        let workload = format!("shop/Deployment/h{number}").parse().unwrap();
        let table = RouteTable::new();
        let expected = Expected { request_ms_per_second: gain, ..Expected::default() };
        let Some(purpose) = purpose else {
            let (workload, cause) = (Some(workload), GiveBackCause::OptedOut);
            let action = Action::GiveBackRoutes { host, workload, cause };
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
        let action = Action::SetRoutes {
            host,
            workload,
            from: table.clone(),
            to: table,
            first: false,
            purpose,
        };
        Proposal { action, report: ActionReport { expected, why: Why::Route(why) } }
    }

    fn paced(most: u32, proposals: Vec<Proposal>) -> (Vec<String>, Vec<String>) {
        paced_with(most, proposals, &[])
    }

    /// The hosts that are written, in the order of the plan, and those that wait; `refused`
    /// were refused last time, at the millisecond beside them.
    fn paced_with(
        most: u32,
        proposals: Vec<Proposal>,
        refused: &[(usize, u64)],
    ) -> (Vec<String>, Vec<String>) {
        let mut memory = Memory::default();
        for (number, at) in refused {
            let host = format!("h{number}.shop.svc.cluster.local").parse().unwrap();
            let refused_at = Some(Timestamp::from_millis(*at));
            memory.hosts.insert(host, HostMemory { refused_at, ..HostMemory::default() });
        }
        let reports: BTreeMap<_, _> = proposals
            .iter()
            .filter_map(|one| {
                let reason = RouteReason::Changed;
                let report = HostReport {
                    destinations: BTreeMap::new(),
                    delta: 10.0,
                    reason,
                    pressing: false,
                    whole_zones: None,
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
        let mut ledger = Ledger::new(&view, &Remembered::of(&view, &memory));
        let first = pace(&mut ledger, &memory, &mut routed);
        let kept = first.iter().chain(&routed.proposals).filter_map(host);
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
        assert_eq!((kept, waits), (vec!["h1".into(), "h2".into(), "h3".into()], vec!["h0".into()]));
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
        assert_eq!(kept, ["h3", "h2"]);
    }

    #[test]
    fn what_must_not_wait_is_done_first_in_the_order_of_hosts() {
        let all = vec![
            proposal(0, Some(RoutePurpose::Improve), 100.0),
            proposal(1, Some(RoutePurpose::Cover), 0.0),
            proposal(2, Some(RoutePurpose::Undo), 0.0),
            proposal(3, None, 0.0),
        ];
        let (kept, _) = paced(9, all);
        assert_eq!(kept, ["h1", "h3", "h2", "h0"]);
    }

    #[test]
    fn what_is_refused_again_and_again_takes_no_write_from_others() {
        let all = || {
            let improve = |(number, gain)| proposal(number, Some(RoutePurpose::Improve), gain);
            let mut all: Vec<_> =
                [9.0, 8.0, 1.0, 2.0].into_iter().enumerate().map(improve).collect();
            all.push(proposal(4, None, 0.0));
            all
        };
        let (kept, _) = paced(3, all());
        assert_eq!(kept, ["h4", "h0", "h1"]);
        // The two that save most and the rule that is to go were refused.
        let refused = [(0, 7), (1, 5), (4, 7)];
        let (kept, waits) = paced_with(3, all(), &refused);
        assert_eq!(
            kept,
            ["h4", "h1", "h2", "h3"],
            "the one that was tried longest ago is tried again"
        );
        assert_eq!(waits, ["h0"]);
        let (kept, _) = paced_with(2, all(), &refused);
        assert_eq!(kept, ["h4", "h2", "h3"]);
    }
}
