//! What the server is and what it serves.

use stornx_k8s::{ConnectError, ConnectOptions, Connection};

use crate::support::{Api, Fault};

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
    assert_eq!(capabilities.borrow().missing.len(), 3);

    // The group alone is not the kind: Istio's other kinds live in it, too.
    api.serve("networking.istio.io/v1", &["virtualservices"]);
    api.serve("metrics.k8s.io/v1beta1", &["nodes", "pods"]);
    let found = capabilities.wait_for(|now| now.pod_metrics).await.unwrap().clone();
    assert!(!found.destination_rules);
    let missing: Vec<&str> = found.missing.iter().map(|api| api.api.as_str()).collect();
    assert_eq!(
        missing,
        ["networking.istio.io/v1 destinationrules", "keda.sh/v1alpha1 scaledobjects"]
    );

    api.serve("networking.istio.io/v1", &["virtualservices", "destinationrules"]);
    capabilities.wait_for(|now| now.destination_rules).await.unwrap();
    // A look that fails changes nothing.
    api.fail("GET", "/apis", [Fault::Status(503), Fault::Status(500)]);
    tokio::time::sleep(crate::support::LOOK * 2).await;
    assert!(capabilities.borrow().destination_rules && capabilities.borrow().pod_metrics);

    // A server that starts knows nothing, then not all; neither is believed at once.
    api.unserve("apps/v1");
    tokio::time::sleep(crate::support::LOOK * 2).await;
    api.serve("apps/v1", &[]);
    api.unserve("metrics.k8s.io/v1beta1");
    tokio::time::sleep(crate::support::LOOK).await;
    assert!(capabilities.borrow().pod_metrics, "missing in one look");
    api.serve("metrics.k8s.io/v1beta1", &["pods"]);
    tokio::time::sleep(crate::support::LOOK).await;
    assert!(capabilities.borrow().pod_metrics);

    api.unserve("networking.istio.io/v1");
    capabilities.wait_for(|now| !now.destination_rules).await.unwrap();
}
