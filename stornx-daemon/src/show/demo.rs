//! The end of a demo: figures before and after side by side, and the actions that were
//! worth most. Says what was measured; judges nothing.

use std::{cmp::Ordering, collections::BTreeMap, fmt::Write as _};

use stornx_core::{
    plan::{Action, ActionKind},
    policy::PricePolicy,
    report::{ActionReport, Expected},
    units::Span,
};

use super::{
    table::{Align, table},
    words,
};

/// How a figure is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Milliseconds.
    Millis,
    /// A share of a whole, 0 to 1, shown as per cent.
    Share,
    /// Bytes, shown in GB.
    Bytes,
    /// US dollars.
    Usd,
    /// A number of things.
    Count,
    /// Hours.
    Hours,
}

/// One line of the comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figure {
    /// What it counts.
    pub(crate) name: &'static str,
    /// How it is written.
    pub(crate) unit: Unit,
    /// Without StornX.
    pub(crate) before: f64,
    /// With it.
    pub(crate) after: f64,
}

/// An action that was carried out, with its reason.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Done {
    /// From the start of the run.
    pub(crate) at: Span,
    /// The action.
    pub(crate) action: Action,
    /// Why it was done and what it was expected to bring.
    pub(crate) reason: ActionReport,
}

/// The figures as a table.
pub(crate) fn figures(figures: &[Figure]) -> String {
    let rows = figures
        .iter()
        .map(|figure| {
            vec![
                figure.name.to_owned(),
                value(figure.unit, figure.before),
                value(figure.unit, figure.after),
                change(figure),
            ]
        })
        .collect();
    let columns = [
        ("", Align::Left),
        ("without", Align::Right),
        ("with StornX", Align::Right),
        ("change", Align::Right),
    ];
    table(&columns, rows)
}

fn value(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Millis => format!("{value:.1} ms"),
        Unit::Share => format!("{:.2} %", 100.0 * value),
        Unit::Bytes => format!("{:.2} GB", value / 1e9),
        Unit::Usd => format!("{value:.2} USD"),
        Unit::Count => format!("{value:.0}"),
        Unit::Hours => format!("{value:.1} h"),
    }
}

/// The change in per cent; of shares in points, of counts nothing (a change from none
/// has no percentage that means anything).
fn change(figure: &Figure) -> String {
    let Figure { unit, before, after, .. } = *figure;
    match unit {
        Unit::Count => String::new(),
        Unit::Share => format!("{:+.2} points", 100.0 * (after - before)),
        _ if before > 0.0 => format!("{:+.0} %", 100.0 * (after - before) / before),
        _ => String::new(),
    }
}

/// The worth of what an action is expected to bring, in request-milliseconds per
/// second: time as it is, money by the price at which decisions weigh it.
fn worth(expected: &Expected, price: &PricePolicy) -> f64 {
    const SECONDS_PER_MONTH: f64 = 730.0 * 3600.0;
    // One dollar per million requests weighs `weight` ms for each of them.
    let ms_per_usd = 1e6 * price.weight.get();
    expected.request_ms_per_second + expected.usd_per_month / SECONDS_PER_MONTH * ms_per_usd
}

/// The actions that were worth most, best first: at most `count`, and of several alike
/// (steps of the same routes, moves of the same workload) only the best. The end of a
/// move is left out: what it brings was said when it began.
pub(crate) fn most_valuable(done: Vec<Done>, price: &PricePolicy, count: usize) -> Vec<Done> {
    let mut best: BTreeMap<(ActionKind, String), (f64, Done)> = BTreeMap::new();
    for done in done {
        if matches!(
            done.action.kind(),
            ActionKind::FinishMove | ActionKind::AbortMove | ActionKind::CloseMove
        ) {
            continue;
        }
        let worth = worth(&done.reason.expected, price);
        let subject = match &done.action {
            Action::SetRoutes { host, .. } | Action::GiveBackRoutes { host, .. } => {
                host.to_string()
            }
            other => other.workload().map(ToString::to_string).unwrap_or_default(),
        };
        let key = (done.action.kind(), subject);
        let better =
            best.get(&key).is_none_or(|(so_far, _)| worth.total_cmp(so_far) == Ordering::Greater);
        if worth > 0.0 && better {
            best.insert(key, (worth, done));
        }
    }
    let mut best: Vec<_> = best.into_iter().collect();
    best.sort_by(|(a, (a_worth, _)), (b, (b_worth, _))| {
        b_worth.total_cmp(a_worth).then_with(|| a.cmp(b))
    });
    best.into_iter().take(count).map(|(_, (_, done))| done).collect()
}

/// Actions with their reasons in plain words.
pub(crate) fn reasons(done: &[Done]) -> String {
    let mut text = String::new();
    for (index, done) in done.iter().enumerate() {
        let minute = done.at.as_millis() / 60_000;
        let _ = writeln!(text, "{:>3}. {}", index + 1, done.reason.why);
        let _ = writeln!(text, "     minute {minute}: {}", short(&done.action));
        let _ = writeln!(text, "     expected: {}", words::expected(&done.reason.expected));
    }
    text
}

/// An action in a few words: the weights of routes fill a line and more.
fn short(action: &Action) -> String {
    match action {
        Action::SetRoutes { host, .. } => format!("new weights for {}", host.service()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use stornx_core::{
        ids::{Namespace, PodName, WorkloadKind, WorkloadRef},
        plan::AbortCause,
        report::{MoveWhy, Why},
    };

    use super::*;

    fn done(name: &str, time: f64, money: f64) -> Done {
        let namespace = Namespace::new("shop").unwrap();
        let workload = WorkloadRef::new(&namespace, WorkloadKind::Deployment, name).unwrap();
        let pod = |suffix: &str| PodName::new(&namespace, &format!("{name}-{suffix}")).unwrap();
        Done {
            at: Span::from_seconds(125),
            action: Action::RemoveReplicas { workload, observed: 2, victims: vec![pod("old")] },
            reason: ActionReport {
                expected: Expected { request_ms_per_second: time, usd_per_month: money },
                why: Why::Move(MoveWhy::GivenUp { cause: AbortCause::TimedOut }),
            },
        }
    }

    #[test]
    fn the_best_of_each_kind_and_subject_comes_first() {
        let all = vec![
            done("a", 5.0, 0.0),
            done("a", 9.0, 0.0),
            done("b", 7.0, 0.0),
            done("c", -3.0, 0.0),
            done("d", 0.0, 0.0),
        ];
        let best = most_valuable(all, &PricePolicy::default(), 3);
        let names: Vec<_> =
            best.iter().map(|done| done.action.workload().unwrap().name()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!((best[0].reason.expected.request_ms_per_second - 9.0).abs() < 1e-9);
    }

    #[test]
    fn money_counts_at_the_price_of_the_decisions() {
        // 2.628 USD a month is one dollar per million seconds: with the default weight
        // as much as one request-millisecond each second.
        let price = PricePolicy::default();
        let money = Expected { request_ms_per_second: 0.0, usd_per_month: 2.628 };
        assert!((worth(&money, &price) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn changes_are_said_in_what_fits_the_unit() {
        let figure = |unit, before, after| Figure { name: "x", unit, before, after };
        assert_eq!(change(&figure(Unit::Millis, 20.0, 15.0)), "-25 %");
        assert_eq!(change(&figure(Unit::Share, 0.667, 0.1)), "-56.70 points");
        assert_eq!(change(&figure(Unit::Count, 0.0, 12.0)), "");
        assert_eq!(change(&figure(Unit::Usd, 0.0, 1.0)), "");
    }
}
