//! Names, reasons, ownership and budgets, each broken by the smallest change of a valid
//! plan or of the world around it.

use super::{
    caught,
    fixture::{
        Fixture, NOW, abort, add, cover, decay, finish, first_write, id, improve, moved, pod,
        remove, rollout, scale, start, undo, unmark, valid_plans,
    },
    found, passes, put_on, victim_of,
};
use crate::{
    check::{Owner, Violation},
    ids::HostName,
    memory::{Backoff, FinishedMove},
    model::{
        Autoscaler, AutoscalerKind, Facts, ForeignRule, Mesh, PodPhase, Rollout, Rule, Steering,
    },
    plan::{Action, MoveWay, RoutePurpose},
    report::Why,
    units::{Percent, Span, Timestamp},
};

#[test]
fn every_action_needs_a_reason_of_its_own() {
    for (_, valid) in valid_plans() {
        caught(
            valid.clone(),
            |f| f.planned.report.actions.clear(),
            |v| matches!(v, Violation::ReasonsMissing { actions: 1, reasons: 0 }),
        );
        let other = match valid.planned.report.actions[0].why {
            Why::Move(_) => scale("cart", 5, 6, &[]),
            Why::Scale(_) | Why::Route(_) | Why::TidyUp(_) => moved(),
        };
        caught(
            valid,
            |f| f.planned.report.actions[0].why = other,
            |v| matches!(v, Violation::WrongReason { .. }),
        );
    }
}

#[test]
fn reasons_speak_of_their_action() {
    let wrong = |v: &Violation| matches!(v, Violation::WrongReason { .. });
    caught(add(), |f| f.scale_why().to = 6, wrong);
    caught(add(), |f| f.scale_why().from = 4, wrong);
    caught(add(), |f| f.scale_why().workload = id("web"), wrong);
    caught(remove(), |f| f.scale_why().to = 5, wrong);
    caught(remove(), |f| f.scale_why().from = 6, wrong);
    caught(remove(), |f| f.scale_why().workload = id("web"), wrong);
    caught(remove(), |f| f.scale_why().victims = vec![pod("cart-1")], wrong);
    caught(improve(), |f| f.route_why().purpose = RoutePurpose::Undo, wrong);
    caught(
        improve(),
        |f| f.route_why().host = "pay.shop.svc.cluster.local".parse().unwrap(),
        wrong,
    );
}

#[test]
fn every_id_exists() {
    for (_, valid) in valid_plans() {
        let forgets = matches!(valid.planned.plan.actions[0], Action::CloseMove { .. });
        let name = valid.planned.plan.actions[0].workload().unwrap().clone();
        let mut gone = valid;
        gone.snapshot.workloads.retain(|w| w.id != name);
        let unknown = Violation::UnknownWorkload { workload: name };
        assert_eq!(found(&gone).contains(&unknown), !forgets);
    }
    caught(improve(), |f| f.snapshot.hosts.clear(), |v| matches!(v, Violation::UnknownHost { .. }));
    for valid in [add(), start()] {
        caught(valid, |f| put_on(f, "n7"), |v| matches!(v, Violation::UnknownNode { .. }));
    }
    let unknown = |v: &Violation| matches!(v, Violation::UnknownReplica { .. });
    for valid in [remove(), start(), finish()] {
        for stranger in ["cart-9", "web-0"] {
            caught(valid.clone(), |f| victim_of(f, stranger), unknown);
        }
        caught(valid, |f| f.pod("cart-0").phase = PodPhase::Terminating, unknown);
    }
    caught(finish(), |f| f.pod("cart-5").phase = PodPhase::Terminating, unknown);
    caught(abort(), |f| f.pod("cart-5").phase = PodPhase::Terminating, unknown);
}

#[test]
fn actions_do_something_once() {
    let nothing = |v: &Violation| matches!(v, Violation::NothingToDo { .. });
    caught(
        add(),
        |f| {
            if let Action::AddReplicas { nodes, .. } = f.action() {
                nodes.clear();
            }
        },
        nothing,
    );
    caught(
        remove(),
        |f| {
            if let Action::RemoveReplicas { victims, .. } = f.action() {
                victims.clear();
            }
        },
        nothing,
    );
    let twice = |v: &Violation| matches!(v, Violation::ReplicaNamedTwice { .. });
    caught(
        remove(),
        |f| {
            if let Action::RemoveReplicas { victims, .. } = f.action() {
                victims.push(pod("cart-0"));
            }
        },
        twice,
    );
    caught(finish(), |f| victim_of(f, "cart-5"), twice);
}

#[test]
fn nothing_is_changed_by_two_actions() {
    for (_, valid) in valid_plans() {
        caught(
            valid,
            |f| {
                let (action, report) = (f.action().clone(), f.planned.report.actions[0].clone());
                f.planned.plan.actions.push(action);
                f.planned.report.actions.push(report);
            },
            |v| {
                matches!(
                    v,
                    Violation::CountChangedTwice { .. } | Violation::HostWrittenTwice { .. }
                )
            },
        );
    }
}

#[test]
fn what_others_own_is_left_alone() {
    type Change = fn(&mut Fixture);
    let owned: [(&str, Change, Owner, &[&str]); 14] = [
        ("unmanaged", |f| touched(f).managed = false, Owner::NotMonitored, &["close"]),
        (
            "elsewhere",
            |f| f.policy.namespaces = ["other".parse().unwrap()].into(),
            Owner::NotMonitored,
            &["close"],
        ),
        (
            "autoscaled",
            |f| touched(f).autoscaler = Some(autoscaler()),
            Owner::Autoscaler(AutoscalerKind::Hpa),
            &["close", "tidy", "routes"],
        ),
        (
            "in a rollout",
            |f| touched(f).rollout = Rollout::InProgress,
            Owner::Rollout(Rollout::InProgress),
            &["close", "tidy", "routes"],
        ),
        (
            "paused",
            |f| touched(f).rollout = Rollout::Paused,
            Owner::Rollout(Rollout::Paused),
            &["close", "tidy", "routes"],
        ),
        (
            "opted out",
            |f| touched(f).policy.opted_out = true,
            Owner::OptedOut,
            &["abort", "close", "tidy"],
        ),
        (
            "in a quiet hour",
            |f| f.snapshot.quiet = true,
            Owner::QuietHour,
            &["scale", "finish", "abort", "close", "tidy", "routes"],
        ),
        (
            "without steering",
            |f| f.snapshot.steering = Steering::Missing { reason: String::new() },
            Owner::NoSteering,
            &["scale", "finish", "abort", "close", "tidy", "routes"],
        ),
        (
            "no scaling",
            |f| touched(f).policy.no_scaling = true,
            Owner::NotWanted,
            &["start", "finish", "abort", "close", "tidy", "routes"],
        ),
        (
            "no moves",
            |f| touched(f).policy.no_moves = true,
            Owner::NotWanted,
            &["scale", "finish", "abort", "close", "tidy", "routes"],
        ),
        (
            "no routing",
            |f| touched(f).policy.no_routing = true,
            Owner::NotWanted,
            &["scale", "start", "finish", "abort", "close", "tidy"],
        ),
        (
            "scaler off",
            |f| f.policy.scaler.enabled = false,
            Owner::SwitchedOff,
            &["start", "finish", "abort", "close", "tidy", "routes"],
        ),
        (
            "moves off",
            |f| f.policy.moves.enabled = false,
            Owner::SwitchedOff,
            &["scale", "finish", "abort", "close", "tidy", "routes"],
        ),
        (
            "no mesh",
            |f| f.snapshot.mesh = Mesh::Absent,
            Owner::NoMesh,
            &["scale", "start", "finish", "abort", "close", "tidy"],
        ),
    ];
    for (state, change, owner, allowed) in owned {
        for (name, valid) in valid_plans() {
            let group = match name {
                "add" | "remove" | "remove from a stateful set" => "scale",
                "start" | "finish" | "abort" | "close" => name,
                "unmark" | "release" | "give back" => "tidy",
                _ => "routes",
            };
            let mut changed = valid;
            change(&mut changed);
            let found = found(&changed);
            let refused = found
                .iter()
                .any(|v| matches!(v, Violation::NotOurs { owner: o, .. } if *o == owner));
            assert_eq!(refused, !allowed.contains(&group), "{state}: {name}: {found:?}");
        }
    }
}

fn autoscaler() -> Autoscaler {
    Autoscaler { kind: AutoscalerKind::Hpa, min: 1, max: 9, held: None }
}

fn touched(f: &mut Fixture) -> &mut crate::model::Workload {
    let name = f.action().workload().unwrap().name().to_owned();
    f.workload(&name)
}

#[test]
fn counts_of_another_controller_are_never_written() {
    for respect in [true, false] {
        let own = |f: &mut Fixture| {
            f.policy.scaler.respect_autoscalers = respect;
            let kind = AutoscalerKind::Controller;
            touched(f).autoscaler = Some(Autoscaler { kind, min: 0, max: u32::MAX, held: None });
        };
        caught(add(), own, |violation| {
            let owner = Owner::Autoscaler(AutoscalerKind::Controller);
            matches!(violation, Violation::NotOurs { owner: found, .. } if *found == owner)
        });
    }
}

#[test]
fn autoscaled_counts_are_written_only_when_told_so() {
    passes(add(), |f| {
        f.workload("cart").autoscaler = Some(autoscaler());
        f.policy.scaler.respect_autoscalers = false;
    });
}

#[test]
fn rules_of_others_are_left_alone() {
    let rule = ForeignRule::Failover;
    for valid in [improve(), first_write(), decay(), cover(), undo()] {
        caught(
            valid.clone(),
            |f| f.host().rule = Rule::Foreign(rule),
            |v| matches!(v, Violation::NotOurs { owner, .. } if *owner == Owner::ForeignRule(rule)),
        );
        for backends in [vec![], vec![id("cart"), id("web")], vec![id("web")]] {
            caught(
                valid.clone(),
                |f| f.host().backends = backends,
                |v| matches!(v, Violation::NotOurs { owner: Owner::OtherBackends, .. }),
            );
        }
    }
    caught(
        improve(),
        |f| f.policy.balancer.enabled = false,
        |v| matches!(v, Violation::NotOurs { owner: Owner::SwitchedOff, .. }),
    );
    passes(cover(), |f| f.policy.balancer.enabled = false);
}

#[test]
fn what_nobody_reads_is_not_written() {
    for valid in [improve(), first_write(), undo()] {
        caught(
            valid.clone(),
            |f| f.host().ztunnel_only = true,
            |v| matches!(v, Violation::NotOurs { owner: Owner::NobodyReads, .. }),
        );
        passes(valid, |f| {
            f.host().ztunnel_only = true;
            f.workload("web").proxied = true;
        });
    }
    for kept in [cover(), decay()] {
        passes(kept, |f| f.host().ztunnel_only = true);
    }
}

#[test]
fn a_move_under_way_keeps_the_count() {
    let under_way =
        |v: &Violation| matches!(v, Violation::NotOurs { owner: Owner::MoveInFlight, .. });
    for valid in [add(), remove(), start()] {
        caught(valid, |f| f.memory.workloads = finish().memory.workloads, under_way);
    }
}

#[test]
fn budgets_are_kept() {
    let over = |setting: &'static str| move |v: &Violation| matches!(v, Violation::BudgetExceeded { budget, .. } if *budget == setting);
    caught(add(), |f| f.policy.scaler.max_step = 1, over("SCALER_MAX_STEP"));
    caught(add(), |f| f.policy.scaler.max_actions = 0, over("SCALER_MAX_ACTIONS"));
    caught(start(), |f| f.policy.moves.max_per_cycle = 0, over("MOVE_MAX_PER_CYCLE"));
    caught(start(), |f| f.policy.moves.max_per_zone = 0, over("MOVE_MAX_PER_ZONE"));
    caught(
        start(),
        |f| {
            let record = finish().memory.workloads[&id("cart")].clone();
            f.memory.workloads.insert(id("web"), record);
            f.policy.moves.max_in_flight = 1;
        },
        over("MOVE_MAX_IN_FLIGHT"),
    );
    passes(finish(), |f| f.policy.moves.max_in_flight = 0);
    caught(improve(), |f| f.policy.balancer.max_writes = 0, over("BALANCER_MAX_WRITES"));
    passes(cover(), |f| f.policy.balancer.max_writes = 0);
}

#[test]
fn a_zone_has_a_budget_of_moves_of_its_own() {
    let web = Action::StartMove {
        workload: id("web"),
        observed: 4,
        way: MoveWay::Surge,
        victim: pod("web-0"),
        from: "n1".parse().unwrap(),
        to: "n4".parse().unwrap(),
    };
    let two = start().and(web, moved());
    caught(
        two,
        |f| f.policy.moves.max_per_zone = 1,
        |v| matches!(v, Violation::BudgetExceeded { budget: "MOVE_MAX_PER_ZONE", used: 2, .. }),
    );
}

#[test]
fn workloads_are_left_alone_for_a_while() {
    let soon = |v: &Violation| matches!(v, Violation::TooSoon { .. });
    let ago = |seconds: u64| crate::units::Timestamp::from_millis(NOW.as_millis() - seconds * 1000);
    for valid in [add(), remove()] {
        let scaled = |f: &mut Fixture, seconds| {
            f.memory.workloads.entry(id("cart")).or_default().scaled_at = Some(ago(seconds));
        };
        caught(valid.clone(), |f| scaled(f, 59), soon);
        passes(valid, |f| scaled(f, 60));
    }
    let backoff = |f: &mut Fixture, until| {
        f.memory.workloads.entry(id("cart")).or_default().move_backoff =
            Some(Backoff { until, failures: 1 });
    };
    caught(start(), |f| backoff(f, NOW.after(Span::from_millis(1))), soon);
    passes(start(), |f| backoff(f, NOW));
    let moved = |f: &mut Fixture, seconds| {
        f.memory.workloads.entry(id("cart")).or_default().moved_at = Some(ago(seconds));
    };
    caught(start(), |f| moved(f, 599), soon);
    passes(start(), |f| moved(f, 600));
    let last = |f: &mut Fixture, replacement: &str, regressed| {
        moved(f, 1);
        f.memory.workloads.entry(id("cart")).or_default().last_move = Some(FinishedMove {
            replacement: pod(replacement),
            came_from: "n6".parse().unwrap(),
            regressed,
        });
    };
    passes(start(), |f| last(f, "cart-0", true));
    caught(start(), |f| last(f, "cart-0", false), soon);
    caught(start(), |f| last(f, "cart-1", true), soon);
}

#[test]
fn hosts_are_left_alone_for_a_while() {
    let backoff = |f: &mut Fixture, until| {
        let host = f.snapshot.hosts[0].name.clone();
        f.memory.hosts.entry(host).or_default().backoff = Some(Backoff { until, failures: 1 });
    };
    caught(
        improve(),
        |f| backoff(f, NOW.after(Span::from_millis(1))),
        |v| matches!(v, Violation::RoutesTooSoon { .. }),
    );
    passes(improve(), |f| backoff(f, NOW));
    passes(cover(), |f| backoff(f, NOW.after(Span::from_millis(1))));
}

#[test]
fn relief_of_a_zone_above_the_cap_does_not_wait() {
    // The cap is 70 per cent: what relieves must start above it and not go further up.
    let relief = |before: f64, after: f64| {
        move |f: &mut Fixture| {
            let host = f.snapshot.hosts[0].name.clone();
            let until = NOW.after(Span::from_millis(1));
            f.memory.hosts.entry(host).or_default().backoff = Some(Backoff { until, failures: 1 });
            let Why::Route(why) = &mut f.planned.report.actions[0].why else { unreachable!() };
            why.peak_before = Some(Percent::saturating(before));
            why.peak_after = Some(Percent::saturating(after));
        }
    };
    let soon = |v: &Violation| matches!(v, Violation::RoutesTooSoon { .. });
    passes(improve(), relief(71.0, 71.0));
    passes(improve(), relief(90.0, 40.0));
    caught(improve(), relief(70.0, 60.0), soon);
    caught(improve(), relief(80.0, 80.5), soon);
}

#[test]
fn a_step_has_figures_of_its_own() {
    let again = |v: &Violation| matches!(v, Violation::RoutesSeenAlready { .. });
    let written = |before: u64| {
        move |f: &mut Fixture| {
            let host = f.snapshot.hosts[0].name.clone();
            let at = Timestamp::from_millis(NOW.as_millis() - before);
            f.memory.hosts.entry(host).or_default().written_at = Some(at);
        }
    };
    let old = |f: &mut Fixture| match &mut f.snapshot.traffic {
        Facts::Fresh { as_of, .. } => *as_of = Timestamp::from_millis(NOW.as_millis() - 5000),
        other => panic!("{other:?}"),
    };
    caught(improve(), written(0), again);
    passes(improve(), written(1));
    let both = |f: &mut Fixture| {
        written(5000)(f);
        old(f);
    };
    caught(improve(), both, again);
    passes(rollout(), written(0));
    caught(decay(), written(14_999), again);
    passes(decay(), written(15_000));
    passes(cover(), written(0));
}

#[test]
fn what_must_not_wait_comes_first_and_is_free_after_a_refusal() {
    let late = |v: &Violation| matches!(v, Violation::RoutesTooLate { .. });
    let after = |first: Fixture| {
        let (action, report) =
            (first.planned.plan.actions[0].clone(), first.planned.report.actions[0].why.clone());
        move |f: &mut Fixture| *f = f.clone().and(action, report)
    };
    caught(
        cover(),
        |f| {
            let covers = (f.planned.plan.actions.remove(0), f.planned.report.actions.remove(0).why);
            after(unmark())(f);
            *f = f.clone().and(covers.0, covers.1);
        },
        late,
    );
    // A host that is covered, and another one that is improved, with room for one write.
    let two = |refused: bool| {
        move |f: &mut Fixture| {
            let mut other = f.snapshot.hosts[0].clone();
            other.name = HostName::of_service(&"shop".parse().unwrap(), "other").unwrap();
            let mut better = improve();
            other.rule = better.snapshot.hosts[0].rule.clone();
            let host = f.snapshot.hosts[0].name.clone();
            if refused {
                f.memory.hosts.entry(host).or_default().refused_at = Some(NOW);
            }
            match &mut better.planned.plan.actions[0] {
                Action::SetRoutes { host, .. } => host.clone_from(&other.name),
                other => panic!("{other}"),
            }
            better.route_why().host.clone_from(&other.name);
            f.snapshot.hosts.push(other);
            f.policy.balancer.max_writes = 1;
            after(better)(f);
        }
    };
    let over = |v: &Violation| matches!(v, Violation::BudgetExceeded { .. });
    caught(cover(), two(false), over);
    passes(cover(), two(true));
}
