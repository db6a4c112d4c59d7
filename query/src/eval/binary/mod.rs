//! Binary operators between scalars, vectors and both.

mod element;
mod scalar;
mod set;
mod vector;

use kymo_core::query::QueryError;

use self::element::Outcome;
use super::Evaluator;
use super::column::{Sample, Scalars, Value};
use super::notes::Note;
use crate::functions::math::{arithmetic, compare};
use crate::parser::{Binary, BinaryOp, NodeId, Span};

impl Evaluator<'_> {
    /// Evaluates a binary operator.
    pub(super) fn binary(&mut self, id: NodeId, span: Span, binary: &Binary) -> Result<Value, QueryError> {
        let (lhs, rhs) = (self.take(binary.lhs), self.take(binary.rhs));
        match (lhs, rhs) {
            (Value::Scalar(lhs, held), Value::Scalar(rhs, _)) => Ok(Value::Scalar(scalars(binary.op, lhs, rhs), held)),
            (Value::Vector(vector), Value::Scalar(scalars, _)) => {
                Ok(Value::Vector(self.with_scalars(binary, span, vector, &scalars, scalar::Side::Right)?))
            }
            (Value::Scalar(scalars, _), Value::Vector(vector)) => {
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
}

impl Evaluator<'_> {
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

fn scalars(op: BinaryOp, lhs: Scalars, rhs: Scalars) -> Scalars {
    let result = |a: f64, b: f64| {
        if op.is_comparison() { f64::from(u8::from(compare(op, a, b))) } else { arithmetic(op, a, b) }
    };
    match (lhs, rhs) {
        (Scalars::Constant(a), rhs) => rhs.map(|b| result(a, b)),
        (lhs, Scalars::Constant(b)) => lhs.map(|a| result(a, b)),
        (Scalars::PerStep(mut a), Scalars::PerStep(b)) => {
            a.iter_mut().zip(b).for_each(|(a, b)| *a = result(*a, b));
            Scalars::PerStep(a)
        }
    }
}

/// Whether the result is another quantity than the operand, so that it loses its name.
fn changes_meaning(op: BinaryOp) -> bool {
    use BinaryOp::{Add, Atan2, Div, Mod, Mul, Pow, Sub};
    matches!(op, Add | Sub | Mul | Div | Mod | Pow | Atan2)
}
