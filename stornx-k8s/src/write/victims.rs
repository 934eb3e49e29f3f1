//! Taking exactly these replicas away.
//!
//! Of a Deployment: the victims are marked with the lowest deletion cost, then the
//! count is lowered. Before anything is written, everything that would make the
//! controller choose others is looked for: a count in motion, two revisions side by
//! side, a replica that goes before the victims because it is not Ready. Marks are
//! taken off when the request for fewer was refused. One without an answer may still
//! arrive, and then the marks say which go: they stay, and are tidied up later. Marks
//! that a crash left on others are taken off first.
//!
//! The controller chooses by what its own watch of pods has shown it, which nothing ties to
//! its watch of counts. At the end of a move there is proof that it has seen enough: the
//! victim was marked before its replacement was asked for, and the controller counts that one
//! as Ready, which was written later. Where there is no replacement, or the mark is not the
//! one from the beginning, a moment lies between the marks and the lower count
//! ([`MARK_SEEN`]): a controller that is further behind than that may take another replica.
//!
//! Of a StatefulSet: the highest ordinals go, whatever one marks; victims that are not
//! those are refused.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Error,
    api::{DeleteParams, EvictParams, ListParams, Patch, Preconditions},
};
use serde_json::{Value, json};
use stornx_core::{
    ids::{PodName, WorkloadRef},
    model::CountBy,
    ports::PortError,
};

use super::scale::{self, Change, conflict};
use crate::{
    error::port_error,
    map::count::Counted,
    map::rank::{COST, Candidate, LOWEST, NO_COST, VICTIM, candidate},
    write_params,
};

/// How long after a mark the count is lowered, where nothing proves that it was seen. A watch shows a change within milliseconds.
const MARK_SEEN: Duration = Duration::from_millis(300);

/// That something else was found than was expected.
pub(super) fn refused(what: &str, detail: impl Into<String>) -> PortError {
    PortError::Conflict { what: what.to_owned(), detail: detail.into() }
}

fn lowered(observed: u32, victims: &[PodName]) -> Option<u32> {
    observed.checked_sub(u32::try_from(victims.len()).ok()?)
}

/// The replicas of a Deployment and its count, as they are now.
pub(super) struct Replicas {
    pods: Api<Pod>,
    pub(super) counted: Counted,
    /// Those that are neither going nor gone.
    pub(super) candidates: Vec<Candidate>,
}

impl Replicas {
    pub(super) async fn read(
        client: &Client,
        workload: &WorkloadRef,
        what: &str,
    ) -> Result<Self, PortError> {
        let deployments = scale::deployments(client, workload);
        let counted = scale::read(&deployments, workload.name(), what).await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), workload.namespace().as_str());
        let selected = ListParams::default().labels_from(&counted.selector);
        let list = pods.list(&selected).await.map_err(|error| port_error(what, &error))?;
        let candidates =
            list.items.iter().filter_map(|pod| candidate(pod, workload.name())).collect();
        Ok(Self { pods, counted, candidates })
    }

    pub(super) fn expect_count(&self, what: &str, observed: u32) -> Result<(), PortError> {
        let found = self.counted.count;
        if found == observed { Ok(()) } else { Err(conflict(what, observed, found)) }
    }

    /// That nobody else has set the count: the end of a move takes back what StornX added,
    /// and nothing that somebody wants.
    pub(super) fn expect_ours(&self, what: &str) -> Result<(), PortError> {
        match self.counted.by {
            CountBy::Others => Err(refused(what, "somebody else set the count meanwhile")),
            CountBy::StornX | CountBy::Unknown => Ok(()),
        }
    }

    /// That its controller knows of no more replicas than there are, so that one more is the
    /// replacement.
    pub(super) fn expect_settled(&self, what: &str) -> Result<(), PortError> {
        let Counted { count, ready, .. } = self.counted;
        if self.candidates.len() > usize::try_from(count).unwrap_or(usize::MAX) {
            return Err(refused(what, "a replica is about to go"));
        }
        if ready > count {
            return Err(refused(what, format!("its controller counts {ready} replicas as Ready")));
        }
        Ok(())
    }

    /// That its controller counts as many Ready as are asked for.
    fn expect_counted(&self, what: &str) -> Result<(), PortError> {
        let Counted { count, ready, .. } = self.counted;
        if ready >= count {
            return Ok(());
        }
        Err(refused(what, format!("its controller counts {ready} of {count} replicas as Ready")))
    }

    /// That it is one of them.
    pub(super) fn expect_there(&self, what: &str, name: &PodName) -> Result<&Candidate, PortError> {
        let gone = || refused(what, format!("{name} is not a replica any more"));
        self.find(name).ok_or_else(gone)
    }

    /// That one of them serves: it stands in for another.
    pub(super) fn expect_ready(&self, what: &str, name: &PodName) -> Result<(), PortError> {
        let ready = self.find(name).is_some_and(Candidate::serves);
        if ready { Ok(()) } else { Err(refused(what, format!("{name} is not Ready"))) }
    }

    /// Marks one of them, so that it goes first; marks of ours on others come off.
    pub(super) async fn mark(&self, what: &str, name: &PodName) -> Result<(), PortError> {
        let one = self.expect_there(what, name)?;
        self.mark_only(what, &[one]).await
    }

    /// Marks one of them at the beginning of a move. A mark on another one may be waited for:
    /// then no move begins.
    pub(super) async fn mark_first(&self, what: &str, name: &PodName) -> Result<(), PortError> {
        let one = self.expect_there(what, name)?;
        if let Some(other) = self.candidates.iter().find(|other| other.marked && *other != one) {
            return Err(refused(what, format!("{} is marked", other.name)));
        }
        self.mark_only(what, &[one]).await
    }

    /// Whether these are marked since earlier, and nobody else is.
    fn are_marked(&self, chosen: &[&Candidate]) -> bool {
        let as_chosen = |one: &Candidate| chosen.contains(&one) == one.marked;
        self.candidates.iter().all(as_chosen) && chosen.iter().all(|one| one.goes_first)
    }

    /// Marks these, so that they go first; marks of ours on others come off.
    async fn mark_only(&self, what: &str, chosen: &[&Candidate]) -> Result<(), PortError> {
        self.unmark_others(what, chosen).await?;
        for (at, one) in chosen.iter().enumerate() {
            if let Err(error) = mark(&self.pods, one).await {
                // What was asked for may have been done all the same.
                unmark_all(&self.pods, &chosen[..=at]).await;
                return Err(port_error(what, &error));
            }
        }
        Ok(())
    }

    /// Takes a mark back that was just set, unless what it was set for had no answer: that
    /// may still arrive.
    pub(super) async fn take_back(&self, name: &PodName, error: &PortError) {
        if !matches!(error, PortError::Unavailable { .. }) {
            let marked: Vec<&Candidate> = self.find(name).into_iter().collect();
            unmark_all(&self.pods, &marked).await;
        }
    }

    /// One of them by its name.
    pub(super) fn find(&self, name: &PodName) -> Option<&Candidate> {
        self.candidates.iter().find(|one| one.name == name.name())
    }

    /// Evicts one through the eviction API, which keeps disruption budgets. Only this pod as
    /// it was read: one that was bound or replaced meanwhile is another.
    pub(super) async fn evict(&self, what: &str, one: &Candidate) -> Result<(), PortError> {
        let preconditions = Preconditions {
            uid: Some(one.uid.clone()),
            resource_version: Some(one.version.clone()),
        };
        let delete = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let params = EvictParams { delete_options: Some(delete), ..EvictParams::default() };
        match self.pods.evict(&one.name, &params).await {
            Ok(_) => Ok(()),
            Err(Error::Api(status)) if status.code == 429 => {
                Err(refused(what, format!("a disruption budget keeps {} for now", one.name)))
            }
            Err(error) => Err(port_error(what, &error)),
        }
    }

    /// Takes our marks off all but these.
    pub(super) async fn unmark_others(
        &self,
        what: &str,
        kept: &[&Candidate],
    ) -> Result<(), PortError> {
        let is_left = |one: &&Candidate| one.marked && !kept.contains(one);
        for left in self.candidates.iter().filter(is_left) {
            unmark(&self.pods, left).await.map_err(|error| port_error(what, &error))?;
        }
        Ok(())
    }

    /// Takes our marks off some of them.
    pub(super) async fn unmark(&self, what: &str, pods: &[PodName]) -> Result<(), PortError> {
        let named = |one: &&Candidate| pods.iter().any(|pod| pod.name() == one.name);
        for left in self.candidates.iter().filter(|one| one.marked).filter(named) {
            unmark(&self.pods, left).await.map_err(|error| port_error(what, &error))?;
        }
        Ok(())
    }
}

/// What is to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Removal<'a> {
    /// What is being tried, for errors.
    pub(super) what: &'a str,
    /// The count that is expected to stand.
    pub(super) observed: u32,
    /// Those that go.
    pub(super) victims: &'a [PodName],
    /// The one that takes over must be there and Ready, and counted so by its controller.
    pub(super) stands_in: Option<&'a PodName>,
}

impl Removal<'_> {
    fn wanted(&self) -> Result<u32, PortError> {
        let more = || {
            refused(self.what, format!("{} are more than {}", self.victims.len(), self.observed))
        };
        lowered(self.observed, self.victims).ok_or_else(more)
    }

    /// The victims among these replicas, if nothing is in the way of their going.
    fn choose<'a>(&self, there: &'a Replicas) -> Result<Vec<&'a Candidate>, PortError> {
        there.expect_count(self.what, self.observed)?;
        if let Some(name) = self.stands_in {
            there.expect_ready(self.what, name)?;
            there.expect_counted(self.what)?;
        }
        choose(&there.candidates, self.observed, self.victims)
            .map_err(|why| refused(self.what, why))
    }
}

/// Ends a move: its surge or its victim goes, unless somebody else has set the count.
pub(super) async fn end_move(
    client: &Client,
    workload: &WorkloadRef,
    removal: Removal<'_>,
) -> Result<(), PortError> {
    let there = Replicas::read(client, workload, removal.what).await?;
    there.expect_ours(removal.what)?;
    take(client, workload, removal, there).await
}

/// Takes replicas of a Deployment away.
pub(super) async fn remove(
    client: &Client,
    workload: &WorkloadRef,
    removal: Removal<'_>,
) -> Result<(), PortError> {
    let there = Replicas::read(client, workload, removal.what).await?;
    take(client, workload, removal, there).await
}

async fn take(
    client: &Client,
    workload: &WorkloadRef,
    removal: Removal<'_>,
    there: Replicas,
) -> Result<(), PortError> {
    let what = removal.what;
    let wanted = removal.wanted()?;
    let chosen = removal.choose(&there)?;
    if removal.stands_in.is_none() || !there.are_marked(&chosen) {
        there.mark_only(what, &chosen).await?;
        tokio::time::sleep(MARK_SEEN).await;
    }
    let Err(error) = lower(client, workload, removal, wanted, &there.counted).await else {
        return Ok(());
    };
    if matches!(error, PortError::Unavailable { .. }) {
        // Without an answer the count tells whether it was lowered, but not that it will
        // not be.
        let deployments = scale::deployments(client, workload);
        let found = scale::read(&deployments, workload.name(), what).await?;
        return if found.count == wanted { Ok(()) } else { Err(error) };
    }
    if removal.stands_in.is_none() {
        // At the end of a move it stays as long as the move does.
        unmark_all(&there.pods, &chosen).await;
    }
    Err(error)
}

/// Lowers the count, if still the same is wanted of the workload and the victims are still
/// the ones that would go.
async fn lower(
    client: &Client,
    workload: &WorkloadRef,
    removal: Removal<'_>,
    wanted: u32,
    before: &Counted,
) -> Result<(), PortError> {
    let Removal { what, observed, .. } = removal;
    let now = Replicas::read(client, workload, what).await?;
    now.counted.expect_same(what, observed, before)?;
    removal.choose(&now)?;
    let deployments = scale::deployments(client, workload);
    let change = Change { what, observed, wanted };
    scale::change_from(&deployments, workload, change, &now.counted).await
}

/// The victims among the replicas, or why others would go.
fn choose<'a>(
    candidates: &'a [Candidate],
    observed: u32,
    victims: &[PodName],
) -> Result<Vec<&'a Candidate>, String> {
    let names: BTreeSet<&str> = victims.iter().map(PodName::name).collect();
    let (chosen, others): (Vec<&Candidate>, Vec<&Candidate>) =
        candidates.iter().partition(|one| names.contains(one.name.as_str()));
    if let Some(gone) = names.iter().find(|name| !chosen.iter().any(|one| one.name == **name)) {
        return Err(format!("{gone} is not a replica any more"));
    }
    if candidates.len() != usize::try_from(observed).unwrap_or(usize::MAX) {
        return Err(format!("{} replicas are there, {observed} are wanted", candidates.len()));
    }
    let sets: BTreeSet<&str> = candidates.iter().map(|one| one.replica_set.as_str()).collect();
    if sets.len() > 1 {
        return Err("replicas of several revisions are there".to_owned());
    }
    let last = chosen.iter().map(|one| one.rank).max();
    match others.iter().find(|other| last.is_some_and(|last| other.rank < last)) {
        Some(first) => Err(format!("{} is not ready and would go first", first.name)),
        None => Ok(chosen),
    }
}

async fn mark(pods: &Api<Pod>, victim: &Candidate) -> kube::Result<()> {
    // The cost of somebody else is kept in our mark and given back with it.
    let before = victim.cost.as_deref().unwrap_or(NO_COST);
    let annotations = json!({ COST: LOWEST, VICTIM: before });
    annotate(pods, victim, annotations).await
}

/// Takes the mark off and gives the cost back that was there before.
async fn unmark(pods: &Api<Pod>, victim: &Candidate) -> kube::Result<()> {
    annotate(pods, victim, json!({ COST: victim.cost, VICTIM: null })).await
}

async fn unmark_all(pods: &Api<Pod>, marked: &[&Candidate]) {
    for victim in marked {
        if let Err(error) = unmark(pods, victim).await {
            let detail = crate::error::detail(&error);
            tracing::warn!(pod = victim.name, "its deletion mark stays for now: {detail}");
        }
    }
}

/// The identity in the patch makes it fail on another pod of the same name.
async fn annotate(pods: &Api<Pod>, pod: &Candidate, annotations: Value) -> kube::Result<()> {
    let patch = json!({ "metadata": { "uid": pod.uid, "annotations": annotations } });
    pods.patch_metadata(&pod.name, &write_params(), &Patch::Merge(patch)).await.map(drop)
}

/// Takes the last replicas of a StatefulSet away.
pub(super) async fn remove_last(
    client: &Client,
    workload: &WorkloadRef,
    what: &str,
    observed: u32,
    victims: &[PodName],
) -> Result<(), PortError> {
    let sets = scale::stateful_sets(client, workload);
    let counted = scale::read(&sets, workload.name(), what).await?;
    let wanted = lowered(observed, victims);
    let (true, Some(wanted)) = (counted.count == observed, wanted) else {
        return Err(conflict(what, observed, counted.count));
    };
    let last: BTreeSet<String> = (wanted..observed)
        .map(|at| format!("{}-{}", workload.name(), counted.first + at))
        .collect();
    if !victims.iter().all(|victim| last.contains(victim.name())) {
        let last: Vec<String> = last.into_iter().collect();
        return Err(refused(what, format!("a StatefulSet takes away {}", last.join(", "))));
    }
    scale::change_from(&sets, workload, Change { what, observed, wanted }, &counted).await
}
