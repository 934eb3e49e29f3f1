//! What the server is and what it serves.

use std::time::Duration;

use stornx_core::{ports::StateStore, units::Timestamp};
use stornx_k8s::{
    Cluster, ClusterOptions, ConfigMapStore, ConnectError, ConnectOptions, Connection, EventKind,
    EventRecorder, Lease, LeaseOptions, PodMetrics, StoreOptions,
};

use crate::{
    support::{Api, Fault, LOOK},
    until,
};

#[tokio::test(start_paused = true)]
async fn an_old_server_is_refused_with_everything_that_it_lacks() {
    let api = Api::new();
    api.unserve("autoscaling/v2");
    api.unserve("policy/v1");
    let refused = Connection::over(api.client(), &ConnectOptions::default()).await;
    let Err(ConnectError::TooOld { version, missing }) = refused.map(drop) else {
        panic!("too old")
    };
    assert_eq!(version, "v1.34.4");
    assert_eq!(missing, ["autoscaling/v2 (since 1.23)", "policy/v1 (since 1.21)"]);
}

#[tokio::test(start_paused = true)]
async fn optional_apis_appear_and_vanish() {
    let api = Api::new();
    let connection = api.connect().await;
    assert_eq!(connection.version(), "v1.34.4");
    let mut capabilities = connection.capabilities();
    assert_eq!(capabilities.borrow().missing.len(), 4);

    // The group alone is not the kind: Istio's other kinds live in it, too.
    api.serve("networking.istio.io/v1", &["virtualservices"]);
    api.serve("metrics.k8s.io/v1beta1", &["nodes", "pods"]);
    let found = capabilities.wait_for(|now| now.pod_metrics).await.unwrap().clone();
    assert!(!found.destination_rules);
    let missing: Vec<&str> = found.missing.iter().map(|api| api.api.as_str()).collect();
    assert_eq!(
        missing,
        [
            "networking.istio.io/v1 destinationrules",
            "networking.istio.io/v1 workloadentries",
            "keda.sh/v1alpha1 scaledobjects"
        ]
    );

    api.serve("networking.istio.io/v1", &["virtualservices", "destinationrules"]);
    capabilities.wait_for(|now| now.destination_rules).await.unwrap();
    // A look that fails changes nothing.
    api.fail("GET", "/apis", [Fault::Status(503), Fault::Status(500)]);
    tokio::time::sleep(LOOK * 2).await;
    assert!(capabilities.borrow().destination_rules && capabilities.borrow().pod_metrics);

    // A server that starts knows nothing, then not all; neither is believed at once.
    api.unserve("apps/v1");
    tokio::time::sleep(LOOK * 2).await;
    api.serve("apps/v1", &[]);
    api.unserve("metrics.k8s.io/v1beta1");
    tokio::time::sleep(LOOK).await;
    assert!(capabilities.borrow().pod_metrics, "missing in one look");
    api.serve("metrics.k8s.io/v1beta1", &["pods"]);
    tokio::time::sleep(LOOK).await;
    assert!(capabilities.borrow().pod_metrics);

    api.unserve("networking.istio.io/v1");
    capabilities.wait_for(|now| !now.destination_rules).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn errors_are_counted_by_who_met_them_and_by_kind() {
    let api = Api::new();
    api.serve("metrics.k8s.io/v1beta1", &["pods"]);
    let connection = api.connect().await;
    assert_eq!(connection.errors(), []);
    let (namespace, name) = ("stornx".parse().unwrap(), "stornx".to_owned());
    let timeout = Duration::from_secs(5);

    let store = ConfigMapStore::new(&connection, StoreOptions { namespace, name, timeout });
    api.fail("GET", "/configmaps", [Fault::Status(403), Fault::Status(500)]);
    store.load().await.unwrap_err();
    store.load().await.unwrap_err();
    store.save(&Default::default()).await.unwrap_err();

    let metrics = PodMetrics::new(&connection, Default::default(), timeout);
    api.fail("GET", "/metrics.k8s.io/v1beta1/pods", [Fault::Status(503)]);
    metrics.observe(Timestamp::default()).await;

    let cluster = Cluster::start(&connection, ClusterOptions::default());
    let events = EventRecorder::new(&connection, &cluster, "stornx-0", timeout);
    api.fail("POST", "/events", [Fault::Status(403), Fault::Status(403)]);
    let cart = "shop/Deployment/cart".parse().unwrap();
    for _ in 0..2 {
        events.publish(&cart, "ScaledUp", "", EventKind::Normal).await.unwrap_err();
    }

    api.fail("GET", "/leases", [Fault::Status(401)]);
    let options = LeaseOptions {
        namespace: "stornx".parse().unwrap(),
        name: "stornx".to_owned(),
        identity: "a".to_owned(),
        duration: Duration::from_secs(15),
        write_timeout: timeout,
    };
    let lease = Lease::start(&connection, options);
    until("it leads in the end", async || *lease.leading().borrow()).await;

    // Once for all, and once for an API whose own server does not answer.
    api.fail("GET", "/apis/metrics.k8s.io/v1beta1", [Fault::Status(503)]);
    tokio::time::sleep(LOOK).await;
    api.fail("GET", "/apis", [Fault::Status(429)]);
    tokio::time::sleep(LOOK).await;
    let expected = [
        ("discovery", "unavailable", 2),
        ("events", "rejected", 2),
        ("lease", "rejected", 1),
        ("pod-metrics", "unavailable", 1),
        ("store", "conflict", 1),
        ("store", "rejected", 1),
        ("store", "unavailable", 1),
    ];
    assert_eq!(connection.errors(), expected);
}
