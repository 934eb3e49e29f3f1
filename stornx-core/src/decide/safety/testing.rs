//! Small worlds for the tests of `safety`, `place` and `scale`.

use crate::{
    memory::Memory,
    model::{
        ApiVersion, Constraints, Edge, Facts, Host, Mesh, Node, Pod, PodPhase, PodTraffic,
        PodUsage, Protocol, RouteTraffic, Snapshot, Source, Steering, Traces, Traffic, Workload,
    },
    policy::Policy,
    units::{Bytes, BytesPerSecond, MilliCpu, Millis, Resources, Rps, Share, Span, Timestamp},
    view::{View, WorkloadIndex},
};

/// The instant of every test.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);

/// A world under construction. Zones are `a`, `b`, ..; nodes `a0`, `a1`, ..; workloads
/// and pods have short names in the namespace `shop`.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) snapshot: Snapshot,
    pub(crate) policy: Policy,
    pub(crate) memory: Memory,
}

pub(crate) fn resources(cpu: u64, memory: u64) -> Resources {
    Resources { cpu: MilliCpu::new(cpu), memory: Bytes::new(memory) }
}

fn fresh<T>(value: T) -> Facts<T> {
    Facts::Fresh { as_of: NOW, source: Source::Simulator, value }
}

impl World {
    /// Zones with so many nodes each.
    pub(crate) fn new(zones: &[usize]) -> Self {
        let mut nodes = Vec::new();
        for (zone, count) in zones.iter().enumerate() {
            let zone = zone_name(zone);
            for at in 0..*count {
                nodes.push(Node {
                    name: format!("{zone}{at}").parse().unwrap(),
                    zone: zone.parse().unwrap(),
                    region: "r".parse().unwrap(),
                    ready: true,
                    schedulable: true,
                    allocatable: resources(4000, 4000),
                    pod_capacity: 20,
                    reserved: Resources::default(),
                    reserved_pods: 0,
                    labels: std::collections::BTreeMap::new(),
                    taints: Vec::new(),
                    named_since: None,
                });
            }
        }
        let snapshot = Snapshot {
            api_version: ApiVersion::default(),
            taken_at: NOW,
            nodes,
            workloads: Vec::new(),
            hosts: Vec::new(),
            mesh: Mesh::default(),
            steering: Steering::default(),
            quiet: false,
            usage: fresh(Vec::new()),
            traffic: fresh(Traffic { window: Span::from_seconds(60), ..Traffic::default() }),
            latency: Facts::Missing { reason: "no exporter".to_owned() },
            warnings: Vec::new(),
            memory: crate::memory::Memory::default(),
        };
        let mut policy = Policy::default();
        // Room between what is even and what is forbidden, so that tests can tell them apart.
        policy.fault_tolerance.max_skew = 3;
        Self { snapshot, policy, memory: Memory::default() }
    }

    /// A workload with one Ready pod on each of `nodes`, asking for 100m and 100 bytes.
    pub(crate) fn workload(&mut self, name: &str, nodes: &[&str]) -> &mut Workload {
        let pods: Vec<Pod> = nodes
            .iter()
            .enumerate()
            .map(|(at, node)| pod(&format!("{name}-{at}"), Some(node), PodPhase::Ready))
            .collect();
        self.snapshot.workloads.push(Workload {
            id: id(name),
            managed: true,
            desired: u32::try_from(pods.len()).unwrap(),
            requests: resources(100, 100),
            limits: None,
            constraints: Constraints::default(),
            autoscaler: None,
            budget: None,
            rollout: crate::model::Rollout::Settled,
            policy: crate::model::WorkloadPolicy::default(),
            startup: None,
            min_ready: Span::ZERO,
            counted_by: crate::model::CountBy::Unknown,
            ready_counted: None,
            proxied: false,
            pods,
        });
        self.snapshot.hosts.push(Host {
            name: format!("{name}.shop.svc.cluster.local").parse().unwrap(),
            backends: vec![id(name)],
            rule: crate::model::Rule::None,
            default_split: crate::model::DefaultSplit::ByReplicas,
            adoptable: false,
            leftover: false,
            displaced: false,
            old_pod: None,
            foreign_endpoints: false,
            ztunnel_only: false,
        });
        self.snapshot.workloads.last_mut().unwrap()
    }

    /// The usage of one pod.
    pub(crate) fn usage(&mut self, pod: &str, cpu: u64, memory: u64) {
        let usage = PodUsage {
            pod: pod_name(pod),
            cpu: MilliCpu::new(cpu),
            memory: Bytes::new(memory),
            throttled: None,
        };
        if let Facts::Fresh { value, .. } = &mut self.snapshot.usage {
            value.retain(|known| known.pod != usage.pod);
            value.push(usage);
        }
    }

    /// The same usage of every pod of a workload.
    pub(crate) fn usage_of_all(&mut self, name: &str, cpu: u64, memory: u64) {
        let workload = self.snapshot.workloads.iter().find(|w| w.id == id(name)).unwrap();
        let pods: Vec<_> = workload.pods.iter().map(|pod| pod.name.name().to_owned()).collect();
        for pod in pods {
            self.usage(&pod, cpu, memory);
        }
    }

    pub(crate) fn traffic(&mut self) -> &mut Traffic {
        match &mut self.snapshot.traffic {
            Facts::Fresh { value, .. } => value,
            _ => panic!("traffic is missing"),
        }
    }

    /// What one pod serves.
    pub(crate) fn pod_traffic(&mut self, pod: &str, requests: f64, p95: Option<f64>) {
        self.traffic().pods.push(PodTraffic {
            pod: pod_name(pod),
            requests: Rps::saturating(requests),
            p95: p95.map(Millis::saturating),
            errors: Share::ZERO,
        });
    }

    /// An edge with its rates by pair of zones.
    pub(crate) fn edge(&mut self, caller: &str, callee: &str, routes: &[(&str, &str, f64)]) {
        let routes = routes
            .iter()
            .map(|(from, to, requests)| RouteTraffic {
                from: from.parse().unwrap(),
                to: to.parse().unwrap(),
                requests: Rps::saturating(*requests),
                request_bytes: BytesPerSecond::ZERO,
                response_bytes: BytesPerSecond::ZERO,
                p95: None,
                errors: Share::ZERO,
            })
            .collect();
        self.traffic().edges.push(Edge {
            caller: id(caller),
            callee: id(callee),
            host: format!("{callee}.shop.svc.cluster.local").parse().unwrap(),
            protocol: Protocol::Http,
            routes,
        });
    }

    pub(crate) fn node(&mut self, name: &str) -> &mut Node {
        self.snapshot.nodes.iter_mut().find(|node| node.name.as_str() == name).unwrap()
    }

    pub(crate) fn of(&mut self, name: &str) -> &mut Workload {
        self.snapshot.workloads.iter_mut().find(|workload| workload.id == id(name)).unwrap()
    }

    pub(crate) fn view(&self) -> View<'_> {
        View::new(&self.snapshot, &self.policy, NOW)
    }
}

pub(crate) fn zone_name(at: usize) -> String {
    char::from(b'a' + u8::try_from(at).unwrap()).to_string()
}

pub(crate) fn id(name: &str) -> crate::ids::WorkloadRef {
    format!("shop/Deployment/{name}").parse().unwrap()
}

pub(crate) fn pod_name(name: &str) -> crate::ids::PodName {
    format!("shop/{name}").parse().unwrap()
}

pub(crate) fn pod(name: &str, node: Option<&str>, phase: PodPhase) -> Pod {
    Pod {
        name: pod_name(name),
        node: node.map(|node| node.parse().unwrap()),
        phase,
        created_at: Timestamp::default(),
        ready_since: (phase == PodPhase::Ready).then(Timestamp::default),
        traces: Traces::default(),
    }
}

pub(crate) fn index(view: &View<'_>, name: &str) -> WorkloadIndex {
    view.workload(&id(name)).unwrap()
}

/// A reproducible stream of numbers (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, but not including, `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    /// True once in `of` throws.
    pub(crate) fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

/// `base` cases, or as many times that as `STORNX_CASES` is of 10,000.
pub(crate) fn cases(base: u64) -> u64 {
    let asked = std::env::var("STORNX_CASES").ok().and_then(|text| text.parse::<u64>().ok());
    asked.map_or(base, |asked| base.max(base * asked / 10_000))
}
