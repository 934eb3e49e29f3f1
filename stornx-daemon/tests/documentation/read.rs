//! Reads the pages: which commands they show, and where.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// How a page shows a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A block `console`, a line that begins with `$ `.
    Console,
    /// A block `console slow`.
    Slow,
    /// A block `sh`: every line of it.
    Shell,
    /// Between backticks in a sentence or a table.
    Prose,
}

/// A command and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) page: String,
    pub(crate) number: usize,
    /// One command: without prompt, comment and what follows `&&`.
    pub(crate) command: String,
    pub(crate) place: Place,
}

impl Line {
    /// Words of the command itself, without variables before it.
    pub(crate) fn words(&self) -> Vec<&str> {
        self.command.split_whitespace().skip_while(|word| is_variable(word)).collect()
    }

    /// The program.
    pub(crate) fn program(&self) -> &str {
        self.words().first().copied().unwrap_or_default()
    }

    /// Variables that are set for this command alone.
    pub(crate) fn variables(&self) -> Vec<(&str, &str)> {
        let words = self.command.split_whitespace();
        words.take_while(|word| is_variable(word)).filter_map(|word| word.split_once('=')).collect()
    }

    /// For messages.
    pub(crate) fn at(&self) -> String {
        format!("{}:{}: `{}`", self.page, self.number, self.command)
    }
}

fn is_variable(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    !name.is_empty() && name.chars().all(|one| one.is_ascii_uppercase() || one == '_')
}

/// The pages: everything that is written for people.
pub(crate) fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = [
        "README.md",
        "CONTRIBUTING.md",
        "deploy/testbed/README.md",
        "deploy/helm/stornx/README.md",
    ]
    .map(|page| root().join(page))
    .into();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// Every command of every page, in its order.
pub(crate) fn all_commands() -> Vec<Line> {
    let of_page = |page: &PathBuf| {
        let text = std::fs::read_to_string(page).unwrap();
        commands(&page.strip_prefix(root()).unwrap().display().to_string(), &text)
    };
    pages().iter().flat_map(of_page).collect()
}

/// Blocks that hold no commands. Another word after the backticks is an error: commands in
/// such a block would be looked at by nobody.
const OTHER_BLOCKS: [&str; 5] = ["text", "rust", "yaml", "json", "toml"];

/// What a command in a sentence begins with.
const PROGRAMS: [&str; 11] = [
    "stornx",
    "stornx-sim",
    "kubectl",
    "helm",
    "istioctl",
    "curl",
    "cargo",
    "docker",
    "kind",
    "git",
    "promtool",
];

/// The commands of a page.
pub(crate) fn commands(page: &str, text: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let mut prose = String::new();
    let mut block: Option<Option<Place>> = None;
    // A command that goes on in the next line.
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        prose.push('\n');
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            block = match block {
                Some(_) => None,
                None => Some(place(kind).unwrap_or_else(|| {
                    panic!("{page}:{}: a block of the kind {kind:?}", index + 1)
                })),
            };
            continue;
        }
        let Some(place) = block else {
            prose.push_str(line);
            continue;
        };
        let command = match place {
            Some(Place::Console | Place::Slow) => line.strip_prefix("$ "),
            Some(_) => Some(line),
            None => None,
        };
        let (Some(place), Some(command)) = (place, command) else { continue };
        let (number, so_far) = open.take().unwrap_or((index + 1, String::new()));
        let command = so_far + without_comment(command).trim();
        if let Some(unfinished) = command.strip_suffix('\\') {
            open = Some((number, unfinished.to_owned()));
            continue;
        }
        for command in command.split(" && ").map(str::trim).filter(|one| !one.is_empty()) {
            let (page, command) = (page.to_owned(), command.to_owned());
            found.push(Line { page, number, command, place });
        }
    }
    assert!(block.is_none() && open.is_none(), "{page}: a block that does not end");
    found.extend(mentioned(page, &prose));
    found
}

/// `None` for an unknown kind, `Some(None)` for one without commands.
fn place(kind: &str) -> Option<Option<Place>> {
    match kind {
        "console" => Some(Some(Place::Console)),
        "console slow" => Some(Some(Place::Slow)),
        "sh" => Some(Some(Place::Shell)),
        other => OTHER_BLOCKS.contains(&other).then_some(None),
    }
}

/// What stands before ` #`, which is not between quotes.
fn without_comment(line: &str) -> &str {
    let mut quoted = None;
    let mut before = ' ';
    for (index, one) in line.char_indices() {
        match (quoted, one) {
            (None, '#') if before == ' ' => return &line[..index],
            (None, '\'' | '"') => quoted = Some(one),
            (Some(quote), _) if quote == one => quoted = None,
            _ => {}
        }
        before = one;
    }
    line
}

/// Commands between backticks: a program that we know and at least one word more.
fn mentioned(page: &str, prose: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let mut number = 0;
    for (index, part) in prose.split('`').enumerate() {
        if index % 2 == 1 {
            let line = Line {
                page: page.to_owned(),
                number,
                command: part.split_whitespace().collect::<Vec<_>>().join(" "),
                place: Place::Prose,
            };
            if PROGRAMS.contains(&line.program()) && line.words().len() > 1 {
                found.push(line);
            }
        }
        number += part.matches('\n').count();
    }
    found
}
