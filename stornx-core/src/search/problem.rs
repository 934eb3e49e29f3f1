//! What a search is given: services, machines, traffic and today's placement, by dense
//! positions. Whole units for resources (milli-CPU and bytes, or any other unit), so
//! that sums are exact and a plan cannot be feasible by rounding.
//!
//! Refuses positions that do not exist, a service with itself as partner, and traffic
//! or weights that are negative or not finite.

use thiserror::Error;

/// Interchangeable containers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    /// CPU that one container asks for.
    pub cpu: u64,
    /// Memory that one container asks for.
    pub memory: u64,
    /// Where its containers run today: (machine, containers).
    pub today: Vec<(usize, u32)>,
    /// Machines on which it may run; `None` for all. Containers that already run
    /// elsewhere may stay.
    pub compatible: Option<Vec<usize>>,
    /// Most containers on one machine. A machine that holds more today may not get
    /// another one.
    pub per_machine: Option<u32>,
    /// How it must stay spread over zones.
    pub spread: Spread,
    /// Its containers may not be moved.
    pub pinned: bool,
}

/// The spread of a service over zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spread {
    /// A zone that holds a container today always holds one.
    pub keep_zones: bool,
    /// Largest difference between the zone with most and the zone with least
    /// containers. Where today's difference is larger it may not grow.
    pub max_skew: Option<u32>,
}

/// A machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// CPU that containers may ask for in total.
    pub cpu: u64,
    /// Memory that containers may ask for in total.
    pub memory: u64,
    /// Most containers.
    pub pods: u32,
    /// Position of its zone.
    pub zone: usize,
}

/// Traffic between two services, without direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    /// Position of one service.
    pub a: usize,
    /// Position of the other.
    pub b: usize,
    /// How much; any unit.
    pub traffic: f64,
}

/// What it is worth that all traffic stays inside machines, or inside zones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Worth of all traffic inside machines.
    pub machine: f64,
    /// Worth of all traffic inside zones.
    pub zone: f64,
}

/// What a search is given.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Services.
    pub services: Vec<Service>,
    /// Machines.
    pub machines: Vec<Machine>,
    /// Traffic.
    pub edges: Vec<Edge>,
    /// Worth of traffic kept close.
    pub weights: Weights,
}

/// Why a problem is refused.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ProblemError {
    /// A position beyond the end of its list.
    #[error("{place}: position {position} given, below {len} is allowed")]
    Position {
        /// Where.
        place: String,
        /// What was given.
        position: usize,
        /// What is allowed.
        len: usize,
    },
    /// A number that is negative or not finite.
    #[error("{place}: {value} given, a finite number of at least 0 is allowed")]
    Number {
        /// Where.
        place: String,
        /// What was given.
        value: f64,
    },
    /// Traffic of a service with itself.
    #[error("edges[{edge}]: service {service} with itself, two services are allowed")]
    SelfTraffic {
        /// Position of the edge.
        edge: usize,
        /// Position of the service.
        service: usize,
    },
    /// More containers than the search can count.
    #[error("services[{service}]: {containers} containers given, at most 65535 are allowed")]
    Containers {
        /// Position of the service.
        service: usize,
        /// What was given.
        containers: u64,
    },
}

impl Problem {
    /// Checks every position and number.
    ///
    /// # Errors
    /// [`ProblemError`], the first one found.
    pub fn validate(&self) -> Result<(), ProblemError> {
        let machines = self.machines.len();
        for (s, service) in self.services.iter().enumerate() {
            let today = service.today.iter().map(|(machine, _)| *machine);
            position(today, machines, || format!("services[{s}].today"))?;
            let compatible = service.compatible.iter().flatten().copied();
            position(compatible, machines, || format!("services[{s}].compatible"))?;
            let containers = service.today.iter().map(|(_, count)| u64::from(*count)).sum();
            if containers > u64::from(u16::MAX) {
                return Err(ProblemError::Containers { service: s, containers });
            }
        }
        for (e, edge) in self.edges.iter().enumerate() {
            let ends = [edge.a, edge.b].into_iter();
            position(ends, self.services.len(), || format!("edges[{e}]"))?;
            if edge.a == edge.b {
                return Err(ProblemError::SelfTraffic { edge: e, service: edge.a });
            }
            number(edge.traffic, || format!("edges[{e}].traffic"))?;
        }
        number(self.weights.machine, || "weights.machine".to_owned())?;
        number(self.weights.zone, || "weights.zone".to_owned())
    }

    /// Zones: one more than the highest position that a machine names.
    #[must_use]
    pub fn zones(&self) -> usize {
        self.machines.iter().map(|machine| machine.zone + 1).max().unwrap_or(0)
    }
}

fn position(
    mut given: impl Iterator<Item = usize>,
    len: usize,
    place: impl Fn() -> String,
) -> Result<(), ProblemError> {
    match given.find(|position| *position >= len) {
        Some(position) => Err(ProblemError::Position { place: place(), position, len }),
        None => Ok(()),
    }
}

fn number(value: f64, place: impl Fn() -> String) -> Result<(), ProblemError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(ProblemError::Number { place: place(), value })
}
