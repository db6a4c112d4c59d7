//! Why a query was refused, and where.

use std::fmt;

use super::ast::Span;

/// A query that is not PromQL, or not well typed, or over a limit.
///
/// `Display` is the text Prometheus answers: `1:3: parse error: unexpected end of input`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The offending bytes.
    pub span: Span,
    /// What is wrong with them, without a position.
    pub message: String,
    /// Line of the first offending byte, from 1; 0 for an empty query, which has no position.
    pub line: u32,
    /// Byte within the line, from 1; 0 for an empty query.
    pub column: u32,
}

impl ParseError {
    /// Finds line and column of `span` in the query it belongs to.
    pub(super) fn new(query: &str, span: Span, message: impl Into<String>) -> Self {
        let message = message.into();
        if query.is_empty() {
            return Self { span, message, line: 0, column: 0 };
        }
        let before = &query.as_bytes()[..query.len().min(span.start as usize)];
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |idx| idx + 1);
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        Self { span, message, line: line as u32, column: (before.len() - line_start + 1) as u32 }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "unknown position: parse error: {}", self.message)
        } else {
            write!(f, "{}:{}: parse error: {}", self.line, self.column, self.message)
        }
    }
}

impl std::error::Error for ParseError {}

/// A finding before its line and column are looked up.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) span: Span,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into() }
    }
}
