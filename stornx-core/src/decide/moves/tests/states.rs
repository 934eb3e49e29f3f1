//! The state machine of a move: every pair of what is recorded and what is seen.

use crate::{
    decide::{
        moves::state::{Count, SURGE_GRACE, Sight, Standing, Step, Surge, next},
        safety::testing::pod_name,
    },
    plan::AbortCause,
    units::Span,
};

const TIMEOUT: Span = Span::from_seconds(300);

/// A move whose replacement is Ready and whose victim may go.
fn ready() -> Sight {
    Sight {
        waited: Span::from_seconds(60),
        standing: Standing::Free,
        count: Count::Surged,
        missing: false,
        surplus: false,
        victim_stands: true,
        victim_may_go: true,
        surge: Surge::Ready(pod_name("new")),
        warm: true,
        surge_may_go: true,
        excess: None,
        all_replaced: false,
    }
}

fn undo(cause: AbortCause) -> Step {
    Step::Undo { surge: pod_name("new"), cause }
}

#[test]
fn each_state_has_its_answer() {
    use AbortCause::{
        AutoscalerAppeared, CountChanged, Misplaced, NeverBegan, NotAllowedAnyMore, RolloutBegan,
        TimedOut, Unsafe, VictimGone,
    };
    let late = Span::from_seconds(301);
    let after_grace = Span::from_seconds(91);
    let coming = || Surge::Coming(pod_name("new"));
    let forget = |cause| Step::Forget { cause };
    let finish = Step::Finish { replacement: pod_name("new") };
    let excess = Some(pod_name("new"));
    let lost = Sight { victim_stands: false, excess: excess.clone(), ..ready() };
    let undone = Sight { count: Count::Before, waited: after_grace, ..ready() };
    let cases = [
        ("ready", ready(), finish.clone()),
        ("ready late", Sight { waited: late, ..ready() }, finish),
        ("warming up", Sight { warm: false, ..ready() }, Step::Wait),
        (
            "warming up late",
            Sight { warm: false, waited: late, ..ready() },
            Step::Finish { replacement: pod_name("new") },
        ),
        (
            "unwanted, warming up",
            Sight { warm: false, standing: Standing::Unwanted, ..ready() },
            undo(NotAllowedAnyMore),
        ),
        ("starting", Sight { surge: coming(), ..ready() }, Step::Wait),
        ("starting late", Sight { surge: coming(), waited: late, ..ready() }, undo(TimedOut)),
        ("no pod", Sight { surge: Surge::None, ..ready() }, Step::Wait),
        ("no pod, late", Sight { surge: Surge::None, waited: late, ..ready() }, Step::Wait),
        ("unsafe", Sight { victim_may_go: false, ..ready() }, Step::Wait),
        ("unsafe, late", Sight { victim_may_go: false, waited: late, ..ready() }, undo(Unsafe)),
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
            forget(AutoscalerAppeared),
        ),
        ("other count", Sight { count: Count::Other, ..ready() }, forget(CountChanged)),
        ("victim lost", lost.clone(), undo(VictimGone)),
        ("victim lost, not replaced yet", Sight { missing: true, ..lost.clone() }, Step::Wait),
        ("victim lost, nobody may go", Sight { excess: None, ..lost.clone() }, Step::Wait),
        ("rolled out", Sight { all_replaced: true, ..lost }, undo(RolloutBegan)),
        ("not asked yet", Sight { waited: SURGE_GRACE, ..undone.clone() }, Step::Wait),
        ("never asked", undone.clone(), forget(NeverBegan)),
        ("one is about to go", Sight { surplus: true, ..undone.clone() }, Step::Wait),
        ("finished", Sight { victim_stands: false, ..undone }, forget(VictimGone)),
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
    let surges = [Surge::None, Surge::Coming(new()), Surge::Ready(new()), Surge::Misplaced(new())];
    let waits = [10, 100, 301].map(Span::from_seconds);
    let standings = [Standing::Free, Standing::Unwanted, Standing::HandsOff, Standing::Autoscaled];
    sights = vary(sights, &standings, |s, v| s.standing = v);
    sights = vary(sights, &[Count::Before, Count::Surged, Count::Other], |s, v| s.count = v);
    sights = vary(sights, &waits, |s, v| s.waited = v);
    sights = vary(sights, &surges, |s, v| s.surge = v);
    sights = vary(sights, &[None, Some(pod_name("excess"))], |s, v| s.excess = v);
    sights = vary(sights, &both, |s, v| s.missing = v);
    sights = vary(sights, &both, |s, v| s.surplus = v);
    sights = vary(sights, &both, |s, v| s.victim_stands = v);
    sights = vary(sights, &both, |s, v| s.victim_may_go = v);
    sights = vary(sights, &both, |s, v| s.warm = v);
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
                    && sight.victim_stands
                    && sight.victim_may_go
                    && (sight.warm || sight.waited > TIMEOUT)
                    && sight.surge == Surge::Ready(replacement.clone()),
                "{sight:?}"
            ),
            Step::Undo { surge, .. } => {
                let newcomer = match &sight.surge {
                    Surge::Coming(pod) => pod == surge,
                    Surge::Ready(pod) | Surge::Misplaced(pod) => pod == surge && sight.surge_may_go,
                    Surge::None => false,
                };
                let excess = !sight.victim_stands && sight.excess.as_ref() == Some(surge);
                assert!(free && sight.count == Count::Surged && (newcomer || excess), "{sight:?}");
            }
            Step::Forget { .. } => assert!(
                sight.standing == Standing::Autoscaled || (free && sight.count != Count::Surged),
                "{sight:?}"
            ),
        }
    }
}
