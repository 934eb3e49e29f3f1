//! What StornX sees in a Prometheus, for a cluster that was recorded:
//! `cargo run -p stornx-prom --example observe -- URL SNAPSHOT.json [WINDOW_S MAX_AGE_S]`.
//! Prints the snapshot with its metrics replaced.

use std::{
    error::Error,
    time::{SystemTime, UNIX_EPOCH},
};

use stornx_core::{
    model::{ClusterFacts, Snapshot},
    ports::MetricsSource,
    units::{Span, Timestamp},
};
use stornx_prom::{Prometheus, PrometheusOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, file, spans @ ..] = arguments.as_slice() else {
        return Err("expected URL SNAPSHOT.json [WINDOW_S MAX_AGE_S]".into());
    };
    let mut options = PrometheusOptions::builder(url);
    if let [window, age] = spans {
        options = options
            .rate_window(Span::from_seconds(window.parse()?))
            .max_sample_age(Span::from_seconds(age.parse()?));
    }
    let snapshot: Snapshot = serde_json::from_slice(&std::fs::read(file)?)?;
    let Snapshot { nodes, workloads, hosts, mesh, steering, .. } = snapshot;
    let cluster = ClusterFacts { nodes, workloads, hosts, mesh, steering };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now = Timestamp::from_millis(u64::try_from(now.as_millis())?);
    let source = Prometheus::new(options.build()?)?;
    let metrics = source.observe(&cluster, now).await;
    println!("{}", serde_json::to_string_pretty(&Snapshot::assemble(cluster, metrics, now))?);
    eprintln!("{:#?}", source.stats());
    Ok(())
}
