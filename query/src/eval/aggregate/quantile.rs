//! `quantile`: the values of each group at each step, and nothing else of the series they came from.

use kymo_core::aggregate::quantile_of_sorted;
use kymo_core::query::QueryError;
use kymo_core::{Labels, QueryContext};

use super::fold::{Folding, push};
use crate::eval::column::{Column, Scalars, Series, Vector};
use crate::eval::labels::{Groups, Projection};
use crate::eval::notes::{Note, Notes};
use crate::functions::sorted_window::in_order;
use crate::parser::Span;

/// Bytes per value, about: lists double.
pub(super) const VALUE_BYTES: u64 = 12;

/// Groups with their values.
pub(super) struct Quantiles<'a> {
    pub(super) by: Projection<'a>,
    pub(super) q: Scalars,
    pub(super) steps: usize,
    pub(super) span: Span,
    pub(super) at: Groups,
    pub(super) groups: Vec<ValueGroup>,
    pub(super) out: Vector,
    pub(super) ctx: &'a QueryContext,
}

/// The values of one group.
pub(super) struct ValueGroup {
    labels: Labels,
    drop_name: bool,
    of_step: Vec<Vec<f64>>,
}

impl Folding for Quantiles<'_> {
    fn add(&mut self, series: &Series, notes: &mut Notes<'_>) -> Result<(), QueryError> {
        let idx = self.at.of(self.by, &series.labels);
        if idx == self.groups.len() {
            self.out.hold.grow_bytes((self.steps * size_of::<Vec<f64>>()) as u64)?;
            let of_step = vec![Vec::new(); self.steps];
            self.groups.push(ValueGroup { labels: self.at.labels(), drop_name: false, of_step });
        }
        let group = &mut self.groups[idx];
        group.drop_name |= series.drop_name;
        if !series.column.histograms.is_empty() {
            notes.add(Note::IgnoredInAggregation { op: "quantile" }, self.span);
        }
        let count = series.column.floats.len();
        self.out.hold.grow_bytes(count as u64 * VALUE_BYTES)?;
        self.out.hold.grow_samples(count)?;
        for step in series.column.floats.iter() {
            group.of_step[step].push(series.column.values[step]);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: &mut Notes<'_>) -> Result<Vector, QueryError> {
        let Quantiles { q, steps, groups, mut out, ctx, .. } = *self;
        let held = out.hold.bytes();
        for group in groups {
            out.hold.grow_bytes(Column::bytes(steps))?;
            let mut column = Column::empty(steps);
            for (step, mut values) in group.of_step.into_iter().enumerate() {
                if !values.is_empty() {
                    ctx.check()?;
                    in_order(&mut values, ctx)?;
                    column.set(step, quantile_of_sorted(q.at(step), &values));
                }
            }
            push(&mut out, group.labels, group.drop_name, column)?;
        }
        out.hold.shrink_bytes(held);
        out.hold.set_samples(out.series.iter().map(|series| series.column.len()).sum())?;
        Ok(out)
    }
}
