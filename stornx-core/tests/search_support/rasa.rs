//! Reads the published data set M3 as a problem of the search.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value;
use stornx_core::search::{Edge, Machine, Problem, Service, Spread, Weights};

/// Where the data lies, if it is there.
pub(crate) fn m3() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/rasa-m3.json");
    [
        path.clone(),
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/rasa-m3.json"),
    ]
    .into_iter()
    .find(|path| path.exists())
}

/// The data as a problem. Totals of the data are 1: one unit is 1e-12 of them, requests
/// are rounded up and capacities down. A machine belongs to zone (position modulo
/// `zones`); with `keep_zones` every service keeps the zones it has.
pub(crate) fn read(path: &std::path::Path, zones: usize, keep_zones: bool) -> Problem {
    let text = std::fs::read_to_string(path).unwrap();
    let data: Value = serde_json::from_str(&text).unwrap();
    let list = |name: &str| data[name].as_array().unwrap();
    let text_of = |value: &Value| value.as_str().unwrap().to_owned();
    let units = |value: &Value| value.as_f64().unwrap() * 1e12;
    let (mut owner, mut index, mut services) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for (s, service) in list("ServiceList").iter().enumerate() {
        index.insert(text_of(&service["Service"]), s);
        for container in service["ContainerList"].as_array().unwrap() {
            owner.insert(text_of(container), s);
        }
        assert_eq!(service["CompatibleMachines"], "*", "this reader knows no other value");
        services.push(Service {
            cpu: units(&service["RequestCPU"]).ceil() as u64,
            memory: units(&service["RequestMem"]).ceil() as u64,
            spread: Spread { keep_zones, max_skew: None },
            ..Service::default()
        });
    }
    let mut machines = Vec::new();
    for (m, machine) in list("MachineList").iter().enumerate() {
        for container in machine["InitialDeployingContainers"].as_array().unwrap() {
            services[owner[&text_of(container)]].today.push((m, 1));
        }
        machines.push(Machine {
            cpu: units(&machine["TotalCPU"]).floor() as u64,
            memory: units(&machine["TotalMem"]).floor() as u64,
            pods: u32::MAX,
            zone: m % zones,
        });
    }
    let edges = list("TrafficList")
        .iter()
        .map(|edge| Edge {
            a: index[&text_of(&edge["Service1"])],
            b: index[&text_of(&edge["Service2"])],
            traffic: edge["Traffic"].as_f64().unwrap(),
        })
        .collect();
    Problem { services, machines, edges, weights: Weights { machine: 1.0, zone: 0.0 } }
}
