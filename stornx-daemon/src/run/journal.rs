//! What is said about a cycle: for logs and for events on workloads. Decides what is
//! news. An action that was carried out always is; everything else only when it differs
//! from what was said last, by its name and not by its numbers: a cooldown that has one
//! second less to go is the same cooldown.

use std::collections::{BTreeMap, BTreeSet};

use stornx_core::{
    engine::{CycleOutcome, DRY_RUN},
    ids::{HostName, WorkloadRef},
    plan::{Action, ActionKind, MoveEnd, MoveEnding, RoutePurpose},
    ports::PortError,
    report::{Effect, Following, Input, Report},
};
use tracing::Level;

/// What a note is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Action(ActionKind, Option<WorkloadRef>, Option<HostName>),
    Scale(WorkloadRef),
    Move(WorkloadRef),
    Route(HostName),
    /// Whether requests fall as written.
    Following(HostName),
    /// What a run of writes has done.
    Effect(HostName),
    Input(Input),
    Warnings,
    /// What went wrong with a whole cycle: at which step, and the text without numbers.
    Wrong(&'static str, String),
}

/// One thing to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) level: Level,
    /// What kind of thing it is: `action`, `scale`, `move`, `route`, `verify`, `input`,
    /// `cycle`.
    pub(crate) about: &'static str,
    /// The workload that it is about, if it is about one.
    pub(crate) workload: Option<WorkloadRef>,
    /// The name of the reason, stable: for machines.
    pub(crate) reason: String,
    /// In plain words, with numbers: for people.
    pub(crate) text: String,
    /// To be told as an event on the workload, too.
    pub(crate) event: Option<EventReason>,
}

/// The reason of an event as Kubernetes shows it, and whether it warns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventReason {
    pub(crate) reason: &'static str,
    pub(crate) warning: bool,
}

impl EventReason {
    const fn normal(reason: &'static str) -> Option<Self> {
        Some(Self { reason, warning: false })
    }
    const fn warning(reason: &'static str) -> Option<Self> {
        Some(Self { reason, warning: true })
    }
}

/// Remembers what was said last.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    said: BTreeMap<Subject, String>,
    /// Hosts of whom an event was made that the mesh does not follow their rule.
    astray: BTreeSet<HostName>,
}

impl Journal {
    /// What is new in a cycle.
    pub(crate) fn notes(&mut self, outcome: &CycleOutcome) -> Vec<Note> {
        let mut notes = Vec::new();
        self.cycle(outcome, &mut notes);
        self.warnings(outcome, &mut notes);
        if let Some(planned) = &outcome.planned {
            self.inputs(&planned.report, &mut notes);
            self.actions(outcome, &mut notes);
            self.workloads(&planned.report, &mut notes);
            self.hosts(&planned.report, &mut notes);
            self.verifications(outcome, &planned.report, &mut notes);
        }
        notes
    }

    /// Whether this is news; it has been said now.
    fn news(&mut self, subject: Subject, what: &str) -> bool {
        match self.said.get(&subject) {
            Some(said) if said == what => false,
            _ => {
                self.said.insert(subject, what.to_owned());
                true
            }
        }
    }

    /// Steps that failed, plans that were dropped, and that all is well again. An outage
    /// shows now at one step and now at another: each is told once until a whole cycle
    /// goes through.
    fn cycle(&mut self, outcome: &CycleOutcome, notes: &mut Vec<Note>) {
        let errors = outcome.errors.iter().map(|error| (error.phase().as_str(), error.to_string()));
        let violations = outcome
            .violations
            .iter()
            .map(|violation| ("check", format!("the plan was dropped: {violation}")));
        let wrong: Vec<_> = errors.chain(violations).collect();
        let note = |level, reason: &str, text| Note {
            level,
            about: "cycle",
            workload: None,
            reason: reason.to_owned(),
            text,
            event: None,
        };
        if wrong.is_empty() {
            let told = self.said.len();
            self.said.retain(|subject, _| !matches!(subject, Subject::Wrong(..)));
            if self.said.len() < told {
                notes.push(note(Level::INFO, "recovered", "cycles go through again".to_owned()));
            }
        }
        for (phase, text) in wrong {
            if self.news(Subject::Wrong(phase, numberless(&text)), "") {
                notes.push(note(Level::ERROR, phase, text));
            }
        }
    }

    fn warnings(&mut self, outcome: &CycleOutcome, notes: &mut Vec<Note>) {
        let Some(snapshot) = &outcome.snapshot else { return };
        let what: String = snapshot.warnings.iter().map(|warning| numberless(warning)).collect();
        if self.news(Subject::Warnings, &what) {
            notes.extend(snapshot.warnings.iter().map(|warning| Note {
                level: Level::WARN,
                about: "input",
                workload: None,
                reason: "warning".to_owned(),
                text: warning.clone(),
                event: None,
            }));
        }
    }

    fn inputs(&mut self, report: &Report, notes: &mut Vec<Note>) {
        for input in &report.inputs {
            if !self.news(Subject::Input(input.input), input.state.name()) {
                continue;
            }
            let (name, state) = (input.input.name(), input.state.name());
            let fresh = input.state == stornx_core::report::InputState::Fresh;
            notes.push(Note {
                level: if fresh { Level::INFO } else { Level::WARN },
                about: "input",
                workload: None,
                reason: format!("{name}-{state}"),
                text: if fresh {
                    format!("{name} is known")
                } else {
                    format!("{name} is {state}: {}", input.note)
                },
                event: None,
            });
        }
    }

    fn actions(&mut self, outcome: &CycleOutcome, notes: &mut Vec<Note>) {
        let Some(planned) = &outcome.planned else { return };
        // What is not planned any more would be news if it were planned again.
        let planned_now = |subject: &Subject| {
            planned.plan.actions.iter().any(|action| subject_of(action) == *subject)
        };
        self.said.retain(|said, _| !matches!(said, Subject::Action(..)) || planned_now(said));

        let reports = planned.report.actions.iter();
        let results = outcome.outcomes.iter();
        for ((action, report), result) in planned.plan.actions.iter().zip(reports).zip(results) {
            let told = match result {
                Ok(()) => "done".to_owned(),
                Err(error) => error.name().to_owned(),
            };
            if !self.news(subject_of(action), &told) && result.is_err() {
                continue;
            }
            notes.push(Note {
                level: if failed(result) { Level::WARN } else { Level::INFO },
                about: "action",
                workload: action.workload().cloned(),
                reason: format!("{}-{}", action.kind().name(), result_name(result)),
                text: match result {
                    Ok(()) => report.why.to_string(),
                    Err(PortError::NotTried { what, detail }) if detail == DRY_RUN => {
                        format!("{}; would be done (dry run): {what}", report.why)
                    }
                    Err(error) => format!("{}; not done: {error}", report.why),
                },
                event: event_of(action, result),
            });
        }
    }

    fn workloads(&mut self, report: &Report, notes: &mut Vec<Note>) {
        self.said.retain(|subject, _| match subject {
            Subject::Scale(workload) | Subject::Move(workload) => {
                report.workloads.contains_key(workload)
            }
            _ => true,
        });
        for (workload, report) in &report.workloads {
            let (scale, moves) = (&report.scale, &report.moves);
            if self.news(Subject::Scale(workload.clone()), scale.name()) {
                notes.push(Note {
                    level: if scale.is_guard() { Level::INFO } else { Level::DEBUG },
                    about: "scale",
                    workload: Some(workload.clone()),
                    reason: scale.name().to_owned(),
                    text: scale.to_string(),
                    event: if scale.is_guard() { EventReason::normal("NotScaled") } else { None },
                });
            }
            if self.news(Subject::Move(workload.clone()), moves.name()) {
                notes.push(Note {
                    level: Level::DEBUG,
                    about: "move",
                    workload: Some(workload.clone()),
                    reason: moves.name().to_owned(),
                    text: moves.to_string(),
                    event: None,
                });
            }
        }
    }

    fn hosts(&mut self, report: &Report, notes: &mut Vec<Note>) {
        self.said.retain(|subject, _| match subject {
            Subject::Route(host) | Subject::Following(host) | Subject::Effect(host) => {
                report.hosts.contains_key(host)
            }
            _ => true,
        });
        for (host, report) in &report.hosts {
            if self.news(Subject::Route(host.clone()), report.reason.name()) {
                notes.push(Note {
                    level: Level::DEBUG,
                    about: "route",
                    workload: None,
                    reason: report.reason.name().to_owned(),
                    text: format!("{host}: {}", report.reason),
                    event: None,
                });
            }
        }
    }
}

/// Of these it is told: everything else means "wait".
const fn tells(following: &Following) -> bool {
    matches!(following, Following::AsWritten { .. } | Following::Astray { .. })
}

impl Journal {
    /// What came of weights that were written. That it is too early, or a first doubt, is
    /// no news; that the mesh does not follow is one for the owner of the workload, once for
    /// each rule that is written.
    fn verifications(&mut self, outcome: &CycleOutcome, report: &Report, notes: &mut Vec<Note>) {
        for action in outcome.done() {
            if let Some(host) = action.host() {
                self.astray.remove(host);
            }
        }
        let hosts = outcome.snapshot.iter().flat_map(|snapshot| &snapshot.hosts);
        let backends: BTreeMap<&HostName, &WorkloadRef> =
            hosts.filter_map(|host| Some((&host.name, host.backends.first()?))).collect();
        for (host, report) in &report.hosts {
            let Some(found) = &report.verification else { continue };
            let workload = backends.get(host).map(|workload| (*workload).clone());
            let mut note = |level, name: &str, text: String, event| {
                notes.push(Note {
                    level,
                    about: "verify",
                    workload: workload.clone(),
                    reason: name.to_owned(),
                    text: format!("{host}: {text}"),
                    event,
                });
            };
            let following = &found.following;
            let unverified = matches!(following, Following::Unverified { .. });
            if (tells(following) || unverified)
                && self.news(Subject::Following(host.clone()), following.name())
            {
                let astray = matches!(following, Following::Astray { .. })
                    && self.astray.insert(host.clone());
                let level = if astray { Level::WARN } else { Level::DEBUG };
                let event = if astray { EventReason::warning("RoutesNotFollowed") } else { None };
                note(level, following.name(), following.to_string(), event);
            }
            let Some(effect) = &found.effect else { continue };
            if !matches!(effect, Effect::TooEarly { .. })
                && self.news(Subject::Effect(host.clone()), effect.name())
            {
                let worse = matches!(effect, Effect::Worse { .. });
                let level = if worse { Level::WARN } else { Level::DEBUG };
                // Where it is undone, the undo tells.
                note(level, effect.name(), effect.to_string(), None);
            }
        }
    }
}

/// A text without its numbers, which change from cycle to cycle.
fn numberless(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit() && *c != '.').collect()
}

/// The name of what came of an action.
pub(crate) fn result_name(result: &Result<(), PortError>) -> &'static str {
    result.as_ref().map_or_else(PortError::name, |()| "done")
}

/// Something was tried and went wrong.
const fn failed(result: &Result<(), PortError>) -> bool {
    matches!(result, Err(error) if !matches!(error, PortError::NotTried { .. }))
}

fn subject_of(action: &Action) -> Subject {
    let host = match action {
        Action::SetRoutes { host, .. } | Action::GiveBackRoutes { host, .. } => Some(host.clone()),
        _ => None,
    };
    Subject::Action(action.kind(), action.workload().cloned(), host)
}

fn event_of(action: &Action, result: &Result<(), PortError>) -> Option<EventReason> {
    match (action.kind(), result) {
        (ActionKind::AddReplicas, Ok(())) => EventReason::normal("ScaledUp"),
        (ActionKind::RemoveReplicas, Ok(())) => EventReason::normal("ScaledDown"),
        (ActionKind::StartMove, Ok(())) => EventReason::normal("MoveStarted"),
        (ActionKind::FinishMove, Ok(())) => EventReason::normal("ReplicaReplaced"),
        (ActionKind::AbortMove, Ok(())) => EventReason::normal("MoveUndone"),
        (ActionKind::CloseMove, Ok(())) => EventReason::normal(match action {
            Action::CloseMove { end: MoveEnd::Done, .. } => "MoveFinished",
            _ => "MoveGivenUp",
        }),
        (ActionKind::GiveBackMinimum, Ok(())) => EventReason::normal(match action {
            Action::GiveBackMinimum { ending: Some(MoveEnding::Finish { .. }), .. } => {
                "ReplicaReplaced"
            }
            Action::GiveBackMinimum { ending: Some(MoveEnding::Undo { .. }), .. } => "MoveUndone",
            _ => "MinimumGivenBack",
        }),
        (ActionKind::Unmark, Ok(())) => EventReason::normal("MarkRemoved"),
        (ActionKind::Release, Ok(())) => EventReason::warning("ReplicaReleased"),
        (ActionKind::SetRoutes, Ok(())) => match action {
            Action::SetRoutes { purpose: RoutePurpose::Undo, .. } => {
                EventReason::warning("RoutesUndone")
            }
            _ => EventReason::normal("RoutesChanged"),
        },
        (ActionKind::GiveBackRoutes, Ok(())) => EventReason::normal("RoutesGivenBack"),
        (_, Err(PortError::Rejected { .. } | PortError::Conflict { .. })) => {
            EventReason::warning("ActionRefused")
        }
        (_, Err(_)) => None,
    }
}

#[cfg(test)]
mod tests;
