//! What an expression evaluates to: columns over a grid.
//!
//! A series keeps one dense `Vec<f64>` over all steps of its grid and a bitmap that says which of
//! them mean something. Native histograms are rare and large, so they stand beside it in a sparse
//! list. A step holds a float, a histogram, or nothing: never two.

use std::sync::Arc;

use kymo_core::query::QueryError;
use kymo_core::{Labels, NativeHistogram};

use super::meter::{Hold, Meter};

/// A set of steps of one grid.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct StepSet {
    words: Vec<u64>,
}

impl Clone for StepSet {
    fn clone(&self) -> StepSet {
        StepSet { words: self.words.clone() }
    }

    /// Keeps the buffer.
    fn clone_from(&mut self, from: &StepSet) {
        self.words.clone_from(&from.words);
    }
}

impl StepSet {
    /// No step of `steps`.
    pub(crate) fn empty(steps: usize) -> StepSet {
        StepSet { words: vec![0; steps.div_ceil(64)] }
    }

    /// Every step of `steps`.
    pub(crate) fn full(steps: usize) -> StepSet {
        let mut words = vec![u64::MAX; steps.div_ceil(64)];
        if let (Some(last), true) = (words.last_mut(), !steps.is_multiple_of(64)) {
            *last = (1 << (steps % 64)) - 1;
        }
        StepSet { words }
    }

    /// No step any more, of `steps`; keeps the buffer.
    pub(crate) fn reset(&mut self, steps: usize) {
        self.words.clear();
        self.words.resize(steps.div_ceil(64), 0);
    }

    pub(crate) fn insert(&mut self, step: usize) {
        self.words[step / 64] |= 1 << (step % 64);
    }

    pub(crate) fn remove(&mut self, step: usize) {
        self.words[step / 64] &= !(1 << (step % 64));
    }

    pub(crate) fn contains(&self, step: usize) -> bool {
        self.words[step / 64] >> (step % 64) & 1 == 1
    }

    pub(crate) fn len(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.words.as_slice())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|&w| w == 0)
    }

    /// The steps, rising.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(at * 64 + bit)
            })
        })
    }

    pub(crate) fn union_with(&mut self, other: &StepSet) {
        self.zip(other, |a, b| a | b);
    }

    pub(crate) fn intersect_with(&mut self, other: &StepSet) {
        self.zip(other, |a, b| a & b);
    }

    pub(crate) fn subtract(&mut self, other: &StepSet) {
        self.zip(other, |a, b| a & !b);
    }

    /// The first step in both.
    pub(crate) fn first_common(&self, other: &StepSet) -> Option<usize> {
        let (at, common) =
            self.words.iter().zip(&other.words).map(|(a, b)| a & b).enumerate().find(|&(_, common)| common != 0)?;
        Some(at * 64 + common.trailing_zeros() as usize)
    }

    fn zip(&mut self, other: &StepSet, op: impl Fn(u64, u64) -> u64) {
        debug_assert_eq!(self.words.len(), other.words.len(), "sets of two grids");
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a = op(*a, *b);
        }
    }
}

/// A sample of either kind.
#[derive(Debug, Clone)]
pub(crate) enum Sample {
    Float(f64),
    Histogram(Arc<NativeHistogram>),
}

/// The samples of one series over a grid.
#[derive(Debug, Clone, Default)]
pub(crate) struct Column {
    /// As long as the grid; only steps in `floats` mean something.
    pub(crate) values: Vec<f64>,
    /// Steps that hold a float.
    pub(crate) floats: StepSet,
    /// Steps that hold a histogram, rising.
    pub(crate) histograms: Vec<(u32, Arc<NativeHistogram>)>,
}

impl Column {
    /// No sample at any of `steps`.
    pub(crate) fn empty(steps: usize) -> Column {
        Column { values: vec![0.0; steps], floats: StepSet::empty(steps), histograms: Vec::new() }
    }

    /// No sample at any of `steps` any more; keeps the buffers.
    pub(crate) fn reset(&mut self, steps: usize) {
        self.values.clear();
        self.values.resize(steps, 0.0);
        self.floats.reset(steps);
        self.histograms.clear();
    }

    /// Bytes a column without histograms takes, for budgets.
    pub(crate) fn bytes(steps: usize) -> u64 {
        (steps * size_of::<f64>() + steps.div_ceil(8) + size_of::<Series>()) as u64
    }

    pub(crate) fn set(&mut self, step: usize, value: f64) {
        self.values[step] = value;
        self.floats.insert(step);
    }

    /// Puts a sample at a step behind every histogram so far, which held nothing.
    pub(crate) fn put(&mut self, step: usize, sample: Sample) {
        match sample {
            Sample::Float(value) => self.set(step, value),
            Sample::Histogram(histogram) => self.histograms.push((step as u32, histogram)),
        }
    }

    /// The float at a step.
    pub(crate) fn float(&self, step: usize) -> Option<f64> {
        self.floats.contains(step).then(|| self.values[step])
    }

    /// The histogram at a step.
    pub(crate) fn histogram(&self, step: usize) -> Option<&Arc<NativeHistogram>> {
        if self.histograms.is_empty() {
            return None;
        }
        let at = self.histograms.binary_search_by_key(&(step as u32), |(s, _)| *s).ok()?;
        Some(&self.histograms[at].1)
    }

    /// Steps that hold anything.
    pub(crate) fn present(&self) -> StepSet {
        let mut present = self.floats.clone();
        for (step, _) in &self.histograms {
            present.insert(*step as usize);
        }
        present
    }

    /// Number of samples.
    pub(crate) fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.histograms.is_empty() && self.floats.is_empty()
    }

    /// Drops every sample outside `steps`.
    pub(crate) fn retain(&mut self, steps: &StepSet) {
        self.floats.intersect_with(steps);
        self.histograms.retain(|(step, _)| steps.contains(*step as usize));
    }

    /// Takes over the samples of `other`; the first step that both hold is the error.
    pub(crate) fn absorb(&mut self, other: Column) -> Result<(), usize> {
        let common = match (self.histograms.is_empty(), other.histograms.is_empty()) {
            (true, true) => self.floats.first_common(&other.floats),
            _ => self.present().first_common(&other.present()),
        };
        if let Some(step) = common {
            return Err(step);
        }
        for step in other.floats.iter() {
            self.values[step] = other.values[step];
        }
        self.floats.union_with(&other.floats);
        if !other.histograms.is_empty() {
            self.histograms.extend(other.histograms);
            self.histograms.sort_by_key(|(step, _)| *step);
        }
        Ok(())
    }

    /// The only step of a grid of one at every step of a grid of `steps`.
    pub(crate) fn broadcast(self, steps: usize) -> Column {
        let value = self.values.first().copied().unwrap_or_default();
        let floats = if self.floats.is_empty() { StepSet::empty(steps) } else { StepSet::full(steps) };
        let histograms = match self.histograms.into_iter().next() {
            Some((_, h)) => (0..steps as u32).map(|step| (step, Arc::clone(&h))).collect(),
            None => Vec::new(),
        };
        Column { values: vec![value; steps], floats, histograms }
    }
}

/// One series of a vector.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// Its labels. The metric's name is still there when its removal is delayed.
    pub(crate) labels: Labels,
    /// The name goes at the end of the evaluation.
    pub(crate) drop_name: bool,
    /// Its samples.
    pub(crate) column: Column,
}

/// An instant vector at every step of a grid. The order of series is the order of an instant answer.
#[derive(Debug)]
pub(crate) struct Vector {
    /// Label sets may repeat only until [`super::labels::merge`] has been over them.
    pub(crate) series: Vec<Series>,
    /// What it holds of memory and samples.
    pub(crate) hold: Hold,
}

impl Vector {
    /// Sorts by labels what is not sorted yet.
    ///
    /// # Errors
    /// When the query is cancelled or out of time.
    pub(crate) fn sort(&mut self, meter: &Meter<'_>) -> Result<(), QueryError> {
        if !self.series.is_sorted_by(|a, b| a.labels <= b.labels) {
            self.series = meter.sorted(std::mem::take(&mut self.series), |a, b| a.labels.cmp(&b.labels))?;
        }
        Ok(())
    }
}

/// A number at every step.
#[derive(Debug)]
pub(crate) enum Scalars {
    /// The same at every step.
    Constant(f64),
    /// As long as the grid, with what it holds.
    PerStep(Vec<f64>, Hold),
}

impl Scalars {
    pub(crate) fn at(&self, step: usize) -> f64 {
        match self {
            Scalars::Constant(value) => *value,
            Scalars::PerStep(values, _) => values[step],
        }
    }

    /// The values of all steps; a constant stands once.
    pub(crate) fn values(&self) -> &[f64] {
        match self {
            Scalars::Constant(value) => std::slice::from_ref(value),
            Scalars::PerStep(values, _) => values,
        }
    }

    pub(crate) fn map(self, op: impl Fn(f64) -> f64) -> Scalars {
        match self {
            Scalars::Constant(value) => Scalars::Constant(op(value)),
            Scalars::PerStep(mut values, hold) => {
                values.iter_mut().for_each(|v| *v = op(*v));
                Scalars::PerStep(values, hold)
            }
        }
    }

    /// `op` of both at every step.
    pub(crate) fn combine(self, other: Scalars, op: impl Fn(f64, f64) -> f64) -> Scalars {
        match (self, other) {
            (Scalars::Constant(a), other) => other.map(|b| op(a, b)),
            (this, Scalars::Constant(b)) => this.map(|a| op(a, b)),
            (Scalars::PerStep(mut a, hold), Scalars::PerStep(b, _)) => {
                a.iter_mut().zip(b).for_each(|(a, b)| *a = op(*a, b));
                Scalars::PerStep(a, hold)
            }
        }
    }

    /// The value of a grid of one for any number of steps.
    pub(crate) fn broadcast(self) -> Scalars {
        match self {
            Scalars::PerStep(values, _) => Scalars::Constant(values.first().copied().unwrap_or(f64::NAN)),
            constant @ Scalars::Constant(_) => constant,
        }
    }
}

/// What a node of the plan evaluated to.
#[derive(Debug)]
pub(crate) enum Value {
    /// A number per step.
    Scalar(Scalars),
    /// An instant vector per step.
    Vector(Vector),
    /// What its parent reads by itself: a range vector, or the matchers of `info`.
    Deferred,
    /// A string literal; its text stays in the tree.
    Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_steps_counts_and_lists_across_words() {
        let mut set = StepSet::empty(130);
        for step in [0, 63, 64, 129] {
            set.insert(step);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 129]);
        set.remove(64);
        assert_eq!((set.len(), set.contains(63), set.contains(64)), (3, true, false));
        assert_eq!(StepSet::full(130).len(), 130);
        assert_eq!(StepSet::full(128).len(), 128);
        let mut rest = StepSet::full(130);
        rest.subtract(&set);
        assert_eq!((rest.len(), rest.first_common(&set)), (127, None));
        assert_eq!(StepSet::full(130).first_common(&set), Some(0));
    }

    #[test]
    fn columns_join_only_where_they_do_not_meet() {
        let (mut a, mut b) = (Column::empty(3), Column::empty(3));
        a.set(0, 1.0);
        b.set(2, 3.0);
        a.absorb(b.clone()).unwrap();
        assert_eq!((a.float(0), a.float(1), a.float(2)), (Some(1.0), None, Some(3.0)));
        assert_eq!(a.absorb(b), Err(2));
    }
}
