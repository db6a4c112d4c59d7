//! The words of PromQL.

use super::ast::{BinaryOp, Span};
use super::functions::AggregateOp;
use super::quote::quoted;

/// A word and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Eof,
    Comma,
    Colon,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    /// `=` of a matcher.
    Assign,
    /// `=~`
    MatchRegex,
    /// `!~`
    MatchNotRegex,
    At,
    Number,
    Duration,
    String,
    Identifier,
    /// An identifier with a colon, which only a metric can have.
    MetricIdentifier,
    /// `!=` of a matcher is [`BinaryOp::NotEqual`].
    Operator(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
    Query(QueryWord),
}

/// Words that modify an operator, a selector or an aggregation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Anchored,
    Bool,
    By,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Smoothed,
    Without,
}

/// Words that stand for a property of the query, or combine two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueryWord {
    Start,
    End,
    Step,
    Range,
    MinOf,
    MaxOf,
}

/// The meaning of a word outside braces; words are known in any case.
pub(super) fn reserved(word: &str) -> Option<TokenKind> {
    use TokenKind::{Aggregate, Keyword as Key, Number, Operator, Query};
    // No reserved word is longer, and most metric names are: they need not be folded.
    if word.len() > "count_values".len() {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    Some(match lower.as_str() {
        "and" => Operator(BinaryOp::And),
        "or" => Operator(BinaryOp::Or),
        "unless" => Operator(BinaryOp::Unless),
        "atan2" => Operator(BinaryOp::Atan2),
        "anchored" => Key(Keyword::Anchored),
        "bool" => Key(Keyword::Bool),
        "by" => Key(Keyword::By),
        "fill" => Key(Keyword::Fill),
        "fill_left" => Key(Keyword::FillLeft),
        "fill_right" => Key(Keyword::FillRight),
        "group_left" => Key(Keyword::GroupLeft),
        "group_right" => Key(Keyword::GroupRight),
        "ignoring" => Key(Keyword::Ignoring),
        "offset" => Key(Keyword::Offset),
        "on" => Key(Keyword::On),
        "smoothed" => Key(Keyword::Smoothed),
        "without" => Key(Keyword::Without),
        "start" => Query(QueryWord::Start),
        "end" => Query(QueryWord::End),
        "step" => Query(QueryWord::Step),
        "range" => Query(QueryWord::Range),
        "min_of" => Query(QueryWord::MinOf),
        "max_of" => Query(QueryWord::MaxOf),
        "inf" | "nan" => Number,
        name => Aggregate(AggregateOp::ALL.into_iter().find(|op| op.as_str() == name)?),
    })
}

impl Token {
    pub(super) fn text(self, query: &str) -> &str {
        &query[self.span.start as usize..self.span.end as usize]
    }

    /// How an error text calls the token.
    pub(super) fn describe(self, query: &str) -> String {
        let text = self.text(query);
        match self.kind {
            TokenKind::Eof => "end of input".to_owned(),
            TokenKind::Identifier => format!("identifier {}", quoted(text)),
            TokenKind::MetricIdentifier => format!("metric identifier {}", quoted(text)),
            TokenKind::String => format!("string {}", shortened(text)),
            TokenKind::Number => format!("number {}", shortened(text)),
            TokenKind::Duration => format!("duration {}", shortened(text)),
            TokenKind::Keyword(_) => format!("<{text}>"),
            TokenKind::Operator(_) | TokenKind::MatchRegex | TokenKind::MatchNotRegex | TokenKind::At => {
                format!("<op:{text}>")
            }
            TokenKind::Aggregate(_) => format!("<aggr:{text}>"),
            _ => shortened(text),
        }
    }

    /// A word that may name a metric although it is reserved.
    pub(super) fn can_name_metric(self) -> bool {
        match self.kind {
            TokenKind::Identifier | TokenKind::MetricIdentifier | TokenKind::Aggregate(_) | TokenKind::Query(_) => true,
            TokenKind::Operator(op) => op.is_set(),
            TokenKind::Keyword(keyword) => matches!(
                keyword,
                Keyword::By | Keyword::Offset | Keyword::Without | Keyword::Anchored | Keyword::Smoothed
            ),
            _ => false,
        }
    }

    /// A word that may name a label in `by`, `on` and their like although it is reserved.
    pub(super) fn can_name_label(self) -> bool {
        match self.kind {
            TokenKind::Identifier | TokenKind::MetricIdentifier | TokenKind::Aggregate(_) | TokenKind::Query(_) => true,
            TokenKind::Operator(op) => op.is_set() || op == BinaryOp::Atan2,
            TokenKind::Keyword(keyword) => keyword != Keyword::Without,
            _ => false,
        }
    }
}

/// Go's `%q`, cut to ten characters as upstream does.
fn shortened(text: &str) -> String {
    if text.len() <= 10 {
        return quoted(text);
    }
    let end = text.char_indices().nth(10).map_or(text.len(), |(idx, _)| idx);
    format!("{}...", quoted(&text[..end]))
}
