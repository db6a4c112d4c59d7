//! Where in an expression a query error lies.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use kymo_core::QueryError;

/// The error with the place underlined; `None` when it names no place in the text.
pub(super) fn render(expression: &str, error: &QueryError) -> Option<String> {
    let (span, message) = match (error.span, positioned(expression, &error.message)) {
        (Some((start, end)), found) => {
            (start as usize..end as usize, found.map_or(&*error.message, |(_, message)| message))
        }
        (None, Some((at, message))) => (word_at(expression, at), message),
        (None, None) => return None,
    };
    let span = within(expression, span);
    let snippet = Snippet::source(expression).path("expression").annotation(AnnotationKind::Primary.span(span));
    Some(Renderer::styled().render(&[Level::ERROR.primary_title(message).element(snippet)]))
}

/// Reads `… LINE:COLUMN: parse error: MESSAGE`, as every Prometheus API says it: the byte offset, and the message
/// without the place. Lines and columns count from 1, columns in bytes.
fn positioned<'a>(expression: &str, message: &'a str) -> Option<(usize, &'a str)> {
    let (before, text) = message.split_once(": parse error: ")?;
    let place = before.rsplit(' ').next()?;
    let (line, column) = place.split_once(':')?;
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

/// The nearest span that lies in the text and cuts no character.
fn within(text: &str, span: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    let end = text.ceil_char_boundary(span.end.min(text.len()));
    start..end.max(start)
}
