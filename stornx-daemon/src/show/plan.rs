//! A plan and its report as text: what was known, what is to be done and why, what is
//! left alone and why.

use std::{collections::BTreeSet, fmt::Write as _};

use stornx_core::{
    ids::{HostName, WorkloadRef},
    plan::{Action, Planned},
    report::{InputReport, Report},
};

use super::{
    table::{Align, table},
    words,
};

/// The whole of `stornx plan`.
pub(crate) fn plan(planned: &Planned) -> String {
    let mut text = format!("Plan for {}\n\n", words::instant(planned.plan.at));
    text.push_str(&inputs(&planned.report.inputs));
    text.push_str(&actions(planned));
    text.push_str(&workloads_left_alone(planned));
    text.push_str(&hosts_left_alone(planned));
    text
}

fn inputs(inputs: &[InputReport]) -> String {
    let row = |input: &InputReport| {
        let or_unknown = |text: Option<String>| text.unwrap_or_else(|| words::UNKNOWN.to_owned());
        vec![
            input.input.to_string(),
            input.state.to_string(),
            or_unknown(input.age.map(|age| age.to_string())),
            or_unknown(input.source.map(|source| source.to_string())),
            input.note.clone(),
        ]
    };
    let columns = [
        ("input", Align::Left),
        ("state", Align::Left),
        ("age", Align::Right),
        ("source", Align::Left),
        ("what follows", Align::Left),
    ];
    format!("What is known\n{}\n", table(&columns, inputs.iter().map(row).collect()))
}

fn actions(planned: &Planned) -> String {
    let actions = &planned.plan.actions;
    let mut text = match actions.len() {
        0 => "Nothing is to be done.\n\n".to_owned(),
        1 => "1 action\n".to_owned(),
        more => format!("{more} actions\n"),
    };
    for (index, action) in actions.iter().enumerate() {
        let _ = writeln!(text, "{:>3}. {action}", index + 1);
        if let Some(reason) = planned.report.actions.get(index) {
            let _ = writeln!(text, "     because  {}", reason.why);
            let _ = writeln!(text, "     expected {}", words::expected(&reason.expected));
        }
        text.push('\n');
    }
    text
}

/// Workloads that no action of the plan scales or moves. A change of routes leaves the
/// workload itself alone.
fn workloads_left_alone(planned: &Planned) -> String {
    let touched: BTreeSet<&WorkloadRef> = planned
        .plan
        .actions
        .iter()
        .filter(|action| host(action).is_none())
        .filter_map(Action::workload)
        .collect();
    let rows: Vec<_> = planned
        .report
        .workloads
        .iter()
        .filter(|(id, _)| !touched.contains(id))
        .map(|(id, workload)| {
            vec![
                id.to_string(),
                words::by_zone(&workload.ready),
                words::percent(workload.utilisation),
                words::millis(workload.p95),
                workload.scale.to_string(),
                workload.moves.to_string(),
            ]
        })
        .collect();
    let columns = [
        ("workload", Align::Left),
        ("ready", Align::Left),
        ("used", Align::Right),
        ("p95", Align::Right),
        ("not scaled, because", Align::Left),
        ("not moved, because", Align::Left),
    ];
    section("Workloads left alone", &columns, rows)
}

fn hosts_left_alone(planned: &Planned) -> String {
    let changed: BTreeSet<&HostName> = planned.plan.actions.iter().filter_map(host).collect();
    let rows = rows_of_hosts(&planned.report, |name| !changed.contains(name));
    let columns = [
        ("host", Align::Left),
        ("off target", Align::Right),
        ("not rerouted, because", Align::Left),
    ];
    section("Hosts left alone", &columns, rows)
}

fn host(action: &Action) -> Option<&HostName> {
    match action {
        Action::SetRoutes { host, .. } | Action::GiveBackRoutes { host, .. } => Some(host),
        _ => None,
    }
}

fn rows_of_hosts(report: &Report, wanted: impl Fn(&HostName) -> bool) -> Vec<Vec<String>> {
    report
        .hosts
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, host)| {
            vec![name.to_string(), format!("{:.0} points", host.delta), host.reason.to_string()]
        })
        .collect()
}

fn section(title: &str, columns: &[(&str, Align)], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() { String::new() } else { format!("{title}\n{}\n", table(columns, rows)) }
}
