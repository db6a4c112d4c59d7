//! `sum avg min max count group stddev stdvar`: one series per group.

use std::collections::BTreeMap;
use std::sync::Arc;

use kymo_core::Labels;
use kymo_core::aggregate::{Avg, CompensatedSum, Group as GroupState, Max, Min, StdDev, StdVar};
use kymo_core::query::QueryError;

use super::projection;
use crate::eval::Evaluator;
use crate::eval::column::{Column, Series, StepSet, Vector};
use crate::eval::labels::{Groups, Projection};
use crate::eval::meter::Hold;
use crate::eval::notes::{Note, Notes};
use crate::functions::histogram::{Fold, Remarks};
use crate::parser::{Aggregate, AggregateOp, Span};

/// An aggregation state.
trait State: Default + Clone {
    fn update(&mut self, value: f64);
    fn finish(&self) -> Option<f64>;
}

/// The states of one group at all steps.
trait States {
    /// Bytes per step.
    const BYTES: usize;

    fn new(steps: usize) -> Self;

    /// Takes the floats of a column.
    fn add(&mut self, column: &Column, full: bool);

    /// Counts a sample that is no float.
    fn count(&mut self, step: usize);

    /// Whether a step has taken a sample.
    fn has(&self, step: usize) -> bool;

    /// The answers; steps without a sample have none.
    fn finish(self) -> Column;
}

/// One state after another.
struct Plain<S>(Vec<S>);

impl<S: State> States for Plain<S> {
    const BYTES: usize = size_of::<S>();

    fn new(steps: usize) -> Plain<S> {
        Plain(vec![S::default(); steps])
    }

    fn add(&mut self, column: &Column, full: bool) {
        if full {
            self.0.iter_mut().zip(&column.values).for_each(|(state, &value)| state.update(value));
        } else {
            column.floats.iter().for_each(|step| self.0[step].update(column.values[step]));
        }
    }

    fn count(&mut self, step: usize) {
        self.0[step].update(f64::NAN);
    }

    fn has(&self, step: usize) -> bool {
        self.0[step].finish().is_some()
    }

    fn finish(self) -> Column {
        let mut column = Column::empty(self.0.len());
        for (step, state) in self.0.iter().enumerate() {
            if let Some(value) = state.finish() {
                column.set(step, value);
            }
        }
        column
    }
}

/// Sums side by side, so that the machine adds several steps at once. The same bits as [`CompensatedSum`]
/// gives: Knuth's form of the rounding error needs no branch, and both forms have it exactly.
struct Sums {
    seen: StepSet,
    sums: Vec<f64>,
    lost: Vec<f64>,
}

impl Sums {
    fn add_one(sum: &mut f64, lost: &mut f64, value: f64) {
        let total = *sum + value;
        let part = total - *sum;
        let error = (*sum - (total - part)) + (value - part);
        // An infinite sum has no rounding error.
        *lost = if total.is_infinite() { 0.0 } else { *lost + error };
        *sum = total;
    }
}

impl States for Sums {
    const BYTES: usize = 2 * size_of::<f64>();

    fn new(steps: usize) -> Sums {
        Sums { seen: StepSet::empty(steps), sums: vec![0.0; steps], lost: vec![0.0; steps] }
    }

    fn add(&mut self, column: &Column, full: bool) {
        if full {
            let cells = self.sums.iter_mut().zip(&mut self.lost).zip(&column.values);
            cells.for_each(|((sum, lost), &value)| Sums::add_one(sum, lost, value));
        } else {
            for step in column.floats.iter() {
                Sums::add_one(&mut self.sums[step], &mut self.lost[step], column.values[step]);
            }
        }
        self.seen.union_with(&column.floats);
    }

    fn count(&mut self, _: usize) {}

    fn has(&self, step: usize) -> bool {
        self.seen.contains(step)
    }

    fn finish(mut self) -> Column {
        for (sum, lost) in self.sums.iter_mut().zip(&self.lost) {
            *sum = CompensatedSum { sum: *sum, compensation: *lost }.total();
        }
        Column { values: self.sums, floats: self.seen, histograms: Vec::new() }
    }
}

/// Means: sums with counts, as long as no sum overflows.
struct Means {
    sums: Sums,
    counts: Vec<u32>,
    /// From the first overflow on.
    careful: Option<Plain<Avg>>,
}

impl States for Means {
    const BYTES: usize = Sums::BYTES + size_of::<u32>();

    fn new(steps: usize) -> Means {
        Means { sums: Sums::new(steps), counts: vec![0; steps], careful: None }
    }

    fn add(&mut self, column: &Column, full: bool) {
        let overflows = |step: usize| (self.sums.sums[step] + column.values[step]).is_infinite();
        if self.careful.is_none() && column.floats.iter().any(overflows) {
            let states = self.counts.iter().zip(&self.sums.sums).zip(&self.sums.lost);
            let states = states.map(|((&count, &sum), &lost)| {
                Avg::of_sum(u64::from(count), CompensatedSum { sum, compensation: lost })
            });
            self.careful = Some(Plain(states.collect()));
        }
        match &mut self.careful {
            Some(careful) => careful.add(column, full),
            None => {
                self.sums.add(column, full);
                column.floats.iter().for_each(|step| self.counts[step] += 1);
            }
        }
    }

    fn count(&mut self, _: usize) {}

    fn has(&self, step: usize) -> bool {
        match &self.careful {
            Some(careful) => careful.has(step),
            None => self.counts[step] > 0,
        }
    }

    fn finish(self) -> Column {
        if let Some(careful) = self.careful {
            return careful.finish();
        }
        let mut means = Column { values: self.sums.sums, floats: self.sums.seen, histograms: Vec::new() };
        for ((value, &lost), &count) in means.values.iter_mut().zip(&self.sums.lost).zip(&self.counts) {
            let count = f64::from(count);
            *value = CompensatedSum { sum: *value / count, compensation: lost / count }.total();
        }
        means
    }
}

/// Counts.
struct Counts(Vec<u32>);

impl States for Counts {
    const BYTES: usize = size_of::<u32>();

    fn new(steps: usize) -> Counts {
        Counts(vec![0; steps])
    }

    fn add(&mut self, column: &Column, full: bool) {
        if full {
            self.0.iter_mut().for_each(|count| *count += 1);
        } else {
            column.floats.iter().for_each(|step| self.0[step] += 1);
        }
    }

    fn count(&mut self, step: usize) {
        self.0[step] += 1;
    }

    fn has(&self, step: usize) -> bool {
        self.0[step] > 0
    }

    fn finish(self) -> Column {
        let mut column = Column::empty(self.0.len());
        let some = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        some.for_each(|(step, &count)| column.set(step, f64::from(count)));
        column
    }
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
states!(Avg, Min, Max, GroupState, StdDev, StdVar);

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
    at: Groups,
    groups: Vec<FoldedGroup<S>>,
    /// Of the states.
    held: Hold,
    out: Vector,
}

struct FoldedGroup<S> {
    labels: Labels,
    drop_name: bool,
    states: S,
    /// By step; `None` where a float came first, which histograms are never added to.
    histograms: BTreeMap<u32, Option<Fold>>,
}

impl<S: States> Folding for Folder<'_, S> {
    fn add(&mut self, series: &Series, notes: &mut Notes<'_>) -> Result<(), QueryError> {
        let idx = self.at.of(self.by, &series.labels);
        if idx == self.groups.len() {
            self.held.grow_bytes((self.steps * S::BYTES) as u64)?;
            self.groups.push(FoldedGroup {
                labels: self.at.labels(),
                drop_name: false,
                states: S::new(self.steps),
                histograms: BTreeMap::new(),
            });
        }
        let group = &mut self.groups[idx];
        group.drop_name |= series.drop_name;
        let column = &series.column;
        // Histograms that cannot be added to each other end their group's step.
        let ended = group.histograms.iter().filter(|(_, fold)| fold.as_ref().is_some_and(Fold::failed));
        let ended: Vec<usize> = ended.map(|(step, _)| *step as usize).filter(|&s| column.floats.contains(s)).collect();
        if ended.is_empty() {
            group.states.add(column, column.floats.len() == self.steps);
        } else {
            let mut left = Column { histograms: Vec::new(), ..column.clone() };
            ended.into_iter().for_each(|step| left.floats.remove(step));
            group.states.add(&left, false);
        }
        if column.histograms.is_empty() {
            return Ok(());
        }
        match self.histograms {
            Histograms::Count => {
                column.histograms.iter().for_each(|(step, _)| group.states.count(*step as usize));
            }
            Histograms::Ignore => notes.add(Note::IgnoredInAggregation { op: self.op.as_str() }, self.span),
            Histograms::Arithmetic => {
                let mut remarks = Remarks::default();
                for (step, histogram) in &column.histograms {
                    match group.histograms.get_mut(step) {
                        Some(Some(fold)) => fold.update(histogram, &mut remarks),
                        Some(None) => {}
                        None if group.states.has(*step as usize) => {
                            group.histograms.insert(*step, None);
                        }
                        None => {
                            self.held.grow_bytes(2 * histogram.bytes() as u64)?;
                            let mean = self.op == AggregateOp::Avg;
                            let fold = if mean { Fold::mean(histogram) } else { Fold::sum(histogram) };
                            group.histograms.insert(*step, Some(fold));
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
            let mut column = group.states.finish();
            let mut remarks = Remarks::default();
            for (step, fold) in group.histograms {
                if column.floats.contains(step as usize) {
                    notes.add(Note::MixedFloatsHistogramsAggregation, span);
                    column.floats.remove(step as usize);
                } else if let Some(mut histogram) = fold.and_then(|fold| fold.finish(&mut remarks)) {
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
    /// The aggregation `what`, which must be one with a state per group and step.
    pub(super) fn states(&self, what: &'a Aggregate, steps: usize) -> Result<Box<dyn Folding + 'a>, QueryError> {
        use Histograms::{Arithmetic, Ignore};
        match what.op {
            AggregateOp::Sum => self.folder::<Sums>(what, Arithmetic, steps),
            AggregateOp::Avg => self.folder::<Means>(what, Arithmetic, steps),
            AggregateOp::Min => self.folder::<Plain<Min>>(what, Ignore, steps),
            AggregateOp::Max => self.folder::<Plain<Max>>(what, Ignore, steps),
            AggregateOp::Count => self.folder::<Counts>(what, Histograms::Count, steps),
            AggregateOp::Group => self.folder::<Plain<GroupState>>(what, Histograms::Count, steps),
            AggregateOp::Stddev => self.folder::<Plain<StdDev>>(what, Ignore, steps),
            AggregateOp::Stdvar => self.folder::<Plain<StdVar>>(what, Ignore, steps),
            other => unreachable!("{other} does not fold to one series per group"),
        }
    }

    fn folder<S: States + 'a>(
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
            // Parentheses around the vector count here.
            span: self.ast[what.expr].span,
            at: Groups::default(),
            groups: Vec::new(),
            held: self.meter.hold()?,
            out: self.empty()?,
        }))
    }
}

pub(super) fn push(out: &mut Vector, labels: Labels, drop_name: bool, column: Column) -> Result<(), QueryError> {
    if !column.is_empty() {
        out.hold.grow_samples(column.len())?;
        out.series.push(Series { labels, drop_name, column });
    }
    Ok(())
}
