//! Taking a batch: find the series, write the frame, apply it in the log's order.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use foldhash::HashMap;
use kymo_core::batch::{AddedValue, PlainRows, Row, RowSeries, RowValue, SampleBatch};
use kymo_core::histogram::STALE_NAN_BITS;
use kymo_core::memory::{bad_value, one_of, remember_metadata};
use kymo_core::storage::{FUTURE_LIMIT, RowCounts, Tier};
use kymo_core::{AppendError, AppendReport, Labels, LabelsRef, RejectReason};

use crate::blocks::Blocks;
use crate::engine::{Engine, millis};
use crate::head::{HeadState, Outcome};
use crate::increments::{Added, Increments};
use crate::retention::RetentionPolicy;
use crate::sample::Sample;
use crate::wal::FrameBuilder;

/// Memory reserved for a row before it is applied: a value in an open run, and its share of times and chunks.
const BYTES_PER_ROW: u64 = 16;
/// Memory reserved for a row that makes a series, its labels apart: its state, an open run, its share of the index.
const BYTES_PER_NEW_SERIES: u64 = 768;
/// Buffers kept for reuse; as many as threads that usually append at once.
const SPARE_WORK_MAX: usize = 8;

/// Buffers of one append, used again by the next: what will be logged and applied.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// In columns.
    frame: FrameBuilder,
    /// Numbers in the batch of the frame's rows.
    rows: Vec<u32>,
    /// Positions of the rows that are neither floats nor markers.
    odd: Vec<u32>,
    /// Positions of the rows that are added up.
    added: Vec<u32>,
    /// Series whose tables begin with this batch, rising.
    begins: Vec<u32>,
    /// Numbers in the batch of the frame's exemplars.
    exemplars: Vec<u32>,
    /// First and last time of the rows.
    span: Option<(i64, i64)>,
}

impl Work {
    fn clear(&mut self) {
        self.frame.clear();
        self.rows.clear();
        self.odd.clear();
        self.added.clear();
        self.begins.clear();
        self.exemplars.clear();
        self.span = None;
    }

    #[inline]
    fn push(&mut self, number: usize, series: u32, row: &Row<'_>) {
        let at = self.rows.len() as u32;
        self.rows.push(number as u32);
        match row.value {
            RowValue::Float(value) => self.frame.float(series, row.time_ms, row.start_ms, value.to_bits()),
            RowValue::Stale => self.frame.float(series, row.time_ms, row.start_ms, STALE_NAN_BITS),
            RowValue::Histogram(_) => {
                self.odd.push(at);
                self.frame.histogram(series, row.time_ms, row.start_ms);
            }
            RowValue::Increment(increment) => {
                self.odd.push(at);
                self.added.push(at);
                self.frame.increment(series, row.time_ms, increment.start_ms);
            }
            RowValue::Total(total) => {
                self.odd.push(at);
                self.added.push(at);
                self.frame.total(series, row.time_ms, total.start_ms);
            }
        }
        let (first, last) = self.span.unwrap_or((row.time_ms, row.time_ms));
        self.span = Some((first.min(row.time_ms), last.max(row.time_ms)));
    }

    /// Says in the frame what rows hold that are neither floats nor markers.
    fn finish(&mut self, batch: &SampleBatch) {
        for n in 0..self.odd.len() {
            let at = self.odd[n] as usize;
            let row = batch.row(self.rows[at] as usize);
            match row.value {
                RowValue::Histogram(value) => self.frame.put_histogram(value),
                _ => {
                    let begins = self.begins_here(at);
                    if let Some(added) = Added::of(&row) {
                        self.frame.put_added(&added, begins);
                    }
                }
            }
        }
        for (family, metadata) in batch.metadata() {
            self.frame.metadata(family, metadata);
        }
    }

    /// Whether the row at this position is the first of a table that begins with its batch.
    fn begins_here(&self, at: usize) -> bool {
        let series = self.frame.series[at];
        let of_series = |at: &&u32| self.frame.series[**at as usize] == series;
        self.begins.binary_search(&series).is_ok() && self.added.iter().find(of_series) == Some(&(at as u32))
    }
}

/// Times that are taken.
struct TimeLimits {
    policy: Arc<RetentionPolicy>,
    now_ms: i64,
    oldest_ms: i64,
    /// Earlier times are too old for some series.
    oldest_of_some_ms: i64,
    newest_ms: i64,
}

impl TimeLimits {
    fn new(policy: Arc<RetentionPolicy>, now_ms: i64) -> TimeLimits {
        let (oldest_ms, oldest_of_some_ms) = policy.refused_ms(now_ms);
        TimeLimits {
            now_ms,
            oldest_ms,
            oldest_of_some_ms,
            newest_ms: now_ms.saturating_add(millis(FUTURE_LIMIT)),
            policy,
        }
    }

    /// The same for a row; of one that comes by ref the series has still to be asked.
    #[inline]
    fn refuses_row(&self, series: RowSeries<'_>, time_ms: i64) -> Option<RejectReason> {
        match series {
            RowSeries::Ref(_) => self.refuses(time_ms),
            RowSeries::Labels(labels) => self.refuses_of(labels, time_ms),
        }
    }

    /// The same for a series.
    #[inline]
    fn refuses_of(&self, labels: LabelsRef<'_>, time_ms: i64) -> Option<RejectReason> {
        let refused = self.refuses(time_ms);
        let is_too_old =
            || time_ms < self.oldest_of_some_ms && time_ms < self.policy.refused_of_ms(labels, self.now_ms);
        if refused.is_none() && is_too_old() { Some(RejectReason::OutsideRetention) } else { refused }
    }

    #[inline]
    fn refuses(&self, time_ms: i64) -> Option<RejectReason> {
        if time_ms > self.newest_ms {
            Some(RejectReason::TooFarInFuture)
        } else if time_ms < self.oldest_ms {
            Some(RejectReason::OutsideRetention)
        } else {
            None
        }
    }
}

/// What blocks hold of the rows that are not ahead of their series: by position in the frame the series'
/// newest time in blocks, and the sample at the row's own time.
type InBlocks = HashMap<usize, (i64, Option<Sample>)>;

impl Engine {
    /// Appends a batch and says in `report`, whose buffers are used again, what became of it.
    pub(crate) fn append_batch(&self, batch: &SampleBatch, report: &mut AppendReport) -> Result<(), AppendError> {
        report.clear();
        if self.closed.load(Ordering::Acquire) {
            return Err(AppendError::Closed);
        }
        let mut work = self.spare_work.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let appended = self.append_with(batch, &mut work, report);
        let mut spare = self.spare_work.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_WORK_MAX {
            spare.push(work);
        }
        appended
    }

    fn append_with(&self, batch: &SampleBatch, work: &mut Work, report: &mut AppendReport) -> Result<(), AppendError> {
        let mut reserved = self.options.budget.try_reserve(self.estimate(batch))?;
        let _resolving = self.resolving();
        let now_ms = self.options.clock.now_ms();
        let limits = TimeLimits::new(self.retention(), now_ms);
        if batch.has_labels() {
            self.make_missing(batch, &limits, &mut reserved)?;
        }
        self.resolve(batch, &limits, work, report);
        // Held until the rows are applied, so that of two first rows of one series only one begins its table.
        let _beginning = if work.added.is_empty() { None } else { self.begin_tables(work) };
        work.finish(batch);
        if work.frame.is_empty() {
            return Ok(());
        }
        let now = self.options.clock.monotonic();
        let labels = |series: u32| self.head.read().get(series).map(|series| series.labels.clone());
        let encode = |chain: &mut _, out: &mut _| work.frame.encode(self.head.opening(), chain, labels, out);
        let turn = self.commit.write(now, encode).map_err(|error| {
            // The error is everybody's whose frame was in the group.
            AppendError::Log { source: std::io::Error::new(error.kind(), error) }
        })?;
        self.commit.in_turn(turn, || self.apply(batch, work, report));
        self.unflushed_since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).absorb(reserved);
        self.settle_memory();
        Ok(())
    }

    /// Bytes that known series may take, and what the head took beyond its reservation before.
    fn estimate(&self, batch: &SampleBatch) -> u64 {
        let histograms: u64 = batch.histograms().iter().map(|h| h.bytes() as u64).sum();
        let held = self.memory.lock().unwrap_or_else(PoisonError::into_inner).bytes();
        let owed = self.counts.head_bytes.load(Ordering::Relaxed).saturating_sub(held);
        batch.len() as u64 * BYTES_PER_ROW + histograms + owed
    }

    /// Makes the series of everything that came with labels and will not be refused anyway.
    fn make_missing(
        &self,
        batch: &SampleBatch,
        limits: &TimeLimits,
        reserved: &mut kymo_core::Reservation,
    ) -> Result<(), AppendError> {
        let mut missing: Vec<(u64, Labels)> = Vec::new();
        {
            let head = self.head.read();
            let mut look_up = |labels: LabelsRef<'_>| {
                let hash = self.head.hash(labels);
                let is_repeated = missing.last().is_some_and(|(_, last)| last.as_ref() == labels);
                if !is_repeated && head.find(hash, labels).is_none() && self.bad_labels(labels).is_none() {
                    missing.push((hash, labels.to_labels()));
                }
            };
            for row in batch.rows() {
                if let RowSeries::Labels(labels) = row.series
                    && bad_value(&row).or_else(|| limits.refuses_of(labels, row.time_ms)).is_none()
                {
                    look_up(labels);
                }
            }
            for (series, exemplar) in batch.exemplars() {
                if let RowSeries::Labels(labels) = series
                    && limits.refuses_of(labels, exemplar.time_ms).is_none()
                {
                    look_up(labels);
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let labels = |(_, labels): &(u64, Labels)| BYTES_PER_NEW_SERIES + 2 * labels.as_ref().packed().len() as u64;
        reserved.grow(missing.iter().map(labels).sum())?;
        let mut head = self.head.write();
        for (hash, labels) in missing {
            let is_room = head.series() < self.options.limits.active_series;
            if is_room && head.find(hash, labels.as_ref()).is_none() {
                head.insert(hash, labels);
            }
        }
        self.counts.series.store(head.series() as u64, Ordering::Relaxed);
        self.counts.head_bytes.store(head.bytes() + self.head.order_bytes(), Ordering::Relaxed);
        Ok(())
    }

    fn bad_labels(&self, labels: LabelsRef<'_>) -> Option<RejectReason> {
        let limits = &self.options.limits;
        if labels.metric_name().is_none() {
            Some(RejectReason::MissingName)
        } else if labels.iter().count() > limits.labels_per_series {
            Some(RejectReason::TooManyLabels)
        } else if labels.iter().any(|(name, value)| name.len().max(value.len()) > limits.label_bytes) {
            Some(RejectReason::LabelTooLong)
        } else {
            None
        }
    }

    /// Finds the series of every row, checks it, and reports what will not be applied.
    fn resolve(&self, batch: &SampleBatch, limits: &TimeLimits, work: &mut Work, report: &mut AppendReport) {
        work.clear();
        let head = self.head.read();
        let resolved = batch.plain_rows().map_or(0, |rows| self.resolve_plain(&head, rows, limits, work));
        let too_old = |series: u32, time_ms: i64| {
            let labels = (time_ms < limits.oldest_of_some_ms).then(|| head.get(series).map(|of| of.labels.as_ref()));
            labels.flatten().and_then(|labels| limits.refuses_of(labels, time_ms))
        };
        let by_labels = |labels: LabelsRef<'_>| match head.find(self.head.hash(labels), labels) {
            Some(number) => Ok(number),
            None => Err(self.bad_labels(labels).unwrap_or(RejectReason::SeriesLimit)),
        };
        for number in resolved..batch.len() {
            let row = batch.row(number);
            let mut fault = bad_value(&row).or_else(|| limits.refuses_row(row.series, row.time_ms));
            let found = match row.series {
                _ if fault.is_some() => None,
                RowSeries::Ref(series) => self.head.locate(series).filter(|number| head.get(*number).is_some()),
                RowSeries::Labels(labels) => by_labels(labels).map_err(|reason| fault = Some(reason)).ok(),
            };
            if let Some(series) = found {
                fault = too_old(series, row.time_ms).or_else(|| self.refuses_writer(series, &row));
            }
            match (found.filter(|_| fault.is_none()), fault) {
                (Some(series), _) => {
                    work.push(number, series, &row);
                    if matches!(row.series, RowSeries::Labels(_)) {
                        report.new_refs.extend(self.head.series_ref(series).map(|series| (number, series)));
                    }
                }
                (None, Some(reason)) => {
                    if let RowSeries::Labels(labels) = row.series {
                        match reason {
                            RejectReason::SeriesLimit | RejectReason::TooManyLabels => {
                                self.metrics.overflow.note(labels)
                            }
                            RejectReason::LabelTooLong => {
                                self.metrics.overflow.note_long(labels, self.options.limits.label_bytes);
                            }
                            _ => {}
                        }
                    }
                    report.rejected.push((number, reason));
                    report.rejected_counts += one_of(&row);
                }
                (None, None) => report.unknown_refs.push(number),
            }
        }
        for (number, (series, exemplar)) in batch.exemplars().enumerate() {
            let mut fault = limits.refuses_row(series, exemplar.time_ms);
            let found = match series {
                _ if fault.is_some() => None,
                RowSeries::Ref(series) => self.head.locate(series).filter(|number| head.get(*number).is_some()),
                RowSeries::Labels(labels) => by_labels(labels).map_err(|reason| fault = Some(reason)).ok(),
            };
            if let Some(series) = found {
                fault = too_old(series, exemplar.time_ms);
            }
            match (found.filter(|_| fault.is_none()), fault) {
                (Some(series), _) => {
                    work.exemplars.push(number as u32);
                    work.frame.exemplar(series, exemplar);
                }
                (None, Some(reason)) => {
                    report.rejected_exemplars.push((number, reason));
                    report.rejected_counts.exemplars += 1;
                }
                (None, None) => report.unknown_exemplars.push(number),
            }
        }
    }

    /// Takes rows by column, up to the first that needs a closer look: its series is not known, or its time is not taken for
    /// every series. Gives how many. Nothing was taken before.
    fn resolve_plain(&self, head: &HeadState, rows: PlainRows<'_>, limits: &TimeLimits, work: &mut Work) -> usize {
        let taken = limits.oldest_ms.max(limits.oldest_of_some_ms)..=limits.newest_ms;
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        work.frame.series.reserve(rows.times.len());
        for (series, &time_ms) in rows.series().zip(rows.times) {
            let Some(number) = self.head.locate(series).filter(|number| head.get(*number).is_some()) else { break };
            if !taken.contains(&time_ms) {
                break;
            }
            work.frame.series.push(number);
            (first, last) = (first.min(time_ms), last.max(time_ms));
        }
        let count = work.frame.series.len();
        work.frame.times.extend_from_slice(&rows.times[..count]);
        work.frame.bits.extend_from_slice(&rows.bits[..count]);
        work.rows.extend(0..count as u32);
        work.span = (count > 0).then_some((first, last));
        count
    }

    /// Applies a written frame to the head. Runs in the log's order, one at a time.
    fn apply(&self, batch: &SampleBatch, work: &Work, report: &mut AppendReport) {
        let blocks = self.blocks();
        let blocks_max = blocks.max_time_ms();
        let in_blocks = self.look_up_late(work, &blocks);
        let now_ms = self.options.clock.now_ms();
        let mut head = self.head.write();
        let is_changed = if work.frame.is_plain() && in_blocks.is_empty() {
            apply_plain(&mut head, &work.frame, blocks_max, report)
        } else {
            let mut increments = self.increments();
            let mut applying = Applying { head: &mut head, increments: &mut increments, blocks_max, now_ms };
            let touched = applying.apply(batch, work, &in_blocks, report);
            self.counts.increment_bytes.store(increments.bytes(), Ordering::Relaxed);
            if let Some((first, last)) = touched {
                self.changes().touched(first, last, now_ms);
            }
            false
        };
        if !work.exemplars.is_empty() {
            let exemplars: Vec<_> = batch.exemplars().collect();
            let one = RowCounts { exemplars: 1, ..RowCounts::default() };
            for (&number, &series) in work.exemplars.iter().zip(work.frame.exemplar_series()) {
                match head.add_exemplar(series, exemplars[number as usize].1) {
                    Some(true) => report.stored += one,
                    Some(false) => report.identical += one,
                    None => {}
                }
            }
        }
        if !batch.metadata().is_empty() {
            let mut families = self.metadata();
            for (family, metadata) in batch.metadata() {
                remember_metadata(families.entry(family.clone()).or_default(), metadata);
            }
        }
        // While the head is locked, so that a select sees the version of what it sees.
        if is_changed && let Some((first, last)) = work.span {
            self.changes().touched(first, last, now_ms);
        }
        self.count_head(&head);
    }

    /// Notes which series have no table yet. The guard keeps others from beginning the same ones.
    fn begin_tables(&self, work: &mut Work) -> Option<MutexGuard<'_, ()>> {
        let missing = |work: &Work| -> Vec<u32> {
            let increments = self.increments();
            let added = work.added.iter().map(|at| work.frame.series[*at as usize]);
            let mut missing: Vec<u32> = added.filter(|series| !increments.has(*series)).collect();
            missing.sort_unstable();
            missing.dedup();
            missing
        };
        if missing(work).is_empty() {
            return None;
        }
        let guard = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        work.begins = missing(work);
        Some(guard)
    }

    /// Why a row that is added up cannot be: its writer would be one too many.
    fn refuses_writer(&self, series: u32, row: &Row<'_>) -> Option<RejectReason> {
        let writer = match row.value {
            RowValue::Increment(increment) => increment.writer,
            RowValue::Total(total) => total.writer,
            RowValue::Float(_) | RowValue::Histogram(_) | RowValue::Stale => return None,
        };
        let increments = self.increments();
        let is_room = increments.writers() < self.options.limits.increment_writers;
        (!is_room && !increments.knows(series, writer)).then_some(RejectReason::WriterLimit)
    }

    fn look_up_late(&self, work: &Work, blocks: &Blocks) -> InBlocks {
        let blocks_max = blocks.max_time_ms();
        let is_ahead = work.span.is_none_or(|(first, _)| first > blocks_max);
        if is_ahead || blocks.of(Tier::Raw).next().is_none() {
            return InBlocks::default();
        }
        // By series and time, so that each chunk is decoded once for all rows that fall into it.
        let mut candidates: Vec<(u32, i64, usize)> = Vec::new();
        {
            let head = self.head.read();
            for (at, (&number, &time_ms)) in work.frame.series.iter().zip(&work.frame.times).enumerate() {
                if head.get(number).is_some_and(|series| series.needs_blocks(time_ms, blocks_max)) {
                    candidates.push((number, time_ms, at));
                }
            }
        }
        candidates.sort_unstable();
        let mut found = InBlocks::default();
        let mut times = Vec::new();
        for of_series in candidates.chunk_by(|a, b| a.0 == b.0) {
            let Some(labels) = self.head.read().get(of_series[0].0).map(|series| series.labels.clone()) else {
                continue;
            };
            times.clear();
            times.extend(of_series.iter().map(|(_, time_ms, _)| *time_ms));
            let newest = blocks.newest(labels.as_ref());
            let samples = blocks.samples(labels.as_ref(), &times);
            found.extend(of_series.iter().zip(samples).map(|((_, _, at), sample)| (*at, (newest, sample))));
        }
        found
    }
}

/// Applies floats and markers; tells whether anything is new.
fn apply_plain(head: &mut HeadState, frame: &FrameBuilder, blocks_max: i64, report: &mut AppendReport) -> bool {
    // So that no sample waits for the memory of the one before.
    std::hint::black_box(frame.series.iter().fold(0, |sum, number| sum ^ head.touch(*number)));
    let (mut stored, mut stale, mut others) = (0, 0, 0);
    for ((&number, &time_ms), &bits) in frame.series.iter().zip(&frame.times).zip(&frame.bits) {
        if head.append_ahead(number, time_ms, bits, blocks_max) {
            stored += 1;
            stale += u64::from(bits == STALE_NAN_BITS);
            continue;
        }
        let sample = Sample::float(time_ms, 0, f64::from_bits(bits));
        let outcome = head.append(number, sample, blocks_max, None);
        let is_stale = bits == STALE_NAN_BITS;
        let one = RowCounts { floats: u64::from(!is_stale), stale: u64::from(is_stale), ..RowCounts::default() };
        others += u64::from(book(report, outcome, one));
    }
    report.stored += RowCounts { floats: stored - stale, stale, ..RowCounts::default() };
    stored + others > 0
}

/// What rows are applied to.
pub(crate) struct Applying<'a> {
    pub(crate) head: &'a mut HeadState,
    pub(crate) increments: &'a mut Increments,
    /// The highest time in any block.
    pub(crate) blocks_max: i64,
    pub(crate) now_ms: i64,
}

impl Applying<'_> {
    /// Applies rows of any kind; gives first and last time of what is new.
    fn apply(
        &mut self,
        batch: &SampleBatch,
        work: &Work,
        in_blocks: &InBlocks,
        report: &mut AppendReport,
    ) -> Option<(i64, i64)> {
        let mut touched: Option<(i64, i64)> = None;
        let mut refused = false;
        for (at, (&number, &row_number)) in work.frame.series.iter().zip(&work.rows).enumerate() {
            let row = batch.row(row_number as usize);
            let one = one_of(&row);
            let in_blocks = in_blocks.get(&at);
            let sample = match row.value {
                RowValue::Float(value) => Sample::float(row.time_ms, row.start_ms, value),
                RowValue::Histogram(value) => Sample::histogram(row.time_ms, row.start_ms, value.clone().into()),
                RowValue::Stale => Sample::stale(row.time_ms, row.start_ms),
                RowValue::Increment(_) | RowValue::Total(_) => {
                    let Some(added) = Added::of(&row) else { continue };
                    let newest = in_blocks.map(|(newest, _)| *newest);
                    match self.add(number, &added, work.begins_here(at), newest) {
                        Ok(Some((time_ms, behind_gap))) => {
                            report.stored += one;
                            report.gaps += u64::from(behind_gap);
                            touched =
                                Some(touched.map_or((time_ms, time_ms), |t| (t.0.min(time_ms), t.1.max(time_ms))));
                        }
                        Ok(None) => report.identical += one,
                        Err(reason) => {
                            report.rejected.push((row_number as usize, reason));
                            report.rejected_counts += one;
                            refused = true;
                        }
                    }
                    continue;
                }
            };
            let outcome = self.head.append(number, sample, self.blocks_max, in_blocks);
            if book(report, outcome, one) {
                touched =
                    Some(touched.map_or((row.time_ms, row.time_ms), |t| (t.0.min(row.time_ms), t.1.max(row.time_ms))));
            }
        }
        if refused {
            report.rejected.sort_unstable_by_key(|(row, _)| *row);
        }
        touched
    }

    /// Adds a row up; gives the time of the new total and whether there is a gap before it, or `None` if the row was there
    /// already.
    pub(crate) fn add(
        &mut self,
        series: u32,
        row: &Added,
        begins: bool,
        newest_in_blocks: Option<i64>,
    ) -> Result<Option<(i64, bool)>, RejectReason> {
        let Some(total) = self.increments.apply(series, row, begins, self.now_ms)? else { return Ok(None) };
        let sample = match total.value {
            AddedValue::Float(value) => Sample::float(total.time_ms, total.start_ms, value),
            AddedValue::Histogram(value) => Sample::histogram(total.time_ms, total.start_ms, value.into()),
        };
        // Whether blocks hold the time as well makes no difference: the head wins.
        let in_blocks = newest_in_blocks.map(|newest| (newest, None));
        self.head.append(series, sample, self.blocks_max, in_blocks.as_ref());
        Ok(Some((total.time_ms, total.behind_gap)))
    }
}

/// Books an outcome; tells whether anything is new.
fn book(report: &mut AppendReport, outcome: Option<Outcome>, one: RowCounts) -> bool {
    match outcome {
        Some(Outcome::Stored) => report.stored += one,
        Some(Outcome::Replaced) => report.replaced += one,
        Some(Outcome::Identical) => report.identical += one,
        // A series is not freed while one of its rows is on its way.
        None => {}
    }
    matches!(outcome, Some(Outcome::Stored | Outcome::Replaced))
}
