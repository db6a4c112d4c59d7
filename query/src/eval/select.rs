//! Instant selectors: the newest sample of each series at every step of a grid.

use std::sync::Arc;

use kymo_core::query::{Grid, QueryError};
use kymo_core::storage::{Columns, RunKind};
use kymo_core::{ErrorKind, Labels, SeriesSet};

use super::Evaluator;
use super::column::{Column, Series, StepSet, Vector};
use super::meter::{Hold, Meter};
use super::times::ByTimes;
use crate::parser::{NodeId, RangeExtension};
use crate::plan::Source;

/// What an instant selector answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The samples.
    Values,
    /// Their times in seconds, for `timestamp`.
    Times,
    /// Their start timestamps in seconds, for `start_timestamp`; nothing for a sample without one.
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
        meter.check()?;
        self.hold.reach_bytes(set.estimate(index) as u64 * READ_BYTES)?;
        set.read(index, &mut self.columns)?;
        self.hold.set_samples(self.columns.times.len())
    }
}

impl Evaluator<'_> {
    /// Evaluates a vector selector over its grid, and the aggregation around it if that takes series as they come.
    pub(crate) fn select(&mut self, id: NodeId, source: &Source, answer: Answer) -> Result<Vector, QueryError> {
        let planned = self.plan.node(id);
        let (grid, counting) = (planned.grid, planned.counting);
        let steps = grid.steps();
        let mut sink = self.sink(id)?;
        let Some(selector) = source.selector.as_ref().filter(|_| steps > 0) else {
            return sink.finish(&mut self.notes);
        };
        self.meter.check_steps(steps)?;
        let set = match self.take_opened(id) {
            Some(set) => set,
            None => Arc::from(self.storage.select(selector, self.ctx)?),
        };
        let mut reader = Reader::new(&self.meter)?;
        let mut picks: ByTimes<Picks> = ByTimes::new(&self.meter)?;
        let mut series = Series { labels: Labels::empty(), drop_name: false, column: Column::default() };
        let (mut samples, mut bytes) = (0, 0);
        for index in 0..set.len() {
            reader.read(set.as_ref(), index, &self.meter)?;
            let columns = &reader.columns;
            if columns.times.is_empty() {
                continue;
            }
            sink.reserve(Column::bytes(steps))?;
            series.column.reset(steps);
            if source.extension == RangeExtension::Smoothed {
                smoothed(columns, grid, source, &mut series.column)?;
            } else {
                let found = picks
                    .of(&columns.times, columns.times_id, Picks::bytes(steps), |t| Picks::find(t, grid, source))?;
                gather(columns, found, answer, &mut series.column);
            }
            samples += columns.times.len() as u64;
            bytes += set.estimate_bytes(index);
            self.samples.count_column(counting, &series.column);
            if !series.column.is_empty() {
                series.labels = set.labels(index);
                sink.push(&mut series, &mut self.notes)?;
            }
        }
        self.saw(id, set.len(), samples, bytes);
        self.seen[id.idx()].actual.series = sink.taken as u64;
        sink.finish(&mut self.notes)
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

    /// Bytes of the picks of a grid.
    pub(super) fn bytes(steps: usize) -> u64 {
        (steps * size_of::<u32>() + steps.div_ceil(8)) as u64
    }
}

fn gather(columns: &Columns, picks: &Picks, answer: Answer, column: &mut Column) {
    let seconds = |pick: u32| columns.times[pick as usize] as f64 / 1000.0;
    let start = |pick: u32| columns.starts.get(pick as usize).filter(|&&ms| ms != 0).map(|&ms| ms as f64 / 1000.0);
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
                Answer::Starts => start(pick).into_iter().for_each(|value| column.set(step, value)),
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
            Some(RunKind::Float | RunKind::Histogram) if answer == Answer::Starts => {
                start(pick).into_iter().for_each(|value| column.set(step, value));
            }
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

/// `smoothed` on an instant selector: linear between the neighbours within the lookback.
fn smoothed(columns: &Columns, grid: Grid, source: &Source, column: &mut Column) -> Result<(), QueryError> {
    if !columns.histograms.is_empty() {
        return Err(no_histograms_extended());
    }
    let (mut times, mut values) = (Vec::new(), Vec::new());
    super::window::float_samples(columns, &mut times, &mut values);
    for step in 0..grid.steps() {
        let at_ms = source.time.end_ms(grid.time_ms(step));
        let begin = times.partition_point(|&t| t <= at_ms.saturating_sub(source.range_ms));
        let end = times.partition_point(|&t| t <= at_ms.saturating_add(source.margin_ms.1));
        let after = begin + times[begin..end].partition_point(|&t| t < at_ms);
        if after < end && times[after] == at_ms {
            column.set(step, values[after]);
        } else if after > begin && after < end {
            let (t0, t1) = (times[after - 1], times[after]);
            let slope = (values[after] - values[after - 1]) * (at_ms - t0) as f64 / (t1 - t0) as f64;
            column.set(step, values[after - 1] + slope);
        } else if after > begin {
            column.set(step, values[after - 1]);
        }
    }
    Ok(())
}

pub(crate) fn no_histograms_extended() -> QueryError {
    let text = "smoothed and anchored modifiers do not work with native histograms";
    QueryError::execute(ErrorKind::Invalid, text)
}
