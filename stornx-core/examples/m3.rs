//! Experiment.
use serde_json::Value;
use std::{collections::BTreeMap, time::Instant};
use stornx_core::search::*;

fn main() {
    let text = std::fs::read_to_string("/work/shared/data/rasa-m3.json").unwrap();
    let data: Value = serde_json::from_str(&text).unwrap();
    let list = |name: &str| data[name].as_array().unwrap().clone();
    let units = |value: &Value| value.as_f64().unwrap() * 1e12;
    let mut owner = BTreeMap::new();
    let mut index = BTreeMap::new();
    let mut services = vec![];
    for (s, service) in list("ServiceList").iter().enumerate() {
        index.insert(service["Service"].as_str().unwrap().to_owned(), s);
        for c in service["ContainerList"].as_array().unwrap() {
            owner.insert(c.as_str().unwrap().to_owned(), s);
        }
        services.push(Service {
            cpu: units(&service["RequestCPU"]).ceil() as u64,
            memory: units(&service["RequestMem"]).ceil() as u64,
            ..Service::default()
        });
    }
    let mut machines = vec![];
    for (m, machine) in list("MachineList").iter().enumerate() {
        for c in machine["InitialDeployingContainers"].as_array().unwrap() {
            services[owner[c.as_str().unwrap()]].today.push((m, 1));
        }
        machines.push(Machine {
            cpu: units(&machine["TotalCPU"]).floor() as u64,
            memory: units(&machine["TotalMem"]).floor() as u64,
            pods: 1000,
            zone: m % 3,
        });
    }
    let edges = list("TrafficList")
        .iter()
        .map(|edge| Edge {
            a: index[edge["Service1"].as_str().unwrap()],
            b: index[edge["Service2"].as_str().unwrap()],
            traffic: edge["Traffic"].as_f64().unwrap(),
        })
        .collect();
    let problem =
        Problem { services, machines, edges, weights: Weights { machine: 1.0, zone: 0.0 } };
    problem.validate().unwrap();
    let args: Vec<f64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let begun = Instant::now();
    let max_moves = if args[1] > 0.0 { Some(args[1] as usize) } else { None };
    let found = search(
        &problem,
        Options { seed: args[2] as u64, max_moves, price: 0.0 },
        args[0] as u64,
        &mut || false,
    )
    .unwrap();
    println!(
        "{:.2}s {} moves {:.4}",
        begun.elapsed().as_secs_f64(),
        found.moves.len(),
        found.worth(usize::MAX)
    );
    for k in
        [25, 50, 100, 150, 200, 300, 364, 500, 600, 700, 800, 900, 1000, 1200, 1400, 1600, 1800]
    {
        print!("{k}:{:.4} ", found.worth(k));
    }
    println!();
}
