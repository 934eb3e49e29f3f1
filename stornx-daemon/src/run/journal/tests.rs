//! What is news and what is not.

use std::collections::BTreeMap;

use stornx_core::{
    engine::CycleError,
    model::AutoscalerKind,
    plan::{Plan, Planned},
    report::{
        ActionReport, Expected, HostReport, InputReport, InputState, MoveReason, RouteReason,
        ScaleReason, ScaleWhy, Trigger, Unverified, Verification, Why, WorkloadReport, ZoneLoss,
    },
    units::{Percent, Rps, Span, Timestamp},
};

use super::*;

fn cart() -> WorkloadRef {
    "shop/Deployment/cart".parse().unwrap()
}

fn nothing_seen() -> CycleOutcome {
    CycleOutcome {
        at: Timestamp::from_millis(1000),
        snapshot: None,
        planned: None,
        violations: vec![],
        outcomes: vec![],
        memory: None,
        errors: vec![],
        took: BTreeMap::new(),
    }
}

fn left_alone(scale: ScaleReason) -> CycleOutcome {
    let workload = WorkloadReport {
        ready: BTreeMap::new(),
        utilisation: None,
        p95: None,
        requests: Rps::saturating(0.0),
        zone_loss: ZoneLoss { worst: None, survivors: 0, demand_served: None },
        scale,
        moves: MoveReason::Disabled,
        growth: None,
        next: vec![],
    };
    let report = Report { workloads: [(cart(), workload)].into(), ..Report::default() };
    let planned = Planned { report, ..Planned::default() };
    CycleOutcome { planned: Some(planned), ..nothing_seen() }
}

fn scaled(used: f64, result: Result<(), PortError>) -> CycleOutcome {
    let action = Action::AddReplicas {
        workload: cart(),
        observed: 2,
        nodes: vec!["node-1".parse().unwrap()],
    };
    let why = Why::Scale(ScaleWhy {
        workload: cart(),
        trigger: Trigger::Utilisation,
        from: 2,
        to: 3,
        utilisation: Some(Percent::new(used).unwrap()),
        p95: None,
        placements: vec![],
        victims: vec![],
    });
    let mut outcome = left_alone(ScaleReason::Scaled);
    let planned = outcome.planned.as_mut().unwrap();
    planned.plan = Plan { actions: vec![action], ..Plan::default() };
    planned.report.actions = vec![ActionReport { expected: Expected::default(), why }];
    outcome.outcomes = vec![result];
    outcome
}

fn about<'a>(notes: &'a [Note], about: &str) -> Vec<&'a Note> {
    notes.iter().filter(|note| note.about == about).collect()
}

#[test]
fn a_guard_is_told_once_with_an_event_and_again_when_it_is_another() {
    let mut journal = Journal::default();
    let owned = |kind| left_alone(ScaleReason::AutoscalerOwns { kind });
    let notes = journal.notes(&owned(AutoscalerKind::Hpa));
    let [note] = about(&notes, "scale")[..] else { panic!("{notes:?}") };
    assert_eq!((note.level, note.reason.as_str()), (Level::INFO, "autoscaler-owns"));
    assert_eq!(note.event, EventReason::normal("NotScaled"));
    assert_eq!(journal.notes(&owned(AutoscalerKind::Hpa)), []);

    let notes = journal.notes(&left_alone(ScaleReason::Paused));
    assert_eq!(about(&notes, "scale")[0].reason, "paused");
    let notes = journal.notes(&owned(AutoscalerKind::Hpa));
    assert_eq!(about(&notes, "scale")[0].reason, "autoscaler-owns");
}

#[test]
fn numbers_alone_are_no_news() {
    let mut journal = Journal::default();
    let waiting = |seconds| left_alone(ScaleReason::Cooldown { left: Span::from_seconds(seconds) });
    assert_eq!(about(&journal.notes(&waiting(60)), "scale").len(), 1);
    assert_eq!(journal.notes(&waiting(59)), []);
    // A healthy workload is nothing to tell people or the cluster about.
    let notes = journal.notes(&left_alone(ScaleReason::WithinBand));
    let [note] = about(&notes, "scale")[..] else { panic!("{notes:?}") };
    assert_eq!((note.level, note.event), (Level::DEBUG, None));
}

#[test]
fn what_is_done_is_always_told_and_what_is_not_only_once() {
    let mut journal = Journal::default();
    for used in [80.0, 90.0] {
        let notes = journal.notes(&scaled(used, Ok(())));
        let [note] = about(&notes, "action")[..] else { panic!("{notes:?}") };
        assert_eq!(note.reason, "add-replicas-done");
        assert_eq!(
            note.text,
            format!("cart goes from 2 to 3 replicas: its replicas are used to {used} %")
        );
        assert_eq!(note.event, EventReason::normal("ScaledUp"));
    }

    let dry = || PortError::NotTried {
        what: "scale".to_owned(),
        detail: stornx_core::engine::DRY_RUN.to_owned(),
    };
    let notes = journal.notes(&scaled(80.0, Err(dry())));
    let [note] = about(&notes, "action")[..] else { panic!("{notes:?}") };
    assert_eq!((note.level, note.event), (Level::INFO, None));
    assert!(note.text.ends_with("; would be done (dry run): scale"), "{}", note.text);
    assert_eq!(about(&journal.notes(&scaled(81.0, Err(dry()))), "action"), Vec::<&Note>::new());
    // Not planned for a cycle, then planned again: news.
    journal.notes(&left_alone(ScaleReason::WithinBand));
    assert_eq!(about(&journal.notes(&scaled(80.0, Err(dry()))), "action").len(), 1);

    let refused = PortError::Rejected { what: "scale".to_owned(), detail: "quota".to_owned() };
    let notes = journal.notes(&scaled(80.0, Err(refused)));
    let [note] = about(&notes, "action")[..] else { panic!("{notes:?}") };
    assert_eq!((note.level, note.event), (Level::WARN, EventReason::warning("ActionRefused")));
}

#[test]
fn a_failure_is_told_once_and_so_is_its_end() {
    let mut journal = Journal::default();
    let failed = |seconds| {
        let detail = format!("gone for {seconds} s");
        let error = PortError::Unavailable { what: "pods".to_owned(), detail };
        CycleOutcome { errors: vec![CycleError::Observe(error)], ..nothing_seen() }
    };
    let notes = journal.notes(&failed(61));
    let [note] = &notes[..] else { panic!("{notes:?}") };
    assert_eq!((note.level, note.reason.as_str()), (Level::ERROR, "observe"));
    assert_eq!(journal.notes(&failed(62)), []);
    let notes = journal.notes(&nothing_seen());
    let [note] = &notes[..] else { panic!("{notes:?}") };
    assert_eq!((note.level, note.reason.as_str()), (Level::INFO, "recovered"));
    assert_eq!(journal.notes(&nothing_seen()), []);
}

#[test]
fn an_outage_that_shows_at_different_steps_is_one_outage() {
    let mut journal = Journal::default();
    let lost = || PortError::Conflict { what: "memory".to_owned(), detail: "newer".to_owned() };
    let failed = |errors| CycleOutcome { errors, ..nothing_seen() };
    let mut told = |errors| {
        let notes = journal.notes(&failed(errors));
        notes.into_iter().map(|note| note.reason).collect::<Vec<_>>()
    };
    let both = || vec![CycleError::StoreIntents(lost()), CycleError::Save(lost())];
    assert_eq!(told(both()), ["store-intents", "save"]);
    assert_eq!(told(vec![CycleError::Save(lost())]), [""; 0]);
    assert_eq!(told(both()), [""; 0]);
    assert_eq!(told(vec![]), ["recovered"]);
    assert_eq!(told(vec![CycleError::Save(lost())]), ["save"]);
}

#[test]
fn an_input_is_told_when_its_state_changes() {
    let mut journal = Journal::default();
    let with = |state, note: &str| {
        let mut outcome = left_alone(ScaleReason::WithinBand);
        outcome.planned.as_mut().unwrap().report.inputs = vec![InputReport {
            input: Input::Traffic,
            state,
            age: None,
            source: None,
            note: note.to_owned(),
        }];
        outcome
    };
    let notes = journal.notes(&with(InputState::Missing, "no mesh: weights stay"));
    let [note] = about(&notes, "input")[..] else { panic!("{notes:?}") };
    assert_eq!((note.level, note.reason.as_str()), (Level::WARN, "traffic-missing"));
    assert_eq!(note.text, "traffic is missing: no mesh: weights stay");
    assert_eq!(journal.notes(&with(InputState::Missing, "no mesh: weights stay")), []);
    let notes = journal.notes(&with(InputState::Fresh, ""));
    assert_eq!(about(&notes, "input")[0].level, Level::INFO);
}

fn verified(following: Following, effect: Option<Effect>) -> CycleOutcome {
    let host: HostName = "cart.shop.svc.cluster.local".parse().unwrap();
    let report = HostReport {
        destinations: BTreeMap::new(),
        delta: 0.0,
        reason: RouteReason::AtTarget,
        whole_zones: None,
        verification: Some(Verification { following, effect }),
        pressing: false,
    };
    let mut outcome = nothing_seen();
    let report = Report { hosts: [(host, report)].into(), ..Report::default() };
    outcome.planned = Some(Planned { report, ..Planned::default() });
    outcome
}

#[test]
fn a_mesh_that_does_not_follow_is_an_event_once_for_each_rule() {
    let mut journal = Journal::default();
    let astray = |minutes: u64| {
        let (from, to) = ("a".parse().unwrap(), "b".parse().unwrap());
        let (written, seen) = (Percent::saturating(20.0), Percent::saturating(40.0));
        let since = Span::from_seconds(60 * minutes);
        verified(Following::Astray { from, to, written, seen, since }, None)
    };
    let as_written = || verified(Following::AsWritten { off: Percent::ZERO }, None);
    let early = || verified(Following::TooEarly { left: Span::from_seconds(3) }, None);
    let mut told = |outcome: CycleOutcome| -> Vec<(String, Option<&'static str>)> {
        let notes = journal.notes(&outcome);
        let notes = about(&notes, "verify").into_iter();
        notes.map(|note| (note.reason.clone(), note.event.map(|event| event.reason))).collect()
    };
    assert_eq!(told(early()), []);
    assert_eq!(told(as_written()), [("as-written".to_owned(), None)]);
    assert_eq!(told(astray(2)), [("astray".to_owned(), Some("RoutesNotFollowed"))]);
    assert_eq!(told(early()), []);
    assert_eq!(told(astray(3)), []);
    let unverified = Following::Unverified { why: Unverified::FewRequests };
    assert_eq!(told(verified(unverified, None)).len(), 1);
    assert_eq!(told(astray(4)), [("astray".to_owned(), None)], "of this rule it was told");
    assert_eq!(told(as_written()).len(), 1);
    assert_eq!(told(astray(2)), [("astray".to_owned(), None)]);
}
