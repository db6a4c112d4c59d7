//! A vector and a scalar.

use kymo_core::query::QueryError;

use super::element::with_histogram;
use super::{Remark, Remarks, changes_meaning, outcome};
use crate::eval::Evaluator;
use crate::eval::column::{Column, Sample, Scalars, StepSet, Vector};
use crate::functions::math::{arithmetic, compare};
use crate::parser::{Binary, BinaryOp, Span};

/// On which side of the operator the scalar stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

impl Evaluator<'_> {
    pub(super) fn with_scalars(
        &mut self,
        binary: &Binary,
        span: Span,
        mut vector: Vector,
        scalars: &Scalars,
        side: Side,
    ) -> Result<Vector, QueryError> {
        let op = binary.op;
        let trims = matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
        let renamed = changes_meaning(op) || binary.return_bool;
        let mut remarks = Remarks::default();
        for (place, series) in vector.series.iter_mut().enumerate() {
            self.meter.check()?;
            let column = &mut series.column;
            if !column.histograms.is_empty() || (trims && !column.floats.is_empty()) {
                histograms_with_scalars(op, column, scalars, side, (place, &mut remarks));
            }
            if op.is_comparison() {
                comparison(op, column, scalars, side, binary.return_bool);
            } else if !trims {
                numbers(op, column, scalars, side);
            }
            if renamed {
                self.names.apply(series);
            }
        }
        self.note_remarks(op, &remarks, span);
        self.finish(vector)
    }
}

/// Replaces the histograms of a column by their results, and keeps remarks on what has none.
fn histograms_with_scalars(
    op: BinaryOp,
    column: &mut Column,
    scalars: &Scalars,
    side: Side,
    (place, remarks): (usize, &mut Remarks),
) {
    let steps = column.values.len();
    let mut results = Vec::new();
    for (step, histogram) in std::mem::take(&mut column.histograms) {
        let (mine, other) = (Sample::Histogram(histogram), Sample::Float(scalars.at(step as usize)));
        let (lhs, rhs) = if side == Side::Left { (&other, &mine) } else { (&mine, &other) };
        let (found, remark) = outcome(with_histogram(op, lhs, rhs));
        remark.into_iter().for_each(|remark| remarks.keep(place, step as usize, steps, remark));
        match found {
            Some((Sample::Histogram(result), true)) => results.push((step, result)),
            Some((Sample::Float(value), true)) => column.set(step as usize, value),
            Some(_) | None => {}
        }
    }
    if matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper) && !column.floats.is_empty() {
        let floats = std::mem::replace(&mut column.floats, StepSet::empty(steps));
        let remark = Remark::Incompatible { lhs: "float", rhs: "float" };
        floats.iter().for_each(|step| remarks.keep(place, step, steps, remark));
    }
    column.histograms = results;
}

fn numbers(op: BinaryOp, column: &mut Column, scalars: &Scalars, side: Side) {
    match (scalars, side) {
        // The loops people wait for: no branch per step.
        (Scalars::Constant(c), Side::Right) => column.values.iter_mut().for_each(|v| *v = arithmetic(op, *v, *c)),
        (Scalars::Constant(c), Side::Left) => column.values.iter_mut().for_each(|v| *v = arithmetic(op, *c, *v)),
        (Scalars::PerStep(s, _), Side::Right) => {
            column.values.iter_mut().zip(s).for_each(|(v, s)| *v = arithmetic(op, *v, *s));
        }
        (Scalars::PerStep(s, _), Side::Left) => {
            column.values.iter_mut().zip(s).for_each(|(v, s)| *v = arithmetic(op, *s, *v));
        }
    }
}

fn comparison(op: BinaryOp, column: &mut Column, scalars: &Scalars, side: Side, return_bool: bool) {
    for step in 0..column.values.len() {
        let (value, scalar) = (column.values[step], scalars.at(step));
        let holds = if side == Side::Left { compare(op, scalar, value) } else { compare(op, value, scalar) };
        if return_bool {
            column.values[step] = f64::from(u8::from(holds));
        } else if !holds {
            column.floats.remove(step);
        }
    }
}
