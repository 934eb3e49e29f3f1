//! `stornx-testbed up`, in two processes. The one outside holds ports of 127.0.0.1 and
//! waits for Ctrl-C. The one inside the namespace holds the cluster, says on one line of
//! JSON when it is there, and ends when its standard input does: whatever happens to the
//! process outside, the cluster does not outlive it.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use stornx_testbed::{
    NodeSpec, Options, Programs, TestBed,
    apps::{Boutique, boutique_scenario},
    cluster::ADMIN,
    emulate::{Emulation, Settings},
    forward, namespace,
    prometheus::Scrape,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    signal::unix::{SignalKind, signal},
};

/// How long the inside may take to end: it has data to delete.
const ENDED: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    cluster: Cluster,
    /// Port of 127.0.0.1 for the API server; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Port of 127.0.0.1 for Prometheus; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    prometheus_port: u16,
    /// Where the kubeconfig is written; `testbed/kubeconfig` of the build folder when
    /// absent.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Cluster {
    /// Nodes, over three zones; those of the boutique when absent.
    #[arg(long)]
    nodes: Option<usize>,
    /// Seconds that pass for the traffic in one second: 10 shows what an hour brings in
    /// six minutes.
    #[arg(long, default_value_t = 1.0)]
    factor: f64,
    /// Keeps the data folder, with all logs.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Inside {
    #[command(flatten)]
    cluster: Cluster,
    /// Where people reach the API server.
    #[arg(long)]
    url: String,
}

/// What the inside says when it is ready.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    api_server: PathBuf,
    prometheus: PathBuf,
    kubeconfig: String,
    nodes: usize,
    pods: u32,
}

pub(crate) fn inside(arguments: &Inside) -> Result<()> {
    namespace::enter()?;
    tokio::runtime::Runtime::new()?.block_on(hold(arguments))
}

async fn hold(arguments: &Inside) -> Result<()> {
    let start = Instant::now();
    let mut options = Options { keep: arguments.cluster.keep, ..Options::default() };
    if let Some(count) = arguments.cluster.nodes {
        options.nodes = NodeSpec::many(count);
    }
    let nodes = options.nodes.len();
    // Where the defaults of the controllers begin to be felt.
    let many = nodes > 50;
    options.large = many;
    let bed = TestBed::start(options).await?;
    eprintln!("testbed: {nodes} nodes after {:.1} s", start.elapsed().as_secs_f64());

    let boutique = Boutique::new();
    let admin = bed.client(ADMIN).await?;
    boutique.deploy(&admin).await?;
    boutique.wait_ready(&admin, Duration::from_secs(60)).await?;
    let traffic = Settings::new(boutique_scenario().clone()).faster(arguments.cluster.factor);
    let emulation = Emulation::start(&admin, traffic).await?;
    let mut scrape = Scrape::each_second([emulation.address()]);
    if many {
        // Round-trip times between all pairs of nodes: 90,000 series for 300 of them.
        scrape.interval = Duration::from_secs(15);
    }
    let prometheus = bed.start_prometheus(&scrape).await?;
    eprintln!(
        "testbed: {} pods, traffic and Prometheus after {:.1} s; memory: {}",
        boutique.pods(),
        start.elapsed().as_secs_f64(),
        memory(&bed)
    );

    let ready = Ready {
        api_server: bed.folder().join("api.sock"),
        prometheus: bed.folder().join("prometheus.sock"),
        kubeconfig: bed.kubeconfig_at(ADMIN, &arguments.url)?,
        nodes,
        pods: boutique.pods(),
    };
    let api_server = SocketAddr::from(([127, 0, 0, 1], bed.api_server_port()));
    let _forwards = (
        forward::to_port(&ready.api_server, api_server)?,
        forward::to_port(&ready.prometheus, prometheus.address)?,
    );
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&ready)?)?;
    let outside_gone = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(outside_gone).await??;
    Ok(())
}

fn memory(bed: &TestBed) -> String {
    let megabytes = |bytes: u64| bytes / 1_000_000;
    let all = bed.memory();
    let each = all.iter().map(|(server, bytes)| format!("{} {}", server.name(), megabytes(*bytes)));
    let each = each.collect::<Vec<_>>().join(", ");
    format!("{each}, together {} MB", megabytes(all.values().sum()))
}

pub(crate) fn outside(arguments: &Up) -> Result<()> {
    Programs::ensure()?;
    tokio::runtime::Runtime::new()?.block_on(show(arguments))
}

async fn show(arguments: &Up) -> Result<()> {
    let api_server = forward::listen(arguments.port).await?;
    let prometheus = forward::listen(arguments.prometheus_port).await?;
    let url = format!("https://{}", api_server.local_addr()?);
    let prometheus_url = format!("http://{}", prometheus.local_addr()?);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let mut child = start(&arguments.cluster, &url)?;
    // Held here, because waiting for a child closes its standard input.
    let open = child.stdin.take();
    let output = child.stdout.take().context("the inside has no output")?;
    let mut line = String::new();
    let mut output = BufReader::new(output);
    tokio::select! {
        read = output.read_line(&mut line) => { read?; }
        _ = interrupt.recv() => return end(child, open).await,
        _ = terminate.recv() => return end(child, open).await,
    }
    if line.is_empty() {
        bail!("the cluster did not start: {}", child.wait().await?);
    }
    let ready: Ready = serde_json::from_str(&line)?;
    let _forwards = (
        forward::to_socket(api_server, ready.api_server.clone()),
        forward::to_socket(prometheus, ready.prometheus.clone()),
    );
    let usual = || stornx_testbed::folder().join("kubeconfig");
    let kubeconfig = arguments.kubeconfig.clone().unwrap_or_else(usual);
    std::fs::write(&kubeconfig, &ready.kubeconfig)?;
    writeln!(
        std::io::stdout(),
        "{} nodes, the boutique's {} pods and its traffic are there:\n\n    kubectl --kubeconfig {file} get pods -A\n\n\
         StornX over it, from another terminal; it looks and writes nothing:\n\n    \
         export KUBECONFIG={file} ENV=development NAMESPACES=boutique PROMETHEUS_URL={prometheus_url}\n    \
         cargo run -- plan\n    DRY_RUN=true cargo run -- run\n\n\
         API server  {url}\nPrometheus  {prometheus_url}\n\nCtrl-C ends everything.",
        ready.nodes,
        ready.pods,
        file = shown(&kubeconfig).display(),
    )?;
    tokio::select! {
        status = child.wait() => bail!("the cluster ended: {}", status?),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    // Another run may have taken the name meanwhile.
    if std::fs::read_to_string(&kubeconfig).is_ok_and(|text| text == ready.kubeconfig) {
        std::fs::remove_file(&kubeconfig)?;
    }
    end(child, open).await
}

/// The path as one would type it here.
fn shown(path: &std::path::Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).to_path_buf()
}

fn start(cluster: &Cluster, url: &str) -> Result<Child> {
    let mut command = namespace::command(std::env::current_exe()?);
    command.arg("inside").args(["--url", url]);
    if let Some(nodes) = cluster.nodes {
        command.args(["--nodes", &nodes.to_string()]);
    }
    command.args(["--factor", &cluster.factor.to_string()]);
    if cluster.keep {
        command.arg("--keep");
    }
    // Ctrl-C of a terminal is for the outside alone, which ends the inside in order.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
    Command::from(command).kill_on_drop(true).spawn().context("start the inside")
}

/// Ends the inside by closing its standard input, or by force.
async fn end(mut child: Child, open: Option<ChildStdin>) -> Result<()> {
    drop(open);
    if tokio::time::timeout(ENDED, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}
