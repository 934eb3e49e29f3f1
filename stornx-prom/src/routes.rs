//! From a caller's and a callee's view to routes between zones, as decision 0012 says.
//!
//! Assumes that callers choose as the rule in force says, else as the mesh does without
//! one; what was measured corrects that, also where it contradicts: a zone to which neither
//! sends anything is believed to get nothing only as long as that can be (locality failover
//! and rules of others send elsewhere). Where only one side reports, the other is
//! assumed: callers alike over their replicas, callees as the start has them.

use std::collections::BTreeMap;

use stornx_core::{
    decide::effective_weight,
    ids::ZoneName,
    model::{DefaultSplit, Edge, Latency, Protocol, RouteTable, RouteTraffic},
    units::{BytesPerSecond, Millis, Rps, Share},
};

use crate::{
    fit::Table,
    places::{Places, ZonePlace},
    sums::{Column, EdgeKey, Flows},
};

/// Bytes, both directions together, that count as one exchange over a plain connection.
/// The mesh counts bytes there and no requests. It is the simulator's figure, with which
/// the settings of the planner were found; a planner that is given no requests takes a
/// figure of its own (10,000), which only matters where nobody estimates.
pub(crate) const BYTES_PER_TCP_EXCHANGE: f64 = 1000.0;

/// A route with fewer requests per second than this has none: one in eleven days.
const LEAST_RATE: f64 = 1e-6;

/// The part of an edge's traffic that the zeros of the start may leave unexplained, before
/// they are not believed: a thousandth is the noise of a rate over a million requests.
const BELIEVED: f64 = 1e-3;

/// What is put in place of zeros that are not believed, as a part of a caller zone's
/// traffic: little enough to take only what nothing else explains.
const FLOOR: f64 = 1e-3;

/// What both sides say about one edge.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EdgeView<'a> {
    /// Requests and errors by zone of the caller.
    pub(crate) sent: Option<&'a Flows>,
    /// Bytes of requests and responses by zone of the caller.
    pub(crate) bytes: Option<&'a Flows>,
    /// By zone of the callee.
    pub(crate) served: Option<&'a [Column]>,
    /// Bytes over plain connections, to the callee and back, by zone of the caller.
    pub(crate) tcp_sent: Option<&'a Flows>,
    /// The same by zone of the callee.
    pub(crate) tcp_served: Option<&'a [Column]>,
}

/// An edge, and how well the cluster explains it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) edge: Edge,
    /// The part of it, 0 to 1, that goes to zones where neither the rule in force nor the
    /// default of the mesh sends it.
    pub(crate) unexplained: f64,
}

/// The routes of one protocol.
#[derive(Debug, Default)]
struct Routes {
    routes: Vec<RouteTraffic>,
    unexplained: f64,
}

/// The edge; none when it carries nothing, or nobody knows where its callers are.
pub(crate) fn edge(
    places: &Places<'_>,
    latency: Option<&Latency>,
    key: EdgeKey,
    view: &EdgeView<'_>,
) -> Option<Found> {
    let http = http_routes(places, latency, key, view);
    let tcp = tcp_routes(places, key, view);
    let unexplained = http.unexplained.max(tcp.unexplained);
    let (protocol, routes) = match (http.routes.is_empty(), tcp.routes.is_empty()) {
        (true, true) => return None,
        (true, false) => (Protocol::Tcp, tcp.routes),
        // One host may have both kinds of port. Requests say more: bytes are added.
        (false, _) => (Protocol::Http, with_bytes(http.routes, &tcp.routes)),
    };
    let edge = Edge {
        caller: places.workloads[key.caller].id.clone(),
        callee: places.workloads[key.callee].id.clone(),
        host: places.hosts[key.host].name.clone(),
        protocol,
        routes,
    };
    Some(Found { edge, unexplained })
}

fn http_routes(
    places: &Places<'_>,
    latency: Option<&Latency>,
    key: EdgeKey,
    view: &EdgeView<'_>,
) -> Routes {
    let zones = places.zones.len();
    let rows = placed(places, key.caller, view.sent);
    let columns = view.served.unwrap_or_default();
    let column_rates: Vec<f64> = columns.iter().map(|column| column.sums[0]).collect();
    let Some((table, unexplained)) = estimate(places, key, &rate_of(&rows, 0), &column_rates)
    else {
        return Routes::default();
    };
    let bytes = placed(places, key.caller, view.bytes);
    let callee_errors = |to: usize| match columns.get(to) {
        Some(column) if column.sums[0] > 0.0 => (column.sums[1] / column.sums[0]).min(1.0),
        _ => 0.0,
    };
    let mut routes = Vec::new();
    for from in 0..zones {
        let sum = table.row_sum(from);
        if sum < LEAST_RATE {
            continue;
        }
        let errors = RowErrors::of(&table, from, sum, &rows, &callee_errors);
        for to in 0..zones {
            let rate = table.get(from, to);
            if rate < LEAST_RATE {
                continue;
            }
            let part = |which: usize| {
                BytesPerSecond::saturating(bytes.get(from).map_or(0.0, |b| b[which]) * rate / sum)
            };
            routes.push(RouteTraffic {
                from: places.zones[from].name.clone(),
                to: places.zones[to].name.clone(),
                requests: Rps::saturating(rate),
                request_bytes: part(0),
                response_bytes: part(1),
                p95: columns
                    .get(to)
                    .and_then(Column::p95)
                    .map(|p95| Millis::saturating(p95 + round_trip(places, latency, from, to))),
                errors: Share::saturating(errors.share(callee_errors(to))),
            });
        }
    }
    Routes { routes, unexplained }
}

/// How what callees say of failures becomes what the callers of one zone see.
struct RowErrors {
    factor: f64,
    unseen: f64,
}

impl RowErrors {
    /// Failures that no callee saw are spread over the requests of the callers that saw
    /// them. Where callees saw more (a retry hid them), theirs are scaled down.
    fn of(
        table: &Table,
        from: usize,
        sum: f64,
        rows: &[[f64; 2]],
        callee: &impl Fn(usize) -> f64,
    ) -> Self {
        let by_callees: f64 = (0..table.zones()).map(|to| table.get(from, to) * callee(to)).sum();
        match rows.get(from) {
            Some([requests, errors]) if *requests > 0.0 => {
                if *errors >= by_callees {
                    Self { factor: 1.0, unseen: (errors - by_callees) / sum }
                } else {
                    Self { factor: errors / by_callees, unseen: 0.0 }
                }
            }
            _ => Self { factor: 1.0, unseen: 0.0 },
        }
    }

    fn share(&self, callee: f64) -> f64 {
        callee * self.factor + self.unseen
    }
}

fn tcp_routes(places: &Places<'_>, key: EdgeKey, view: &EdgeView<'_>) -> Routes {
    let zones = places.zones.len();
    let rows = placed(places, key.caller, view.tcp_sent);
    let columns = view.tcp_served.unwrap_or_default();
    let both = |sums: &[f64; 2]| sums[0] + sums[1];
    let row_bytes: Vec<f64> = rows.iter().map(both).collect();
    let column_bytes: Vec<f64> = columns.iter().map(|column| both(&column.sums)).collect();
    let Some((table, unexplained)) = estimate(places, key, &row_bytes, &column_bytes) else {
        return Routes::default();
    };
    let mut routes = Vec::new();
    for from in 0..zones {
        for to in 0..zones {
            let bytes = table.get(from, to);
            let requests = bytes / BYTES_PER_TCP_EXCHANGE;
            if requests < LEAST_RATE {
                continue;
            }
            let one_way = |sums: &[f64; 2]| (both(sums) > 0.0).then(|| sums[0] / both(sums));
            let there = rows.get(from).and_then(one_way);
            let there = there.or_else(|| columns.get(to).and_then(|c| one_way(&c.sums)));
            let request_bytes = bytes * there.unwrap_or(0.5);
            routes.push(RouteTraffic {
                from: places.zones[from].name.clone(),
                to: places.zones[to].name.clone(),
                requests: Rps::saturating(requests),
                request_bytes: BytesPerSecond::saturating(request_bytes),
                response_bytes: BytesPerSecond::saturating(bytes - request_bytes),
                p95: None,
                errors: Share::ZERO,
            });
        }
    }
    Routes { routes, unexplained }
}

fn with_bytes(mut http: Vec<RouteTraffic>, tcp: &[RouteTraffic]) -> Vec<RouteTraffic> {
    for more in tcp {
        match http.iter_mut().find(|route| route.from == more.from && route.to == more.to) {
            Some(route) => {
                route.request_bytes += more.request_bytes;
                route.response_bytes += more.response_bytes;
            }
            None => http.push(RouteTraffic { requests: Rps::ZERO, ..more.clone() }),
        }
    }
    http
}

fn rate_of(rows: &[[f64; 2]], which: usize) -> Vec<f64> {
    rows.iter().map(|row| row[which]).collect()
}

/// Sums by zone of the caller; what has no zone is spread over the caller's replicas.
/// Empty when nothing is known.
fn placed(places: &Places<'_>, caller: usize, flows: Option<&Flows>) -> Vec<[f64; 2]> {
    let Some(flows) = flows else { return Vec::new() };
    let mut zones = flows.zones.clone();
    if flows.unplaced.iter().any(|sum| *sum > 0.0)
        && let Some(spread) = places.spread(caller)
    {
        for (sums, share) in zones.iter_mut().zip(spread) {
            for (sum, unplaced) in sums.iter_mut().zip(flows.unplaced) {
                *sum += unplaced * share;
            }
        }
    }
    zones
}

/// The table of an edge from the sums of its rows and columns, either of which may be
/// unknown (no entries, or nothing but zeros), and the part of it that the start does not
/// explain. `None` when there is nothing, or when nobody knows where the callers are.
fn estimate(
    places: &Places<'_>,
    key: EdgeKey,
    rows: &[f64],
    columns: &[f64],
) -> Option<(Table, f64)> {
    let (sent, served): (f64, f64) = (rows.iter().sum(), columns.iter().sum());
    let rows: Vec<f64> = match (sent > 0.0, served > 0.0) {
        (true, _) => rows.to_vec(),
        // The callers' proxies say nothing: all callers are taken to be alike.
        (false, true) => places.spread(key.caller)?.iter().map(|share| share * served).collect(),
        (false, false) => return None,
    };
    let total: f64 = rows.iter().sum();
    let columns: Option<Vec<f64>> =
        (served > 0.0).then(|| columns.iter().map(|column| column * total / served).collect());
    let start = start(places, key, &rows, columns.as_deref());
    let mut table = start.clone();
    let Some(columns) = columns else {
        table.scale_rows(&rows);
        return Some((table, 0.0));
    };
    let unexplained = table.fit(&rows, &columns) / total;
    if unexplained > BELIEVED {
        table = start;
        fill(&mut table, &rows, &places.workloads[key.callee].ready);
        table.fit(&rows, &columns);
    }
    Some((table, unexplained))
}

/// Opens a way from every zone of callers to every zone with ready callees.
fn fill(table: &mut Table, rows: &[f64], ready: &[f64]) {
    let replicas: f64 = ready.iter().sum();
    for (from, rate) in rows.iter().enumerate() {
        for (cell, ready) in table.row_mut(from).iter_mut().zip(ready) {
            if *ready > 0.0 {
                *cell = cell.max(FLOOR * rate * ready / replicas);
            }
        }
    }
}

/// How callers choose, as far as the cluster says: the weights in force, else what the
/// mesh does without. Where that contradicts what was measured (a rule or an endpoint
/// changed within the window), what was measured opens the way.
fn start(places: &Places<'_>, key: EdgeKey, rows: &[f64], columns: Option<&[f64]>) -> Table {
    let mut table = Table::new(places.zones.len());
    for (from, rate) in rows.iter().enumerate().filter(|(_, rate)| **rate > 0.0) {
        let share = chosen(places, key, from);
        for (cell, share) in table.row_mut(from).iter_mut().zip(share) {
            *cell = share * rate;
        }
    }
    let Some(columns) = columns else { return table };
    let total: f64 = columns.iter().sum();
    for (to, column) in columns.iter().enumerate() {
        if *column > 0.0 && table.column_sum(to) <= 0.0 {
            for (from, rate) in rows.iter().enumerate() {
                table.row_mut(from)[to] = rate * column / total;
            }
        }
    }
    table
}

/// The shares of destination zones for callers of one zone; sums to 1 unless the callee
/// has no replica anywhere.
fn chosen(places: &Places<'_>, key: EdgeKey, from: usize) -> Vec<f64> {
    let host = &places.hosts[key.host];
    let ready = &places.workloads[key.callee].ready;
    let shares = |weight: &dyn Fn(usize) -> f64| -> Option<Vec<f64>> {
        let weights: Vec<f64> = (0..ready.len()).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        (sum > 0.0).then(|| weights.iter().map(|weight| weight / sum).collect())
    };
    let zones = &places.zones;
    if let Some(table) = host.weights {
        let weights = ruled(table, zones, ready, from);
        // The mesh leaves out zones without endpoints and keeps the ratio of the rest; what a
        // weight comes to in a divided zone is more than it says.
        let groups = &places.workloads[key.callee].groups;
        let named = |to: usize| match ready[to] > 0.0 {
            true => weights[to] * rounded_up(weights[to], &groups[to]),
            false => 0.0,
        };
        if let Some(shares) = shares(&named) {
            return shares;
        }
    }
    if host.default_split == DefaultSplit::OwnZoneFirst {
        let at_home = |to: usize| zones[to].name.domain() == zones[from].name.domain();
        let own = |to: usize| if at_home(to) { ready[to] } else { 0.0 };
        let region =
            |to: usize| if zones[to].region == zones[from].region { ready[to] } else { 0.0 };
        if let Some(shares) = shares(&own).or_else(|| shares(&region)) {
            return shares;
        }
    }
    shares(&|to| ready[to])
        .or_else(|| places.spread(key.callee))
        .unwrap_or_else(|| vec![0.0; ready.len()])
}

/// Weights of a row of the rule in force. Where it is between nodes and zones are asked for, or
/// the other way round: those of the zone together, shared within it by replicas.
fn ruled(table: &RouteTable, zones: &[ZonePlace<'_>], ready: &[f64], from: usize) -> Vec<f64> {
    let domain = |at: usize| zones[at].name.domain();
    let finer = |zone: &ZoneName| zone.node().is_some();
    if table.keys().all(|zone| finer(zone) == finer(zones[from].name)) {
        let row = table.get(zones[from].name);
        let weight = |zone: &ZonePlace<'_>| row.map_or(0.0, |row| f64::from(row.weight(zone.name)));
        return zones.iter().map(weight).collect();
    }
    let rows = table.iter().filter(|(zone, _)| zone.domain() == domain(from));
    let mut by_zone: BTreeMap<&str, f64> = BTreeMap::new();
    for (to, weight) in rows.flat_map(|(_, row)| row.iter()) {
        *by_zone.entry(to.domain()).or_default() += f64::from(weight);
    }
    let share = |to: usize| {
        let all: f64 =
            (0..zones.len()).filter(|at| domain(*at) == domain(to)).map(|at| ready[at]).sum();
        if all > 0.0 { ready[to] / all } else { 0.0 }
    };
    let weight = |to: usize| by_zone.get(domain(to)).copied().unwrap_or(0.0) * share(to);
    (0..zones.len()).map(weight).collect()
}

/// By how much the mesh raises a weight that it splits over the subzones of a zone.
fn rounded_up(weight: f64, groups: &[u32]) -> f64 {
    // Weights of a rule are whole; shares of several rows are not split again.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 1 to 100.
    let whole = weight.clamp(0.0, 100.0) as u8;
    if groups.len() < 2 || whole == 0 || f64::from(whole) < weight {
        return 1.0;
    }
    let parts = u32::try_from(effective_weight(whole, groups)).unwrap_or(u32::MAX);
    f64::from(parts) / weight
}

/// The measured round trip between two zones; nothing where it was not measured.
fn round_trip(places: &Places<'_>, latency: Option<&Latency>, from: usize, to: usize) -> f64 {
    let (from, to) = (places.zones[from].name, places.zones[to].name);
    let pairs = latency.map(|latency| latency.zones.as_slice()).unwrap_or_default();
    let found = pairs.binary_search_by(|pair| (&pair.from, &pair.to).cmp(&(from, to)));
    found.map_or(0.0, |at| pairs[at].rtt.get())
}
