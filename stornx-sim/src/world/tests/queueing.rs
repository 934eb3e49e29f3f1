//! The queueing stations against the formulas of the textbooks.

use super::*;

/// Mean response time in ms of a service with one replica (or so many).
fn response(
    replicas: u32,
    workers: u32,
    work: &str,
    rate: f64,
    seconds: u64,
    balancer: &str,
) -> (f64, SimWorld) {
    let world = world(
        &format!(
            "\
network: {{sameNodeMs: 0, sameZoneMs: 0, sameRegionMs: 0, loadBalancer: {balancer}}}
services:
  - name: s
    replicas: {replicas}
    placement: {{zones: {{a: {replicas}}}}}
    requests: {{cpu: 100m, memory: 64Mi}}
    concurrency: {{workers: {workers}, queue: 1000000}}
    work: {work}
entries: [{{service: s, rates: {{a: {rate}}}, timeout: 1h}}]
warmUp: 20s
duration: {}s
",
            seconds + 20
        ),
        7,
    );
    world.advance_to(world.end());
    let measured = world.measurements();
    assert_eq!(measured.requests.failed, 0);
    (measured.latency.mean().unwrap().get(), world)
}

fn close(value: f64, expected: f64, tolerance: f64) {
    assert!((value / expected - 1.0).abs() < tolerance, "{value}, expected {expected}");
}

#[test]
fn one_exponential_worker_waits_as_m_m_1() {
    let (mean, _) = response(1, 1, "{meanMs: 10}", 70.0, 10_000, "leastRequest");
    close(mean, 1000.0 / (100.0 - 70.0), 0.03);
}

#[test]
fn several_workers_wait_as_m_m_c() {
    // Erlang C with 4 servers and 3.2 erlangs.
    let (servers, load) = (4_u32, 3.2_f64);
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..servers {
        term *= load / f64::from(k);
        sum += term;
    }
    let last = term * load / f64::from(servers) * f64::from(servers) / (f64::from(servers) - load);
    let waits = last / (sum + last);
    let expected = 10.0 + waits * 10.0 / (f64::from(servers) - load);
    let (mean, _) = response(1, servers, "{meanMs: 10}", 320.0, 3_000, "leastRequest");
    close(mean, expected, 0.03);
}

#[test]
fn other_work_waits_as_pollaczek_and_khinchine_say() {
    for (work, squared_variation) in [
        ("{meanMs: 10, distribution: deterministic}", 0.0),
        ("{meanMs: 10, distribution: lognormal, variation: 1.5}", 2.25),
    ] {
        let load = 0.7;
        let expected = 10.0 + 10.0 * load * (1.0 + squared_variation) / (2.0 * (1.0 - load));
        let (mean, _) = response(1, 1, work, 70.0, 10_000, "leastRequest");
        close(mean, expected, 0.05);
    }
}

#[test]
fn two_choices_wait_as_the_supermarket_model_says() {
    // With many servers at load r: sum over i of r^(2^i - 2) mean services.
    let expected: f64 = (1..10).map(|i| 0.9_f64.powi(2_i32.pow(i) - 2)).sum::<f64>() * 10.0;
    let (mean, _) = response(100, 1, "{meanMs: 10}", 9000.0, 60, "leastRequest");
    close(mean, expected, 0.1);
}

#[test]
fn in_flight_is_rate_times_time_and_busy_is_rate_times_work() {
    let world = world(
        "\
services:
  - name: s
    replicas: 3
    placement: {zones: {a: 1, b: 1, c: 1}}
    requests: {cpu: 1, memory: 64Mi}
    concurrency: {workers: 2, queue: 100000}
    work: {meanMs: 20}
entries: [{service: s, rates: {a: 60, b: 60, c: 60}}]
warmUp: 1m
duration: 70m
",
        3,
    );
    world.advance_to(at(60));
    let (mut sum, mut count) = (0_u64, 0_u64);
    for second in 61..=4200 {
        world.advance_to(at(second));
        sum += world.measurements().requests.in_flight;
        count += 1;
    }
    let measured = world.measurements();
    let mean = measured.latency.mean().unwrap().get() / 1000.0;
    #[allow(clippy::cast_precision_loss)]
    let (seen, arrived) = (sum as f64 / count as f64, measured.requests.arrived as f64);
    close(seen, arrived / 4140.0 * mean, 0.03);
    // 180/s of 20 ms on six workers: 60 % busy.
    let reported: Vec<f64> =
        measured.samples.iter().flat_map(|s| s.zone_utilisation.values().copied()).collect();
    #[allow(clippy::cast_precision_loss)]
    close(reported.iter().sum::<f64>() / reported.len() as f64, 0.6, 0.03);
}

#[test]
fn cpu_that_is_not_there_stretches_work() {
    // Eight always busy workers want eight cores; the limit of a replica is two.
    let rest = |limits: &str| {
        format!(
            "\
services:
  - name: s
    replicas: 1
    requests: {{cpu: 100m, memory: 64Mi}}
    {limits}
    concurrency: {{workers: 8, queue: 10}}
    work: {{meanMs: 10, distribution: deterministic}}
entries: [{{service: s, rates: {{a: 2000}}, retries: 0}}]
duration: 1m
"
        )
    };
    let served = |limits: &str| {
        let world = world(&rest(limits), 1);
        world.advance_to(world.end());
        world.measurements().requests.succeeded
    };
    let (free, limited) = (served(""), served("limits: {cpu: 2, memory: 64Mi}"));
    // 800 and 200 per second.
    assert!((47_000..48_100).contains(&free), "{free}");
    assert!((11_700..12_700).contains(&limited), "{limited}");
}
