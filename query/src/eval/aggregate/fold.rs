//! `sum avg min max count group stddev stdvar quantile`: one series per group.

use std::collections::BTreeMap;
use std::sync::Arc;

use kymo_core::aggregate::{Avg, Count, Group as GroupState, Max, Min, StdDev, StdVar, Sum, quantile};
use kymo_core::query::QueryError;

use super::Group;
use crate::eval::Evaluator;
use crate::eval::column::{Column, Scalars, Series, Vector};
use crate::eval::notes::Note;
use crate::functions::histogram::{Fold, Remarks};
use crate::parser::{AggregateOp, Span};

/// An aggregation state, one per step.
trait State: Default + Clone {
    fn update(&mut self, value: f64);
    fn finish(&self) -> Option<f64>;
}

macro_rules! states {
    ($($name:ty),*) => {$(
        impl State for $name {
            fn update(&mut self, value: f64) {
                <$name>::update(self, value);
            }
            fn finish(&self) -> Option<f64> {
                <$name>::finish(self)
            }
        }
    )*};
}
states!(Sum, Avg, Min, Max, Count, GroupState, StdDev, StdVar);

/// What becomes of histograms in a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Histograms {
    /// They count like floats.
    Count,
    /// They are left out, and that is noted.
    Ignore,
    /// They are summed among themselves, never with floats.
    Arithmetic,
}

impl Evaluator<'_> {
    pub(super) fn fold(
        &mut self,
        vector: Vector,
        groups: &[Group],
        op: AggregateOp,
        steps: usize,
        span: Span,
    ) -> Result<Vector, QueryError> {
        match op {
            AggregateOp::Sum => self.fold_with::<Sum>(&vector, groups, op, Histograms::Arithmetic, steps, span),
            AggregateOp::Avg => self.fold_with::<Avg>(&vector, groups, op, Histograms::Arithmetic, steps, span),
            AggregateOp::Min => self.fold_with::<Min>(&vector, groups, op, Histograms::Ignore, steps, span),
            AggregateOp::Max => self.fold_with::<Max>(&vector, groups, op, Histograms::Ignore, steps, span),
            AggregateOp::Count => self.fold_with::<Count>(&vector, groups, op, Histograms::Count, steps, span),
            AggregateOp::Group => self.fold_with::<GroupState>(&vector, groups, op, Histograms::Count, steps, span),
            AggregateOp::Stddev => self.fold_with::<StdDev>(&vector, groups, op, Histograms::Ignore, steps, span),
            AggregateOp::Stdvar => self.fold_with::<StdVar>(&vector, groups, op, Histograms::Ignore, steps, span),
            other => unreachable!("{other} does not fold to one series per group"),
        }
    }

    fn fold_with<S: State>(
        &mut self,
        vector: &Vector,
        groups: &[Group],
        op: AggregateOp,
        histograms: Histograms,
        steps: usize,
        span: Span,
    ) -> Result<Vector, QueryError> {
        let mut out = self.empty()?;
        let mut scratch = self.meter.hold()?;
        scratch.grow_bytes((steps * size_of::<S>()) as u64)?;
        let mut states = vec![S::default(); steps];
        for group in groups {
            states.fill(S::default());
            let mut folds: BTreeMap<u32, Fold> = BTreeMap::new();
            for &member in &group.members {
                self.meter.check()?;
                let column = &vector.series[member].column;
                if column.floats.len() == steps {
                    states.iter_mut().zip(&column.values).for_each(|(state, &value)| state.update(value));
                } else {
                    column.floats.iter().for_each(|step| states[step].update(column.values[step]));
                }
                if column.histograms.is_empty() {
                    continue;
                }
                match histograms {
                    Histograms::Count => {
                        column.histograms.iter().for_each(|(step, _)| states[*step as usize].update(f64::NAN));
                    }
                    Histograms::Ignore => self.notes.add(Note::IgnoredInAggregation { op: op.as_str() }, span),
                    Histograms::Arithmetic => {
                        let mut remarks = Remarks::default();
                        for (step, histogram) in &column.histograms {
                            match folds.get_mut(step) {
                                Some(fold) => fold.update(histogram, &mut remarks),
                                None => {
                                    scratch.grow_bytes(2 * histogram.bytes() as u64)?;
                                    let mean = op == AggregateOp::Avg;
                                    let fold = if mean { Fold::mean(histogram) } else { Fold::sum(histogram) };
                                    folds.insert(*step, fold);
                                }
                            }
                        }
                        let metric = vector.series[member].labels.metric_name().unwrap_or_default();
                        self.notes.remarks(remarks, metric, span);
                    }
                }
            }
            out.hold.grow_bytes(Column::bytes(steps))?;
            let mut column = Column::empty(steps);
            for (step, state) in states.iter().enumerate() {
                if let Some(value) = state.finish() {
                    column.set(step, value);
                }
            }
            let mut remarks = Remarks::default();
            for (step, fold) in folds {
                if column.floats.contains(step as usize) {
                    self.notes.add(Note::MixedFloatsHistogramsAggregation, span);
                    column.floats.remove(step as usize);
                } else if let Some(mut histogram) = fold.finish(&mut remarks) {
                    histogram.compact(0);
                    column.histograms.push((step, Arc::new(histogram)));
                }
            }
            self.notes.remarks(remarks, "", span);
            push(&mut out, group, column)?;
        }
        Ok(out)
    }

    pub(super) fn quantile(
        &mut self,
        vector: Vector,
        groups: &[Group],
        q: &Scalars,
        steps: usize,
        span: Span,
    ) -> Result<Vector, QueryError> {
        let mut out = self.empty()?;
        let mut values = Vec::new();
        for group in groups {
            out.hold.grow_bytes(Column::bytes(steps))?;
            let mut column = Column::empty(steps);
            let members = || group.members.iter().map(|&member| &vector.series[member].column);
            if members().any(|c| !c.histograms.is_empty()) {
                self.notes.add(Note::IgnoredInAggregation { op: "quantile" }, span);
            }
            for step in 0..steps {
                if step % 64 == 0 {
                    self.meter.check()?;
                }
                values.clear();
                values.extend(members().filter_map(|c| c.float(step)));
                if !values.is_empty() {
                    column.set(step, quantile(q.at(step), &mut values));
                }
            }
            push(&mut out, group, column)?;
        }
        Ok(out)
    }
}

fn push(out: &mut Vector, group: &Group, column: Column) -> Result<(), QueryError> {
    if !column.is_empty() {
        out.hold.grow_samples(column.len())?;
        out.series.push(Series { labels: group.labels.clone(), drop_name: group.drop_name, column });
    }
    Ok(())
}
