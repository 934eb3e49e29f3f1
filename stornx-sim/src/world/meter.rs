//! Records the truth. Decisions never see it.

use std::collections::VecDeque;

use super::{
    ByDistance, Failures, Histogram, Measurements, RequestCounts, Sample, ServiceZonePeak,
    agenda::{Kind, Nanos, SECOND},
    measure::share,
    model::{Model, nanos},
    state::{Outcome, Phase, World},
};
use crate::world::Routing;

/// A utilisation window is made of pieces: it slides by one piece at a time.
const PIECES: usize = 6;

/// Busy and available worker time.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    busy: u64,
    workers: u64,
}

impl Use {
    fn add(&mut self, other: Self) {
        self.busy += other.busy;
        self.workers += other.workers;
    }

    #[allow(clippy::cast_precision_loss)]
    fn utilisation(self) -> f64 {
        if self.workers == 0 { 0.0 } else { self.busy as f64 / self.workers as f64 }
    }
}

/// The recorder.
#[derive(Debug)]
pub(crate) struct Meter {
    zones: usize,
    measure_from: Nanos,
    pub(crate) requests: RequestCounts,
    latency: Histogram,
    latency_by_zone: Vec<Histogram>,
    /// By distance.
    pub(crate) hops: [u64; 4],
    pub(crate) bytes: [u64; 4],
    pub(crate) retries: u64,
    pub(crate) failures: Failures,
    pub(crate) rule_writes: u64,
    pub(crate) moves: u64,
    pub(crate) scale_actions: u64,
    /// Replica-nanoseconds.
    replica_time: u128,
    /// Of the current piece, what [`World::reported_utilisation`] has told, by service
    /// and zone.
    reported: Vec<Use>,
    /// Pieces of the window, each by service and zone.
    pieces: VecDeque<Vec<Use>>,
    peak_zone: Vec<f64>,
    peak_service: Vec<f64>,
    samples: Vec<Sample>,
    /// Since the last sample.
    since: Histogram,
    since_failed: u64,
    since_hops: [u64; 4],
    since_use: Vec<Use>,
}

impl Meter {
    pub(crate) fn new(model: &Model, measure_from: Nanos) -> Self {
        let zones = model.zones.len();
        Self {
            zones,
            measure_from,
            requests: RequestCounts::default(),
            latency: Histogram::default(),
            latency_by_zone: vec![Histogram::default(); zones],
            hops: [0; 4],
            bytes: [0; 4],
            retries: 0,
            failures: Failures::default(),
            rule_writes: 0,
            moves: 0,
            scale_actions: 0,
            replica_time: 0,
            reported: vec![Use::default(); zones * model.services.len()],
            pieces: VecDeque::new(),
            peak_zone: vec![0.0; zones],
            peak_service: vec![0.0; zones * model.services.len()],
            samples: Vec::new(),
            since: Histogram::default(),
            since_failed: 0,
            since_hops: [0; 4],
            since_use: vec![Use::default(); zones],
        }
    }

    /// A request of a user has ended.
    pub(crate) fn user_request(&mut self, nanos: Nanos, succeeded: bool, zone: usize) {
        self.latency.record(nanos);
        self.latency_by_zone[zone].record(nanos);
        self.since.record(nanos);
        if succeeded {
            self.requests.succeeded += 1;
        } else {
            self.requests.failed += 1;
            self.since_failed += 1;
        }
    }

    #[inline]
    pub(crate) fn failed_attempt(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Succeeded => {}
            Outcome::Refused => self.failures.refused += 1,
            Outcome::Unreachable => self.failures.unreachable += 1,
            Outcome::NoEndpoint => self.failures.no_endpoint += 1,
            Outcome::Downstream => self.failures.downstream += 1,
            Outcome::GivenUp => self.failures.timed_out += 1,
        }
    }

    fn in_flight(&self) -> u64 {
        let r = &self.requests;
        (r.in_flight_before + r.arrived) - (r.succeeded + r.failed)
    }
}

fn by_distance(counts: [u64; 4]) -> ByDistance {
    let [same_node, same_zone, cross_zone, cross_region] = counts;
    ByDistance { same_node, same_zone, cross_zone, cross_region }
}

impl World {
    /// The warm-up is over. What controllers did counts from the beginning of the run: the way
    /// to a good state is part of its price.
    pub(crate) fn measure_start(&mut self) {
        let meter = &mut self.meter;
        let in_flight_before = meter.in_flight();
        meter.requests = RequestCounts { in_flight_before, ..RequestCounts::default() };
        meter.latency.clear();
        meter.latency_by_zone.iter_mut().for_each(Histogram::clear);
        // What the curves have not shown yet of the warm-up's hops stays with them.
        for (since, hops) in meter.since_hops.iter_mut().zip(meter.hops) {
            *since = since.wrapping_sub(hops);
        }
        meter.hops = [0; 4];
        meter.bytes = [0; 4];
        meter.retries = 0;
        meter.failures = Failures::default();
        meter.replica_time = 0;
    }

    /// Length of a piece of the utilisation window.
    pub(crate) fn piece_length(&self) -> Nanos {
        nanos(self.scenario.measure.utilisation_window) / PIECES as u64
    }

    /// A piece of the utilisation window is over.
    pub(crate) fn piece(&mut self) {
        let zones = self.meter.zones;
        let ingress = self.model.ingress();
        let length = self.piece_length();
        let mut uses = vec![Use::default(); zones * ingress];
        for service in 0..ingress {
            for place in 0..self.services[service].pods.len() {
                let pod = self.services[service].pods[place];
                self.flush(pod);
                let state = &mut self.pods[pod as usize];
                if state.phase != Phase::Pending {
                    self.meter.replica_time += u128::from(length);
                    let piece = Use {
                        busy: std::mem::take(&mut state.busy_time),
                        workers: std::mem::take(&mut state.worker_time),
                    };
                    uses[service * zones + state.zone as usize].add(piece);
                }
            }
        }
        let meter = &mut self.meter;
        for (place, piece) in uses.iter().enumerate() {
            meter.since_use[place % zones].add(*piece);
        }
        meter.reported.fill(Use::default());
        meter.pieces.push_back(uses);
        if meter.pieces.len() > PIECES {
            meter.pieces.pop_front();
        }
        let window = nanos(self.scenario.measure.utilisation_window);
        if meter.pieces.len() == PIECES && self.now >= meter.measure_from + window {
            let mut by_zone = vec![Use::default(); zones];
            for place in 0..zones * ingress {
                let mut sum = Use::default();
                for piece in &meter.pieces {
                    sum.add(piece[place]);
                }
                by_zone[place % zones].add(sum);
                // A replica that was Ready for a moment only says nothing.
                if sum.workers >= window {
                    let peak = &mut meter.peak_service[place];
                    *peak = peak.max(sum.utilisation());
                }
            }
            for (peak, sum) in meter.peak_zone.iter_mut().zip(by_zone) {
                *peak = peak.max(sum.utilisation());
            }
        }
        self.agenda.add(self.now + length, Kind::Piece, 0, 0);
    }

    /// Utilisation of the workers of a service in a zone since it was last asked for
    /// (at most since the current piece began): what replicas report about themselves
    /// with their answers. Asked again at once, or just after a piece began, it is that
    /// of the last piece.
    pub(crate) fn reported_utilisation(&mut self, service: usize, zone: usize) -> Option<f64> {
        let mut now = Use::default();
        for place in 0..self.services[service].pods.len() {
            let pod = self.services[service].pods[place];
            self.flush(pod);
            let state = &self.pods[pod as usize];
            if state.phase != Phase::Pending && state.zone as usize == zone {
                now.add(Use { busy: state.busy_time, workers: state.worker_time });
            }
        }
        let place = service * self.meter.zones + zone;
        let reported = &mut self.meter.reported[place];
        let since = Use {
            busy: now.busy.saturating_sub(reported.busy),
            workers: now.workers.saturating_sub(reported.workers),
        };
        // Half a second of one worker holds too few requests to say anything.
        if since.workers >= SECOND / 2 {
            *reported = now;
            return Some(since.utilisation());
        }
        let last = self.meter.pieces.back()?.get(place)?;
        (last.workers > 0).then(|| last.utilisation())
    }

    /// A point of the curves.
    pub(crate) fn sample(&mut self) {
        let zones = self.model.zones.len();
        let mut ready = std::collections::BTreeMap::new();
        let mut weights = std::collections::BTreeMap::new();
        for service in 0..self.model.ingress() {
            let host = &self.model.services[service].host;
            let state = &self.services[service];
            ready.insert(host.clone(), self.ready_by_zone(service));
            if let Routing::Weights(table) = &state.routing {
                weights.insert(host.clone(), table.clone());
            }
        }
        let meter = &mut self.meter;
        let mut hops = [0_u64; 4];
        for (place, count) in hops.iter_mut().enumerate() {
            *count = meter.hops[place].wrapping_sub(meter.since_hops[place]);
        }
        meter.since_hops = meter.hops;
        let hops = by_distance(hops);
        let since = std::mem::take(&mut meter.since);
        let uses = std::mem::replace(&mut meter.since_use, vec![Use::default(); zones]);
        meter.samples.push(Sample {
            at: stornx_core::units::Span::from_millis(self.now / 1_000_000),
            requests: since.count(),
            failed: std::mem::take(&mut meter.since_failed),
            p50: since.quantile(0.5),
            p95: since.quantile(0.95),
            p99: since.quantile(0.99),
            cross_zone_share: share(hops.cross_zone + hops.cross_region, hops.total()),
            zone_utilisation: self
                .model
                .zones
                .iter()
                .zip(uses)
                .map(|(zone, part)| (zone.name.clone(), part.utilisation()))
                .collect(),
            ready,
            weights,
        });
        let next = self.now + nanos(self.scenario.measure.sample_interval);
        self.agenda.add(next, Kind::Sample, 0, 0);
    }

    /// What was measured so far.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn measurements(&self) -> Measurements {
        let meter = &self.meter;
        let zone = |z: usize| self.model.zones[z].name.clone();
        let mut peaks = Vec::new();
        for (place, peak) in meter.peak_service.iter().enumerate() {
            let (service, z) = (place / meter.zones, place % meter.zones);
            if *peak > 0.0 {
                peaks.push(ServiceZonePeak {
                    host: self.model.services[service].host.clone(),
                    zone: zone(z),
                    utilisation: *peak,
                });
            }
        }
        let measured = self.now.saturating_sub(meter.measure_from);
        Measurements {
            measured: stornx_core::units::Span::from_millis(measured / 1_000_000),
            requests: RequestCounts { in_flight: meter.in_flight(), ..meter.requests },
            latency: meter.latency.clone(),
            latency_by_zone: meter
                .latency_by_zone
                .iter()
                .enumerate()
                .map(|(z, latency)| (zone(z), latency.clone()))
                .collect(),
            hops: by_distance(meter.hops),
            bytes: by_distance(meter.bytes),
            retries: meter.retries,
            failures: meter.failures,
            peak_zone_utilisation: meter
                .peak_zone
                .iter()
                .enumerate()
                .map(|(z, peak)| (zone(z), *peak))
                .collect(),
            peak_service_utilisation: peaks,
            replica_hours: meter.replica_time as f64 / (3600.0 * SECOND as f64),
            rule_writes: meter.rule_writes,
            moves: meter.moves,
            scale_actions: meter.scale_actions,
            samples: meter.samples.clone(),
        }
    }
}
