//! Candidates over a record store that is slow, fails, and loses answers; all time is
//! virtual and every fault comes from a seed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use k8s_openapi::api::coordination::v1::LeaseSpec;
use stornx_core::{
    ports::PortError,
    testing::{SplitMix64, cases, contract},
};
use tokio::time::{sleep, timeout};

use super::{
    candidate::{GIVING_BACK, LOOKS, RENEWALS, held},
    record::{Record, Seen, Version, record, spec},
    *,
};

const DURATION: Duration = Duration::from_secs(15);
const WRITE: Duration = Duration::from_secs(5);

/// The one record, and how badly it can be reached.
struct World {
    /// As the API keeps it.
    stored: Mutex<Option<(LeaseSpec, u64)>>,
    random: Mutex<SplitMix64>,
    /// Per cent of requests that are lost, half of them after they were carried out.
    lossy: u64,
    /// The longest way of a request or an answer, in milliseconds.
    slow: u64,
    down: AtomicBool,
    /// Requests are carried out and not answered.
    mute: AtomicBool,
}

fn version(number: u64) -> Version {
    Version { object: "the only one".to_owned(), version: number.to_string() }
}

impl World {
    fn new(seed: u64, lossy: u64, slow: u64) -> Arc<Self> {
        let random = Mutex::new(SplitMix64::new(seed));
        let stored = Mutex::new(None);
        let (down, mute) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { stored, random, lossy, slow, down, mute })
    }

    fn roll(&self, low: u64, high: u64) -> u64 {
        self.random.lock().unwrap().between(low, high)
    }

    async fn reach<T>(&self, act: impl FnOnce() -> Result<T, PortError>) -> Result<T, PortError> {
        let lost = || PortError::Unavailable { what: "lease".into(), detail: "lost".into() };
        sleep(Duration::from_millis(self.roll(0, self.slow.min(200)))).await;
        let fate = self.roll(0, 99);
        if self.down.load(Ordering::SeqCst) || fate < self.lossy / 2 {
            return Err(lost());
        }
        let answer = act();
        if self.mute.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        // Answers are mostly quick and now and then slow, so that one daemon's may be
        // slow while the other's are quick.
        let longest = if self.roll(0, 3) == 0 { self.slow } else { self.slow.min(20) };
        sleep(Duration::from_millis(self.roll(0, longest))).await;
        if fate >= 100 - self.lossy.div_ceil(2) {
            // The answer never comes, or as an error.
            if self.roll(0, 1) == 0 {
                std::future::pending::<()>().await;
            }
            return Err(lost());
        }
        answer
    }

    fn put(&self, record: &Record, expected: Option<&Version>) -> Result<Version, PortError> {
        let mut stored = self.stored.lock().unwrap();
        let found = stored.as_ref().map(|(_, number)| version(*number));
        if found.as_ref() != expected {
            let detail = format!("{found:?} is not {expected:?}");
            return Err(PortError::Conflict { what: "lease".into(), detail });
        }
        let number = stored.as_ref().map_or(1, |(_, number)| number + 1);
        *stored = Some((spec(record), number));
        Ok(version(number))
    }

    fn transitions(&self) -> i32 {
        self.record().transitions
    }

    fn record(&self) -> Record {
        record(self.stored.lock().unwrap().as_ref().unwrap().0.clone())
    }
}

/// The way of one daemon to the world; its other writes get through when it is cut.
struct Link {
    world: Arc<World>,
    cut: Arc<AtomicBool>,
}

impl Link {
    async fn reach<T>(
        &self,
        act: impl FnOnce(&World) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        if self.cut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.world.reach(|| act(&self.world)).await
    }
}

#[async_trait]
impl Records for Link {
    async fn read(&self) -> Result<Option<Seen>, PortError> {
        self.reach(|world| {
            let stored = world.stored.lock().unwrap();
            Ok(stored.as_ref().map(|(spec, number)| Seen {
                record: record(spec.clone()),
                version: version(*number),
            }))
        })
        .await
    }

    async fn create(&self, record: &Record) -> Result<Version, PortError> {
        self.reach(|world| world.put(record, None)).await
    }

    async fn replace(&self, record: &Record, version: &Version) -> Result<Version, PortError> {
        self.reach(|world| world.put(record, Some(version))).await
    }
}

fn lease(world: &Arc<World>, identity: &str) -> Lease {
    linked(world, identity, DURATION, &Arc::default())
}

fn options(identity: &str, duration: Duration) -> LeaseOptions {
    LeaseOptions {
        namespace: "stornx".parse().unwrap(),
        name: "stornx".to_owned(),
        identity: identity.to_owned(),
        duration,
        write_timeout: WRITE,
    }
}

fn linked(world: &Arc<World>, identity: &str, duration: Duration, cut: &Arc<AtomicBool>) -> Lease {
    let link = Link { world: Arc::clone(world), cut: Arc::clone(cut) };
    Lease::over(link, &options(identity, duration), Arc::default())
}

async fn leads(lease: &Lease, within: Duration) -> bool {
    let mut leading = lease.leading();
    let waited = timeout(within, leading.wait_for(|leading| *leading)).await;
    matches!(waited, Ok(Ok(_)))
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_at_once_and_the_second_waits() {
    let world = World::new(1, 0, 5);
    let first = lease(&world, "a");
    assert!(leads(&first, Duration::from_secs(1)).await);
    contract::leader_gate(&first, true).await;
    let second = lease(&world, "b");
    assert!(!leads(&second, Duration::from_secs(300)).await, "while it is renewed");
    contract::leader_gate(&second, false).await;
    assert!(first.may_write().await);
    assert_eq!(second.holder().as_deref(), Some("a"));
    assert_eq!(world.transitions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_at_once() {
    let world = World::new(2, 0, 5);
    let first = lease(&world, "a");
    assert!(leads(&first, Duration::from_secs(1)).await);
    let second = lease(&world, "b");
    sleep(Duration::from_secs(20)).await;
    first.release().await;
    assert!(leads(&second, DURATION / LOOKS + Duration::from_millis(100)).await);
    assert_eq!(world.transitions(), 1);
}

#[tokio::test(start_paused = true)]
async fn giving_back_takes_a_second_at_most() {
    let world = World::new(6, 0, 5);
    let first = lease(&world, "a");
    assert!(leads(&first, Duration::from_secs(1)).await);
    world.mute.store(true, Ordering::SeqCst);
    let began = Instant::now();
    first.release().await;
    assert!(began.elapsed() <= GIVING_BACK + Duration::from_millis(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_the_middle_of_a_renewal_gives_the_lease_back_too() {
    for carried_out in [true, false] {
        let (world, cut) = (World::new(7, 0, 5), Arc::default());
        let first = linked(&world, "a", DURATION, &cut);
        assert!(leads(&first, Duration::from_secs(1)).await);
        let before = world.stored.lock().unwrap().as_ref().unwrap().1;
        let fault: &AtomicBool = if carried_out { &world.mute } else { &cut };
        fault.store(true, Ordering::SeqCst);
        // Renewed after an eighth at the latest, and given up a third later.
        sleep(DURATION / RENEWALS + Duration::from_secs(1)).await;
        let now = world.stored.lock().unwrap().as_ref().unwrap().1;
        assert_eq!(now > before, carried_out, "a renewal is under way");
        fault.store(false, Ordering::SeqCst);
        let began = Instant::now();
        first.release().await;
        assert!(began.elapsed() <= GIVING_BACK, "{:?}", began.elapsed());
        assert_eq!(world.record().holder, None, "carried out: {carried_out}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_hold_it_gives_nothing_back() {
    let world = World::new(8, 0, 5);
    let first = lease(&world, "a");
    assert!(leads(&first, Duration::from_secs(1)).await);
    let second = lease(&world, "b");
    sleep(Duration::from_secs(20)).await;
    second.release().await;
    assert_eq!(world.record().holder.as_deref(), Some("a"));
    assert!(first.may_write().await);
}

#[test]
fn a_record_never_says_less_than_its_holder_counts() {
    for (asked, kept) in [(15_000, 15), (15_001, 16), (15_900, 16), (400, 1), (0, 1)] {
        let asked = Duration::from_millis(asked);
        let read = record(spec(&Record::first("a", asked)));
        assert_eq!(read.duration, Duration::from_secs(kept), "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_second_that_the_holder_counts_is_waited_for_too() {
    for millis in [15_001, 15_500, 15_900, 15_999] {
        let (world, cut) = (World::new(9, 0, 5), Arc::default());
        let duration = Duration::from_millis(millis);
        let first = linked(&world, "a", duration, &cut);
        assert!(leads(&first, Duration::from_secs(1)).await);
        // From here on the first believes what it knows, and nothing is renewed.
        cut.store(true, Ordering::SeqCst);
        let held_until = first.gate.held_until().unwrap();
        let second = linked(&world, "b", duration, &Arc::default());
        assert!(leads(&second, DURATION * 2).await);
        assert!(Instant::now() >= held_until, "{duration:?}: two hold it");
    }
}

/// The bound that the module argues: answers take up to `slow` and as much of a way there,
/// of which 200 ms at most.
#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_followed_within_the_lease_time() {
    for slow in [0, 5, 200, 1200] {
        let answer = Duration::from_millis(slow + slow.min(200));
        let bound = held(DURATION) + DURATION / LOOKS + 3 * answer;
        // A timer rounds up to a millisecond.
        let bound = bound + Duration::from_millis(3);
        assert!(bound < DURATION, "answers of {answer:?} are quick enough");
        for seed in 0..50 {
            let world = World::new(seed, 0, slow);
            let first = lease(&world, "a");
            assert!(leads(&first, Duration::from_secs(5)).await);
            let second = lease(&world, "b");
            sleep(Duration::from_millis(world.roll(30_000, 60_000))).await;
            // It dies with the answer to a renewal: none is under way.
            let before = first.gate.held_until();
            while first.gate.held_until() == before {
                sleep(Duration::from_millis(1)).await;
            }
            let sent = first.gate.held_until().unwrap() - held(DURATION);
            drop(first);
            // Written when it had come there: `sent` and a way of it later.
            let way = Duration::from_millis(slow.min(200));
            assert!(leads(&second, DURATION * 2).await, "seed {seed}");
            let took = sent.elapsed();
            assert!(took <= bound + way, "slow {slow} seed {seed}: {took:?}");
            assert!(took >= held(DURATION), "slow {slow} seed {seed}: {took:?}, before it ran out");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_attempt_to_take_it_waits_for_no_look() {
    for seed in 0..20 {
        let world = World::new(seed, 0, 0);
        world.put(&Record::first("gone", DURATION), None).unwrap();
        let began = Instant::now();
        let only = lease(&world, "a");
        assert!(leads(&only, DURATION).await);
        let late = began.elapsed() - held(DURATION);
        assert!(late <= Duration::from_millis(5), "seed {seed}: {late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_in_the_last_instant_is_not_overlooked() {
    for early in [1, 50, 500, 1500] {
        let world = World::new(1, 0, 5);
        world.put(&Record::first("late", DURATION), None).unwrap();
        let errors = Arc::<ErrorStats>::default();
        let link = Link { world: Arc::clone(&world), cut: Arc::default() };
        let only = Lease::over(link, &options("a", DURATION), Arc::clone(&errors));
        sleep(held(DURATION) - Duration::from_millis(early)).await;
        world.put(&Record::first("late", DURATION), Some(&version(1))).unwrap();
        let renewed = Instant::now();
        assert!(leads(&only, DURATION).await);
        assert!(renewed.elapsed() >= held(DURATION), "{early} ms: {:?}", renewed.elapsed());
        assert_eq!(errors.all(), [], "{early} ms: nothing went wrong");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_server_the_gate_closes_in_time_and_opens_again() {
    let world = World::new(3, 0, 5);
    let only = lease(&world, "a");
    assert!(leads(&only, Duration::from_secs(1)).await);
    sleep(Duration::from_secs(60)).await;
    world.down.store(true, Ordering::SeqCst);
    let mut leading = only.leading();
    let down = Instant::now();
    leading.wait_for(|leading| !*leading).await.unwrap();
    assert!(down.elapsed() <= held(DURATION) - WRITE, "a whole write is left of it");
    assert!(!only.may_write().await);
    world.down.store(false, Ordering::SeqCst);
    assert!(leads(&only, DURATION).await);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_pushed_out_stops_with_the_next_renewal() {
    let world = World::new(4, 0, 5);
    let only = lease(&world, "a");
    assert!(leads(&only, Duration::from_secs(1)).await);
    let version = version(world.stored.lock().unwrap().as_ref().unwrap().1);
    world.put(&Record::first("admin", DURATION), Some(&version)).unwrap();
    let mut leading = only.leading();
    let pushed = timeout(DURATION / RENEWALS, leading.wait_for(|leading| !*leading)).await.is_ok();
    assert!(pushed);
    assert!(leads(&only, DURATION * 2).await, "the other one does not renew");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_record_is_waited_for_by_whoever_saw_it_held() {
    let world = World::new(5, 0, 5);
    let first = lease(&world, "a");
    assert!(leads(&first, Duration::from_secs(1)).await);
    let second = lease(&world, "b");
    sleep(Duration::from_secs(21)).await;
    *world.stored.lock().unwrap() = None;
    assert!(!leads(&second, DURATION / 2).await);
    assert!(first.may_write().await, "it made a new one");
}

/// A daemon: a lease, and writes whenever it may.
struct Daemon {
    lease: Option<Arc<Lease>>,
    alive: Arc<AtomicBool>,
    cut: Arc<AtomicBool>,
}

/// Who writes now; and how often somebody did.
#[derive(Default)]
struct Paper {
    writer: Mutex<Option<String>>,
    writes: AtomicU64,
    collisions: AtomicU64,
}

fn daemon(world: &Arc<World>, paper: &Arc<Paper>, identity: String, duration: Duration) -> Daemon {
    let cut = Arc::default();
    let lease = Arc::new(linked(world, &identity, duration, &cut));
    let alive = Arc::new(AtomicBool::new(true));
    let (world, paper) = (Arc::clone(world), Arc::clone(paper));
    let (gate, up) = (Arc::clone(&lease.gate), Arc::clone(&alive));
    tokio::spawn(async move {
        while up.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(world.roll(1, 400))).await;
            if !up.load(Ordering::SeqCst) || !gate.is_open() {
                continue;
            }
            // A write that was sent is carried out whatever becomes of its sender.
            if paper.writer.lock().unwrap().replace(identity.clone()).is_some() {
                paper.collisions.fetch_add(1, Ordering::SeqCst);
            }
            let quick = world.roll(0, 3) == 0;
            let lasts = if quick { Duration::from_millis(world.roll(1, 5000)) } else { WRITE };
            sleep(lasts).await;
            paper.writer.lock().unwrap().take();
            paper.writes.fetch_add(1, Ordering::SeqCst);
        }
    });
    Daemon { lease: Some(lease), alive, cut }
}

impl Daemon {
    /// Killed: nothing is released.
    fn kill(&mut self) {
        self.alive.store(false, Ordering::SeqCst);
        self.lease.take();
    }
}

#[tokio::test(start_paused = true)]
async fn two_daemons_cut_off_and_killed_at_random_never_write_at_once() {
    let seeds = cases(20, std::env::var("STORNX_CASES").ok().as_deref());
    for seed in 0..seeds {
        let world = World::new(seed, 20, 4000);
        // Settings are whole seconds; nothing here rests on it.
        let fraction = [999, 0, 900, 500, 100][usize::try_from(seed % 5).unwrap()];
        let duration = DURATION + Duration::from_millis(fraction);
        let paper = Arc::new(Paper::default());
        let mut names = 0..;
        let mut name = || format!("daemon-{}", names.next().unwrap());
        let mut new = || daemon(&world, &paper, name(), duration);
        let mut daemons = [new(), new()];
        for _ in 0..200 {
            sleep(Duration::from_millis(world.roll(0, 40_000))).await;
            let which = usize::try_from(world.roll(0, 1)).unwrap();
            // Cut off it lives and believes; killed it does neither.
            daemons[which].cut.store(true, Ordering::SeqCst);
            sleep(Duration::from_millis(world.roll(0, 40_000))).await;
            daemons[which].cut.store(false, Ordering::SeqCst);
            if world.roll(0, 1) == 0 {
                daemons[which].kill();
                sleep(Duration::from_millis(world.roll(0, 20_000))).await;
                daemons[which] = new();
            }
        }
        daemons.iter_mut().for_each(Daemon::kill);
        sleep(Duration::from_secs(10)).await;
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        assert_eq!(count(&paper.collisions), 0, "seed {seed}: two writers at once");
        assert!(count(&paper.writes) > 200, "seed {seed}: {} writes", count(&paper.writes));
        assert!(world.transitions() > 20, "seed {seed}: {} changes", world.transitions());
    }
}
