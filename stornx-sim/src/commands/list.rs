//! `stornx-sim list`.

use stornx_sim::builtin;

use super::{Failure, print};

pub(super) fn list() -> Result<(), Failure> {
    let mut text = String::new();
    for name in builtin::names() {
        let scenario = builtin::find(name).map_err(Failure::work)?;
        text.push_str(&format!("{name} ({})\n", scenario.duration));
        for line in wrapped(&scenario.intent, 86) {
            text.push_str(&format!("  {line}\n"));
        }
    }
    print(&text)
}

/// Words in lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if !line.is_empty() && line.len() + 1 + word.len() > width => {
                lines.push(word.to_owned());
            }
            Some(line) => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            None => {}
        }
    }
    lines
}
