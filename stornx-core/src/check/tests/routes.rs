//! Coverage, steps, purposes and the cap, each broken by the smallest change of a valid
//! plan or of the world around it.

use super::{
    caught,
    fixture::{
        Fixture, cover, decay, first_write, fixture, id, improve, live, pod, rollout, table, undo,
        zone,
    },
    found, passes,
};
use crate::{
    check::Violation,
    memory::HostMemory,
    model::{Facts, ForeignRule, Rollout, Rule},
    plan::{Action, GiveBackCause},
    report::{TidyWhy, Why},
    units::{MilliCpu, Percent, Rps, Span, Timestamp},
};

#[test]
fn callers_and_zones_are_all_named() {
    for caller in ["z1", "z2", "z3"] {
        caught(
            improve(),
            |f| drop(f.routes().remove(&zone(caller))),
            |v| matches!(v, Violation::CallerForgotten { .. }),
        );
    }
    caught(
        improve(),
        |f| drop(f.routes().insert(zone("z1"), super::fixture::row([80, 20, 0]))),
        |v| matches!(v, Violation::ZoneCutOff { .. }),
    );
    let node = |f: &mut Fixture| {
        let mut node = f.snapshot.nodes[0].clone();
        (node.name, node.zone) = ("n9".parse().unwrap(), zone("z9"));
        f.snapshot.nodes.push(node);
    };
    caught(improve(), node, |v| matches!(v, Violation::ZoneCutOff { .. }));
    caught(improve(), node, |v| matches!(v, Violation::CallerForgotten { .. }));
    caught(
        improve(),
        |f| f.snapshot.nodes.retain(|node| node.zone != zone("z3")),
        |v| matches!(v, Violation::UnknownZone { .. }),
    );
}

#[test]
fn endpoints_are_where_their_nodes_are() {
    for valid in [first_write(), improve(), cover(), decay(), undo(), rollout()] {
        let elsewhere = |v: &Violation| matches!(v, Violation::EndpointElsewhere { .. });
        caught(valid.clone(), |f| f.host().displaced = true, elsewhere);
        let nowhere = |v: &Violation| matches!(v, Violation::EndpointWithoutPlace { .. });
        caught(valid, |f| f.host().foreign_endpoints = true, nowhere);
    }
}

/// Weights of ours are given back: nothing stands behind the host any more.
fn given_back() -> Fixture {
    let mut fixture = fixture();
    fixture.policy.namespaces = ["shop".parse().unwrap()].into();
    fixture.host().backends.clear();
    let (host, workload) = (fixture.host().name.clone(), None);
    let action = Action::GiveBackRoutes { host, workload, cause: GiveBackCause::NoWorkload };
    fixture.and(action, Why::TidyUp(TidyWhy::Routes))
}

fn cause(f: &mut Fixture, is: GiveBackCause) {
    if let Action::GiveBackRoutes { cause, .. } = f.action() {
        *cause = is;
    }
}

#[test]
fn without_a_workload_the_list_says_whether_a_host_is_ours() {
    let foreign = |v: &Violation| matches!(v, Violation::NotOurs { .. });
    caught(given_back(), |f| f.policy.namespaces.clear(), foreign);
    let elsewhere = |f: &mut Fixture| f.policy.namespaces = ["other".parse().unwrap()].into();
    caught(given_back(), elsewhere, foreign);
    passes(given_back(), |f| {
        f.host().rule = Rule::Foreign(ForeignRule::NotAService);
        f.host().leftover = true;
    });
}

#[test]
fn only_what_may_not_stand_is_given_back() {
    let stays = |v: &Violation| matches!(v, Violation::NotALeftover { .. });
    caught(given_back(), |f| f.host().rule = Rule::None, stays);
    caught(given_back(), |f| f.host().rule = Rule::Foreign(ForeignRule::Distribute), stays);
    caught(given_back(), |f| f.host().backends = vec![id("cart")], stays);
    for other in [GiveBackCause::OptedOut, GiveBackCause::SeveralWorkloads] {
        caught(given_back(), |f| cause(f, other), stays);
    }
    for (is, flag) in [
        (GiveBackCause::Displaced, (true, false)),
        (GiveBackCause::ForeignEndpoints, (false, true)),
    ] {
        let mut valid = given_back();
        cause(&mut valid, is);
        (valid.host().displaced, valid.host().foreign_endpoints) = flag;
        let clear = |f: &mut Fixture| {
            (f.host().displaced, f.host().foreign_endpoints) = (false, false);
        };
        caught(valid.clone(), clear, stays);
        // Of a workload that does not stand behind it.
        caught(
            valid,
            |f| {
                if let Action::GiveBackRoutes { workload, .. } = f.action() {
                    *workload = Some(id("web"));
                }
            },
            stays,
        );
    }
    caught(
        given_back(),
        |f| f.snapshot.hosts.clear(),
        |v| matches!(v, Violation::UnknownHost { .. }),
    );
}

#[test]
fn a_step_starts_from_what_stands() {
    let misread = |v: &Violation| matches!(v, Violation::SplitMisread { .. });
    caught(
        improve(),
        |f| f.host().rule = Rule::Ours(table([[61, 20, 19], [30, 40, 30], [30, 30, 40]])),
        misread,
    );
    caught(first_write(), |f| f.host().rule = Rule::Ours(live()), misread);
    caught(
        first_write(),
        |f| f.host().default_split = crate::model::DefaultSplit::OwnZoneFirst,
        misread,
    );
    caught(
        improve(),
        |f| {
            if let Action::SetRoutes { from, .. } = f.action() {
                from.remove(&zone("z2"));
            }
        },
        misread,
    );
}

#[test]
fn the_step_is_what_follows_from_the_claimed_delta() {
    let claim = |v: &Violation| matches!(v, Violation::FalseClaim { .. });
    caught(improve(), |f| f.route_why().step = 19.0, claim);
    caught(improve(), |f| f.route_why().step = 21.0, claim);
    caught(improve(), |f| f.route_why().delta = 25.0, claim);
    // A delta below the change, with the step that follows from it.
    caught(
        improve(),
        |f| {
            f.route_why().delta = 60.0;
            f.route_why().step = 20.0;
        },
        claim,
    );
    caught(improve(), |f| f.route_why().largest = Some((zone("z1"), zone("z1"), 60, 67)), claim);
    caught(improve(), |f| f.route_why().largest = Some((zone("z2"), zone("z2"), 41, 57)), claim);
    passes(improve(), |f| {
        f.route_why().largest = Some((zone("z2"), zone("z2"), 40, 57));
    });
}

#[test]
fn small_changes_are_not_written() {
    let small = table([[61, 19, 20], [30, 41, 29], [30, 30, 40]]);
    let not_worth = |v: &Violation| matches!(v, Violation::NotWorthAWrite { change: 4, .. });
    caught(improve(), |f| *f.routes() = small.clone(), not_worth);
    caught(decay(), |f| *f.routes() = table([[59, 21, 20], [31, 40, 29], [30, 30, 40]]), not_worth);
}

#[test]
fn no_route_is_lowered_below_the_reserve() {
    let spent = |v: &Violation| matches!(v, Violation::ReserveSpent { after: 8, .. });
    caught(
        first_write(),
        |f| {
            f.policy.balancer.reserve = Percent::saturating(9.0);
            *f.routes() = table([[60, 32, 8], [30, 50, 20], [30, 35, 35]]);
        },
        spent,
    );
}

#[test]
fn a_decay_goes_towards_the_replicas() {
    let away = |v: &Violation| matches!(v, Violation::WrongDirection { .. });
    caught(decay(), |f| *f.routes() = table([[75, 12, 13], [30, 40, 30], [30, 30, 40]]), away);
}

#[test]
fn a_decay_needs_stale_traffic_time_and_weights_of_ours() {
    let unfounded = |v: &Violation| matches!(v, Violation::DecayUnfounded { .. });
    caught(decay(), |f| f.snapshot.traffic = improve().snapshot.traffic, unfounded);
    let host = |f: &mut Fixture| f.snapshot.hosts[0].name.clone();
    caught(
        decay(),
        |f| {
            let since = Timestamp::from_millis(super::fixture::NOW.as_millis() - 299_999);
            let host = host(f);
            f.memory.hosts.get_mut(&host).unwrap().stale_since = Some(since);
        },
        unfounded,
    );
    // A memory that was lost: the wait begins anew.
    caught(decay(), |f| f.memory.hosts.clear(), unfounded);
    passes(decay(), |f| {
        f.policy.balancer.stale_after = Span::ZERO;
        f.memory.hosts.clear();
    });
    caught(decay(), |f| f.host().rule = Rule::None, unfounded);
}

#[test]
fn whether_weights_stand_is_said_as_it_is() {
    let claim =
        |v: &Violation| matches!(v, Violation::FalseClaim { claim: "whether weights stand", .. });
    let turn = |f: &mut Fixture| {
        let action = f.planned.plan.actions.iter_mut().find_map(|action| match action {
            Action::SetRoutes { first, .. } => Some(first),
            _ => None,
        });
        let first = action.unwrap();
        *first = !*first;
    };
    for plan in [first_write(), improve(), cover()] {
        caught(plan, turn, claim);
    }
}

#[test]
fn a_decay_of_one_host_needs_time_without_any_of_its_requests() {
    let unfounded = |v: &Violation| matches!(v, Violation::DecayUnfounded { .. });
    let waited =
        |f: &Fixture| super::fixture::NOW.as_millis() - f.policy.balancer.stale_after.as_millis();
    let unseen = |f: &mut Fixture, since: u64| {
        let name = f.snapshot.hosts[0].name.clone();
        f.snapshot.traffic = improve().snapshot.traffic;
        let memory = f.memory.hosts.entry(name).or_default();
        (memory.stale_since, memory.unseen_since) = (None, Some(Timestamp::from_millis(since)));
    };
    let silent = |f: &mut Fixture| {
        let Facts::Fresh { value, .. } = &mut f.snapshot.traffic else { panic!("not fresh") };
        value.edges.clear();
    };
    passes(decay(), |f| {
        unseen(f, waited(f));
        silent(f);
    });
    caught(decay(), |f| unseen(f, waited(f)), unfounded);
    caught(
        decay(),
        |f| {
            unseen(f, waited(f) + 1);
            silent(f);
        },
        unfounded,
    );
    // That the cluster had none is another question.
    caught(
        decay(),
        |f| {
            unseen(f, waited(f));
            silent(f);
            let memory = f.memory.hosts.values_mut().next().unwrap();
            (memory.stale_since, memory.unseen_since) = (memory.unseen_since, None);
        },
        unfounded,
    );
}

#[test]
fn what_rests_on_traffic_waits_for_it() {
    let unknown = |v: &Violation| matches!(v, Violation::TrafficNotKnown { .. });
    let missing = |f: &mut Fixture| f.snapshot.traffic = decay().snapshot.traffic;
    caught(improve(), missing, unknown);
    caught(undo(), missing, unknown);
    caught(rollout(), missing, unknown);
    passes(cover(), missing);
}

#[test]
fn what_is_undone_has_been_seen_for_a_whole_window() {
    let hasty = |v: &Violation| matches!(v, Violation::UndoneUnseen { .. });
    let memory = |f: &mut Fixture| {
        let host = f.snapshot.hosts[0].name.clone();
        f.memory.hosts.remove(&host).unwrap()
    };
    let set = |f: &mut Fixture, memory| {
        let host = f.snapshot.hosts[0].name.clone();
        f.memory.hosts.insert(host, memory);
    };
    caught(
        undo(),
        |f| {
            let later = Timestamp::from_millis(super::fixture::NOW.as_millis() - 59_999);
            let known = HostMemory { written_at: Some(later), ..memory(f) };
            set(f, known);
        },
        hasty,
    );
    // The metrics describe an instant before this cycle.
    caught(
        undo(),
        |f| match &mut f.snapshot.traffic {
            Facts::Fresh { as_of, .. } => *as_of = Timestamp::from_millis(as_of.as_millis() - 1),
            other => panic!("{other:?}"),
        },
        hasty,
    );
    caught(
        undo(),
        |f| {
            let unknown = HostMemory { expectation: None, ..memory(f) };
            set(f, unknown);
        },
        hasty,
    );
}

#[test]
fn a_rollout_is_sat_out_only_where_there_is_one() {
    let away = |v: &Violation| matches!(v, Violation::WrongDirection { .. });
    caught(rollout(), |f| *f.routes() = table([[75, 12, 13], [30, 40, 30], [30, 30, 40]]), away);
    let none = |v: &Violation| matches!(v, Violation::FalseClaim { claim: "the rollout", .. });
    caught(
        rollout(),
        |f| {
            for workload in &mut f.snapshot.workloads {
                workload.rollout = Rollout::Settled;
            }
        },
        none,
    );
    caught(
        rollout(),
        |f| *f.routes() = table([[35, 40, 25], [40, 40, 20], [40, 30, 30]]),
        |v| matches!(v, Violation::StepTooLarge { .. }),
    );
}

#[test]
fn a_cover_covers_and_nothing_else() {
    caught(
        cover(),
        |f| f.host().rule = Rule::Ours(live()),
        |v| matches!(v, Violation::NothingToCover { .. }),
    );
    caught(
        cover(),
        |f| f.host().rule = Rule::None,
        |v| matches!(v, Violation::NothingToCover { .. }),
    );
    let wide = |v: &Violation| matches!(v, Violation::CoverTooWide { .. });
    caught(cover(), |f| *f.routes() = table([[56, 40, 4], [30, 40, 30], [30, 30, 40]]), wide);
    caught(cover(), |f| *f.routes() = table([[40, 59, 1], [30, 40, 30], [30, 30, 40]]), wide);
    caught(cover(), |f| *f.routes() = table([[59, 40, 1], [30, 41, 29], [30, 30, 40]]), wide);
}

#[test]
fn a_cover_gives_a_new_caller_what_the_mesh_does_without_a_rule() {
    let forgotten = |f: &mut Fixture| {
        let mut rule = live();
        rule.remove(&zone("z3"));
        f.host().rule = Rule::Ours(rule.clone());
        if let Action::SetRoutes { from, .. } = f.action() {
            *from = rule;
        }
        *f.routes() = table([[60, 20, 20], [30, 40, 30], [40, 40, 20]]);
    };
    passes(cover(), forgotten);
    caught(
        cover(),
        |f| {
            forgotten(f);
            *f.routes() = table([[60, 20, 20], [30, 40, 30], [5, 5, 90]]);
        },
        |v| matches!(v, Violation::CoverTooWide { .. }),
    );
}

#[test]
fn a_cover_may_share_out_the_weight_of_a_zone_that_is_gone() {
    let mut gone = cover();
    let mut rule = table([[60, 40, 0], [30, 40, 30], [30, 30, 40]]);
    let ghost = |a, b, c, d| {
        let named = [("z1", a), ("z2", b), ("z3", c), ("z9", d)];
        let weights = named.into_iter().map(|(z, w)| (zone(z), w)).collect();
        crate::model::Distribution::new(weights).unwrap()
    };
    rule.insert(zone("z1"), ghost(40, 20, 20, 20));
    gone.host().rule = Rule::Ours(rule.clone());
    if let Action::SetRoutes { from, to, .. } = gone.action() {
        *from = rule;
        *to = table([[50, 25, 25], [30, 40, 30], [30, 30, 40]]);
    }
    assert_eq!(found(&gone), []);
}

#[test]
fn an_undo_writes_what_stood_before() {
    let other = |v: &Violation| matches!(v, Violation::NotWhatStoodBefore { .. });
    caught(undo(), |f| f.memory.hosts.clear(), other);
    caught(undo(), |f| *f.routes() = table([[89, 6, 5], [5, 90, 5], [5, 5, 90]]), other);
}

/// Every replica of `cart` is used to this share of its CPU.
fn use_cpu(f: &mut Fixture, milli: u64) {
    if let Facts::Fresh { value, .. } = &mut f.snapshot.usage {
        for usage in value {
            usage.cpu = MilliCpu::new(milli);
        }
    }
}

/// Callers everywhere send 20 points more to `z3`, which has one replica.
fn flood_z3(f: &mut Fixture) {
    *f.routes() = table([[50, 10, 40], [20, 30, 50], [20, 20, 60]]);
    f.route_why().delta = 120.0;
}

#[test]
fn the_cap_holds_after_a_step() {
    let broken = |v: &Violation| matches!(v, Violation::CapBroken { .. });
    // z3 serves 55/s at 69 %; 40 more are 119 %.
    caught(
        improve(),
        |f| {
            use_cpu(f, 690);
            flood_z3(f);
        },
        broken,
    );
    // At 20 % there is room for it, and so there is when nobody knows.
    passes(improve(), |f| {
        use_cpu(f, 200);
        flood_z3(f);
    });
    let gone = || "gone".to_owned();
    passes(improve(), |f| {
        use_cpu(f, 690);
        flood_z3(f);
        f.snapshot.usage = Facts::Missing { reason: gone() };
    });
    // Without traffic it is the decision that is wrong, not the cap.
    let mut blind = improve();
    use_cpu(&mut blind, 690);
    flood_z3(&mut blind);
    blind.snapshot.traffic = Facts::Missing { reason: gone() };
    assert!(matches!(found(&blind).as_slice(), [Violation::TrafficNotKnown { .. }]));
}

#[test]
fn a_replica_that_the_window_has_not_seen_whole_tells_nothing() {
    let broken = |v: &Violation| matches!(v, Violation::CapBroken { .. });
    let flood = |f: &mut Fixture, ready: u64| {
        use_cpu(f, 690);
        flood_z3(f);
        let since = Timestamp::from_millis(super::fixture::NOW.as_millis() - ready);
        for pod in &mut f.workload("cart").pods {
            pod.ready_since = Some(since);
        }
    };
    caught(improve(), |f| flood(f, 60_000), broken);
    // A part of the minute lies before they were there: what is averaged over it is not
    // what they do.
    passes(improve(), |f| flood(f, 59_999));
}

#[test]
fn beyond_the_cap_it_does_not_get_worse() {
    let worse = |v: &Violation| matches!(v, Violation::BusiestZoneWorse { .. });
    // All above the cap: a shift towards the busiest, the single replica of z3, makes it
    // worse; one away from it does not.
    caught(
        improve(),
        |f| {
            use_cpu(f, 1200);
            use_z3(f, 1700);
            flood_z3(f);
        },
        worse,
    );
    passes(improve(), |f| {
        use_cpu(f, 1200);
        use_z3(f, 1700);
        *f.routes() = table([[67, 26, 7], [35, 50, 15], [40, 35, 25]]);
        f.route_why().delta = 110.0;
    });
}

fn use_z3(f: &mut Fixture, milli: u64) {
    if let Facts::Fresh { value, .. } = &mut f.snapshot.usage {
        for usage in value.iter_mut().filter(|usage| usage.pod == pod("cart-4")) {
            usage.cpu = MilliCpu::new(milli);
        }
    }
}

#[test]
fn a_plan_does_not_say_that_it_breaks_the_cap() {
    let own_word = |v: &Violation| matches!(v, Violation::CapBrokenByItsOwnWord { .. });
    let say = |f: &mut Fixture, before: f64, after: f64| {
        f.route_why().peak_before = Some(Percent::saturating(before));
        f.route_why().peak_after = Some(Percent::saturating(after));
    };
    caught(improve(), |f| say(f, 60.0, 75.0), own_word);
    passes(improve(), |f| say(f, 60.0, 70.0));
    passes(improve(), |f| say(f, 90.0, 80.0));
}

#[test]
fn a_rate_that_nobody_counted_promises_nothing() {
    // No replica reports requests: what a zone can serve is not known.
    passes(improve(), |f| {
        use_cpu(f, 690);
        flood_z3(f);
        if let Facts::Fresh { value, .. } = &mut f.snapshot.traffic {
            for pod in &mut value.pods {
                pod.requests = Rps::ZERO;
            }
        }
    });
}
