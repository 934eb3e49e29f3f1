//! Scaling within the guards: an overloaded workload goes up, an idle one down, and each
//! one whose count is not ours is left alone and says why, as metric, event and log.

use std::sync::Arc;

use stornx_testbed::{
    TestBed,
    apps::{self, Roll, Workload},
    harness::Test,
    prometheus::Scrape,
    wait::until,
};

use crate::support::{
    SOON, TestResult,
    daemon::{Daemon, quick},
    load::Load,
    rights, seen,
};

const HERE: &str = "guards";

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::own("guards", stornx_testbed::Options::default(), guards)]
}

/// A workload that is left alone, and the reason that it must show.
struct LeftAlone {
    workload: Workload,
    milli_cores: f64,
    reason: &'static str,
}

fn left_alone() -> Vec<LeftAlone> {
    // Busy at 150 % of what two replicas ask for, idle at 2.5 % of what four do.
    let busy = |name: &str, reason| LeftAlone {
        workload: Workload::new(HERE, name, 2),
        milli_cores: 300.0,
        reason,
    };
    let mut all = vec![
        busy("hpa-owned", "autoscaler-owns"),
        busy("keda-owned", "autoscaler-owns"),
        busy("paused", "paused"),
        busy("rolling", "rollout-in-progress"),
        busy("opted-out", "opted-out"),
        LeftAlone {
            workload: Workload::new(HERE, "budgeted", 4),
            milli_cores: 10.0,
            reason: "disruption-budget",
        },
    ];
    for one in &mut all {
        match one.workload.name.as_str() {
            "paused" => one.workload.paused = true,
            "opted-out" => {
                one.workload = one.workload.clone().annotated("stornx.io/policy", "off");
            }
            _ => {}
        }
    }
    all
}

async fn guards(bed: Arc<TestBed>) -> TestResult {
    let admin = bed.client("admin").await?;
    apps::namespace(&admin, HERE).await?;
    rights::grant(&admin, "stornx", &[HERE]).await?;
    let load = Load::start(admin.clone(), HERE).await?;
    let prometheus = bed.start_prometheus(&Scrape::each_second([load.address])).await?;

    let (busy, idle) = (Workload::new(HERE, "busy", 2), Workload::new(HERE, "idle", 4));
    load.set("busy", 300.0);
    load.set("idle", 10.0);
    for workload in [&busy, &idle] {
        workload.create(&admin).await?;
    }
    let others = left_alone();
    for LeftAlone { workload, milli_cores, .. } in &others {
        load.set(&workload.name, *milli_cores);
        // A paused Deployment makes no pods: it is paused once it has them.
        Workload { paused: false, ..workload.clone() }.create(&admin).await?;
    }
    for LeftAlone { workload, .. } in &others {
        let replicas = usize::try_from(workload.replicas)?;
        apps::wait_ready(&admin, workload, replicas, SOON).await?;
        match workload.name.as_str() {
            "hpa-owned" => {
                apps::create(&admin, &apps::horizontal_autoscaler(workload, 2, 5, 80)?).await?;
            }
            "keda-owned" => apps::scaled_object(&admin, workload, 2, 5).await?,
            "paused" => seen::pause(&admin, HERE, "paused").await?,
            "rolling" => workload.roll(&admin, Roll::Stuck).await?,
            "budgeted" => apps::create(&admin, &apps::disruption_budget(workload, 4)?).await?,
            _ => {}
        }
    }

    let daemon = Daemon::start(&bed, "stornx", "stornx", &quick(HERE, &prometheus.url())).await?;
    daemon.wait_ready().await?;
    until("busy to go up and idle to go down", SOON, || async {
        let busy = seen::replicas(&admin, HERE, "busy").await.map_err(|e| e.to_string())?;
        let idle = seen::replicas(&admin, HERE, "idle").await.map_err(|e| e.to_string())?;
        if busy > 2 && idle < 4 { Ok(()) } else { Err(format!("busy {busy}, idle {idle}")) }
    })
    .await?;
    for (name, reason) in [("busy", "ScaledUp"), ("idle", "ScaledDown")] {
        until(&format!("the event on {name}"), SOON, || async {
            let events =
                seen::events(&admin, HERE, name, reason).await.map_err(|e| e.to_string())?;
            if events.is_empty() { Err("none".to_owned()) } else { Ok(()) }
        })
        .await?;
    }

    for LeftAlone { workload, reason, .. } in &others {
        let name = &workload.name;
        until(&format!("{name} to be left alone"), SOON, || async {
            let told = daemon.lines(&format!("{HERE}/Deployment/{name}"), reason);
            let events =
                seen::events(&admin, HERE, name, "NotScaled").await.map_err(|e| e.to_string())?;
            let counted = daemon
                .metric("stornx_left_alone", &[("decision", "scale"), ("reason", reason)])
                .await
                .map_err(|e| e.to_string())?;
            if told == 1 && !events.is_empty() && counted >= Some(1.0) {
                Ok(())
            } else {
                Err(format!("{told} lines, events {events:?}, metric {counted:?}"))
            }
        })
        .await?;
        let replicas = seen::replicas(&admin, HERE, name).await?;
        if u32::try_from(replicas)? != workload.replicas {
            return Err(format!("{name} was scaled to {replicas}").into());
        }
    }
    // An unchanged state is not repeated, whatever the number of cycles.
    let cycles = || async {
        let labels = [("cause", "schedule"), ("result", "clean")];
        daemon.metric("stornx_cycles_total", &labels).await.map(Option::unwrap_or_default)
    };
    let before = cycles().await?;
    until("five more cycles", SOON, || async {
        let now = cycles().await.map_err(|e| e.to_string())?;
        if now >= before + 5.0 { Ok(()) } else { Err(format!("{}", now - before)) }
    })
    .await?;
    for LeftAlone { workload, reason, .. } in &others {
        let told = daemon.lines(&format!("{HERE}/Deployment/{}", workload.name), reason);
        if told != 1 {
            return Err(format!("{}: {reason} was told {told} times", workload.name).into());
        }
    }
    Ok(())
}
