//! What a snapshot read from a file must satisfy beyond the types of its fields: every
//! name it mentions exists, nothing is named twice, and what belongs together agrees.
//! Each problem says where, as a path into the file, and what is allowed.
//!
//! Facts of real clusters that look odd are no problems: a pod on a node that is gone, a
//! weight for a zone that is gone, fewer pods than asked for.

mod prune;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    Constraints, Facts, Host, NodeExpression, NodeOperator, PodPhase, Snapshot, Traffic, Workload,
};
use crate::{
    ids::{NodeName, PodName, WorkloadRef, ZoneName},
    units::{Span, Timestamp},
};

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

/// Names that exist.
struct Known<'a> {
    nodes: BTreeSet<&'a NodeName>,
    zones: BTreeSet<&'a ZoneName>,
    workloads: BTreeSet<&'a WorkloadRef>,
    pods: BTreeSet<&'a PodName>,
}

impl<'a> Known<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        Self {
            nodes: snapshot.nodes.iter().map(|node| &node.name).collect(),
            zones: snapshot.nodes.iter().map(|node| &node.zone).collect(),
            workloads: snapshot.workloads.iter().map(|workload| &workload.id).collect(),
            pods: snapshot.workloads.iter().flat_map(|w| &w.pods).map(|pod| &pod.name).collect(),
        }
    }
}

struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { path: path.into(), message: message.into() });
    }

    /// Reports what appears twice, at its second place.
    fn unique<T: Ord>(
        &mut self,
        items: impl Iterator<Item = (String, T)>,
        text: impl Fn(&T) -> String,
    ) {
        let mut seen = BTreeSet::new();
        for (path, item) in items {
            let twice = text(&item);
            if !seen.insert(item) {
                self.add(path, format!("{twice} is named twice; once is allowed"));
            }
        }
    }

    fn known<T: Ord + fmt::Display>(
        &mut self,
        path: impl Into<String>,
        what: &str,
        id: &T,
        all: &BTreeSet<&T>,
    ) {
        if !all.contains(id) {
            self.add(path, format!("{what} {id} does not exist in this snapshot"));
        }
    }
}

/// Items with their place in a list and the field that names them.
fn placed<'a, T: 'a, K: 'a>(
    list: &'a str,
    items: &'a [T],
    field: &'a str,
    key: impl Fn(&'a T) -> K + 'a,
) -> impl Iterator<Item = (String, K)> + 'a {
    items
        .iter()
        .enumerate()
        .map(move |(index, item)| (format!("{list}[{index}]{field}"), key(item)))
}

impl Snapshot {
    /// Everything that is wrong with this snapshot; empty when it can be decided on.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems(Vec::new());
        let known = Known::of(self);
        self.nodes_problems(&mut problems);
        self.workloads_problems(&mut problems);
        for (h, host) in self.hosts.iter().enumerate() {
            host_problems(&format!("hosts[{h}]"), host, &known, &mut problems);
        }
        problems.unique(placed("hosts", &self.hosts, ".name", |h| &h.name), |n| n.to_string());
        self.usage_problems(&known, &mut problems);
        self.traffic_problems(&known, &mut problems);
        self.latency_problems(&known, &mut problems);
        problems.0
    }

    fn nodes_problems(&self, problems: &mut Problems) {
        problems.unique(placed("nodes", &self.nodes, ".name", |n| &n.name), |n| n.to_string());
        let mut region_of = BTreeMap::new();
        for (n, node) in self.nodes.iter().enumerate() {
            let region = *region_of.entry(&node.zone).or_insert(&node.region);
            if *region != node.region {
                problems.add(
                    format!("nodes[{n}].region"),
                    format!(
                        "zone {} is in region {region} already; a zone has one region",
                        node.zone
                    ),
                );
            }
        }
    }

    fn workloads_problems(&self, problems: &mut Problems) {
        let workloads = &self.workloads;
        problems.unique(placed("workloads", workloads, ".id", |w| &w.id), |id| id.to_string());
        let pods = workloads.iter().enumerate().flat_map(|(w, workload)| {
            let pods = workload.pods.iter().enumerate();
            pods.map(move |(p, pod)| (format!("workloads[{w}].pods[{p}].name"), &pod.name))
        });
        problems.unique(pods, |name| name.to_string());
        for (w, workload) in workloads.iter().enumerate() {
            workload_problems(&format!("workloads[{w}]"), workload, problems);
        }
    }

    fn usage_problems(&self, known: &Known<'_>, problems: &mut Problems) {
        let Some((list, usage)) = located("usage", &self.usage, self.taken_at, problems) else {
            return;
        };
        problems.unique(placed(&list, usage, ".pod", |u| &u.pod), |pod| pod.to_string());
        for (path, pod) in placed(&list, usage, ".pod", |u| &u.pod) {
            problems.known(path, "pod", pod, &known.pods);
        }
    }

    fn traffic_problems(&self, known: &Known<'_>, problems: &mut Problems) {
        let Some((at, traffic)) = located("traffic", &self.traffic, self.taken_at, problems) else {
            return;
        };
        if traffic.window == Span::ZERO && !(traffic.edges.is_empty() && traffic.pods.is_empty()) {
            problems.add(format!("{at}.window"), "rates are counted over a window above 0 ms");
        }
        edges_problems(&format!("{at}.edges"), traffic, known, problems);
        let list = format!("{at}.pods");
        problems.unique(placed(&list, &traffic.pods, ".pod", |p| &p.pod), |pod| pod.to_string());
        for (path, pod) in placed(&list, &traffic.pods, ".pod", |p| &p.pod) {
            problems.known(path, "pod", pod, &known.pods);
        }
    }

    fn latency_problems(&self, known: &Known<'_>, problems: &mut Problems) {
        let Some((at, latency)) = located("latency", &self.latency, self.taken_at, problems) else {
            return;
        };
        let list = format!("{at}.nodes");
        let pairs = placed(&list, &latency.nodes, "", |pair| (&pair.from, &pair.to));
        problems.unique(pairs, |(from, to)| format!("{from} to {to}"));
        for (path, (from, to)) in placed(&list, &latency.nodes, "", |pair| (&pair.from, &pair.to)) {
            problems.known(format!("{path}.from"), "node", from, &known.nodes);
            problems.known(format!("{path}.to"), "node", to, &known.nodes);
        }
        let list = format!("{at}.zones");
        let pairs = placed(&list, &latency.zones, "", |pair| (&pair.from, &pair.to));
        problems.unique(pairs, |(from, to)| format!("{from} to {to}"));
        for (path, (from, to)) in placed(&list, &latency.zones, "", |pair| (&pair.from, &pair.to)) {
            problems.known(format!("{path}.from"), "zone", from, &known.zones);
            problems.known(format!("{path}.to"), "zone", to, &known.zones);
        }
    }
}

/// The facts and their path in the file, which names how well they are known.
fn located<'a, T>(
    group: &str,
    facts: &'a Facts<T>,
    taken_at: Timestamp,
    problems: &mut Problems,
) -> Option<(String, &'a T)> {
    let (state, as_of, value) = match facts {
        Facts::Fresh { as_of, value, .. } => ("fresh", as_of, value),
        Facts::Stale { as_of, value, .. } => ("stale", as_of, value),
        Facts::Missing { .. } => return None,
    };
    if *as_of > taken_at {
        let path = format!("{group}.{state}.asOf");
        problems.add(path, format!("lies after takenAt, {}", taken_at.as_millis()));
    }
    Some((format!("{group}.{state}.value"), value))
}

fn workload_problems(path: &str, workload: &Workload, problems: &mut Problems) {
    for (p, pod) in workload.pods.iter().enumerate() {
        let path = format!("{path}.pods[{p}]");
        if pod.name.namespace() != workload.id.namespace() {
            let message = format!("{} is not in the namespace of {}", pod.name, workload.id);
            problems.add(format!("{path}.name"), message);
        }
        if pod.phase == PodPhase::Ready && pod.node.is_none() {
            problems.add(format!("{path}.node"), "is absent; a Ready pod has a node");
        }
        if pod.phase == PodPhase::Pending && pod.node.is_some() {
            problems.add(format!("{path}.node"), "is there; a Pending pod has no node yet");
        }
    }
    if let Some(autoscaler) = &workload.autoscaler
        && autoscaler.min > autoscaler.max
    {
        let message = format!("{} is above max, {}", autoscaler.min, autoscaler.max);
        problems.add(format!("{path}.autoscaler.min"), message);
    }
    let policy = &workload.policy;
    if let (Some(min), Some(max)) = (policy.min_replicas, policy.max_replicas)
        && min > max
    {
        let message = format!("{min} is above maxReplicas, {max}");
        problems.add(format!("{path}.policy.minReplicas"), message);
    }
    constraints_problems(&format!("{path}.constraints"), &workload.constraints, problems);
}

fn constraints_problems(path: &str, constraints: &Constraints, problems: &mut Problems) {
    if constraints.max_zone_skew == Some(0) {
        problems.add(format!("{path}.maxZoneSkew"), "0 is not allowed; at least 1");
    }
    for (t, term) in constraints.node_affinity.iter().enumerate() {
        for (e, expression) in term.expressions.iter().enumerate() {
            if let Some(allowed) = expression_problem(expression) {
                let path = format!("{path}.nodeAffinity[{t}].expressions[{e}].values");
                problems.add(path, format!("{:?} takes {allowed}", expression.operator));
            }
        }
    }
}

/// What the operator takes, when that is not what it has.
fn expression_problem(expression: &NodeExpression) -> Option<&'static str> {
    let values = &expression.values;
    let whole = |text: &str| text.parse::<i64>().is_ok();
    match expression.operator {
        NodeOperator::In | NodeOperator::NotIn if values.is_empty() => Some("one value or more"),
        NodeOperator::Exists | NodeOperator::DoesNotExist if !values.is_empty() => {
            Some("no values")
        }
        NodeOperator::Gt | NodeOperator::Lt if !matches!(values.as_slice(), [one] if whole(one.as_str())) => {
            Some("one whole number")
        }
        _ => None,
    }
}

fn host_problems(path: &str, host: &Host, known: &Known<'_>, problems: &mut Problems) {
    let list = format!("{path}.backends");
    problems.unique(placed(&list, &host.backends, "", |id| id), |id| id.to_string());
    for (path, backend) in placed(&list, &host.backends, "", |id| id) {
        problems.known(path, "workload", backend, &known.workloads);
    }
}

fn edges_problems(list: &str, traffic: &Traffic, known: &Known<'_>, problems: &mut Problems) {
    let edges = placed(list, &traffic.edges, "", |e| (&e.caller, &e.callee, &e.host));
    problems.unique(edges, |(caller, callee, host)| format!("{caller} to {callee} by {host}"));
    for (e, edge) in traffic.edges.iter().enumerate() {
        let path = format!("{list}[{e}]");
        problems.known(format!("{path}.caller"), "workload", &edge.caller, &known.workloads);
        problems.known(format!("{path}.callee"), "workload", &edge.callee, &known.workloads);
        let list = format!("{path}.routes");
        let pairs = placed(&list, &edge.routes, "", |route| (&route.from, &route.to));
        problems.unique(pairs, |(from, to)| format!("{from} to {to}"));
        for (r, route) in edge.routes.iter().enumerate() {
            let path = format!("{list}[{r}]");
            problems.known(format!("{path}.from"), "zone", &route.from, &known.zones);
            problems.known(format!("{path}.to"), "zone", &route.to, &known.zones);
        }
    }
}
