//! What StornX leaves on pods, as annotations: where a pod was told to run, and that it is
//! the one that goes. A value that is none of ours counts as not being there.

use std::collections::BTreeMap;

use stornx_core::{
    ids::NodeName,
    model::{Steered, Traces},
    units::Timestamp,
};

use super::rank::VICTIM;

/// Where the pod was told to run, and by which intent: the node, `@`, and when that was
/// decided, in milliseconds since 1970.
pub(crate) const STEERED: &str = "stornx.io/steered";

/// Where the pod would best run, for people: it is not read.
pub(crate) const PREFERRED: &str = "stornx.io/preferred";

/// The value of [`STEERED`].
pub(crate) fn steered_value(steered: &Steered) -> String {
    format!("{}@{}", steered.node, steered.since.as_millis())
}

/// What was left on a pod with these annotations; most pods carry nothing.
pub(crate) fn traces(annotations: Option<&BTreeMap<String, String>>) -> Option<Box<Traces>> {
    let all = annotations?;
    let traces = Traces {
        steered: all.get(STEERED).and_then(|value| steered(value)),
        victim: all.contains_key(VICTIM),
    };
    (!traces.is_none()).then(|| Box::new(traces))
}

fn steered(value: &str) -> Option<Steered> {
    let (node, since) = value.rsplit_once('@')?;
    Some(Steered {
        node: NodeName::new(node).ok()?,
        since: Timestamp::from_millis(since.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> Option<Box<Traces>> {
        let all = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        traces(Some(&all.collect()))
    }

    #[test]
    fn what_is_written_is_read() {
        let steered = Steered {
            node: "b1".parse().unwrap(),
            since: Timestamp::from_millis(1_780_000_000_123),
        };
        let value = steered_value(&steered);
        assert_eq!(value, "b1@1780000000123");
        let found = read(&[(STEERED, &value), (VICTIM, "true")]).unwrap();
        assert_eq!(*found, Traces { steered: Some(steered), victim: true });
    }

    #[test]
    fn what_is_not_ours_is_not_there() {
        assert_eq!(read(&[("team", "shop")]), None);
        for value in ["b1", "b1@soon", "@1", ""] {
            assert_eq!(read(&[(STEERED, value)]), None, "{value}");
        }
        assert_eq!(traces(None), None);
    }
}
