//! Does the mesh do what was written?
//!
//! For each caller zone the requests that were counted on each route are held against
//! what its weights come to. Nothing is said before the window of the metrics lies wholly
//! after the last write, nor while replicas come and go: their share changes within the
//! window. A difference that the counts and [`SLACK`] do not explain has to be seen in
//! two windows: endpoints that callers take out for a moment are no news.
//!
//! Only says; decides nothing. A mesh that does not follow is a reason for somebody to
//! look, and none to leave a zone unnamed or a full one full.
//!
//! Where routes are put together from what callers sent and what replicas served (as from
//! the metrics of Istio, which know no zones), the weights are the first guess of that:
//! then only what contradicts those sums is seen.

use super::{effective::shares_of, rollout, split::Split};
use crate::{
    memory::HostMemory,
    model::PodPhase,
    report::{Following, Unverified},
    units::{Percent, Span},
    view::{HostIndex, View, WorkloadIndex, WorkloadView},
};

/// Percentage points that a route may differ beyond what counts vary by: rates are of
/// several scrapes, and callers that have no proxy, a health check or a retry are in them.
const SLACK: f64 = 5.0;

/// A caller zone with fewer requests in the window tells nothing: 100 requests vary by 10
/// points.
const LEAST_COUNTED: f64 = 100.0;

/// Standard deviations: with a dozen routes looked at every minute, three are exceeded
/// every few hours, and two windows in a row hardly ever.
const DEVIATIONS: f64 = 3.0;

/// Compares what is seen with the weights that stand, `standing`.
pub(crate) fn following(
    view: &View<'_>,
    host: HostIndex,
    workload: WorkloadIndex,
    memory: Option<&HostMemory>,
    standing: &Split,
) -> Following {
    let unverified = |why| Following::Unverified { why };
    if !view.has_traffic {
        return unverified(Unverified::NoTraffic);
    }
    let left = memory.map_or(Span::ZERO, |memory| super::verify::too_early(memory, view));
    if left > Span::ZERO {
        return Following::TooEarly { left };
    }
    if unsettled(view, workload, memory) {
        return unverified(Unverified::Unsettled);
    }
    let Some(worst) = worst(view, host, workload, standing) else {
        return unverified(Unverified::FewRequests);
    };
    if worst.beyond <= 0.0 {
        return Following::AsWritten { off: Percent::saturating(worst.largest) };
    }
    let name = |zone: usize| view.zones[zone].name.clone();
    let (from, to) = (name(worst.from), name(worst.to));
    let (written, seen) = (Percent::saturating(worst.written), Percent::saturating(worst.seen));
    let since = memory.and_then(|memory| memory.astray_since);
    match since.map(|since| view.now.since(since)) {
        Some(since) if since >= super::verify::window(view) => {
            Following::Astray { from, to, written, seen, since }
        }
        _ => Following::Doubtful { from, to, written, seen },
    }
}

/// Remembers since when requests have not fallen as written.
pub(crate) fn remember(view: &View<'_>, following: &Following, kept: &mut HostMemory) {
    match following {
        Following::AsWritten { .. } => kept.astray_since = None,
        Following::Doubtful { .. } | Following::Astray { .. } => {
            kept.astray_since.get_or_insert(view.now);
        }
        // Neither a sign of the one nor of the other.
        Following::TooEarly { .. } | Following::Unverified { .. } => {}
    }
}

/// Whether its replicas changed within the window.
fn unsettled(view: &View<'_>, index: WorkloadIndex, memory: Option<&HostMemory>) -> bool {
    let workload = &view.workloads[index.at()];
    let (from, to) = super::verify::seen_window(view);
    rollout::is_under_way(view, index, memory)
        || workload.pods.iter().any(|pod| {
            let came = pod.pod.ready_since.is_some_and(|since| since > from && since <= to);
            came || pod.pod.phase == PodPhase::Terminating
        })
}

/// The route that is furthest from what its weight comes to.
struct Worst {
    from: usize,
    to: usize,
    /// Percentages.
    written: f64,
    seen: f64,
    /// Percentage points beyond what is allowed; negative when none is.
    beyond: f64,
    /// Largest difference of any route, percentage points.
    largest: f64,
}

fn worst(
    view: &View<'_>,
    host: HostIndex,
    workload: WorkloadIndex,
    standing: &Split,
) -> Option<Worst> {
    let seen = requests(view, host);
    let WorkloadView { ready, groups, .. } = &view.workloads[workload.at()];
    let zones = view.zones.len();
    let window = view.window.as_seconds_f64();
    let mut worst: Option<Worst> = None;
    for from in 0..zones {
        let row = &seen[from * zones..(from + 1) * zones];
        let rate: f64 = row.iter().sum();
        let counted = rate * window;
        if counted < LEAST_COUNTED {
            continue;
        }
        let written = shares_of(standing.row(from), groups, |zone| ready[zone] > 0);
        for (to, written) in written.into_iter().enumerate() {
            let seen = 100.0 * row[to] / rate;
            let deviation = 100.0 * (written * (1.0 - written) / counted).sqrt();
            let written = 100.0 * written;
            let off = (seen - written).abs();
            let beyond = off - SLACK - DEVIATIONS * deviation;
            let largest = worst.as_ref().map_or(0.0, |worst| worst.largest).max(off);
            match &mut worst {
                Some(worst) if beyond <= worst.beyond => worst.largest = largest,
                _ => worst = Some(Worst { from, to, written, seen, beyond, largest }),
            }
        }
    }
    worst
}

/// Requests per second on each route of a host, row-major by caller zone. Connections
/// whose requests nobody counts are left out: weights choose where one is opened, not how
/// much it carries.
fn requests(view: &View<'_>, host: HostIndex) -> Vec<f64> {
    let zones = view.zones.len();
    let mut seen = vec![0.0; zones * zones];
    for edge in &view.hosts[host.at()].edges {
        for route in view.routes(&view.edges[edge.at()]) {
            seen[route.from.at() * zones + route.to.at()] += route.requests;
        }
    }
    seen
}

/// Whether requests still fall as they did before the run began rather than as written:
/// then the run cannot have done anything.
pub(crate) fn as_before(
    view: &View<'_>,
    host: HostIndex,
    workload: WorkloadIndex,
    before: &Split,
    standing: &Split,
) -> bool {
    let seen = requests(view, host);
    let WorkloadView { ready, groups, .. } = &view.workloads[workload.at()];
    let zones = view.zones.len();
    let distance = |split: &Split| -> f64 {
        let of_row = |from: usize| -> f64 {
            let row = &seen[from * zones..(from + 1) * zones];
            let rate: f64 = row.iter().sum();
            let shares = shares_of(split.row(from), groups, |zone| ready[zone] > 0);
            row.iter().zip(shares).map(|(seen, share)| (seen - rate * share).abs()).sum()
        };
        (0..zones).map(of_row).sum()
    };
    distance(before) < distance(standing)
}
