//! The steps of a move that are not a change of a count alone, and what is taken away
//! after one.
//!
//! Everything is looked at freshly before it is written: what the plan saw came from
//! watches, which may lag behind each other.

use kube::Client;
use stornx_core::{
    ids::{PodName, WorkloadRef},
    model::CountBy,
    plan::{AbortCause, MoveEnd},
    ports::PortError,
};

use super::{
    scale::{self, Change, conflict},
    victims::{self, refused},
};

/// Marks the victim, then asks for its replacement.
///
/// The mark comes first, so that whoever has seen the replacement has seen the mark: its
/// controller learns of pods by one watch, in the order in which they were written. It stands
/// until the move is over.
pub(super) async fn surge(
    client: &Client,
    workload: &WorkloadRef,
    what: &str,
    observed: u32,
    victim: &PodName,
) -> Result<(), PortError> {
    let there = victims::Replicas::read(client, workload, what).await?;
    there.expect_count(what, observed)?;
    there.expect_settled(what)?;
    there.mark_first(what, victim).await?;
    let change = Change { what, observed, wanted: observed.saturating_add(1) };
    let deployments = scale::deployments(client, workload);
    let done = scale::change_from(&deployments, workload, change, &there.counted).await;
    if let Err(error) = &done {
        there.take_back(victim, error).await;
    }
    done
}

/// Lowers the count by one when that takes no replica away, because the last one asked
/// for was never created. Nobody goes, so no mark stays.
pub(super) async fn give_up_missing(
    client: &Client,
    workload: &WorkloadRef,
    what: &str,
    observed: u32,
) -> Result<(), PortError> {
    let there = victims::Replicas::read(client, workload, what).await?;
    there.expect_count(what, observed)?;
    there.expect_ours(what)?;
    let wanted = observed.saturating_sub(1);
    if there.candidates.len() > usize::try_from(wanted).unwrap_or(usize::MAX) {
        let detail = format!("{} replicas are there, none is missing", there.candidates.len());
        return Err(refused(what, detail));
    }
    there.unmark_others(what, &[]).await?;
    let change = Change { what, observed, wanted };
    let deployments = scale::deployments(client, workload);
    scale::change_from(&deployments, workload, change, &there.counted).await
}

/// Makes sure that the count is what whoever forgets a move thinks it is, and that somebody
/// else set it, if that is why: one that StornX set last may hold a surge.
pub(super) async fn close(
    client: &Client,
    workload: &WorkloadRef,
    what: &str,
    observed: u32,
    end: MoveEnd,
) -> Result<(), PortError> {
    let deployments = scale::deployments(client, workload);
    let found = scale::read(&deployments, workload.name(), what).await?;
    if found.count != observed {
        return Err(conflict(what, observed, found.count));
    }
    if end == MoveEnd::GivenUp(AbortCause::CountChanged) && found.by == CountBy::StornX {
        return Err(refused(what, "nobody else has set the count since"));
    }
    Ok(())
}

/// Takes marks off replicas, unless some replica is about to go: then the marks say
/// which.
pub(super) async fn unmark(
    client: &Client,
    workload: &WorkloadRef,
    what: &str,
    observed: u32,
    pods: &[PodName],
) -> Result<(), PortError> {
    let there = victims::Replicas::read(client, workload, what).await?;
    there.expect_count(what, observed)?;
    if there.candidates.len() > usize::try_from(observed).unwrap_or(usize::MAX) {
        return Err(refused(what, "a replica is about to go"));
    }
    there.unmark(what, pods).await
}

/// Evicts replicas that are not bound to a node. One that is bound by now stays.
pub(super) async fn release(
    client: &Client,
    workload: &WorkloadRef,
    what: &str,
    pods: &[PodName],
) -> Result<(), PortError> {
    let there = victims::Replicas::read(client, workload, what).await?;
    for one in pods.iter().filter_map(|name| there.find(name)) {
        if !one.is_bound() {
            there.evict(what, one).await?;
        }
    }
    Ok(())
}

/// Evicts a replica, so that its controller makes another.
pub(super) async fn make_way(
    client: &Client,
    workload: &WorkloadRef,
    what: &str,
    observed: u32,
    victim: &PodName,
) -> Result<(), PortError> {
    let there = victims::Replicas::read(client, workload, what).await?;
    there.expect_count(what, observed)?;
    there.evict(what, there.expect_there(what, victim)?).await
}
