//! A tree to text over several lines, as Prometheus' `format_query` lays it out.
//!
//! A node whose text on one line has at most [`LINE_CHARS_MAX`] bytes stays on one line; of a longer one
//! every part begins a line of its own, indented by its depth. Selectors are never divided.

use std::ops::Range;

use super::ast::{Ast, ExprKind, NodeId, UnaryOp};
use super::error::ParseError;
use super::options::ParseOptions;
use super::parse::parse;
use super::printer::{aggregate_head, operator_text};

/// Longest text of a node that stays on one line (upstream's `maxCharactersPerLine`, which counts bytes).
const LINE_CHARS_MAX: usize = 100;

/// Most bytes of a formatted query: ten times the longest query. Indentation grows with the square of the
/// depth, so that a query of 100 KB could ask for gigabytes.
pub const FORMATTED_BYTES_MAX: usize = 10 * ParseOptions::BYTES_MAX;

/// Reads a query and lays it out as Prometheus' `/api/v1/format_query` does; what comes out reads back as
/// the same tree.
///
/// Linear in query and answer; nothing recurses on the depth.
///
/// # Errors
/// What is wrong with the query, or that its layout would be longer than [`FORMATTED_BYTES_MAX`].
pub fn format(query: &str, options: &ParseOptions) -> Result<String, ParseError> {
    let ast = parse(query, options)?;
    ast.pretty().ok_or_else(|| {
        let message = format!("formatted query would be longer than {FORMATTED_BYTES_MAX} bytes");
        ParseError::new(query, ast.node(ast.root()).span, message)
    })
}

/// What is still to be laid out; the last pushed comes first.
enum Piece<'t> {
    /// A node at a depth; without `indented` its first line begins where the text stands.
    Node {
        id: NodeId,
        depth: usize,
        indented: bool,
    },
    Text(&'t str),
    Owned(String),
    Indent(usize),
}

fn line<'t>(id: NodeId, depth: usize) -> Piece<'t> {
    Piece::Node { id, depth, indented: true }
}

/// The text of the tree in one line, and where in it that of every node stands.
struct OneLine {
    text: String,
    ranges: Vec<Range<usize>>,
}

impl Ast {
    /// The tree's text over several lines, [`format()`]'s second half; `None` if it were longer than
    /// [`FORMATTED_BYTES_MAX`].
    pub fn pretty(&self) -> Option<String> {
        let (text, ranges) = self.printed_ranges();
        let one_line = OneLine { text, ranges };
        let mut out = String::new();
        let mut pieces = vec![line(self.root(), 0)];
        while let Some(piece) = pieces.pop() {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Owned(text) => out.push_str(&text),
                Piece::Indent(depth) => {
                    if out.len() + 2 * depth > FORMATTED_BYTES_MAX {
                        return None;
                    }
                    (0..depth).for_each(|_| out.push_str("  "));
                }
                Piece::Node { id, depth, indented } => {
                    pieces.extend(self.layout(id, depth, indented, &one_line).into_iter().rev());
                }
            }
            if out.len() > FORMATTED_BYTES_MAX {
                return None;
            }
        }
        Some(out)
    }

    /// The pieces of one node, first to last.
    fn layout<'t>(&self, id: NodeId, depth: usize, indented: bool, whole: &'t OneLine) -> Vec<Piece<'t>> {
        use Piece::{Indent, Node, Owned, Text};
        let range = whole.ranges[id.idx()].clone();
        let one_line = range.len() <= LINE_CHARS_MAX;
        let text = Text(&whole.text[range.clone()]);
        let begin = Indent(if indented { depth } else { 0 });
        match &self.node(id).kind {
            // Upstream does not indent a subquery that stays on one line.
            ExprKind::Subquery(_) if one_line => vec![text],
            ExprKind::Subquery(subquery) => {
                let suffix = whole.ranges[subquery.expr.idx()].end..range.end;
                vec![Node { id: subquery.expr, depth, indented }, Text(&whole.text[suffix])]
            }
            ExprKind::Unary(unary) => {
                let sign = if unary.op == UnaryOp::Minus { "-" } else { "+" };
                vec![begin, Text(sign), Node { id: unary.expr, depth, indented: false }]
            }
            ExprKind::Aggregate(aggregate) if !one_line => {
                let mut pieces = vec![begin, Owned(aggregate_head(aggregate)), Text("\n")];
                if let Some(param) = aggregate.param {
                    pieces.extend([line(param, depth + 1), Text(",\n")]);
                }
                pieces.extend([line(aggregate.expr, depth + 1), Text("\n"), Indent(depth), Text(")")]);
                pieces
            }
            ExprKind::Call(call) if !one_line => {
                let mut pieces = vec![begin, Text(call.function.name), Text("(")];
                for (at, &arg) in call.args.iter().enumerate() {
                    pieces.extend([Text(if at == 0 { "\n" } else { ",\n" }), line(arg, depth + 1)]);
                }
                pieces.extend([Text("\n"), Indent(depth), Text(")")]);
                pieces
            }
            ExprKind::Binary(binary) if !one_line => vec![
                Node { id: binary.lhs, depth: depth + 1, indented },
                Text("\n"),
                Indent(depth),
                Owned(operator_text(binary)),
                Text("\n"),
                line(binary.rhs, depth + 1),
            ],
            ExprKind::Paren(inner) if !one_line => {
                vec![begin, Text("(\n"), line(*inner, depth + 1), Text("\n"), Indent(depth), Text(")")]
            }
            _ => vec![begin, text],
        }
    }
}
