//! Reads the JSON format of the published RASA data sets: services with their
//! containers, machines with what runs on them, traffic between services. Numbers are
//! in whatever unit the file uses; only their ratios matter.
//!
//! Refuses what cannot be placed: a container on no machine or on two, a name that is
//! used without being defined, a negative or infinite number, traffic of a service
//! with itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::Deserialize;
use stornx_core::model::Problem;

use crate::files::{self, FileError, Grammar};

/// What a data set file may hold.
const RASA: &str = "a RASA data set in JSON with ServiceList, MachineList and TrafficList";

/// A service: interchangeable containers.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Name.
    pub name: String,
    /// CPU that one container asks for.
    pub cpu: f64,
    /// Memory that one container asks for.
    pub memory: f64,
    /// Names of its containers, in file order.
    pub containers: Vec<String>,
    /// Machines (positions) on which it may run; `None` for all.
    pub compatible: Option<BTreeSet<usize>>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Name.
    pub name: String,
    /// CPU that containers may ask for in total.
    pub cpu: f64,
    /// Memory that containers may ask for in total.
    pub memory: f64,
}

/// Traffic between two services, without direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrafficEdge {
    /// Position of one service.
    pub a: usize,
    /// Position of the other.
    pub b: usize,
    /// How much.
    pub traffic: f64,
}

/// Where every container runs: for each service, for each of its containers, the
/// position of a machine.
pub type Placement = Vec<Vec<usize>>;

/// A data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Services.
    pub services: Vec<Service>,
    /// Machines.
    pub machines: Vec<Machine>,
    /// Traffic.
    pub edges: Vec<TrafficEdge>,
    /// Where the containers run today.
    pub deployed: Placement,
}

impl Dataset {
    /// The zone of each machine, `zones` of them: the data names none, so a machine
    /// belongs to zone (position modulo `zones`).
    #[must_use]
    pub fn zones(&self, zones: usize) -> Vec<usize> {
        (0..self.machines.len()).map(|machine| machine % zones.max(1)).collect()
    }

    /// Containers in all.
    #[must_use]
    pub fn containers(&self) -> usize {
        self.services.iter().map(|service| service.containers.len()).sum()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct File {
    service_list: Vec<FileService>,
    machine_list: Vec<FileMachine>,
    traffic_list: Vec<FileTraffic>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileService {
    #[serde(rename = "Service")]
    name: String,
    #[serde(rename = "RequestCPU")]
    cpu: f64,
    #[serde(rename = "RequestMem")]
    memory: f64,
    #[serde(rename = "ContainerList")]
    containers: Vec<String>,
    #[serde(rename = "CompatibleMachines")]
    compatible: Compatible,
}

/// `"*"` or a list of machine names.
#[derive(Deserialize)]
#[serde(untagged, expecting = "\"*\" or a list of machine names")]
enum Compatible {
    Word(String),
    Machines(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileMachine {
    #[serde(rename = "MachineIP")]
    name: String,
    #[serde(rename = "TotalCPU")]
    cpu: f64,
    #[serde(rename = "TotalMem")]
    memory: f64,
    #[serde(rename = "InitialDeployingContainers")]
    containers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct FileTraffic {
    service1: String,
    service2: String,
    traffic: f64,
}

/// Loads a data set.
///
/// # Errors
/// [`FileError`].
pub fn load(path: &Path) -> Result<Dataset, FileError> {
    parse(&path.display().to_string(), &files::read(path)?)
}

/// Reads a data set from the text of a file called `file`.
///
/// # Errors
/// [`FileError`].
pub fn parse(file: &str, text: &str) -> Result<Dataset, FileError> {
    let raw: File = files::parse(file, text, Grammar::Json, RASA)?;
    let mut reading = Reading::default();
    let dataset = reading.dataset(raw);
    files::refuse_problems(file, text, reading.problems, RASA)?;
    Ok(dataset)
}

/// Collects problems while names become positions.
#[derive(Default)]
struct Reading {
    problems: Vec<Problem>,
}

impl Reading {
    fn refuse(&mut self, path: String, message: String) {
        self.problems.push(Problem { path, message });
    }

    fn number(&mut self, path: &str, value: f64) -> f64 {
        if value.is_finite() && value >= 0.0 {
            return value;
        }
        self.refuse(path.to_owned(), format!("{value}: a finite number of at least 0 is allowed"));
        0.0
    }

    /// Names to positions; a name given twice is refused.
    fn index<'a>(
        &mut self,
        list: &str,
        names: impl Iterator<Item = &'a str>,
    ) -> BTreeMap<String, usize> {
        let mut index = BTreeMap::new();
        for (position, name) in names.enumerate() {
            if index.insert(name.to_owned(), position).is_some() {
                self.refuse(
                    format!("{list}[{position}]"),
                    format!("{name:?} is defined twice; once is allowed"),
                );
            }
        }
        index
    }

    fn dataset(&mut self, raw: File) -> Dataset {
        let machines =
            self.index("MachineList", raw.machine_list.iter().map(|machine| machine.name.as_str()));
        let services =
            self.index("ServiceList", raw.service_list.iter().map(|service| service.name.as_str()));
        let deployed = self.deployed(&raw);
        let edges = self.edges(&raw.traffic_list, &services);
        let service_list = raw
            .service_list
            .into_iter()
            .enumerate()
            .map(|(s, service)| self.service(s, service, &machines))
            .collect();
        let machine_list = raw
            .machine_list
            .into_iter()
            .enumerate()
            .map(|(m, machine)| Machine {
                cpu: self.number(&format!("MachineList[{m}].TotalCPU"), machine.cpu),
                memory: self.number(&format!("MachineList[{m}].TotalMem"), machine.memory),
                name: machine.name,
            })
            .collect();
        Dataset { services: service_list, machines: machine_list, edges, deployed }
    }

    fn service(
        &mut self,
        position: usize,
        raw: FileService,
        machines: &BTreeMap<String, usize>,
    ) -> Service {
        let path = format!("ServiceList[{position}]");
        let compatible = match raw.compatible {
            Compatible::Word(word) if word == "*" => None,
            Compatible::Word(word) => {
                self.refuse(
                    format!("{path}.CompatibleMachines"),
                    format!("{word:?}: \"*\" or a list of machine names is allowed"),
                );
                None
            }
            Compatible::Machines(names) => {
                let mut known = BTreeSet::new();
                for (n, name) in names.iter().enumerate() {
                    match machines.get(name) {
                        Some(machine) => {
                            known.insert(*machine);
                        }
                        None => self.refuse(
                            format!("{path}.CompatibleMachines[{n}]"),
                            format!("machine {name:?} is not in MachineList"),
                        ),
                    }
                }
                Some(known)
            }
        };
        Service {
            cpu: self.number(&format!("{path}.RequestCPU"), raw.cpu),
            memory: self.number(&format!("{path}.RequestMem"), raw.memory),
            name: raw.name,
            containers: raw.containers,
            compatible,
        }
    }

    /// The machine of every container: each exactly once.
    fn deployed(&mut self, raw: &File) -> Placement {
        let mut machine_of: BTreeMap<&str, usize> = BTreeMap::new();
        for (m, machine) in raw.machine_list.iter().enumerate() {
            for (c, container) in machine.containers.iter().enumerate() {
                if machine_of.insert(container, m).is_some() {
                    self.refuse(
                        format!("MachineList[{m}].InitialDeployingContainers[{c}]"),
                        format!("{container:?} is deployed twice; once is allowed"),
                    );
                }
            }
        }
        let mut owned = BTreeSet::new();
        let mut placement = Vec::with_capacity(raw.service_list.len());
        for (s, service) in raw.service_list.iter().enumerate() {
            let mut places = Vec::with_capacity(service.containers.len());
            for (c, container) in service.containers.iter().enumerate() {
                let path = format!("ServiceList[{s}].ContainerList[{c}]");
                if !owned.insert(container.as_str()) {
                    self.refuse(
                        path.clone(),
                        format!("{container:?} is listed twice; once is allowed"),
                    );
                }
                match machine_of.get(container.as_str()) {
                    Some(machine) => places.push(*machine),
                    None => self.refuse(
                        path,
                        format!("{container:?} is not deployed; exactly one machine must list it"),
                    ),
                }
            }
            placement.push(places);
        }
        for (m, machine) in raw.machine_list.iter().enumerate() {
            for (c, container) in machine.containers.iter().enumerate() {
                if !owned.contains(container.as_str()) {
                    self.refuse(
                        format!("MachineList[{m}].InitialDeployingContainers[{c}]"),
                        format!("{container:?} belongs to no service in ServiceList"),
                    );
                }
            }
        }
        placement
    }

    fn edges(
        &mut self,
        raw: &[FileTraffic],
        services: &BTreeMap<String, usize>,
    ) -> Vec<TrafficEdge> {
        let mut edges = Vec::with_capacity(raw.len());
        for (e, edge) in raw.iter().enumerate() {
            let path = format!("TrafficList[{e}]");
            let ends = [("Service1", &edge.service1), ("Service2", &edge.service2)].map(
                |(field, name)| {
                    let position = services.get(name).copied();
                    if position.is_none() {
                        self.refuse(
                            format!("{path}.{field}"),
                            format!("service {name:?} is not in ServiceList"),
                        );
                    }
                    position
                },
            );
            let traffic = self.number(&format!("{path}.Traffic"), edge.traffic);
            match ends {
                [Some(a), Some(b)] if a == b => self.refuse(
                    path,
                    format!("{:?} with itself; two services are allowed", edge.service1),
                ),
                [Some(a), Some(b)] => edges.push(TrafficEdge { a, b, traffic }),
                _ => {}
            }
        }
        edges
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SMALL: &str = r#"{
        "ServiceList": [
            {"Service": "web", "RequestCPU": 1.0, "RequestMem": 1.0,
             "ContainerList": ["w0", "w1"], "CompatibleMachines": "*"},
            {"Service": "api", "RequestCPU": 1.0, "RequestMem": 1.0,
             "ContainerList": ["a0", "a1"], "CompatibleMachines": ["m0", "m1"]},
            {"Service": "job", "RequestCPU": 2.0, "RequestMem": 0.5,
             "ContainerList": ["j0"], "CompatibleMachines": "*"}
        ],
        "MachineList": [
            {"MachineIP": "m0", "TotalCPU": 3, "TotalMem": 4, "InitialDeployingContainers": ["w0", "w1"]},
            {"MachineIP": "m1", "TotalCPU": 2, "TotalMem": 4, "InitialDeployingContainers": ["a0", "a1"]},
            {"MachineIP": "m2", "TotalCPU": 2, "TotalMem": 4, "InitialDeployingContainers": ["j0"]}
        ],
        "TrafficList": [{"Service1": "web", "Service2": "api", "Traffic": 5.0}]
    }"#;

    #[test]
    fn reads_names_as_positions() {
        let dataset = parse("small.json", SMALL).unwrap();
        assert_eq!(dataset.deployed, [vec![0, 0], vec![1, 1], vec![2]]);
        assert_eq!(dataset.services[1].compatible, Some(BTreeSet::from([0, 1])));
        assert_eq!(dataset.edges, [TrafficEdge { a: 0, b: 1, traffic: 5.0 }]);
        assert_eq!(dataset.zones(2), [0, 1, 0]);
        assert_eq!(dataset.containers(), 5);
    }

    #[test]
    fn every_problem_is_named_with_its_line() {
        let text = SMALL
            .replace("\"Service2\": \"api\"", "\"Service2\": \"nobody\"")
            .replace("[\"j0\"]}\n        ]", "[\"w0\"]}\n        ]")
            .replace("\"RequestCPU\": 2.0", "\"RequestCPU\": -2.0");
        let message = parse("small.json", &text).unwrap_err().to_string();
        for expected in [
            "small.json:13:",
            "TrafficList[0].Service2",
            "\"nobody\" is not in ServiceList",
            "\"w0\" is deployed twice",
            "\"j0\" is not deployed",
            "ServiceList[2].RequestCPU",
            "at least 0",
        ] {
            assert!(message.contains(expected), "{expected} is not in {message}");
        }
    }

    #[test]
    fn a_wrong_type_names_file_line_and_path() {
        let text = SMALL.replace("\"TotalCPU\": 2,", "\"TotalCPU\": \"two\",");
        let message = parse("small.json", &text).unwrap_err().to_string();
        assert!(message.contains("small.json:12:"), "{message}");
        assert!(message.contains("MachineList[1].TotalCPU"), "{message}");
        assert!(message.contains("expected f64"), "{message}");
    }
}
