//! What the query line knows of PromQL without an engine: words for completion, and slips that are plain at once.
//!
//! What is right is for the backend to say; here is only what can be told from the text alone, while it is typed.

use std::ops::Range;

use kymo_core::query::QueryError;

/// Functions and aggregations.
pub(super) const FUNCTIONS: &[&str] = &[
    "abs",
    "absent",
    "absent_over_time",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "avg",
    "avg_over_time",
    "bottomk",
    "ceil",
    "changes",
    "clamp",
    "clamp_max",
    "clamp_min",
    "cos",
    "cosh",
    "count",
    "count_over_time",
    "count_values",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "deg",
    "delta",
    "deriv",
    "double_exponential_smoothing",
    "end",
    "exp",
    "first_over_time",
    "floor",
    "group",
    "histogram_avg",
    "histogram_count",
    "histogram_fraction",
    "histogram_quantile",
    "histogram_quantiles",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "hour",
    "idelta",
    "increase",
    "info",
    "irate",
    "label_join",
    "label_replace",
    "last_over_time",
    "limit_ratio",
    "limitk",
    "ln",
    "log10",
    "log2",
    "mad_over_time",
    "max",
    "max_of",
    "max_over_time",
    "min",
    "min_of",
    "min_over_time",
    "minute",
    "month",
    "pi",
    "predict_linear",
    "present_over_time",
    "quantile",
    "quantile_over_time",
    "rad",
    "range",
    "rate",
    "resets",
    "round",
    "scalar",
    "sgn",
    "sin",
    "sinh",
    "sort",
    "sort_by_label",
    "sort_by_label_desc",
    "sort_desc",
    "sqrt",
    "start",
    "stddev",
    "stddev_over_time",
    "stdvar",
    "stdvar_over_time",
    "step",
    "sum",
    "sum_over_time",
    "tan",
    "tanh",
    "time",
    "timestamp",
    "topk",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
    "vector",
    "year",
];

/// Words that may stand before a bracket and are no functions.
const KEYWORDS: &[&str] = &[
    "and",
    "atan2",
    "bool",
    "by",
    "fill",
    "fill_left",
    "fill_right",
    "group_left",
    "group_right",
    "ignoring",
    "offset",
    "on",
    "or",
    "unless",
    "without",
];

/// What may be written at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// A metric or a function.
    Name,
    /// A label, of that metric if it is known.
    Label {
        /// The metric.
        metric: Option<String>,
    },
    /// The value of a label.
    Value {
        /// The label.
        label: String,
        /// The metric.
        metric: Option<String>,
    },
    /// Nothing that could be proposed: a number, a duration.
    Nothing,
}

/// What is expected at `cursor`, and where the word begins that stands before it.
pub(super) fn expected(text: &str, cursor: usize) -> (usize, Expected) {
    let typed = &text[..cursor];
    let mut scan = Scan::default();
    for (at, char) in typed.char_indices() {
        scan.step(typed, at, char);
    }
    if let Some((start, _)) = scan.string {
        let label = scan.label.clone().filter(|_| scan.braces.is_some());
        return match label {
            Some(label) => (start + 1, Expected::Value { label, metric: scan.metric() }),
            None => (start + 1, Expected::Nothing),
        };
    }
    let word = typed
        .rfind(|char: char| !is_word(char))
        .map_or(0, |at| at + typed[at..].chars().next().map_or(1, char::len_utf8));
    if typed[word..].starts_with(|char: char| char.is_ascii_digit()) || scan.range {
        return (word, Expected::Nothing);
    }
    if scan.braces.is_some() {
        return (word, Expected::Label { metric: scan.metric() });
    }
    if scan.grouping {
        let metric = text[cursor..]
            .split(|char: char| !is_word(char))
            .find(|word| word.len() > 1 && !FUNCTIONS.contains(word) && !KEYWORDS.contains(word));
        return (word, Expected::Label { metric: metric.map(str::to_owned) });
    }
    (word, Expected::Name)
}

fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_' || char == ':'
}

/// Where a reading of the text stands.
#[derive(Default)]
struct Scan {
    /// The string that is open: where, and its quote.
    string: Option<(usize, char)>,
    escaped: bool,
    /// The metric before the open brace; empty if there is none.
    braces: Option<String>,
    /// The label before the operator.
    label: Option<String>,
    /// Between the brackets of a range.
    range: bool,
    /// Between the brackets of `by`, `on` and the like.
    grouping: bool,
}

impl Scan {
    fn metric(&self) -> Option<String> {
        self.braces.clone().filter(|name| !name.is_empty())
    }

    fn step(&mut self, text: &str, at: usize, char: char) {
        if let Some((_, quote)) = self.string {
            match char {
                _ if self.escaped => self.escaped = false,
                '\\' if quote != '`' => self.escaped = true,
                _ if char == quote => self.string = None,
                _ => {}
            }
            return;
        }
        match char {
            '"' | '\'' | '`' => self.string = Some((at, char)),
            '{' => self.braces = Some(word_before(text, at).to_owned()),
            '}' => (self.braces, self.label) = (None, None),
            '=' | '!' if self.braces.is_some() => {
                let word = word_before(text, at);
                if !word.is_empty() {
                    self.label = Some(word.to_owned());
                }
            }
            ',' => self.label = None,
            '[' => self.range = true,
            ']' => self.range = false,
            '(' => {
                let word = word_before(text, at);
                self.grouping = matches!(word, "by" | "without" | "on" | "ignoring" | "group_left" | "group_right");
            }
            ')' => self.grouping = false,
            _ => {}
        }
    }
}

/// The word that ends before `at`, blanks skipped.
fn word_before(text: &str, at: usize) -> &str {
    let before = text[..at].trim_end();
    let start = before
        .rfind(|char: char| !is_word(char))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    &before[start..]
}

/// A slip that is plain from the text: where, and what. Text that is merely unfinished is none unless `is_done`.
pub(super) fn slip(text: &str, is_done: bool) -> Option<(Range<usize>, String)> {
    let mut scan = Scan::default();
    let mut open: Vec<(usize, char)> = Vec::new();
    for (at, char) in text.char_indices() {
        let was_string = scan.string.is_some();
        scan.step(text, at, char);
        if was_string || scan.string.is_some() {
            continue;
        }
        let closes = |opening: char| matches!((opening, char), ('(', ')') | ('[', ']') | ('{', '}'));
        match char {
            '(' | '[' | '{' => {
                let word = word_before(text, at);
                let starts_word = word.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_');
                let is_known = FUNCTIONS.contains(&word.to_ascii_lowercase().as_str())
                    || KEYWORDS.contains(&word.to_ascii_lowercase().as_str());
                if char == '(' && starts_word && !is_known {
                    let start = at - (at - text[..at].trim_end().len()) - word.len();
                    return Some((start..start + word.len(), format!("unknown function {word:?}")));
                }
                open.push((at, char));
            }
            ')' | ']' | '}' => match open.pop() {
                Some((_, opening)) if closes(opening) => {}
                Some((_, opening)) => return Some((at..at + 1, format!("{char:?} closes {opening:?}"))),
                None => return Some((at..at + 1, format!("{char:?} closes nothing"))),
            },
            _ => {}
        }
    }
    if !is_done {
        return None;
    }
    if let Some((start, _)) = scan.string {
        return Some((start..text.len(), "this string has no end".to_owned()));
    }
    open.last().map(|(at, char)| (*at..at + 1, format!("{char:?} is not closed")))
}

/// Where in an expression an error lies, and its words without the place; `None` when it names none.
///
/// Errors that came over an API have no span but begin `LINE:COLUMN: parse error:`, counted from 1, columns in bytes.
pub fn place<'a>(expression: &str, error: &'a QueryError) -> Option<(Range<usize>, &'a str)> {
    let (span, message) = match (error.span, positioned(expression, &error.message)) {
        (Some((start, end)), found) => {
            (start as usize..end as usize, found.map_or(&*error.message, |(_, message)| message))
        }
        (None, Some((at, message))) => (word_at(expression, at), message),
        (None, None) => return None,
    };
    let start = expression.floor_char_boundary(span.start.min(expression.len()));
    let end = expression.ceil_char_boundary(span.end.min(expression.len()));
    Some((start..end.max(start), message))
}

fn positioned<'a>(expression: &str, message: &'a str) -> Option<(usize, &'a str)> {
    let (before, text) = message.split_once(": parse error: ")?;
    let (line, column) = before.rsplit(' ').next()?.split_once(':')?;
    let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
    let line_start: usize = expression.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let at = line_start.checked_add(column.checked_sub(1)?)?;
    (at <= expression.len()).then_some((at, text))
}

/// The word that starts at `at`, or the one character there.
fn word_at(expression: &str, at: usize) -> Range<usize> {
    let Some(rest) = expression.get(at..) else { return at..at };
    let word = rest.find(|char: char| !(char.is_alphanumeric() || char == '_')).unwrap_or(rest.len());
    let first = rest.chars().next().map_or(0, char::len_utf8);
    at..at + word.max(first)
}

/// A label value as it stands between double quotes.
pub(super) fn quoted(value: &str) -> String {
    let mut text = String::new();
    kymo_core::text::write_quoted(&mut text, value);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_come_next_follows_from_what_stands_before() {
        let label = |metric: &str| Expected::Label { metric: Some(metric.to_owned()) };
        let value =
            |name: &str, metric: &str| Expected::Value { label: name.to_owned(), metric: Some(metric.to_owned()) };
        for (text, start, expected_here) in [
            ("", 0, Expected::Name),
            ("sum(ra", 4, Expected::Name),
            ("up{", 3, label("up")),
            ("up{job=\"a\",ins", 11, label("up")),
            ("up{job=\"no", 8, value("job", "up")),
            ("up{job=~'x|", 9, value("job", "up")),
            ("up{job=\"a\"}", 11, Expected::Name),
            ("rate(a_total[5", 13, Expected::Nothing),
            ("sum by (jo", 8, Expected::Label { metric: None }),
            ("label_replace(up, \"a", 19, Expected::Nothing),
            ("1", 0, Expected::Nothing),
        ] {
            assert_eq!(expected(text, text.len()), (start, expected_here), "{text}");
        }
        assert_eq!(expected("sum by () (rate(http_total[1m]))", 8), (8, label("http_total")));
    }

    #[test]
    fn plain_slips_are_found_while_typing_and_unfinished_text_is_none() {
        for (text, done, found) in [
            ("sum(rate(a[5m]))", true, None),
            ("sum(rate(", false, None),
            ("sum(rate(", true, Some(8..9)),
            ("smu(up)", false, Some(0..3)),
            ("sum(up))", false, Some(7..8)),
            ("sum(up]", false, Some(6..7)),
            ("up{a=\"(", false, None),
            ("up{a=\"x", true, Some(5..7)),
            ("a and on(b) c", true, None),
            ("sum by (job) (up)", true, None),
        ] {
            assert_eq!(slip(text, done).map(|(range, _)| range), found, "{text}");
        }
    }

    #[test]
    fn an_error_of_the_api_is_put_at_its_place() {
        let error = QueryError::parse("1:5: parse error: unexpected identifier \"b\"", None);
        assert_eq!(place("up + bcd", &error), Some((4..5, "unexpected identifier \"b\"")));
        let error = QueryError::parse("bad", Some((1, 99)));
        assert_eq!(place("añb", &error), Some((1..4, "bad")));
        assert_eq!(place("up", &QueryError::parse("no place", None)), None);
    }
}
