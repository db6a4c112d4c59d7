//! Instant selectors: the newest sample of each series at every step of a grid.

use std::sync::Arc;

use kymo_core::query::{Grid, QueryError};
use kymo_core::storage::{Columns, FloatRollup, HistogramRollup, RunKind, Tier};
use kymo_core::{ErrorKind, SeriesSet};

use super::Evaluator;
use super::column::{Column, StepSet, Vector};
use super::meter::{Hold, Meter};
use super::notes::Note;
use super::rolled::Telling;
use super::shards::{Desk, Made, Make, Order};
use super::times::ByTimes;
use super::window::Samples;
use crate::functions::histogram::{Remarks, interpolated};
use crate::functions::rate::Meaning;
use crate::parser::{NodeId, RangeExtension, Span};
use crate::plan::{Counting, Source};

/// What an instant selector answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The samples.
    Values,
    /// Their times in seconds, for `timestamp`.
    Times,
    /// Their start timestamps in seconds, for `start_timestamp`; 0 for a sample without one.
    Starts,
    /// The times of floats in seconds; histograms as they are.
    FloatTimes,
}

/// No sample for a step.
const NONE: u32 = u32::MAX;

/// Bytes one sample takes in the buffers a series is read into.
pub(super) const READ_BYTES: u64 = 3 * size_of::<i64>() as u64;

/// Buffers a series is read into, with what they may take.
pub(crate) struct Reader {
    pub(crate) columns: Columns,
    hold: Hold,
}

impl Reader {
    pub(crate) fn new(meter: &Meter<'_>) -> Result<Reader, QueryError> {
        Ok(Reader { columns: Columns::default(), hold: meter.hold()? })
    }

    /// Reads series `index`.
    pub(crate) fn read(&mut self, set: &dyn SeriesSet, index: usize, meter: &Meter<'_>) -> Result<(), QueryError> {
        meter.check_often()?;
        self.hold.reach_bytes(set.estimate(index) as u64 * READ_BYTES)?;
        set.read(index, &mut self.columns)?;
        // Estimates may be short where samples are not evenly spread.
        let read = self.columns.times.len();
        let rollups = &self.columns.rollups;
        let figures =
            rollups.floats.len() * size_of::<FloatRollup>() + rollups.histograms.len() * size_of::<HistogramRollup>();
        self.hold.reach_bytes(read as u64 * READ_BYTES + figures as u64)
    }

    /// Counts the samples of the series at hand, wherever it was read.
    pub(crate) fn has_read(&mut self, samples: usize) -> Result<(), QueryError> {
        self.hold.set_samples(samples)
    }
}

/// Makes the series of an instant selector.
struct Picking<'a> {
    grid: Grid,
    source: &'a Source,
    counting: Counting,
    answer: Answer,
    span: Span,
    picks: ByTimes<Picks>,
    around: Samples,
}

impl<'a> Make<'a> for Picking<'_> {
    fn make(&mut self, columns: &mut Columns, made: &mut Made, desk: &mut Desk<'_, 'a>) -> Result<bool, QueryError> {
        let (grid, source, column) = (self.grid, self.source, &mut made.series.column);
        let steps = grid.steps();
        desk.read.samples += columns.times.len() as u64;
        desk.reserve(Column::bytes(steps))?;
        column.reset(steps);
        if source.extension == RangeExtension::Smoothed {
            self.around.take(columns);
            let (remarks, mixed) = smoothed(&self.around, grid, source, column);
            let metric = made.source.metric_name().unwrap_or_default();
            if mixed {
                desk.notes.add(Note::MixedFloatsHistograms { metric }, self.span);
            }
            desk.notes.remarks(remarks, metric, self.span);
        } else if !columns.rollups.is_empty() {
            gather(columns, &Picks::find_rolled_up(columns, grid, source), self.answer, column);
        } else {
            let bytes = Picks::bytes(steps);
            let found = self.picks.of(&columns.times, columns.times_id, bytes, |t| Picks::find(t, grid, source))?;
            gather(columns, found, self.answer, column);
        }
        desk.counts.count_column(self.counting, column);
        Ok(!column.is_empty())
    }
}

impl<'a> Evaluator<'a> {
    /// Evaluates a vector selector over its grid, and the aggregation around it if that takes series as they come.
    pub(crate) fn select(&mut self, id: NodeId, source: &Source, answer: Answer) -> Result<Vector, QueryError> {
        let planned = self.plan.node(id);
        let (grid, counting) = (planned.grid, planned.counting);
        let steps = grid.steps();
        let mut sink = self.sink(id)?;
        let Some(selector) = source.selector.as_ref().filter(|_| steps > 0) else {
            return self.drained(id, sink);
        };
        self.meter.check_steps(steps)?;
        let set = match self.take_opened(id) {
            Some(set) => set,
            None => Arc::from(self.storage.select(selector, self.ctx)?),
        };
        let span = self.ast[id].span;
        let maker = move |meter: &Meter<'a>| {
            let (picks, around) = (ByTimes::new(meter)?, Samples::default());
            Ok(Picking { grid, source, counting, answer, span, picks, around })
        };
        let read =
            self.make_all(Order { set: set.as_ref(), steps, weight: 1, maker: &maker }, &mut sink, &mut |_, _| Ok(()))?;
        read.met.say(Telling::Selected, grid, source, &mut self.notes, span);
        self.saw(id, set.len(), read.samples, read.bytes);
        self.drained(id, sink)
    }
}

/// Which sample each step picks.
#[derive(Debug)]
pub(super) struct Picks {
    of_step: Vec<u32>,
    /// Steps that pick one.
    some: StepSet,
}

impl Picks {
    /// Finds the newest sample in `(end − lookback, end]` of every step. One pass over times and steps.
    fn find(times: &[i64], grid: Grid, source: &Source) -> Picks {
        let steps = grid.steps();
        let mut picks = Picks { of_step: Vec::with_capacity(steps), some: StepSet::empty(steps) };
        let mut next = 0;
        for step in 0..steps {
            let end_ms = source.time.end_ms(grid.time_ms(step));
            if next == 0 && times.len() > 64 {
                next = times.partition_point(|&t| t <= end_ms);
            }
            while next < times.len() && times[next] <= end_ms {
                next += 1;
            }
            let fresh = next > 0 && times[next - 1] > end_ms.saturating_sub(source.range_ms);
            picks.of_step.push(if fresh { (next - 1) as u32 } else { NONE });
            if fresh {
                picks.some.insert(step);
            }
        }
        picks
    }

    /// The same of rollups: between the ends of buckets a row holds as it did at the last of them.
    fn find_rolled_up(columns: &Columns, grid: Grid, source: &Source) -> Picks {
        let (times, steps) = (columns.times.as_slice(), grid.steps());
        let mut picks = Picks { of_step: Vec::with_capacity(steps), some: StepSet::empty(steps) };
        let mut tiers = columns.rollups.tiers.iter().copied();
        let (mut next, mut tier, mut of_tier) = (0, Tier::Raw, 0);
        for step in 0..steps {
            let end_ms = source.time.end_ms(grid.time_ms(step));
            while next < times.len() && times[next] <= end_ms {
                while of_tier == 0 {
                    (tier, of_tier) = tiers.next().unwrap_or((Tier::Raw, usize::MAX));
                }
                of_tier -= 1;
                next += 1;
            }
            let bucket_ms = match tier.bucket_end_ms(end_ms) {
                end if end == end_ms => end_ms,
                end => end.saturating_sub(tier.width_ms()),
            };
            let is_fresh = |end_ms: i64| next > 0 && times[next - 1] > end_ms.saturating_sub(source.range_ms);
            let fresh = is_fresh(end_ms) || is_fresh(bucket_ms);
            picks.of_step.push(if fresh { (next - 1) as u32 } else { NONE });
            if fresh {
                picks.some.insert(step);
            }
        }
        picks
    }

    /// Bytes of the picks of a grid.
    pub(super) fn bytes(steps: usize) -> u64 {
        (steps * size_of::<u32>() + steps.div_ceil(8)) as u64
    }
}

fn gather(columns: &Columns, picks: &Picks, answer: Answer, column: &mut Column) {
    let seconds = |pick: u32| columns.times[pick as usize] as f64 / 1000.0;
    let start = |pick: u32| columns.starts.get(pick as usize).copied().unwrap_or_default() as f64 / 1000.0;
    if let [run] = columns.runs[..]
        && run.kind == RunKind::Float
    {
        if answer == Answer::Values {
            for (value, &pick) in column.values.iter_mut().zip(&picks.of_step) {
                // A step that picks nothing keeps its zero, which means nothing.
                *value = columns.floats.get(pick as usize).copied().unwrap_or_default();
            }
            column.floats.clone_from(&picks.some);
            return;
        }
        for (step, &pick) in picks.of_step.iter().enumerate().filter(|(_, pick)| **pick != NONE) {
            match answer {
                Answer::Starts => column.set(step, start(pick)),
                _ => column.set(step, seconds(pick)),
            }
        }
        return;
    }
    // Picks rise with steps, so one walk over the runs finds each one's kind and place.
    let (mut runs, mut begin, mut floats, mut histograms) = (columns.runs.iter().peekable(), 0, 0, 0);
    let mut shared: Option<(u32, Arc<kymo_core::NativeHistogram>)> = None;
    for (step, &pick) in picks.of_step.iter().enumerate().filter(|(_, pick)| **pick != NONE) {
        while let Some(run) = runs.peek().filter(|run| begin + run.len <= pick as usize) {
            begin += run.len;
            match run.kind {
                RunKind::Float => floats += run.len,
                RunKind::Histogram => histograms += run.len,
                RunKind::Stale => {}
            }
            runs.next();
        }
        let within = pick as usize - begin;
        match runs.peek().map(|run| run.kind) {
            Some(RunKind::Float) if answer == Answer::Values => column.set(step, columns.floats[floats + within]),
            Some(RunKind::Float) if answer == Answer::FloatTimes => column.set(step, seconds(pick)),
            Some(RunKind::Float | RunKind::Histogram) if answer == Answer::Times => column.set(step, seconds(pick)),
            Some(RunKind::Float | RunKind::Histogram) if answer == Answer::Starts => column.set(step, start(pick)),
            Some(RunKind::Histogram) => {
                let histogram = match &shared {
                    Some((of, histogram)) if *of == pick => Arc::clone(histogram),
                    _ => Arc::new(columns.histograms[histograms + within].clone()),
                };
                column.histograms.push((step as u32, Arc::clone(&histogram)));
                shared = Some((pick, histogram));
            }
            _ => {}
        }
    }
}

/// Where a time lies among those of a lookback to either side.
enum Near {
    /// On a sample.
    On(usize),
    /// Behind a sample and before the next.
    Between(usize),
    /// Behind the last sample.
    Behind(usize),
}

impl Near {
    fn find(times: &[i64], at_ms: i64, source: &Source) -> Option<Near> {
        let begin = times.partition_point(|&t| t <= at_ms.saturating_sub(source.range_ms));
        let end = times.partition_point(|&t| t <= at_ms.saturating_add(source.margin_ms.1));
        let after = begin + times[begin..end].partition_point(|&t| t < at_ms);
        if after < end && times[after] == at_ms {
            Some(Near::On(after))
        } else if after == begin {
            None
        } else {
            Some(if after < end { Near::Between(after - 1) } else { Near::Behind(after - 1) })
        }
    }
}

/// `smoothed` on an instant selector: linear between the neighbours within the lookback.
fn smoothed(samples: &Samples, grid: Grid, source: &Source, column: &mut Column) -> (Remarks, bool) {
    let (mut remarks, mut mixed) = (Remarks::default(), false);
    let Samples { times, values, histogram_times, histograms, .. } = samples;
    let within = |times: &[i64], at_ms: i64| {
        let (start_ms, end_ms) = (at_ms.saturating_sub(source.range_ms), at_ms.saturating_add(source.margin_ms.1));
        times.partition_point(|&t| t <= start_ms) < times.partition_point(|&t| t <= end_ms)
    };
    for step in 0..grid.steps() {
        let at_ms = source.time.end_ms(grid.time_ms(step));
        if !histogram_times.is_empty() && within(times, at_ms) && within(histogram_times, at_ms) {
            mixed = true;
            continue;
        }
        match Near::find(times, at_ms, source) {
            Some(Near::On(at) | Near::Behind(at)) => column.set(step, values[at]),
            Some(Near::Between(at)) => {
                let (t0, t1) = (times[at], times[at + 1]);
                let slope = (values[at + 1] - values[at]) * (at_ms - t0) as f64 / (t1 - t0) as f64;
                column.set(step, values[at] + slope);
            }
            None => {}
        }
        let found = match Near::find(histogram_times, at_ms, source) {
            Some(Near::On(at) | Near::Behind(at)) => Some(Arc::clone(&histograms[at])),
            Some(Near::Between(at)) => {
                interpolated(histogram_times, histograms, at, at_ms, Meaning::Gauge, &mut remarks).map(Arc::new)
            }
            None => None,
        };
        column.histograms.extend(found.map(|histogram| (step as u32, histogram)));
    }
    (remarks, mixed)
}

pub(crate) fn no_histograms_extended() -> QueryError {
    let text = "smoothed and anchored modifiers do not work with native histograms";
    QueryError::execute(ErrorKind::Invalid, text)
}
