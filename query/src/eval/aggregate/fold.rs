//! `sum avg min max count group stddev stdvar quantile`: one series per group.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kymo_core::Labels;
use kymo_core::aggregate::{Avg, Count, Group as GroupState, Max, Min, StdDev, StdVar, Sum, quantile};
use kymo_core::query::QueryError;

use super::{Group, projection};
use crate::eval::Evaluator;
use crate::eval::column::{Column, Scalars, Series, Vector};
use crate::eval::labels::Projection;
use crate::eval::meter::{Hold, Pace};
use crate::eval::notes::{Note, Notes};
use crate::functions::histogram::{Fold, Remarks};
use crate::parser::{Aggregate, AggregateOp, Span};

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

/// An aggregation that takes one series after another and keeps only its groups.
pub(in crate::eval) trait Folding {
    /// Adds the samples of a series to its group.
    fn add(&mut self, series: &Series, notes: &mut Notes<'_>) -> Result<(), QueryError>;

    /// One series per group, in the order the groups' first series came.
    fn finish(self: Box<Self>, notes: &mut Notes<'_>) -> Result<Vector, QueryError>;
}

/// Groups with a state per step.
struct Folder<'a, S> {
    op: AggregateOp,
    by: Projection<'a>,
    histograms: Histograms,
    steps: usize,
    span: Span,
    at: HashMap<Labels, usize>,
    groups: Vec<FoldedGroup<S>>,
    /// Of the states.
    held: Hold,
    out: Vector,
}

struct FoldedGroup<S> {
    labels: Labels,
    drop_name: bool,
    states: Vec<S>,
    /// By step.
    histograms: BTreeMap<u32, Fold>,
}

impl<S: State> Folding for Folder<'_, S> {
    fn add(&mut self, series: &Series, notes: &mut Notes<'_>) -> Result<(), QueryError> {
        let labels = self.by.of(&series.labels);
        let idx = match self.at.get(&labels) {
            Some(&idx) => idx,
            None => {
                self.held.grow_bytes((self.steps * size_of::<S>()) as u64)?;
                self.groups.push(FoldedGroup {
                    labels: labels.clone(),
                    drop_name: false,
                    states: vec![S::default(); self.steps],
                    histograms: BTreeMap::new(),
                });
                self.at.insert(labels, self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        let group = &mut self.groups[idx];
        group.drop_name |= series.drop_name;
        let (states, column) = (&mut group.states, &series.column);
        if column.floats.len() == self.steps {
            states.iter_mut().zip(&column.values).for_each(|(state, &value)| state.update(value));
        } else {
            column.floats.iter().for_each(|step| states[step].update(column.values[step]));
        }
        if column.histograms.is_empty() {
            return Ok(());
        }
        match self.histograms {
            Histograms::Count => {
                column.histograms.iter().for_each(|(step, _)| states[*step as usize].update(f64::NAN));
            }
            Histograms::Ignore => notes.add(Note::IgnoredInAggregation { op: self.op.as_str() }, self.span),
            Histograms::Arithmetic => {
                let mut remarks = Remarks::default();
                for (step, histogram) in &column.histograms {
                    match group.histograms.get_mut(step) {
                        Some(fold) => fold.update(histogram, &mut remarks),
                        None => {
                            self.held.grow_bytes(2 * histogram.bytes() as u64)?;
                            let mean = self.op == AggregateOp::Avg;
                            let fold = if mean { Fold::mean(histogram) } else { Fold::sum(histogram) };
                            group.histograms.insert(*step, fold);
                        }
                    }
                }
                notes.remarks(remarks, series.labels.metric_name().unwrap_or_default(), self.span);
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>, notes: &mut Notes<'_>) -> Result<Vector, QueryError> {
        let Folder { steps, span, groups, mut out, .. } = *self;
        for group in groups {
            out.hold.grow_bytes(Column::bytes(steps))?;
            let mut column = Column::empty(steps);
            for (step, state) in group.states.iter().enumerate() {
                if let Some(value) = state.finish() {
                    column.set(step, value);
                }
            }
            let mut remarks = Remarks::default();
            for (step, fold) in group.histograms {
                if column.floats.contains(step as usize) {
                    notes.add(Note::MixedFloatsHistogramsAggregation, span);
                    column.floats.remove(step as usize);
                } else if let Some(mut histogram) = fold.finish(&mut remarks) {
                    histogram.compact(0);
                    column.histograms.push((step, Arc::new(histogram)));
                }
            }
            notes.remarks(remarks, "", span);
            push(&mut out, group.labels, group.drop_name, column)?;
        }
        Ok(out)
    }
}

impl<'a> Evaluator<'a> {
    /// The aggregation `what`, which must be one that folds.
    pub(in crate::eval) fn folding(
        &self,
        what: &'a Aggregate,
        steps: usize,
    ) -> Result<Box<dyn Folding + 'a>, QueryError> {
        use Histograms::{Arithmetic, Ignore};
        match what.op {
            AggregateOp::Sum => self.folder::<Sum>(what, Arithmetic, steps),
            AggregateOp::Avg => self.folder::<Avg>(what, Arithmetic, steps),
            AggregateOp::Min => self.folder::<Min>(what, Ignore, steps),
            AggregateOp::Max => self.folder::<Max>(what, Ignore, steps),
            AggregateOp::Count => self.folder::<Count>(what, Histograms::Count, steps),
            AggregateOp::Group => self.folder::<GroupState>(what, Histograms::Count, steps),
            AggregateOp::Stddev => self.folder::<StdDev>(what, Ignore, steps),
            AggregateOp::Stdvar => self.folder::<StdVar>(what, Ignore, steps),
            other => unreachable!("{other} does not fold to one series per group"),
        }
    }

    fn folder<S: State + 'a>(
        &self,
        what: &'a Aggregate,
        histograms: Histograms,
        steps: usize,
    ) -> Result<Box<dyn Folding + 'a>, QueryError> {
        self.meter.check_steps(steps)?;
        Ok(Box::new(Folder::<S> {
            op: what.op,
            by: projection(what),
            histograms,
            steps,
            span: self.span(what.expr),
            at: HashMap::new(),
            groups: Vec::new(),
            held: self.meter.hold()?,
            out: self.empty()?,
        }))
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
        let (mut values, mut pace) = (Vec::new(), Pace::default());
        for group in groups {
            out.hold.grow_bytes(Column::bytes(steps))?;
            let mut column = Column::empty(steps);
            let members = || group.members.iter().map(|&member| &vector.series[member].column);
            if members().any(|c| !c.histograms.is_empty()) {
                self.notes.add(Note::IgnoredInAggregation { op: "quantile" }, span);
            }
            for step in 0..steps {
                pace.work(&self.meter, group.members.len())?;
                values.clear();
                values.extend(members().filter_map(|c| c.float(step)));
                if !values.is_empty() {
                    column.set(step, quantile(q.at(step), &mut values));
                }
            }
            push(&mut out, group.labels.clone(), group.drop_name, column)?;
        }
        Ok(out)
    }
}

fn push(out: &mut Vector, labels: Labels, drop_name: bool, column: Column) -> Result<(), QueryError> {
    if !column.is_empty() {
        out.hold.grow_samples(column.len())?;
        out.series.push(Series { labels, drop_name, column });
    }
    Ok(())
}
