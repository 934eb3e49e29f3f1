//! Tools that judge what we ship: the chart, its objects, alert rules, workflow files and the
//! container file. Built like the programs of the test bed, each when a test asks for it.

use std::path::PathBuf;

use crate::{
    error::Result,
    programs::{PROMETHEUS_TAGS, Program, Recipe, on_demand, version_of},
};

/// The module of kubectl.
pub(crate) const KUBECTL: &str = "k8s.io/kubectl";

/// The module of Helm.
pub(crate) const HELM: &str = "helm.sh/helm/v3";

/// A tool that judges what we ship.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Renders and installs the chart.
    Helm,
    /// Holds objects against the schemas of a version of Kubernetes.
    Kubeconform,
    /// Reads alert rules and runs their tests. Of the module of Prometheus.
    Promtool,
    /// Reads workflow files.
    Actionlint,
    /// Reads container files as BuildKit does.
    Dockerlint,
    /// Runs the commands of the documentation.
    Kubectl,
    /// Of the module of istiod; says whether a command of the documentation is one.
    Istioctl,
}

impl Tool {
    /// Where it lies, built now if it was not. Has to be asked for before a network
    /// namespace is entered, in which nothing can be fetched.
    ///
    /// # Errors
    /// As [`Programs::ensure`](crate::Programs::ensure).
    pub fn ensure(self) -> Result<PathBuf> {
        on_demand(Program::Tool(self))
    }

    pub(crate) const fn recipe(self) -> Recipe {
        let (name, module, package, cold) = match self {
            Self::Helm => ("helm", "helm", "helm.sh/helm/v3/cmd/helm", "2 minutes"),
            Self::Kubeconform => {
                let package = "github.com/yannh/kubeconform/cmd/kubeconform";
                ("kubeconform", "kubeconform", package, "5 seconds")
            }
            Self::Promtool => {
                let package = "github.com/prometheus/prometheus/cmd/promtool";
                ("promtool", "prometheus", package, "1 minute after Prometheus")
            }
            Self::Actionlint => {
                let package = "github.com/rhysd/actionlint/cmd/actionlint";
                ("actionlint", "actionlint", package, "8 seconds")
            }
            Self::Dockerlint => ("dockerlint", "dockerlint", ".", "20 seconds"),
            Self::Kubectl => ("kubectl", "kubectl", ".", "20 seconds after the control plane"),
            Self::Istioctl => {
                let package = "istio.io/istio/istioctl/cmd/istioctl";
                ("istioctl", "istioctl", package, "30 seconds after istiod")
            }
        };
        // As Prometheus itself, so that what was compiled for it serves twice.
        let tags = if matches!(self, Self::Promtool) { PROMETHEUS_TAGS } else { "" };
        let named_by = match self {
            Self::Helm => Some(HELM),
            Self::Kubectl => Some(KUBECTL),
            _ => None,
        };
        Recipe { name, module, package, tags, named_by, cold }
    }
}

/// What the linker is told of Helm: its version, and the Kubernetes that it takes a cluster
/// for when it has none. That is the one of its client library.
pub(crate) fn helm_link(version: &str, module: &str) -> String {
    let client = version_of(module, "k8s.io/client-go").unwrap_or_default();
    let minor = client.split('.').nth(1).unwrap_or("0").to_owned();
    let places = ["pkg/lint/rules", "pkg/chartutil"].map(|place| {
        format!("-X {HELM}/{place}.k8sVersionMajor=1 -X {HELM}/{place}.k8sVersionMinor={minor}")
    });
    format!("-s -w -X {HELM}/internal/version.version={version} {}", places.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helm_knows_its_version_and_that_of_its_kubernetes() {
        let link = helm_link("v3.1.2", "require (\n\tk8s.io/client-go v0.36.1\n)");
        assert!(link.contains("version.version=v3.1.2"), "{link}");
        assert_eq!(link.matches("k8sVersionMinor=36").count(), 2, "{link}");
    }
}
