//! Memory per pod: what 20,000 pods take once they were listed by the real path, from
//! the answers of the server to the records.

// This is test code: a broken assumption has to stop the test there and then.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "support/shop.rs"]
mod shop;
#[path = "support/mod.rs"]
mod support;

use std::{alloc::System, time::Duration};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use stornx_core::ports::ClusterSource;
use stornx_k8s::{Cluster, ClusterOptions};

use crate::shop::{DEPLOYMENTS, NODES, PODS, REPLICA_SETS};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PODS_EACH: usize = 20;
const WORKLOADS: usize = 1000;

/// Held: at most 1 kB of memory for each pod. Counted is everything that the adapter
/// keeps of 20,000 pods, their 1,000 workloads and 100 nodes.
#[tokio::test(start_paused = true)]
async fn a_pod_takes_at_most_a_kilobyte() {
    let api = support::Api::new();
    for number in 0..100 {
        api.put(NODES, shop::node(&format!("ip-10-0-{number}-7.eu-1.example"), "eu-1a"));
    }
    for workload in 0..WORKLOADS {
        let name = format!("checkout-service-{workload}");
        api.put(DEPLOYMENTS, shop::deployment(&name, u32::try_from(PODS_EACH).unwrap()));
        api.put(REPLICA_SETS, shop::replica_set(&name));
        for replica in 0..PODS_EACH {
            let node = format!("ip-10-0-{}-7.eu-1.example", (workload + replica) % 100);
            let pod_name = format!("{name}-7d9f-{replica:05}");
            api.put(PODS, shop::pod(&name, &pod_name, &node));
        }
    }
    let connection = api.connect().await;
    let before = Region::new(ALLOCATOR);
    let cluster = Cluster::start(&connection, ClusterOptions::default());
    cluster.wait_synced(Duration::from_secs(60)).await.unwrap();
    // Until every watch is open and the pages of the lists are freed.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let change = before.change();
    let kept = change.bytes_allocated - change.bytes_deallocated;
    let facts = cluster.observe().await.unwrap();
    let pods: usize = facts.workloads.iter().map(|workload| workload.pods.len()).sum();
    assert_eq!(pods, WORKLOADS * PODS_EACH);
    let each = kept / pods;
    println!("{each} bytes a pod: {kept} bytes for {pods} pods and what belongs to them");
    assert!(each <= 1000, "{each} bytes a pod");
}
