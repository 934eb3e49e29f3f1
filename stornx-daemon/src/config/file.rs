//! The settings file: one YAML mapping of names to plain values. Lines are kept, so
//! that a problem names its place. Lists are read as comma-separated text, because
//! that is what a person writes for namespaces. Nothing is understood here.

use std::{fmt, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

use super::{Given, Origin, Refused};

/// The values of a settings file, in its order.
pub(super) fn read(path: &Path) -> Result<Vec<Given>, Refused> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Refused::File { path: shown.clone(), detail: error.to_string() })?;
    parse(&shown, &text)
}

pub(super) fn parse(shown: &str, text: &str) -> Result<Vec<Given>, Refused> {
    let entries: Option<Entries> = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map(|location| format!(":{}", location.line()));
        // The first line says what is wrong; the rest draws the place.
        let detail = error.without_snippet().to_string();
        let detail = detail.lines().next().unwrap_or_default().to_owned();
        Refused::Form { path: format!("{shown}{}", line.unwrap_or_default()), detail }
    })?;
    let given = |(name, value): (Spanned<String>, Scalar)| Given {
        origin: Origin::File { path: shown.to_owned(), line: name.referenced.line() },
        name: name.value,
        text: value.0,
    };
    Ok(entries.unwrap_or_default().0.into_iter().map(given).collect())
}

#[derive(Default)]
struct Entries(Vec<(Spanned<String>, Scalar)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names and values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A plain value as text.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsText;
        impl<'de> Visitor<'de> for AsText {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a plain value or a list of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Scalar, E> {
                Ok(Scalar(String::new()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
                let mut texts = Vec::new();
                while let Some(Scalar(text)) = list.next_element()? {
                    texts.push(text);
                }
                Ok(Scalar(texts.join(",")))
            }
        }
        deserializer.deserialize_any(AsText)
    }
}
