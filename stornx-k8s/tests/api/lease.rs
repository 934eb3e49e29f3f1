//! The lease as an object of the API.

use std::time::Duration;

use stornx_core::{ports::LeaderGate, testing::contract};
use stornx_k8s::{Connection, Lease, LeaseOptions};

use crate::{shop::LEASES, support::Api, until};

fn lease(connection: &Connection, identity: &str) -> Lease {
    let options = LeaseOptions {
        namespace: "stornx".parse().unwrap(),
        name: "stornx".to_owned(),
        identity: identity.to_owned(),
        duration: Duration::from_secs(15),
        write_timeout: Duration::from_secs(5),
    };
    Lease::start(connection, options)
}

#[tokio::test(start_paused = true)]
async fn the_record_says_who_leads_and_is_given_back() {
    let api = Api::new();
    let connection = api.connect().await;
    let first = lease(&connection, "a");
    until("it leads", async || first.may_write().await).await;
    let spec = || api.get(LEASES, "stornx/stornx").unwrap()["spec"].clone();
    assert_eq!(spec()["holderIdentity"], "a");
    assert_eq!(spec()["leaseDurationSeconds"], 15);
    assert!(spec()["renewTime"].is_string() && spec()["acquireTime"].is_string());
    let second = lease(&connection, "b");
    tokio::time::sleep(Duration::from_secs(60)).await;
    contract::leader_gate(&first, true).await;
    contract::leader_gate(&second, false).await;

    first.release().await;
    until("the other leads", async || second.may_write().await).await;
    assert_eq!(spec()["holderIdentity"], "b");
    assert_eq!(spec()["leaseTransitions"], 1);
    second.release().await;
    assert_eq!(spec()["holderIdentity"], "");
}

/// Replaced without its identity, a Lease that was deleted would come back: whoever saw it
/// held before would go on where another has seen nothing and begun.
#[tokio::test(start_paused = true)]
async fn a_lease_that_was_deleted_is_not_renewed() {
    let api = Api::new();
    let connection = api.connect().await;
    let only = lease(&connection, "a");
    until("it leads", async || only.may_write().await).await;
    let mut leading = only.leading();
    leading.mark_unchanged();
    api.remove(LEASES, "stornx/stornx");
    let lost = tokio::time::timeout(Duration::from_secs(5), leading.changed());
    lost.await.expect("it notices with its next renewal").unwrap();
    assert!(!*leading.borrow());
    until("it has a new one", async || only.may_write().await).await;
}
