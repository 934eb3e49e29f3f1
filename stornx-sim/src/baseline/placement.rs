//! What the placement baselines share: a problem of services to be put onto nodes
//! with known traffic, and the bookkeeping of what is full. Feasible is a node with
//! enough CPU, memory and pod slots, and without another replica where only one per
//! node is allowed; when nothing is feasible a replica stays without a node.

use std::collections::BTreeMap;

use stornx_core::{
    ids::{NodeName, ZoneName},
    units::Resources,
};

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Name.
    pub name: NodeName,
    /// Zone.
    pub zone: ZoneName,
    /// What pods may ask for.
    pub allocatable: Resources,
    /// How many pods it takes.
    pub pods: u32,
}

/// A service whose replicas are to be placed.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// Name.
    pub service: String,
    /// How many replicas.
    pub replicas: u32,
    /// What one of them asks for.
    pub requests: Resources,
    /// At most one replica per node.
    pub one_per_node: bool,
}

/// One end of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All replicas of a service, alike.
    Service(usize),
    /// A fixed place outside the problem (where load enters).
    Site(usize),
}

/// Traffic between two ends, in requests per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// Who calls.
    pub from: End,
    /// Who is called: a service.
    pub to: usize,
    /// How often.
    pub rate: f64,
}

/// A placement problem.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Problem {
    /// Nodes.
    pub sites: Vec<Site>,
    /// Round-trip time in ms by pair of nodes.
    pub rtt: Vec<Vec<f64>>,
    /// Services.
    pub demands: Vec<Demand>,
    /// Traffic.
    pub traffic: Vec<Traffic>,
}

/// Replicas of each service by node.
pub type Assignment = BTreeMap<String, BTreeMap<NodeName, u32>>;

/// What is placed so far.
#[derive(Debug, Clone)]
pub(crate) struct Layout<'a> {
    problem: &'a Problem,
    /// Replicas by service and site.
    pub(crate) counts: Vec<Vec<u32>>,
    used: Vec<Resources>,
}

impl<'a> Layout<'a> {
    pub(crate) fn new(problem: &'a Problem) -> Self {
        Self {
            problem,
            counts: vec![vec![0; problem.sites.len()]; problem.demands.len()],
            used: vec![Resources::default(); problem.sites.len()],
        }
    }

    pub(crate) fn feasible(&self, service: usize, site: usize) -> bool {
        let (demand, at) = (&self.problem.demands[service], &self.problem.sites[site]);
        let pods: u32 = self.counts.iter().map(|counts| counts[site]).sum();
        demand.requests.fits(&at.allocatable.saturating_sub(self.used[site]))
            && pods < at.pods
            && !(demand.one_per_node && self.counts[service][site] > 0)
    }

    /// Places one replica on the feasible site with the least key (ties: the first).
    pub(crate) fn put_on_least<K: PartialOrd>(
        &mut self,
        service: usize,
        mut key: impl FnMut(&Self, usize) -> K,
    ) {
        let mut best: Option<(usize, K)> = None;
        for site in (0..self.problem.sites.len()).filter(|site| self.feasible(service, *site)) {
            let candidate = key(self, site);
            if best.as_ref().is_none_or(|(_, best)| candidate < *best) {
                best = Some((site, candidate));
            }
        }
        if let Some((site, _)) = best {
            self.counts[service][site] += 1;
            self.used[site] = self.used[site] + self.problem.demands[service].requests;
        }
    }

    /// Replicas of a service placed so far.
    pub(crate) fn placed(&self, service: usize) -> u32 {
        self.counts[service].iter().sum()
    }

    /// The requested share of a site, the mean of CPU and memory, 0 to 1.
    pub(crate) fn requested(&self, site: usize) -> f64 {
        let (used, of) = (self.used[site], self.problem.sites[site].allocatable);
        let share = |used: f64, of: f64| if of > 0.0 { used / of } else { 1.0 };
        f64::midpoint(
            share(used.cpu.as_f64(), of.cpu.as_f64()),
            share(used.memory.as_f64(), of.memory.as_f64()),
        )
    }

    pub(crate) fn assignment(self) -> Assignment {
        let sites = &self.problem.sites;
        self.problem
            .demands
            .iter()
            .zip(self.counts)
            .map(|(demand, counts)| {
                let nodes = sites.iter().zip(counts).filter(|(_, count)| *count > 0);
                let nodes = nodes.map(|(site, count)| (site.name.clone(), count)).collect();
                (demand.service.clone(), nodes)
            })
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use stornx_core::units::{Bytes, MilliCpu};

    use super::*;

    fn resources(cpu: u64) -> Resources {
        Resources { cpu: MilliCpu::new(cpu), memory: Bytes::new(cpu) }
    }

    /// Zones a, b with two nodes each (1000m), 0.3 ms inside a zone and 1 ms across.
    pub(crate) fn problem(demands: &[(&str, u32, u64)], traffic: Vec<Traffic>) -> Problem {
        let sites: Vec<Site> = ["a-1", "a-2", "b-1", "b-2"]
            .into_iter()
            .map(|name| Site {
                name: name.parse().unwrap(),
                zone: name[..1].parse().unwrap(),
                allocatable: resources(1000),
                pods: 110,
            })
            .collect();
        let rtt = sites
            .iter()
            .map(|x| {
                let ms = |y: &Site| match (x.name == y.name, x.zone == y.zone) {
                    (true, _) => 0.05,
                    (_, true) => 0.3,
                    _ => 1.0,
                };
                sites.iter().map(ms).collect()
            })
            .collect();
        let demands = demands
            .iter()
            .map(|(service, replicas, cpu)| Demand {
                service: (*service).to_owned(),
                replicas: *replicas,
                requests: resources(*cpu),
                one_per_node: false,
            })
            .collect();
        Problem { sites, rtt, demands, traffic }
    }

    pub(crate) fn on(assignment: &Assignment, service: &str) -> Vec<(String, u32)> {
        assignment[service].iter().map(|(node, count)| (node.to_string(), *count)).collect()
    }

    #[test]
    fn what_does_not_fit_stays_without_a_node() {
        let problem = problem(&[("big", 5, 800)], Vec::new());
        let mut layout = Layout::new(&problem);
        for _ in 0..5 {
            layout.put_on_least(0, |_, site| site);
        }
        assert_eq!(layout.placed(0), 4);
        let assignment = layout.assignment();
        assert_eq!(on(&assignment, "big").len(), 4);
    }
}
