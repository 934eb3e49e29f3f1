//! Which pods a ReplicaSet takes away first.
//!
//! Its controller sorts by: not bound before bound, Pending before Unknown before
//! Running, not Ready before Ready, and then by deletion cost, the lowest first. So a
//! mark of the lowest cost decides only among pods that are alike in all before it.

use k8s_openapi::api::core::v1::Pod;

use super::{controller, is_apps};

/// The annotation that the ReplicaSet controller reads.
pub(crate) const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// The lowest cost there is.
pub(crate) const LOWEST: &str = "-2147483648";
/// Says that the cost is ours, so that a mark left by a crash can be taken off again. Its
/// value is the cost that stood before.
pub(crate) const VICTIM: &str = "stornx.io/victim";
/// The value of [`VICTIM`] where no cost stood before.
pub(crate) const NO_COST: &str = "none";

/// What comes before the cost, the first to go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    bound: bool,
    phase: u8,
    ready: bool,
}

/// A pod of a Deployment, as far as taking it away is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Name within the namespace.
    pub(crate) name: String,
    /// Identity: a pod of the same name may be another one.
    pub(crate) uid: String,
    /// The version that was read.
    pub(crate) version: String,
    /// The ReplicaSet that controls it.
    pub(crate) replica_set: String,
    /// What decides before the cost.
    pub(crate) rank: Rank,
    /// The cost that somebody else set, before our mark if there is one.
    pub(crate) cost: Option<String>,
    /// It carries a mark of ours.
    pub(crate) marked: bool,
    /// The mark stands as we set it: nobody has changed the cost since.
    pub(crate) goes_first: bool,
}

/// A pod of this Deployment that is neither going nor gone; `None` for every other.
pub(crate) fn candidate(pod: &Pod, deployment: &str) -> Option<Candidate> {
    let meta = &pod.metadata;
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if meta.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let set = controller(meta).filter(|owner| is_apps(owner, "ReplicaSet"))?;
    // The Deployment controller names its ReplicaSets by itself and the template.
    let hash = meta.labels.as_ref()?.get("pod-template-hash")?;
    if set.name != format!("{deployment}-{hash}") {
        return None;
    }
    let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key)).cloned();
    let marked = annotation(VICTIM).is_some();
    let goes_first = marked && annotation(COST).as_deref() == Some(LOWEST);
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    Some(Candidate {
        name: meta.name.clone()?,
        uid: meta.uid.clone()?,
        version: meta.resource_version.clone().unwrap_or_default(),
        replica_set: set.name.clone(),
        rank: Rank {
            bound: pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()),
            phase: match phase {
                Some("Running") => 2,
                Some("Unknown") => 1,
                _ => 0,
            },
            ready: conditions
                .into_iter()
                .flatten()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        },
        cost: match annotation(VICTIM) {
            Some(mark) => cost_before(&mark).map(ToOwned::to_owned),
            None => annotation(COST),
        },
        marked,
        goes_first,
    })
}

/// The cost that stood on a pod before our mark: a cost is a number, anything else stood
/// in no annotation.
pub(crate) fn cost_before(mark: &str) -> Option<&str> {
    Some(mark).filter(|cost| cost.parse::<i32>().is_ok())
}

impl Candidate {
    /// It runs on a node, or is about to.
    pub(crate) const fn is_bound(&self) -> bool {
        self.rank.bound
    }

    /// It is bound and Ready.
    pub(crate) const fn serves(&self) -> bool {
        self.rank.bound && self.rank.ready
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(change: impl FnOnce(&mut Value)) -> Option<Candidate> {
        let mut pod = json!({
            "metadata": {
                "namespace": "shop", "name": "cart-7d9f-a", "uid": "u1",
                "labels": { "pod-template-hash": "7d9f" },
                "annotations": { COST: "10" },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet",
                    "name": "cart-7d9f", "uid": "u", "controller": true }]
            },
            "spec": { "nodeName": "n1", "containers": [] },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] }
        });
        change(&mut pod);
        candidate(&serde_json::from_value(pod).unwrap(), "cart")
    }

    #[test]
    fn ranks_order_as_the_controller_orders() {
        let best = read(|_| {}).unwrap();
        assert_eq!((best.cost.as_deref(), best.marked), (Some("10"), false));
        let unready = read(|pod| pod["status"]["conditions"][0]["status"] = json!("False"));
        let pending = read(|pod| pod["status"]["phase"] = json!("Pending"));
        let unbound = read(|pod| pod["spec"] = json!({ "containers": [] }));
        let ranks = [unbound, pending, unready].map(|candidate| candidate.unwrap().rank);
        assert!(ranks.is_sorted() && ranks[2] < best.rank, "{ranks:?}");
    }

    #[test]
    fn only_live_pods_of_the_deployment_count() {
        let going = json!("2026-11-25T13:00:00Z");
        assert_eq!(read(|pod| pod["metadata"]["deletionTimestamp"] = going), None);
        assert_eq!(read(|pod| pod["status"]["phase"] = json!("Failed")), None);
        let other = |pod: &mut Value| {
            pod["metadata"]["ownerReferences"][0]["name"] = json!("cart-api-7d9f");
        };
        assert_eq!(read(other), None, "a longer name that the same labels select");
        for (mark, cost) in [("7", Some("7")), (NO_COST, None), ("true", None)] {
            let marked = read(|pod| pod["metadata"]["annotations"][VICTIM] = json!(mark)).unwrap();
            assert_eq!((marked.cost.as_deref(), marked.marked), (cost, true));
        }
    }
}
