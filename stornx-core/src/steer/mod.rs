//! Steering: which node a replica is told to run on while it is being created.
//!
//! The cycle decides where replicas are to go and stores that as [`Intent`]s; pods are
//! created later, one by one, by others. The [`Book`] is what stands between the two: for
//! one pod that is being created it gives the node that this pod is to run on, or none.
//!
//! It decides, in this order:
//!
//! 1. An intent of the workload that nobody has taken: `required`, once. Only for a pod of
//!    the revision that stood when the intent became known: the pods of a rollout are
//!    somebody else's.
//! 2. In a rollout, the nodes of the replicas of other revisions, each once: `preferred`.
//!    So a rollout keeps the layout.
//! 3. The nodes that the next replicas would best go to, each once until they are named
//!    anew: `preferred`.
//!
//! It assumes that whoever calls it shows it the replicas that there are: a replica that
//! carries an intent has used it up. A claim whose pod does not come is given back after
//! [`CLAIM`]: the pod was refused after it had been steered (a quota, another webhook).
//!
//! It refuses: intents and preferences whose time is over, nodes that take no pods now,
//! and to change anything for a dry run. Pure: time is an argument, nothing is asked for.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use crate::{
    ids::{NodeName, PodName, WorkloadRef},
    memory::Intent,
    model::Steered,
    units::{Span, Timestamp},
};

/// How long a claim may stand without its pod being seen. The API server stores a pod
/// within milliseconds after it was admitted, and a watch shows it within a second or two;
/// admission as a whole ends within 30 seconds, but the steps after the last webhook are
/// its own and quick.
pub const CLAIM: Span = Span::from_seconds(10);

/// For how long the layout before a rollout is kept after a pod was last steered by it:
/// far longer than two steps of a rollout lie apart, shorter than what people would call
/// one rollout.
const LAYOUT: Span = Span::from_seconds(3600);

/// Of which template a replica is: the value of its label `pod-template-hash`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(Arc<str>);

impl Revision {
    /// Any text: it is compared with others, and nothing else.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }
}

/// A pod that is being created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// Whose replica it is.
    pub workload: WorkloadRef,
    /// Of which template.
    pub revision: Option<Revision>,
    /// It is only tried out: nothing is claimed by it.
    pub dry_run: bool,
}

/// A replica that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its name.
    pub pod: PodName,
    /// Where it runs.
    pub node: Option<NodeName>,
    /// Of which template.
    pub revision: Option<Revision>,
    /// It is about to go.
    pub going: bool,
    /// The intent that it was created with.
    pub steered: Option<Steered>,
}

/// What is seen of a workload at the moment.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// The newest template of the workload, where it is known.
    pub current: Option<&'a Revision>,
    /// All its replicas.
    pub replicas: &'a [Replica],
    /// Whether a node takes pods now.
    pub takes_pods: &'a dyn Fn(&NodeName) -> bool,
}

/// What a pod is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Steer {
    /// It runs there or not at all.
    Required(Steered),
    /// It runs there if it can.
    Preferred(NodeName),
}

/// What stands, for all workloads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Book {
    pages: BTreeMap<WorkloadRef, Page>,
}

/// What stands for one workload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Page {
    /// One for each intent, in the order of the memory.
    slots: Vec<Slot>,
    /// Pods whose intents have been dropped as used: they use up no other one.
    spent: BTreeSet<PodName>,
    /// The nodes for the next replicas that are left, and until when they hold.
    next: VecDeque<NodeName>,
    next_until: Timestamp,
    layout: Option<Layout>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    intent: Intent,
    /// The template that stood when the intent became known; any, when none was.
    revision: Option<Revision>,
    state: State,
}

/// In the order in which slots are kept when there are more than intents: what was
/// dropped from the memory was used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Free,
    Claimed(Timestamp),
    Used(PodName),
}

/// The nodes of the replicas before a rollout that no new replica was sent to yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    /// The template that is rolled out.
    to: Revision,
    left: VecDeque<NodeName>,
    used_at: Timestamp,
}

impl Layout {
    fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.used_at) >= LAYOUT
    }
}

impl Slot {
    fn is(&self, node: &NodeName, since: Timestamp) -> bool {
        self.intent.since == since && self.intent.node == *node
    }

    fn is_free(&self, now: Timestamp) -> bool {
        match &self.state {
            State::Free => true,
            State::Claimed(at) => now.since(*at) >= CLAIM,
            State::Used(_) => false,
        }
    }
}

impl Book {
    /// Nothing stands.
    #[must_use]
    pub const fn new() -> Self {
        Self { pages: BTreeMap::new() }
    }

    /// The intents of the memory as it is stored now take the place of those before.
    /// Claims of intents that still stand are kept. `current` is the newest template of a
    /// workload, where it is known: an intent that is new here is for its pods.
    ///
    /// [`Book::notice`] has to be called before for every workload with intents here, or
    /// of two equal intents the wrong one may be kept.
    pub fn stand<'a>(
        &mut self,
        intents: impl IntoIterator<Item = (&'a WorkloadRef, &'a [Intent])>,
        current: impl Fn(&WorkloadRef) -> Option<Revision>,
    ) {
        let mut before: BTreeMap<WorkloadRef, Vec<Slot>> = BTreeMap::new();
        for (workload, page) in &mut self.pages {
            before.insert(workload.clone(), std::mem::take(&mut page.slots));
        }
        for (workload, intents) in intents {
            if intents.is_empty() {
                continue;
            }
            let mut old = before.remove(workload).unwrap_or_default();
            old.sort_by(|a, b| a.state.cmp(&b.state));
            let revision = current(workload);
            let page = self.pages.entry(workload.clone()).or_default();
            for intent in intents {
                let known = old.iter().position(|slot| slot.is(&intent.node, intent.since));
                page.slots.push(match known {
                    Some(at) => Slot { intent: intent.clone(), ..old.remove(at) },
                    None => Slot {
                        intent: intent.clone(),
                        revision: revision.clone(),
                        state: State::Free,
                    },
                });
            }
            page.spend(old);
        }
        for (workload, old) in before {
            if let Some(page) = self.pages.get_mut(&workload) {
                page.spend(old);
            }
        }
        self.tidy();
    }

    /// The nodes that the next replicas of each workload would best go to, best first,
    /// take the place of those before, and hold for a while.
    pub fn prefer(
        &mut self,
        next: impl IntoIterator<Item = (WorkloadRef, Vec<NodeName>)>,
        now: Timestamp,
        hold: Span,
    ) {
        for page in self.pages.values_mut() {
            page.next.clear();
            page.layout.take_if(|layout| layout.is_over(now));
        }
        for (workload, nodes) in next {
            if nodes.is_empty() {
                continue;
            }
            let page = self.pages.entry(workload).or_default();
            page.next = nodes.into();
            page.next_until = now.after(hold);
        }
        self.tidy();
    }

    /// What a pod that is being created is told; `None`: the scheduler decides alone.
    pub fn claim(&mut self, asked: &Newcomer, seen: &Seen<'_>, now: Timestamp) -> Option<Steer> {
        if asked.dry_run {
            return self.clone_of(&asked.workload).settle(asked, seen, now);
        }
        self.notice(&asked.workload, seen.replicas);
        let page = self.pages.entry(asked.workload.clone()).or_default();
        let steer = page.settle(asked, seen, now);
        if page.is_empty() {
            self.pages.remove(&asked.workload);
        }
        steer
    }

    /// Shows the replicas of a workload: those that carry an intent have used it up.
    pub fn notice(&mut self, workload: &WorkloadRef, replicas: &[Replica]) {
        if let Some(page) = self.pages.get_mut(workload) {
            page.notice(replicas);
        }
    }

    /// The workloads that intents stand for.
    pub fn steered(&self) -> impl Iterator<Item = &WorkloadRef> {
        self.pages.iter().filter(|(_, page)| !page.slots.is_empty()).map(|(workload, _)| workload)
    }

    /// Nothing stands any more.
    pub fn clear(&mut self) {
        self.pages.clear();
    }

    fn clone_of(&self, workload: &WorkloadRef) -> Page {
        self.pages.get(workload).cloned().unwrap_or_default()
    }

    fn tidy(&mut self) {
        self.pages.retain(|_, page| !page.is_empty());
    }
}

impl Page {
    fn is_empty(&self) -> bool {
        // What was spent only matters beside intents of the same name.
        self.slots.is_empty() && self.next.is_empty() && self.layout.is_none()
    }

    /// Slots whose intents were dropped from the memory.
    fn spend(&mut self, dropped: Vec<Slot>) {
        self.spent.extend(dropped.into_iter().filter_map(|slot| match slot.state {
            State::Used(pod) => Some(pod),
            State::Free | State::Claimed(_) => None,
        }));
    }

    fn notice(&mut self, replicas: &[Replica]) {
        self.spent.retain(|pod| replicas.iter().any(|replica| replica.pod == *pod));
        for replica in replicas {
            let Some(steered) = &replica.steered else { continue };
            let used = |slot: &Slot| matches!(&slot.state, State::Used(pod) if *pod == replica.pod);
            if self.spent.contains(&replica.pod) || self.slots.iter().any(used) {
                continue;
            }
            let same = self.slots.iter_mut().filter(|slot| slot.is(&steered.node, steered.since));
            // The one that was claimed first, before one that was not claimed.
            let claimed = |slot: &&mut Slot| match slot.state {
                State::Claimed(at) => (false, at),
                State::Free | State::Used(_) => (true, Timestamp::default()),
            };
            let open = same.filter(|slot| !matches!(slot.state, State::Used(_)));
            if let Some(slot) = open.min_by_key(claimed) {
                slot.state = State::Used(replica.pod.clone());
            }
        }
    }

    fn settle(&mut self, asked: &Newcomer, seen: &Seen<'_>, now: Timestamp) -> Option<Steer> {
        self.notice(seen.replicas);
        if let Some(steered) = self.take_intent(asked, seen, now) {
            return Some(Steer::Required(steered));
        }
        if let Some(node) = self.take_layout(asked, seen, now) {
            return Some(Steer::Preferred(node));
        }
        self.take_next(seen, now).map(Steer::Preferred)
    }

    fn take_intent(
        &mut self,
        asked: &Newcomer,
        seen: &Seen<'_>,
        now: Timestamp,
    ) -> Option<Steered> {
        let fits = |slot: &&mut Slot| {
            slot.is_free(now)
                && now < slot.intent.until
                && (slot.revision.is_none() || slot.revision == asked.revision)
                && (seen.takes_pods)(&slot.intent.node)
        };
        // The pod of a claim that lapsed may still come, so those go last.
        let lapsed = |slot: &&mut Slot| slot.state != State::Free;
        let slot = self.slots.iter_mut().filter(fits).min_by_key(lapsed)?;
        slot.state = State::Claimed(now);
        Some(Steered { node: slot.intent.node.clone(), since: slot.intent.since })
    }

    fn take_layout(
        &mut self,
        asked: &Newcomer,
        seen: &Seen<'_>,
        now: Timestamp,
    ) -> Option<NodeName> {
        self.layout.take_if(|layout| layout.is_over(now));
        let to = asked.revision.as_ref()?;
        let others = |replica: &&Replica| {
            replica.revision.is_some() && replica.revision.as_ref() != Some(to)
        };
        let others: Vec<&Replica> = seen.replicas.iter().filter(others).collect();
        if others.is_empty() {
            // The rollout to it is over.
            self.layout.take_if(|layout| layout.to == *to);
            return None;
        }
        // A pod of the template that is on its way out, in the middle of a rollout.
        let own = seen.replicas.iter().any(|replica| replica.revision.as_ref() == Some(to));
        if own && seen.current.is_some_and(|current| current != to) {
            return None;
        }
        if self.layout.as_ref().is_none_or(|layout| layout.to != *to) {
            let (going, staying): (Vec<&Replica>, Vec<&Replica>) =
                others.into_iter().partition(|replica| replica.going);
            let left = staying.iter().chain(&going).filter_map(|replica| replica.node.clone());
            self.layout = Some(Layout { to: to.clone(), left: left.collect(), used_at: now });
        }
        let layout = self.layout.as_mut()?;
        layout.used_at = now;
        take_first(&mut layout.left, seen)
    }

    fn take_next(&mut self, seen: &Seen<'_>, now: Timestamp) -> Option<NodeName> {
        if now < self.next_until { take_first(&mut self.next, seen) } else { None }
    }
}

/// Takes the first node that takes pods; those before it stay for another time.
fn take_first(nodes: &mut VecDeque<NodeName>, seen: &Seen<'_>) -> Option<NodeName> {
    let at = nodes.iter().position(|node| (seen.takes_pods)(node))?;
    nodes.remove(at)
}
