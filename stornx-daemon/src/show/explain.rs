//! Every decision about one workload as text.

use std::{collections::BTreeSet, fmt::Write as _};

use stornx_core::{
    ids::{HostName, WorkloadRef},
    model::{RouteTable, Rule, Snapshot},
    plan::{Action, Planned},
    report::HostReport,
};

use super::{
    table::{Align, table},
    words,
};

/// The whole of `stornx explain`.
pub(crate) fn explain(snapshot: &Snapshot, planned: &Planned, id: &WorkloadRef) -> String {
    let mut text = format!("{id} at {}\n\n", words::instant(planned.plan.at));
    text.push_str(&facts(snapshot, planned, id));
    text.push_str(&neighbours(snapshot, id));
    text.push_str(&actions(planned, id));
    text.push_str(&hosts(snapshot, planned, id));
    text
}

/// What is known about it, and why its count and its places are as they are.
fn facts(snapshot: &Snapshot, planned: &Planned, id: &WorkloadRef) -> String {
    let Some(report) = planned.report.workloads.get(id) else {
        return "Nothing was decided about it.\n\n".to_owned();
    };
    let desired = snapshot.workloads.iter().find(|workload| &workload.id == id);
    let desired = desired.map_or_else(|| words::UNKNOWN.to_owned(), |w| w.desired.to_string());
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<13} {value}");
    };
    line("ready", format!("{} (asked for: {desired})", words::by_zone(&report.ready)));
    line("used", words::percent(report.utilisation));
    line("p95", words::millis(report.p95));
    line("serves", format!("{:.1} requests/s", report.requests.get()));
    line("zone loss", words::zone_loss(&report.zone_loss));
    line("count", words::sentence(&report.scale.to_string()));
    line("places", words::sentence(&report.moves.to_string()));
    if let Some(growth) = &report.growth {
        line("more", words::sentence(&growth.to_string()));
    }
    text.push('\n');
    text
}

/// Who calls it and whom it calls, by rate.
fn neighbours(snapshot: &Snapshot, id: &WorkloadRef) -> String {
    let Some(traffic) = snapshot.traffic.known() else { return String::new() };
    let mut edges: Vec<_> =
        traffic.edges.iter().filter(|edge| &edge.caller == id || &edge.callee == id).collect();
    edges.sort_by(|a, b| b.requests().cmp(&a.requests()).then_with(|| a.host.cmp(&b.host)));
    let rows: Vec<_> = edges
        .into_iter()
        .map(|edge| {
            let (direction, other) = if &edge.caller == id {
                ("calls", &edge.callee)
            } else {
                ("called by", &edge.caller)
            };
            let all = edge.requests().get();
            let crossing: f64 = edge
                .routes
                .iter()
                .filter(|route| route.from != route.to)
                .map(|route| route.requests.get())
                .sum();
            let share = if all > 0.0 {
                format!("{:.0} %", 100.0 * crossing / all)
            } else {
                words::UNKNOWN.to_owned()
            };
            vec![direction.to_owned(), other.to_string(), format!("{all:.1}/s"), share]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = [
        ("", Align::Left),
        ("neighbour", Align::Left),
        ("requests", Align::Right),
        ("across zones", Align::Right),
    ];
    format!("Traffic\n{}\n", table(&columns, rows))
}

/// What is to be done about it, its routes included.
fn actions(planned: &Planned, id: &WorkloadRef) -> String {
    let mut text = String::new();
    let all = planned.plan.actions.iter().zip(&planned.report.actions);
    for (action, reason) in all.filter(|(action, _)| action.workload() == Some(id)) {
        let _ = writeln!(text, "  {action}");
        let _ = writeln!(text, "    because  {}", reason.why);
        let _ = writeln!(text, "    expected {}", words::expected(&reason.expected));
    }
    if text.is_empty() { "No action.\n\n".to_owned() } else { format!("Actions\n{text}\n") }
}

/// The routes of its hosts and of the hosts that it calls.
fn hosts(snapshot: &Snapshot, planned: &Planned, id: &WorkloadRef) -> String {
    let own =
        snapshot.hosts.iter().filter(|host| host.backends.contains(id)).map(|host| &host.name);
    let own: BTreeSet<&HostName> = own.collect();
    let edges =
        snapshot.traffic.known().map(|traffic| traffic.edges.as_slice()).unwrap_or_default();
    let called: BTreeSet<&HostName> = edges
        .iter()
        .filter(|edge| &edge.caller == id && !own.contains(&edge.host))
        .map(|edge| &edge.host)
        .collect();
    let titled = own.iter().map(|name| ("serves", name)).chain(called.iter().map(|n| ("calls", n)));
    let mut text = String::new();
    for (relation, name) in titled {
        if let Some(report) = planned.report.hosts.get(*name) {
            text.push_str(&host(snapshot, planned, relation, name, report));
        }
    }
    text
}

fn host(
    snapshot: &Snapshot,
    planned: &Planned,
    relation: &str,
    name: &HostName,
    report: &HostReport,
) -> String {
    let mut text = format!(
        "Host {name} ({relation})\n  {}; {:.0} points off target\n",
        words::sentence(&report.reason.to_string()),
        report.delta
    );
    let change = planned.plan.actions.iter().find_map(|action| match action {
        Action::SetRoutes { host, from, to, .. } if host == name => Some((from, to)),
        _ => None,
    });
    match change {
        Some((from, to)) => {
            for (caller, after) in to {
                let before =
                    from.get(caller).map_or_else(|| words::UNKNOWN.to_owned(), words::weights);
                let _ =
                    writeln!(text, "  from {caller}: {before} becomes {}", words::weights(after));
            }
        }
        None => {
            for (caller, standing) in standing(snapshot, name).into_iter().flatten() {
                let _ = writeln!(text, "  from {caller}: {}", words::weights(standing));
            }
        }
    }
    if let Some(found) = &report.verification {
        let _ = writeln!(text, "  {}", words::sentence(&found.following.to_string()));
        if let Some(effect) = &found.effect {
            let _ = writeln!(text, "  {}", words::sentence(&effect.to_string()));
        }
    }
    if !report.destinations.is_empty() {
        text.push_str(&destinations(report));
    }
    text.push('\n');
    text
}

/// The weights of ours that stand for a host.
fn standing<'a>(snapshot: &'a Snapshot, name: &HostName) -> Option<&'a RouteTable> {
    let host = snapshot.hosts.iter().find(|host| &host.name == name)?;
    match &host.rule {
        Rule::Ours(routes) => Some(routes),
        Rule::None | Rule::Foreign(_) => None,
    }
}

fn destinations(report: &HostReport) -> String {
    let rows = report
        .destinations
        .iter()
        .map(|(zone, destination)| {
            let known = match destination.capacity_age {
                Some(age) => match destination.capacity_observations {
                    1 => format!("1 observation, {age} ago"),
                    more => format!("{more} observations, the last {age} ago"),
                },
                None => "replica counts alone".to_owned(),
            };
            vec![
                zone.to_string(),
                destination.ready.to_string(),
                format!("{:.1}/s", destination.capacity.get()),
                known,
                words::percent(destination.utilisation_before),
                words::percent(destination.utilisation_after),
                words::millis(destination.p95),
                words::millis(Some(destination.penalty)),
            ]
        })
        .collect();
    let columns = [
        ("zone", Align::Left),
        ("ready", Align::Right),
        ("capacity", Align::Right),
        ("known by", Align::Left),
        ("used", Align::Right),
        ("used then", Align::Right),
        ("p95", Align::Right),
        ("penalty", Align::Right),
    ];
    table(&columns, rows)
}
