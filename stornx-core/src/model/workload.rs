//! Workloads, their replicas, and everything that binds StornX's hands on them.

use serde::{Deserialize, Serialize};

use super::topology::{Labels, TaintEffect};
use crate::{
    ids::{LabelKey, LabelValue, NodeName, PodName, WorkloadKind, WorkloadRef},
    units::{Bytes, MilliCpu, Resources, Share, Span, Timestamp},
};

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PodPhase {
    /// Not bound to a node yet.
    Pending,
    /// Bound, not Ready yet for the first time.
    Starting,
    /// Ready: an endpoint of its services.
    Ready,
    /// Was Ready, is not at the moment.
    Unready,
    /// Being deleted.
    Terminating,
}

/// One replica of a workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pod {
    /// Name.
    pub name: PodName,
    /// The node it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Where it is in its life.
    pub phase: PodPhase,
    /// When it was created.
    pub created_at: Timestamp,
    /// Since when it has been Ready without a break.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Timestamp>,
    /// What StornX has left on it.
    #[serde(default, skip_serializing_if = "Traces::is_none")]
    pub traces: Traces,
}

/// What StornX has left on a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Traces {
    /// Where it was told to run when it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steered: Option<Steered>,
    /// It is marked as the one that goes when the count is lowered.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub victim: bool,
}

/// That a pod runs on one node or not at all, because StornX asked for it there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Steered {
    /// Where it is to run.
    pub node: NodeName,
    /// When that was decided: with the node, the name of the intent.
    pub since: Timestamp,
}

impl Traces {
    /// Nothing was left on it.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A comparison of one node label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeExpression {
    /// The label compared.
    pub key: LabelKey,
    /// How.
    pub operator: NodeOperator,
    /// With what; empty for `Exists` and `DoesNotExist`, one whole number for `Gt`
    /// and `Lt`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<LabelValue>,
}

/// The operators of a node selector requirement, as Kubernetes defines them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum NodeOperator {
    /// The label has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is a whole number greater than the value.
    Gt,
    /// The label is a whole number less than the value.
    Lt,
}

/// One term of a required node affinity: all its expressions hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodeTerm {
    /// Comparisons of labels.
    pub expressions: Vec<NodeExpression>,
}

/// What a pod tolerates.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Toleration {
    /// The taint's key; every key when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<LabelKey>,
    /// The taint's value; every value when absent (operator `Exists`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<LabelValue>,
    /// The taint's effect; every effect when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// What limits where a replica may run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Constraints {
    /// Labels that the node must have.
    pub node_selector: Labels,
    /// Required node affinity: at least one term holds; none means no requirement.
    pub node_affinity: Vec<NodeTerm>,
    /// Tolerated taints.
    pub tolerations: Vec<Toleration>,
    /// Required anti-affinity to its own kind by node: at most one replica a node.
    pub one_per_node: bool,
    /// `maxSkew` of a topology spread constraint over zones with `DoNotSchedule`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_zone_skew: Option<u32>,
    /// A replica cannot start on another node (a volume bound to its node or zone,
    /// a host port).
    pub pinned: bool,
}

/// Who changed a replica count last. A Kubernetes API server keeps that in
/// `metadata.managedFields` of the object, together with the count: so the two are never
/// of different ages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CountBy {
    /// Nobody knows: then a count is taken for what it looks like.
    #[default]
    Unknown,
    /// StornX, and nobody since.
    StornX,
    /// Somebody else, alone or as well.
    Others,
}

impl CountBy {
    /// Nobody knows.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

/// Another controller that owns the replica count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Autoscaler {
    /// Which one.
    pub kind: AutoscalerKind,
    /// Its lower bound.
    pub min: u32,
    /// Its upper bound.
    pub max: u32,
    /// Its lower bound was raised for a move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldMinimum>,
}

impl Autoscaler {
    /// Whether the minimum that a move raised still stands. Somebody else may have set
    /// another one since.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.held.is_some_and(|held| held.raised == self.min)
    }
}

/// The minimum of an autoscaler while a move holds it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeldMinimum {
    /// What it was before, and will be again.
    pub before: u32,
    /// What it was raised to.
    pub raised: u32,
}

/// The controllers known to own replica counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AutoscalerKind {
    /// HorizontalPodAutoscaler.
    Hpa,
    /// KEDA ScaledObject.
    Keda,
    /// Another controller made the workload and owns it whole: an operator, Knative.
    Controller,
}

impl AutoscalerKind {
    /// Whether a count that it owns may be written when `SCALER_RESPECT_HPA` is off. An
    /// HPA and KEDA own nothing but the count, and somebody may want StornX in their
    /// place; whoever owns the whole workload writes its own count back.
    #[must_use]
    pub const fn may_be_passed_over(self) -> bool {
        match self {
            Self::Hpa | Self::Keda => true,
            Self::Controller => false,
        }
    }
}

/// A PodDisruptionBudget that covers the workload, percentages resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DisruptionBudget {
    /// Replicas that must stay Ready. The strictest budget when several match.
    pub min_ready: u32,
}

/// Whether the pod template is being replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Rollout {
    /// Every replica is of the current template.
    #[default]
    Settled,
    /// Replicas are being replaced.
    InProgress,
    /// `spec.paused`.
    Paused,
}

/// What the owner of a workload asks of StornX, by annotations.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkloadPolicy {
    /// Leave this workload alone altogether.
    pub opted_out: bool,
    /// Never scale it (its replicas may still move).
    pub no_scaling: bool,
    /// Never move its replicas.
    pub no_moves: bool,
    /// Never write routes for its hosts.
    pub no_routing: bool,
    /// Least replicas; [`Policy`](crate::policy::Policy) has the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<u32>,
    /// Most replicas; [`Policy`](crate::policy::Policy) has the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<u32>,
    /// Target p95; [`Policy`](crate::policy::Policy) has the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_time: Option<crate::units::Millis>,
}

/// A workload and its replicas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    /// Which one.
    pub id: WorkloadRef,
    /// In a monitored namespace. Others are known as callers and callees only.
    pub managed: bool,
    /// `spec.replicas`.
    pub desired: u32,
    /// Who changed that last.
    #[serde(default, skip_serializing_if = "CountBy::is_unknown")]
    pub counted_by: CountBy,
    /// Replicas that its controller counts as Ready, by its own view of them
    /// (`status.readyReplicas`). It may be behind: what it has not counted yet, it does not
    /// reckon with. Absent where nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_counted: Option<u32>,
    /// What one replica asks for.
    #[serde(default)]
    pub requests: Resources,
    /// What one replica may use; absent means without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Resources>,
    /// Where its replicas may run.
    #[serde(default)]
    pub constraints: Constraints,
    /// Who else owns the count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaler: Option<Autoscaler>,
    /// The disruption budget over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<DisruptionBudget>,
    /// State of its rollout.
    #[serde(default)]
    pub rollout: Rollout,
    /// What its owner asks.
    #[serde(default)]
    pub policy: WorkloadPolicy,
    /// From creation to Ready, as seen on this workload lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<Span>,
    /// `spec.minReadySeconds`: a replica is available once it has been Ready for so long.
    #[serde(default, skip_serializing_if = "Span::is_zero")]
    pub min_ready: Span,
    /// A replica of it has a proxy of its own: a sidecar, or it is a gateway. Such a caller
    /// reads routing rules by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxied: bool,
    /// Its replicas, those being deleted included.
    pub pods: Vec<Pod>,
}

impl Workload {
    /// The replicas that are Ready now.
    pub fn ready(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| pod.phase == PodPhase::Ready)
    }

    /// Whether its new replicas can be told where to run: those of a StatefulSet are bound
    /// to their volumes, others to a port or a volume of a node.
    #[must_use]
    pub fn is_steerable(&self) -> bool {
        self.id.kind() == WorkloadKind::Deployment && !self.constraints.pinned
    }

    /// The replicas that count towards [`desired`](Self::desired): not being deleted.
    pub fn active(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| pod.phase != PodPhase::Terminating)
    }
}

/// What one replica uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodUsage {
    /// Which replica.
    pub pod: PodName,
    /// CPU, averaged over the metrics window.
    pub cpu: MilliCpu,
    /// Memory working set.
    pub memory: Bytes,
    /// Share of the window's CPU periods in which it was throttled, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled: Option<Share>,
}
