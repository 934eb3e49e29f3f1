//! What a snapshot read from a file must satisfy beyond the types of its fields:
//! every name it mentions exists, and nothing is named twice.

use std::{collections::BTreeSet, fmt};

use super::{Facts, PodPhase, Snapshot};

/// One thing wrong with a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a path into the file.
    pub path: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { path: path.into(), message: message.into() });
    }

    /// Collects ids and reports those that appear twice.
    fn unique<'a, T: Ord + fmt::Display + 'a>(
        &mut self,
        list: &str,
        ids: impl Iterator<Item = &'a T>,
    ) -> BTreeSet<&'a T> {
        let mut seen = BTreeSet::new();
        for (index, id) in ids.enumerate() {
            if !seen.insert(id) {
                self.add(
                    format!("{list}[{index}]"),
                    format!("{id} is named twice; once is allowed"),
                );
            }
        }
        seen
    }

    fn known<T: Ord + fmt::Display>(
        &mut self,
        path: String,
        what: &str,
        id: &T,
        all: &BTreeSet<&T>,
    ) {
        if !all.contains(id) {
            self.add(path, format!("{what} {id} does not exist in this snapshot"));
        }
    }
}

impl Snapshot {
    /// Everything that is wrong with this snapshot; empty when it can be decided on.
    /// A pod on a node that is gone is a fact of real clusters and no problem.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems(Vec::new());
        let nodes = problems.unique("nodes", self.nodes.iter().map(|node| &node.name));
        let zones: BTreeSet<_> = self.nodes.iter().map(|node| &node.zone).collect();
        let workloads = problems.unique("workloads", self.workloads.iter().map(|w| &w.id));
        let pods = problems
            .unique("pods", self.workloads.iter().flat_map(|w| &w.pods).map(|pod| &pod.name));
        problems.unique("hosts", self.hosts.iter().map(|host| &host.name));

        for (w, workload) in self.workloads.iter().enumerate() {
            for (p, pod) in workload.pods.iter().enumerate() {
                let path = format!("workloads[{w}].pods[{p}]");
                if pod.name.namespace() != workload.id.namespace() {
                    problems.add(
                        format!("{path}.name"),
                        format!("{} is not in the namespace of {}", pod.name, workload.id),
                    );
                }
                if pod.phase == PodPhase::Ready && pod.node.is_none() {
                    problems.add(format!("{path}.node"), "a Ready pod has a node");
                }
            }
            if let Some(autoscaler) = &workload.autoscaler
                && autoscaler.min > autoscaler.max
            {
                problems.add(
                    format!("workloads[{w}].autoscaler.min"),
                    format!("{} is above max {}", autoscaler.min, autoscaler.max),
                );
            }
            if let (Some(min), Some(max)) =
                (workload.policy.min_replicas, workload.policy.max_replicas)
                && min > max
            {
                problems.add(
                    format!("workloads[{w}].policy.minReplicas"),
                    format!("{min} is above maxReplicas {max}"),
                );
            }
        }
        for (h, host) in self.hosts.iter().enumerate() {
            for (b, backend) in host.backends.iter().enumerate() {
                let path = format!("hosts[{h}].backends[{b}]");
                problems.known(path, "workload", backend, &workloads);
            }
        }
        if let Some(usage) = self.usage.known() {
            problems.unique("usage.value", usage.iter().map(|usage| &usage.pod));
            for (u, usage) in usage.iter().enumerate() {
                problems.known(format!("usage.value[{u}].pod"), "pod", &usage.pod, &pods);
            }
        }
        if let Some(traffic) = self.traffic.known() {
            for (e, edge) in traffic.edges.iter().enumerate() {
                let path = format!("traffic.value.edges[{e}]");
                problems.known(format!("{path}.caller"), "workload", &edge.caller, &workloads);
                problems.known(format!("{path}.callee"), "workload", &edge.callee, &workloads);
                for (r, route) in edge.routes.iter().enumerate() {
                    let path = format!("{path}.routes[{r}]");
                    problems.known(format!("{path}.from"), "zone", &route.from, &zones);
                    problems.known(format!("{path}.to"), "zone", &route.to, &zones);
                }
            }
            problems.unique("traffic.value.pods", traffic.pods.iter().map(|pod| &pod.pod));
            for (p, pod) in traffic.pods.iter().enumerate() {
                problems.known(format!("traffic.value.pods[{p}].pod"), "pod", &pod.pod, &pods);
            }
        }
        if let Some(latency) = self.latency.known() {
            for (p, pair) in latency.nodes.iter().enumerate() {
                let path = format!("latency.value.nodes[{p}]");
                problems.known(format!("{path}.from"), "node", &pair.from, &nodes);
                problems.known(format!("{path}.to"), "node", &pair.to, &nodes);
            }
            for (p, pair) in latency.zones.iter().enumerate() {
                let path = format!("latency.value.zones[{p}]");
                problems.known(format!("{path}.from"), "zone", &pair.from, &zones);
                problems.known(format!("{path}.to"), "zone", &pair.to, &zones);
            }
        }
        if let Facts::Fresh { as_of, .. } = &self.traffic
            && *as_of > self.taken_at
        {
            problems.add("traffic.fresh.asOf", "lies after takenAt");
        }
        problems.0
    }
}
