//! PodDisruptionBudgets: what they ask for, and how many replicas that is, rounded as
//! the disruption controller rounds it.

use k8s_openapi::{
    api::policy::v1::PodDisruptionBudget, apimachinery::pkg::util::intstr::IntOrString,
};

use super::selector::Selector;

/// A number of pods, or a share of those that are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount {
    /// Pods.
    Count(u32),
    /// Per cent of the expected pods, rounded up.
    Percent(u32),
}

impl Amount {
    /// How many of `expected` pods this is.
    pub(crate) fn of(self, expected: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                let hundredths = u64::from(percent) * u64::from(expected);
                u32::try_from(hundredths.div_ceil(100)).unwrap_or(u32::MAX)
            }
        }
    }
}

/// What a budget asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// `minAvailable`.
    MinAvailable(Amount),
    /// `maxUnavailable`.
    MaxUnavailable(Amount),
}

impl Demand {
    /// How many of `expected` pods must be healthy.
    pub(crate) fn healthy(self, expected: u32) -> u32 {
        match self {
            Self::MinAvailable(amount) => amount.of(expected),
            Self::MaxUnavailable(amount) => expected.saturating_sub(amount.of(expected)),
        }
    }
}

/// What is kept of a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BudgetRecord {
    /// Which pods of its namespace it covers.
    pub(crate) selector: Selector,
    /// What it asks for.
    pub(crate) demand: Demand,
}

/// A budget. `None` when it covers nothing (no selector). One whose amount cannot be
/// read allows nothing to go.
pub(crate) fn record(budget: &PodDisruptionBudget) -> Option<BudgetRecord> {
    let spec = budget.spec.as_ref()?;
    let demand = match (&spec.min_available, &spec.max_unavailable) {
        (Some(min), _) => amount(min).map(Demand::MinAvailable),
        // The default of the API: one may be unavailable.
        (None, None) => Some(Demand::MaxUnavailable(Amount::Count(1))),
        (None, Some(max)) => amount(max).map(Demand::MaxUnavailable),
    };
    Some(BudgetRecord {
        selector: Selector::of(spec.selector.as_ref()?),
        demand: demand.unwrap_or(Demand::MaxUnavailable(Amount::Count(0))),
    })
}

fn amount(value: &IntOrString) -> Option<Amount> {
    match value {
        IntOrString::Int(count) => Some(Amount::Count(u32::try_from(*count).ok()?)),
        IntOrString::String(text) => Some(Amount::Percent(text.strip_suffix('%')?.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: Value) -> Option<BudgetRecord> {
        record(&serde_json::from_value(json!({ "spec": spec })).unwrap())
    }

    fn healthy(spec: Value, expected: u32) -> u32 {
        let mut spec = spec;
        spec["selector"] = json!({});
        read(spec).unwrap().demand.healthy(expected)
    }

    #[test]
    fn amounts_round_as_the_disruption_controller_rounds() {
        // The example of the documentation: 7 pods and 50 % are 4 that must stay.
        assert_eq!(healthy(json!({ "minAvailable": "50%" }), 7), 4);
        assert_eq!(healthy(json!({ "maxUnavailable": "30%" }), 10), 7);
        assert_eq!(healthy(json!({ "maxUnavailable": "30%" }), 1), 0, "one may go");
        assert_eq!(healthy(json!({ "minAvailable": 2 }), 7), 2);
        assert_eq!(healthy(json!({ "maxUnavailable": 1 }), 7), 6);
        assert_eq!(healthy(json!({ "maxUnavailable": 9 }), 7), 0);
        assert_eq!(healthy(json!({ "minAvailable": "100%" }), 3), 3);
        assert_eq!(healthy(json!({}), 3), 2, "the default of the API");
        assert_eq!(healthy(json!({ "minAvailable": "half" }), 3), 3, "unreadable: none goes");
    }

    #[test]
    fn without_a_selector_nothing_is_covered() {
        assert_eq!(read(json!({ "minAvailable": 1 })), None);
    }

    proptest! {
        /// `ceil` of exact arithmetic, by search.
        #[test]
        fn percentages_round_up(percent in 0_u32..=100, expected in 0_u32..1000) {
            let least = (0..=expected)
                .find(|count| count * 100 >= percent * expected)
                .unwrap_or(expected);
            prop_assert_eq!(Amount::Percent(percent).of(expected), least);
        }
    }
}
