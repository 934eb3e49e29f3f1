//! Kubelets that show something: kwok serves logs and ports of pods as a kubelet does. Those of
//! the namespace `stornx` are the daemon's, those of `monitoring` are Prometheus's.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use stornx_testbed::{Options, cluster::Server};

/// What the release is managed as.
pub(super) const ACCOUNT: &str = "system:serviceaccount:stornx:stornx";

/// Where the daemon of the release listens. Ports can be fixed: the test has a network of its own.
pub(super) const DAEMON: u16 = 13_000;

/// Where Prometheus listens.
pub(super) const PROMETHEUS: u16 = 19_090;

/// Where the API server looks for kubelets that do not say otherwise.
const KUBELET: u16 = 10_250;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("documented")
}

/// The log of the daemon, in the form that container runtimes write.
pub(super) fn log() -> PathBuf {
    folder().join("container.log")
}

/// A cluster with such kubelets. Where their files cannot be written, they are missing, and the
/// commands that need them say so.
pub(super) fn options() -> Options {
    let name = |name: &str| folder().join(name).display().to_string();
    let (certificate, key, config) = (name("kubelet.crt"), name("kubelet.key"), name("kwok.yaml"));
    let made = rcgen::generate_simple_self_signed(["kubelet".to_owned()]);
    if let (Ok(made), Ok(())) = (made, std::fs::create_dir_all(folder())) {
        let _ = std::fs::write(&certificate, made.cert.pem());
        let _ = std::fs::write(&key, made.signing_key.serialize_pem());
        let _ = std::fs::write(&config, configuration());
    }
    let arguments = vec![
        format!("--config={config}"),
        format!("--node-port={KUBELET}"),
        format!("--tls-cert-file={certificate}"),
        format!("--tls-private-key-file={key}"),
    ];
    Options {
        users: vec![ACCOUNT.to_owned()],
        arguments: BTreeMap::from([
            (Server::Kwok, arguments),
            // There is no name service that knows the nodes.
            (Server::ApiServer, vec!["--kubelet-preferred-address-types=InternalIP".to_owned()]),
        ]),
        ..Options::default()
    }
}

fn configuration() -> String {
    let forward = |namespace: &str, port: u16, to: u16| {
        format!(
            "apiVersion: kwok.x-k8s.io/v1alpha1\nkind: ClusterPortForward\n\
             metadata: {{name: {namespace}}}\nspec:\n  selector: {{matchNamespaces: [{namespace}]}}\n  \
             forwards:\n  - ports: [{port}]\n    target: {{address: 127.0.0.1, port: {to}}}\n---\n"
        )
    };
    let log = log();
    let logs = format!(
        "apiVersion: kwok.x-k8s.io/v1alpha1\nkind: ClusterLogs\nmetadata: {{name: stornx}}\nspec:\n  \
         selector: {{matchNamespaces: [stornx]}}\n  logs:\n  - logsFile: {}\n",
        log.display()
    );
    forward("stornx", 3000, DAEMON) + &forward("monitoring", 9090, PROMETHEUS) + &logs
}
