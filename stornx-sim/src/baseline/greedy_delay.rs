//! `greedy-delay`: edges by falling traffic; the replicas of both ends of each go to
//! the feasible node where what is placed already is nearest by traffic times delay.
//!
//! Source: the mapping step of TraDE-like schedulers, which map the heaviest edges of
//! the service graph onto the node pairs with least delay.
//! Known weaknesses: greedy, never corrects an early choice; concentrates replicas on
//! few nodes, blind to load and to zone loss.

use super::placement::{Assignment, End, Layout, Problem};

/// Places every replica, heaviest edge first.
#[must_use]
pub fn place(problem: &Problem) -> Assignment {
    let mut layout = Layout::new(problem);
    let mut edges: Vec<_> = problem.traffic.iter().collect();
    edges.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    let by_edges = edges.into_iter().flat_map(|edge| match edge.from {
        End::Service(from) => [Some(from), Some(edge.to)],
        End::Site(_) => [None, Some(edge.to)],
    });
    let without_traffic = (0..problem.demands.len()).map(Some);
    for service in by_edges.chain(without_traffic).flatten() {
        while layout.placed(service) < problem.demands[service].replicas {
            let before = layout.placed(service);
            layout.put_on_least(service, |layout, site| {
                [delay(problem, layout, service, site), layout.requested(site)]
            });
            if layout.placed(service) == before {
                break;
            }
        }
    }
    layout.assignment()
}

/// Traffic times delay from `site` to the replicas of all neighbours placed so far,
/// calls spread evenly over them.
fn delay(problem: &Problem, layout: &Layout<'_>, service: usize, site: usize) -> f64 {
    let mean_rtt = |end: End| match end {
        End::Site(at) => problem.rtt[site][at],
        End::Service(other) => {
            let counts = &layout.counts[other];
            let placed = f64::from(layout.placed(other)).max(1.0);
            let sum: f64 =
                counts.iter().zip(&problem.rtt[site]).map(|(n, ms)| f64::from(*n) * ms).sum();
            sum / placed
        }
    };
    problem
        .traffic
        .iter()
        .map(|traffic| {
            if traffic.to == service {
                traffic.rate * mean_rtt(traffic.from)
            } else if traffic.from == End::Service(service) {
                traffic.rate * mean_rtt(End::Service(traffic.to))
            } else {
                0.0
            }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::super::placement::{
        End, Traffic,
        tests::{on, problem},
    };

    #[test]
    fn heaviest_edges_take_the_nearest_nodes() {
        let traffic = vec![
            Traffic { from: End::Service(0), to: 1, rate: 10.0 },
            Traffic { from: End::Service(1), to: 2, rate: 90.0 },
            Traffic { from: End::Site(3), to: 0, rate: 100.0 },
        ];
        let problem = problem(&[("web", 1, 500), ("api", 1, 500), ("db", 1, 500)], traffic);
        let assignment = super::place(&problem);
        assert_eq!(on(&assignment, "web"), [("b-2".to_owned(), 1)]);
        // The heaviest edge between services has nothing placed beside it yet: api is
        // beside web, its other neighbour; db beside api where it still fits.
        assert_eq!(on(&assignment, "api"), [("b-2".to_owned(), 1)]);
        assert_eq!(on(&assignment, "db"), [("b-1".to_owned(), 1)]);
    }
}
