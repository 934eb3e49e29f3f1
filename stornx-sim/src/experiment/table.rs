//! Comparisons as tables for people.

use comfy_table::{CellAlignment, Table, presets};

use super::{
    compare::Comparison,
    figures::Figures,
    outcome::{Below, Outcome},
    statistics::Figure,
};

/// Title, accessor, factor, decimals.
type Column = (&'static str, fn(&Figures) -> Figure, f64, usize);

const COLUMNS: [Column; 13] = [
    ("p50 ms", |f| f.p50_ms, 1.0, 1),
    ("p95 ms", |f| f.p95_ms, 1.0, 1),
    ("p99 ms", |f| f.p99_ms, 1.0, 1),
    ("errors %", |f| f.error_share, 100.0, 3),
    ("cross-zone %", |f| f.cross_zone_share, 100.0, 1),
    ("cross-node %", |f| f.cross_node_share, 100.0, 1),
    ("cross-zone GB", |f| f.cross_zone_gb, 1.0, 2),
    ("USD/month", |f| f.usd_per_month, 1.0, 2),
    ("peak zone %", |f| f.peak_zone_utilisation, 100.0, 0),
    ("replica h", |f| f.replica_hours, 1.0, 2),
    ("writes", |f| f.rule_writes, 1.0, 1),
    ("moves", |f| f.moves, 1.0, 1),
    ("scalings", |f| f.scale_actions, 1.0, 1),
];

/// The table of a comparison: a row for each policy, means with half the width of
/// their intervals.
#[must_use]
pub fn comparison(comparison: &Comparison) -> String {
    let recovers = comparison.policies.iter().any(|(_, f)| f.recovery_cycles.is_some());
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut header = vec!["policy"];
    header.extend(COLUMNS.iter().map(|(title, ..)| *title));
    if recovers {
        header.extend(["recovery cycles", "recovered %"]);
    }
    table.set_header(header);
    for (policy, figures) in &comparison.policies {
        let mut row = vec![policy.to_string()];
        row.extend(COLUMNS.iter().map(|(_, figure, factor, decimals)| {
            cell(figure(&figures.figures), *factor, *decimals)
        }));
        if let (Some(cycles), Some(share)) = (figures.recovery_cycles, figures.recovered_share) {
            row.push(cell(cycles, 1.0, 1));
            row.push(format!("{:.0}", share * 100.0));
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let seeds = comparison.seeds.len();
    format!(
        "{}, {seeds} seed(s), mean and 95 % interval\n{}\n",
        comparison.scenario,
        table.trim_fmt()
    )
}

fn cell(figure: Figure, factor: f64, decimals: usize) -> String {
    let half = (figure.high - figure.low) / 2.0 * factor;
    let mean = figure.mean * factor;
    // Intervals that would read as zero say nothing.
    if half < 0.5 * 0.1_f64.powi(i32::try_from(decimals).unwrap_or(0)) {
        format!("{mean:.decimals$}")
    } else {
        format!("{mean:.decimals$} ±{half:.decimals$}")
    }
}

/// The tables of many comparisons, in Markdown: every policy, and what StornX is held to.
#[must_use]
pub fn outcomes(comparisons: &[Comparison], outcomes: &[Outcome]) -> String {
    let mut all = markdown(&["policy"], comparisons.iter().map(|c| format!("`{}`", c.scenario)));
    let policies = comparisons.first().map(|c| c.policies.as_slice()).unwrap_or_default();
    for (at, (policy, _)) in policies.iter().enumerate() {
        let mut row = vec![format!("`{policy}`")];
        row.extend(comparisons.iter().map(|comparison| {
            let figures = &comparison.policies[at].1.figures;
            let failed = match figures.error_share.mean * 100.0 {
                failed if failed < 0.0005 => String::new(),
                failed => format!(" / {failed:.3} % failed"),
            };
            format!(
                "{:.0} / {:.0} / {:.0}{failed}",
                figures.p99_ms.mean,
                figures.cross_zone_share.mean * 100.0,
                figures.total_usd_per_month.mean
            )
        }));
        all.add_row(row);
    }
    let mut held = markdown(
        &[
            "scenario",
            "load",
            "p99 ms",
            "work alone ms",
            "below `random` %",
            "below `failover` %",
            "below `prefer-close` %",
            "across zones %",
            "USD a month",
            "cheapest as quick",
        ],
        [].into_iter(),
    );
    let below = |below: Option<Below>| {
        // Without the sign of a zero.
        let whole = |share: f64| (share * 100.0).round() + 0.0;
        let words = |b: Below| format!("{} of {}", whole(b.by), whole(b.at_most));
        below.map_or("-".to_owned(), words)
    };
    for outcome in outcomes {
        held.add_row(vec![
            format!("`{}`", outcome.scenario),
            if outcome.uneven { "uneven" } else { "even" }.to_owned(),
            format!("{:.1}", outcome.p99_ms),
            format!("{:.1}", outcome.work_alone_p99_ms),
            below(outcome.below_random),
            below(outcome.below_failover),
            below(outcome.below_prefer_close),
            format!("{:.1}", outcome.cross_zone_share * 100.0),
            format!("{:.0}", outcome.usd_per_month),
            outcome.cheapest.map_or("-".to_owned(), |(name, usd)| format!("`{name}` {usd:.0}")),
        ]);
    }
    format!(
        "p99 in ms / calls across zones in % / transfer and replicas in USD a month\n\n{}\n\n\
         StornX: by how much its p99 is below that of others, of how much at most: \
         work alone, without waiting and without a network, takes the rest\n\n{}\n",
        all.trim_fmt(),
        held.trim_fmt()
    )
}

fn markdown(first: &[&str], more: impl Iterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(first.iter().map(|title| (*title).to_owned()).chain(more));
    table
}
