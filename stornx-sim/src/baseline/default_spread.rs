//! `default-spread`: what the scheduler of Kubernetes does without further settings:
//! replicas of one service apart, first by zone, then by node, then onto the node of
//! which least is requested.
//!
//! Source: the default constraints of PodTopologySpread and the least-allocated score
//! of kube-scheduler, taken in that order (their weights let spread win in all but
//! crowded clusters).
//! Known weaknesses: knows nothing of traffic.

use super::placement::{Assignment, Layout, Problem};

/// Places every replica, service after service.
#[must_use]
pub fn place(problem: &Problem) -> Assignment {
    let mut layout = Layout::new(problem);
    for (service, demand) in problem.demands.iter().enumerate() {
        for _ in 0..demand.replicas {
            layout.put_on_least(service, |layout, site| {
                let zone = &problem.sites[site].zone;
                let own = &layout.counts[service];
                let in_zone: u32 = problem
                    .sites
                    .iter()
                    .zip(own)
                    .filter(|(other, _)| other.zone == *zone)
                    .map(|(_, count)| *count)
                    .sum();
                (in_zone, own[site], layout.requested(site))
            });
        }
    }
    layout.assignment()
}

#[cfg(test)]
mod tests {
    use super::super::placement::tests::{on, problem};

    #[test]
    fn spreads_over_zones_then_nodes_then_load() {
        let problem = problem(&[("web", 3, 100), ("api", 2, 100)], Vec::new());
        let assignment = super::place(&problem);
        let web = [("a-1", 1), ("a-2", 1), ("b-1", 1)].map(|(n, c)| (n.to_owned(), c));
        assert_eq!(on(&assignment, "web"), web);
        // b-2 is empty, both nodes of a are used alike.
        let api = [("a-1", 1), ("b-2", 1)].map(|(n, c)| (n.to_owned(), c));
        assert_eq!(on(&assignment, "api"), api);
    }
}
