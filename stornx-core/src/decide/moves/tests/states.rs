//! The state machine of a move: every pair of what is recorded and what is seen.

use crate::{
    decide::{
        REQUEST_GRACE,
        moves::{
            hold,
            state::{Count, Sight, Standing, Step, Surge, next},
        },
        safety::testing::pod_name,
    },
    plan::{AbortCause, MoveEnd, MoveEnding},
    units::Span,
};

const TIMEOUT: Span = Span::from_seconds(300);

/// A move whose replacement is Ready and whose victim may go.
fn ready() -> Sight {
    Sight {
        waited: Span::from_seconds(60),
        standing: Standing::Free,
        count: Count::Surged,
        held: false,
        ending: None,
        missing: false,
        surplus: false,
        victim_stands: true,
        victim_may_go: true,
        surge: Surge::Ready(pod_name("new")),
        warm: true,
        counted: true,
        surge_may_go: true,
        excess: None,
        all_replaced: false,
    }
}

fn undo(cause: AbortCause) -> Step {
    Step::Undo { surge: Some(pod_name("new")), cause }
}

#[test]
fn each_state_has_its_answer() {
    use AbortCause::{
        AnotherWent, AutoscalerAppeared, CountChanged, Misplaced, NeverBegan, NotAllowedAnyMore,
        NotCounted, RolloutBegan, TimedOut, Unsafe, VictimGone,
    };
    let late = Span::from_seconds(301);
    let after_grace = Span::from_seconds(91);
    let soon = Span::from_seconds(10);
    let coming = || Surge::Coming(pod_name("new"));
    let unbound = || Surge::Unbound(pod_name("new"));
    let finishing = || Some(MoveEnding::Finish { replacement: pod_name("new") });
    let undoing = || Some(MoveEnding::Undo { cause: Misplaced });
    let close = |cause| Step::Close(MoveEnd::GivenUp(cause));
    let finish = Step::Finish { replacement: pod_name("new") };
    let excess = Some(pod_name("new"));
    let lost = Sight { victim_stands: false, excess: excess.clone(), ..ready() };
    let undone = Sight { count: Count::Before, waited: after_grace, ..ready() };
    let cases = [
        ("ready", ready(), finish.clone()),
        ("ready late", Sight { waited: late, ..ready() }, finish),
        ("warming up", Sight { warm: false, ..ready() }, Step::Wait),
        ("warming up late", Sight { warm: false, waited: late, ..ready() }, Step::Wait),
        (
            "unwanted, warming up",
            Sight { warm: false, standing: Standing::Unwanted, ..ready() },
            undo(NotAllowedAnyMore),
        ),
        ("starting", Sight { surge: coming(), ..ready() }, Step::Wait),
        ("starting late", Sight { surge: coming(), waited: late, ..ready() }, undo(TimedOut)),
        ("no pod", Sight { surge: Surge::None, ..ready() }, Step::Wait),
        (
            "no pod, late",
            Sight { surge: Surge::None, waited: late, ..ready() },
            Step::Undo { surge: None, cause: TimedOut },
        ),
        ("one is missing", Sight { missing: true, ..ready() }, Step::Wait),
        (
            "one is missing, late",
            Sight { missing: true, waited: late, ..ready() },
            Step::Undo { surge: None, cause: TimedOut },
        ),
        (
            "one is missing, unwanted",
            Sight { missing: true, standing: Standing::Unwanted, ..ready() },
            Step::Undo { surge: None, cause: NotAllowedAnyMore },
        ),
        ("no node", Sight { surge: unbound(), ..ready() }, Step::Wait),
        (
            "no node after half of the time",
            Sight { surge: unbound(), waited: Span::from_seconds(151), ..ready() },
            undo(TimedOut),
        ),
        ("unsafe", Sight { victim_may_go: false, ..ready() }, Step::Wait),
        ("unsafe, late", Sight { victim_may_go: false, waited: late, ..ready() }, undo(Unsafe)),
        ("not counted", Sight { counted: false, ..ready() }, Step::Wait),
        ("not counted, late", Sight { counted: false, waited: late, ..ready() }, undo(NotCounted)),
        (
            "not counted and unsafe, late",
            Sight { counted: false, victim_may_go: false, waited: late, ..ready() },
            undo(Unsafe),
        ),
        (
            "nothing may go",
            Sight { victim_may_go: false, surge_may_go: false, waited: late, ..ready() },
            Step::Wait,
        ),
        (
            "misplaced",
            Sight { surge: Surge::Misplaced(pod_name("new")), ..ready() },
            undo(Misplaced),
        ),
        (
            "misplaced, bound to stay",
            Sight { surge: Surge::Misplaced(pod_name("new")), surge_may_go: false, ..ready() },
            Step::Wait,
        ),
        ("unwanted", Sight { standing: Standing::Unwanted, ..ready() }, undo(NotAllowedAnyMore)),
        (
            "unwanted, starting",
            Sight { standing: Standing::Unwanted, surge: coming(), ..ready() },
            undo(NotAllowedAnyMore),
        ),
        ("rollout", Sight { standing: Standing::HandsOff, ..ready() }, Step::Wait),
        (
            "autoscaler",
            Sight { standing: Standing::Autoscaled, ..ready() },
            close(AutoscalerAppeared),
        ),
        ("other count", Sight { count: Count::Other, ..ready() }, close(CountChanged)),
        ("victim lost", lost.clone(), undo(VictimGone)),
        ("victim lost, not replaced yet", Sight { missing: true, ..lost.clone() }, Step::Wait),
        (
            "victim lost, made up for in vain",
            Sight { missing: true, waited: late, ..lost.clone() },
            Step::Undo { surge: None, cause: VictimGone },
        ),
        ("victim lost, nobody may go", Sight { excess: None, ..lost.clone() }, Step::Wait),
        ("rolled out", Sight { all_replaced: true, ..lost }, undo(RolloutBegan)),
        ("not asked yet", Sight { waited: REQUEST_GRACE, ..undone.clone() }, Step::Wait),
        ("never asked", undone.clone(), close(NeverBegan)),
        ("one is about to go", Sight { surplus: true, ..undone.clone() }, Step::Wait),
        ("gone without us", Sight { victim_stands: false, ..undone.clone() }, close(VictimGone)),
        (
            "finished",
            Sight { ending: finishing(), victim_stands: false, waited: soon, ..undone.clone() },
            Step::Close(MoveEnd::Done),
        ),
        (
            "finished, the victim on its way",
            Sight { ending: finishing(), surplus: true, ..undone.clone() },
            Step::Wait,
        ),
        (
            "another went",
            Sight { ending: finishing(), waited: soon, ..undone.clone() },
            close(AnotherWent),
        ),
        ("undone", Sight { ending: undoing(), waited: soon, ..undone }, close(Misplaced)),
        (
            "a finish that did not come through",
            Sight { ending: finishing(), ..ready() },
            Step::Finish { replacement: pod_name("new") },
        ),
    ];
    for (name, sight, expected) in cases {
        assert_eq!(next(&sight, TIMEOUT), expected, "{name}");
    }
}

/// Every combination of what can be seen.
fn all_sights() -> Vec<Sight> {
    let mut sights = vec![ready()];
    fn vary<T: Clone>(sights: Vec<Sight>, values: &[T], set: impl Fn(&mut Sight, T)) -> Vec<Sight> {
        let mut all = Vec::with_capacity(sights.len() * values.len());
        for sight in sights {
            for value in values {
                let mut sight = sight.clone();
                set(&mut sight, value.clone());
                all.push(sight);
            }
        }
        all
    }
    let both = [false, true];
    let new = || pod_name("new");
    let surges = [
        Surge::None,
        Surge::Unbound(new()),
        Surge::Coming(new()),
        Surge::Ready(new()),
        Surge::Misplaced(new()),
    ];
    let endings = [
        None,
        Some(MoveEnding::Finish { replacement: new() }),
        Some(MoveEnding::Undo { cause: AbortCause::TimedOut }),
    ];
    let waits = [10, 100, 301].map(Span::from_seconds);
    let standings = [Standing::Free, Standing::Unwanted, Standing::HandsOff, Standing::Autoscaled];
    sights = vary(sights, &standings, |s, v| s.standing = v);
    sights = vary(sights, &[Count::Before, Count::Surged, Count::Other], |s, v| s.count = v);
    sights = vary(sights, &endings, |s, v| s.ending = v);
    sights = vary(sights, &waits, |s, v| s.waited = v);
    sights = vary(sights, &surges, |s, v| s.surge = v);
    sights = vary(sights, &[None, Some(pod_name("excess"))], |s, v| s.excess = v);
    sights = vary(sights, &both, |s, v| s.missing = v);
    sights = vary(sights, &both, |s, v| s.surplus = v);
    sights = vary(sights, &both, |s, v| s.victim_stands = v);
    sights = vary(sights, &both, |s, v| s.victim_may_go = v);
    sights = vary(sights, &both, |s, v| s.warm = v);
    sights = vary(sights, &both, |s, v| s.counted = v);
    sights = vary(sights, &both, |s, v| s.surge_may_go = v);
    vary(sights, &both, |s, v| s.all_replaced = v)
}

#[test]
fn no_state_breaks_a_promise() {
    for sight in all_sights() {
        let step = next(&sight, TIMEOUT);
        let free = matches!(sight.standing, Standing::Free | Standing::Unwanted);
        match &step {
            Step::Wait => {}
            Step::Finish { replacement } => assert!(
                sight.standing == Standing::Free
                    && sight.count == Count::Surged
                    && !sight.missing
                    && sight.victim_stands
                    && sight.victim_may_go
                    && sight.warm
                    && sight.counted
                    && sight.surge == Surge::Ready(replacement.clone()),
                "{sight:?}"
            ),
            Step::Undo { surge, .. } => {
                let allowed = match surge {
                    Some(surge) if !sight.victim_stands => sight.excess.as_ref() == Some(surge),
                    Some(surge) => match &sight.surge {
                        Surge::Unbound(pod) | Surge::Coming(pod) => pod == surge,
                        Surge::Ready(pod) | Surge::Misplaced(pod) => {
                            pod == surge && sight.surge_may_go
                        }
                        Surge::None => false,
                    },
                    None => sight.missing || sight.surge == Surge::None,
                };
                assert!(free && sight.count == Count::Surged && allowed, "{sight:?}");
            }
            Step::Close(end) => {
                let ours = free && sight.count != Count::Surged;
                assert!(sight.standing == Standing::Autoscaled || ours, "{sight:?}");
                assert!(*end != MoveEnd::Done || !sight.victim_stands, "{sight:?}");
            }
        }
    }
}

/// The same, by holding the minimum of an autoscaler.
fn held() -> Sight {
    Sight { held: true, standing: Standing::Autoscaled, count: Count::Other, ..ready() }
}

#[test]
fn each_state_of_a_held_minimum_has_its_answer() {
    use AbortCause::{
        KeptByAutoscaler, Misplaced, NeverBegan, NotAllowedAnyMore, RolloutBegan, TimedOut, Unsafe,
        VictimGone,
    };
    let (half, late) = (Span::from_seconds(151), Span::from_seconds(301));
    let (in_grace, after_grace) = (Span::from_seconds(90), Span::from_seconds(91));
    let (patient, impatient) = (Span::from_seconds(900), Span::from_seconds(901));
    let coming = || Surge::Coming(pod_name("new"));
    let unbound = || Surge::Unbound(pod_name("new"));
    let misplaced = || Surge::Misplaced(pod_name("new"));
    let nobody = |cause| Step::Undo { surge: None, cause };
    let close = |cause| Step::Close(MoveEnd::GivenUp(cause));
    let finish = Step::Finish { replacement: pod_name("new") };
    let back = || Sight { held: false, ..held() };
    let finishing = Some(MoveEnding::Finish { replacement: pod_name("new") });
    let finishing = || Sight { ending: finishing.clone(), ..back() };
    let undoing = || Sight { ending: Some(MoveEnding::Undo { cause: TimedOut }), ..back() };
    let unwanted = || Sight { standing: Standing::Unwanted, ..held() };
    let rolled = || Sight { standing: Standing::HandsOff, ..held() };
    let cases = [
        ("ready", held(), finish.clone()),
        ("decided before a crash", Sight { held: true, ..finishing() }, finish.clone()),
        ("warming up", Sight { warm: false, ..held() }, Step::Wait),
        ("not safe", Sight { victim_may_go: false, ..held() }, Step::Wait),
        ("not safe, late", Sight { victim_may_go: false, waited: late, ..held() }, undo(Unsafe)),
        ("not counted", Sight { counted: false, ..held() }, finish),
        ("coming", Sight { surge: coming(), ..held() }, Step::Wait),
        ("coming, late", Sight { surge: coming(), waited: late, ..held() }, undo(TimedOut)),
        ("no room", Sight { surge: unbound(), ..held() }, Step::Wait),
        ("no room, half", Sight { surge: unbound(), waited: half, ..held() }, undo(TimedOut)),
        ("none", Sight { surge: Surge::None, ..held() }, Step::Wait),
        ("none, late", Sight { surge: Surge::None, waited: late, ..held() }, nobody(TimedOut)),
        ("elsewhere", Sight { surge: misplaced(), ..held() }, undo(Misplaced)),
        ("victim gone", Sight { victim_stands: false, ..held() }, nobody(VictimGone)),
        ("unwanted", unwanted(), undo(NotAllowedAnyMore)),
        ("unwanted, none", Sight { surge: Surge::None, ..unwanted() }, nobody(NotAllowedAnyMore)),
        ("rollout", rolled(), Step::Wait),
        ("rollout, late", Sight { waited: late, ..rolled() }, nobody(RolloutBegan)),
        ("on its way", Sight { waited: in_grace, ..back() }, Step::Wait),
        ("never raised", Sight { waited: after_grace, ..back() }, close(NeverBegan)),
        ("given back", Sight { waited: patient, ..finishing() }, Step::Wait),
        ("gone", Sight { victim_stands: false, ..finishing() }, Step::Close(MoveEnd::Done)),
        ("kept", Sight { waited: impatient, ..finishing() }, close(KeptByAutoscaler)),
        ("undone", Sight { surge: Surge::None, ..undoing() }, close(TimedOut)),
        ("undone, it stands", Sight { waited: patient, ..undoing() }, Step::Wait),
        ("undone, it stays", Sight { waited: impatient, ..undoing() }, close(TimedOut)),
    ];
    for (name, sight, expected) in cases {
        assert_eq!(hold::next(&sight, TIMEOUT), expected, "{name}");
    }
}
