//! Labels nodes with their names, on a schedule of its own, while this process leads and routes
//! are asked for between nodes. What comes of it is told when it is news.

use std::{sync::Arc, time::Duration};

use stornx_core::{
    policy::Granularity,
    ports::{LeaderGate as _, PortError},
};
use stornx_k8s::{Lease, NodeLabels, label_nodes};
use tokio::time;

use super::{pace::until_due, world::World};
use crate::config::Settings;

/// Labels nodes for ever; nothing where that is not asked for.
pub(crate) async fn label(settings: Settings, world: Arc<World>, lease: Arc<Lease>) {
    if settings.policy.balancer.granularity == Granularity::Zone {
        return;
    }
    let timeout = Duration::from_millis(settings.kubernetes.write_timeout.as_millis());
    let mut last = None;
    loop {
        time::sleep(until_due(&settings.labels_schedule, jiff::Timestamp::now())).await;
        if !(world.cluster.synced() && lease.may_write().await) {
            continue;
        }
        let done = label_nodes(&world.connection, &world.cluster, &*lease, timeout).await;
        let news = match &done {
            Ok(done) => {
                let failed: Vec<_> = done.failed.iter().map(PortError::to_string).collect();
                Ok((done.why_not.clone(), failed))
            }
            Err(error) => Err(error.to_string()),
        };
        let is_news = last.as_ref() != Some(&news);
        last = Some(news);
        tell(done, is_news);
    }
}

fn tell(done: Result<NodeLabels, PortError>, is_news: bool) {
    match done {
        Ok(NodeLabels { set, taken, why_not, failed }) => {
            if set + taken > 0 {
                tracing::info!(set, taken, "nodes were labelled with their names");
            }
            if let Some(why) = why_not.filter(|_| is_news) {
                tracing::warn!("routes stay between zones: {why}");
            }
            for error in failed.iter().filter(|_| is_news) {
                tracing::warn!("a node waits for the next round: {error}");
            }
        }
        Err(error) if is_news => tracing::warn!("nodes could not be labelled: {error}"),
        Err(_) => {}
    }
}
