//! Ways that the search has found, on which the product once broke a promise. Each is
//! walked anew, and from its end everything settles.

use super::{
    actors::{
        Bounds, Kind,
        Step::{
            self, Arrive, BecomeReady, Bind, Create, Cycle, Fault, Remove, Restart, Scale, Time,
            Write,
        },
        happen, steps,
    },
    daemon::Checks,
    faults::Fault::{Crash, Delete, Person, Quota, Stall},
    product::Product,
    properties::{Settling, enough_ready},
    run::ONE,
    world::{ELSEWHERE, State, TARGET},
};

struct Walk {
    product: Product,
    bounds: Bounds,
    state: State,
}

impl Walk {
    fn new(checks: Checks) -> Self {
        let bounds = Bounds { faults: 3, lag: 1, checks, ..ONE };
        Self { product: Product::new(false, true), bounds, state: State::new(1, 3, false, false) }
    }

    fn along(mut self, way: &[Step]) -> Self {
        for (at, step) in way.iter().enumerate() {
            let mut possible = Vec::new();
            steps(&self.state, &self.product, &self.bounds, &mut possible);
            assert!(possible.contains(step), "step {at}, {step:?}, is not among {possible:?}");
            self.state = happen(&self.state, &self.product, &self.bounds, *step);
        }
        self
    }

    fn is_well(&self) -> bool {
        let settles = Settling::default().settles(&self.state, &self.product, &self.bounds);
        self.state.broken == 0 && enough_ready(&self.state) && settles.is_ok()
    }
}

/// The record of a finished move stands until it is closed. A count set in between to one
/// more than before was taken for the surge, and lowered.
#[test]
fn one_more_after_the_end_is_not_the_surge() {
    let way = [
        Cycle,
        Write,
        Write,
        Write,
        Scale(0),
        Create(0),
        Bind(0, 3, TARGET),
        BecomeReady(0, 3),
        Cycle,
        Write,
        Write,
        Write,
        Write,
        Scale(0),
        Remove(0, 0),
        Fault(Person(0, 4)),
        Scale(0),
        Create(0),
        Bind(0, 4, ELSEWHERE),
        BecomeReady(0, 4),
    ];
    let walk = Walk::new(Checks::ALL).along(&way);
    assert!(walk.is_well());
    let mut possible = Vec::new();
    steps(&walk.state, &walk.product, &walk.bounds, &mut possible);
    assert!(possible.contains(&Cycle), "the record is closed by a cycle");
    let closed = walk.along(&[Cycle, Write]);
    assert_eq!(closed.state.loads[0].deployment.count, 4);
}

/// A budget of three over two replicas is not met before the move. It forbade to take the
/// misplaced surge back, for ever.
#[test]
fn a_budget_that_was_not_met_before_keeps_no_surge() {
    let way = [
        Cycle,
        Fault(Person(0, 2)),
        Write,
        Write,
        Write,
        Scale(0),
        Remove(0, 2),
        Cycle,
        Write,
        Write,
        Write,
        Time,
        Scale(0),
        Create(0),
        Bind(0, 3, ELSEWHERE),
        BecomeReady(0, 3),
    ];
    assert!(Walk::new(Checks::ALL).along(&way).is_well());
}

/// A replica was lost, the one made for it came up as the surge would have, and a quota
/// lets no other be made. The move was to be finished in every cycle, and refused each
/// time, since there were fewer replicas than asked for.
#[test]
fn a_newcomer_for_a_lost_replica_is_no_surge_while_one_is_missing() {
    let way = [
        Cycle,
        Write,
        Fault(Quota(0)),
        Fault(Delete(0, 1)),
        Create(0),
        Write,
        Write,
        Scale(0),
        Bind(0, 3, TARGET),
        BecomeReady(0, 3),
        Time,
        Time,
        Time,
    ];
    assert!(Walk::new(Checks::ALL).along(&way).is_well());
}

/// A view that is behind shows that a person set the count to one more; he has set it back,
/// and the one more that stands is the surge. The record must not be cleared.
#[test]
fn a_surge_is_not_left_to_a_person_who_set_the_same_count_before() {
    let way = [
        Cycle,
        Write,
        Fault(Person(0, 4)),
        Scale(0),
        Fault(Stall(Kind::Deployments)),
        Fault(Person(0, 3)),
        Scale(0),
        Write,
        Write,
        Scale(0),
        Cycle,
    ];
    assert!(Walk::new(Checks::ALL).along(&way).is_well());
    let blind = Checks { owner_at_close: false, ..Checks::ALL };
    assert!(!Walk::new(blind).along(&way).is_well());
}

/// A surge that was asked for by a daemon that ended arrives after its move was closed and
/// another one begun at another count.
#[test]
fn a_late_surge_does_not_join_another_move() {
    let way = [
        Cycle,
        Write,
        Write,
        Fault(Crash(true)),
        Restart,
        Fault(Person(0, 2)),
        Fault(Delete(0, 1)),
        Scale(0),
        Cycle,
        Write,
        Write,
        Cycle,
        Write,
        Cycle,
        Write,
        Write,
        Write,
    ];
    assert!(Walk::new(Checks::ALL).along(&way).is_well());
    let blind = Checks { version_at_count: false, ..Checks::ALL };
    assert!(!Walk::new(blind).along(&way).along(&[Arrive]).is_well());
}
