//! The request that lowers a count arrives after its caller has given up: the replica that
//! was planned goes all the same.
//!
//! By the deletion costs that people set, another replica would go; only the mark of
//! StornX says which one is to.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use stornx_core::units::Span;
use stornx_testbed::{TestBed, wait::until};

use super::{
    at_rest, picture,
    scenario::Scenario,
    stage::{AT_ONCE, NAME, Stage, seen},
};
use crate::{
    Failure,
    support::{
        SOON, TestResult,
        faults::{Faults, Trouble, Which},
    },
};

/// When the request arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrives {
    /// The daemon has given it up and not looked since.
    BeforeALook,
    /// The daemon has looked at what is left over, several times.
    AfterLooks,
    /// The next process has.
    AfterARestart,
}

impl Arrives {
    const ALL: [Self; 3] = [Self::BeforeALook, Self::AfterLooks, Self::AfterARestart];
}

/// The write of a scale-down that lowers the count.
fn lowers(scenario: Scenario) -> Which {
    Which { name: format!("count {}", scenario.replicas().1), nth: 1 }
}

pub(super) async fn late(bed: Arc<TestBed>) -> TestResult {
    let cases = [Scenario::Shrink, Scenario::ShrinkByTwo]
        .into_iter()
        .flat_map(|scenario| Arrives::ALL.map(|arrives| (scenario, arrives)));
    let results = stream::iter(cases.enumerate())
        .map(|(number, (scenario, arrives))| {
            let bed = &bed;
            async move {
                let said = case(bed, number, scenario, arrives).await;
                println!("late: {scenario:?} {arrives:?}: {said:?}");
                said.map_err(|error| format!("{scenario:?} {arrives:?}: {error}"))
            }
        })
        // As many as there are slots.
        .buffer_unordered(AT_ONCE);
    let results: Vec<_> = results.collect().await;
    let failed: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
}

async fn case(
    bed: &TestBed,
    number: usize,
    scenario: Scenario,
    arrives: Arrives,
) -> Result<String, Failure> {
    let stage = Stage::set(bed, number, &format!("late-{number}"), scenario).await?;
    let faults = Faults::new(stage.user.clone(), Some((lowers(scenario), Trouble::Held)));
    let mut driver = stage.start(faults.client(), Span::ZERO, super::WRITE).await?;
    // The cycle in which the request is sent: it ends when the daemon gives it up.
    let mut gave_up = String::new();
    driver
        .turn(SOON, |outcome| {
            gave_up = picture(outcome);
            faults.fired()
        })
        .await?;
    tokio::time::timeout(SOON, faults.held()).await.map_err(|_| "the request never came")?;
    // Nothing else is begun: what is seen is the late request and what is left over.
    stage.open.store(false, std::sync::atomic::Ordering::SeqCst);
    let mut looks = 0;
    if arrives == Arrives::AfterARestart {
        drop(driver);
        driver = stage.start(stage.user.clone(), Span::ZERO, super::WRITE).await?;
    }
    if arrives != Arrives::BeforeALook {
        driver
            .turn(SOON, |outcome| {
                looks += usize::from(outcome.errors.is_empty());
                Ok(looks >= 3)
            })
            .await?;
    }
    let marks_before = stage.end().await?.traces.len();
    let status = faults.let_go().await;
    let landed = status == Some(200);
    let mut stands = 0;
    driver
        .turn(Duration::from_secs(180), |outcome| {
            let workload = outcome.snapshot.as_ref().and_then(seen);
            let whole = workload.is_some_and(|one| {
                one.pods.len() == usize::try_from(one.desired).unwrap_or(0)
                    && one.pods.iter().all(|pod| !pod.traces.victim)
            });
            let over = whole && at_rest(outcome) && outcome.outcomes.is_empty();
            stands = if over { stands + 1 } else { 0 };
            Ok(stands >= 2)
        })
        .await?;
    let end = stage.end().await?;
    let gone = until("the replicas", SOON, || async {
        let all = stage.lives.all();
        let going = all.iter().filter(|(_, life)| life.going).map(|(name, _)| name.clone());
        Ok::<_, String>(going.collect::<Vec<_>>())
    })
    .await?;
    let said = format!(
        "status {status:?} after {looks} looks, {marks_before} marks stood, count {}, {} gone, \
         planned {:?}, gone {gone:?}",
        end.count,
        gone.len(),
        stage.victims
    );
    let (_, after) = scenario.replicas();
    if !landed {
        return Err(format!("it was refused, and nothing was tried: {said}").into());
    }
    let count = i32::try_from(after)?;
    if end.count != count
        || gone != stage.victims
        || !end.traces.is_empty()
        || !end.remembered.is_empty()
    {
        return Err(format!("{said}; {end:?}; given up: {gave_up}").into());
    }
    if stage
        .lives
        .counts(NAME)
        .is_none_or(|counts| counts.least < usize::try_from(count).unwrap_or(0))
    {
        return Err(format!("{said}; the count fell lower").into());
    }
    stage.clear().await?;
    Ok(said)
}
