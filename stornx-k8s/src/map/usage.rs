//! Pod metrics of `metrics.k8s.io/v1beta1`.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
};
use serde::Deserialize;
use std::collections::BTreeMap;
use stornx_core::{
    ids::{Namespace, PodName},
    model::PodUsage,
    units::{Span, Timestamp},
};

use super::{instant, quantity};

/// A list of pod metrics, as far as it is read.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct List {
    items: Vec<Item>,
}

#[derive(Debug, Clone, Deserialize)]
struct Item {
    metadata: ObjectMeta,
    timestamp: Time,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Debug, Clone, Deserialize)]
struct Container {
    #[serde(default)]
    usage: BTreeMap<String, Quantity>,
}

/// What is so much older than the youngest is left over from a pod or node that does
/// not report any more: three of the longest usual intervals of metrics-server.
const LEFT_OVER: Span = Span::from_seconds(180);

/// The usage by pod, all containers together, and the oldest instant that any of it
/// describes. Pods without containers in the answer, or with figures that cannot be
/// read, are not measured.
pub(crate) fn usage(list: &List) -> (Vec<PodUsage>, Option<Timestamp>) {
    let youngest = list.items.iter().map(|item| instant(&item.timestamp)).max();
    let mut oldest = youngest;
    let mut usage = Vec::with_capacity(list.items.len());
    for item in &list.items {
        let at = instant(&item.timestamp);
        let left_over = youngest.is_some_and(|youngest| youngest.since(at) > LEFT_OVER);
        if let (false, Some(one)) = (left_over, pod_usage(item)) {
            oldest = oldest.min(Some(at));
            usage.push(one);
        }
    }
    usage.sort_by(|a, b| a.pod.cmp(&b.pod));
    (usage, oldest)
}

fn pod_usage(item: &Item) -> Option<PodUsage> {
    let namespace = Namespace::new(item.metadata.namespace.as_deref()?).ok()?;
    let pod = PodName::new(&namespace, item.metadata.name.as_deref()?).ok()?;
    if item.containers.is_empty() {
        return None;
    }
    let mut sum =
        PodUsage { pod, cpu: Default::default(), memory: Default::default(), throttled: None };
    for container in &item.containers {
        sum.cpu += quantity::milli_cpu(container.usage.get("cpu")?)?;
        sum.memory += quantity::bytes(container.usage.get("memory")?)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_add_up_and_left_overs_go() {
        let item = |name: &str, at: &str, usage: serde_json::Value| {
            json!({
                "metadata": { "namespace": "shop", "name": name }, "timestamp": at,
                "window": "15.057s", "containers": usage
            })
        };
        let both = json!([
            { "name": "server", "usage": { "cpu": "12345678n", "memory": "20480Ki" } },
            { "name": "istio-proxy", "usage": { "cpu": "3m", "memory": "40Mi" } }
        ]);
        let list: List = serde_json::from_value(json!({ "items": [
            item("b", "2026-11-25T12:00:30Z", both.clone()),
            item("a", "2026-11-25T12:00:10Z", both.clone()),
            item("old", "2026-11-25T11:00:00Z", both),
            item("starting", "2026-11-25T12:00:30Z", json!([])),
            item("odd", "2026-11-25T12:00:30Z", json!([{ "name": "x", "usage": { "cpu": "?" } }]))
        ]}))
        .unwrap();
        let (usage, oldest) = usage(&list);
        let names: Vec<_> = usage.iter().map(|one| one.pod.name()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!((usage[0].cpu.get(), usage[0].memory.get()), (16, 60 << 20));
        let expected = "2026-11-25T12:00:10Z".parse().map(Time).unwrap();
        assert_eq!(oldest, Some(instant(&expected)));
    }
}
