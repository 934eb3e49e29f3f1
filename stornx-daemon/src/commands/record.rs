//! `stornx record`: snapshots of the live cluster for replay. Writes nothing to the
//! cluster. A file is there whole or not at all.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use stornx_core::model::Snapshot;

use super::live::Live;
use crate::config::{self, Schedule};

/// Command line of `stornx record`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where to write (YAML by .yaml or .yml, else JSON); standard output when absent.
    /// With several cycles, a number is put before the ending
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How many snapshots, one with each instant of CRONJOB_EXPRESSION
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    cycles: u32,
}

/// Records.
pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> anyhow::Result<()> {
    let effective = config::load_from_process(file)?;
    super::runtime()?.block_on(async {
        let live = Live::open(&effective.settings).await?;
        for number in 1..=arguments.cycles {
            if number > 1 {
                wait_for(&effective.settings.schedule).await;
            }
            let (snapshot, _) = live.look().await?;
            write(arguments, number, &snapshot)?;
        }
        Ok(())
    })
}

async fn wait_for(schedule: &Schedule) {
    let now = jiff::Timestamp::now();
    let due = schedule.next_after(now.to_zoned(jiff::tz::TimeZone::UTC));
    let wait = due.and_then(|due| due.timestamp().duration_since(now).try_into().ok());
    tokio::time::sleep(wait.unwrap_or_default()).await;
}

fn write(arguments: &Arguments, number: u32, snapshot: &Snapshot) -> anyhow::Result<()> {
    let Some(out) = &arguments.out else {
        // One snapshot a line, so that several can be told apart.
        let text = if arguments.cycles == 1 {
            serde_json::to_string_pretty(snapshot)?
        } else {
            serde_json::to_string(snapshot)?
        };
        return super::print(&(text + "\n"));
    };
    let path = if arguments.cycles == 1 { out.clone() } else { numbered(out, number) };
    let text = match path.extension().and_then(|ending| ending.to_str()) {
        Some("yaml" | "yml") => serde_saphyr::to_string(snapshot)?,
        _ => serde_json::to_string_pretty(snapshot)? + "\n",
    };
    let mut partial = path.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    std::fs::write(&partial, text).with_context(|| format!("writing {}", partial.display()))?;
    std::fs::rename(&partial, &path).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("{} written", path.display());
    Ok(())
}

/// `cluster.yaml` becomes `cluster-3.yaml`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(ending) => format!("{stem}-{number}.{}", ending.to_string_lossy()),
        None => format!("{stem}-{number}"),
    };
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_before_the_ending() {
        let numbered = |path: &str| numbered(Path::new(path), 3).display().to_string();
        assert_eq!(numbered("a/cluster.yaml"), "a/cluster-3.yaml");
        assert_eq!(numbered("cluster"), "cluster-3");
    }
}
