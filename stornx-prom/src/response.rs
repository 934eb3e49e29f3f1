//! Reads an answer of `/api/v1/query` row by row. Labels are borrowed from the body, no
//! tree of generic JSON is built, and nothing but the row at hand is kept.
//!
//! Refuses: anything but an instant vector. Rows may have been handed over before the
//! answer turns out to be broken; whoever takes them throws them away then.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// One row of an instant vector.
#[derive(Debug, Default)]
pub(crate) struct Row<'de> {
    labels: Vec<(Cow<'de, str>, Cow<'de, str>)>,
    /// A finite number.
    pub(crate) value: f64,
    /// When the query was evaluated, seconds since the epoch.
    pub(crate) evaluated: f64,
}

impl Row<'_> {
    /// The value of a label; empty when it is absent, as Prometheus has it.
    pub(crate) fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map_or("", |(_, value)| value)
    }
}

/// What an answer says beside its rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Answer {
    /// When it was evaluated, seconds since the epoch; not known without rows.
    pub(crate) evaluated: Option<f64>,
    pub(crate) warnings: Vec<String>,
    pub(crate) infos: Vec<String>,
    pub(crate) rows: u64,
    /// Rows left out: no number, or a native histogram.
    pub(crate) skipped: u64,
}

/// An answer that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadAnswer {
    /// `status` is `error`.
    Rejected { kind: String, detail: String },
    /// Not what was expected.
    Garbage(String),
}

/// Reads `body`, handing each row with a finite number to `each`.
pub(crate) fn read(body: &[u8], each: &mut dyn FnMut(&Row<'_>)) -> Result<Answer, BadAnswer> {
    let garbage = |error: serde_json::Error| BadAnswer::Garbage(error.to_string());
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let mut answer = Answer::default();
    let top = Top { answer: &mut answer, each }.deserialize(&mut deserializer).map_err(garbage)?;
    deserializer.end().map_err(garbage)?;
    match top.status.as_deref() {
        Some("success") => {}
        Some("error") => {
            return Err(BadAnswer::Rejected {
                kind: top.error_type.unwrap_or_default().into_owned(),
                detail: top.error.unwrap_or_default().into_owned(),
            });
        }
        other => return Err(BadAnswer::Garbage(format!("status is {other:?}"))),
    }
    match top.result_type.as_deref() {
        Some("vector") => Ok(answer),
        other => Err(BadAnswer::Garbage(format!("resultType is {other:?}, not \"vector\""))),
    }
}

#[derive(Default)]
struct Fields<'de> {
    status: Option<Cow<'de, str>>,
    error_type: Option<Cow<'de, str>>,
    error: Option<Cow<'de, str>>,
    result_type: Option<Cow<'de, str>>,
}

/// A text, borrowed where it has no escapes.
struct Text<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

struct Top<'a> {
    answer: &'a mut Answer,
    each: &'a mut dyn FnMut(&Row<'_>),
}

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = Fields<'de>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = Fields<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer of the HTTP API of Prometheus")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "status" => fields.status = Some(map.next_value::<Text<'de>>()?.0),
                "errorType" => fields.error_type = Some(map.next_value::<Text<'de>>()?.0),
                "error" => fields.error = Some(map.next_value::<Text<'de>>()?.0),
                "warnings" => {
                    self.answer.warnings =
                        map.next_value::<Option<Vec<String>>>()?.unwrap_or_default();
                }
                "infos" => {
                    self.answer.infos =
                        map.next_value::<Option<Vec<String>>>()?.unwrap_or_default();
                }
                "data" => {
                    let data = Data { answer: self.answer, each: self.each };
                    fields.result_type = map.next_value_seed(data)?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

struct Data<'a> {
    answer: &'a mut Answer,
    each: &'a mut dyn FnMut(&Row<'_>),
}

impl<'de> DeserializeSeed<'de> for Data<'_> {
    type Value = Option<Cow<'de, str>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        // `null` comes with errors.
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Data<'_> {
    type Value = Option<Cow<'de, str>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("resultType and result")
    }
    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut kind = None;
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "resultType" => kind = Some(map.next_value::<Text<'de>>()?.0),
                "result" => {
                    if let Some(other) = kind.as_deref().filter(|kind| *kind != "vector") {
                        let message = format!("resultType is {other:?}, not \"vector\"");
                        return Err(de::Error::custom(message));
                    }
                    map.next_value_seed(Rows { answer: self.answer, each: self.each })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(kind)
    }
}

struct Rows<'a> {
    answer: &'a mut Answer,
    each: &'a mut dyn FnMut(&Row<'_>),
}

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows of an instant vector")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        let mut row = Row::default();
        while let Some(found) = rows.next_element_seed(OneRow(&mut row))? {
            self.answer.rows += 1;
            if let Found::Sample = found {
                self.answer.evaluated = Some(row.evaluated);
                if row.value.is_finite() {
                    (self.each)(&row);
                    continue;
                }
            }
            self.answer.skipped += 1;
        }
        Ok(())
    }
}

enum Found {
    Sample,
    Histogram,
}

/// Fills a row anew, so that its list of labels is allocated once.
struct OneRow<'a, 'de>(&'a mut Row<'de>);

impl<'de> DeserializeSeed<'de> for OneRow<'_, 'de> {
    type Value = Found;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneRow<'_, 'de> {
    type Value = Found;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row with metric and value")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        self.0.labels.clear();
        let mut found = None;
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "metric" => map.next_value_seed(LabelsOf(&mut self.0.labels))?,
                "value" => {
                    let (evaluated, Text(value)) = map.next_value::<(f64, Text<'de>)>()?;
                    self.0.evaluated = evaluated;
                    self.0.value = number(&value).ok_or_else(|| {
                        de::Error::custom(format!("{value:?} is not a sample value"))
                    })?;
                    found = Some(Found::Sample);
                }
                "histogram" => {
                    map.next_value::<IgnoredAny>()?;
                    found = found.or(Some(Found::Histogram));
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        found.ok_or_else(|| de::Error::missing_field("value"))
    }
}

/// A number as Prometheus writes it.
fn number(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok(),
    }
}

struct LabelsOf<'a, 'de>(&'a mut Vec<(Cow<'de, str>, Cow<'de, str>)>);

impl<'de> DeserializeSeed<'de> for LabelsOf<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for LabelsOf<'_, 'de> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((Text(name), Text(value))) = map.next_entry()? {
            self.0.push((name, value));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Seen = Vec<(String, f64)>;

    fn rows(body: &str) -> Result<(Answer, Seen), BadAnswer> {
        let mut seen = Vec::new();
        let answer =
            read(body.as_bytes(), &mut |row| seen.push((row.label("pod").to_owned(), row.value)))?;
        Ok((answer, seen))
    }

    #[test]
    fn rows_warnings_and_the_instant_are_read_and_what_is_no_number_is_counted() {
        let body = r#"{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[
            {"metric":{"pod":"a"},"value":[1764000000.25,"1.5"]},
            {"metric":{"pod":"b"},"value":[1764000000.25,"NaN"]},
            {"metric":{"pod":"c"},"value":[1764000000.25,"+Inf"]},
            {"metric":{"pod":"h"},"histogram":[1764000000.25,{"count":"1"}]},
            {"metric":{"pod":"q\"uote\u00e9"},"value":[1764000000.25,"2e3"]}],
            "stats":{"x":[1,{}]}},"warnings":["half is missing"],"infos":["metric might not be a counter"]}"#;
        let (answer, seen) = rows(body).unwrap();
        assert_eq!(seen, [("a".to_owned(), 1.5), ("q\"uote\u{e9}".to_owned(), 2000.0)]);
        assert_eq!((answer.rows, answer.skipped), (5, 3));
        assert_eq!(answer.evaluated, Some(1_764_000_000.25));
        assert_eq!(answer.warnings, ["half is missing"]);
        assert_eq!(answer.infos, ["metric might not be a counter"]);
    }

    #[test]
    fn labels_without_escapes_are_borrowed() {
        let body = br#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"pod":"a"},"value":[1,"1"]}]}}"#;
        let mut borrowed = 0;
        read(body, &mut |row| {
            borrowed += usize::from(matches!(row.labels[0].1, Cow::Borrowed(_)));
        })
        .unwrap();
        assert_eq!(borrowed, 1);
    }

    #[test]
    fn errors_of_prometheus_keep_their_text() {
        let body = r#"{"status":"error","errorType":"bad_data","error":"parse error","data":null}"#;
        let expected =
            BadAnswer::Rejected { kind: "bad_data".to_owned(), detail: "parse error".to_owned() };
        assert_eq!(rows(body).unwrap_err(), expected);
    }

    #[test]
    fn everything_else_is_garbage_that_says_what_came() {
        for (body, part) in [
            ("", "EOF"),
            ("<html>", "expected value"),
            ("[]", "an answer of the HTTP API"),
            ("{}", "status is None"),
            (r#"{"status":"success"}"#, "resultType is None"),
            (r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#, "matrix"),
            (r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#, "scalar"),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{}}]}}"#,
                "value",
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}}"#,
                "sample value",
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"#,
                "EOF",
            ),
            (r#"{"status":"success","data":{"resultType":"vector","result":[]}} x"#, "trailing"),
        ] {
            let Err(BadAnswer::Garbage(text)) = rows(body) else { panic!("{body}") };
            assert!(text.contains(part), "{body}: {text}");
        }
    }
}
