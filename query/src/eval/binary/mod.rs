//! Binary operators between scalars, vectors and both.

mod element;
mod scalar;
mod set;
mod vector;

use kymo_core::query::QueryError;

use self::element::Outcome;
use super::Evaluator;
use super::column::{Sample, Value};
use super::notes::Note;
use crate::functions::math::{arithmetic, compare};
use crate::parser::{Binary, BinaryOp, NodeId, Span};

impl Evaluator<'_> {
    /// Evaluates a binary operator.
    pub(super) fn binary(&mut self, id: NodeId, span: Span, binary: &Binary) -> Result<Value, QueryError> {
        let (lhs, rhs) = (self.take(binary.lhs), self.take(binary.rhs));
        match (lhs, rhs) {
            (Value::Scalar(lhs), Value::Scalar(rhs)) => {
                Ok(Value::Scalar(lhs.combine(rhs, |a, b| number(binary.op, a, b))))
            }
            (Value::Vector(vector), Value::Scalar(scalars)) => {
                Ok(Value::Vector(self.with_scalars(binary, span, vector, &scalars, scalar::Side::Right)?))
            }
            (Value::Scalar(scalars), Value::Vector(vector)) => {
                Ok(Value::Vector(self.with_scalars(binary, span, vector, &scalars, scalar::Side::Left)?))
            }
            (Value::Vector(lhs), Value::Vector(rhs)) => {
                let matching = binary.matching.as_deref().expect("vectors are matched");
                let steps = self.grid(id).steps();
                if binary.op.is_set() {
                    Ok(Value::Vector(self.set(binary.op, matching, lhs, rhs, steps)?))
                } else {
                    Ok(Value::Vector(self.matched(binary, span, matching, lhs, rhs, steps)?))
                }
            }
            other => panic!("the parser lets only scalars and instant vectors through here, not {other:?}"),
        }
    }

    /// The sample of an outcome and whether it stays, after saying what is to be said of it; `None` if there
    /// is no result.
    fn outcome(&mut self, op: BinaryOp, outcome: Outcome, span: Span) -> Option<(Sample, bool)> {
        match outcome {
            Outcome::Result { sample, keep, reset_collision, bounds_reconciled } => {
                let operation = if op == BinaryOp::Add { "addition" } else { "subtraction" };
                if reset_collision {
                    self.notes.add(Note::CounterResetCollision { operation }, span);
                }
                if bounds_reconciled {
                    self.notes.add(Note::ReconciledBuckets { operation }, span);
                }
                Some((sample, keep))
            }
            Outcome::Incompatible { lhs, rhs } => {
                self.notes.add(Note::IncompatibleTypes { lhs, op: op.as_str(), rhs }, span);
                None
            }
            Outcome::MixedBuckets => {
                self.notes.add(Note::IncompatibleBuckets { op: op.as_str() }, span);
                None
            }
        }
    }
}

/// The result of an operator between scalars; comparisons give 0 or 1.
fn number(op: BinaryOp, lhs: f64, rhs: f64) -> f64 {
    if op.is_comparison() { f64::from(u8::from(compare(op, lhs, rhs))) } else { arithmetic(op, lhs, rhs) }
}

/// Whether the result is another quantity than the operand, so that it loses its name.
fn changes_meaning(op: BinaryOp) -> bool {
    use BinaryOp::{Add, Atan2, Div, Mod, Mul, Pow, Sub};
    matches!(op, Add | Sub | Mul | Div | Mod | Pow | Atan2)
}
