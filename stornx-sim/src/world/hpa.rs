//! The HorizontalPodAutoscaler, as its documentation describes the algorithm for a
//! resource metric of type utilisation, with the default behaviour of `autoscaling/v2`.

use std::collections::VecDeque;

use super::{
    agenda::{Kind, Nanos, SECOND},
    model::nanos,
    state::{Phase, World},
};

/// What an autoscaler remembers: when it wanted which count.
#[derive(Debug, Default)]
pub(crate) struct HpaState {
    wanted: VecDeque<(Nanos, u32)>,
    /// Its minimum, while a move holds it up.
    pub(crate) held: Option<u32>,
}

/// What it sees. Utilisation is CPU use over request, 1 for 100 %.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// `spec.replicas`.
    pub(crate) current: u32,
    /// Utilisation of the ready pods with metrics.
    pub(crate) ready: Vec<f64>,
    /// Ready pods without metrics yet.
    pub(crate) unknown: u32,
    /// Pods that are not ready yet.
    pub(crate) unready: u32,
}

/// The count that the metric asks for, before limits.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub(crate) fn wanted(seen: &Seen, target: f64, tolerance: f64) -> u32 {
    let measured = seen.ready.len() as f64;
    if seen.ready.is_empty() {
        return seen.current;
    }
    let sum: f64 = seen.ready.iter().sum();
    let ratio = sum / measured / target;
    let within = |ratio: f64| (ratio - 1.0).abs() <= tolerance;
    // Rounding noise must not add a replica.
    let whole = |count: f64| (count - 1e-9).ceil().max(0.0) as u32;
    if seen.unknown == 0 && (seen.unready == 0 || ratio <= 1.0) {
        return if within(ratio) { seen.current } else { whole(ratio * measured) };
    }
    // What is not known counts against a change: fully used when scaling down, idle
    // when scaling up; pods that are not ready yet are idle when scaling up.
    let (mut sum, mut count) = (sum, measured);
    if ratio < 1.0 {
        sum += f64::from(seen.unknown);
        count += f64::from(seen.unknown);
    } else {
        count += f64::from(seen.unknown + seen.unready);
    }
    let again = sum / count / target;
    let turned = (ratio < 1.0) != (again < 1.0);
    if within(again) || turned {
        return seen.current;
    }
    let count = whole(again * count);
    if (again < 1.0 && count > seen.current) || (again > 1.0 && count < seen.current) {
        return seen.current;
    }
    count
}

impl World {
    /// Every autoscaler looks.
    pub(crate) fn autoscale(&mut self) {
        let interval = nanos(self.scenario.cluster.hpa_interval);
        self.agenda.add(self.now + interval, Kind::Autoscale, 0, 0);
        for service in 0..self.model.ingress() {
            let seen = self.autoscaler_sees(service, interval);
            let Some(hpa) = self.model.services[service].hpa.clone() else { continue };
            let cluster = &self.scenario.cluster;
            let target = hpa.target_cpu_percent.get() / 100.0;
            let count = wanted(&seen, target, cluster.hpa_tolerance.get() / 100.0);
            // At most four pods or a doubling in one interval.
            let fastest = seen.current.saturating_mul(2).max(seen.current + 4);
            let min = self.services[service].hpa.held.unwrap_or(hpa.min);
            let count = count.clamp(min, hpa.max).min(fastest);
            let remembered = nanos(cluster.hpa_down_stabilisation);
            let memory = &mut self.services[service].hpa.wanted;
            memory.push_back((self.now, count));
            while memory.front().is_some_and(|(at, _)| at + remembered < self.now) {
                memory.pop_front();
            }
            let highest = memory.iter().map(|(_, count)| *count).max().unwrap_or(count);
            let count = if count < seen.current { highest.min(seen.current) } else { count };
            if count != seen.current && seen.current > 0 {
                self.services[service].desired = count;
                self.reconcile(service);
            }
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn autoscaler_sees(&mut self, service: usize, interval: Nanos) -> Seen {
        let request = self.model.services[service].requests.cpu.as_f64() / 1000.0;
        let seconds = interval as f64 / SECOND as f64;
        let mut seen = Seen {
            current: self.services[service].desired,
            ready: Vec::new(),
            unknown: 0,
            unready: 0,
        };
        for place in 0..self.services[service].pods.len() {
            let pod = self.services[service].pods[place];
            self.flush(pod);
            let state = &mut self.pods[pod as usize];
            match state.phase {
                Phase::Ready if state.alive => match state.cpu_seen.replace(state.cpu) {
                    Some(before) => seen.ready.push((state.cpu - before) / seconds / request),
                    None => seen.unknown += 1,
                },
                Phase::Ready => seen.unknown += 1,
                Phase::Pending | Phase::Starting | Phase::Unready => seen.unready += 1,
                Phase::Terminating | Phase::Gone => {}
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(current: u32, ready: &[f64], unknown: u32, unready: u32) -> Seen {
        Seen { current, ready: ready.to_vec(), unknown, unready }
    }

    #[test]
    fn the_formula_of_the_documentation() {
        // ceil(current x use / target), nothing within 10 %.
        for (ready, target, expected) in [
            (vec![1.0, 1.0], 0.5, 4),
            (vec![0.2, 0.2, 0.2, 0.2], 0.5, 2),
            (vec![0.54, 0.54], 0.5, 2),
            (vec![0.46, 0.46], 0.5, 2),
            (vec![0.56, 0.56], 0.5, 3),
            (vec![0.9, 0.1], 0.5, 2),
            (vec![0.0, 0.0], 0.5, 0),
        ] {
            let current = u32::try_from(ready.len()).unwrap();
            assert_eq!(wanted(&seen(current, &ready, 0, 0), target, 0.1), expected, "{ready:?}");
        }
    }

    #[test]
    fn what_is_not_known_counts_against_a_change() {
        // Up: two at 100 % of a target of 50 %, two not ready: (2 + 0) / 4 = 50 %.
        assert_eq!(wanted(&seen(4, &[1.0, 1.0], 0, 2), 0.5, 0.1), 4);
        // One of them ready without metrics only: 2 / 3 / 0.5 = 1.33, 3 pods: 4.
        assert_eq!(wanted(&seen(3, &[1.0, 1.0], 1, 0), 0.5, 0.1), 4);
        // Down: three at 10 % and one unknown, taken as 100 %: 1.3 / 4 / 0.5 = 0.65.
        assert_eq!(wanted(&seen(4, &[0.1, 0.1, 0.1], 1, 0), 0.5, 0.1), 3);
        // Nothing known: nothing done.
        assert_eq!(wanted(&seen(4, &[], 4, 0), 0.5, 0.1), 4);
    }
}
