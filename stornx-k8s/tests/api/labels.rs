//! Names of nodes as subzones: a round over all nodes.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use stornx_core::ports::{LeaderGate, PortError};
use stornx_k8s::{Cluster, ClusterOptions, Connection, NodeLabels, label_nodes};

use crate::{
    shop::{NODES, node},
    support::{Api, Fault},
};

const LIMIT: Duration = Duration::from_secs(5);
const SUBZONE: &str = "topology.istio.io/subzone";

struct Leads;

#[async_trait]
impl LeaderGate for Leads {
    async fn may_write(&self) -> bool {
        true
    }
}

/// Four nodes without a label of ours.
async fn setup() -> (Api, Connection, Cluster) {
    let api = Api::new();
    for name in ["n1", "n2", "n3", "n4"] {
        api.put(NODES, node(name, "a"));
    }
    let connection = api.connect().await;
    let cluster = Cluster::start(&connection, ClusterOptions::default());
    cluster.wait_synced(LIMIT).await.unwrap();
    (api, connection, cluster)
}

async fn round(connection: &Connection, cluster: &Cluster) -> NodeLabels {
    label_nodes(connection, cluster, &Leads, LIMIT).await.unwrap()
}

fn labelled(api: &Api) -> Vec<String> {
    let nodes = api.all(NODES).into_iter();
    let nodes = nodes.filter(|node| node["metadata"]["labels"].get(SUBZONE).is_some());
    nodes.map(|node| node["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_changed_or_gone_keeps_no_other_from_its_label() {
    let (api, connection, cluster) = setup().await;
    let changed = |node: &mut Value| node["spec"]["unschedulable"] = json!(true);
    api.fail("PATCH", "/nodes/n1", [Fault::Overtaken(NODES, "n1", changed)]);
    api.fail("PATCH", "/nodes/n3", [Fault::Status(404)]);
    let done = round(&connection, &cluster).await;
    assert_eq!((done.set, done.taken, &done.why_not), (2, 0, &None));
    assert_eq!(labelled(&api), ["n2", "n4"]);
    let [first, second] = done.failed.as_slice() else { panic!("{:?}", done.failed) };
    for (error, name) in [(first, "n1"), (second, "n3")] {
        assert!(matches!(error, PortError::Conflict { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    // The next round does the rest: this server does not say whose a label is, so those
    // that are set are taken away before it.
    for name in ["n2", "n4"] {
        api.put(NODES, node(name, "a"));
    }
    let done = round(&connection, &cluster).await;
    assert_eq!((done.set, done.failed), (4, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_asked_no_more_in_this_round() {
    let (api, connection, cluster) = setup().await;
    api.fail("PATCH", "/nodes/n2", [Fault::Silence]);
    let done = round(&connection, &cluster).await;
    assert_eq!((done.set, done.failed.len()), (1, 1));
    assert_eq!(labelled(&api), ["n1"]);
}
