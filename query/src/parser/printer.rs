//! A tree to its canonical text, which parses to an equal tree.

use std::fmt;
use std::ops::Range;

use super::ast::{
    Aggregate, Ast, At, Binary, BinaryOp, Cardinality, ExprKind, LabelMatcher, MatchOp, NodeId, RangeExtension,
    Subquery, UnaryOp, VectorMatching, VectorSelector, same_number,
};
use super::duration::{DurationExpr, DurationNode, DurationOp};
use super::literal::{push_duration, push_number};
use super::parse_selector::NAME_LABEL;
use super::quote::push_quoted;

impl fmt::Display for Ast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print(self.root()))
    }
}

/// What is still to be written; the last pushed is written first.
enum Piece {
    Node(NodeId),
    Text(&'static str),
    Owned(String),
    Operator(BinaryOp, String),
    /// Where the text of a node ends that began at an offset.
    End(NodeId, usize),
}

/// The operator that is written right after the node at hand, if one is.
fn next_operator(pieces: &[Piece]) -> Option<BinaryOp> {
    // Leaves ask, and what has an offset: the ends in between are few, or passed once.
    match pieces.iter().rev().find(|piece| !matches!(piece, Piece::End(..)))? {
        Piece::Operator(op, _) => Some(*op),
        _ => None,
    }
}

/// An operator that would continue the duration of an offset if that is a parenthesis.
fn continues_duration(pieces: &[Piece]) -> bool {
    use BinaryOp::{Add, Div, Mod, Mul, Pow, Sub};
    matches!(next_operator(pieces), Some(Add | Sub | Mul | Div | Mod | Pow))
}

impl Ast {
    /// The text of one node and what is below it.
    pub fn print(&self, id: NodeId) -> String {
        let mut out = String::new();
        self.write(id, &mut out, None);
        out
    }

    /// The text of the whole, and where in it that of every node stands.
    pub(super) fn printed_ranges(&self) -> (String, Vec<Range<usize>>) {
        let (mut out, mut ranges) = (String::new(), vec![0..0; self.nodes.len()]);
        self.write(self.root(), &mut out, Some(&mut ranges));
        (out, ranges)
    }

    fn write(&self, id: NodeId, out: &mut String, mut ranges: Option<&mut [Range<usize>]>) {
        let mut pieces = vec![Piece::Node(id)];
        while let Some(piece) = pieces.pop() {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Owned(text) | Piece::Operator(_, text) => out.push_str(&text),
                Piece::End(id, start) => {
                    if let Some(ranges) = &mut ranges {
                        ranges[id.idx()] = start..out.len();
                    }
                }
                Piece::Node(id) => {
                    if ranges.is_some() {
                        pieces.push(Piece::End(id, out.len()));
                    }
                    self.print_node(id, out, &mut pieces);
                }
            }
        }
    }

    /// Writes what comes first and leaves the rest in `pieces`.
    fn print_node(&self, id: NodeId, out: &mut String, pieces: &mut Vec<Piece>) {
        match &self.node(id).kind {
            ExprKind::NumberLiteral(literal) if literal.is_duration => {
                push_duration(out, literal.value);
            }
            // The sign that Go writes before infinity would take the power along.
            ExprKind::NumberLiteral(literal)
                if literal.value == f64::INFINITY && next_operator(pieces) == Some(BinaryOp::Pow) =>
            {
                out.push_str("Inf");
            }
            ExprKind::NumberLiteral(literal) => push_number(out, literal.value),
            ExprKind::StringLiteral(text) => push_quoted(out, text),
            ExprKind::VectorSelector(selector) => {
                push_series(out, selector);
                push_at(out, selector.at);
                push_extension(out, selector.extension);
                push_offset(out, selector.offset.as_ref(), continues_duration(pieces));
            }
            ExprKind::MatrixSelector(matrix) => {
                push_series(out, &matrix.selector);
                out.push('[');
                push_duration_expr(out, &matrix.range);
                out.push(']');
                push_extension(out, matrix.selector.extension);
                push_at(out, matrix.selector.at);
                push_offset(out, matrix.selector.offset.as_ref(), continues_duration(pieces));
            }
            ExprKind::Subquery(subquery) => {
                let continues = subquery.offset.is_some() && continues_duration(pieces);
                pieces.push(Piece::Owned(subquery_suffix(subquery, continues)));
                pieces.push(Piece::Node(subquery.expr));
            }
            ExprKind::Call(call) => {
                out.push_str(call.function.name);
                out.push('(');
                push_list(pieces, call.args.iter().copied());
            }
            ExprKind::Aggregate(aggregate) => {
                out.push_str(&aggregate_head(aggregate));
                push_list(pieces, aggregate.param.into_iter().chain([aggregate.expr]));
            }
            ExprKind::Binary(binary) => {
                pieces.push(Piece::Node(binary.rhs));
                pieces.push(Piece::Operator(binary.op, format!(" {} ", operator_text(binary))));
                pieces.push(Piece::Node(binary.lhs));
            }
            ExprKind::Unary(unary) => {
                out.push(match unary.op {
                    UnaryOp::Plus => '+',
                    UnaryOp::Minus => '-',
                });
                pieces.push(Piece::Node(unary.expr));
            }
            ExprKind::Paren(inner) => {
                out.push('(');
                pieces.push(Piece::Text(")"));
                pieces.push(Piece::Node(*inner));
            }
        }
    }
}

/// Leaves `a, b)` to be written.
fn push_list(pieces: &mut Vec<Piece>, args: impl DoubleEndedIterator<Item = NodeId>) {
    pieces.push(Piece::Text(")"));
    let mut is_last = true;
    for arg in args.rev() {
        if !is_last {
            pieces.push(Piece::Text(", "));
        }
        is_last = false;
        pieces.push(Piece::Node(arg));
    }
}

fn push_series(out: &mut String, selector: &VectorSelector) {
    let name = selector.name.as_deref();
    out.push_str(name.unwrap_or_default());
    // Upstream sorts by the printed text.
    let mut matchers: Vec<String> = selector
        .matchers
        .iter()
        .filter(|matcher| {
            let is_name = matcher.name == NAME_LABEL && matcher.op == MatchOp::Equal;
            !(is_name && name == Some(matcher.value.as_str()))
        })
        .map(matcher_text)
        .collect();
    matchers.sort_unstable();
    if !matchers.is_empty() || name.is_none() {
        out.push('{');
        out.push_str(&matchers.join(","));
        out.push('}');
    }
}

fn matcher_text(matcher: &LabelMatcher) -> String {
    let mut out = String::new();
    push_label(&mut out, &matcher.name);
    out.push_str(matcher.op.as_str());
    push_quoted(&mut out, &matcher.value);
    out
}

/// A label name, quoted unless it is a plain identifier.
fn push_label(out: &mut String, name: &str) {
    let is_plain = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_plain {
        out.push_str(name);
    } else {
        push_quoted(out, name);
    }
}

fn push_labels(out: &mut String, names: &[String]) {
    for (idx, name) in names.iter().enumerate() {
        if idx > 0 {
            out.push_str(", ");
        }
        push_label(out, name);
    }
}

/// `sum by (a) (`.
pub(super) fn aggregate_head(aggregate: &Aggregate) -> String {
    let mut out = String::from(aggregate.op.as_str());
    if aggregate.without || !aggregate.grouping.is_empty() {
        out.push_str(if aggregate.without { " without (" } else { " by (" });
        push_labels(&mut out, &aggregate.grouping);
        out.push_str(") ");
    }
    out.push('(');
    out
}

/// `+ on (a) group_left (b)`.
pub(super) fn operator_text(binary: &Binary) -> String {
    let mut out = binary.op.to_string();
    if binary.return_bool {
        out.push_str(" bool");
    }
    if let Some(matching) = &binary.matching {
        push_matching(&mut out, matching);
    }
    out
}

fn push_matching(out: &mut String, matching: &VectorMatching) {
    let side = match matching.card {
        Cardinality::ManyToOne => Some(" group_left ("),
        Cardinality::OneToMany => Some(" group_right ("),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if matching.on || !matching.labels.is_empty() || side.is_some() {
        out.push_str(if matching.on { " on (" } else { " ignoring (" });
        push_labels(out, &matching.labels);
        out.push(')');
    }
    if let Some(side) = side {
        out.push_str(side);
        push_labels(out, &matching.include);
        out.push(')');
    }
    let fills = match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if same_number(left, right) => [Some((" fill (", left)), None],
        (left, right) => [left.map(|value| (" fill_left (", value)), right.map(|value| (" fill_right (", value))],
    };
    for (word, value) in fills.into_iter().flatten() {
        out.push_str(word);
        push_number(out, value);
        out.push(')');
    }
}

/// `[1h:5m] @ 10 offset 5m`.
fn subquery_suffix(subquery: &Subquery, continues: bool) -> String {
    let mut out = String::from("[");
    push_duration_expr(&mut out, &subquery.range);
    out.push(':');
    if let Some(step) = &subquery.step {
        push_duration_expr(&mut out, step);
    }
    out.push(']');
    push_at(&mut out, subquery.at);
    push_offset(&mut out, subquery.offset.as_ref(), continues);
    out
}

fn push_at(out: &mut String, at: Option<At>) {
    match at {
        None => {}
        Some(At::Start) => out.push_str(" @ start()"),
        Some(At::End) => out.push_str(" @ end()"),
        Some(At::Timestamp(ms)) => {
            let sign = if ms < 0 { "-" } else { "" };
            let ms = ms.unsigned_abs();
            out.push_str(&format!(" @ {sign}{}.{:03}", ms / 1000, ms % 1000));
        }
    }
}

fn push_extension(out: &mut String, extension: RangeExtension) {
    out.push_str(match extension {
        RangeExtension::None => "",
        RangeExtension::Anchored => " anchored",
        RangeExtension::Smoothed => " smoothed",
    });
}

/// `continues`: an operator follows that must not be taken for part of the duration.
fn push_offset(out: &mut String, offset: Option<&DurationExpr>, continues: bool) {
    // Upstream does not keep an offset of zero.
    let is_zero =
        |offset: &DurationExpr| matches!(offset.nodes(), [DurationNode::Literal { seconds, .. }] if *seconds == 0.0);
    if let Some(offset) = offset.filter(|offset| !is_zero(offset)) {
        out.push_str(" offset ");
        if continues && matches!(offset.nodes().last(), Some(DurationNode::Paren(_))) {
            out.push('+');
        }
        let mut text = String::new();
        push_duration_expr(&mut text, offset);
        // Arithmetic goes on behind a parenthesis or a second sign only.
        if has_open_operator(offset) && !text.starts_with('(') {
            out.push_str(if text.starts_with('-') { "+" } else { "++" });
        }
        out.push_str(&text);
    }
}

/// Whether a duration is arithmetic that no parentheses hold together.
fn has_open_operator(duration: &DurationExpr) -> bool {
    let nodes = duration.nodes();
    let mut at = nodes.len() - 1;
    while let DurationNode::Negate(operand) = nodes[at] {
        at = operand as usize;
    }
    matches!(nodes[at], DurationNode::Binary(op, ..) if !matches!(op, DurationOp::MinOf | DurationOp::MaxOf))
}

/// What of a duration is still to be written.
enum DurationPiece {
    Node(u32),
    Text(&'static str),
}

fn push_duration_expr(out: &mut String, duration: &DurationExpr) {
    use DurationPiece::{Node, Text};
    let nodes = duration.nodes();
    let mut pieces = vec![Node(nodes.len() as u32 - 1)];
    while let Some(piece) = pieces.pop() {
        let idx = match piece {
            Text(text) => {
                out.push_str(text);
                continue;
            }
            Node(idx) => idx,
        };
        match nodes[idx as usize] {
            DurationNode::Literal { seconds, is_duration: true } => push_duration(out, seconds),
            DurationNode::Literal { seconds, .. } => push_number(out, seconds),
            DurationNode::Step => out.push_str("step()"),
            DurationNode::Range => out.push_str("range()"),
            DurationNode::Negate(operand) => pieces.extend([Node(operand), Text("-")]),
            DurationNode::Paren(operand) => {
                pieces.extend([Text(")"), Node(operand), Text("(")]);
            }
            DurationNode::Binary(op, lhs, rhs) => {
                let infix = match op {
                    DurationOp::Add => " + ",
                    DurationOp::Sub => " - ",
                    DurationOp::Mul => " * ",
                    DurationOp::Div => " / ",
                    DurationOp::Mod => " % ",
                    DurationOp::Pow => " ^ ",
                    DurationOp::MinOf | DurationOp::MaxOf => {
                        let open = if op == DurationOp::MinOf { "min_of(" } else { "max_of(" };
                        pieces.extend([Text(")"), Node(rhs), Text(", "), Node(lhs), Text(open)]);
                        continue;
                    }
                };
                pieces.extend([Node(rhs), Text(infix), Node(lhs)]);
            }
        }
    }
}
