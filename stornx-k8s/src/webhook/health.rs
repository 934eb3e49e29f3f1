//! Whether new replicas can be told where to run.
//!
//! They can when the webhook is registered and nothing speaks against it. What speaks
//! against it: a pod of a ReplicaSet of a managed namespace appears, long enough after the
//! registration for the API server to know of it, and nobody asked about any pod at that
//! time. Then the API server does not reach us, whatever the registration says. The next
//! question proves the contrary.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use stornx_core::model::Steering;
use tokio::time::Instant;

/// How long the API servers may take to learn of a registration, and a pod from being
/// asked about to being seen: seconds at most, each.
const SLACK: Duration = Duration::from_secs(10);

/// How the registration stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Stands {
    /// There is no webhook.
    #[default]
    Off,
    /// There is no webhook, and it is decided as if there were one: a dry run.
    Assumed,
    /// Another process leads, and serves the webhook.
    Elsewhere,
    /// It is not registered, for this reason.
    Missing(String),
    /// It is registered.
    Registered,
}

#[derive(Debug, Default)]
struct State {
    stands: Stands,
    /// When it was registered.
    since: Option<Instant>,
    /// When we were last asked.
    asked: Option<Instant>,
    /// When a pod appeared that we should have been asked about.
    born: Option<Instant>,
    /// What was last logged.
    told: Option<Steering>,
}

/// What is known of the webhook.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is a single assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registration stands like this.
    pub(crate) fn set(&self, stands: Stands) {
        let mut state = self.state();
        if stands == Stands::Registered && state.stands != Stands::Registered {
            state.since = Some(Instant::now());
        }
        state.stands = stands;
    }

    /// It is not known how the registration stands: as before, if it stood.
    pub(crate) fn doubt(&self, why: String) {
        let mut state = self.state();
        if state.stands != Stands::Registered {
            state.stands = Stands::Missing(why);
        }
    }

    /// The registration was written anew: from now on it counts.
    pub(crate) fn renewed(&self) {
        self.state().since = Some(Instant::now());
    }

    /// The API server asked about a pod.
    pub(crate) fn asked(&self) {
        self.state().asked = Some(Instant::now());
    }

    /// A pod appeared that it should have asked about.
    pub(crate) fn born(&self) {
        self.state().born = Some(Instant::now());
    }

    /// Whether new replicas can be told where to run.
    pub(crate) fn steering(&self) -> Steering {
        steering(&self.state())
    }

    /// Says it once when that changes.
    pub(crate) fn tell(&self) {
        let mut state = self.state();
        let now = steering(&state);
        if state.told.as_ref() == Some(&now) {
            return;
        }
        match &now {
            Steering::Given => tracing::info!("new replicas are told where to run"),
            // The leader says it.
            Steering::Missing { .. } if state.stands == Stands::Elsewhere => {}
            Steering::Missing { reason } => {
                tracing::warn!("where new replicas run is left to the scheduler: {reason}");
            }
        }
        state.told = Some(now);
    }
}

fn steering(state: &State) -> Steering {
    let missing = |reason: &str| Steering::Missing { reason: reason.to_owned() };
    match &state.stands {
        Stands::Assumed => return Steering::Given,
        Stands::Off => return missing("the webhook is switched off"),
        Stands::Elsewhere => return missing("this process does not lead"),
        Stands::Missing(reason) => return missing(reason),
        Stands::Registered => {}
    }
    let (Some(since), Some(born)) = (state.since, state.born) else { return Steering::Given };
    let known = born >= since + SLACK;
    let asked = state.asked.is_some_and(|asked| asked + SLACK >= born);
    if known && !asked {
        return missing(
            "the API server does not ask the webhook: pods were created and it heard of none",
        );
    }
    Steering::Given
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(health: &Health) -> String {
        match health.steering() {
            Steering::Given => "given".to_owned(),
            Steering::Missing { reason } => reason,
        }
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_in_the_way_is_told() {
        let health = Health::default();
        assert_eq!(why(&health), "the webhook is switched off");
        health.set(Stands::Assumed);
        assert_eq!(why(&health), "given");
        health.set(Stands::Elsewhere);
        assert_eq!(why(&health), "this process does not lead");
        health.set(Stands::Missing("no right".to_owned()));
        assert_eq!(why(&health), "no right");
        health.doubt("no answer".to_owned());
        assert_eq!(why(&health), "no answer");
        health.set(Stands::Registered);
        assert_eq!(why(&health), "given");
        health.doubt("no answer".to_owned());
        assert_eq!(why(&health), "given", "as far as is known");
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_nobody_asked_about_are_noticed_and_questions_heal() {
        let health = Health::default();
        health.set(Stands::Registered);
        pass(9).await;
        health.born();
        assert_eq!(why(&health), "given", "it may not have been known yet");
        pass(1).await;
        health.born();
        assert!(why(&health).contains("does not ask"), "{}", why(&health));
        health.set(Stands::Registered);
        assert!(why(&health).contains("does not ask"), "it stands as before");
        health.asked();
        assert_eq!(why(&health), "given");
        pass(8).await;
        health.born();
        assert_eq!(why(&health), "given", "asked about and seen a little later");
        pass(3).await;
        health.born();
        assert!(why(&health).contains("does not ask"));
        health.renewed();
        assert_eq!(why(&health), "given", "another try");
    }
}
