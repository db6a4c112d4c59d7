//! What one request becomes: a batch, with where each row came from and what was refused on the way.
//!
//! The buffers are used again for the next request, so a request of known series allocates nothing.

use std::hash::BuildHasher;

use kymo_core::batch::PushSeries;
use kymo_core::labels::LabelsBuilder;
use kymo_core::storage::RejectReason;
use kymo_core::{Budget, BudgetExceeded, Exemplar, SampleBatch, SeriesRef};

use super::config::RemoteWriteConfig;
use super::error::{DecodeError, Reason};
use super::histogram::{self, HistogramValue};
use super::meter::Meter;
use super::naming::Naming;
use super::outcome::{Refusal, Written};
use super::{Version, v1, v2};
use crate::proto::{Cursor, ProtoError, Span};
use crate::series_cache::{Hit, SeriesCache, Slot};

/// Memory that a row takes in the columns of a batch, with the slack of growing ones.
const ROW_BYTES: usize = 72;
/// Memory that a series takes in [`Rows::entries`], with slack.
const ENTRY_BYTES: usize = 2 * size_of::<Entry>();

/// One series message of the request that put something into the batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// The `TimeSeries` message, from which labels can be read again.
    pub(super) message: Span,
    pub(super) first_row: usize,
    pub(super) first_exemplar: usize,
    /// Its place in the cache, if it was found there.
    pub(super) slot: Slot,
    /// The ref that its rows carry, if it was found in the cache.
    pub(super) series: Option<SeriesRef>,
    /// Fingerprint of the metadata that the batch holds for it; 0 = none.
    pub(super) metadata: u64,
}

/// What the versions disagree on in a `TimeSeries` message: field numbers, and by the version how labels are named
/// and whether samples have start timestamps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) version: Version,
    pub(super) histograms: u32,
    pub(super) exemplars: u32,
}

impl Layout {
    fn has_starts(self) -> bool {
        self.version == Version::V2
    }
}

/// Which series the elements of a message belong to, or why they are refused.
pub(super) type Target = Result<PushSeries<'static>, Reason>;

#[derive(Debug)]
pub(super) struct Rows {
    pub(super) batch: SampleBatch,
    /// Rows whose refs the engine did not know, with labels.
    pub(super) again: SampleBatch,
    pub(super) entries: Vec<Entry>,
    /// The 2.0 symbol table.
    pub(super) symbols: Vec<Span>,
    /// The 2.0 cache key of the series at hand.
    pub(super) key: Vec<u8>,
    pub(super) labels: LabelsBuilder,
    /// Rows that came as histograms but are staleness markers, rising.
    pub(super) stale_histograms: Vec<usize>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) meter: Meter,
    elements: usize,
    unfolded: usize,
}

impl Rows {
    pub(super) fn new(budget: &Budget) -> Result<Rows, BudgetExceeded> {
        Ok(Rows {
            batch: SampleBatch::new(),
            again: SampleBatch::new(),
            entries: Vec::new(),
            symbols: Vec::new(),
            key: Vec::new(),
            labels: LabelsBuilder::new(),
            stale_histograms: Vec::new(),
            refusals: Vec::new(),
            meter: Meter::new(budget)?,
            elements: 0,
            unfolded: 0,
        })
    }

    /// Forgets the last request and keeps the buffers.
    pub(super) fn restart(&mut self) {
        self.batch.clear();
        self.again.clear();
        self.entries.clear();
        self.symbols.clear();
        self.key.clear();
        self.labels.clear();
        self.stale_histograms.clear();
        self.refusals.clear();
        self.meter.restart();
        (self.elements, self.unfolded) = (0, 0);
    }

    /// Decodes a whole body.
    pub(super) fn decode<S: BuildHasher>(
        &mut self,
        version: Version,
        body: &[u8],
        cache: &SeriesCache<S>,
        config: &RemoteWriteConfig,
    ) -> Result<(), DecodeError> {
        match version {
            Version::V1 => v1::decode(body, cache, self, config),
            Version::V2 => v2::decode(body, cache, self, config),
        }
    }

    /// How the request names its labels.
    pub(super) fn naming(&self, version: Version) -> Naming<'_> {
        Naming::of(version, &self.symbols)
    }

    /// Begins a series: everything pushed until the next call belongs to it.
    #[inline]
    pub(super) fn open(&mut self, message: Span, hit: Option<Hit>, metadata: u64) -> Result<(), BudgetExceeded> {
        self.meter.take(ENTRY_BYTES)?;
        let (first_row, first_exemplar) = (self.batch.len(), self.batch.exemplars().len());
        let (slot, series) = hit.map_or((Slot::NONE, None), |hit| (hit.slot, Some(hit.series)));
        self.entries.push(Entry { message, first_row, first_exemplar, slot, series, metadata });
        Ok(())
    }

    /// Takes a known series whose message holds one sample and no more.
    #[inline]
    pub(super) fn push_usual(
        &mut self,
        message: Span,
        hit: Hit,
        sample: FloatSample,
        config: &RemoteWriteConfig,
    ) -> Result<(), DecodeError> {
        self.open(message, Some(hit), 0)?;
        self.count(config)?;
        self.batch.push_float(hit.series, sample.time_ms, sample.value);
        Ok(())
    }

    /// Keeps the label set of a new series in the batch.
    pub(super) fn keep(&mut self, version: Version, body: &[u8], message: Span) -> Result<Target, DecodeError> {
        Ok(match Naming::of(version, &self.symbols).series(body, message, &mut self.labels)? {
            Ok(labels) => {
                // Twice: for the batch, and for the builder, which holds the longest.
                self.meter.take(2 * labels.packed().len())?;
                Ok(self.batch.keep(labels).into())
            }
            Err(reason) => Err(reason),
        })
    }

    /// Pushes the samples, histograms and exemplars in `part` of a series message, or counts them as refused.
    pub(super) fn elements(
        &mut self,
        body: &[u8],
        part: Span,
        layout: Layout,
        target: Target,
        config: &RemoteWriteConfig,
    ) -> Result<Written, DecodeError> {
        let mut refused = Written::default();
        let mut fields = Cursor::over(body, part);
        while let Some(field) = fields.next()? {
            let number = field.number;
            if number == 2 {
                let sample = sample(body, field.span()?, layout)?;
                self.count(config)?;
                match target {
                    Ok(series) => {
                        self.batch.push_float(series, sample.time_ms, sample.value);
                        if layout.has_starts() {
                            self.batch.set_start(sample.start_ms);
                        }
                    }
                    Err(_) => refused.samples += 1,
                }
            } else if number == layout.histograms {
                self.count(config)?;
                refused.histograms += self.histogram(body, field.span()?, layout, target)?;
            } else if number == layout.exemplars {
                self.count(config)?;
                refused.exemplars += self.exemplar(body, field.span()?, layout, target, config)?;
            }
        }
        Ok(refused)
    }

    /// Returns 1 if the target refuses.
    fn histogram(&mut self, body: &[u8], message: Span, layout: Layout, target: Target) -> Result<u64, DecodeError> {
        // Bucket deltas take a byte on the wire and eight in memory, twice while they are summed.
        self.meter.take(16 * message.len())?;
        let sample = histogram::decode(body, message)?;
        let Ok(series) = target else { return Ok(1) };
        let row = self.batch.len();
        match sample.value {
            HistogramValue::Histogram(value) => self.batch.push_histogram(series, sample.time_ms, value),
            HistogramValue::Stale => {
                self.stale_histograms.push(row);
                self.batch.push_stale(series, sample.time_ms);
            }
            HistogramValue::Invalid => {
                let refused = Written { histograms: 1, ..Written::default() };
                let entry = self.entries.last().map(|entry| entry.message);
                let naming = Naming::of(layout.version, &self.symbols);
                let example = || entry.map(|message| naming.example(body, message)).unwrap_or_default();
                refuse(&mut self.refusals, Reason::Row(RejectReason::InvalidHistogram), refused, example);
                return Ok(0);
            }
        }
        if layout.has_starts() {
            self.batch.set_start(sample.start_ms);
        }
        Ok(0)
    }

    /// Returns 1 if the target refuses.
    fn exemplar(
        &mut self,
        body: &[u8],
        message: Span,
        layout: Layout,
        target: Target,
        config: &RemoteWriteConfig,
    ) -> Result<u64, DecodeError> {
        let (mut value, mut time_ms) = (0.0, 0);
        let mut fields = Cursor::over(body, message);
        while let Some(field) = fields.next()? {
            match field.number {
                2 => value = field.double()?,
                3 => time_ms = field.int64()?,
                _ => {}
            }
        }
        let Ok(series) = target else { return Ok(1) };
        let naming = Naming::of(layout.version, &self.symbols);
        let mut label_bytes = 0;
        let counted = naming.pairs(body, message, |name, value| {
            label_bytes += name.len() + value.len();
            let fits = label_bytes <= config.series_label_bytes_max;
            if fits { Ok(()) } else { Err(Reason::Row(RejectReason::LabelTooLong)) }
        })?;
        let labels = match counted {
            Ok(()) if layout.has_starts() && time_ms == 0 => Err(Reason::ExemplarTime),
            Ok(()) => naming.build(body, message, &mut self.labels)?.map(|labels| labels.to_labels()),
            Err(reason) => Err(reason),
        };
        match labels {
            Ok(labels) => self.batch.push_exemplar(series, Exemplar { labels, value, time_ms }),
            Err(reason) => {
                let refused = Written { exemplars: 1, ..Written::default() };
                let entry = self.entries.last().map(|entry| entry.message);
                let example = || entry.map(|message| naming.example(body, message)).unwrap_or_default();
                refuse(&mut self.refusals, reason, refused, example);
            }
        }
        self.meter.take(label_bytes + size_of::<Exemplar>())?;
        if layout.has_starts() {
            self.unfold(label_bytes, config)?;
        }
        Ok(0)
    }

    /// Counts one more element towards the limit of a request.
    #[inline]
    fn count(&mut self, config: &RemoteWriteConfig) -> Result<(), DecodeError> {
        self.elements += 1;
        if self.elements > config.samples_max {
            let (max, found) = (config.samples_max as u64, self.elements as u64);
            return Err(DecodeError::TooLarge { limit: "samples_max", max, found });
        }
        Ok(self.meter.take(ROW_BYTES)?)
    }

    /// Counts bytes that symbol references of the request unfolded to.
    pub(super) fn unfold(&mut self, bytes: usize, config: &RemoteWriteConfig) -> Result<(), DecodeError> {
        self.unfolded = self.unfolded.saturating_add(bytes);
        if self.unfolded > config.unfolded_bytes_max {
            let (max, found) = (config.unfolded_bytes_max as u64, self.unfolded as u64);
            return Err(DecodeError::TooLarge { limit: "unfolded_bytes_max", max, found });
        }
        Ok(())
    }

    /// Ends a series whose elements were refused or which had none.
    pub(super) fn close(&mut self) {
        let (rows, exemplars) = (self.batch.len(), self.batch.exemplars().len());
        self.entries
            .pop_if(|entry| entry.first_row == rows && entry.first_exemplar == exemplars && entry.metadata == 0);
    }

    /// The series that row `row` belongs to.
    pub(super) fn entry_of_row(&self, row: usize) -> Option<usize> {
        self.entries.partition_point(|entry| entry.first_row <= row).checked_sub(1)
    }

    /// The series that exemplar `number` belongs to.
    pub(super) fn entry_of_exemplar(&self, number: usize) -> Option<usize> {
        self.entries.partition_point(|entry| entry.first_exemplar <= number).checked_sub(1)
    }
}

/// Adds to what was refused for `reason`; the first case becomes its example.
pub(super) fn refuse(refusals: &mut Vec<Refusal>, reason: Reason, refused: Written, example: impl FnOnce() -> String) {
    match refusals.iter_mut().find(|refusal| refusal.reason == reason) {
        Some(refusal) => refusal.refused += refused,
        None => refusals.push(Refusal { reason, refused, example: example() }),
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct FloatSample {
    value: f64,
    time_ms: i64,
    /// Only version 2.0 has it; 0 = unset.
    start_ms: i64,
}

#[inline]
fn sample(body: &[u8], message: Span, layout: Layout) -> Result<FloatSample, ProtoError> {
    if let Some(sample) = usual_sample(message.of(body), layout) {
        return Ok(sample);
    }
    let mut sample = FloatSample { value: 0.0, time_ms: 0, start_ms: 0 };
    let mut fields = Cursor::over(body, message);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => sample.value = field.double()?,
            2 => sample.time_ms = field.int64()?,
            3 if layout.has_starts() => sample.start_ms = field.int64()?,
            _ => {}
        }
    }
    Ok(sample)
}

/// A sample as every sender writes it: value, time and, in version 2.0, perhaps the start, in this order. Reading it
/// field by field takes several times as long.
#[inline]
pub(super) fn usual_sample(message: &[u8], layout: Layout) -> Option<FloatSample> {
    const VALUE_TAG: u8 = 0x09;
    const TIME_TAG: u8 = 0x10;
    const START_TAG: u8 = 0x18;
    let (&[VALUE_TAG, b0, b1, b2, b3, b4, b5, b6, b7, TIME_TAG], rest) = message.split_first_chunk::<10>()? else {
        return None;
    };
    let value = f64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]);
    let (time, rest) = rest.split_first_chunk()?;
    let start_ms = match rest {
        [] => 0,
        [START_TAG, start @ ..] if layout.has_starts() => usual_time(start.try_into().ok()?)?,
        _ => return None,
    };
    Some(FloatSample { value, time_ms: usual_time(time)?, start_ms })
}

/// A time between 1971 and 2109, whose varint has six bytes.
#[inline]
fn usual_time(bytes: &[u8; 6]) -> Option<i64> {
    let &[t0, t1, t2, t3, t4, t5] = bytes;
    let is_varint = (t0 & t1 & t2 & t3 & t4) >= 0x80 && t5 < 0x80;
    is_varint.then(|| bytes.iter().rev().fold(0, |time, byte| time << 7 | i64::from(byte & 0x7f)))
}
