//! The book of steering, with what it is shown: the replicas and nodes that the watches
//! know. One short lock after the other, never two at once; nothing here waits.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use stornx_core::{
    ids::{NodeName, WorkloadRef},
    memory::Memory,
    steer::{Book, Newcomer, Seen, Steer},
    units::{Span, Timestamp},
};

use super::{health::Health, review::WebhookResult};
use crate::{
    facts::sight::{self, Sight},
    watch::Shared,
};

/// What answers are made from.
#[derive(Debug)]
pub(crate) struct Desk {
    shared: Arc<Shared>,
    book: Mutex<Book>,
}

impl Desk {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, book: Mutex::default() }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // A book whose writer panicked may be half written: what stands is stored, and
        // comes back with the next load.
        self.book.lock().unwrap_or_else(|broken| {
            let mut book = PoisonError::into_inner(broken);
            book.clear();
            self.book.clear_poison();
            book
        })
    }

    pub(crate) fn health(&self) -> &Health {
        self.shared.health()
    }

    /// The memory is stored like this: its intents stand.
    pub(crate) fn stand(&self, memory: &Memory) {
        let with_intents =
            memory.workloads.iter().filter(|(_, workload)| !workload.intents.is_empty());
        let intents: Vec<_> =
            with_intents.map(|(id, workload)| (id, workload.intents.as_slice())).collect();
        let known: Vec<WorkloadRef> = self.book().steered().cloned().collect();
        if intents.is_empty() && known.is_empty() {
            return;
        }
        let ids = known.iter().chain(intents.iter().map(|(id, _)| *id));
        let sights: BTreeMap<&WorkloadRef, Sight> =
            self.shared.read(|tables, _| ids.map(|id| (id, sight::sight(tables, id))).collect());
        let mut book = self.book();
        for (id, sight) in &sights {
            book.notice(id, &sight.replicas);
        }
        book.stand(intents, |id| sights.get(id)?.current.clone());
    }

    /// The nodes that the next replicas would best go to.
    pub(crate) fn prefer(
        &self,
        next: BTreeMap<WorkloadRef, Vec<NodeName>>,
        now: Timestamp,
        hold: Span,
    ) {
        self.book().prefer(next, now, hold);
    }

    /// What a pod that is being created is told.
    ///
    /// # Errors
    /// What the pod is counted as when it is none that is steered.
    pub(crate) fn claim(
        &self,
        asked: &Newcomer,
        now: Timestamp,
    ) -> Result<Option<Steer>, WebhookResult> {
        let seen = self.shared.read(|tables, managed| {
            sight::is_steered(tables, managed, &asked.workload)
                .then(|| (sight::sight(tables, &asked.workload), sight::open_nodes(tables)))
        });
        let Some((Sight { current, replicas }, open)) = seen else {
            return Err(WebhookResult::NotOurs);
        };
        let seen = Seen {
            current: current.as_ref(),
            replicas: &replicas,
            takes_pods: &|node: &NodeName| open.contains(node),
        };
        Ok(self.book().claim(asked, &seen, now))
    }

    /// Another process answers from now on.
    pub(crate) fn clear(&self) {
        self.book().clear();
    }
}
