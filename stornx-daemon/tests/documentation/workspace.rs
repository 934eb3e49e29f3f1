//! What the documentation tells cargo, held against the workspace: packages, targets, features
//! and paths exist. Builds and tests of hours are not started for it.

use serde_json::Value;

use super::read::{Line, root};

/// The workspace as cargo sees it.
pub(crate) struct Workspace(Value);

impl Workspace {
    pub(crate) fn read() -> Self {
        let mut command = std::process::Command::new(env!("CARGO"));
        command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
        let output = command.current_dir(root()).output().unwrap();
        Self(serde_json::from_slice(&output.stdout).unwrap())
    }

    fn packages(&self) -> impl Iterator<Item = &Value> {
        self.0["packages"].as_array().into_iter().flatten()
    }

    /// Whether cargo would know what it is told; an error says what it would not.
    pub(crate) fn knows(&self, line: &Line) -> Result<(), String> {
        let words = line.words();
        let told = words[1..].split(|word| *word == "--").next().unwrap_or_default();
        let (Some(verb), options) = (told.first(), told.get(1..).unwrap_or_default()) else {
            return Ok(());
        };
        if !["run", "test", "bench", "install", "build"].contains(verb) {
            return Err(format!("cargo {verb}"));
        }
        let mut options = options.iter().copied();
        let mut package = None;
        let mut wanted = Vec::new();
        while let Some(option) = options.next() {
            let mut value = || options.next().ok_or(format!("{option} of what?"));
            match option {
                "--release" | "--workspace" | "--lib" | "..." => {}
                "-p" | "--package" => package = Some(value()?),
                "--path" => package = Some(value()?),
                "--test" | "--bench" | "--example" | "--bin" | "--features" => {
                    wanted.push((option.trim_start_matches('-'), value()?));
                }
                // The filter of a test.
                filter if *verb == "test" && !filter.starts_with('-') => {}
                other => return Err(format!("cargo {verb} {other}")),
            }
        }
        let found: Vec<&Value> = match package {
            Some(name) => self.packages().filter(|one| one["name"] == name).collect(),
            None => self.packages().collect(),
        };
        if found.is_empty() {
            return Err(format!("there is no package {}", package.unwrap_or_default()));
        }
        for (kind, name) in wanted {
            let has = |package: &&Value| {
                if kind == "features" {
                    return !package["features"][name].is_null();
                }
                let targets = package["targets"].as_array().into_iter().flatten();
                targets.into_iter().any(|one| one["name"] == name && one["kind"][0] == kind)
            };
            if !found.iter().any(has) {
                return Err(format!("there is no {kind} {name}"));
            }
        }
        Ok(())
    }
}
