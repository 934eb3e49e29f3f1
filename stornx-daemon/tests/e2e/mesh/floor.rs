//! Real requests over the pods of a scenario: an Envoy for each of its entrances, loads of a
//! fixed rate through them, a server that does the pods' work, and all of it counted for a
//! real Prometheus. Its one called service is `cart`.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::{Client, ResourceExt as _};
use stornx_sim::scenario::{INGRESS, Scenario};
use stornx_testbed::{
    TestBed,
    apps::{self, Boutique},
    mesh::{
        Answer, Caller, Identity, Istiod, Load, Place, Pods, Seen, Shown, Sink, Telemetry, Work,
    },
    prometheus::{Prometheus, Scrape},
    wait::until,
};

use crate::{
    Failure,
    support::{SOON, TestResult, rights},
};

/// The zones in which callers are.
pub(crate) const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

/// What came of all requests so far.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Answer>>>);

impl Log {
    /// Those that were due in a time.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Vec<Answer> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|one| (from..to).contains(&one.due)).cloned().collect()
    }

    /// Those that were due in the last so many seconds and are answered.
    pub(crate) fn last(&self, length: Duration) -> Vec<Answer> {
        let now = Instant::now();
        self.between(now.checked_sub(length).unwrap_or(now), now)
    }

    /// All that were answered.
    pub(crate) fn all(&self) -> Vec<Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many failed, by cause.
    pub(crate) fn failed(answers: &[Answer]) -> BTreeMap<String, usize> {
        let mut failed = BTreeMap::new();
        for cause in answers.iter().filter_map(|one| one.by.as_ref().err()) {
            *failed.entry(cause.clone()).or_default() += 1;
        }
        failed
    }
}

/// A percentile of latencies, milliseconds.
pub(crate) fn quantile(answers: &[Answer], share: f64) -> f64 {
    let mut all: Vec<f64> = answers.iter().map(|one| one.took.as_secs_f64() * 1000.0).collect();
    all.sort_by(f64::total_cmp);
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = (all.len() as f64 * share).ceil() as usize;
    all.get(at.max(1) - 1).copied().unwrap_or(0.0)
}

/// The bed of a test with real requests.
pub(crate) struct Floor {
    pub(crate) admin: Client,
    pub(crate) here: String,
    pub(crate) host: String,
    pub(crate) seen: Arc<Seen>,
    pub(crate) pods: Pods,
    pub(crate) prometheus: Prometheus,
    pub(crate) log: Log,
    pub(crate) loads: BTreeMap<&'static str, Load>,
    telemetry: Telemetry,
    _callers: Vec<Caller>,
    _istiod: Istiod,
    _shown: Shown,
}

impl Floor {
    /// Deploys the scenario, and sends so many requests a second from each zone.
    pub(crate) async fn lay(
        bed: &TestBed,
        scenario: &Scenario,
        work: Work,
        rates: [f64; 3],
    ) -> Result<Self, Failure> {
        let admin = bed.client("admin").await?;
        let mut apps = Boutique::of_scenario(scenario);
        for (workload, service) in apps.workloads.iter_mut().zip(&scenario.services) {
            workload.spread = service.placement.is_some();
        }
        apps.deploy(&admin).await?;
        let istiod = Istiod::start(bed).await?;
        apps.wait_ready(&admin, SOON).await?;
        let here = apps.namespace.clone();
        rights::grant(&admin, "stornx", &[&here]).await?;
        let seen = Arc::new(Seen::start(&admin).await?);
        let telemetry = Telemetry::default();
        let shown = telemetry.show().await?;
        let pods = Pods::start(work, Arc::clone(&seen), telemetry.clone()).await?;
        let prometheus = bed.start_prometheus(&Scrape::each_second([shown.address])).await?;
        let (log, host) = (Log::default(), format!("cart.{here}.svc.cluster.local"));
        let sink: Sink = {
            let log = log.clone();
            Arc::new(move |answer: Answer| {
                log.0.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
            })
        };
        let entrances = apps::ready_pods(&admin, INGRESS, &format!("app={INGRESS}")).await?;
        let (mut callers, mut loads) = (Vec::new(), BTreeMap::new());
        for ((zone, name), rate) in
            ZONES.into_iter().zip(["caller-a", "caller-b", "caller-c"]).zip(rates)
        {
            let of_zone = |pod: &&k8s_openapi::api::core::v1::Pod| {
                let name = format!("{INGRESS}/{}", pod.name_any());
                seen.zone_of(&name).as_deref() == Some(zone)
            };
            until("an entrance of the zone", SOON, || {
                let found = entrances.iter().any(|pod| of_zone(&pod));
                std::future::ready(if found { Ok(()) } else { Err(zone) })
            })
            .await?;
            let pod = entrances.iter().find(of_zone).ok_or("an entrance of the zone")?;
            let place = Place {
                region: "region-1".to_owned(),
                zone: zone.to_owned(),
                subzone: String::new(),
            };
            let caller = Caller::of_pod(bed, &istiod, &Identity::of(name, pod, place)).await?;
            until("the caller to know endpoints", SOON, || async {
                let groups = caller.groups(&host).await?;
                if groups.is_empty() { Err("none".to_owned()) } else { Ok(()) }
            })
            .await?;
            telemetry.hear(&seen, caller.statistics())?;
            loads.insert(zone, Load::start(&caller, &host, rate, Arc::clone(&sink)));
            callers.push(caller);
        }
        Ok(Self {
            admin,
            here,
            host,
            seen,
            pods,
            prometheus,
            log,
            loads,
            telemetry,
            _callers: callers,
            _istiod: istiod,
            _shown: shown,
        })
    }

    /// Waits until Prometheus has rates of every caller.
    pub(crate) async fn rates_are_known(&self) -> TestResult {
        let rates = "rate(istio_requests_total{reporter=\"source\"}[5s]) > 0";
        until("rates", SOON, || async {
            let found = self.prometheus.query(rates).await.map_err(|error| error.to_string())?;
            if found.len() < 3 { Err(format!("{} series", found.len())) } else { Ok(()) }
        })
        .await?;
        Ok(())
    }

    /// What the Envoys count by themselves, against what the loads have seen: of each caller
    /// every status, nothing more and hardly less: an Envoy that is told a cluster anew
    /// forgets what it counted of it in the second since it was asked. Fits once nothing is under
    /// way; gives the share that went to other zones, by the Envoys.
    pub(crate) async fn envoys_agree(&self) -> Result<f64, String> {
        /// Requests of a caller that may be forgotten.
        const FORGOTTEN: f64 = 0.05;
        let answers = self.log.all();
        let (mut crossed, mut came) = (0, 0);
        for (from, hosts) in self.telemetry.counted().await {
            let counted = hosts.get(&self.host).cloned().unwrap_or_default();
            let mut seen: BTreeMap<u16, u64> = BTreeMap::new();
            for answer in answers.iter().filter(|one| *one.from == *from && one.code != 0) {
                *seen.entry(answer.code).or_default() += 1;
            }
            let few = |code: &u16| 5.0 + count(seen.get(code).copied().unwrap_or(0)) * FORGOTTEN;
            let fits = seen.keys().chain(counted.codes.keys()).all(|code| {
                let seen = seen.get(code).copied().unwrap_or(0);
                let counted = counted.codes.get(code).copied().unwrap_or(0);
                counted <= seen && count(seen - counted) <= few(code)
            });
            if !fits {
                return Err(format!("{from}: Envoy counts {:?}, the load {seen:?}", counted.codes));
            }
            let home = self.seen.zone_of(&from).unwrap_or_default();
            for (zone, requests) in &counted.zones {
                came += requests;
                crossed += if *zone == home { 0 } else { *requests };
            }
        }
        Ok(count(crossed) / count(came.max(1)))
    }

    /// The zone of a pod.
    pub(crate) fn zone(&self, pod: IpAddr) -> String {
        self.seen.pod(pod).map(|pod| pod.zone).unwrap_or_default()
    }

    /// Share of the answers that came from another zone than the caller's.
    pub(crate) fn cross_zone(&self, answers: &[Answer]) -> f64 {
        let came: Vec<_> =
            answers.iter().filter_map(|one| Some((&one.from, *one.by.as_ref().ok()?))).collect();
        let crossed = came
            .iter()
            .filter(|(from, pod)| self.seen.zone_of(from).unwrap_or_default() != self.zone(*pod));
        share(crossed.count(), came.len())
    }

    /// Share of the answers to callers of a zone that came from that zone.
    pub(crate) fn at_home(&self, zone: &str, answers: &[Answer]) -> f64 {
        let own = |one: &&Answer| self.seen.zone_of(&one.from).as_deref() == Some(zone);
        let own: Vec<Answer> = answers.iter().filter(own).cloned().collect();
        1.0 - self.cross_zone(&own)
    }
}

#[allow(clippy::cast_precision_loss)] // Far below 2^53.
fn count(requests: u64) -> f64 {
    requests as f64
}

/// A share of a count; of nothing it is all.
pub(crate) fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        return 1.0;
    }
    #[allow(clippy::cast_precision_loss)] // Far below 2^53.
    {
        part as f64 / whole as f64
    }
}
