//! A cluster of 500 services and 5,000 pods, as a recorded snapshot: layers of services that
//! call those of the next layers, ten replicas of each over three zones.

use std::fmt::Write as _;

pub(crate) const SERVICES: usize = 500;
pub(crate) const REPLICAS: usize = 10;
const ZONES: [&str; 3] = ["eu-west-1a", "eu-west-1b", "eu-west-1c"];
const NODES: usize = 150;
/// Text that would be markup if a page took it for that.
pub(crate) const HOSTILE: &str = "<img src=x id=hostile onerror=alert(1)>";
const AT: u64 = 1_767_225_600_000;

/// The snapshot as JSON.
pub(crate) fn snapshot() -> String {
    let nodes = (0..NODES).map(|n| {
        format!(
            r#"{{"name":"node-{n}","zone":"{}","region":"eu-west-1","ready":true,"schedulable":true,"allocatable":{{"cpu":16000,"memory":68719476736}},"podCapacity":110}}"#,
            ZONES[n % 3]
        )
    });
    let workloads = (0..SERVICES).map(|service| {
        let pods = (0..REPLICAS).map(|pod| {
            format!(
                r#"{{"name":"shop/service-{service:03}-{pod}","node":"node-{}","phase":"ready","createdAt":{},"readySince":{}}}"#,
                (service * 7 + pod) % NODES, AT - 9_000_000, AT - 8_900_000
            )
        });
        format!(
            r#"{{"id":"shop/Deployment/service-{service:03}","managed":true,"desired":{REPLICAS},"requests":{{"cpu":200,"memory":268435456}},"pods":[{}]}}"#,
            joined(pods)
        )
    });
    let hosts = (0..SERVICES).map(|service| {
        format!(r#"{{"name":"service-{service:03}.shop.svc.cluster.local","backends":["shop/Deployment/service-{service:03}"]}}"#)
    });
    let usage = (0..SERVICES * REPLICAS).map(|n| {
        let (service, pod) = (n / REPLICAS, n % REPLICAS);
        format!(
            r#"{{"pod":"shop/service-{service:03}-{pod}","cpu":{},"memory":134217728}}"#,
            60 + n % 50
        )
    });
    let edges = (1..SERVICES).flat_map(|callee| {
        // Three callers from the layers before.
        let callers: std::collections::BTreeSet<_> = [callee / 2, callee / 3, callee * 7 / 11]
            .into_iter()
            .filter(|caller| *caller < callee)
            .collect();
        callers.into_iter().map(move |caller| edge(caller, callee))
    });
    format!(
        r#"{{"apiVersion":"stornx.io/v1alpha1","takenAt":{AT},"nodes":[{}],"workloads":[{}],"hosts":[{}],"usage":{{"fresh":{{"asOf":{},"source":"metrics-server","value":[{}]}}}},"traffic":{{"fresh":{{"asOf":{},"source":"prometheus","value":{{"window":150000,"edges":[{}]}}}}}},"latency":{{"missing":{{"reason":"no exporter {HOSTILE}"}}}}}}"#,
        joined(nodes),
        joined(workloads),
        joined(hosts),
        AT - 15_000,
        joined(usage),
        AT - 15_000,
        joined(edges)
    )
}

fn edge(caller: usize, callee: usize) -> String {
    let rate = 900.0 / f64::from(u32::try_from(callee).unwrap_or(1)) + 1.0;
    let routes = (0..9).map(|pair| {
        format!(
            r#"{{"from":"{}","to":"{}","requests":{:.2},"requestBytes":{:.0},"responseBytes":{:.0},"p95":{:.1}}}"#,
            ZONES[pair / 3], ZONES[pair % 3], rate / 9.0, rate * 100.0, rate * 900.0, 5.0 + f64::from(u32::try_from(pair).unwrap_or(0))
        )
    });
    format!(
        r#"{{"caller":"shop/Deployment/service-{caller:03}","callee":"shop/Deployment/service-{callee:03}","host":"service-{callee:03}.shop.svc.cluster.local","routes":[{}]}}"#,
        joined(routes)
    )
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for (index, part) in parts.enumerate() {
        let _ = write!(text, "{}{part}", if index == 0 { "" } else { "," });
    }
    text
}
