//! What answers, but not as it should: a Prometheus that talks nonsense or is too busy, a
//! memory that somebody else writes at the same time, a watch whose version the server
//! has forgotten. The daemon neither ends nor writes on stale data, says so once, and
//! goes on when things are back.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use stornx_testbed::{
    Options, Server, TestBed,
    apps::{self, Workload},
    harness::Test,
    wait::until,
};

use crate::{
    Failure,
    faults::{HERE, Scene, scene_behind},
    support::{
        SOON, TestResult,
        audit::{Audit, Place},
        daemon::{Daemon, wait_cycles},
        proxy::{Answers, Proxy},
        rights, seen,
    },
};

const USER: &str = "stornx";

pub(crate) fn tests() -> Vec<Test> {
    let (options, log) = Audit::of("odd-audit", "Request", &[USER], Options::default());
    let odd = Test::own("odd_answers", options, move |bed| odd(bed, log));
    let (mut options, log) = Audit::of("expired-audit", "Metadata", &[USER], Options::default());
    // Watches come from etcd itself, and so does what it says of versions.
    let arguments = options.arguments.entry(Server::ApiServer).or_default();
    arguments.push("--watch-cache=false".to_owned());
    let expired = Test::own("expired_watches", options, move |bed| expired(bed, log));
    vec![odd, expired]
}

async fn odd(bed: Arc<TestBed>, log: Audit) -> TestResult {
    let proxy = Proxy::start().await?;
    let more = [("PROMETHEUS_TIMEOUT_SECONDS", "1")];
    let mut scene = scene_behind(bed, &more, Some(&proxy)).await?;
    let wrong = [
        ("a page for people", Answers::Page),
        ("half an answer", Answers::Cut),
        ("too many requests", Answers::Busy),
    ];
    for (what, answers) in wrong {
        let begin = || {
            proxy.answers(answers);
            Ok(())
        };
        scene.blind(what, "missing", begin).await?;
        proxy.answers(Answers::Real);
        scene.sees_again(&format!("after {what}")).await?;
    }
    contested(&mut scene, &log).await
}

/// Somebody else writes the ConfigMap of the memory, again and again, until a cycle has
/// lost the race between its load and its save.
async fn contested(scene: &mut Scene, log: &Audit) -> TestResult {
    let memory: Api<ConfigMap> = Api::namespaced(scene.admin.clone(), rights::OWN);
    let mut place = Place::default();
    log.entries_since(&mut place)?;
    let refused = |place: &mut Place| -> Result<usize, Failure> {
        let refused = |event: &&Value| {
            event["objectRef"]["resource"] == "configmaps" && event["responseStatus"]["code"] == 409
        };
        Ok(log.entries_since(place)?.iter().filter(refused).count())
    };
    let told = || ["store-intents", "save", "recovered"].map(|reason| scene.count(reason));
    let before = told();
    let rivals: Vec<_> = (0..4)
        .map(|rival| {
            let memory = memory.clone();
            tokio::spawn(async move {
                for number in 0_u64.. {
                    let key = format!("example.com/rival-{rival}");
                    let patch = json!({"metadata": {"annotations": {key: number.to_string()}}});
                    // One that fails is followed by the next.
                    let _ =
                        memory.patch("stornx", &PatchParams::default(), &Patch::Merge(patch)).await;
                }
            })
        })
        .collect();
    // Load that comes and goes keeps the memory changing.
    let mut found = place;
    let mut high = false;
    let lost = until("a race for the memory to be lost", SOON, || {
        high = !high;
        scene.load.set("calm", if high { 1500.0 } else { 60.0 });
        let lost = refused(&mut found).map_err(|error| error.to_string());
        async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            match lost {
                Ok(0) => Err("none".to_owned()),
                Ok(count) => Ok(count),
                Err(error) => Err(error),
            }
        }
    })
    .await?;
    for rival in &rivals {
        rival.abort();
    }
    wait_cycles(&scene.daemon, 2.0).await?;
    let after = told();
    let more = |at: usize| after[at] - before[at];
    println!("{lost} writes of the memory refused: said {} and {} times", more(0), more(1));
    if more(0) + more(1) == 0 || more(0).max(more(1)) > more(2) {
        return Err(format!("not said once and taken back once: {before:?}, {after:?}").into());
    }
    if !scene.daemon.runs() {
        return Err("the daemon has ended".into());
    }
    stored_before_done(&log.entries()?)?;
    scene.load.set("calm", 1500.0);
    scene.sees_again("after the race").await
}

/// No count was changed without a memory that was stored since the change before: what
/// is done must not be forgotten, also where the store refused in between.
fn stored_before_done(events: &[Value]) -> TestResult {
    let (mut stored, mut changes) = (false, 0);
    let mut events: Vec<&Value> = events.iter().collect();
    let received = |event: &Value| event["requestReceivedTimestamp"].as_str().map(str::to_owned);
    events.sort_by_key(|event| received(event));
    for event in events {
        let accepted = event["responseStatus"]["code"].as_i64().is_some_and(|code| code < 300);
        let target = &event["objectRef"];
        if !accepted || event["verb"] == "get" {
            continue;
        }
        if target["resource"] == "configmaps" {
            stored = true;
        } else if target["subresource"] == "scale" {
            changes += 1;
            if !std::mem::replace(&mut stored, false) {
                return Err(format!("done and not remembered: {event}").into());
            }
        }
    }
    if changes == 0 { Err("nothing was done".into()) } else { Ok(()) }
}

/// The daemon is frozen, the API server restarted, and what happens meanwhile is
/// forgotten by etcd: each watch is told that its version is gone, and lists anew.
async fn expired(bed: Arc<TestBed>, log: Audit) -> TestResult {
    let mut scene = scene_behind(bed.clone(), &[], None).await?;
    let deployments: Api<Deployment> = Api::namespaced(scene.admin.clone(), HERE);
    let mut expected: u32 = 3;
    for (what, forgotten) in [("remembered", false), ("forgotten", true)] {
        let victim = Workload::new(HERE, &format!("gone-{what}"), 1);
        victim.create(&scene.admin).await?;
        wait_known(&scene.daemon, |seen| seen.contains(&victim.name, 1)).await?;
        let lines = scene.daemon.log().len();
        let mut place = Place::default();
        log.entries_since(&mut place)?;

        scene.daemon.freeze()?;
        // Its watches are cut before anything happens that it could still read of.
        bed.restart(Server::ApiServer).await?;
        deployments.delete(&victim.name, &DeleteParams::default()).await?;
        expected += 1;
        apps::scale(&scene.admin, &Workload::new(HERE, "calm", 3), expected).await?;
        // Half of what they ask for, as before.
        scene.load.set("calm", 50.0 * f64::from(expected));
        if forgotten {
            bed.compact().await?;
        }
        scene.daemon.thaw()?;

        wait_known(&scene.daemon, |seen| {
            seen.contains("calm", expected) && !seen.contains(&victim.name, 1)
        })
        .await?;
        wait_cycles(&scene.daemon, 2.0).await?;
        let events = log.entries_since(&mut place)?;
        let lists = events
            .iter()
            .filter(|event| {
                event["verb"] == "list" && event["objectRef"]["resource"] == "deployments"
            })
            .count();
        println!("a restart of the API server, what was before is {what}: {lists} new lists");
        if lists != usize::from(forgotten) {
            return Err(format!("{what}: listed {lists} times").into());
        }
        if !scene.daemon.runs() {
            return Err(format!("{what}: the daemon has ended").into());
        }
        if seen::replicas(&scene.admin, HERE, "calm").await? != i32::try_from(expected)? {
            return Err(format!("{what}: scaled on what was so before").into());
        }
        told_once(&scene.daemon.log()[lines..])?;
    }
    scene.load.set("calm", 3000.0);
    let expected = i32::try_from(expected)?;
    until("to scale again", SOON, || async {
        match seen::replicas(&scene.admin, HERE, "calm").await {
            Ok(replicas) if replicas > expected => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    Ok(())
}

/// No warning or error stands there twice, apart from its time.
fn told_once(lines: &[Value]) -> TestResult {
    let worse = |line: &&Value| matches!(line["level"].as_str(), Some("WARN" | "ERROR"));
    let mut said: Vec<String> = Vec::new();
    for line in lines.iter().filter(worse) {
        let mut line = line.clone();
        line["timestamp"] = Value::Null;
        said.push(line.to_string());
    }
    said.sort();
    match said.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => Err(format!("told twice: {}", twice[0]).into()),
        None => Ok(()),
    }
}

/// Workloads as the last cycle saw them: name and wanted count.
struct Known(Vec<(String, u64)>);

impl Known {
    fn contains(&self, name: &str, count: u32) -> bool {
        let id = format!("{HERE}/Deployment/{name}");
        self.0.iter().any(|(known, wanted)| *known == id && *wanted == u64::from(count))
    }
}

async fn wait_known(daemon: &Daemon, good: impl Fn(&Known) -> bool) -> TestResult {
    until("the workloads to be known", SOON, || async {
        let page = daemon.page("/api/v1/snapshot").await.map_err(|error| error.to_string())?;
        let snapshot: Value = serde_json::from_str(&page).map_err(|error| error.to_string())?;
        let workloads = snapshot["workloads"].as_array().cloned().unwrap_or_default();
        let one = |workload: &Value| {
            let id = workload["id"].as_str()?.to_owned();
            Some((id, workload["desired"].as_u64()?))
        };
        let known = Known(workloads.iter().filter_map(one).collect());
        if good(&known) { Ok(()) } else { Err(format!("{:?}", known.0)) }
    })
    .await?;
    Ok(())
}
