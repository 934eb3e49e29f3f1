//! The scheduler: nodes that can take a pod, then the one with the best score. The
//! score is that of the default profile as far as it matters here: least allocated
//! (weight 1) and the default spread over zones and nodes (weight 2). Ties go to the
//! first by name; the real one draws lots.

use stornx_core::{
    ids::{LabelKey, LabelValue},
    model::{Constraints, Labels, NodeExpression, NodeOperator, Taint, TaintEffect, Toleration},
    units::Resources,
};

use super::state::{NONE, Phase, World};

/// Weight of the spread score in the default profile, over that of least allocated.
const SPREAD_WEIGHT: f64 = 2.0;

impl World {
    /// The node for a pod of `service`; none when no node can take it now. A node that
    /// was asked for is taken when it can take the pod.
    pub(crate) fn schedule(&self, service: usize, intent: Option<usize>) -> Option<usize> {
        self.schedule_among(service, intent, |_| true)
    }

    pub(crate) fn schedule_among(
        &self,
        service: usize,
        intent: Option<usize>,
        among: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if let Some(node) = intent
            && self.feasible(service, node)
        {
            return Some(node);
        }
        let feasible: Vec<usize> = (0..self.nodes.len())
            .filter(|node| among(*node) && self.feasible(service, *node))
            .collect();
        let crowding: Vec<f64> =
            feasible.iter().map(|node| self.crowding(service, *node)).collect();
        let most = crowding.iter().copied().fold(0.0, f64::max);
        let least = crowding.iter().copied().fold(f64::INFINITY, f64::min);
        let score = |place: usize| {
            let spread =
                if most > 0.0 { 100.0 * (most + least - crowding[place]) / most } else { 100.0 };
            self.least_allocated(service, feasible[place]) + SPREAD_WEIGHT * spread
        };
        (0..feasible.len())
            .max_by(|a, b| {
                let by_name = || {
                    let name = |place: usize| &self.model.nodes[feasible[place]].name;
                    name(*b).cmp(name(*a))
                };
                score(*a).total_cmp(&score(*b)).then_with(by_name)
            })
            .map(|place| feasible[place])
    }

    fn pods_of(&self, service: usize) -> impl Iterator<Item = &super::state::Pod> {
        self.services[service].pods.iter().map(|pod| &self.pods[*pod as usize])
    }

    /// Whether a node can take a pod.
    fn feasible(&self, service: usize, node: usize) -> bool {
        let (model, state) = (&self.model.nodes[node], &self.nodes[node]);
        let constraints = &self.scenario.services[service].constraints;
        let wants = self.model.services[service].requests;
        let free = model.allocatable.saturating_sub(state.requested);
        let on =
            |pod: &super::state::Pod| pod.active() && pod.node as usize == node && pod.node != NONE;
        !model.gateway
            && state.ready
            && wants.fits(&free)
            && state.pods < model.pod_capacity
            && self.taints(node).iter().all(|taint| tolerated(taint, &constraints.tolerations))
            && matches(constraints, &self.labels(node))
            && !(constraints.one_per_node && self.pods_of(service).any(on))
            && constraints.max_zone_skew.is_none_or(|skew| self.skew_kept(service, node, skew))
    }

    fn skew_kept(&self, service: usize, node: usize, skew: u32) -> bool {
        let mut counts = vec![0_u32; self.model.zones.len()];
        for pod in self.pods_of(service).filter(|pod| pod.active() && pod.node != NONE) {
            counts[pod.zone as usize] += 1;
        }
        let least = counts.iter().copied().min().unwrap_or(0);
        counts[self.model.nodes[node].zone] < least + skew
    }

    /// 0 to 100: the mean free share of CPU and memory once the pod is there.
    fn least_allocated(&self, service: usize, node: usize) -> f64 {
        let after: Resources = self.nodes[node].requested + self.model.services[service].requests;
        let whole = self.model.nodes[node].allocatable;
        let free = |used: f64, whole: f64| {
            if whole > 0.0 { (1.0 - used / whole).max(0.0) * 100.0 } else { 0.0 }
        };
        f64::midpoint(
            free(after.cpu.as_f64(), whole.cpu.as_f64()),
            free(after.memory.as_f64(), whole.memory.as_f64()),
        )
    }

    /// Pods of the service in the zone and on the node, each weighted by the logarithm
    /// of the number of such places, as the topology spread plugin does.
    #[allow(clippy::cast_precision_loss)]
    fn crowding(&self, service: usize, node: usize) -> f64 {
        let zone = self.model.nodes[node].zone;
        let (mut in_zone, mut on_node) = (0.0, 0.0);
        for pod in self.pods_of(service) {
            if pod.active() && pod.node != NONE {
                in_zone += f64::from(u8::from(pod.zone as usize == zone));
                on_node += f64::from(u8::from(pod.node as usize == node));
            }
        }
        let weight = |places: usize| (places as f64 + 2.0).ln();
        let nodes = self.model.nodes.len() - self.model.zones.len();
        in_zone * weight(self.model.zones.len()) + on_node * weight(nodes)
    }

    /// The labels of a node.
    pub(crate) fn labels(&self, node: usize) -> Labels {
        let model = &self.model.nodes[node];
        let zone = &self.model.zones[model.zone];
        let pairs = [
            ("kubernetes.io/hostname", model.name.as_str()),
            ("topology.kubernetes.io/zone", zone.name.as_str()),
            ("topology.kubernetes.io/region", self.model.regions[zone.region].as_str()),
        ];
        pairs
            .into_iter()
            .filter_map(|(key, value)| {
                Some((key.parse::<LabelKey>().ok()?, value.parse::<LabelValue>().ok()?))
            })
            .collect()
    }

    /// The taints of a node.
    pub(crate) fn taints(&self, node: usize) -> Vec<Taint> {
        let taint = |key: &str, effect| {
            Some(Taint { key: key.parse().ok()?, value: "".parse().ok()?, effect })
        };
        let state = &self.nodes[node];
        let mut taints = Vec::new();
        if state.pressure > 0 {
            let key = "node.kubernetes.io/memory-pressure";
            taints.extend(taint(key, TaintEffect::NoSchedule));
        }
        if !state.ready {
            taints.extend(taint("node.kubernetes.io/not-ready", TaintEffect::NoExecute));
        }
        if self.model.nodes[node].gateway {
            taints.extend(taint("stornx.io/gateway", TaintEffect::NoSchedule));
        }
        taints
    }

    /// Binds a pod to a node and starts it.
    pub(crate) fn bind(&mut self, pod: u32, node: usize) {
        self.seat(pod, node);
        self.start(pod);
    }

    /// Binds a pod to a node.
    pub(crate) fn seat(&mut self, pod: u32, node: usize) {
        let state = &mut self.pods[pod as usize];
        let model = &self.model.services[state.service as usize];
        state.node = u32::try_from(node).unwrap_or(NONE);
        state.zone = u32::try_from(self.model.nodes[node].zone).unwrap_or(NONE);
        state.phase = Phase::Starting;
        let target = &mut self.nodes[node];
        target.requested = target.requested + model.requests;
        target.pods += 1;
    }
}

fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    taint.effect == TaintEffect::PreferNoSchedule
        || tolerations.iter().any(|toleration| {
            toleration.key.as_ref().is_none_or(|key| key == &taint.key)
                && toleration.value.as_ref().is_none_or(|value| value == &taint.value)
                && toleration.effect.is_none_or(|effect| effect == taint.effect)
        })
}

fn matches(constraints: &Constraints, labels: &Labels) -> bool {
    let selected =
        constraints.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    let terms = &constraints.node_affinity;
    let affine = terms.is_empty()
        || terms.iter().any(|term| term.expressions.iter().all(|e| holds(e, labels)));
    selected && affine
}

fn holds(expression: &NodeExpression, labels: &Labels) -> bool {
    let value = labels.get(&expression.key);
    let listed = value.is_some_and(|value| expression.values.contains(value));
    let number = |text: &LabelValue| text.as_str().parse::<i64>().ok();
    let compared = || Some((number(value?)?, number(expression.values.first()?)?));
    match expression.operator {
        NodeOperator::In => listed,
        NodeOperator::NotIn => !listed,
        NodeOperator::Exists => value.is_some(),
        NodeOperator::DoesNotExist => value.is_none(),
        NodeOperator::Gt => compared().is_some_and(|(a, b)| a > b),
        NodeOperator::Lt => compared().is_some_and(|(a, b)| a < b),
    }
}
