//! Whether a node admits the replicas of a workload by its rules (not by its free
//! resources): taints, node selector, required node affinity, as Kubernetes defines
//! them.

use std::fmt;

use crate::model::{
    Constraints, Labels, Node, NodeExpression, NodeOperator, Taint, TaintEffect, Toleration,
};

/// The rule that keeps a replica off a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NodeRefusal {
    NotReady,
    Cordoned,
    Taint,
    Selector,
    Affinity,
}

impl fmt::Display for NodeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "not ready",
            Self::Cordoned => "cordoned",
            Self::Taint => "tainted",
            Self::Selector => "without the selected labels",
            Self::Affinity => "outside the required node affinity",
        })
    }
}

/// Whether `node` admits replicas with `constraints`; the first rule that does not.
pub(crate) fn admits(node: &Node, constraints: &Constraints) -> Result<(), NodeRefusal> {
    if !node.ready {
        return Err(NodeRefusal::NotReady);
    }
    if !node.schedulable {
        return Err(NodeRefusal::Cordoned);
    }
    let repels = |taint: &&Taint| {
        taint.effect != TaintEffect::PreferNoSchedule
            && !constraints.tolerations.iter().any(|toleration| tolerates(toleration, taint))
    };
    if node.taints.iter().any(|taint| repels(&taint)) {
        return Err(NodeRefusal::Taint);
    }
    selects(node, constraints)
}

/// Whether `constraints` select `node` by selector and required affinity, whatever its
/// state: the nodes whose zones Kubernetes counts for a spread constraint.
pub(crate) fn selects(node: &Node, constraints: &Constraints) -> Result<(), NodeRefusal> {
    let selected = constraints.node_selector.iter().all(|(k, v)| node.labels.get(k) == Some(v));
    if !selected {
        return Err(NodeRefusal::Selector);
    }
    let terms = &constraints.node_affinity;
    // A term without expressions matches nothing, as in Kubernetes.
    let term_holds = |expressions: &[NodeExpression]| {
        !expressions.is_empty() && expressions.iter().all(|e| holds(e, &node.labels))
    };
    if !terms.is_empty() && !terms.iter().any(|term| term_holds(&term.expressions)) {
        return Err(NodeRefusal::Affinity);
    }
    Ok(())
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    toleration.key.as_ref().is_none_or(|key| *key == taint.key)
        && toleration.value.as_ref().is_none_or(|value| *value == taint.value)
        && toleration.effect.is_none_or(|effect| effect == taint.effect)
}

fn holds(expression: &NodeExpression, labels: &Labels) -> bool {
    let value = labels.get(&expression.key);
    let compared = || {
        let label = value?.as_str().parse::<i64>().ok()?;
        let bound = expression.values.first()?.as_str().parse::<i64>().ok()?;
        Some((label, bound))
    };
    match expression.operator {
        NodeOperator::In => value.is_some_and(|value| expression.values.contains(value)),
        NodeOperator::NotIn => value.is_none_or(|value| !expression.values.contains(value)),
        NodeOperator::Exists => value.is_some(),
        NodeOperator::DoesNotExist => value.is_none(),
        NodeOperator::Gt => compared().is_some_and(|(label, bound)| label > bound),
        NodeOperator::Lt => compared().is_some_and(|(label, bound)| label < bound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::NodeTerm,
        units::{MilliCpu, Resources},
    };

    fn node() -> Node {
        Node {
            name: "n1".parse().unwrap(),
            zone: "z1".parse().unwrap(),
            region: "r1".parse().unwrap(),
            ready: true,
            schedulable: true,
            allocatable: Resources { cpu: MilliCpu::new(1000), ..Resources::default() },
            pod_capacity: 10,
            reserved: Resources::default(),
            reserved_pods: 0,
            labels: [("disk".parse().unwrap(), "5".parse().unwrap())].into(),
            taints: Vec::new(),
            named_since: None,
        }
    }

    fn affinity(operator: NodeOperator, key: &str, values: &[&str]) -> Constraints {
        let values = values.iter().map(|value| value.parse().unwrap()).collect();
        let expression = NodeExpression { key: key.parse().unwrap(), operator, values };
        let term = NodeTerm { expressions: vec![expression] };
        Constraints { node_affinity: vec![term], ..Constraints::default() }
    }

    #[test]
    fn operators_mean_what_kubernetes_says() {
        use NodeOperator::{DoesNotExist, Exists, Gt, In, Lt, NotIn};
        let cases = [
            (In, "disk", vec!["4", "5"], true),
            (In, "disk", vec!["4"], false),
            (In, "gpu", vec!["4"], false),
            (NotIn, "disk", vec!["5"], false),
            (NotIn, "gpu", vec!["5"], true),
            (Exists, "disk", vec![], true),
            (Exists, "gpu", vec![], false),
            (DoesNotExist, "gpu", vec![], true),
            (DoesNotExist, "disk", vec![], false),
            (Gt, "disk", vec!["4"], true),
            (Gt, "disk", vec!["5"], false),
            (Lt, "disk", vec!["6"], true),
            (Lt, "gpu", vec!["6"], false),
        ];
        for (operator, key, values, expected) in cases {
            let admitted = admits(&node(), &affinity(operator, key, &values)).is_ok();
            assert_eq!(admitted, expected, "{key} {operator:?} {values:?}");
        }
    }

    #[test]
    fn an_empty_term_matches_nothing_and_no_terms_match_all() {
        let empty =
            Constraints { node_affinity: vec![NodeTerm::default()], ..Constraints::default() };
        assert_eq!(admits(&node(), &empty), Err(NodeRefusal::Affinity));
        assert_eq!(admits(&node(), &Constraints::default()), Ok(()));
    }

    #[test]
    fn taints_repel_unless_tolerated() {
        let taint =
            |effect| Taint { key: "team".parse().unwrap(), value: "a".parse().unwrap(), effect };
        let mut tainted = node();
        tainted.taints = vec![taint(TaintEffect::PreferNoSchedule)];
        assert_eq!(admits(&tainted, &Constraints::default()), Ok(()));
        tainted.taints = vec![taint(TaintEffect::NoSchedule)];
        assert_eq!(admits(&tainted, &Constraints::default()), Err(NodeRefusal::Taint));
        let tolerate =
            |toleration| Constraints { tolerations: vec![toleration], ..Constraints::default() };
        let key = Some("team".parse().unwrap());
        let by_key = Toleration { key: key.clone(), ..Toleration::default() };
        assert_eq!(admits(&tainted, &tolerate(by_key)), Ok(()));
        assert_eq!(admits(&tainted, &tolerate(Toleration::default())), Ok(()));
        let other = Toleration { key, value: Some("b".parse().unwrap()), effect: None };
        assert_eq!(admits(&tainted, &tolerate(other)), Err(NodeRefusal::Taint));
    }

    #[test]
    fn closed_nodes_admit_nothing() {
        let (mut cordoned, mut down) = (node(), node());
        cordoned.schedulable = false;
        down.ready = false;
        let any = Constraints::default();
        assert_eq!(admits(&cordoned, &any), Err(NodeRefusal::Cordoned));
        assert_eq!(admits(&down, &any), Err(NodeRefusal::NotReady));
    }
}
