//! A vector and a scalar.

use kymo_core::query::QueryError;

use super::element::with_histogram;
use super::{Remark, Remarks, changes_meaning, note_remarks, outcome};
use crate::eval::Evaluator;
use crate::eval::column::{Column, Sample, Scalars, Series, StepSet, Vector};
use crate::eval::labels::NameRemoval;
use crate::eval::notes::Notes;
use crate::functions::math::{arithmetic, compare};
use crate::parser::{Binary, BinaryOp, Span};

/// On which side of the operator the scalar stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// What is done to the series of a vector one by one, and needs to know no other.
pub(in crate::eval) enum Change<'a> {
    /// The other sign.
    Negate,
    /// An operator with the same number at every step.
    Constant { operation: Operation<'a>, number: Scalars },
}

/// An operator between a vector and scalars.
pub(in crate::eval) struct Operation<'a> {
    binary: &'a Binary,
    span: Span,
    side: Side,
    remarks: Remarks,
    /// Series so far.
    place: usize,
}

impl<'a> Change<'a> {
    /// A vector, the operator, a number.
    pub(in crate::eval) fn with_right(binary: &'a Binary, span: Span, number: f64) -> Change<'a> {
        Change::Constant { operation: Operation::new(binary, span, Side::Right), number: Scalars::Constant(number) }
    }

    /// A number, the operator, a vector.
    pub(in crate::eval) fn with_left(binary: &'a Binary, span: Span, number: f64) -> Change<'a> {
        Change::Constant { operation: Operation::new(binary, span, Side::Left), number: Scalars::Constant(number) }
    }

    /// Whether series lose their names.
    pub(in crate::eval) fn renames(&self) -> bool {
        match self {
            Change::Negate => true,
            Change::Constant { operation, .. } => operation.renames(),
        }
    }

    /// Changes a series; what has no result has no sample then.
    pub(in crate::eval) fn apply(&mut self, series: &mut Series, names: NameRemoval) {
        match self {
            Change::Constant { operation, number } => operation.apply(series, number, names),
            Change::Negate => {
                for (_, histogram) in &mut series.column.histograms {
                    std::sync::Arc::make_mut(histogram).multiply(-1.0);
                }
                series.column.values.iter_mut().for_each(|v| *v = -*v);
                names.apply(series);
            }
        }
    }

    /// Says what there is to be said, once all series were changed.
    pub(in crate::eval) fn finish(self, notes: &mut Notes<'_>) {
        if let Change::Constant { operation, .. } = self {
            operation.finish(notes);
        }
    }
}

impl<'a> Operation<'a> {
    pub(super) fn new(binary: &'a Binary, span: Span, side: Side) -> Operation<'a> {
        Operation { binary, span, side, remarks: Remarks::default(), place: 0 }
    }

    fn renames(&self) -> bool {
        changes_meaning(self.binary.op) || self.binary.return_bool
    }

    fn apply(&mut self, series: &mut Series, scalars: &Scalars, names: NameRemoval) {
        let op = self.binary.op;
        let trims = matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
        let column = &mut series.column;
        if !column.histograms.is_empty() || (trims && !column.floats.is_empty()) {
            histograms_with_scalars(op, column, scalars, self.side, (self.place, &mut self.remarks));
        }
        if op.is_comparison() {
            comparison(op, column, scalars, self.side, self.binary.return_bool);
        } else if !trims {
            numbers(op, column, scalars, self.side);
        }
        if self.renames() {
            names.apply(series);
        }
        self.place += 1;
    }

    fn finish(self, notes: &mut Notes<'_>) {
        note_remarks(notes, self.binary.op, &self.remarks, self.span);
    }
}

impl Evaluator<'_> {
    pub(super) fn with_scalars(
        &mut self,
        mut operation: Operation<'_>,
        mut vector: Vector,
        scalars: &Scalars,
    ) -> Result<Vector, QueryError> {
        for series in &mut vector.series {
            self.meter.check_often()?;
            operation.apply(series, scalars, self.names);
        }
        operation.finish(&mut self.notes);
        self.finish(vector)
    }

    pub(in crate::eval) fn negate(&mut self, mut vector: Vector) -> Result<Vector, QueryError> {
        for series in &mut vector.series {
            self.meter.check_often()?;
            Change::Negate.apply(series, self.names);
        }
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
