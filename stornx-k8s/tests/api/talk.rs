//! Events and pod metrics.

use std::time::Duration;

use serde_json::json;
use stornx_core::{
    model::{Facts, Source},
    units::Timestamp,
};
use stornx_k8s::{Cluster, ClusterOptions, EventKind, EventRecorder, PodMetrics};

use crate::{
    shop::{DEPLOYMENTS, EVENTS, shop},
    support::{Api, Fault},
};

const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn events_name_the_workload_by_its_identity() {
    let api = Api::new();
    shop(&api);
    let connection = api.connect().await;
    let cluster = Cluster::start(&connection, ClusterOptions::default());
    cluster.wait_synced(LIMIT).await.unwrap();
    let recorder = EventRecorder::new(&connection, &cluster, "stornx-0", LIMIT);
    let cart = "shop/Deployment/cart".parse().unwrap();
    let note = "x".repeat(2000);
    recorder.publish(&cart, "ScaledUp", &note, EventKind::Normal).await.unwrap();
    let events = api.all(EVENTS);
    let [event] = events.as_slice() else { panic!("one event: {events:?}") };
    let uid = &api.get(DEPLOYMENTS, "shop/cart").unwrap()["metadata"]["uid"];
    assert_eq!(event["regarding"]["uid"], *uid);
    assert_eq!(event["regarding"]["kind"], "Deployment");
    assert_eq!((&event["reason"], &event["type"]), (&json!("ScaledUp"), &json!("Normal")));
    assert_eq!(event["note"].as_str().unwrap().len(), 1024);
    assert!(event["eventTime"].is_string() && event["reportingController"].is_string());
    api.fail("POST", "/events", [Fault::Status(403)]);
    let refused = recorder.publish(&cart, "ScaledUp", "", EventKind::Warning).await;
    assert!(refused.unwrap_err().to_string().contains("publish event ScaledUp on shop/"));
}

#[tokio::test(start_paused = true)]
async fn pod_metrics_are_as_old_as_their_figures() {
    let api = Api::new();
    let connection = api.connect().await;
    let metrics = PodMetrics::new(&connection, ["shop".parse().unwrap()].into(), LIMIT);
    let now = Timestamp::from_millis(1_795_608_100_000);
    let Facts::Missing { reason } = metrics.observe(now).await else { panic!("missing") };
    assert!(reason.contains("not served"), "{reason}");

    api.serve("metrics.k8s.io/v1beta1", &["pods"]);
    connection.capabilities().wait_for(|now| now.pod_metrics).await.unwrap();
    let Facts::Missing { reason } = metrics.observe(now).await else { panic!("missing") };
    assert!(reason.contains("no pod"), "{reason}");
    for (namespace, name, at) in [
        ("shop", "a", "2026-11-25T12:00:10Z"),
        ("shop", "b", "2026-11-25T12:00:20Z"),
        ("other", "c", "2026-11-25T12:00:00Z"),
    ] {
        api.put(
            "/apis/metrics.k8s.io/v1beta1/pods",
            json!({
                "metadata": { "namespace": namespace, "name": name }, "timestamp": at,
                "window": "15s", "containers": [
                    { "name": "server", "usage": { "cpu": "5m", "memory": "1Mi" } }
                ]
            }),
        );
    }
    let Facts::Fresh { as_of, source, value } = metrics.observe(now).await else { panic!("fresh") };
    assert_eq!((source, value.len()), (Source::MetricsServer, 2));
    assert_eq!(as_of.as_millis(), 1_795_608_010_000);
    api.fail("GET", "/pods", [Fault::Silence]);
    let Facts::Missing { reason } = metrics.observe(now).await else { panic!("missing") };
    assert!(reason.contains("nothing within"), "{reason}");
}
