//! The edges of the service graph with both ends known. Their routes lie in one list, one
//! edge after the other: nearly every room walks through them, most of the times only for who
//! sends how much where.

use std::ops::Range;

use super::{EdgeIndex, HostIndex, Seen, View, WorkloadIndex, ZoneIndex};
use crate::{
    ids::{WorkloadRef, ZoneName},
    model::Edge,
    units::Millis,
};

/// A route of an edge with zones as indices.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RouteView {
    pub(crate) from: ZoneIndex,
    pub(crate) to: ZoneIndex,
    /// Requests per second.
    pub(crate) requests: f64,
    /// Bytes per second, both directions.
    pub(crate) bytes: f64,
}

/// An edge with both ends known.
pub(crate) struct EdgeView {
    pub(crate) caller: WorkloadIndex,
    pub(crate) callee: WorkloadIndex,
    /// The host called, when the snapshot defines it.
    pub(crate) host: Option<HostIndex>,
    /// Requests per second over all routes.
    pub(crate) requests: f64,
    /// Bytes per second over all routes, both directions.
    pub(crate) bytes: f64,
    /// What its callers see, over all routes.
    pub(crate) seen: Seen,
    /// Where its routes are.
    routes: (u32, u32),
}

impl EdgeView {
    const fn range(&self) -> Range<usize> {
        self.routes.0 as usize..self.routes.1 as usize
    }
}

impl View<'_> {
    /// The routes of an edge.
    pub(crate) fn routes(&self, edge: &EdgeView) -> &[RouteView] {
        &self.routes[edge.range()]
    }

    /// The same with the p95 of the answers in milliseconds, where it is known.
    pub(crate) fn timed_routes(
        &self,
        edge: &EdgeView,
    ) -> impl Iterator<Item = (&RouteView, Option<f64>)> {
        let p95s = self.p95s[edge.range()].iter().copied();
        self.routes(edge).iter().zip(p95s)
    }

    pub(super) fn join_edges(&mut self) {
        let Some(traffic) = self.snapshot.traffic.fresh() else { return };
        let routes = traffic.edges.iter().map(|edge| edge.routes.len()).sum();
        self.routes.reserve_exact(routes);
        self.p95s.reserve_exact(routes);
        self.edges.reserve_exact(traffic.edges.len());
        let mut last: Option<(&WorkloadRef, Option<WorkloadIndex>)> = None;
        for edge in &traffic.edges {
            // Edges come by their callers.
            let caller = match last {
                Some((id, found)) if *id == edge.caller => found,
                _ => self.workload(&edge.caller),
            };
            last = Some((&edge.caller, caller));
            let host = self.host(&edge.host);
            let (Some(caller), Some(callee)) = (caller, self.callee(edge, host)) else {
                continue;
            };
            let from = self.routes.len();
            self.join_routes(edge);
            let routes = &self.routes[from..];
            self.edges.push(EdgeView {
                caller,
                callee,
                host,
                requests: routes.iter().map(|route| route.requests).sum(),
                bytes: routes.iter().map(|route| route.bytes).sum(),
                seen: Seen::of(edge),
                routes: (position(from), position(self.routes.len())),
            });
        }
        self.join_ends();
    }

    /// Who is called is nearly always the one behind the host.
    fn callee(&self, edge: &Edge, host: Option<HostIndex>) -> Option<WorkloadIndex> {
        let behind = host.and_then(|host| self.hosts[host.at()].workload);
        behind
            .filter(|at| self.workloads[at.at()].workload.id == edge.callee)
            .or_else(|| self.workload(&edge.callee))
    }

    /// Routes come in the order of their zones: where the next one should be is tried first.
    fn join_routes(&mut self, edge: &Edge) {
        let (mut from_guess, mut to_guess) = (0, 0);
        for route in &edge.routes {
            let from = self.zone_at(from_guess, &route.from);
            let to = self.zone_at(to_guess, &route.to);
            let (Some(from), Some(to)) = (from, to) else { continue };
            to_guess = to.at() + 1;
            from_guess = from.at();
            if to_guess == self.zones.len() {
                (from_guess, to_guess) = (from_guess + 1, 0);
            }
            self.p95s.push(route.p95.map(Millis::get));
            self.routes.push(RouteView {
                from,
                to,
                requests: route.requests.get(),
                bytes: (route.request_bytes + route.response_bytes).get(),
            });
        }
    }

    fn zone_at(&self, guess: usize, name: &ZoneName) -> Option<ZoneIndex> {
        match self.zones.get(guess) {
            Some(zone) if zone.name == name => Some(ZoneIndex::new(guess)),
            _ => self.zone(name),
        }
    }

    /// Tells both ends and the host of each edge.
    fn join_ends(&mut self) {
        let mut calls = vec![0_u32; self.workloads.len()];
        let mut called_by = vec![0_u32; self.workloads.len()];
        let mut called = vec![0_u32; self.hosts.len()];
        for edge in &self.edges {
            calls[edge.caller.at()] += 1;
            called_by[edge.callee.at()] += 1;
            if let Some(host) = edge.host {
                called[host.at()] += 1;
            }
        }
        for ((workload, calls), called_by) in self.workloads.iter_mut().zip(calls).zip(called_by) {
            workload.calls.reserve_exact(calls as usize);
            workload.called_by.reserve_exact(called_by as usize);
        }
        for (host, called) in self.hosts.iter_mut().zip(called) {
            host.edges.reserve_exact(called as usize);
        }
        for (at, edge) in self.edges.iter().enumerate() {
            let at = EdgeIndex::new(at);
            self.workloads[edge.caller.at()].calls.push(at);
            self.workloads[edge.callee.at()].called_by.push(at);
            if let Some(host) = edge.host {
                self.hosts[host.at()].edges.push(at);
            }
        }
    }
}

/// A place in the list of routes.
#[allow(clippy::cast_possible_truncation)] // Lists stay far below 2^32.
const fn position(at: usize) -> u32 {
    at as u32
}
