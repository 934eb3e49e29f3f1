//! `netmarks`: each replica goes to the feasible node with most traffic between its
//! service and the replicas that already run there.
//!
//! Source: NetMARKS, a scheduler extension fed by mesh metrics (INFOCOM 2021). Ties go
//! to the node of which least is requested, as the scheduler's other scores have it.
//! Known weaknesses: counts traffic on the same node only, blind to the distance of
//! other nodes and zones; fills nodes, so that replicas of one service end up together
//! and a zone loss takes many of them.

use std::cmp::Reverse;

use super::placement::{Assignment, End, Layout, Problem};

/// Places every replica, service after service.
#[must_use]
pub fn place(problem: &Problem) -> Assignment {
    let mut layout = Layout::new(problem);
    for (service, demand) in problem.demands.iter().enumerate() {
        for _ in 0..demand.replicas {
            layout.put_on_least(service, |layout, site| {
                let pull = pull(problem, layout, service, site);
                (Reverse(Total(pull)), Total(layout.requested(site)))
            });
        }
    }
    layout.assignment()
}

/// Requests per second between one replica of `service` and what runs on `site`, if
/// calls are spread over replicas.
fn pull(problem: &Problem, layout: &Layout<'_>, service: usize, site: usize) -> f64 {
    let there = |end: End| match end {
        End::Site(at) => f64::from(u8::from(at == site)),
        End::Service(other) => {
            let all = problem.demands[other].replicas.max(1);
            f64::from(layout.counts[other][site]) / f64::from(all)
        }
    };
    problem
        .traffic
        .iter()
        .map(|traffic| {
            if traffic.to == service {
                traffic.rate * there(traffic.from)
            } else if traffic.from == End::Service(service) {
                traffic.rate * there(End::Service(traffic.to))
            } else {
                0.0
            }
        })
        .sum()
}

/// A float in its total order.
#[derive(PartialEq)]
struct Total(f64);

impl PartialOrd for Total {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.0.total_cmp(&other.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::placement::{
        End, Traffic,
        tests::{on, problem},
    };

    #[test]
    fn follows_traffic_onto_the_same_node_until_it_is_full() {
        let traffic = vec![
            Traffic { from: End::Site(2), to: 0, rate: 100.0 },
            Traffic { from: End::Service(0), to: 1, rate: 50.0 },
        ];
        let problem = problem(&[("web", 2, 400), ("api", 1, 200), ("job", 1, 400)], traffic);
        let assignment = super::place(&problem);
        assert_eq!(on(&assignment, "web"), [("b-1".to_owned(), 2)]);
        assert_eq!(on(&assignment, "api"), [("b-1".to_owned(), 1)]);
        assert_eq!(on(&assignment, "job"), [("a-1".to_owned(), 1)]);
    }
}
