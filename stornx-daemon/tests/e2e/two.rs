//! Two daemons. Killed or frozen at random: the API server's audit log says that no write
//! came from one without a current lease, and that a lost leader was replaced within the
//! lease time. Asked to stop: the lease is given back after the last write, and the other
//! takes it with its next look.
//!
//! `STORNX_E2E_ROUNDS=200` runs the long form of the first.

use std::{sync::Arc, time::Duration};

use stornx_core::testing::SplitMix64;
use stornx_testbed::{
    Options, TestBed,
    apps::{self, Workload},
    harness::Test,
    prometheus::Scrape,
    wait::until,
};
use tokio::task::JoinHandle;

use crate::{
    Failure,
    support::{
        SOON, TestResult,
        audit::{Audit, Place},
        daemon::{Daemon, quick},
        load::Load,
        rights,
        writes::{entries, judge},
    },
};

const HERE: &str = "two";
const USERS: [&str; 2] = ["stornx-a", "stornx-b"];

/// For how long a lease is held after its last renewal: three fifths of its duration.
fn held(lease: Duration) -> Duration {
    lease * 3 / 5
}

pub(crate) fn tests() -> Vec<Test> {
    let (options, log) = Audit::of("two-audit", "Request", &USERS, Options::default());
    let lost = Test::own("two_daemons", options, move |bed| lost(bed, log));
    let (options, log) = Audit::of("in-turn-audit", "Request", &USERS, Options::default());
    let in_turn = Test::own("daemons_in_turn", options, move |bed| in_turn(bed, log));
    vec![lost, in_turn]
}

/// Two daemons over one workload with load that comes and goes: writes that matter.
struct Pair {
    bed: Arc<TestBed>,
    log: Audit,
    settings: Vec<(&'static str, String)>,
    daemons: Vec<Daemon>,
    tide: JoinHandle<()>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.tide.abort();
    }
}

impl Pair {
    async fn start(
        bed: Arc<TestBed>,
        log: Audit,
        lease: Duration,
        write_timeout: Duration,
    ) -> Result<Self, Failure> {
        let admin = bed.client("admin").await?;
        apps::namespace(&admin, HERE).await?;
        rights::grant_to(&admin, &USERS, &[HERE]).await?;
        let load = Load::start(admin.clone(), HERE).await?;
        let prometheus = bed.start_prometheus(&Scrape::each_second([load.address])).await?;
        load.set("busy", 150.0);
        let workload = Workload::new(HERE, "busy", 3);
        workload.create(&admin).await?;
        apps::wait_ready(&admin, &workload, 3, SOON).await?;
        let mut settings = quick(HERE, &prometheus.url());
        for (name, value) in [("LEASE_SECONDS", lease), ("WRITE_TIMEOUT_SECONDS", write_timeout)] {
            settings.retain(|(known, _)| *known != name);
            settings.push((name, value.as_secs().to_string()));
        }
        let tide = tokio::spawn(async move {
            for milli_cores in [600.0, 60.0].into_iter().cycle() {
                load.set("busy", milli_cores);
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
        });
        let mut pair = Self { bed, log, settings, daemons: Vec::new(), tide };
        for which in 0..USERS.len() {
            let daemon = pair.one(which).await?;
            pair.daemons.push(daemon);
        }
        Ok(pair)
    }

    async fn one(&self, which: usize) -> Result<Daemon, Failure> {
        Daemon::start(&self.bed, USERS[which], USERS[which], &self.settings).await
    }

    async fn leader(&self) -> Result<usize, Failure> {
        let found = until("a leader", SOON, || async {
            for (number, daemon) in self.daemons.iter().enumerate() {
                if daemon.metric("stornx_leading", &[]).await.ok().flatten() == Some(1.0) {
                    return Ok(number);
                }
            }
            Err("nobody leads")
        });
        Ok(found.await?)
    }

    /// Waits until one leads and has written once more, and the other waits for the lease:
    /// one that has not connected yet has seen no renewal to count from.
    async fn settled(&self, from: &mut Place) -> Result<usize, Failure> {
        let leader = self.leader().await?;
        self.daemons[1 - leader].wait_ready().await?;
        entries(&self.log, from)?;
        until("a write of the leader", SOON, || {
            let new = entries(&self.log, from).map_err(|error| error.to_string());
            std::future::ready(match new {
                Ok(new) if new.iter().any(|entry| entry.is_write_of(USERS[leader])) => Ok(()),
                Ok(_) => Err("none".to_owned()),
                Err(error) => Err(error),
            })
        })
        .await?;
        Ok(leader)
    }
}

async fn lost(bed: Arc<TestBed>, log: Audit) -> TestResult {
    /// A short lease makes short rounds.
    const LEASE: Duration = Duration::from_secs(3);
    let rounds: u64 = std::env::var("STORNX_E2E_ROUNDS").map_or(Ok(6), |text| text.parse())?;
    let mut pair = Pair::start(bed, log.clone(), LEASE, Duration::from_secs(1)).await?;
    let mut random = SplitMix64::new(5);
    let mut place = Place::default();
    for round in 1..=rounds {
        let leader = pair.settled(&mut place).await?;
        let victim = if random.chance(25) { 1 - leader } else { leader };
        if random.chance(50) {
            pair.daemons[victim].kill();
            pair.daemons[victim] = pair.one(victim).await?;
        } else {
            // Frozen for longer than its lease, at any point of what it was doing.
            pair.daemons[victim].freeze()?;
            tokio::time::sleep(LEASE + LEASE / 2).await;
            pair.daemons[victim].thaw()?;
        }
        if round % 10 == 0 {
            // A failure is told when it happens, not at the end of half an hour.
            judge(&entries(&log, &mut Place::default())?, held(LEASE))
                .map_err(|error| format!("round {round}: {error}"))?;
        }
    }
    pair.leader().await?;
    drop(pair);

    let judged = judge(&entries(&log, &mut Place::default())?, held(LEASE))?;
    let lease = i64::try_from(LEASE.as_millis())?;
    let mut taken = judged.taken;
    taken.sort_unstable();
    let longest = taken.last().copied().unwrap_or_default();
    println!(
        "two daemons, {rounds} rounds: {} writes, none without a lease; taken over {} times, from \
         the last renewal to the next holder's answer {} ms in half of them, {longest} ms at most \
         (lease {lease} ms)",
        judged.writes,
        taken.len(),
        taken.get(taken.len() / 2).copied().unwrap_or_default(),
    );
    if judged.writes == 0 || taken.is_empty() {
        return Err("nothing was tested".into());
    }
    if longest > lease {
        return Err(format!("it was taken over after {longest} ms").into());
    }
    Ok(())
}

async fn in_turn(bed: Arc<TestBed>, log: Audit) -> TestResult {
    const ROUNDS: usize = 4;
    /// What is waited for must not pass for what ran out.
    const LEASE: Duration = Duration::from_secs(15);
    /// Until the next look of the other, and a second for three answers on a busy machine.
    const GIVEN_BACK: Duration = Duration::from_millis(15_000 / 16 + 1000);
    const STOPPED: Duration = Duration::from_secs(5);
    let mut pair = Pair::start(bed, log.clone(), LEASE, Duration::from_secs(4)).await?;
    let mut place = Place::default();
    let mut slowest = Duration::ZERO;
    for _ in 0..ROUNDS {
        let leader = pair.settled(&mut place).await?;
        let took = pair.daemons[leader].terminate().await?;
        slowest = slowest.max(took);
        if took > STOPPED {
            return Err(format!("it took {took:?} to stop").into());
        }
        pair.daemons[leader] = pair.one(leader).await?;
    }
    pair.settled(&mut place).await?;
    drop(pair);

    let judged = judge(&entries(&log, &mut Place::default())?, held(LEASE))?;
    let longest = judged.given_back.iter().copied().max().unwrap_or_default();
    println!(
        "daemons in turn: {ROUNDS} stops of {slowest:?} at most, {} writes, none after the lease \
         was given back; taken {longest} ms later at most",
        judged.writes
    );
    if judged.given_back.len() != ROUNDS || !judged.taken.is_empty() {
        return Err(format!("not always given back: {judged:?}").into());
    }
    if longest > i64::try_from(GIVEN_BACK.as_millis())? {
        return Err(format!("what was given back was taken {longest} ms later").into());
    }
    Ok(())
}
