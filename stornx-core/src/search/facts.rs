//! The unchanging side of a search: the problem in flat tables for fast lookup.

use super::problem::{Problem, Spread};

/// A partner of a service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Partner {
    pub(crate) service: u32,
    /// Share of all traffic.
    pub(crate) traffic: f64,
}

/// What a container asks for, or what a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) cpu: i64,
    pub(crate) memory: i64,
    pub(crate) pods: i64,
}

/// The problem in flat tables.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) services: usize,
    pub(crate) machines: usize,
    pub(crate) zones: usize,
    /// By service.
    pub(crate) asked: Vec<Resources>,
    /// By machine.
    pub(crate) capacity: Vec<Resources>,
    /// By machine.
    pub(crate) zone: Vec<u32>,
    /// By service: 1 / containers (0 without containers).
    pub(crate) share: Vec<f64>,
    /// Partners of all services, one service after the other.
    partners: Vec<Partner>,
    /// By service: where its partners begin; one more at the end.
    first_partner: Vec<u32>,
    /// By service: where its containers begin; one more at the end.
    pub(crate) first_container: Vec<u32>,
    /// By service: bits of the machines it may run on; empty for all.
    compatible: Vec<Vec<u64>>,
    /// By service.
    pub(crate) per_machine: Vec<u32>,
    /// By service.
    pub(crate) spread: Vec<Spread>,
    /// By service.
    pub(crate) pinned: Vec<bool>,
    pub(crate) machine_weight: f64,
    pub(crate) zone_weight: f64,
    /// By service: worth that a move of one of its containers must bring.
    pub(crate) price: Vec<f64>,
    /// Machine of every container today, one service after the other.
    pub(crate) today: Vec<u32>,
    /// Zones held today, by zone and service.
    pub(crate) held: Vec<bool>,
    /// By service, with a spread limit: the largest skew that is allowed.
    pub(crate) skew: Vec<u32>,
}

impl Facts {
    /// Assumes a valid problem.
    pub(crate) fn new(problem: &Problem, price: f64) -> Self {
        let services = problem.services.len();
        let total: f64 = problem.edges.iter().map(|edge| edge.traffic).sum();
        let mut by_service: Vec<Vec<Partner>> = vec![Vec::new(); services];
        for edge in problem.edges.iter().filter(|edge| edge.traffic > 0.0) {
            for (one, other) in [(edge.a, edge.b), (edge.b, edge.a)] {
                let known =
                    by_service[one].iter_mut().find(|known| known.service as usize == other);
                match known {
                    Some(known) => known.traffic += edge.traffic / total,
                    None => by_service[one]
                        .push(Partner { service: other as u32, traffic: edge.traffic / total }),
                }
            }
        }
        let mut today = Vec::new();
        let mut first_container = vec![0];
        for service in &problem.services {
            for (machine, count) in &service.today {
                today.extend(std::iter::repeat_n(*machine as u32, *count as usize));
            }
            first_container.push(today.len() as u32);
        }
        let mut first_partner = vec![0];
        for partners in &by_service {
            first_partner.push(first_partner.last().copied().unwrap_or(0) + partners.len() as u32);
        }
        let zones = problem.zones();
        let mut zone_counts = vec![0u32; zones * services];
        for (s, service) in problem.services.iter().enumerate() {
            for (machine, count) in &service.today {
                zone_counts[problem.machines[*machine].zone * services + s] += count;
            }
        }
        let skew = problem
            .services
            .iter()
            .enumerate()
            .map(|(s, service)| {
                let counts = || (0..zones).map(|zone| zone_counts[zone * services + s]);
                let now = counts().max().unwrap_or(0) - counts().min().unwrap_or(0);
                service.spread.max_skew.map_or(u32::MAX, |limit| limit.max(now))
            })
            .collect();
        Self {
            services,
            machines: problem.machines.len(),
            zones,
            asked: problem
                .services
                .iter()
                .map(|service| Resources {
                    cpu: signed(service.cpu),
                    memory: signed(service.memory),
                    pods: 1,
                })
                .collect(),
            capacity: problem
                .machines
                .iter()
                .map(|machine| Resources {
                    cpu: signed(machine.cpu),
                    memory: signed(machine.memory),
                    pods: i64::from(machine.pods),
                })
                .collect(),
            zone: problem.machines.iter().map(|machine| machine.zone as u32).collect(),
            share: first_container
                .windows(2)
                .map(
                    |ends| if ends[1] > ends[0] { 1.0 / f64::from(ends[1] - ends[0]) } else { 0.0 },
                )
                .collect(),
            partners: by_service.into_iter().flatten().collect(),
            first_partner,
            first_container,
            compatible: problem
                .services
                .iter()
                .map(|service| bits(service.compatible.as_deref(), problem.machines.len()))
                .collect(),
            per_machine: problem
                .services
                .iter()
                .map(|service| service.per_machine.unwrap_or(u32::MAX))
                .collect(),
            spread: problem.services.iter().map(|service| service.spread).collect(),
            pinned: problem.services.iter().map(|service| service.pinned).collect(),
            machine_weight: problem.weights.machine,
            zone_weight: problem.weights.zone,
            price: vec![price; services],
            today,
            held: zone_counts.iter().map(|count| *count > 0).collect(),
            skew,
        }
    }

    pub(crate) fn partners(&self, service: usize) -> &[Partner] {
        let (first, end) = (self.first_partner[service], self.first_partner[service + 1]);
        &self.partners[first as usize..end as usize]
    }

    /// Containers of a service, as positions.
    pub(crate) fn containers(&self, service: usize) -> std::ops::Range<usize> {
        self.first_container[service] as usize..self.first_container[service + 1] as usize
    }

    pub(crate) fn compatible(&self, service: usize, machine: usize) -> bool {
        let bits = &self.compatible[service];
        bits.is_empty() || bits[machine / 64] & (1 << (machine % 64)) != 0
    }
}

/// Far above any real resource, and sums of many still fit.
const MOST: u64 = 1 << 60;

fn signed(units: u64) -> i64 {
    units.min(MOST) as i64
}

fn bits(machines: Option<&[usize]>, len: usize) -> Vec<u64> {
    let Some(machines) = machines else { return Vec::new() };
    let mut bits = vec![0; len.div_ceil(64)];
    for machine in machines {
        bits[machine / 64] |= 1 << (machine % 64);
    }
    bits
}
