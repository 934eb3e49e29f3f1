//! A cluster: etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok,
//! started in this order, each once what it needs is there, and ended with the handle.
//!
//! Everything of one cluster lies in one folder: keys, tokens, kubeconfigs, the data of
//! etcd, one log for each server. Ports are free ones of 127.0.0.1, so that clusters run
//! side by side. Nothing is restarted by itself: a test that ends a server wants it so.

mod access;
mod arguments;
mod certificates;
mod compaction;
mod crds;
mod nodes;
mod options;
pub mod stages;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};

pub use access::ADMIN;
pub use options::{Crd, NodeSpec, Options, Server};

use crate::{
    dirs,
    error::{BedError, Result},
    ports,
    process::{Process, Start},
    programs::Programs,
    prometheus::{self, Prometheus, Scrape},
    wait::until,
};
use access::Access;

/// How long one server may take to start: ten times what was seen on two cores.
const STARTED: Duration = Duration::from_secs(60);

/// Between two looks whether a server still runs.
const LOOK: Duration = Duration::from_millis(100);

/// The ports of one cluster.
#[derive(Debug, Clone)]
struct Ports {
    etcd: u16,
    etcd_peer: u16,
    api_server: u16,
}

/// A cluster that runs. Its servers end when it is dropped; its folder goes too, unless
/// it is kept or the thread panics.
#[derive(Debug)]
pub struct TestBed {
    folder: PathBuf,
    programs: Programs,
    ports: Ports,
    access: Access,
    servers: Mutex<BTreeMap<Server, Process>>,
    prometheus: Mutex<Option<Prometheus>>,
    keep: AtomicBool,
}

impl TestBed {
    /// Starts a cluster and waits until its nodes take pods.
    ///
    /// # Errors
    /// When a server does not start, with the path of its log.
    pub async fn start(options: Options) -> Result<Self> {
        let programs = Programs::ensure()?;
        let folder = dirs::new_run()?;
        let access = Access::new(&options.users, folder.join(certificates::AUTHORITY));
        let ports =
            Ports { etcd: ports::free()?, etcd_peer: ports::free()?, api_server: ports::free()? };
        let bed = Self {
            folder,
            programs,
            ports,
            access,
            servers: Mutex::default(),
            prometheus: Mutex::default(),
            keep: AtomicBool::new(options.keep),
        };
        // A cluster that does not start leaves its logs.
        let keep = bed.keep.swap(true, Ordering::Relaxed);
        bed.write_files(&options)?;
        bed.start_servers(&options).await?;
        bed.keep.store(keep, Ordering::Relaxed);
        Ok(bed)
    }

    fn write_files(&self, options: &Options) -> Result<()> {
        certificates::write(&self.folder)?;
        dirs::write(&self.folder.join(arguments::TOKENS), self.access.token_file())?;
        dirs::write(
            &self.folder.join(arguments::STAGES),
            stages::configuration(options.ready_after, options.gone_after, options.large),
        )?;
        for user in self.access.users() {
            let text = self.access.kubeconfig(user, &self.url())?;
            dirs::write(&self.kubeconfig(user), text)?;
        }
        Ok(())
    }

    async fn start_servers(&self, options: &Options) -> Result<()> {
        let facts = arguments::Facts {
            folder: &self.folder,
            programs: &self.programs,
            ports: &self.ports,
            options,
            number: next_number(),
        };
        let wanted = |server| !options.without.contains(&server);
        for server in [Server::Etcd, Server::ApiServer] {
            self.run(server, facts.start(server))?;
            self.wait_started(server).await?;
        }
        for server in [Server::ControllerManager, Server::Scheduler, Server::Kwok] {
            if wanted(server) {
                self.run(server, facts.start(server))?;
            }
        }
        let admin = self.client(ADMIN).await?;
        nodes::create(&admin, &options.nodes).await?;
        for crd in &options.crds {
            crds::create(&admin, &self.programs, *crd).await?;
        }
        if wanted(Server::ControllerManager) {
            self.wait_started(Server::ControllerManager).await?;
        }
        if wanted(Server::ControllerManager) && wanted(Server::Kwok) {
            let ready = nodes::wait_ready(&admin, options.nodes.len());
            self.while_running(Server::Kwok, ready).await?;
        }
        Ok(())
    }

    /// Waits until a server does its work. Scheduler and kwok cannot be asked; what they
    /// do is waited for where it is needed.
    async fn wait_started(&self, server: Server) -> Result<()> {
        let name = server.name();
        match server {
            Server::Etcd => {
                let address = ("127.0.0.1", self.ports.etcd);
                let listens = || async { tokio::net::TcpStream::connect(address).await.map(drop) };
                self.while_running(server, until(name, STARTED, listens)).await
            }
            Server::ApiServer => {
                let client = self.client(ADMIN).await?;
                self.while_running(server, until(name, STARTED, || answers(&client))).await
            }
            // Pods are refused until this controller has made the account they run as.
            Server::ControllerManager => {
                let api: Api<ServiceAccount> = Api::default_namespaced(self.client(ADMIN).await?);
                let made = || async { api.get("default").await.map(drop) };
                self.while_running(server, until(name, STARTED, made)).await
            }
            Server::Scheduler | Server::Kwok => Ok(()),
            Server::Prometheus => {
                let running = lock(&self.prometheus).clone();
                let running = running.ok_or_else(|| absent(server))?;
                prometheus::wait_ready(self, running.address).await
            }
        }
    }

    /// The data folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps the data folder, for people who look for the cause of a failure.
    pub fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Where the API server listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.api_server)
    }

    /// The port of the API server on 127.0.0.1.
    #[must_use]
    pub fn api_server_port(&self) -> u16 {
        self.ports.api_server
    }

    /// The file with which a user reaches the API server from inside the place of the
    /// test bed.
    #[must_use]
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(access::file_name(user))
    }

    /// The text of a kubeconfig for a server at another address, e.g. a forwarded port.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn kubeconfig_at(&self, user: &str, url: &str) -> Result<String> {
        self.access.kubeconfig(user, url)
    }

    /// A client that speaks as a user ([`ADMIN`] or one of the options).
    ///
    /// # Errors
    /// When there is no such user.
    pub async fn client(&self, user: &str) -> Result<Client> {
        self.access.client(user, &self.url()).await
    }

    /// Starts Prometheus.
    ///
    /// # Errors
    /// When it does not start, with the path of its log.
    pub async fn start_prometheus(&self, scrape: &Scrape) -> Result<Prometheus> {
        let running = prometheus::start(self, scrape).await?;
        *lock(&self.prometheus) = Some(running.clone());
        Ok(running)
    }

    /// Ends a server at once, as a crash would.
    ///
    /// # Errors
    /// When it was never started.
    pub fn kill(&self, server: Server) -> Result<()> {
        self.with(server, |process| {
            process.end();
            Ok(())
        })
    }

    /// Starts a server again with the same arguments, after ending it if it still runs,
    /// and waits until it does its work.
    ///
    /// # Errors
    /// When it was never started or does not start.
    pub async fn restart(&self, server: Server) -> Result<()> {
        self.with(server, Process::restart)?;
        self.wait_started(server).await
    }

    /// Lets a server stand still: its connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self, server: Server) -> Result<()> {
        self.with(server, |process| process.pause())
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self, server: Server) -> Result<()> {
        self.with(server, |process| process.resume())
    }

    /// Process ids of the servers that run, as seen from inside.
    #[must_use]
    pub fn ids(&self) -> BTreeMap<Server, u32> {
        let servers = lock(&self.servers);
        servers.iter().filter_map(|(server, process)| Some((*server, process.id()?))).collect()
    }

    /// Resident memory of each server in bytes (Linux only).
    #[must_use]
    pub fn memory(&self) -> BTreeMap<Server, u64> {
        let servers = lock(&self.servers);
        servers.iter().filter_map(|(server, process)| Some((*server, process.memory()?))).collect()
    }

    /// Lets etcd forget everything before now: a watch cannot be opened from an earlier
    /// version any more, once the API server has no memory of its own of it (it is
    /// restarted, or runs with `--watch-cache=false`).
    ///
    /// # Errors
    /// When etcd refuses.
    pub async fn compact(&self) -> Result<()> {
        compaction::compact(&format!("http://127.0.0.1:{}", self.ports.etcd)).await
    }

    /// Does at once what the node controller does with a node that has been silent for
    /// its grace period: readiness unknown, pods not ready; or takes that back. Pods that
    /// start on it at this moment still become Ready.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn fail_node(&self, name: &str, failed: bool) -> Result<()> {
        nodes::fail(&self.client(ADMIN).await?, name, failed).await
    }

    /// Creates nodes in a running cluster; kwok makes them ready.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn add_nodes(&self, nodes: &[NodeSpec]) -> Result<()> {
        nodes::create(&self.client(ADMIN).await?, nodes).await
    }

    /// Creates a custom resource definition and waits until it is served.
    ///
    /// # Errors
    /// When it exists already or is not served in time.
    pub async fn create_crd(&self, crd: Crd) -> Result<()> {
        crds::create(&self.client(ADMIN).await?, &self.programs, crd).await
    }

    /// Removes a custom resource definition and everything of its kind.
    ///
    /// # Errors
    /// When it does not exist or does not go in time.
    pub async fn remove_crd(&self, crd: Crd) -> Result<()> {
        crds::remove(&self.client(ADMIN).await?, crd).await
    }

    pub(crate) fn run(&self, server: Server, start: Start) -> Result<()> {
        let process = Process::start(start)?;
        lock(&self.servers).insert(server, process);
        Ok(())
    }

    fn with<T>(&self, server: Server, act: impl FnOnce(&mut Process) -> Result<T>) -> Result<T> {
        let mut servers = lock(&self.servers);
        act(servers.get_mut(&server).ok_or_else(|| absent(server))?)
    }

    /// Waits for something that a server does, not longer than it runs.
    pub(crate) async fn while_running<T>(
        &self,
        server: Server,
        wait: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let ended = async {
            loop {
                if let Err(error) = self.with(server, Process::check) {
                    return error;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            result = wait => result,
            error = ended => Err(error),
        }
    }
}

impl Drop for TestBed {
    fn drop(&mut self) {
        // Those that write before the store that they write to.
        let mut servers = std::mem::take(&mut *lock(&self.servers));
        while let Some((_, process)) = servers.pop_last() {
            drop(process);
        }
        if self.keep.load(Ordering::Relaxed) || std::thread::panicking() {
            eprintln!("testbed: logs are kept in {}", self.folder.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("testbed: {} stays: {error}", self.folder.display());
        }
    }
}

/// `/readyz` includes the store and the start of every built-in controller.
async fn answers(client: &Client) -> Result<(), String> {
    let request = http::Request::get("/readyz").body(Vec::new()).map_err(|e| e.to_string())?;
    client.request_text(request).await.map(drop).map_err(|error| error.to_string())
}

/// Which cluster of this process it is: 1 to 200, then from 1 again.
fn next_number() -> u8 {
    static NUMBER: AtomicU8 = AtomicU8::new(0);
    let next = |number| Some(number % 200 + 1);
    match NUMBER.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
        Ok(before) | Err(before) => before % 200 + 1,
    }
}

fn absent(server: Server) -> BedError {
    BedError::Absent(format!("{} was not started in this cluster", server.name()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
