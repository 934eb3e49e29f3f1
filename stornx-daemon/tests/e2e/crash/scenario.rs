//! What is done in a case: what is begun, and when it is over.

use stornx_core::{
    ids::{NodeName, PodName},
    model::Workload as Seen,
    plan::{Action, MoveWay},
    policy::{AutoscaledMoves, Policy},
    report::{ScaleWhy, Trigger, Why},
    units::Span,
};

use crate::{Failure, moves::a_move, support::driver::busy};

/// What is done in a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scenario {
    Move,
    /// The owner wants no moves any more once the surge is there.
    UndoneMove,
    /// The surge is never Ready.
    NeverReady,
    EvictionMove,
    Grow,
    /// The new replica finds no room on the node that it is told.
    Release,
    Shrink,
    ShrinkByTwo,
}

impl Scenario {
    pub(super) const ALL: [Self; 8] = [
        Self::Move,
        Self::UndoneMove,
        Self::NeverReady,
        Self::EvictionMove,
        Self::Grow,
        Self::Release,
        Self::Shrink,
        Self::ShrinkByTwo,
    ];

    /// Replicas before and after.
    pub(super) const fn replicas(self) -> (u32, u32) {
        match self {
            Self::Move | Self::UndoneMove | Self::NeverReady | Self::EvictionMove => (3, 3),
            Self::Grow => (2, 4),
            Self::Release => (2, 3),
            Self::Shrink => (4, 3),
            Self::ShrinkByTwo => (4, 2),
        }
    }

    /// How many replicas are to go.
    pub(super) const fn victims(self) -> usize {
        match self {
            Self::Move | Self::UndoneMove | Self::NeverReady | Self::EvictionMove => 1,
            Self::Shrink => 1,
            Self::ShrinkByTwo => 2,
            Self::Grow | Self::Release => 0,
        }
    }

    pub(super) fn policy(self, namespace: &str) -> Result<Policy, Failure> {
        let mut policy = busy(&[namespace])?;
        if self == Self::EvictionMove {
            policy.moves.autoscaled = AutoscaledMoves::Evict;
        }
        // What waits for it is to be over soon.
        if matches!(self, Self::NeverReady | Self::Release) {
            policy.moves.timeout = Span::from_seconds(10);
        }
        Ok(policy)
    }

    /// What would be begun now, as long as the victims (or the count) are as at the
    /// beginning.
    pub(super) fn propose(
        self,
        workload: &Seen,
        to: NodeName,
        victims: &[String],
    ) -> Option<(Action, Why)> {
        let (id, observed) = (workload.id.clone(), workload.desired);
        let pod = |victim: &String| workload.pods.iter().find(|pod| pod.name.name() == victim);
        let scaled = |to, victims| {
            Why::Scale(ScaleWhy {
                workload: workload.id.clone(),
                trigger: Trigger::Idle,
                from: observed,
                to,
                utilisation: None,
                p95: None,
                placements: Vec::new(),
                victims,
            })
        };
        match self {
            Self::Move | Self::UndoneMove | Self::NeverReady | Self::EvictionMove => {
                let pod = victims.first().and_then(pod)?;
                let way = if self == Self::EvictionMove { MoveWay::Evict } else { MoveWay::Surge };
                a_move(workload, pod, to, way)
            }
            Self::Grow | Self::Release if observed == self.replicas().0 => {
                let new = self.replicas().1 - observed;
                let nodes = (0..new).map(|_| to.clone()).collect();
                let action = Action::AddReplicas { workload: id, observed, nodes };
                Some((action, scaled(self.replicas().1, Vec::new())))
            }
            Self::Shrink | Self::ShrinkByTwo if observed == self.replicas().0 => {
                let victims: Option<Vec<PodName>> =
                    victims.iter().map(|victim| Some(pod(victim)?.name.clone())).collect();
                let victims = victims?;
                let why = scaled(self.replicas().1, victims.clone());
                Some((Action::RemoveReplicas { workload: id, observed, victims }, why))
            }
            Self::Grow | Self::Release | Self::Shrink | Self::ShrinkByTwo => None,
        }
    }

    /// Whether everything is as it is to be in the end; `surged`: more replicas than at
    /// the beginning have been seen.
    pub(super) fn is_over(self, workload: &Seen, victims: &[String], surged: bool) -> bool {
        let stands = |victim: &String| workload.active().any(|pod| pod.name.name() == victim);
        let ends = usize::try_from(self.replicas().1).unwrap_or(0);
        let whole = workload.pods.len() == ends && workload.ready().count() == ends;
        let unmarked = workload.pods.iter().all(|pod| !pod.traces.victim);
        let gone = match self {
            Self::Move | Self::EvictionMove | Self::Shrink | Self::ShrinkByTwo => {
                !victims.iter().any(stands)
            }
            Self::UndoneMove | Self::NeverReady => surged && victims.iter().all(stands),
            Self::Grow | Self::Release => true,
        };
        whole && unmarked && gone
    }
}
