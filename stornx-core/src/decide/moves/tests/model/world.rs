//! The world as the API server holds it, and what is kept beside it to judge by.
//!
//! Small numbers stand for names: pod 3 of load 1 is `w1-3`. Each load is a Deployment
//! of three replicas, one in each of the zones `a`, `b` and `c`; its move goes to `d0`.
//! Where moves hold a minimum, a HorizontalPodAutoscaler is over each load: its figures
//! ask for [`Load::demand`] replicas, and it sets what they and its minimum ask for.

/// Replicas of each load.
pub(super) const BEFORE: u8 = 3;
/// The node that moves go to.
pub(super) const TARGET: u8 = 3;
/// Where a replica goes that was not told where, if not to the target.
pub(super) const ELSEWHERE: u8 = 2;
/// Replicas that must stay Ready, by the disruption budget of each load.
pub(super) const BUDGET: u8 = 3;
/// The minimum of an autoscaler whose minimum a move may hold.
pub(super) const MINIMUM: u8 = 2;
/// The maximum of each autoscaler.
pub(super) const MAXIMUM: u8 = 10;
/// The last age that is told apart: after the time-out.
pub(super) const LAST_TICK: u8 = 3;

/// Seconds since the first cycle: before the grace, after it, after half of the time-out,
/// after the time-out; then a round of the calmed world each.
pub(super) fn seconds(tick: u8) -> u64 {
    let tick = u64::from(tick);
    match tick {
        0..=2 => 100 * tick,
        _ => 150 + 100 * tick,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Phase {
    Pending,
    Starting,
    Unready,
    Ready,
}

/// A pod that is not being deleted: one that is, counts nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pod {
    pub(super) name: u8,
    pub(super) node: Option<u8>,
    pub(super) phase: Phase,
    /// It goes first, of those that are alike.
    pub(super) marked: bool,
    /// It was told to run on the target, by the intent of this tick.
    pub(super) steered: Option<u8>,
    pub(super) created: u8,
}

/// A Deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Deployment {
    pub(super) count: u8,
    /// Who set the count last is not StornX.
    pub(super) by_others: bool,
    /// Its controller counts as many Ready as are asked for, by its own view of them.
    pub(super) counted: bool,
    pub(super) rollout: bool,
    pub(super) opted_out: bool,
}

impl Deployment {
    /// Without what its controller reports.
    pub(super) const fn wanted(self) -> Self {
        Self { counted: true, ..self }
    }
}

/// A HorizontalPodAutoscaler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Hpa {
    pub(super) min: u8,
    /// Who set the minimum last is not StornX.
    pub(super) by_others: bool,
    /// What StornX noted on it: the minimum before, and what it was raised to.
    pub(super) held: Option<(u8, u8)>,
}

/// A Deployment, its ReplicaSet and its pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Load {
    pub(super) deployment: Deployment,
    pub(super) hpa: Option<Hpa>,
    /// Replicas that the autoscaler finds needed by its figures.
    pub(super) demand: u8,
    /// The count that the ReplicaSet knows of.
    pub(super) known_count: u8,
    /// By name.
    pub(super) pods: Vec<Pod>,
    /// The ReplicaSet has made or removed a pod, and its own view does not show that yet: it
    /// does neither before that.
    pub(super) expects: bool,
    /// A quota lets no fourth replica be made.
    pub(super) quota: bool,
    /// A fault of its own has befallen it.
    pub(super) suffered: bool,
    /// A move is still to begin.
    pub(super) wants_to_move: bool,
    pub(super) judge: Judge,
}

/// Kept to judge by; nobody in the world sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Judge {
    /// The count that others set last.
    pub(super) wish: u8,
    /// The lowest that it ever was.
    pub(super) least_wish: u8,
    /// The minimum that the owner of the autoscaler set last.
    pub(super) minimum: u8,
    /// The count is one more than that, by a write of ours.
    pub(super) surge_out: bool,
    /// The last that lowered the count was StornX.
    pub(super) lowered_by_us: bool,
    /// So it was when the ReplicaSet learned of the count.
    pub(super) known_by_us: bool,
    /// The victim was marked anew at the end, the mark of the beginning being gone: that the
    /// controller has seen that one is not proven.
    pub(super) marked_late: bool,
    /// Ready endpoints that faults have taken so far.
    pub(super) toll: u8,
}

impl Load {
    pub(super) fn new(pods: &[Pod], holds: bool) -> Self {
        Self {
            deployment: Deployment {
                count: BEFORE,
                by_others: true,
                counted: true,
                rollout: false,
                opted_out: false,
            },
            hpa: holds.then_some(Hpa { min: MINIMUM, by_others: true, held: None }),
            demand: BEFORE,
            known_count: BEFORE,
            pods: pods.to_vec(),
            expects: false,
            quota: false,
            suffered: false,
            wants_to_move: true,
            judge: Judge {
                wish: BEFORE,
                least_wish: BEFORE,
                minimum: MINIMUM,
                surge_out: false,
                lowered_by_us: false,
                known_by_us: false,
                marked_late: false,
                toll: 0,
            },
        }
    }

    pub(super) fn ready(&self) -> u8 {
        let ready = self.pods.iter().filter(|pod| pod.phase == Phase::Ready);
        u8::try_from(ready.count()).unwrap()
    }

    pub(super) fn active(&self) -> u8 {
        u8::try_from(self.pods.len()).unwrap()
    }

    pub(super) fn pod(&self, name: u8) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.name == name)
    }

    pub(super) fn pod_mut(&mut self, name: u8) -> Option<&mut Pod> {
        self.pods.iter_mut().find(|pod| pod.name == name)
    }

    /// Takes a pod away that a fault took.
    pub(super) fn lose(&mut self, name: u8) {
        if self.pod(name).is_some_and(|pod| pod.phase == Phase::Ready) {
            self.judge.toll += 1;
        }
        self.pods.retain(|pod| pod.name != name);
    }

    /// The count that the autoscaler wants, if it is another one.
    pub(super) fn wanted_by_autoscaler(&self) -> Option<u8> {
        let wanted = self.demand.max(self.hpa?.min).min(MAXIMUM);
        (wanted != self.deployment.count).then_some(wanted)
    }

    /// Somebody else than StornX sets the count.
    pub(super) fn set_by_others(&mut self, count: u8) {
        self.deployment.count = count;
        self.deployment.by_others = true;
        let judge = &mut self.judge;
        judge.wish = count;
        judge.least_wish = judge.least_wish.min(count);
        judge.surge_out = false;
        judge.lowered_by_us = false;
    }
}

/// The pods of each load as they were at one time.
pub(super) type PodsVersion = Vec<Vec<Pod>>;
/// The Deployments as they were at one time.
pub(super) type DeploymentsVersion = Vec<Deployment>;
/// The autoscalers as they were at one time.
pub(super) type AutoscalersVersion = Vec<Option<Hpa>>;

/// A watch of one kind. What it shows is the oldest version that is left.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Watch<T> {
    /// Versions before the one that stands, oldest first.
    pub(super) old: Vec<T>,
    /// Events come late.
    pub(super) lags: bool,
}

impl<T: PartialEq> Watch<T> {
    pub(super) const fn new(lags: bool) -> Self {
        Self { old: Vec::new(), lags }
    }

    /// What stood has become something else. More versions than `most` are not kept:
    /// those between are lost, as events are that a re-list makes up for.
    pub(super) fn moved_on(&mut self, before: T, most: usize) {
        if self.lags && self.old.len() < most {
            self.old.push(before);
        }
    }
}

/// What a cycle saw when it began.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    pub(super) tick: u8,
    pub(super) deployments: DeploymentsVersion,
    pub(super) autoscalers: AutoscalersVersion,
    pub(super) pods: PodsVersion,
    /// Nodes that are lost, a bit each.
    pub(super) lost_nodes: u8,
    /// Loads that are still to move.
    pub(super) wants_to_move: Vec<bool>,
}

/// One thing that the daemon asks the API server for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Request {
    /// To store a memory.
    Save(u32),
    /// To raise the count, `victim` being marked before.
    Surge {
        load: usize,
        observed: u8,
        victim: u8,
    },
    /// To lower the count, one replica going; nobody in particular where none is named.
    /// Where another one stands in for it, that must be counted by its controller.
    Lower {
        load: usize,
        observed: u8,
        victim: Option<u8>,
        stands_in: bool,
    },
    /// To raise the minimum of the autoscaler.
    Raise {
        load: usize,
        observed: u8,
        victim: u8,
    },
    /// To give it back, `goes` being marked; another one must be Ready then.
    GiveBack {
        load: usize,
        goes: Option<u8>,
        stands_in: Option<u8>,
    },
    /// To clear a record; whether because others changed the count.
    Close {
        load: usize,
        observed: u8,
        changed: bool,
    },
    Unmark {
        load: usize,
        observed: u8,
        pods: Vec<u8>,
    },
    Release {
        load: usize,
        pods: Vec<u8>,
    },
}

impl Request {
    /// Whether it is about a load. A memory is about all of them.
    pub(super) const fn concerns(&self, at: usize) -> bool {
        match self {
            Self::Save(_) => true,
            Self::Surge { load, .. }
            | Self::Lower { load, .. }
            | Self::Raise { load, .. }
            | Self::GiveBack { load, .. }
            | Self::Close { load, .. }
            | Self::Unmark { load, .. }
            | Self::Release { load, .. } => *load == at,
        }
    }
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Done,
    Refused,
    None,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// Nothing of it was sent.
    First,
    /// The victim is marked, the count is next.
    Marked,
    /// The same for the minimum of an autoscaler, which was read before the mark.
    MarkedFor(Hpa),
    /// The count was not lowered: the mark is taken off, then this is the answer.
    Withdraw(Answer),
}

/// A cycle of the daemon that writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Cycle {
    /// What it knows, as a number; see `Product`.
    pub(super) thread: u32,
    pub(super) request: Request,
    pub(super) stage: Stage,
    /// The memory that stands is the one it read or wrote last.
    pub(super) current: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Daemon {
    Down,
    Idle,
    Busy(Box<Cycle>),
}

/// A request that nobody waits for any more, and that may still be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Late {
    Save(u32),
    Count {
        load: usize,
        observed: u8,
        wanted: u8,
    },
    /// What is to become of an autoscaler.
    Minimum {
        load: usize,
        hpa: Hpa,
    },
}

impl Late {
    /// Whether it is about a load.
    pub(super) const fn concerns(&self, at: usize) -> bool {
        match self {
            Self::Save(_) => true,
            Self::Count { load, .. } | Self::Minimum { load, .. } => *load == at,
        }
    }
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) tick: u8,
    pub(super) loads: Vec<Load>,
    /// Nodes that are lost, a bit each.
    pub(super) lost_nodes: u8,
    /// The memory that is stored, as a number; see `Product`.
    pub(super) store: u32,
    pub(super) pods: Watch<PodsVersion>,
    pub(super) deployments: Watch<DeploymentsVersion>,
    pub(super) autoscalers: Watch<AutoscalersVersion>,
    /// The pods as the controllers of the loads see them.
    pub(super) controllers: Watch<PodsVersion>,
    pub(super) daemon: Daemon,
    pub(super) late: Option<Late>,
    pub(super) faults_left: u8,
    /// Promises that were broken, a bit each; see `properties`.
    pub(super) broken: u8,
}

impl State {
    pub(super) fn new(loads: usize, faults: u8, lags: bool, holds: bool) -> Self {
        let pod = |at| Pod {
            name: at,
            node: Some(at),
            phase: Phase::Ready,
            marked: false,
            steered: None,
            created: 0,
        };
        let pods: Vec<Pod> = (0..BEFORE).map(pod).collect();
        Self {
            tick: 0,
            loads: (0..loads).map(|_| Load::new(&pods, holds)).collect(),
            lost_nodes: 0,
            store: 0,
            pods: Watch::new(lags),
            deployments: Watch::new(lags),
            autoscalers: Watch::new(lags),
            controllers: Watch::new(false),
            daemon: Daemon::Idle,
            late: None,
            faults_left: faults,
            broken: 0,
        }
    }

    pub(super) fn is_lost(&self, node: u8) -> bool {
        self.lost_nodes & (1 << node) != 0
    }

    pub(super) fn pods_now(&self) -> PodsVersion {
        self.loads.iter().map(|load| load.pods.clone()).collect()
    }

    pub(super) fn deployments_now(&self) -> DeploymentsVersion {
        self.loads.iter().map(|load| load.deployment).collect()
    }

    pub(super) fn autoscalers_now(&self) -> AutoscalersVersion {
        self.loads.iter().map(|load| load.hpa).collect()
    }

    /// The pods of a load as its controllers see them.
    pub(super) fn known_pods(&self, at: usize) -> &[Pod] {
        self.controllers.old.first().map_or(&self.loads[at].pods, |version| &version[at])
    }

    /// Its controllers write down what they count.
    pub(super) fn count_ready(&mut self) {
        for at in 0..self.loads.len() {
            let ready = self.known_pods(at).iter().filter(|pod| pod.phase == Phase::Ready).count();
            let holds = self.loads[at].hpa.is_some();
            let deployment = &mut self.loads[at].deployment;
            // Nobody asks for it where an autoscaler lowers the count.
            deployment.counted = holds || ready >= usize::from(deployment.count);
        }
    }

    /// What the daemon would see now.
    pub(super) fn seen(&self) -> Seen {
        let pods = self.pods.old.first().cloned();
        let deployments = self.deployments.old.first().cloned();
        let autoscalers = self.autoscalers.old.first().cloned();
        Seen {
            tick: self.tick,
            deployments: deployments.unwrap_or_else(|| self.deployments_now()),
            autoscalers: autoscalers.unwrap_or_else(|| self.autoscalers_now()),
            pods: pods.unwrap_or_else(|| self.pods_now()),
            lost_nodes: self.lost_nodes,
            wants_to_move: self
                .loads
                .iter()
                .map(|load| load.wants_to_move && self.tick == 0)
                .collect(),
        }
    }
}
