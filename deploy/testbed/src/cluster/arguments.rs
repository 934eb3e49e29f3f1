//! How each server is started: its arguments, from the ports, users and options of the
//! run. Facts behind them were checked by running the servers.

use std::path::Path;

use super::{Options, Ports, Server, access::ADMIN, certificates as keys};
use crate::{
    namespace::CONTROL_PLANE,
    process::Start,
    programs::{Program, Programs},
};

/// Names of files in the data folder.
pub(super) const TOKENS: &str = "tokens.csv";
pub(super) const STAGES: &str = "kwok.yaml";

/// Everything that arguments are made from.
pub(super) struct Facts<'a> {
    pub(super) folder: &'a Path,
    pub(super) programs: &'a Programs,
    pub(super) ports: &'a Ports,
    pub(super) options: &'a Options,
    /// Number of this cluster in its process, from 1; gives its pods their addresses.
    pub(super) number: u8,
}

impl Facts<'_> {
    /// How to start one of the servers of the control plane, or kwok.
    pub(super) fn start(&self, server: Server) -> Start {
        let program = match server {
            Server::Kwok => Program::Kwok,
            Server::Prometheus => Program::Prometheus,
            _ => Program::ControlPlane,
        };
        let mut arguments = match server {
            Server::Etcd => self.etcd(),
            Server::ApiServer => self.api_server(),
            Server::ControllerManager => self.controller_manager(),
            Server::Scheduler => self.scheduler(),
            Server::Kwok => self.kwok(),
            Server::Prometheus => Vec::new(),
        };
        arguments.extend(self.options.arguments.get(&server).into_iter().flatten().cloned());
        Start {
            name: server.name(),
            program: self.programs.path(program).to_path_buf(),
            arguments,
            folder: self.folder.to_path_buf(),
        }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The data is thrown away with the run: nothing has to survive a loss of power.
    fn etcd(&self) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peer = format!("http://127.0.0.1:{}", self.ports.etcd_peer);
        vec![
            format!("--data-dir={}", self.file("etcd")),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    /// It advertises an address that is not loopback, which it insists on, and writes no
    /// endpoints of itself: nobody in the cluster looks for them.
    fn api_server(&self) -> Vec<String> {
        vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.ports.etcd),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.ports.api_server),
            format!("--advertise-address={CONTROL_PLANE}"),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--tls-cert-file={}", self.file(keys::SERVER)),
            format!("--tls-private-key-file={}", self.file(keys::SERVER_KEY)),
            format!("--token-auth-file={}", self.file(TOKENS)),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", self.file(keys::ACCOUNTS)),
            format!("--service-account-signing-key-file={}", self.file(keys::ACCOUNTS_KEY)),
            "--service-cluster-ip-range=172.30.0.0/16".to_owned(),
            format!("--cert-dir={}", self.file("kube-apiserver")),
        ]
    }

    fn controller_manager(&self) -> Vec<String> {
        let mut arguments = vec![
            self.kubeconfig(),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            format!("--service-account-private-key-file={}", self.file(keys::ACCOUNTS_KEY)),
            format!("--root-ca-file={}", self.file(keys::AUTHORITY)),
            // A claim that it missed is bound at its next look: 15 s by default.
            "--pvclaimbinder-sync-period=1s".to_owned(),
        ];
        if self.options.large {
            arguments.extend(limits());
            arguments.push("--concurrent-replicaset-syncs=20".to_owned());
        }
        arguments
    }

    fn scheduler(&self) -> Vec<String> {
        let mut arguments = vec![
            self.kubeconfig(),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
        ];
        if self.options.large {
            arguments.extend(limits());
        }
        arguments
    }

    /// Nodes must hold their leases for about as long as the node controller waits, or
    /// it marks their pods not ready and they stay so.
    fn kwok(&self) -> Vec<String> {
        vec![
            self.kubeconfig(),
            format!("--config={}", self.file(STAGES)),
            "--manage-all-nodes=true".to_owned(),
            "--node-lease-duration-seconds=40".to_owned(),
            format!("--cidr=10.{}.0.1/16", self.number),
            format!("--node-ip={CONTROL_PLANE}"),
        ]
    }

    fn kubeconfig(&self) -> String {
        format!("--kubeconfig={}", self.file(&super::access::file_name(ADMIN)))
    }
}

/// The defaults of 20 to 50 calls a second make a cluster of thousands of pods take
/// many minutes.
fn limits() -> [String; 2] {
    ["--kube-api-qps=1000".to_owned(), "--kube-api-burst=2000".to_owned()]
}
