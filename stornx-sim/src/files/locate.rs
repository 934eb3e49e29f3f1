//! Finds the line and column of a path such as `hosts[2].backends[0]` in the text of
//! a JSON or YAML file, for problems that are found only after reading. Best effort:
//! where the text does not spell a path out (a default, a list that several lists
//! make up) the nearest enclosing value is named, or nothing.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// The positions of every value of a file.
pub(super) struct Positions(Option<Spanned<Tree>>);

impl Positions {
    /// Reads the positions; a text that cannot be read has none.
    pub(super) fn of(text: &str) -> Self {
        Self(serde_saphyr::from_str_with_options(text, super::yaml_options(text.len())).ok())
    }

    /// Line and column (from 1) of the value at `path`, or of the nearest enclosing
    /// value.
    pub(super) fn of_path(&self, path: &str) -> Option<(u64, u64)> {
        let mut at = self.0.as_ref()?;
        for step in steps(path) {
            let next = match (&at.value, step) {
                (Tree::Map(entries), Step::Key(key)) => {
                    entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
                }
                (Tree::List(items), Step::Index(index)) => items.get(index),
                _ => None,
            };
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        let location = at.referenced;
        (location.line() > 0).then(|| (location.line(), location.column()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// The steps of a path: `a.b[2]` is `a`, `b`, `2`.
fn steps(path: &str) -> Vec<Step<'_>> {
    path.split(['.', '['])
        .filter(|part| !part.is_empty())
        .map(|part| match part.strip_suffix(']').and_then(|index| index.parse().ok()) {
            Some(index) => Step::Index(index),
            None => Step::Key(part),
        })
        .collect()
}

/// Any value, with the positions of what it holds.
enum Tree {
    Map(Vec<(String, Spanned<Tree>)>),
    List(Vec<Spanned<Tree>>),
    Leaf,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

macro_rules! leaf {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E>(self, _: $type) -> Result<Tree, E> {
            Ok(Tree::Leaf)
        })*
    };
}

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    leaf!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128,
        visit_f64: f64, visit_str: &str, visit_bytes: &[u8]);

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Tree, D::Error> {
        IgnoredAny::deserialize(inner).map(|_| Tree::Leaf)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Tree::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_both_grammars() {
        for text in [
            "a:\n  b:\n    - x: 1\n    - x: 2\n",
            "{\"a\":\n {\"b\":\n [{\"x\": 1},\n{\"x\": 2}]}}",
        ] {
            let positions = Positions::of(text);
            assert_eq!(positions.of_path("a.b[1].x").map(|(line, _)| line), Some(4), "{text}");
        }
    }

    #[test]
    fn the_nearest_enclosing_value_stands_for_a_missing_one() {
        let positions = Positions::of("a:\n  b:\n    c: 1\n");
        assert_eq!(positions.of_path("a.b.zzz[9]"), positions.of_path("a.b"));
        assert_eq!(Positions::of("a: [").of_path("a"), None);
    }
}
