//! Reads an answer of `/api/v1/query` row by row, as it comes in. Labels are borrowed from
//! the row, no tree of generic JSON is built, and nothing but the row at hand is kept:
//! answers of large clusters have hundreds of megabytes.
//!
//! A row is an object in a list in an object in the answer (`data.result[..]`); those are
//! cut out by counting brackets and read one by one, what is left of the answer at its end.
//!
//! Refuses: anything but an instant vector, and answers of which one row or all that is no
//! row has more than [`MOST_AT_ONCE`] bytes: something that is not Prometheus must not fill
//! the memory. Warnings are cut to [`MOST_WARNINGS`] short ones. Rows may have been handed over before the
//! answer turns out to be broken; whoever takes them throws them away then.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor},
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

/// Bytes of one row, and of everything that is no row. A row has some hundred bytes, with
/// the longest names that Kubernetes allows a few thousand.
const MOST_AT_ONCE: usize = 1 << 20;

/// Warnings that are kept of one answer, and remarks: they go into every report.
const MOST_WARNINGS: usize = 10;

/// Characters that are kept of a text that came with an answer.
const MOST_TEXT: usize = 500;

/// How much of an answer is kept to be shown.
const HEAD: usize = 800;

/// Reads one answer.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    answer: Answer,
    cutter: Cutter,
    head: Vec<u8>,
    bytes: usize,
}

impl Reader {
    /// Takes the next part of the body, handing each row with a finite number to `each`.
    pub(crate) fn feed(
        &mut self,
        part: &[u8],
        each: &mut (dyn FnMut(&Row<'_>) + Send),
    ) -> Result<(), BadAnswer> {
        self.bytes += part.len();
        let room = HEAD.saturating_sub(self.head.len()).min(part.len());
        self.head.extend_from_slice(&part[..room]);
        let Self { answer, cutter, .. } = self;
        cutter.feed(part, |row| answer.take(row, each).map_err(garbage))
    }

    /// The answer has ended.
    pub(crate) fn finish(mut self) -> Result<Answer, BadAnswer> {
        let rest = std::mem::take(&mut self.cutter.rest);
        let mut deserializer = serde_json::Deserializer::from_slice(&rest);
        let fields = Top(&mut self.answer).deserialize(&mut deserializer).map_err(garbage)?;
        deserializer.end().map_err(garbage)?;
        match fields.status.as_deref() {
            Some("success") => {}
            Some("error") => {
                return Err(BadAnswer::Rejected {
                    kind: shortened(&fields.error_type.unwrap_or_default()),
                    detail: shortened(&fields.error.unwrap_or_default()),
                });
            }
            other => return Err(garbage(format!("status is {other:?}"))),
        }
        match fields.result_type.as_deref() {
            Some("vector") => Ok(self.answer),
            other => Err(garbage(format!("resultType is {other:?}, not \"vector\""))),
        }
    }

    /// How the body begins.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Bytes read so far.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}

fn garbage(error: impl fmt::Display) -> BadAnswer {
    BadAnswer::Garbage(shortened(&error.to_string()))
}

/// A text that somebody else wrote, of a length that can be shown.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_TEXT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The first of many, and how many there were.
fn first(texts: Option<Vec<String>>) -> Vec<String> {
    let texts = texts.unwrap_or_default();
    let mut kept: Vec<_> = texts.iter().take(MOST_WARNINGS).map(|text| shortened(text)).collect();
    if let Some(more) = texts.len().checked_sub(MOST_WARNINGS + 1) {
        kept.push(format!("and {} more", more + 1));
    }
    kept
}

impl Answer {
    fn take(
        &mut self,
        row: &[u8],
        each: &mut (dyn FnMut(&Row<'_>) + Send),
    ) -> Result<(), serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(row);
        let row = OneRow.deserialize(&mut deserializer)?;
        self.rows += 1;
        match row {
            Some(row) => {
                self.evaluated = Some(row.evaluated);
                if row.value.is_finite() { each(&row) } else { self.skipped += 1 }
            }
            None => self.skipped += 1,
        }
        Ok(())
    }
}

/// Cuts rows out of an answer by counting brackets.
#[derive(Debug, Default)]
struct Cutter {
    /// What is no row.
    rest: Vec<u8>,
    /// The row at hand.
    row: Vec<u8>,
    /// Brackets that are open, the outermost first; deeper ones are only counted.
    open: [u8; ROW_DEPTH],
    depth: usize,
    in_text: bool,
    escaped: bool,
}

/// Rows lie in an object, an object and a list.
const ROW_DEPTH: usize = 3;

impl Cutter {
    fn feed(
        &mut self,
        part: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), BadAnswer>,
    ) -> Result<(), BadAnswer> {
        for byte in part {
            let among_rows = self.depth == ROW_DEPTH && self.open == *b"{{[";
            let in_row = self.depth > ROW_DEPTH && self.open == *b"{{[";
            let begins = among_rows && !self.in_text && *byte == b'{';
            // Between two rows; a list without its objects needs neither.
            let between = *byte == b',' || byte.is_ascii_whitespace();
            if in_row || begins {
                push(&mut self.row, *byte, "one row")?;
            } else if !(among_rows && !self.in_text && between) {
                push(&mut self.rest, *byte, "what is no row")?;
            }
            self.step(*byte);
            if in_row && self.depth == ROW_DEPTH {
                each(&self.row)?;
                self.row.clear();
            }
        }
        Ok(())
    }

    fn step(&mut self, byte: u8) {
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => {
                if let Some(place) = self.open.get_mut(self.depth) {
                    *place = byte;
                }
                self.depth += 1;
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

fn push(bytes: &mut Vec<u8>, byte: u8, what: &str) -> Result<(), BadAnswer> {
    if bytes.len() == MOST_AT_ONCE {
        return Err(garbage(format!("{what} has more than {MOST_AT_ONCE} bytes")));
    }
    bytes.push(byte);
    Ok(())
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

/// The answer without its rows.
struct Top<'a>(&'a mut Answer);

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
                    self.0.warnings = first(map.next_value()?);
                }
                "infos" => {
                    self.0.infos = first(map.next_value()?);
                }
                "data" => {
                    fields.result_type = map.next_value_seed(Data)?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

struct Data;

impl<'de> DeserializeSeed<'de> for Data {
    type Value = Option<Cow<'de, str>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        // `null` comes with errors.
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Data {
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
                    map.next_value::<NoRows>()?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(kind)
    }
}

/// A list whose objects were cut out.
#[derive(Deserialize)]
struct NoRows([(); 0]);

/// A row; none where it is a native histogram.
struct OneRow;

impl<'de> DeserializeSeed<'de> for OneRow {
    type Value = Option<Row<'de>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneRow {
    type Value = Option<Row<'de>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row with metric and value")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut row, mut sample, mut histogram) = (Row::default(), false, false);
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "metric" => map.next_value_seed(LabelsOf(&mut row.labels))?,
                "value" => {
                    let (evaluated, Text(value)) = map.next_value::<(f64, Text<'de>)>()?;
                    row.evaluated = evaluated;
                    row.value = number(&value).ok_or_else(|| {
                        de::Error::custom(format!("{value:?} is not a sample value"))
                    })?;
                    sample = true;
                }
                "histogram" => {
                    map.next_value::<IgnoredAny>()?;
                    histogram = true;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match (sample, histogram) {
            (true, _) => Ok(Some(row)),
            (false, true) => Ok(None),
            (false, false) => Err(de::Error::missing_field("value")),
        }
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

    /// Reads a body in parts of so many bytes.
    fn in_parts(body: &str, length: usize) -> Result<(Answer, Seen), BadAnswer> {
        let mut seen = Vec::new();
        let mut reader = Reader::default();
        for part in body.as_bytes().chunks(length) {
            reader.feed(part, &mut |row| seen.push((row.label("pod").to_owned(), row.value)))?;
        }
        assert_eq!(reader.bytes(), body.len());
        Ok((reader.finish()?, seen))
    }

    /// However it comes in, it is the same.
    fn rows(body: &str) -> Result<(Answer, Seen), BadAnswer> {
        let whole = in_parts(body, usize::MAX);
        for length in [1, 2, 3, 7, 64] {
            assert_eq!(in_parts(body, length), whole, "in parts of {length}");
        }
        whole
    }

    #[test]
    fn rows_warnings_and_the_instant_are_read_and_what_is_no_number_is_counted() {
        let body = r#"{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[
            {"metric":{"pod":"a"},"value":[1764000000.25,"1.5"]},
            {"metric":{"pod":"b"},"value":[1764000000.25,"NaN"]},
            {"metric":{"pod":"c"},"value":[1764000000.25,"+Inf"]},
            {"metric":{"pod":"h"},"histogram":[1764000000.25,{"count":"1"}]},
            {"metric":{"pod":"q\"uote\u00e9","x":"}]{["},"value":[1764000000.25,"2e3"]}],
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
        let mut each = |row: &Row<'_>| {
            borrowed += usize::from(matches!(row.labels[0].1, Cow::Borrowed(_)));
        };
        Reader::default().feed(body, &mut each).unwrap();
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

    /// Reads a body that begins so and then repeats a piece, up to so many bytes; says how
    /// many were kept.
    fn endless(head: &str, piece: &str, most: usize) -> (Result<(), BadAnswer>, usize) {
        let mut reader = Reader::default();
        let mut result = reader.feed(head.as_bytes(), &mut |_| {});
        while result.is_ok() && reader.bytes() < most {
            result = reader.feed(piece.repeat(1000).as_bytes(), &mut |_| {});
        }
        (result, reader.cutter.rest.len() + reader.cutter.row.len())
    }

    #[test]
    fn garbage_does_not_fill_the_memory() {
        let rows = r#"{"status":"success","data":{"resultType":"vector","result":["#;
        for (head, piece, what) in [
            ("<html>", "<p>hello</p>", "what is no row"),
            (r#"{"status":"success","warnings":["#, r#""w","#, "what is no row"),
            (rows, "x", "what is no row"),
            (&format!("{rows}{{"), r#""a":[],"#, "one row"),
            (&format!(r#"{rows}{{"metric":{{"a":""#), "x", "one row"),
        ] {
            let (result, kept) = endless(head, piece, 100 << 20);
            let expected = format!("{what} has more than 1048576 bytes");
            assert_eq!(result, Err(BadAnswer::Garbage(expected)), "{head}");
            assert!(kept <= 2 * MOST_AT_ONCE, "{kept}");
        }
        // Rows that are no garbage are as many as there are, however they are indented.
        let row = "\n            {\"metric\":{},\"value\":[1,\"1\"]},";
        let (result, kept) = endless(rows, row, 20 << 20);
        assert_eq!((result, kept), (Ok(()), rows.len()));
    }

    #[test]
    fn texts_that_came_with_an_answer_are_few_and_short() {
        let long = "\u{e9}".repeat(2000);
        let warnings = vec![format!("\"{long}\""); 12].join(",");
        let body = format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[]}},"warnings":[{warnings}],"infos":null}}"#
        );
        let (answer, _) = rows(&body).unwrap();
        assert_eq!((answer.warnings.len(), answer.infos.len()), (11, 0));
        assert_eq!(answer.warnings[0], format!("{}...", "\u{e9}".repeat(500)));
        assert_eq!(answer.warnings[10], "and 2 more");
        let body = format!(r#"{{"status":"error","errorType":"execution","error":"{long}"}}"#);
        let Err(BadAnswer::Rejected { detail, .. }) = rows(&body) else { panic!() };
        assert_eq!(detail.chars().count(), 503);
        let body = format!(r#"{{"status":"{long}"}}"#);
        let Err(BadAnswer::Garbage(detail)) = rows(&body) else { panic!() };
        assert_eq!(detail.chars().count(), 503);
    }
}
