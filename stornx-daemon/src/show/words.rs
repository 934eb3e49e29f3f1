//! Numbers and small things in words.

use std::{collections::BTreeMap, fmt::Write as _};

use stornx_core::{
    ids::ZoneName,
    model::Distribution,
    report::{Expected, ZoneLoss},
    units::{Millis, Percent, Timestamp},
};

/// What stands where nothing is known.
pub(super) const UNKNOWN: &str = "-";

/// An instant as RFC 3339 in UTC.
pub(super) fn instant(at: Timestamp) -> String {
    i64::try_from(at.as_millis())
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(|| format!("{} ms", at.as_millis()), |at| at.to_string())
}

pub(super) fn percent(value: Option<Percent>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| format!("{:.0} %", value.get()))
}

pub(super) fn millis(value: Option<Millis>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| format!("{:.1} ms", value.get()))
}

/// `a 2, b 1, c 0`.
pub(super) fn by_zone(counts: &BTreeMap<ZoneName, u32>) -> String {
    let parts: Vec<_> = counts.iter().map(|(zone, count)| format!("{zone} {count}")).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

/// `a 60, b 20, c 20`.
pub(super) fn weights(distribution: &Distribution) -> String {
    distribution
        .iter()
        .map(|(zone, weight)| format!("{zone} {weight}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// What an action is expected to bring.
pub(crate) fn expected(expected: &Expected) -> String {
    // Below these nothing is said: they are less than the rounding of the inputs.
    const LEAST_TIME: f64 = 0.05;
    const LEAST_MONEY: f64 = 0.005;
    let mut parts = Vec::new();
    let time = expected.request_ms_per_second;
    if time.abs() >= LEAST_TIME {
        let change = if time > 0.0 { "saved" } else { "added" };
        parts.push(format!("{:.1} ms of request time {change} each second", time.abs()));
    }
    let money = expected.usd_per_month;
    if money.abs() >= LEAST_MONEY {
        let change = if money > 0.0 { "saved" } else { "added" };
        parts.push(format!("{:.2} USD a month {change}", money.abs()));
    }
    if parts.is_empty() { "no change of time or cost".to_owned() } else { parts.join(", ") }
}

/// What survives the loss of the worst zone.
pub(super) fn zone_loss(loss: &ZoneLoss) -> String {
    let Some(worst) = &loss.worst else { return "nothing is ready".to_owned() };
    let mut text = format!("without {worst}, {} ready replicas are left", loss.survivors);
    if let Some(share) = loss.demand_served {
        let _ = write!(text, ", enough for {:.0} % of today's demand", share.get() * 100.0);
    }
    text
}

/// The first letter large, for the start of a line.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
