//! Sliding windows over the samples of one series.
//!
//! A function over a range sees, for each step, a slice of the series' float column and a slice of
//! its histograms. Steps rise, so both ends of the slice only move forward: finding all windows of a
//! series is one pass over its times, and none at all if the series before it had the same times.

use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::ResetHint;
use kymo_core::query::Grid;
use kymo_core::storage::{Columns, RunKind};

use super::column::Column;
use crate::plan::Source;

/// Samples of one series, floats and histograms apart, staleness markers left out.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<f64>,
    pub(crate) histogram_times: Vec<i64>,
    pub(crate) histograms: Vec<Arc<NativeHistogram>>,
    /// As [`Columns::times_id`], of the float times.
    times_id: u64,
}

impl Samples {
    /// Takes what was read from storage; a column of floats alone is swapped, not copied.
    pub(crate) fn take(&mut self, columns: &mut Columns) {
        self.clear();
        if let [run] = columns.runs[..]
            && run.kind == RunKind::Float
        {
            std::mem::swap(&mut self.times, &mut columns.times);
            std::mem::swap(&mut self.values, &mut columns.floats);
            self.times_id = columns.times_id;
            return;
        }
        float_samples(columns, &mut self.times, &mut self.values);
        let mut at = 0;
        let mut histograms = columns.histograms.iter();
        for run in &columns.runs {
            if run.kind == RunKind::Histogram {
                self.histogram_times.extend_from_slice(&columns.times[at..at + run.len]);
                self.histograms.extend(histograms.by_ref().take(run.len).cloned().map(Arc::new));
            }
            at += run.len;
        }
    }

    /// Takes what an expression gave at the steps of a subquery.
    pub(crate) fn take_column(&mut self, column: &Column, grid: Grid) {
        self.clear();
        for step in column.floats.iter() {
            self.times.push(grid.time_ms(step));
            self.values.push(column.values[step]);
        }
        for (step, histogram) in &column.histograms {
            self.histogram_times.push(grid.time_ms(*step as usize));
            self.histograms.push(without_reset_hint(histogram));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.times.len() + self.histogram_times.len()
    }

    fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.histogram_times.clear();
        self.histograms.clear();
        self.times_id = 0;
    }
}

/// What a hint says of the sample before is not true of the step before in a subquery.
fn without_reset_hint(histogram: &Arc<NativeHistogram>) -> Arc<NativeHistogram> {
    let mut histogram = Arc::clone(histogram);
    if matches!(histogram.hint, ResetHint::Reset | ResetHint::NotReset) {
        Arc::make_mut(&mut histogram).hint = ResetHint::Unknown;
    }
    histogram
}

/// The float samples of a column that may hold other kinds.
pub(crate) fn float_samples(columns: &Columns, times: &mut Vec<i64>, values: &mut Vec<f64>) {
    times.clear();
    values.clear();
    let (mut at, mut float) = (0, 0);
    for run in &columns.runs {
        if run.kind == RunKind::Float {
            times.extend_from_slice(&columns.times[at..at + run.len]);
            values.extend_from_slice(&columns.floats[float..float + run.len]);
            float += run.len;
        }
        at += run.len;
    }
}

/// A left-open, right-closed range of time, and the step it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Exclusive.
    pub(crate) start_ms: i64,
    /// Inclusive.
    pub(crate) end_ms: i64,
    /// The step's own time.
    pub(crate) step_ms: i64,
    /// Number of the step.
    pub(crate) step: usize,
}

impl Window {
    pub(crate) fn of(source: &Source, grid: Grid, step: usize) -> Window {
        let step_ms = grid.time_ms(step);
        let end_ms = source.time.end_ms(step_ms);
        Window { start_ms: end_ms.saturating_sub(source.range_ms), end_ms, step_ms, step }
    }

    /// Length in seconds.
    pub(crate) fn seconds(self) -> f64 {
        (self.end_ms - self.start_ms) as f64 / 1000.0
    }
}

/// What a function sees at one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) window: Window,
    pub(crate) times: &'a [i64],
    pub(crate) values: &'a [f64],
    pub(crate) histogram_times: &'a [i64],
    pub(crate) histograms: &'a [Arc<NativeHistogram>],
    /// Where `values` begins in the series.
    pub(crate) first: usize,
}

impl View<'_> {
    pub(crate) fn len(&self) -> usize {
        self.times.len() + self.histogram_times.len()
    }
}

/// Begin and end of each step's window in a column of times.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    times_id: u64,
    of_step: Vec<(u32, u32)>,
}

impl Bounds {
    fn find(&mut self, times: &[i64], times_id: u64, grid: Grid, source: &Source) {
        if times_id != 0 && times_id == self.times_id {
            return;
        }
        self.times_id = times_id;
        self.of_step.clear();
        let (mut begin, mut end) = (0, 0);
        for step in 0..grid.steps() {
            let window = Window::of(source, grid, step);
            let start_ms = window.start_ms.saturating_sub(source.margin_ms.0);
            let end_ms = window.end_ms.saturating_add(source.margin_ms.1);
            while begin < times.len() && times[begin] <= start_ms {
                begin += 1;
            }
            end = end.max(begin);
            while end < times.len() && times[end] <= end_ms {
                end += 1;
            }
            self.of_step.push((begin as u32, end as u32));
        }
    }
}

/// The windows of one series after another.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    floats: Bounds,
    histograms: Bounds,
}

impl Windows {
    /// Calls `visit` with every window of the grid that holds a sample.
    pub(crate) fn each<E>(
        &mut self,
        samples: &Samples,
        grid: Grid,
        source: &Source,
        mut visit: impl FnMut(View<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.floats.find(&samples.times, samples.times_id, grid, source);
        let with_histograms = !samples.histogram_times.is_empty();
        if with_histograms {
            self.histograms.find(&samples.histogram_times, 0, grid, source);
        }
        for (step, &(begin, end)) in self.floats.of_step.iter().enumerate() {
            let (begin, end) = (begin as usize, end as usize);
            let (h_begin, h_end) = if with_histograms { self.histograms.of_step[step] } else { (0, 0) };
            if begin == end && h_begin == h_end {
                continue;
            }
            visit(View {
                window: Window::of(source, grid, step),
                times: &samples.times[begin..end],
                values: &samples.values[begin..end],
                histogram_times: &samples.histogram_times[h_begin as usize..h_end as usize],
                histograms: &samples.histograms[h_begin as usize..h_end as usize],
                first: begin,
            })?;
        }
        Ok(())
    }
}
