//! Counts, places, moves,  loss and room, each broken by the smallest change of a
//! valid plan or of the world around it.

use super::{
    caught,
    fixture::{
        Fixture, abort, add, close, finish, fixture, id, moved, moving, pod, release, remove,
        remove_from_stateful_set, start, unmark, valid_plans,
    },
    found, observe, passes, put_on, victim_of,
};
use crate::{
    check::Owner,
    check::Violation,
    model::{
        Autoscaler, AutoscalerKind, CountBy, DisruptionBudget, Facts, NodeExpression, NodeOperator,
        NodeTerm, PodPhase, Taint, TaintEffect, Toleration,
    },
    plan::{Action, MoveWay},
    policy::AutoscaledMoves,
    units::{Bytes, MilliCpu, Percent, Timestamp},
};

#[test]
fn counts_are_what_they_are_expected_to_be() {
    for (_, valid) in valid_plans() {
        if !counts(&valid.planned.plan.actions[0]) {
            continue;
        }
        let workload = valid.planned.plan.actions[0].workload().unwrap().name().to_owned();
        caught(
            valid,
            |f| f.workload(&workload).desired += 1,
            |v| matches!(v, Violation::CountMisread { .. }),
        );
    }
    caught(start(), |f| observe(f, 4), |v| matches!(v, Violation::CountMisread { .. }));
}

/// It expects a count.
const fn counts(action: &Action) -> bool {
    !matches!(
        action,
        Action::SetRoutes { .. } | Action::GiveBackRoutes { .. } | Action::Release { .. }
    )
}

#[test]
fn minimum_and_maximum_hold() {
    let above = |v: &Violation| matches!(v, Violation::AboveMaximum { after: 7, max: 6, .. });
    caught(add(), |f| f.workload("cart").policy.max_replicas = Some(6), above);
    caught(add(), |f| f.policy.scaler.max_replicas = 6, above);
    passes(add(), |f| f.policy.scaler.max_replicas = 7);
    let below = |v: &Violation| matches!(v, Violation::BelowMinimum { after: 4, min: 5, .. });
    caught(remove(), |f| f.workload("cart").policy.min_replicas = Some(5), below);
    caught(remove(), |f| f.policy.scaler.min_replicas = 5, below);
    passes(remove(), |f| f.policy.scaler.min_replicas = 4);
    passes(start(), |f| f.policy.scaler.max_replicas = 5);
}

#[test]
fn disruption_budgets_hold() {
    let broken = |v: &Violation| matches!(v, Violation::DisruptionBudget { .. });
    let budget = |min_ready| Some(DisruptionBudget { min_ready });
    caught(remove(), |f| f.workload("cart").budget = budget(5), broken);
    passes(remove(), |f| f.workload("cart").budget = budget(4));
    for ends in [finish(), abort()] {
        // What the surge added may go again, also where the budget asks for more.
        passes(ends.clone(), |f| f.workload("cart").budget = budget(6));
        let one_less = |f: &mut Fixture| {
            f.workload("cart").budget = budget(5);
            f.pod("cart-2").phase = PodPhase::Unready;
        };
        caught(ends, one_less, broken);
    }
    passes(remove(), |f| {
        f.workload("cart").budget = budget(5);
        f.policy.scaler.respect_budgets = false;
    });
    // A replica that is not Ready is no loss to the budget.
    passes(remove(), |f| {
        f.workload("cart").budget = budget(5);
        f.pod("cart-0").phase = PodPhase::Unready;
    });
}

#[test]
fn stateful_sets_lose_their_last_replica_first() {
    caught(
        remove_from_stateful_set(),
        |f| victim_of(f, "pay-1"),
        |v| matches!(v, Violation::NotTheLastOrdinal { .. }),
    );
}

#[test]
fn the_spread_does_not_narrow() {
    let narrowed =
        |v: &Violation| matches!(v, Violation::SpreadNarrowed { before: 3, after: 2, .. });
    caught(remove(), |f| victim_of(f, "cart-4"), narrowed);
    passes(remove(), |f| {
        victim_of(f, "cart-4");
        f.policy.fault_tolerance.max_zones = 2;
        f.policy.fault_tolerance.survive = Percent::ZERO;
    });
    // The replacement went where others are already.
    let to_z2 = |f: &mut Fixture| {
        f.pod("cart-5").node = Some("n4".parse().unwrap());
        victim_of(f, "cart-4");
        f.record().victim = pod("cart-4");
    };
    caught(finish(), to_z2, narrowed);
    caught(
        start(),
        |f| {
            victim_of(f, "cart-4");
            put_on(f, "n2");
        },
        narrowed,
    );
}

#[test]
fn additions_respect_ceiling_and_skew() {
    let too_wide = |v: &Violation| matches!(v, Violation::SpreadTooWide { .. });
    let in_two_zones = |f: &mut Fixture| {
        f.pod("cart-4").node = Some("n4".parse().unwrap());
        f.policy.fault_tolerance.max_zones = 2;
    };
    caught(add(), in_two_zones, too_wide);
    let skewed = |v: &Violation| matches!(v, Violation::SkewWorsened { after: 2, .. });
    caught(
        add(),
        |f| {
            f.policy.fault_tolerance.max_skew = 1;
            put_on(f, "n4");
        },
        skewed,
    );
    passes(add(), |f| f.policy.fault_tolerance.max_skew = 1);
}

#[test]
fn additions_widen_the_spread_where_they_can() {
    let not_widened = |v: &Violation| matches!(v, Violation::SpreadNotWidened { .. });
    let z3_is_empty = |f: &mut Fixture| {
        f.pod("cart-4").node = Some("n4".parse().unwrap());
        put_on(f, "n2");
    };
    caught(add(), z3_is_empty, not_widened);
    let full = |f: &mut Fixture, node: &str| f.node(node).pod_capacity = 0;
    passes(add(), |f| {
        z3_is_empty(f);
        full(f, "n5");
        full(f, "n6");
    });
    passes(add(), |f| {
        z3_is_empty(f);
        f.policy.fault_tolerance.max_zones = 2;
    });
}

#[test]
fn moves_respect_the_ceiling() {
    caught(
        start(),
        |f| {
            f.pod("cart-4").node = Some("n4".parse().unwrap());
            f.policy.fault_tolerance.max_zones = 2;
        },
        |v| matches!(v, Violation::SpreadTooWide { zones: 3, max: 2, .. }),
    );
}

#[test]
fn moves_and_removals_respect_the_skew() {
    let skewed = |v: &Violation| matches!(v, Violation::SkewWorsened { .. });
    caught(
        start(),
        |f| {
            f.policy.fault_tolerance.max_skew = 1;
            f.policy.fault_tolerance.survive = Percent::ZERO;
            victim_of(f, "cart-0");
            put_on(f, "n4");
        },
        skewed,
    );
    caught(
        remove(),
        |f| {
            f.policy.fault_tolerance.max_skew = 1;
            let node = f.pod("cart-4").node.clone();
            f.pod("cart-0").node = node;
            f.pod("cart-2").node = Some("n6".parse().unwrap());
            // 1, 1, 3 becomes 1, 1, 3 less one elsewhere.
            victim_of(f, "cart-3");
            f.pod("cart-1").node = Some("n3".parse().unwrap());
            f.policy.fault_tolerance.survive = Percent::ZERO;
        },
        |v| matches!(v, Violation::SpreadNarrowed { .. }) || skewed(v),
    );
}

#[test]
fn moves_end_by_their_record() {
    let order = |v: &Violation| matches!(v, Violation::MoveOutOfOrder { .. });
    caught(finish(), |f| f.memory.workloads.clear(), order);
    caught(finish(), |f| f.record().victim = pod("cart-1"), order);
    caught(finish(), |f| f.record().known_pods.push(pod("cart-5")), order);
    caught(finish(), |f| f.record().replicas_before = 4, order);
    for phase in [PodPhase::Pending, PodPhase::Starting, PodPhase::Unready] {
        caught(finish(), |f| f.pod("cart-5").phase = phase, order);
    }
    let counted = |f: &mut Fixture, less: u32| {
        let cart = f.workload("cart");
        cart.ready_counted = Some(cart.desired - less);
    };
    passes(finish(), |f| counted(f, 0));
    caught(finish(), |f| counted(f, 1), order);
    for valid in [abort(), close()] {
        caught(valid, |f| f.memory.workloads.clear(), order);
    }
    caught(abort(), |f| f.record().known_pods.push(pod("cart-5")), order);
    caught(abort(), |f| f.record().replicas_before = 6, order);
    passes(close(), |f| f.record().replicas_before = 6);
    caught(close(), |f| f.record().replicas_before = 4, order);
    caught(close(), |f| f.record().victim = pod("cart-1"), order);
    let by_others = |f: &mut Fixture| f.workload("cart").counted_by = CountBy::Others;
    for valid in [finish(), abort()] {
        caught(valid, by_others, order);
    }
    passes(close(), |f| {
        f.record().replicas_before = 4;
        by_others(f);
    });
    let nobody = |f: &mut Fixture| match f.action() {
        Action::AbortMove { surge, .. } => *surge = None,
        other => panic!("{other}"),
    };
    caught(abort(), nobody, order);
    passes(abort(), |f| {
        nobody(f);
        f.workload("cart").pods.pop();
    });
}

#[test]
fn only_leftovers_are_tidied_up() {
    let order = |v: &Violation| matches!(v, Violation::NotALeftover { .. });
    caught(unmark(), |f| f.pod("cart-1").traces.victim = false, order);
    caught(release(), |f| f.pod("cart-1").traces.steered = None, order);
    caught(release(), |f| f.pod("cart-1").phase = PodPhase::Starting, order);
    let record = moving().memory;
    for valid in [unmark(), release()] {
        caught(valid, |f| f.memory.clone_from(&record), order);
    }
    caught(
        unmark(),
        |f| {
            let pod = f.pod("cart-2").clone();
            let name = "shop/cart-9".parse().unwrap();
            f.workload("cart").pods.push(crate::model::Pod { name, ..pod });
        },
        order,
    );
}

#[test]
fn marks_stay_while_a_request_may_still_arrive() {
    let scaled = |seconds: u64| {
        move |f: &mut Fixture| {
            let now = f.planned.plan.at.as_millis();
            let at = Some(Timestamp::from_millis(now - seconds * 1000));
            f.memory.workloads.entry(id("cart")).or_default().scaled_at = at;
        }
    };
    caught(unmark(), scaled(90), |v| matches!(v, Violation::NotALeftover { .. }));
    passes(unmark(), scaled(91));
}

#[test]
fn evictions_are_asked_for_and_go_one_at_a_time() {
    let evicts = |f: &mut Fixture| {
        f.policy.moves.autoscaled = AutoscaledMoves::Evict;
        let kind = AutoscalerKind::Hpa;
        f.workload("cart").autoscaler = Some(Autoscaler { kind, min: 1, max: 9, held: None });
        match f.action() {
            Action::StartMove { way, .. } => *way = MoveWay::Evict,
            other => panic!("{other}"),
        }
    };
    passes(start(), evicts);
    caught(
        start(),
        |f| {
            evicts(f);
            f.policy.moves.autoscaled = AutoscaledMoves::Never;
        },
        |v| matches!(v, Violation::NotOurs { owner: Owner::Autoscaler(_), .. }),
    );
    caught(
        start(),
        |f| {
            evicts(f);
            f.workload("cart").budget = Some(DisruptionBudget { min_ready: 5 });
        },
        |v| matches!(v, Violation::DisruptionBudget { .. }),
    );
    caught(
        start(),
        |f| {
            evicts(f);
            let mut other = moving();
            other.record().way = MoveWay::Evict;
            let record = other.record().clone();
            f.memory.workloads.entry(id("web")).or_default().in_flight = Some(record);
        },
        |v| matches!(v, Violation::BudgetExceeded { budget: "evictions at one time", .. }),
    );
}

#[test]
fn moves_begin_where_their_replica_is() {
    let order = |v: &Violation| matches!(v, Violation::MoveOutOfOrder { .. });
    caught(start(), |f| f.pod("cart-0").node = Some("n2".parse().unwrap()), order);
    caught(start(), |f| put_on(f, "n1"), order);
    caught(start(), |f| f.workload("cart").constraints.pinned = true, order);
    let mut stateful = fixture();
    let action = Action::StartMove {
        workload: id("pay"),
        observed: 3,
        way: MoveWay::Surge,
        victim: pod("pay-2"),
        from: "n5".parse().unwrap(),
        to: "n6".parse().unwrap(),
    };
    stateful = stateful.and(action, moved());
    assert!(found(&stateful).iter().any(order));
}

#[test]
fn losing_a_zone_leaves_enough() {
    let too_few = |v: &Violation| matches!(v, Violation::TooFewSurvivors { .. });
    // 2, 2, 1 at 80 % need 4 replicas; three survive now, two would.
    let busy = |f: &mut Fixture| {
        if let Facts::Fresh { value, .. } = &mut f.snapshot.usage {
            for usage in value {
                usage.cpu = MilliCpu::new(800);
            }
        }
        victim_of(f, "cart-4");
        f.policy.fault_tolerance.max_zones = 1;
    };
    caught(remove(), busy, too_few);
    // At 40 % two are enough, and nothing is said when less must survive.
    passes(remove(), |f| {
        victim_of(f, "cart-4");
        f.policy.fault_tolerance.max_zones = 1;
    });
    passes(remove(), |f| {
        busy(f);
        f.policy.fault_tolerance.survive = Percent::saturating(50.0);
    });
    // Without usage only the number counts.
    caught(
        remove(),
        |f| {
            victim_of(f, "cart-4");
            f.policy.fault_tolerance.max_zones = 1;
            f.snapshot.usage = Facts::Missing { reason: "gone".to_owned() };
        },
        too_few,
    );
    // Usage that is stale is not known.
    caught(
        remove(),
        |f| {
            victim_of(f, "cart-4");
            f.policy.fault_tolerance.max_zones = 1;
            if let Facts::Fresh { as_of, source, value } = f.snapshot.usage.clone() {
                f.snapshot.usage = Facts::Stale { as_of, source, value };
            }
        },
        too_few,
    );
}

#[test]
fn a_move_does_not_weaken_what_survives() {
    let too_few = |v: &Violation| matches!(v, Violation::TooFewSurvivors { .. });
    // 2, 2, 1 becomes 3, 1, 1 or 1, 2, 2: with nothing known of usage, two survivors
    // are fewer than three.
    let unknown = |f: &mut Fixture| {
        f.snapshot.usage = Facts::Missing { reason: "gone".to_owned() };
    };
    passes(start(), unknown);
    caught(
        start(),
        |f| {
            unknown(f);
            victim_of(f, "cart-2");
            if let Action::StartMove { from, to, .. } = f.action() {
                (*from, *to) = ("n3".parse().unwrap(), "n2".parse().unwrap());
            }
        },
        too_few,
    );
    passes(finish(), unknown);
    caught(
        finish(),
        |f| {
            unknown(f);
            f.pod("cart-5").node = Some("n2".parse().unwrap());
            victim_of(f, "cart-2");
            f.record().victim = pod("cart-2");
        },
        too_few,
    );
}

#[test]
fn replicas_are_put_where_they_can_run() {
    let cannot = |v: &Violation| matches!(v, Violation::CannotRunThere { .. });
    let taint = |effect| {
        vec![Taint { key: "team".parse().unwrap(), value: "red".parse().unwrap(), effect }]
    };
    for valid in [add(), start()] {
        caught(valid.clone(), |f| f.node("n6").ready = false, cannot);
        caught(valid.clone(), |f| f.node("n6").schedulable = false, cannot);
        for effect in [TaintEffect::NoSchedule, TaintEffect::NoExecute] {
            caught(valid.clone(), |f| f.node("n6").taints = taint(effect), cannot);
            passes(valid.clone(), |f| {
                f.node("n6").taints = taint(effect);
                f.workload("cart").constraints.tolerations = vec![Toleration {
                    key: Some("team".parse().unwrap()),
                    value: Some("red".parse().unwrap()),
                    effect: Some(effect),
                }];
            });
        }
        for other in [
            Toleration { key: Some("crew".parse().unwrap()), ..Toleration::default() },
            Toleration { value: Some("blue".parse().unwrap()), ..Toleration::default() },
            Toleration { effect: Some(TaintEffect::NoExecute), ..Toleration::default() },
        ] {
            caught(
                valid.clone(),
                |f| {
                    f.node("n6").taints = taint(TaintEffect::NoSchedule);
                    f.workload("cart").constraints.tolerations = vec![other];
                },
                cannot,
            );
        }
        passes(valid.clone(), |f| f.node("n6").taints = taint(TaintEffect::PreferNoSchedule));
        caught(
            valid.clone(),
            |f| {
                let selector = &mut f.workload("cart").constraints.node_selector;
                selector.insert("disk".parse().unwrap(), "ssd".parse().unwrap());
                for node in ["n1", "n2", "n3", "n4", "n5"] {
                    let labels = &mut f.node(node).labels;
                    labels.insert("disk".parse().unwrap(), "ssd".parse().unwrap());
                }
            },
            cannot,
        );
        caught(valid.clone(), |f| f.node("n6").allocatable.cpu = MilliCpu::new(999), cannot);
        caught(valid.clone(), |f| f.node("n6").allocatable.memory = Bytes::new(1 << 20), cannot);
        caught(valid.clone(), |f| f.node("n6").reserved.cpu = MilliCpu::new(3001), cannot);
        caught(valid.clone(), |f| f.node("n6").pod_capacity = 1, cannot);
        caught(
            valid.clone(),
            |f| {
                f.workload("cart").constraints.one_per_node = true;
                put_on(f, "n2");
            },
            cannot,
        );
        caught(
            valid,
            |f| {
                f.workload("cart").constraints.max_zone_skew = Some(1);
                f.policy.fault_tolerance.survive = Percent::ZERO;
                put_on(f, "n4");
            },
            cannot,
        );
    }
}

#[test]
fn promises_of_one_plan_add_up() {
    let cannot = |v: &Violation| matches!(v, Violation::CannotRunThere { .. });
    let both_on = |f: &mut Fixture, node: &str| {
        if let Action::AddReplicas { nodes, .. } = f.action() {
            *nodes = vec![node.parse().unwrap(); 2];
        }
    };
    // n6 is empty but for one foreign pod: room for two of 1000m, not of 1001m.
    passes(add(), |f| {
        both_on(f, "n6");
        f.node("n6").allocatable.cpu = MilliCpu::new(2000);
    });
    caught(
        add(),
        |f| {
            both_on(f, "n6");
            f.node("n6").allocatable.cpu = MilliCpu::new(1999);
        },
        cannot,
    );
    caught(
        add(),
        |f| {
            both_on(f, "n6");
            f.node("n6").pod_capacity = 2;
        },
        cannot,
    );
    caught(
        add(),
        |f| {
            both_on(f, "n6");
            f.workload("cart").constraints.one_per_node = true;
        },
        cannot,
    );
}

#[test]
fn affinity_is_read_as_kubernetes_does() {
    let cannot = |v: &Violation| matches!(v, Violation::CannotRunThere { .. });
    let cases: [(NodeOperator, &[&str], Option<&str>, bool); 14] = [
        (NodeOperator::In, &["2", "3"], Some("3"), true),
        (NodeOperator::In, &["2"], Some("3"), false),
        (NodeOperator::In, &["2"], None, false),
        (NodeOperator::NotIn, &["2"], Some("3"), true),
        (NodeOperator::NotIn, &["3"], Some("3"), false),
        (NodeOperator::NotIn, &["3"], None, true),
        (NodeOperator::Exists, &[], Some("3"), true),
        (NodeOperator::Exists, &[], None, false),
        (NodeOperator::DoesNotExist, &[], Some("3"), false),
        (NodeOperator::DoesNotExist, &[], None, true),
        (NodeOperator::Gt, &["2"], Some("3"), true),
        (NodeOperator::Gt, &["3"], Some("3"), false),
        (NodeOperator::Lt, &["4"], Some("3"), true),
        (NodeOperator::Lt, &["4"], None, false),
    ];
    for (operator, values, label, allowed) in cases {
        let change = |f: &mut Fixture| {
            let key: crate::ids::LabelKey = "age".parse().unwrap();
            for node in &mut f.snapshot.nodes {
                node.labels.extend(label.map(|label| (key.clone(), label.parse().unwrap())));
            }
            let values = values.iter().map(|value| value.parse().unwrap()).collect();
            let expressions = vec![NodeExpression { key, operator, values }];
            f.workload("cart").constraints.node_affinity = vec![NodeTerm { expressions }];
        };
        if allowed {
            passes(add(), change);
        } else {
            caught(add(), change, cannot);
        }
    }
    let empty = |f: &mut Fixture| {
        f.workload("cart").constraints.node_affinity = vec![NodeTerm::default()];
    };
    caught(add(), empty, cannot);
}
