//! Text of a PromQL query to a checked tree.
//!
//! ```text
//! text ──lexer──▶ words ──parse──▶ nodes ──check──▶ Ast ──printer──▶ text
//!                                                    ├──pretty──▶ text over lines
//!                                                    └──json──▶ an object
//! ```
//!
//! Accepts what Prometheus 3.14 accepts and refuses the rest with Prometheus' words at Prometheus'
//! position. A query is untrusted: no stage recurses on its length, all are linear in it, and
//! [`ParseOptions`] bounds bytes, nodes and depth.
//!
//! Invariants:
//! 1. The lexer is asked for a word only when the parser needs it, so that of two faults the one
//!    upstream would report is reported.
//! 2. The node completed last is the left operand of whatever comes next: modifiers change it in
//!    place, operators take it as their left side.
//! 3. The arena's order is a post-order (see [`ast`]), and nothing removes a node.
//!
//! Deliberately absent: rewriting. A tree is what was written, parentheses included; folding,
//! step-invariance and the like belong to the planner.

pub mod ast;
mod check;
pub mod duration;
mod error;
pub mod functions;
mod go_regex;
mod json;
mod lexer;
mod literal;
mod options;
mod parse;
mod parse_duration;
mod parse_selector;
mod pretty;
mod printer;
mod quote;
#[cfg(test)]
mod tests;
mod token;

pub use ast::*;
pub use duration::{DurationContext, DurationError, DurationExpr, DurationNode, DurationOp};
pub use error::ParseError;
pub use functions::{AggregateOp, Function, Variadic};
pub(crate) use go_regex::check as check_regex;
pub use options::ParseOptions;
pub use parse::parse;
pub use parse_selector::parse_metric_selector;
pub use pretty::{FORMATTED_BYTES_MAX, format};
pub use quote::string_literal_bytes;
