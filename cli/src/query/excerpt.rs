//! Where in an expression a query error lies.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use kymo_core::QueryError;
use kymo_dashboard::terminal::place;

/// The error with the place underlined; `None` when it names no place in the text.
pub(super) fn render(expression: &str, error: &QueryError) -> Option<String> {
    let (span, message) = place(expression, error)?;
    let snippet = Snippet::source(expression).path("expression").annotation(AnnotationKind::Primary.span(span));
    Some(Renderer::styled().render(&[Level::ERROR.primary_title(message).element(snippet)]))
}
