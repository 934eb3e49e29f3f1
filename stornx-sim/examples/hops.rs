//! How fast the simulator is: calls served by a replica per second of one core, on a
//! shop of eleven services in three zones. The second figure counts the processor time
//! that the run was given, which on a busy machine is less than the time that passed.
//!
//! `cargo run --release -p stornx-sim --example hops [SECONDS OF VIRTUAL TIME]`

use std::{error::Error, time::Instant};

use stornx_core::units::Span;
use stornx_sim::{scenario::Scenario, world::SimWorld};

const SHOP: &str = include_str!("shop.yaml");

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(600), |text| text.parse())?;
    let scenario = Scenario::parse("shop.yaml", SHOP)?;
    let world = SimWorld::new(&scenario, 1)?;
    // Grow the arena and fill the queues before the clock runs.
    world.advance_to(SimWorld::start().after(Span::from_seconds(10)));
    let before = world.hops();
    let (clock, used) = (Instant::now(), processor_seconds());
    world.advance_to(SimWorld::start().after(Span::from_seconds(10 + seconds)));
    let took = clock.elapsed().as_secs_f64();
    let hops = world.hops() - before;
    #[allow(clippy::cast_precision_loss)]
    let millions = hops as f64 / 1e6;
    println!("{hops} hops in {took:.2} s: {:.2} million hops per second", millions / took);
    if let (Some(before), Some(after)) = (used, processor_seconds())
        && after > before
    {
        let used = after - before;
        println!("{used:.2} s of processor time: {:.2} million hops per second", millions / used);
    }
    let measured = world.measurements();
    println!(
        "{} requests, {} failed, p50 {:?}, p99 {:?}, peak utilisation {:.2}, cross-zone {:?}",
        measured.requests.arrived,
        measured.requests.failed,
        measured.latency.quantile(0.5),
        measured.latency.quantile(0.99),
        measured.peak_utilisation(),
        measured.hops.cross_zone_share(),
    );
    Ok(())
}

/// Processor time of this process so far, where the system shows it as Linux does, in
/// steps of a hundredth of a second.
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may hold spaces; the 12th and 13th
    // fields after it are user and system time.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: f64 = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}
