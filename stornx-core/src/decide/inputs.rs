//! What was known and how well, and the degraded mode that follows from each gap.

use crate::{
    model::{Facts, Mesh, Steering},
    report::{Input, InputReport, InputState},
    view::View,
};

/// The state of every input.
pub(crate) fn report(view: &View<'_>) -> Vec<InputReport> {
    let snapshot = view.snapshot;
    let routable = snapshot.mesh == Mesh::Routable;
    let routing_note = match snapshot.mesh {
        Mesh::Routable => "",
        Mesh::Absent => "no mesh: OptiBalancer is off, OptiScaler goes on",
        Mesh::NotRoutable => "the mesh does not read locality weights: OptiBalancer is off",
        Mesh::Unnamed => {
            "a node has no zone or region, or a zone lies in two regions: OptiBalancer is off"
        }
    };
    vec![
        facts(view, Input::Usage, &snapshot.usage, "no scaling; routes reckon with replica counts"),
        facts(
            view,
            Input::Traffic,
            &snapshot.traffic,
            "no moves and no new routes; new replicas go to the least used node",
        ),
        facts(view, Input::Latency, &snapshot.latency, "round trips are assumed, not measured"),
        InputReport {
            input: Input::Routing,
            state: if routable { InputState::Fresh } else { InputState::Missing },
            age: None,
            source: None,
            note: routing_note.to_owned(),
        },
        steering(&snapshot.steering),
    ]
}

fn steering(steering: &Steering) -> InputReport {
    let (state, note) = match steering {
        Steering::Given => (InputState::Fresh, String::new()),
        Steering::Missing { reason } => (
            InputState::Missing,
            format!("{reason}: placement is left to the scheduler, no move begins"),
        ),
    };
    InputReport { input: Input::Steering, state, age: None, source: None, note }
}

fn facts<T>(view: &View<'_>, input: Input, facts: &Facts<T>, degraded: &str) -> InputReport {
    let (state, source, note) = match facts {
        Facts::Fresh { source, .. } => (InputState::Fresh, Some(*source), String::new()),
        Facts::Stale { source, .. } => (InputState::Stale, Some(*source), degraded.to_owned()),
        Facts::Missing { reason } => (InputState::Missing, None, format!("{reason}: {degraded}")),
    };
    InputReport { input, state, age: facts.age(view.now), source, note }
}
