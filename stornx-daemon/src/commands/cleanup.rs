//! `stornx cleanup`: takes back what StornX owns in routing rules. To be run when no
//! StornX runs any more: one that does would write again.

use std::{path::Path, time::Duration};

use stornx_k8s::{Access, ConnectOptions, Connection, clean_routes};

use crate::config::{self, Environment};

/// Command line of `stornx cleanup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Cleans up.
pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> anyhow::Result<()> {
    let settings = config::load_from_process(file)?.settings;
    let dry_run = arguments.dry_run || settings.engine.dry_run;
    let access = match settings.environment {
        Environment::Production => Access::InCluster,
        Environment::Development => Access::Kubeconfig { context: None },
    };
    let options = ConnectOptions { access, ..ConnectOptions::default() };
    let timeout = Duration::from_millis(settings.kubernetes.write_timeout.as_millis());
    let cleaned = super::runtime()?.block_on(async {
        let connection = Connection::connect(&options).await?;
        let namespaces = &settings.policy.namespaces;
        anyhow::Ok(clean_routes(&connection, namespaces, dry_run, timeout).await?)
    })?;
    let mut text = String::new();
    for one in &cleaned {
        text.push_str(if dry_run { "would be done: " } else { "" });
        text.push_str(&format!("{one}\n"));
    }
    if cleaned.is_empty() {
        text.push_str("nothing of StornX is in the routing rules of its namespaces\n");
    }
    super::print(&text)
}
