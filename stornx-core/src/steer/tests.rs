use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn cart() -> WorkloadRef {
    "shop/Deployment/cart".parse().unwrap()
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn intent(to: &str, since: u64, until: u64) -> Intent {
    Intent { node: node(to), since: at(since), until: at(until) }
}

fn newcomer(revision: &str) -> Newcomer {
    let revision = Some(Revision::new(revision));
    Newcomer { workload: cart(), revision, dry_run: false }
}

fn replica(pod: &str, on: &str, revision: &str, steered: Option<(&str, u64)>) -> Replica {
    Replica {
        pod: format!("shop/{pod}").parse().unwrap(),
        node: Some(node(on)),
        revision: Some(Revision::new(revision)),
        going: false,
        steered: steered.map(|(to, since)| Steered { node: node(to), since: at(since) }),
    }
}

fn stand(book: &mut Book, replicas: &[Replica], intents: &[Intent], current: &str) {
    book.notice(&cart(), replicas);
    book.stand([(&cart(), intents)], |_| Some(Revision::new(current)));
}

fn required(to: &str, since: u64) -> Option<Steer> {
    Some(Steer::Required(Steered { node: node(to), since: at(since) }))
}

fn preferred(to: &str) -> Option<Steer> {
    Some(Steer::Preferred(node(to)))
}

/// Claims in a cluster whose nodes all take pods.
fn claim(book: &mut Book, revision: &str, replicas: &[Replica], now: u64) -> Option<Steer> {
    let current = Revision::new(revision);
    let seen = Seen { current: Some(&current), replicas, takes_pods: &|_| true };
    book.claim(&newcomer(revision), &seen, at(now))
}

#[test]
fn an_intent_is_given_once_and_again_when_its_pod_never_comes() {
    let mut book = Book::new();
    stand(&mut book, &[], &[intent("a", 1, 100), intent("b", 1, 100)], "r1");
    assert_eq!(claim(&mut book, "r1", &[], 10), required("a", 1));
    assert_eq!(claim(&mut book, "r1", &[], 10), required("b", 1));
    assert_eq!(claim(&mut book, "r1", &[], 11), None);
    // The pod for `a` comes, the one for `b` was refused after all.
    let there = [replica("p", "a", "r1", Some(("a", 1)))];
    assert_eq!(claim(&mut book, "r1", &there, 19), None);
    assert_eq!(claim(&mut book, "r1", &there, 20), required("b", 1));
    assert_eq!(claim(&mut book, "r1", &there, 99), required("b", 1), "and once more");
    assert_eq!(claim(&mut book, "r1", &there, 100), None, "its time is over");
}

#[test]
fn what_stands_in_the_memory_decides_and_claims_are_kept() {
    let mut book = Book::new();
    let (a, b) = (intent("a", 1, 100), intent("b", 2, 100));
    stand(&mut book, &[], std::slice::from_ref(&a), "r1");
    assert_eq!(claim(&mut book, "r1", &[], 10), required("a", 1));
    stand(&mut book, &[], &[a.clone(), b], "r1");
    assert_eq!(claim(&mut book, "r1", &[], 11), required("b", 2));
    stand(&mut book, &[], &[], "r1");
    assert_eq!(claim(&mut book, "r1", &[], 30), None, "both were dropped");
    assert_eq!(book, Book::new(), "and nothing is left of them");
    assert_eq!(book.steered().count(), 0);
}

#[test]
fn of_two_equal_intents_the_one_that_was_used_is_dropped() {
    let mut book = Book::new();
    let twice = [intent("a", 1, 100), intent("a", 1, 100)];
    stand(&mut book, &[], &twice, "r1");
    assert_eq!(claim(&mut book, "r1", &[], 10), required("a", 1));
    let there = [replica("p", "a", "r1", Some(("a", 1)))];
    stand(&mut book, &there, &twice[1..], "r1");
    assert_eq!(claim(&mut book, "r1", &there, 11), required("a", 1), "the other one");
    assert_eq!(claim(&mut book, "r1", &there, 12), None);
    let both = [there[0].clone(), replica("q", "a", "r1", Some(("a", 1)))];
    assert_eq!(claim(&mut book, "r1", &both, 50), None, "used, not lapsed");
}

#[test]
fn another_process_sees_from_the_replicas_what_was_used() {
    let mut book = Book::new();
    let there = [replica("p", "a", "r1", Some(("a", 1)))];
    stand(&mut book, &there, &[intent("a", 1, 100)], "r1");
    assert_eq!(claim(&mut book, "r1", &there, 10), None);
}

#[test]
fn a_rollout_keeps_the_layout_and_takes_no_intent() {
    let mut book = Book::new();
    let mut there = vec![
        replica("p", "a", "r1", None),
        replica("q", "b", "r1", None),
        replica("r", "c", "r1", None),
    ];
    stand(&mut book, &there, &[intent("z", 1, 100)], "r1");
    book.prefer([(cart(), vec![node("y")])], at(1), Span::from_seconds(100));
    assert_eq!(claim(&mut book, "r2", &there, 10), preferred("a"));
    there.push(replica("s", "a", "r2", None));
    there.remove(1);
    assert_eq!(claim(&mut book, "r2", &there, 20), preferred("b"), "though its pod has gone");
    assert_eq!(claim(&mut book, "r2", &there, 30), preferred("c"));
    assert_eq!(claim(&mut book, "r2", &there, 40), preferred("y"), "one more than before");
    // A pod of the old template takes the intent that was made for it.
    let current = Revision::new("r2");
    let seen = Seen { current: Some(&current), replicas: &there, takes_pods: &|_| true };
    assert_eq!(book.claim(&newcomer("r1"), &seen, at(50)), required("z", 1));
    assert_eq!(book.claim(&newcomer("r1"), &seen, at(50)), None, "no layout of a layout");
}

#[test]
fn after_a_rollout_the_next_one_has_a_layout_of_its_own() {
    let mut book = Book::new();
    let of = |revision| vec![replica("p", "a", revision, None)];
    assert_eq!(claim(&mut book, "r2", &of("r1"), 10), preferred("a"));
    assert_eq!(claim(&mut book, "r2", &of("r1"), 11), None, "each node once");
    assert_eq!(claim(&mut book, "r2", &of("r2"), 12), None, "it is over");
    assert_eq!(claim(&mut book, "r1", &of("r2"), 13), preferred("a"), "and rolled back");
    assert_eq!(claim(&mut book, "r2", &of("r1"), 14), preferred("a"), "and again");
    assert_eq!(claim(&mut book, "r2", &of("r1"), 15 + 3600), preferred("a"), "an hour later");
}

#[test]
fn preferences_are_used_once_until_named_anew_and_expire() {
    let mut book = Book::new();
    let (hold, next) = (Span::from_seconds(60), || [(cart(), vec![node("a"), node("b")])]);
    book.prefer(next(), at(0), hold);
    assert_eq!(claim(&mut book, "r1", &[], 1), preferred("a"));
    assert_eq!(claim(&mut book, "r1", &[], 1), preferred("b"));
    assert_eq!(claim(&mut book, "r1", &[], 1), None);
    book.prefer(next(), at(10), hold);
    assert_eq!(claim(&mut book, "r1", &[], 69), preferred("a"));
    assert_eq!(claim(&mut book, "r1", &[], 70), None);
    book.prefer([], at(80), hold);
    assert_eq!(book, Book::new());
}

#[test]
fn nothing_is_told_to_run_where_nothing_runs() {
    let mut book = Book::new();
    stand(&mut book, &[], &[intent("a", 1, 100), intent("b", 1, 100)], "r1");
    book.prefer([(cart(), vec![node("a"), node("c")])], at(0), Span::from_seconds(60));
    let seen = Seen { current: None, replicas: &[], takes_pods: &|node| node.as_str() != "a" };
    let asked = newcomer("r1");
    assert_eq!(book.claim(&asked, &seen, at(2)), required("b", 1));
    assert_eq!(book.claim(&asked, &seen, at(2)), preferred("c"));
    assert_eq!(book.claim(&asked, &seen, at(2)), None);
    assert_eq!(claim(&mut book, "r1", &[], 3), required("a", 1), "once it is back");
}

/// What happens to one workload.
#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    /// A pod is created, of this template, as a dry run or not; and it is never stored,
    /// seen soon, or seen late.
    Create {
        revision: u8,
        dry_run: bool,
        stored: bool,
    },
    /// What was created is seen from now on.
    See,
    /// The memory forgets what was used, and gains some equal intents.
    Remember {
        node: u8,
        span: u64,
        count: u8,
    },
    Rollout,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0u64..12).prop_map(Event::Pass),
        (0u8..3, any::<bool>(), any::<bool>())
            .prop_map(|(revision, dry_run, stored)| Event::Create { revision, dry_run, stored }),
        Just(Event::See),
        (0u8..3, 0u64..30, 0u8..3).prop_map(|(node, span, count)| Event::Remember {
            node,
            span,
            count
        }),
        Just(Event::Rollout),
    ]
}

type Key = (String, u64);

/// The same by counting: how many intents of a name stand, and how many pods have them.
#[derive(Debug, Default)]
struct Model {
    now: u64,
    current: u8,
    /// Intents of the memory: name, end, template.
    intents: Vec<(Key, u64, u8)>,
    /// Pods that were told: name of the intent, when, whether it is stored, whether seen,
    /// whether its intent was dropped.
    told: Vec<Told>,
}

#[derive(Debug, Clone)]
struct Told {
    key: Key,
    at: u64,
    stored: bool,
    seen: bool,
    dropped: bool,
}

impl Model {
    fn open(&self, revision: u8) -> BTreeSet<Key> {
        let mut open = BTreeSet::new();
        for (key, until, of) in &self.intents {
            let standing = self.intents.iter().filter(|(other, ..)| other == key).count();
            let waits = |told: &&Told| !told.seen && self.now - told.at < CLAIM.as_millis() / 1000;
            let used = |told: &&Told| told.seen && !told.dropped;
            let taken =
                self.told.iter().filter(|told| told.key == *key && (waits(told) || used(told)));
            if *of == revision && self.now < *until && taken.count() < standing {
                open.insert(key.clone());
            }
        }
        open
    }

    fn replicas(&self) -> Vec<Replica> {
        let seen = self.told.iter().enumerate().filter(|(_, told)| told.seen);
        let replica = |(number, told): (usize, &Told)| {
            let (to, since) = &told.key;
            replica(&format!("p{number}"), to, "r0", Some((to, *since)))
        };
        // All of one template: layouts have tests of their own.
        let plain = |mut replica: Replica| {
            replica.revision = None;
            replica
        };
        seen.map(replica).map(plain).collect()
    }
}

proptest! {
    #[test]
    fn an_intent_goes_to_one_pod(events in prop::collection::vec(event(), 1..60)) {
        let mut book = Book::new();
        let mut model = Model::default();
        for event in events {
            match event {
                Event::Pass(seconds) => model.now += seconds,
                Event::Rollout => model.current = (model.current + 1) % 3,
                Event::See => {
                    for told in model.told.iter_mut().filter(|told| told.stored) {
                        told.seen = true;
                    }
                }
                Event::Remember { node, span, count } => {
                    for told in model.told.iter_mut().filter(|told| told.seen && !told.dropped) {
                        let first = model.intents.iter().position(|(key, ..)| *key == told.key);
                        if let Some(first) = first {
                            model.intents.remove(first);
                        }
                        told.dropped = true;
                    }
                    // Equal intents are those of one cycle.
                    model.now += 1;
                    let key = (format!("n{node}"), model.now);
                    for _ in 0..count {
                        model.intents.push((key.clone(), model.now + span, model.current));
                    }
                    let intents: Vec<_> = model
                        .intents
                        .iter()
                        .map(|((to, since), until, _)| intent(to, *since, *until))
                        .collect();
                    stand(&mut book, &model.replicas(), &intents, &model.current.to_string());
                }
                Event::Create { revision, dry_run, stored } => {
                    let before = book.clone();
                    let replicas = model.replicas();
                    let seen = Seen { current: None, replicas: &replicas, takes_pods: &|_| true };
                    let asked = Newcomer { dry_run, ..newcomer(&revision.to_string()) };
                    let steer = book.claim(&asked, &seen, at(model.now));
                    let open = model.open(revision);
                    match steer {
                        Some(Steer::Required(steered)) => {
                            let key =
                                (steered.node.to_string(), steered.since.as_millis() / 1000);
                            prop_assert!(open.contains(&key), "{key:?} of {open:?}");
                            if !dry_run {
                                let at = model.now;
                                model.told.push(Told {
                                    key, at, stored, seen: false, dropped: false,
                                });
                            }
                        }
                        Some(other) => prop_assert!(false, "{other:?}"),
                        None => {
                            // Which of two equal claims a pod came from is not known: the
                            // one that is left may lapse later than it was made.
                            let lately = |key: &Key| model.told.iter().any(|told| {
                                told.key == *key && model.now - told.at < CLAIM.as_millis() / 1000
                            });
                            prop_assert!(open.iter().all(lately), "{open:?}");
                        }
                    }
                    if dry_run {
                        prop_assert_eq!(&book, &before);
                    }
                }
            }
        }
    }
}
