//! Label selectors, as Kubernetes matches them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels of a pod template, as text: only compared, never shown.
pub(crate) type TextLabels = BTreeMap<String, String>;

/// A selector. An empty one matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Selector {
    equals: TextLabels,
    expressions: Vec<Expression>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Expression {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    /// An operator that this code does not know matches nothing.
    Never,
}

impl Selector {
    /// A `LabelSelector`.
    pub(crate) fn of(selector: &LabelSelector) -> Self {
        let expressions = selector.match_expressions.iter().flatten().map(|expression| {
            let values = || expression.values.clone().unwrap_or_default();
            let test = match expression.operator.as_str() {
                "In" => Test::In(values()),
                "NotIn" => Test::NotIn(values()),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Absent,
                _ => Test::Never,
            };
            Expression { key: expression.key.clone(), test }
        });
        Self {
            equals: selector.match_labels.clone().unwrap_or_default(),
            expressions: expressions.collect(),
        }
    }

    /// A map selector, as Services have it.
    pub(crate) fn of_labels(labels: TextLabels) -> Self {
        Self { equals: labels, expressions: Vec::new() }
    }

    /// Whether it selects an object with these labels.
    pub(crate) fn matches(&self, labels: &TextLabels) -> bool {
        self.equals.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|expression| {
                let value = labels.get(&expression.key);
                match &expression.test {
                    Test::In(values) => value.is_some_and(|value| values.contains(value)),
                    Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                    Test::Exists => value.is_some(),
                    Test::Absent => value.is_none(),
                    Test::Never => false,
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
    use proptest::prelude::*;

    use super::*;

    /// The definition of the documentation, one operator at a time, as an oracle.
    fn naive(selector: &LabelSelector, labels: &TextLabels) -> bool {
        for (key, value) in selector.match_labels.iter().flatten() {
            if labels.get(key) != Some(value) {
                return false;
            }
        }
        for expression in selector.match_expressions.iter().flatten() {
            let values = expression.values.clone().unwrap_or_default();
            let has = labels.contains_key(&expression.key);
            let one_of = values.iter().any(|v| labels.get(&expression.key) == Some(v));
            let holds = match expression.operator.as_str() {
                "In" => has && one_of,
                "NotIn" => !has || !one_of,
                "Exists" => has,
                "DoesNotExist" => !has,
                _ => false,
            };
            if !holds {
                return false;
            }
        }
        true
    }

    fn word() -> impl Strategy<Value = String> {
        prop_oneof!["a", "b", "c"].prop_map(|text| text)
    }

    fn labels() -> impl Strategy<Value = TextLabels> {
        prop::collection::btree_map(word(), word(), 0..3)
    }

    fn requirement() -> impl Strategy<Value = LabelSelectorRequirement> {
        let operator = prop_oneof!["In", "NotIn", "Exists", "DoesNotExist", "Other"];
        (word(), operator, prop::collection::vec(word(), 0..3)).prop_map(
            |(key, operator, values)| LabelSelectorRequirement {
                key,
                operator,
                values: Some(values),
            },
        )
    }

    proptest! {
        #[test]
        fn matches_as_the_documentation_says(
            equals in labels(),
            expressions in prop::collection::vec(requirement(), 0..3),
            object in labels(),
        ) {
            let selector =
                LabelSelector { match_labels: Some(equals), match_expressions: Some(expressions) };
            prop_assert_eq!(Selector::of(&selector).matches(&object), naive(&selector, &object));
        }
    }

    #[test]
    fn an_empty_selector_matches_all() {
        assert!(Selector::of(&LabelSelector::default()).matches(&TextLabels::new()));
    }
}
