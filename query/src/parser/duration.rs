//! Durations of ranges, steps and offsets, and arithmetic on them.
//!
//! `[5m]` is a constant. `[step() * 2]` depends on the query's grid, so a duration is kept as
//! written and resolved once per query, when step and range are known.

use super::ast::{Span, same_number};

/// What [`DurationExpr`] may refer to, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationContext {
    /// `step()`: the query's step, 0 for an instant query.
    pub step_ms: i64,
    /// `range()`: the query's end minus its start, 0 for an instant query.
    pub range_ms: i64,
}

/// An operator between durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is named for the operator it stands for")]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    /// `min_of(a, b)`
    MinOf,
    /// `max_of(a, b)`
    MaxOf,
}

/// One node of a duration; operands are indexes of earlier nodes.
#[derive(Clone, Copy, Debug)]
pub enum DurationNode {
    /// A number of seconds; `is_duration` when written with units.
    Literal {
        /// The value.
        seconds: f64,
        /// Written with units.
        is_duration: bool,
    },
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `-x`
    Negate(u32),
    /// `(x)`
    Paren(u32),
    /// `a + b` and its like.
    Binary(DurationOp, u32, u32),
}

impl PartialEq for DurationNode {
    /// As written: a `NaN` equals itself.
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Self::Literal { seconds: a, is_duration: x }, Self::Literal { seconds: b, is_duration: y }) => {
                same_number(a, b) && x == y
            }
            (Self::Step, Self::Step) | (Self::Range, Self::Range) => true,
            (Self::Negate(a), Self::Negate(b)) | (Self::Paren(a), Self::Paren(b)) => a == b,
            (Self::Binary(op, a, b), Self::Binary(other_op, c, d)) => op == other_op && a == c && b == d,
            _ => false,
        }
    }
}

/// A duration as written: a constant, or arithmetic on constants, `step()` and `range()`.
///
/// The nodes form a post-order: operands come before operators and the last node is the root.
#[derive(Clone, Debug)]
pub struct DurationExpr {
    nodes: Vec<DurationNode>,
    span: Span,
}

impl PartialEq for DurationExpr {
    /// By meaning as written; the span is not compared.
    fn eq(&self, other: &Self) -> bool {
        self.nodes == other.nodes
    }
}

/// Why a duration has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// `x / 0`
    #[error("division by zero")]
    DivisionByZero,
    /// `x % 0`
    #[error("modulo by zero")]
    ModuloByZero,
    /// A range or step that is not positive.
    #[error("duration must be greater than 0")]
    NotPositive,
    /// More than 2^63 ns, or not a number.
    #[error("duration is out of range")]
    OutOfRange,
}

/// Seconds in 2^63 ns, where Prometheus' durations end.
pub(super) const SECONDS_MAX: f64 = 9_223_372_036.854_776;

impl DurationExpr {
    /// A constant number of seconds. Whether it was written with units is not kept: it is printed
    /// with them.
    pub(super) fn literal(seconds: f64, span: Span) -> Self {
        let is_duration = true;
        Self { nodes: vec![DurationNode::Literal { seconds, is_duration }], span }
    }

    /// Takes a non-empty post-order.
    pub(super) fn from_nodes(nodes: Vec<DurationNode>, span: Span) -> Self {
        assert!(!nodes.is_empty(), "a duration has at least one node");
        Self { nodes, span }
    }

    /// The nodes, operands first; the last is the root.
    pub fn nodes(&self) -> &[DurationNode] {
        &self.nodes
    }

    /// The text it was parsed from.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Whether it is a plain literal, which every Prometheus accepts.
    pub fn is_literal(&self) -> bool {
        matches!(self.nodes[..], [DurationNode::Literal { .. }])
    }

    /// Whether it needs the query's step or range to be known.
    pub fn depends_on_query(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node, DurationNode::Step | DurationNode::Range))
    }

    /// The value in ms if it is the same for every query and there is one.
    pub fn constant_ms(&self) -> Option<i64> {
        let context = DurationContext { step_ms: 0, range_ms: 0 };
        if self.depends_on_query() { None } else { self.resolve_ms(context).ok() }
    }

    /// The value in ms, rounded towards zero, as an offset may be: of either sign.
    pub fn resolve_ms(&self, context: DurationContext) -> Result<i64, DurationError> {
        let seconds = self.resolve_seconds(context)?;
        if !(-SECONDS_MAX..=SECONDS_MAX).contains(&seconds) {
            return Err(DurationError::OutOfRange);
        }
        // A literal is kept in nanoseconds first, so `0.0015` means 1 ms and `1.1` means 1100.
        Ok(if self.is_literal() { (seconds * 1e9).round() as i64 / 1_000_000 } else { (seconds * 1000.0) as i64 })
    }

    /// The value in ms, rounded towards zero, as a range or a step must be: of more than zero.
    pub fn resolve_positive_ms(&self, context: DurationContext) -> Result<i64, DurationError> {
        let ms = self.resolve_ms(context)?;
        if self.is_literal() || ms > 0 { Ok(ms) } else { Err(DurationError::NotPositive) }
    }

    fn resolve_seconds(&self, context: DurationContext) -> Result<f64, DurationError> {
        let mut values: Vec<f64> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let value = match *node {
                DurationNode::Literal { seconds, .. } => seconds,
                DurationNode::Step => context.step_ms as f64 / 1000.0,
                DurationNode::Range => context.range_ms as f64 / 1000.0,
                DurationNode::Negate(operand) => -values[operand as usize],
                DurationNode::Paren(operand) => values[operand as usize],
                DurationNode::Binary(op, lhs, rhs) => {
                    let (lhs, rhs) = (values[lhs as usize], values[rhs as usize]);
                    match op {
                        DurationOp::Add => lhs + rhs,
                        DurationOp::Sub => lhs - rhs,
                        DurationOp::Mul => lhs * rhs,
                        DurationOp::Div if rhs == 0.0 => return Err(DurationError::DivisionByZero),
                        DurationOp::Div => lhs / rhs,
                        DurationOp::Mod if rhs == 0.0 => return Err(DurationError::ModuloByZero),
                        DurationOp::Mod => lhs % rhs,
                        DurationOp::Pow => lhs.powf(rhs),
                        DurationOp::MinOf => lhs.min(rhs),
                        DurationOp::MaxOf => lhs.max(rhs),
                    }
                }
            };
            values.push(value);
        }
        Ok(values.last().copied().unwrap_or(f64::NAN))
    }
}
