//! Sliding windows over the samples of one series.
//!
//! A function over a range sees, for each step, a slice of the series' float column and a slice of
//! its histograms. Steps rise, so both ends of the slice only move forward: finding all windows of a
//! series is one pass over its times, and none at all if a series before it had the same times.

use std::sync::Arc;

use kymo_core::NativeHistogram;
use kymo_core::histogram::ResetHint;
use kymo_core::query::{Grid, QueryError};
use kymo_core::storage::{Columns, Rollups, RunKind};

use super::column::{Column, StepSet};
use super::meter::Meter;
use super::times::ByTimes;
use crate::functions::rate::{Extrapolation, Kind};
use crate::functions::starts::Starts;
use crate::plan::Source;

/// Samples of one series, floats and histograms apart, staleness markers left out.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<f64>,
    pub(crate) histogram_times: Vec<i64>,
    pub(crate) histograms: Vec<Arc<NativeHistogram>>,
    /// Start timestamps of the floats; empty if none has one.
    starts: Vec<i64>,
    /// Of the histograms.
    histogram_starts: Vec<i64>,
    /// As [`Columns::times_id`], of the float times.
    times_id: u64,
    /// What stands behind each float and each histogram, if any stands for several samples.
    pub(crate) rollups: Rollups,
}

impl Samples {
    /// Takes what was read from storage; a column of floats alone is swapped, not copied.
    pub(crate) fn take(&mut self, columns: &mut Columns) {
        self.clear();
        std::mem::swap(&mut self.rollups, &mut columns.rollups);
        if let [run] = columns.runs[..]
            && run.kind == RunKind::Float
        {
            std::mem::swap(&mut self.times, &mut columns.times);
            std::mem::swap(&mut self.values, &mut columns.floats);
            std::mem::swap(&mut self.starts, &mut columns.starts);
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
            if let Some(starts) = columns.starts.get(at..at + run.len) {
                match run.kind {
                    RunKind::Float => self.starts.extend_from_slice(starts),
                    RunKind::Histogram => self.histogram_starts.extend_from_slice(starts),
                    RunKind::Stale => {}
                }
            }
            at += run.len;
        }
    }

    /// Forgets start timestamps, for what does not look at them.
    pub(crate) fn forget_starts(&mut self) {
        self.starts.clear();
        self.histogram_starts.clear();
    }

    /// The floats' start timestamps.
    pub(crate) fn starts(&self) -> Starts<'_> {
        Starts { times: &self.times, starts: &self.starts }
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
        self.forget_starts();
        self.rollups.clear();
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
    /// Of the floats.
    pub(crate) starts: Starts<'a>,
    /// Of the histograms.
    pub(crate) histogram_starts: Starts<'a>,
    /// Where `values` begins in the series.
    pub(crate) first: usize,
    /// Where `histograms` begins.
    pub(crate) first_histogram: usize,
}

impl View<'_> {
    pub(crate) fn len(&self) -> usize {
        self.times.len() + self.histogram_times.len()
    }
}

/// Where each step's window lies in a column of times, and what follows from times alone.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    /// Begin and end.
    pub(crate) of_step: Vec<(u32, u32)>,
    /// Steps whose window holds a sample.
    pub(crate) some: StepSet,
    /// Steps whose window holds two.
    pub(crate) two: StepSet,
    /// Samples of all windows.
    pub(crate) samples: u64,
    /// Of the extrapolating functions; else empty.
    pub(crate) edges: Vec<Extrapolation>,
}

/// What [`Bounds`] are found for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) grid: Grid,
    pub(crate) source: &'a Source,
    /// Whether edges are wanted.
    pub(crate) kind: Option<Kind>,
}

impl Bounds {
    fn find(times: &[i64], asked: Asked<'_>) -> Bounds {
        let Asked { grid, source, kind } = asked;
        let steps = grid.steps();
        let mut found = Bounds { some: StepSet::empty(steps), two: StepSet::empty(steps), ..Bounds::default() };
        found.of_step.reserve_exact(steps);
        let (mut begin, mut end) = (0, 0);
        for step in 0..steps {
            let window = Window::of(source, grid, step);
            let start_ms = window.start_ms.saturating_sub(source.margin_ms.0);
            let end_ms = window.end_ms.saturating_add(source.margin_ms.1);
            if step == 0 {
                begin = times.partition_point(|&time| time <= start_ms);
            }
            while begin < times.len() && times[begin] <= start_ms {
                begin += 1;
            }
            end = end.max(begin);
            if step == 0 {
                end = times.partition_point(|&time| time <= end_ms).max(begin);
            }
            while end < times.len() && times[end] <= end_ms {
                end += 1;
            }
            found.of_step.push((begin as u32, end as u32));
            found.samples += (end - begin) as u64;
            if end > begin {
                found.some.insert(step);
            }
            if end > begin + 1 {
                found.two.insert(step);
            }
            if let Some(kind) = kind {
                found.edges.push(Extrapolation::of(&times[begin..end], window, kind));
            }
        }
        found
    }

    /// Bytes of the bounds of a grid.
    pub(super) fn bytes(steps: usize) -> u64 {
        (steps * (size_of::<(u32, u32)>() + size_of::<Extrapolation>()) + steps.div_ceil(4)) as u64
    }
}

/// The windows of one series after another.
#[derive(Debug)]
pub(crate) struct Windows {
    floats: ByTimes<Bounds>,
}

impl Windows {
    pub(crate) fn new(meter: &Meter<'_>) -> Result<Windows, QueryError> {
        Ok(Windows { floats: ByTimes::new(meter)? })
    }

    /// The windows over the floats of a series.
    pub(crate) fn of_floats(&mut self, samples: &Samples, asked: Asked<'_>) -> Result<&Bounds, QueryError> {
        let bytes = Bounds::bytes(asked.grid.steps());
        self.floats.of(&samples.times, samples.times_id, bytes, |times| Bounds::find(times, asked))
    }

    /// Calls `visit` with every window of the grid that holds a sample.
    pub(crate) fn each(
        &mut self,
        samples: &Samples,
        asked: Asked<'_>,
        mut visit: impl FnMut(View<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let histograms = match samples.histogram_times.as_slice() {
            [] => None,
            times => Some(Bounds::find(times, Asked { kind: None, ..asked })),
        };
        let floats = self.of_floats(samples, asked)?;
        for (step, &(begin, end)) in floats.of_step.iter().enumerate() {
            let (begin, end) = (begin as usize, end as usize);
            let (h_begin, h_end) = histograms.as_ref().map_or((0, 0), |bounds| bounds.of_step[step]);
            if begin == end && h_begin == h_end {
                continue;
            }
            let (h_begin, h_end) = (h_begin as usize, h_end as usize);
            let (times, histogram_times) = (&samples.times[begin..end], &samples.histogram_times[h_begin..h_end]);
            let starts = samples.starts.get(begin..end).unwrap_or_default();
            let histogram_starts = samples.histogram_starts.get(h_begin..h_end).unwrap_or_default();
            visit(View {
                window: Window::of(asked.source, asked.grid, step),
                times,
                values: &samples.values[begin..end],
                histogram_times,
                histograms: &samples.histograms[h_begin..h_end],
                starts: Starts { times, starts },
                histogram_starts: Starts { times: histogram_times, starts: histogram_starts },
                first: begin,
                first_histogram: h_begin,
            })?;
        }
        Ok(())
    }
}
