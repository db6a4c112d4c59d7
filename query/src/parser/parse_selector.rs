//! Selectors, what may follow them, and lists of labels.

use kymo_core::Matcher;

use super::ast::BinaryOp;
use super::ast::{
    At, Expr, ExprKind, LabelMatcher, MatchOp, MatrixSelector, RangeExtension, Span, Subquery, ValueType,
    VectorSelector,
};
use super::duration::DurationExpr;
use super::error::{Fault, ParseError};
use super::go_regex;
use super::options::ParseOptions;
use super::parse::{Parser, is_query_bound};
use super::quote::{quoted, unquote};
use super::token::{Keyword, QueryWord, Token, TokenKind};

/// The label that holds a metric's name.
pub(super) const NAME_LABEL: &str = "__name__";

/// Parses a selector alone, as `match[]` takes it: `up{job="api"}`. It may match everything.
///
/// # Errors
/// As [`parse`](super::parse::parse).
pub fn parse_metric_selector(query: &str, options: &ParseOptions) -> Result<Vec<LabelMatcher>, ParseError> {
    metric_selector(query, options).map_err(|fault| ParseError::new(query, fault.span, fault.message))
}

fn metric_selector(query: &str, options: &ParseOptions) -> Result<Vec<LabelMatcher>, Fault> {
    let mut parser = Parser::new(query, options)?;
    let first = parser.peek()?;
    if first.kind == TokenKind::LeftBrace {
        parser.selector(None)?;
    } else if first.can_name_metric() {
        parser.take();
        parser.selector(Some(first))?;
    } else {
        return Err(parser.unexpected("", ""));
    }
    if parser.peek()?.kind != TokenKind::Eof {
        return Err(parser.unexpected("", ""));
    }
    Ok(match &mut parser.last_mut().kind {
        ExprKind::VectorSelector(selector) => std::mem::take(&mut selector.matchers),
        _ => Vec::new(),
    })
}

/// What modifiers apply to, if they may apply at all.
enum Target<'e> {
    Selector(&'e mut VectorSelector),
    Subquery(&'e mut Subquery),
}

fn target(expr: &mut Expr) -> Option<Target<'_>> {
    match &mut expr.kind {
        ExprKind::VectorSelector(selector) => Some(Target::Selector(selector)),
        ExprKind::MatrixSelector(matrix) => Some(Target::Selector(&mut matrix.selector)),
        ExprKind::Subquery(subquery) => Some(Target::Subquery(subquery)),
        _ => None,
    }
}

impl Parser<'_> {
    /// A selector whose name, if any, was taken and whose braces, if any, come next.
    pub(super) fn selector(&mut self, name: Option<Token>) -> Result<(), Fault> {
        let query = self.query();
        let mut selector = VectorSelector::default();
        let mut may_match_all = true;
        let first = self.peek()?;
        if first.kind == TokenKind::LeftBrace {
            may_match_all = self.matchers(&mut selector.matchers)?;
        }
        let start = name.unwrap_or(first).span.start;
        let span = Span::new(start, self.taken_end());
        if let Some(token) = name {
            let name = token.text(query).to_owned();
            selector.matchers.push(LabelMatcher {
                name: NAME_LABEL.to_owned(),
                op: MatchOp::Equal,
                value: name.clone(),
                span: token.span,
            });
            selector.name = Some(name);
            may_match_all = false;
        }
        let kind = ExprKind::VectorSelector(Box::new(selector));
        let id = self.push_node(kind, span, ValueType::Vector)?;
        if may_match_all {
            self.unselective.push(id);
        }
        Ok(())
    }

    /// `{…}`, up to and including its closing brace; whether all matchers match an absent label.
    fn matchers(&mut self, matchers: &mut Vec<LabelMatcher>) -> Result<bool, Fault> {
        const CONTEXT: &str = "label matching";
        let mut may_match_all = true;
        self.take();
        loop {
            let label = self.peek()?;
            match label.kind {
                TokenKind::RightBrace => break,
                TokenKind::Identifier | TokenKind::String => self.take(),
                _ => return Err(self.unexpected(CONTEXT, "identifier or \"}\"")),
            }
            let is_quoted = label.kind == TokenKind::String;
            let name = if is_quoted { unquote(label.text(self.query())) } else { label.text(self.query()).to_owned() };
            let op = match self.peek()?.kind {
                TokenKind::Assign => Some(MatchOp::Equal),
                TokenKind::Operator(BinaryOp::NotEqual) => Some(MatchOp::NotEqual),
                TokenKind::MatchRegex => Some(MatchOp::Regex),
                TokenKind::MatchNotRegex => Some(MatchOp::NotRegex),
                _ => None,
            };
            let matcher = match op {
                Some(op) => {
                    self.take();
                    let value = self.peek()?;
                    if value.kind != TokenKind::String {
                        return Err(self.unexpected(CONTEXT, "string"));
                    }
                    self.take();
                    LabelMatcher { name, op, value: unquote(value.text(self.query())), span: label.span.to(value.span) }
                }
                // A string alone is the metric's name.
                None if is_quoted => {
                    LabelMatcher { name: NAME_LABEL.to_owned(), op: MatchOp::Equal, value: name, span: label.span }
                }
                None => return Err(self.unexpected(CONTEXT, "label matching operator")),
            };
            self.count_node(matcher.span)?;
            if matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex) {
                self.count_regex(matcher.span)?;
            }
            may_match_all &= matches_empty(&matcher)?;
            matchers.push(matcher);
            match self.peek()?.kind {
                TokenKind::Comma => self.take(),
                TokenKind::RightBrace => break,
                _ => return Err(self.unexpected(CONTEXT, "\",\" or \"}\"")),
            }
        }
        self.take();
        Ok(may_match_all)
    }

    /// `(label, "quoted label")`, after `by`, `on` and their like.
    pub(super) fn grouping(&mut self) -> Result<Vec<String>, Fault> {
        const CONTEXT: &str = "grouping opts";
        if self.peek()?.kind != TokenKind::LeftParen {
            return Err(self.unexpected(CONTEXT, "\"(\""));
        }
        self.take();
        let mut labels = Vec::new();
        loop {
            let label = self.peek()?;
            let text = label.text(self.query());
            let name = match label.kind {
                TokenKind::RightParen => break,
                TokenKind::String => unquote(text),
                _ if label.can_name_label() => text.to_owned(),
                _ => return Err(self.unexpected(CONTEXT, "label")),
            };
            self.take();
            if name.is_empty() {
                let message = format!("invalid label name for grouping: {}", quoted(&name));
                return Err(Fault::new(label.span, message));
            }
            labels.push(name);
            match self.peek()?.kind {
                TokenKind::Comma => self.take(),
                TokenKind::RightParen => break,
                _ => return Err(self.unexpected(CONTEXT, "\",\" or \")\"")),
            }
        }
        self.take();
        Ok(labels)
    }

    /// `[range]` or `[range:step]` after an operand.
    pub(super) fn bracket(&mut self) -> Result<(), Fault> {
        let open = self.peek()?;
        self.take();
        let range = self.range_duration()?;
        let mut step = None;
        let is_subquery = self.peek()?.kind == TokenKind::Colon;
        if is_subquery {
            self.take();
            if self.peek()?.kind != TokenKind::RightBracket {
                step = Some(self.step_duration()?);
                if self.peek()?.kind != TokenKind::RightBracket {
                    return Err(self.unexpected("subquery selector", "\"]\""));
                }
            }
        } else if self.peek()?.kind != TokenKind::RightBracket {
            return Err(self.unexpected("subquery or range", "\":\" or \"]\""));
        }
        self.take();
        let close_end = self.taken_end();
        if is_subquery {
            return self.subquery(range, step, close_end);
        }
        let misplaced = |message| {
            let span = Span::new(open.span.start, close_end);
            Err(Fault::new(span, message))
        };
        let expr = self.last_mut();
        let ExprKind::VectorSelector(selector) = &mut expr.kind else {
            return misplaced("ranges only allowed for vector selectors");
        };
        if selector.offset.is_some() {
            return misplaced("no offset modifiers allowed before range");
        }
        // Upstream lets `@ start()` and `@ end()` pass here.
        if matches!(selector.at, Some(At::Timestamp(_))) {
            return misplaced("no @ modifiers allowed before range");
        }
        let selector = std::mem::take(selector.as_mut());
        expr.kind = ExprKind::MatrixSelector(Box::new(MatrixSelector { selector, range }));
        expr.span.end = close_end;
        expr.value_type = ValueType::Matrix;
        Ok(())
    }

    fn subquery(&mut self, range: DurationExpr, step: Option<DurationExpr>, end: u32) -> Result<(), Fault> {
        let expr = self.last();
        let span = Span::new(self.last_mut().span.start, end);
        let subquery = Subquery { expr, range, step, offset: None, at: None };
        let kind = ExprKind::Subquery(Box::new(subquery));
        self.push_node(kind, span, ValueType::Matrix)?;
        Ok(())
    }

    /// `offset 5m` after an operand.
    pub(super) fn offset(&mut self) -> Result<(), Fault> {
        self.take();
        let offset = self.offset_duration()?;
        let end = self.taken_end();
        let expr = self.last_mut();
        let span = expr.span;
        let slot = match target(expr) {
            Some(Target::Selector(selector)) => &mut selector.offset,
            Some(Target::Subquery(subquery)) => &mut subquery.offset,
            None => {
                let message = "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                return Err(Fault::new(span, message));
            }
        };
        if slot.is_some() {
            return Err(Fault::new(span, "offset may not be set multiple times"));
        }
        *slot = Some(offset);
        expr.span.end = end;
        Ok(())
    }

    /// `@ 1609746000`, `@ start()` or `@ end()` after an operand.
    pub(super) fn at(&mut self) -> Result<(), Fault> {
        const EXPECTED: &str = "timestamp";
        self.take();
        let token = self.peek()?;
        let at = if is_query_bound(token) {
            self.take();
            for kind in [TokenKind::LeftParen, TokenKind::RightParen] {
                if self.peek()?.kind != kind {
                    return Err(self.unexpected("@", EXPECTED));
                }
                self.take();
            }
            if token.kind == TokenKind::Query(QueryWord::Start) { At::Start } else { At::End }
        } else {
            let Some(seconds) = self.signed_number()? else {
                return Err(self.unexpected("@", EXPECTED));
            };
            let span = self.last_mut().span;
            At::Timestamp(timestamp_ms(seconds, span)?)
        };
        let end = self.taken_end();
        let expr = self.last_mut();
        let span = expr.span;
        let slot = match target(expr) {
            Some(Target::Selector(selector)) => &mut selector.at,
            Some(Target::Subquery(subquery)) => &mut subquery.at,
            None => {
                let message =
                    "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                return Err(Fault::new(span, message));
            }
        };
        if slot.is_some() {
            let message = "@ <timestamp> may not be set multiple times";
            return Err(Fault::new(span, message));
        }
        *slot = Some(at);
        expr.span.end = end;
        Ok(())
    }

    /// `anchored` or `smoothed` after an operand.
    pub(super) fn range_extension(&mut self, keyword: Keyword) -> Result<(), Fault> {
        self.take();
        let end = self.taken_end();
        let is_enabled = self.options().extended_range_selectors;
        let (word, extension) = if keyword == Keyword::Anchored {
            ("anchored", RangeExtension::Anchored)
        } else {
            ("smoothed", RangeExtension::Smoothed)
        };
        let expr = self.last_mut();
        let span = expr.span;
        let fail = |message: String| Err(Fault::new(span, message));
        if !is_enabled {
            return fail(format!("{word} modifier is experimental and not enabled"));
        }
        let selector = match target(expr) {
            Some(Target::Selector(selector)) => selector,
            Some(Target::Subquery(_)) => {
                return fail(format!("{word} modifier is not supported for subqueries"));
            }
            None => return fail(format!("{word} modifier not implemented")),
        };
        if selector.extension != RangeExtension::None && selector.extension != extension {
            let message = "anchored and smoothed modifiers cannot be used together";
            return fail(message.to_owned());
        }
        selector.extension = extension;
        expr.span.end = end;
        Ok(())
    }
}

/// Whether the matcher accepts an absent label; checks that a regular expression compiles.
fn matches_empty(matcher: &LabelMatcher) -> Result<bool, Fault> {
    match matcher.op {
        MatchOp::Equal => Ok(matcher.value.is_empty()),
        MatchOp::NotEqual => Ok(!matcher.value.is_empty()),
        MatchOp::Regex | MatchOp::NotRegex => {
            let refused = |reason| Fault::new(matcher.span, format!("error parsing regexp: {reason}"));
            go_regex::check(&matcher.value).map_err(refused)?;
            Matcher::new(&matcher.name, matcher.op, &matcher.value)
                .map(|compiled| compiled.matches_empty())
                .map_err(|error| refused(error.reason))
        }
    }
}

/// Seconds since the epoch in ms.
fn timestamp_ms(seconds: f64, span: Span) -> Result<i64, Fault> {
    // Both ends are powers of two, so the comparison is exact.
    if seconds > i64::MIN as f64 && seconds < i64::MAX as f64 {
        return Ok((seconds * 1000.0).round() as i64);
    }
    let text = match seconds {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ if seconds.is_nan() => "NaN".to_owned(),
        _ => format!("{seconds:.6}"),
    };
    let message = format!("timestamp out of bounds for @ modifier: {text}");
    Err(Fault::new(span, message))
}
