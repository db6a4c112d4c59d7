//! Taking a batch: find the series, write the frame, apply it in the log's order.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use foldhash::HashSetExt;
use kymo_core::batch::{Row, RowSeries, RowValue, SampleBatch};
use kymo_core::memory::{one_of, remember_metadata};
use kymo_core::storage::{FUTURE_LIMIT, RowCounts};
use kymo_core::{AppendError, AppendReport, Labels, LabelsRef, RejectReason, SeriesRef};

use crate::engine::{Engine, millis};
use crate::head::{HeadSeries, Outcome, SHARDS, Scratch};
use crate::sample::Sample;
use crate::wal::{CommitError, FrameBuilder};

/// Memory reserved for a row before it is applied: 16 bytes in an open run, and the slack of growing vectors.
const BYTES_PER_ROW: u64 = 32;
/// Memory reserved for a row that may make a series, its labels apart.
const BYTES_PER_NEW_SERIES: u64 = 1_024;
/// What a sealed chunk takes beside its payload.
const BYTES_PER_CHUNK: i64 = 72;

/// Frame builders kept for reuse; as many as threads that usually append at once.
const SPARE_FRAMES_MAX: usize = 8;

/// Where a series is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    shard: usize,
    number: u64,
}

#[derive(Debug, Clone, Copy)]
enum Found {
    At(Place),
    Unknown,
    Refused(RejectReason),
}

/// What became of finding the series of a batch, by rows and exemplars in their order.
#[derive(Default)]
struct Resolved {
    /// Series of the rows and exemplars that came with labels, in order.
    by_labels: Vec<Found>,
    /// Rows that will be applied, by their number in the batch.
    rows: Vec<(usize, Place)>,
    exemplars: Vec<(usize, Place)>,
}

/// Times that are taken.
struct TimeLimits {
    oldest_ms: i64,
    newest_ms: i64,
}

impl TimeLimits {
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

impl Engine {
    pub(crate) fn append_batch(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(AppendError::Closed);
        }
        let reserved = self.options.budget.try_reserve(self.estimate(batch))?;
        let _resolving = self.resolving();
        let now_ms = self.options.clock.now_ms();
        let limits = TimeLimits { oldest_ms: self.oldest_ms(), newest_ms: now_ms.saturating_add(millis(FUTURE_LIMIT)) };
        let mut resolved = self.make_missing(batch, &limits);
        let now = self.options.clock.monotonic();
        let mut frame = self.spare_frame();
        let mut report = AppendReport::default();
        let (turn, generation) = loop {
            let generation = self.commit.generation();
            report.clear();
            self.encode(batch, &limits, generation, &mut resolved, &mut frame, &mut report);
            if resolved.rows.is_empty() && resolved.exemplars.is_empty() && batch.metadata().is_empty() {
                return Ok(report);
            }
            let mut payload = Vec::with_capacity(frame.estimate());
            frame.finish(self.head.opening(), &mut payload);
            match self.commit.write(payload, generation, now) {
                Ok(turn) => break (turn, generation),
                Err(CommitError::Outdated) => {}
                Err(CommitError::Io(error)) => {
                    let source = std::io::Error::new(error.kind(), error.to_string());
                    return Err(AppendError::Log { source });
                }
            }
        };
        self.keep_frame(frame);
        self.commit.in_turn(turn, || self.apply(batch, &resolved, generation, &mut report));
        self.unflushed_since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).absorb(reserved);
        self.settle_memory();
        Ok(report)
    }

    fn spare_frame(&self) -> FrameBuilder {
        self.spare_frames.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn keep_frame(&self, frame: FrameBuilder) {
        let mut spare = self.spare_frames.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_FRAMES_MAX {
            spare.push(frame);
        }
    }

    fn estimate(&self, batch: &SampleBatch) -> u64 {
        let row = |row: Row<'_>| {
            let value = match row.value {
                RowValue::Histogram(h) => h.bytes() as u64,
                _ => 0,
            };
            let series = match row.series {
                RowSeries::Labels(labels) if self.find(labels).is_none() => {
                    BYTES_PER_NEW_SERIES + 4 * labels.packed().len() as u64
                }
                _ => 0,
            };
            BYTES_PER_ROW + value + series
        };
        batch.rows().map(row).sum()
    }

    fn find(&self, labels: LabelsRef<'_>) -> Option<Place> {
        let hash = self.head.hash(labels);
        let shard = self.head.shard_of_hash(hash);
        let number = self.head.read(shard).find(hash, labels)?;
        Some(Place { shard, number })
    }

    /// Finds or makes the series of everything that came with labels and will not be refused anyway.
    fn make_missing(&self, batch: &SampleBatch, limits: &TimeLimits) -> Resolved {
        let mut resolved = Resolved::default();
        let mut find_or_make = |labels: LabelsRef<'_>, fault: Option<RejectReason>| {
            resolved.by_labels.push(match fault {
                Some(reason) => Found::Refused(reason),
                None => self.find_or_make(labels),
            });
        };
        for row in batch.rows() {
            if let RowSeries::Labels(labels) = row.series {
                find_or_make(labels, bad_value(&row).or_else(|| limits.refuses(row.time_ms)));
            }
        }
        for (series, exemplar) in batch.exemplars() {
            if let RowSeries::Labels(labels) = series {
                find_or_make(labels, limits.refuses(exemplar.time_ms));
            }
        }
        resolved
    }

    fn find_or_make(&self, labels: LabelsRef<'_>) -> Found {
        if let Some(place) = self.find(labels) {
            return Found::At(place);
        }
        if let Some(reason) = self.bad_labels(labels) {
            return Found::Refused(reason);
        }
        self.make(labels.to_labels())
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

    /// Makes a series, unless another thread has just made it.
    fn make(&self, labels: Labels) -> Found {
        let hash = self.head.hash(labels.as_ref());
        let shard = self.head.shard_of_hash(hash);
        let mut guard = self.head.write(shard);
        if let Some(number) = guard.find(hash, labels.as_ref()) {
            return Found::At(Place { shard, number });
        }
        // The count is raised first, so that threads in other shards cannot pass the limit together.
        let before = self.counts.series.fetch_add(1, Ordering::Relaxed);
        let is_room = before < self.options.limits.active_series as u64;
        let packed = labels.as_ref().packed().len() as u64;
        match is_room.then(|| guard.insert(hash, labels)).flatten() {
            Some(number) => {
                self.counts.head_bytes.fetch_add(size_of::<HeadSeries>() as u64 + 4 * packed + 128, Ordering::Relaxed);
                Found::At(Place { shard, number })
            }
            None => {
                self.counts.series.fetch_sub(1, Ordering::Relaxed);
                Found::Refused(RejectReason::SeriesLimit)
            }
        }
    }

    /// Says in `frame` what is accepted, defines every series that the log's generation does not know, and
    /// reports the rest.
    fn encode(
        &self,
        batch: &SampleBatch,
        limits: &TimeLimits,
        generation: u64,
        resolved: &mut Resolved,
        frame: &mut FrameBuilder,
        report: &mut AppendReport,
    ) {
        frame.clear();
        resolved.rows.clear();
        resolved.exemplars.clear();
        resolved.rows.reserve(batch.len());
        let shards = self.head.read_all();
        let mut defined: foldhash::HashSet<SeriesRef> = HashSetExt::new();
        let mut define = |frame: &mut FrameBuilder, known: &HeadSeries, series: SeriesRef| {
            if known.defined_in != generation && defined.insert(series) {
                frame.define(series, known.labels.as_ref());
            }
        };
        let mut by_labels = resolved.by_labels.iter();
        // The series of a row: where it is, its number for the log, and whether it was named by labels.
        let mut find = |series: RowSeries<'_>, fault: Option<RejectReason>| -> (Found, bool) {
            match series {
                RowSeries::Labels(_) => (by_labels.next().copied().unwrap_or(Found::Unknown), true),
                RowSeries::Ref(series) => {
                    let found = match (fault, self.head.locate(series)) {
                        (Some(reason), _) => Found::Refused(reason),
                        (None, Some((shard, number))) => Found::At(Place { shard, number }),
                        (None, None) => Found::Unknown,
                    };
                    (found, false)
                }
            }
        };
        for (number, row) in batch.rows().enumerate() {
            let fault = bad_value(&row).or_else(|| limits.refuses(row.time_ms));
            let (found, is_by_labels) = find(row.series, fault);
            let place = match found {
                Found::At(place) => place,
                Found::Unknown => {
                    report.unknown_refs.push(number);
                    continue;
                }
                Found::Refused(reason) => {
                    report.rejected.push((number, reason));
                    report.rejected_counts += one_of(&row);
                    continue;
                }
            };
            let known = shards[place.shard].get(place.number);
            let (Some(known), Some(series)) = (known, self.head.series_ref(place.shard, place.number)) else {
                report.unknown_refs.push(number);
                continue;
            };
            define(frame, known, series);
            match row.value {
                RowValue::Float(value) => frame.float(series, row.time_ms, row.start_ms, value),
                RowValue::Histogram(value) => frame.histogram(series, row.time_ms, row.start_ms, value),
                RowValue::Stale | RowValue::Increment(_) | RowValue::Total(_) => {
                    frame.stale(series, row.time_ms, row.start_ms);
                }
            }
            resolved.rows.push((number, place));
            if is_by_labels {
                report.new_refs.push((number, series));
            }
        }
        for (number, (series, exemplar)) in batch.exemplars().enumerate() {
            let (found, _) = find(series, limits.refuses(exemplar.time_ms));
            let place = match found {
                Found::At(place) => place,
                Found::Unknown => {
                    report.unknown_exemplars.push(number);
                    continue;
                }
                Found::Refused(reason) => {
                    report.rejected_exemplars.push((number, reason));
                    report.rejected_counts.exemplars += 1;
                    continue;
                }
            };
            let known = shards[place.shard].get(place.number);
            let (Some(known), Some(series)) = (known, self.head.series_ref(place.shard, place.number)) else {
                report.unknown_exemplars.push(number);
                continue;
            };
            define(frame, known, series);
            frame.exemplar(series, exemplar);
            resolved.exemplars.push((number, place));
        }
        for (family, metadata) in batch.metadata() {
            frame.metadata(family, metadata);
        }
    }

    /// Applies a written frame to the head. Runs in the log's order, one at a time.
    fn apply(&self, batch: &SampleBatch, resolved: &Resolved, generation: u64, report: &mut AppendReport) {
        let blocks = self.blocks();
        let blocks_max = blocks.max_time_ms();
        let late = self.look_up_late(batch, resolved, &blocks);
        let mut touched: Option<(i64, i64)> = None;
        let mut scratch = Scratch::default();
        let (mut samples, mut bytes) = (0u64, 0i64);
        let mut next_chunk = self.counts.next_chunk.load(Ordering::Relaxed);

        let mut wanted = [false; SHARDS];
        resolved.rows.iter().chain(&resolved.exemplars).for_each(|(_, place)| wanted[place.shard] = true);
        let mut shards: Vec<_> = (0..SHARDS).map(|shard| wanted[shard].then(|| self.head.write(shard))).collect();
        for &(number, place) in &resolved.rows {
            let Some(series) = shards[place.shard].as_mut().and_then(|shard| shard.get_mut(place.number)) else {
                continue;
            };
            let row = batch.row(number);
            let sample = match row.value {
                RowValue::Float(value) => Sample::float(row.time_ms, row.start_ms, value),
                RowValue::Histogram(value) => Sample::histogram(row.time_ms, row.start_ms, value.clone().into()),
                RowValue::Stale | RowValue::Increment(_) | RowValue::Total(_) => {
                    Sample::stale(row.time_ms, row.start_ms)
                }
            };
            series.defined_in = generation;
            let found = late.get(&number);
            if let Some((newest, _)) = found {
                series.newest_in_blocks = Some(*newest);
            }
            let outcome = series.append(sample, blocks_max, || found.and_then(|(_, sample)| sample.clone()));
            let one = one_of(&row);
            match outcome {
                Outcome::Stored => {
                    report.stored += one;
                    samples += 1;
                    bytes += sample_bytes(&row);
                }
                Outcome::Replaced => {
                    report.replaced += one;
                    bytes += sample_bytes(&row);
                }
                Outcome::Identical => {
                    report.identical += one;
                    continue;
                }
            }
            touched =
                Some(touched.map_or((row.time_ms, row.time_ms), |t| (t.0.min(row.time_ms), t.1.max(row.time_ms))));
            let sealed_before = series.chunks.len();
            series.seal_full(&mut next_chunk, &mut scratch);
            for chunk in &series.chunks[sealed_before..] {
                bytes += chunk.bytes.len() as i64 + BYTES_PER_CHUNK - i64::from(chunk.samples) * BYTES_PER_ROW as i64;
            }
        }
        self.counts.next_chunk.store(next_chunk, Ordering::Relaxed);
        if !resolved.exemplars.is_empty() {
            let exemplars: Vec<_> = batch.exemplars().collect();
            for &(number, place) in &resolved.exemplars {
                let one = RowCounts { exemplars: 1, ..RowCounts::default() };
                let Some(series) = shards[place.shard].as_mut().and_then(|shard| shard.get_mut(place.number)) else {
                    continue;
                };
                series.defined_in = generation;
                if series.add_exemplar(exemplars[number].1) {
                    report.stored += one;
                } else {
                    report.identical += one;
                }
            }
        }
        if !batch.metadata().is_empty() {
            let mut families = self.metadata();
            for (family, metadata) in batch.metadata() {
                remember_metadata(families.entry(family.clone()).or_default(), metadata);
            }
        }
        // While the shards are locked, so that a select sees the version of what it sees.
        if let Some((first, last)) = touched {
            self.changes().touched(first, last);
        }
        self.counts.head_samples.fetch_add(samples, Ordering::Relaxed);
        add_signed(&self.counts.head_bytes, bytes);
    }

    /// What blocks hold at the times of rows that are not ahead of their series: per row the series' newest
    /// time in blocks, and the sample at the row's own time.
    fn look_up_late(
        &self,
        batch: &SampleBatch,
        resolved: &Resolved,
        blocks: &crate::blocks::Blocks,
    ) -> HashMap<usize, (i64, Option<Sample>)> {
        let blocks_max = blocks.max_time_ms();
        if blocks.list().is_empty() {
            return HashMap::new();
        }
        let mut candidates: Vec<(usize, i64, Labels)> = Vec::new();
        for &(number, place) in &resolved.rows {
            let time_ms = batch.row(number).time_ms;
            if time_ms > blocks_max {
                continue;
            }
            let shard = self.head.read(place.shard);
            if let Some(series) = shard.get(place.number)
                && (series.newest_in_blocks.is_none() || !series.is_ahead(time_ms, blocks_max))
            {
                candidates.push((number, time_ms, series.labels.clone()));
            }
        }
        let look_up = |(number, time_ms, labels): (usize, i64, Labels)| {
            let newest = blocks.newest(labels.as_ref());
            let sample = (time_ms <= newest).then(|| blocks.sample(labels.as_ref(), time_ms)).flatten();
            (number, (newest, sample))
        };
        candidates.into_iter().map(look_up).collect()
    }
}

fn bad_value(row: &Row<'_>) -> Option<RejectReason> {
    match row.value {
        RowValue::Increment(_) | RowValue::Total(_) => Some(RejectReason::Unsupported),
        RowValue::Histogram(h) if h.validate().is_err() => Some(RejectReason::InvalidHistogram),
        RowValue::Histogram(_) | RowValue::Float(_) | RowValue::Stale => None,
    }
}

fn sample_bytes(row: &Row<'_>) -> i64 {
    let value = match row.value {
        RowValue::Histogram(h) => h.bytes() as i64,
        _ => 0,
    };
    BYTES_PER_ROW as i64 + value
}

pub(crate) fn add_signed(count: &std::sync::atomic::AtomicU64, by: i64) {
    if by >= 0 {
        count.fetch_add(by as u64, Ordering::Relaxed);
    } else {
        let less = by.unsigned_abs();
        let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(less)));
    }
}
