//! Binary operators between scalars, vectors and both.

mod element;
mod scalar;
mod set;
mod vector;

use kymo_core::query::QueryError;

use self::element::Outcome;
pub(super) use self::scalar::Change;
use self::scalar::{Operation, Side};
use super::Evaluator;
use super::column::{Sample, Value};
use super::notes::{Note, Notes};
use crate::functions::math::{arithmetic, compare};
use crate::parser::{Binary, BinaryOp, NodeId, Span, ValueType};

impl Evaluator<'_> {
    /// Evaluates a binary operator.
    pub(super) fn binary(&mut self, id: NodeId, span: Span, binary: &Binary) -> Result<Value, QueryError> {
        if self.streams.is_passed(id) {
            let vector = if self.ast[binary.lhs].value_type == ValueType::Vector { binary.lhs } else { binary.rhs };
            return Ok(self.take(vector));
        }
        let (lhs, rhs) = (self.take(binary.lhs), self.take(binary.rhs));
        match (lhs, rhs) {
            (Value::Scalar(lhs), Value::Scalar(rhs)) => {
                Ok(Value::Scalar(lhs.combine(rhs, |a, b| number(binary.op, a, b))))
            }
            (Value::Vector(vector), Value::Scalar(scalars)) => {
                let operation = Operation::new(binary, span, Side::Right);
                Ok(Value::Vector(self.with_scalars(operation, vector, &scalars)?))
            }
            (Value::Scalar(scalars), Value::Vector(vector)) => {
                let operation = Operation::new(binary, span, Side::Left);
                Ok(Value::Vector(self.with_scalars(operation, vector, &scalars)?))
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

/// Says what there is to be said of an operator.
fn note_remarks(notes: &mut Notes<'_>, op: BinaryOp, remarks: &Remarks, span: Span) {
    let operation = if op == BinaryOp::Add { "addition" } else { "subtraction" };
    for &(_, remark) in remarks.of_step.iter().flatten() {
        let note = match remark {
            Remark::ResetCollision => Note::CounterResetCollision { operation },
            Remark::ReconciledBuckets => Note::ReconciledBuckets { operation },
            Remark::Incompatible { lhs, rhs } => Note::IncompatibleTypes { lhs, op: op.as_str(), rhs },
            Remark::MixedBuckets => Note::IncompatibleBuckets { op: op.as_str() },
        };
        notes.add(note, span);
    }
}

/// What was remarked at each step. Of a step upstream keeps only the remark of the last series.
#[derive(Debug, Default)]
struct Remarks {
    /// Place of the series among all, and the remark; empty until there is one.
    of_step: Vec<Option<(usize, Remark)>>,
}

/// What there is to be said of an operation.
#[derive(Debug, Clone, Copy)]
enum Remark {
    ResetCollision,
    ReconciledBuckets,
    Incompatible { lhs: &'static str, rhs: &'static str },
    MixedBuckets,
}

impl Remarks {
    /// Keeps a remark on series number `place` at one of `steps` steps, unless a later series has one there.
    fn keep(&mut self, place: usize, step: usize, steps: usize, remark: Remark) {
        if self.of_step.is_empty() {
            self.of_step.resize(steps, None);
        }
        let known = &mut self.of_step[step];
        if known.is_none_or(|(other, _)| other <= place) {
            *known = Some((place, remark));
        }
    }
}

/// The sample of an outcome and whether it stays, if there is a result, and the remark to be kept.
fn outcome(outcome: Outcome) -> (Option<(Sample, bool)>, Option<Remark>) {
    match outcome {
        Outcome::Result { sample, keep, reset_collision, bounds_reconciled } => {
            let collision = reset_collision.then_some(Remark::ResetCollision);
            let reconciled = bounds_reconciled.then_some(Remark::ReconciledBuckets);
            (Some((sample, keep)), reconciled.or(collision))
        }
        Outcome::Incompatible { lhs, rhs } => (None, Some(Remark::Incompatible { lhs, rhs })),
        Outcome::MixedBuckets => (None, Some(Remark::MixedBuckets)),
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
