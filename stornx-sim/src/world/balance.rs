//! How a caller chooses a replica: the locality first, by the rule that stands, then a
//! replica in it, by what the caller's own proxy has in flight.
//!
//! An endpoint in a zone that the caller's weights do not name is cut off, as with
//! Istio. Weights count among the zones that hold an endpoint.

use stornx_core::{
    ids::ZoneName,
    model::{DefaultSplit, RouteTable},
};

use super::{
    Routing,
    model::Model,
    random::Stream,
    state::{NONE, Phase, World},
};
use crate::scenario::LoadBalancer;

/// How often another choice is tried when a retry falls on the replica that has just
/// failed: Istio's `host_selection_retry_max_attempts`.
const OTHER_CHOICES: u32 = 5;

/// The endpoints of a service, ready for choosing.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    all: Vec<u32>,
    pub(crate) by_zone: Vec<Vec<u32>>,
    by_region: Vec<Vec<u32>>,
    /// By zone of the caller: zones with the sum of weights up to and with each;
    /// `None` where no weights stand for the caller.
    weights: Vec<Option<Vec<(u32, u32)>>>,
}

impl World {
    /// Chooses a replica of `service` for a caller; none when there is none to choose.
    #[inline]
    pub(crate) fn choose(&mut self, service: u32, caller: u32, local: u32, avoid: u32) -> u32 {
        let mut chosen = self.choose_once(service, caller, local);
        if avoid != NONE {
            for _ in 0..OTHER_CHOICES {
                if chosen != avoid {
                    break;
                }
                chosen = self.choose_once(service, caller, local);
            }
        }
        chosen
    }

    #[inline]
    fn choose_once(&mut self, service: u32, caller: u32, local: u32) -> u32 {
        let zones = self.model.zones.len();
        let state = &mut self.services[service as usize];
        let endpoints = &state.endpoints;
        let zone = self.pods[caller as usize].zone as usize;
        let (list, place) = match (&state.routing, &endpoints.weights[zone]) {
            (Routing::Weights(_), Some(weights)) => match pick(weights, &mut state.choice) {
                Some(to) => (&endpoints.by_zone[to], to),
                None => return NONE,
            },
            (routing, _) if own_zone_first(routing, self.scenario.default_split) => {
                let region = self.model.zones[zone].region;
                if !endpoints.by_zone[zone].is_empty() {
                    (&endpoints.by_zone[zone], zone)
                } else if !endpoints.by_region[region].is_empty() {
                    (&endpoints.by_region[region], zones)
                } else {
                    (&endpoints.all, zones)
                }
            }
            _ => (&endpoints.all, zones),
        };
        let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
        match count {
            0 => return NONE,
            1 => return list[0],
            _ => {}
        }
        match self.scenario.network.load_balancer {
            LoadBalancer::LeastRequest => {
                let first = list[state.choice.below(count) as usize];
                let second = list[state.choice.below(count) as usize];
                let outgoing = &self.pods[caller as usize].outgoing[local as usize];
                let load = |pod: u32| outgoing.in_flight(self.pods[pod as usize].ordinal);
                if load(second) < load(first) { second } else { first }
            }
            LoadBalancer::RoundRobin => {
                let outgoing = &mut self.pods[caller as usize].outgoing[local as usize];
                if outgoing.cursor.is_empty() {
                    // Proxies begin at a place of their own.
                    outgoing.cursor = (0..=zones).map(|_| state.choice.below(u32::MAX)).collect();
                }
                let cursor = &mut outgoing.cursor[place];
                *cursor = cursor.wrapping_add(1);
                list[(*cursor % count) as usize]
            }
        }
    }

    /// Makes the endpoints of a service anew from what the API server knows.
    pub(crate) fn publish(&mut self, service: usize) {
        let (zones, regions) = (self.model.zones.len(), self.model.regions.len());
        let mut endpoints = Endpoints {
            all: Vec::new(),
            by_zone: vec![Vec::new(); zones],
            by_region: vec![Vec::new(); regions],
            weights: Vec::new(),
        };
        for &pod in &self.services[service].pods {
            let state = &self.pods[pod as usize];
            if state.phase == Phase::Ready {
                let zone = state.zone as usize;
                endpoints.all.push(pod);
                endpoints.by_zone[zone].push(pod);
                endpoints.by_region[self.model.zones[zone].region].push(pod);
            }
        }
        let state = &mut self.services[service];
        endpoints.weights = weights(&self.model, &state.routing, &endpoints);
        state.endpoints = endpoints;
    }

    /// Puts a rule into force.
    pub(crate) fn route(&mut self, service: usize, routing: Routing) {
        let state = &mut self.services[service];
        state.routing = routing;
        state.endpoints.weights = weights(&self.model, &state.routing, &state.endpoints);
    }
}

/// Whether a caller for whom no weights stand stays in its zone.
fn own_zone_first(routing: &Routing, default: DefaultSplit) -> bool {
    match routing {
        Routing::ByReplicas => false,
        Routing::OwnZoneFirst => true,
        Routing::Weights(_) => default == DefaultSplit::OwnZoneFirst,
    }
}

fn weights(
    model: &Model,
    routing: &Routing,
    endpoints: &Endpoints,
) -> Vec<Option<Vec<(u32, u32)>>> {
    let Routing::Weights(table) = routing else { return vec![None; model.zones.len()] };
    model.zones.iter().map(|zone| caller_weights(model, table, &zone.name, endpoints)).collect()
}

fn caller_weights(
    model: &Model,
    table: &RouteTable,
    caller: &ZoneName,
    endpoints: &Endpoints,
) -> Option<Vec<(u32, u32)>> {
    let distribution = table.get(caller)?;
    let mut sum = 0;
    let mut list = Vec::new();
    for (zone, weight) in distribution.iter() {
        if let Some(zone) = model.zone(zone)
            && !endpoints.by_zone[zone].is_empty()
        {
            sum += u32::from(weight);
            list.push((sum, u32::try_from(zone).unwrap_or(NONE)));
        }
    }
    Some(list)
}

#[inline]
fn pick(weights: &[(u32, u32)], choice: &mut Stream) -> Option<usize> {
    let (sum, last) = *weights.last()?;
    if weights.len() == 1 {
        return Some(last as usize);
    }
    let number = choice.below(sum);
    let found = weights.iter().find(|(up_to, _)| number < *up_to)?;
    Some(found.1 as usize)
}
