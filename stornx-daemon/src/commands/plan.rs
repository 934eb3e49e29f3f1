//! `stornx plan`: one dry run, on the live cluster or on a recorded snapshot.

use std::{
    path::{Path, PathBuf},
    thread,
};

use crate::{config, show, web::view::Source};

use super::{
    Format,
    page::{self, LocalPage},
};

/// Command line of `stornx plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A recorded snapshot (YAML or JSON) instead of the live cluster
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Show it on the web page, too, on APP_PORT of this machine, until it is interrupted
    #[arg(long)]
    serve: bool,
}

/// Prints the plan and its report.
pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> anyhow::Result<()> {
    let effective = config::load_from_process(file)?;
    let (snapshot, planned) = super::decided(arguments.snapshot.as_deref(), &effective)?;
    let text = match arguments.output {
        Format::Table => show::plan(&planned),
        Format::Json => serde_json::to_string_pretty(&planned)? + "\n",
        Format::Yaml => serde_saphyr::to_string(&planned)?,
    };
    super::print(&text)?;
    if !arguments.serve {
        return Ok(());
    }
    let policy = effective.policy_for_recorded();
    let namespaces = policy.namespaces.iter().map(ToString::to_string).collect();
    let banner = page::banner(source(arguments), None, true, namespaces);
    let page = LocalPage::start(banner, policy.price)?;
    page.show(page::dry(snapshot, planned));
    eprintln!("The page is at {}", page.address);
    loop {
        thread::park();
    }
}

/// What a plan is of.
const fn source(arguments: &Arguments) -> Source {
    if arguments.snapshot.is_some() { Source::Recording } else { Source::Plan }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_of_a_live_cluster_is_no_recording() {
        let of = |snapshot: Option<&str>| {
            source(&Arguments {
                snapshot: snapshot.map(Into::into),
                output: Format::Table,
                serve: true,
            })
        };
        assert_eq!(of(None), Source::Plan);
        assert_eq!(of(Some("one.yaml")), Source::Recording);
    }
}
