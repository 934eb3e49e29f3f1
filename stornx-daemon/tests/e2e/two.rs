//! Two daemons, killed or frozen at random: the API server's audit log says that no write
//! came from one without a current lease, and that a lost leader was replaced in time.
//!
//! The oracle knows nothing of our clocks: it reads in the order and with the times of the
//! API server who renewed the lease when, and who wrote what when. A lease is current
//! from the request that renewed it until its duration has passed, or until somebody else
//! holds it.
//!
//! `STORNX_E2E_ROUNDS=200` runs the long form.

use std::{process::Command, sync::Arc, time::Duration};

use jiff::Timestamp;
use stornx_core::testing::SplitMix64;
use stornx_testbed::{
    Options, TestBed,
    apps::{self, Workload},
    harness::Test,
    prometheus::Scrape,
    wait::until,
};

use crate::support::{
    SOON, TestResult,
    audit::Audit,
    daemon::{Daemon, quick},
    load::Load,
    rights,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const HERE: &str = "two";
const USERS: [&str; 2] = ["stornx-a", "stornx-b"];

/// A short lease makes short rounds.
const LEASE: Duration = Duration::from_secs(3);

/// For how long a lease is held after its last renewal: four fifths of its duration.
const HELD_MS: i64 = 2400;

/// Within the lease time, by the times of the API server; half a second is for a machine
/// that is busy with everything else.
const TAKEN_OVER: Duration = Duration::from_millis(3000 + 500);

pub(crate) fn tests() -> Vec<Test> {
    let (options, log) = Audit::of("two-audit", "Request", &USERS, Options::default());
    vec![Test::own("two_daemons", options, move |bed| two(bed, log))]
}

async fn two(bed: Arc<TestBed>, log: Audit) -> TestResult {
    let rounds: u64 = std::env::var("STORNX_E2E_ROUNDS").map_or(Ok(6), |text| text.parse())?;
    let admin = bed.client("admin").await?;
    apps::namespace(&admin, HERE).await?;
    rights::grant_to(&admin, &USERS, &[HERE]).await?;
    let load = Arc::new(Load::start(admin.clone(), HERE).await?);
    let prometheus = bed.start_prometheus(&Scrape::each_second([load.address])).await?;
    load.set("busy", 150.0);
    let workload = Workload::new(HERE, "busy", 3);
    workload.create(&admin).await?;
    apps::wait_ready(&admin, &workload, 3, SOON).await?;

    let mut settings = quick(HERE, &prometheus.url());
    for (name, value) in [("LEASE_SECONDS", "3"), ("WRITE_TIMEOUT_SECONDS", "1")] {
        settings.retain(|(known, _)| *known != name);
        settings.push((name, value.to_owned()));
    }
    let mut daemons = Vec::new();
    for user in USERS {
        daemons.push(Daemon::start(&bed, user, user, &settings).await?);
    }
    let mut random = SplitMix64::new(5);
    // Load that comes and goes makes writes that matter.
    let tide = load.clone();
    let tide = tokio::spawn(async move {
        for milli_cores in [600.0, 60.0].into_iter().cycle() {
            tide.set("busy", milli_cores);
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
    });
    for _ in 0..rounds {
        let leader = wait_leader(&daemons).await?;
        // One that has not connected yet has seen no renewal to count from.
        daemons[1 - leader].wait_ready().await?;
        wait_write(&log, USERS[leader]).await?;
        let victim = if random.chance(25) { 1 - leader } else { leader };
        if random.chance(50) {
            daemons[victim].kill();
            daemons[victim] = Daemon::start(&bed, USERS[victim], USERS[victim], &settings).await?;
        } else {
            // Frozen for longer than its lease, at any point of what it was doing.
            daemons[victim].signal("-STOP")?;
            tokio::time::sleep(LEASE + LEASE / 2).await;
            daemons[victim].signal("-CONT")?;
        }
    }
    wait_leader(&daemons).await?;
    tide.abort();
    drop(daemons);
    judge(&log, rounds)
}

async fn wait_leader(daemons: &[Daemon]) -> Result<usize, Failure> {
    let found = until("a leader", SOON, || async {
        for (number, daemon) in daemons.iter().enumerate() {
            if daemon.metric("stornx_leading", &[]).await.ok().flatten() == Some(1.0) {
                return Ok(number);
            }
        }
        Err("nobody leads")
    });
    Ok(found.await?)
}

/// Waits for one more write of a user.
async fn wait_write(log: &Audit, user: &str) -> TestResult {
    let count = || {
        let entries = entries(log).unwrap_or_default();
        entries.iter().filter(|entry| entry.user == user && entry.lease.is_none()).count()
    };
    let before = count();
    until("a write of the leader", SOON, || async {
        if count() > before { Ok(()) } else { Err("none") }
    })
    .await?;
    Ok(())
}

/// One write that the API server accepted.
#[derive(Debug)]
struct Entry {
    user: String,
    /// When the request came in, and when the answer went out, ms.
    received: i64,
    answered: i64,
    what: String,
    /// The holder that was written, when it is a lease.
    lease: Option<String>,
}

fn entries(log: &Audit) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for event in log.entries()? {
        let accepted = event["responseStatus"]["code"].as_i64().is_some_and(|code| code < 300);
        let target = &event["objectRef"];
        if !accepted || target["resource"] == "events" {
            continue;
        }
        let at = |field: &str| -> Result<i64, Failure> {
            let text = event[field].as_str().ok_or("no time")?;
            Ok(text.parse::<Timestamp>()?.as_millisecond())
        };
        let holder = &event["requestObject"]["spec"]["holderIdentity"];
        let is_lease = target["resource"] == "leases";
        entries.push(Entry {
            user: event["user"]["username"].as_str().unwrap_or_default().to_owned(),
            received: at("requestReceivedTimestamp")?,
            answered: at("stageTimestamp")?,
            what: format!("{} {}/{}", event["verb"], target["resource"], target["name"]),
            lease: is_lease.then(|| holder.as_str().unwrap_or_default().to_owned()),
        });
    }
    entries.sort_by_key(|entry| entry.received);
    Ok(entries)
}

fn judge(log: &Audit, rounds: u64) -> TestResult {
    let entries = entries(log)?;
    // Who holds the lease (user and identity of the process), and until when.
    let mut holder: Option<((&str, &str), i64)> = None;
    let mut last_renewal: Option<((&str, &str), i64)> = None;
    let (mut writes, mut handovers, mut longest) = (0, 0, 0);
    for entry in &entries {
        match &entry.lease {
            Some(name) if name.is_empty() => holder = None,
            Some(name) => {
                let who = (entry.user.as_str(), name.as_str());
                if let Some((before, at)) = last_renewal
                    && before != who
                {
                    handovers += 1;
                    if holder.is_some_and(|(_, until)| entry.received < until) {
                        let taken = format!("taken from {before:?} before its time: {entry:?}");
                        return Err(taken.into());
                    }
                    longest = longest.max(entry.received - at);
                }
                last_renewal = Some((who, entry.received));
                holder = Some((who, entry.received + HELD_MS));
            }
            None => {
                writes += 1;
                let current = holder.is_some_and(|((user, _), until)| {
                    user == entry.user && entry.answered <= until
                });
                if !current {
                    return Err(
                        format!("{} without a lease ({holder:?}): {entry:?}", entry.what).into()
                    );
                }
            }
        }
    }
    println!(
        "two daemons, {rounds} rounds: {writes} writes, {handovers} handovers, none without a lease; \
         longest time from a renewal to the next holder's {longest} ms (lease {} ms)",
        LEASE.as_millis()
    );
    if writes == 0 || handovers == 0 {
        return Err("nothing was tested".into());
    }
    if longest > i64::try_from(TAKEN_OVER.as_millis())? {
        return Err(format!("a handover took {longest} ms").into());
    }
    Ok(())
}

impl Daemon {
    /// Sends it a signal, by its process id.
    fn signal(&self, signal: &str) -> TestResult {
        Command::new("kill").args([signal, &self.id().to_string()]).status()?;
        Ok(())
    }
}
