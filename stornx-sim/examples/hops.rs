//! How fast the simulator is: calls served by a replica per second of one core, on a
//! shop of eleven services in three zones.
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
    let clock = Instant::now();
    world.advance_to(SimWorld::start().after(Span::from_seconds(10 + seconds)));
    let took = clock.elapsed().as_secs_f64();
    let hops = world.hops() - before;
    #[allow(clippy::cast_precision_loss)]
    let rate = hops as f64 / took;
    println!("{hops} hops in {took:.2} s: {:.2} million hops per second", rate / 1e6);
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
