//! Where a label of a pod says that the pod is.
//!
//! istiod believes `topology.istio.io/locality`, and without it `istio-locality`, more than
//! the labels of the node. The value is `region.zone.subzone`, since the value of a label
//! holds no slash; each dot is one, also where a region has a dot in its name. What is
//! missing at the end is empty, what comes after the third part is not looked at. A label
//! with an empty value says nothing, and the second one is not asked then.

use stornx_core::model::Node;

use super::{node::UNKNOWN, selector::TextLabels};

const LABELS: [&str; 2] = ["topology.istio.io/locality", "istio-locality"];

/// A pod with such a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    place: Box<str>,
    /// All its labels: what selects it.
    pub(crate) labels: TextLabels,
}

/// What the labels of a pod say; `None` where it is simply on its node.
pub(crate) fn said(labels: Option<&TextLabels>) -> Option<Box<Said>> {
    let labels = labels?;
    let place = LABELS.iter().find_map(|label| labels.get(*label))?;
    let said = || Box::new(Said { place: place.as_str().into(), labels: labels.clone() });
    (!place.is_empty()).then(said)
}

impl Said {
    /// Whether that is where the node is.
    pub(crate) fn is_at(&self, node: &Node) -> bool {
        let mut parts = self.place.split(['.', '/']);
        let said = [(); 3].map(|()| parts.next().unwrap_or_default());
        let known = |name| if name == UNKNOWN { "" } else { name };
        said == [known(node.region.as_str()), known(node.zone.as_str()), node.subzone()]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(labels: Value) -> Node {
        let node = json!({ "metadata": { "name": "n", "labels": labels } });
        super::super::node::record(&serde_json::from_value(node).unwrap()).unwrap()
    }

    fn read(labels: Value) -> Option<Box<Said>> {
        said(Some(&serde_json::from_value(labels).unwrap()))
    }

    #[test]
    fn dots_part_region_zone_and_subzone() {
        let plain = node(json!({
            "topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "a"
        }));
        let divided = node(json!({
            "topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": "a",
            "topology.istio.io/subzone": "rack1"
        }));
        for (value, at_plain, at_divided) in [
            ("eu.a", true, false),
            ("eu.a.", true, false),
            ("eu.a.rack1", false, true),
            ("eu.a.rack1.more", false, true),
            ("eu.b", false, false),
            ("us.a", false, false),
            ("eu", false, false),
            ("a", false, false),
        ] {
            for label in LABELS {
                let said = read(json!({ label: value })).unwrap();
                assert_eq!(
                    (said.is_at(&plain), said.is_at(&divided)),
                    (at_plain, at_divided),
                    "{value}"
                );
            }
        }
        let dotted = node(json!({
            "topology.kubernetes.io/region": "eu.west", "topology.kubernetes.io/zone": "a"
        }));
        let said = read(json!({ "istio-locality": "eu.west.a" })).unwrap();
        assert!(!said.is_at(&dotted), "each dot parts");
        let nowhere = node(json!({}));
        assert!(!said.is_at(&nowhere));
        assert!(!read(json!({ "istio-locality": "unknown.unknown" })).unwrap().is_at(&nowhere));
    }

    #[test]
    fn the_newer_label_comes_first_and_an_empty_one_says_nothing() {
        assert_eq!(said(None), None);
        assert_eq!(read(json!({ "app": "cart" })), None);
        let both = json!({ "topology.istio.io/locality": "eu.a", "istio-locality": "eu.b" });
        assert_eq!(&*read(both).unwrap().place, "eu.a");
        let empty = json!({ "topology.istio.io/locality": "", "istio-locality": "eu.b" });
        assert_eq!(read(empty), None);
        assert_eq!(read(json!({ "istio-locality": "" })), None);
    }
}
