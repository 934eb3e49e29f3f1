//! `stornx-sim schema`.

use clap::{Args, ValueEnum};
use schemars::{Schema, schema_for};
use stornx_core::{model::Snapshot, plan::Plan, report::Report};
use stornx_sim::scenario::Scenario;

use super::{Failure, print_json};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Format {
    Snapshot,
    Scenario,
    Plan,
    Report,
}

#[derive(Debug, Args)]
pub(super) struct SchemaArguments {
    /// One format alone; all of them, in one object by name, when absent.
    #[arg(value_enum)]
    format: Option<Format>,
}

pub(super) fn schema(arguments: &SchemaArguments) -> Result<(), Failure> {
    match arguments.format {
        Some(format) => print_json(&of(format)),
        None => {
            let all = [
                ("Plan", Format::Plan),
                ("Report", Format::Report),
                ("Scenario", Format::Scenario),
                ("Snapshot", Format::Snapshot),
            ];
            let all: std::collections::BTreeMap<_, _> =
                all.into_iter().map(|(name, format)| (name, of(format))).collect();
            print_json(&all)
        }
    }
}

fn of(format: Format) -> Schema {
    match format {
        Format::Snapshot => schema_for!(Snapshot),
        Format::Scenario => schema_for!(Scenario),
        Format::Plan => schema_for!(Plan),
        Format::Report => schema_for!(Report),
    }
}
