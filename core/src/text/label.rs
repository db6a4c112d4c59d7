//! Series as text: `name{a="b", c="d"}`, and `{"a.b", "k.x"="v"}` where a name needs quotes.

use std::fmt;

use super::escape::{UnquoteReason, unquote_prefix, write_quoted};
use super::sink::{Relay, TextSink};
use crate::labels::METRIC_NAME;

/// Whether `name` is a metric name that needs no quotes: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
///
/// Any other non-empty UTF-8 text is a metric name too, but is written in quotes.
pub fn is_legacy_metric_name(name: &str) -> bool {
    is_legacy(name, |byte| byte == b':')
}

/// Whether `name` is a label name that needs no quotes: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_legacy_label_name(name: &str) -> bool {
    is_legacy(name, |_| false)
}

fn is_legacy(name: &str, also: impl Fn(u8) -> bool) -> bool {
    !name.is_empty() && bare_len(name, also) == name.len()
}

/// Length of the longest prefix that is a bare name.
fn bare_len(text: &str, also: impl Fn(u8) -> bool) -> usize {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || also(byte);
    match text.bytes().next() {
        Some(first) if letter(first) => text.bytes().take_while(|&byte| letter(byte) || byte.is_ascii_digit()).count(),
        _ => 0,
    }
}

/// Appends a label name, in quotes only if it needs them.
pub fn write_label_name<S: TextSink + ?Sized>(out: &mut S, name: &str) {
    if is_legacy_label_name(name) {
        out.push_str(name);
    } else {
        write_quoted(out, name);
    }
}

/// Appends a series' text from its labels, `__name__` among them or absent.
///
/// Labels keep their order; the metric name comes first wherever it stood; empty values, which equal
/// absent labels, are left out. A series without labels is `{}`.
///
/// ```
/// use kymo_core::text::write_series_text;
///
/// let mut text = String::new();
/// write_series_text(&mut text, [("__name__", "up"), ("job", "node"), ("k8s.pod", "a\"b")]);
/// assert_eq!(text, r#"up{job="node", "k8s.pod"="a\"b"}"#);
/// ```
pub fn write_series_text<'a, S, L>(out: &mut S, labels: L)
where
    S: TextSink + ?Sized,
    L: IntoIterator<Item = (&'a str, &'a str)>,
    L::IntoIter: Clone,
{
    let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
    let name = labels.clone().find(|(label, _)| *label == METRIC_NAME).map(|(_, value)| value);
    let mut separator = "{";
    match name {
        Some(name) if is_legacy_metric_name(name) => out.push_str(name),
        Some(name) => {
            out.push_str("{");
            write_quoted(out, name);
            separator = ", ";
        }
        None => {}
    }
    let bare_name = separator == "{" && name.is_some();
    for (label, value) in labels.filter(|(label, _)| *label != METRIC_NAME) {
        out.push_str(separator);
        separator = ", ";
        write_label_name(out, label);
        out.push_str("=");
        write_quoted(out, value);
    }
    match separator {
        "{" if bare_name => {}
        "{" => out.push_str("{}"),
        _ => out.push_str("}"),
    }
}

/// Labels that display as [`write_series_text`] writes them.
#[derive(Debug, Clone, Copy)]
pub struct SeriesText<L>(pub L);

impl<'a, L> fmt::Display for SeriesText<L>
where
    L: IntoIterator<Item = (&'a str, &'a str)> + Clone,
    L::IntoIter: Clone,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut relay = Relay::new(f);
        write_series_text(&mut relay, self.0.clone());
        relay.result
    }
}

/// Why text is not a series, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct SeriesTextError {
    /// Byte offset in the whole text.
    pub offset: usize,
    /// What is wrong there.
    pub reason: SeriesTextReason,
}

/// What is wrong with a series' text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeriesTextReason {
    /// Something else stands where this was expected.
    #[error("expected {what}")]
    Expected {
        /// What was expected, in words.
        what: &'static str,
    },
    /// A quoted name or value cannot be read.
    #[error(transparent)]
    Quoted(UnquoteReason),
    /// A label, or the metric name, is given twice.
    #[error("label {} is given twice", super::QuotedText(.name))]
    Duplicate {
        /// The label's name.
        name: String,
    },
    /// A label's name is empty.
    #[error("a label name is empty")]
    EmptyName,
}

/// Reads a series' text: `name`, `name{…}`, `{…}`, `{"name", …}`.
///
/// Values may be in double, single or back quotes; blanks may stand between tokens; a comma may
/// stand before the closing brace. Returns the labels sorted by name (bytes), `__name__` among
/// them, those with an empty value left out.
///
/// # Errors
/// [`SeriesTextError`] names the first byte that does not fit.
pub fn parse_series_text(text: &str) -> Result<Vec<(String, String)>, SeriesTextError> {
    let mut reader = Reader { text, at: 0, labels: Vec::new() };
    reader.skip_blanks();
    let name_len = bare_len(reader.rest(), |byte| byte == b':');
    if name_len > 0 {
        let name = &text[reader.at..reader.at + name_len];
        reader.add(reader.at, METRIC_NAME, name)?;
        reader.at += name_len;
        reader.skip_blanks();
    }
    if name_len == 0 || !reader.rest().is_empty() {
        reader.expect('{', if name_len == 0 { "a metric name or '{'" } else { "'{'" })?;
        reader.read_labels()?;
        reader.skip_blanks();
    }
    if !reader.rest().is_empty() {
        return Err(reader.expected("the end of the series"));
    }
    let mut labels = reader.labels;
    labels.retain(|(_, value)| !value.is_empty());
    labels.sort_unstable();
    Ok(labels)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    labels: Vec<(String, String)>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn expected(&self, what: &'static str) -> SeriesTextError {
        SeriesTextError { offset: self.at, reason: SeriesTextReason::Expected { what } }
    }

    fn try_take(&mut self, c: char) -> bool {
        self.skip_blanks();
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn expect(&mut self, c: char, what: &'static str) -> Result<(), SeriesTextError> {
        if self.try_take(c) { Ok(()) } else { Err(self.expected(what)) }
    }

    /// After `{`: labels, commas and the closing brace.
    fn read_labels(&mut self) -> Result<(), SeriesTextError> {
        while !self.try_take('}') {
            let start = self.at;
            let bare = bare_len(self.rest(), |_| false);
            let (name, quoted) = if bare > 0 {
                self.at += bare;
                (self.text[start..self.at].to_owned(), false)
            } else {
                (self.read_quoted("a label name or '}'")?, true)
            };
            if self.try_take('=') {
                self.skip_blanks();
                let value = self.read_quoted("a quoted label value")?;
                self.add(start, &name, &value)?;
            } else if quoted {
                self.add(start, METRIC_NAME, &name)?;
            } else {
                return Err(self.expected("'='"));
            }
            if !self.try_take(',') {
                self.expect('}', "',' or '}'")?;
                break;
            }
        }
        Ok(())
    }

    fn read_quoted(&mut self, what: &'static str) -> Result<String, SeriesTextError> {
        let (value, len) = unquote_prefix(self.rest()).map_err(|error| SeriesTextError {
            offset: self.at + error.offset,
            reason: match error.reason {
                UnquoteReason::NotQuoted => SeriesTextReason::Expected { what },
                reason => SeriesTextReason::Quoted(reason),
            },
        })?;
        self.at += len;
        Ok(value.into_owned())
    }

    fn add(&mut self, offset: usize, name: &str, value: &str) -> Result<(), SeriesTextError> {
        let reason = if name.is_empty() {
            SeriesTextReason::EmptyName
        } else if self.labels.iter().any(|(known, _)| known == name) {
            SeriesTextReason::Duplicate { name: name.to_owned() }
        } else {
            self.labels.push((name.to_owned(), value.to_owned()));
            return Ok(());
        };
        Err(SeriesTextError { offset, reason })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn render(labels: &[(&str, &str)]) -> String {
        SeriesText(labels.iter().copied()).to_string()
    }

    #[test]
    fn writes_series_as_prometheus_does() {
        let rows: &[(&[(&str, &str)], &str)] = &[
            (&[], "{}"),
            (&[("__name__", "up")], "up"),
            (&[("__name__", "job:up:sum"), ("job", "a")], r#"job:up:sum{job="a"}"#),
            (&[("a", "1"), ("__name__", "up"), ("z", "2")], r#"up{a="1", z="2"}"#),
            (&[("a", "1")], r#"{a="1"}"#),
            (&[("__name__", "a.b")], r#"{"a.b"}"#),
            (&[("__name__", "a.b"), ("k.x", "v")], r#"{"a.b", "k.x"="v"}"#),
            (&[("__name__", "up"), ("gone", "")], "up"),
            (&[("a", "x\n\"y\"")], r#"{a="x\n\"y\""}"#),
        ];
        for (labels, text) in rows {
            assert_eq!(render(labels), *text);
        }
    }

    #[test]
    fn reads_what_people_write() {
        let rows: &[(&str, &[(&str, &str)])] = &[
            (" up ", &[("__name__", "up")]),
            ("up{}", &[("__name__", "up")]),
            ("{}", &[]),
            ("up { a = 'x' , b=`y`, }", &[("__name__", "up"), ("a", "x"), ("b", "y")]),
            (r#"{"a.b", "k.x"="v"}"#, &[("__name__", "a.b"), ("k.x", "v")]),
            (r#"{b="2", __name__="up", a="", A="1"}"#, &[("A", "1"), ("__name__", "up"), ("b", "2")]),
        ];
        for (text, labels) in rows {
            let expected: Vec<_> = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(parse_series_text(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn says_where_a_series_is_wrong() {
        let rows = [
            ("", "expected a metric name or '{' at byte 0"),
            ("9lead", "expected a metric name or '{' at byte 0"),
            ("a.b", "expected '{' at byte 1"),
            ("up{a}", "expected '=' at byte 4"),
            ("up{a=b}", "expected a quoted label value at byte 5"),
            ("up{a=\"b\" c=\"d\"}", "expected ',' or '}' at byte 9"),
            ("up{a=\"b\"", "expected ',' or '}' at byte 8"),
            ("up{,}", "expected a label name or '}' at byte 3"),
            ("up{a=\"b\"} 1", "expected the end of the series at byte 10"),
            ("up{a=\"\\d\"}", "invalid escape sequence at byte 6"),
            ("up{a=\"1\",a=\"2\"}", "label \"a\" is given twice at byte 9"),
            ("up{\"down\"}", "label \"__name__\" is given twice at byte 3"),
            ("{\"\"=\"x\"}", "a label name is empty at byte 1"),
        ];
        for (text, message) in rows {
            assert_eq!(parse_series_text(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn bare_names_are_the_legacy_ones() {
        for name in ["a", "_", "a9", "http_requests_total"] {
            assert!(is_legacy_metric_name(name) && is_legacy_label_name(name), "{name}");
        }
        assert!(is_legacy_metric_name(":a:b") && !is_legacy_label_name(":a:b"));
        for name in ["", "9a", "a.b", "温度", "a-b", "a b"] {
            assert!(!is_legacy_metric_name(name) && !is_legacy_label_name(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn rendered_series_read_back(
            labels in prop::collection::btree_map("\\PC{1,6}|[a-z_]{1,6}|__name__", ".{1,8}|[\\x00-\\x20\"\\\\]{1,4}", 0..5)
        ) {
            let labels: BTreeMap<String, String> = labels;
            let pairs: Vec<(&str, &str)> =
                labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let back = parse_series_text(&render(&pairs)).unwrap();
            prop_assert_eq!(back, labels.into_iter().collect::<Vec<_>>());
        }
    }
}
