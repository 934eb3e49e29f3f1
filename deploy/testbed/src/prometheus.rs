//! The real Prometheus, scraping what a test names.
//!
//! Targets keep their own labels (`honor_labels`): one endpoint can stand for many
//! pods, each series with the labels that a scrape of that pod would have given it.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use crate::{
    cluster::{Server, TestBed},
    dirs,
    error::{BedError, Result},
    ports,
    process::Start,
    programs::Program,
    wait::until,
};

/// How long Prometheus may take to start.
const STARTED: Duration = Duration::from_secs(30);

/// What Prometheus scrapes.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// Addresses that serve `/metrics`.
    pub targets: Vec<SocketAddr>,
    /// Time between two scrapes; also the time limit of one.
    pub interval: Duration,
    /// Port to listen on; one that is free when absent.
    pub port: Option<u16>,
}

impl Scrape {
    /// These targets, each second.
    #[must_use]
    pub fn each_second(targets: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            targets: targets.into_iter().collect(),
            interval: Duration::from_secs(1),
            port: None,
        }
    }
}

/// A Prometheus that runs.
#[derive(Debug, Clone)]
pub struct Prometheus {
    /// Where it listens.
    pub address: SocketAddr,
}

impl Prometheus {
    /// `http://address`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The samples of an instant query: the `result` of a vector.
    ///
    /// # Errors
    /// When Prometheus does not answer or refuses the query.
    pub async fn query(&self, query: &str) -> Result<Vec<Value>> {
        let failed = |detail: String| BedError::Invalid { what: format!("query {query}"), detail };
        let url = reqwest::Url::parse_with_params(
            &format!("{}/api/v1/query", self.url()),
            [("query", query)],
        )
        .map_err(|error| failed(error.to_string()))?;
        let text = get(url).await.map_err(failed)?;
        let mut answer: Value =
            serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        match answer["data"]["result"].take() {
            Value::Array(samples) => Ok(samples),
            _ => Err(failed(text)),
        }
    }
}

async fn get(url: reqwest::Url) -> Result<String, String> {
    let text = async { reqwest::get(url).await?.error_for_status()?.text().await };
    text.await.map_err(|error| error.to_string())
}

/// The configuration file, as JSON, which is YAML.
fn configuration(scrape: &Scrape) -> String {
    let interval = format!("{}ms", scrape.interval.as_millis());
    let targets: Vec<String> = scrape.targets.iter().map(SocketAddr::to_string).collect();
    let text = json!({
        "global": {"scrape_interval": interval, "scrape_timeout": interval},
        "scrape_configs": [{
            "job_name": "testbed",
            "honor_labels": true,
            "static_configs": [{"targets": targets}],
        }],
    });
    format!("{text:#}\n")
}

/// Starts Prometheus and waits until it answers.
pub(crate) async fn start(bed: &TestBed, scrape: &Scrape) -> Result<Prometheus> {
    let port = scrape.port.map_or_else(ports::free, Ok)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let file = bed.folder().join("prometheus.yaml");
    dirs::write(&file, configuration(scrape))?;
    bed.run(
        Server::Prometheus,
        Start {
            name: Server::Prometheus.name(),
            program: bed.programs().path(Program::Prometheus).to_path_buf(),
            arguments: vec![
                format!("--config.file={}", file.display()),
                format!("--storage.tsdb.path={}", bed.folder().join("prometheus").display()),
                format!("--web.listen-address={address}"),
                "--log.level=warn".to_owned(),
            ],
            folder: bed.folder().to_path_buf(),
        },
    )?;
    wait_ready(bed, address).await?;
    Ok(Prometheus { address })
}

/// Waits until Prometheus answers queries.
pub(crate) async fn wait_ready(bed: &TestBed, address: SocketAddr) -> Result<()> {
    let url = format!("http://{address}/-/ready");
    let url = reqwest::Url::parse(&url)
        .map_err(|error| BedError::Invalid { what: url.clone(), detail: error.to_string() })?;
    bed.while_running(Server::Prometheus, until("Prometheus", STARTED, || get(url.clone())))
        .await?;
    Ok(())
}
