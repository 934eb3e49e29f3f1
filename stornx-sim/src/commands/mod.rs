//! The commands: their arguments, and what they have in common.

mod compare;
mod generate;
mod list;
mod outcome;
mod place;
mod run;
mod schema;

use std::{io::Write, path::Path};

use clap::{Parser, Subcommand, ValueEnum};
use stornx_sim::{
    experiment::PolicyName,
    plot::{self, Chart},
    scenario::{Scenario, Timespan},
};

/// A simulated cluster: scenarios, comparisons, placement data sets.
#[derive(Debug, Parser)]
#[command(name = "stornx-sim", version, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The built-in scenarios and what they are for.
    List,
    /// One run.
    Run(run::RunArguments),
    /// Policies side by side on the same seeds.
    Compare(compare::CompareArguments),
    /// Policies on all scenarios, and what StornX is held to.
    Outcome(outcome::OutcomeArguments),
    /// Draws a large cluster from published distributions and writes its snapshot.
    Generate(generate::GenerateArguments),
    /// Placement quality on a data set.
    Place(place::PlaceArguments),
    /// JSON schemas of the file formats.
    Schema(schema::SchemaArguments),
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Why a command did not do what was asked.
pub(crate) enum Failure {
    /// The command or its input is not what it should be.
    Input(anyhow::Error),
    /// The work itself failed.
    Work(anyhow::Error),
}

impl Failure {
    fn input(error: impl Into<anyhow::Error>) -> Self {
        Self::Input(error.into())
    }

    fn work(error: impl Into<anyhow::Error>) -> Self {
        Self::Work(error.into())
    }
}

/// Does what the arguments say.
///
/// # Errors
/// [`Failure`], which tells bad input from failed work.
pub(crate) fn execute(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::List => list::list(),
        Command::Run(arguments) => run::run(arguments),
        Command::Compare(arguments) => compare::compare(arguments),
        Command::Outcome(arguments) => outcome::outcome(arguments),
        Command::Generate(arguments) => generate::generate(arguments),
        Command::Place(arguments) => place::place(arguments),
        Command::Schema(arguments) => schema::schema(arguments),
    }
}

/// Writes a result to standard output.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        // A reader that has seen enough (`| head`) is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Failure::work),
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::work)?;
    print(&format!("{text}\n"))
}

/// A scenario by name or file, with another duration where one is asked for.
fn scenario(name: &str, duration: Option<Timespan>) -> Result<Scenario, Failure> {
    let mut scenario = stornx_sim::builtin::find(name).map_err(Failure::input)?;
    if let Some(duration) = duration {
        scenario.duration = duration;
        if let Some(problem) = scenario.problems().first() {
            return Err(Failure::Input(anyhow::anyhow!("--duration {duration}: {problem}")));
        }
    }
    Ok(scenario)
}

fn policies(names: &[String]) -> Result<Vec<PolicyName>, Failure> {
    let parsed = names.iter().map(|name| name.trim().parse()).collect::<Result<Vec<_>, _>>();
    let mut policies: Vec<PolicyName> = Vec::new();
    for policy in parsed.map_err(Failure::input)? {
        if !policies.contains(&policy) {
            policies.push(policy);
        }
    }
    Ok(policies)
}

fn draw(chart: &Chart, path: &Path) -> Result<(), Failure> {
    let svg = plot::render(chart).map_err(Failure::work)?;
    write(path, &svg)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| {
        Failure::Work(anyhow::anyhow!("{}: cannot be written: {error}", path.display()))
    })
}
