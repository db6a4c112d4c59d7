//! What a way in hands to an engine: many samples, in columns.
//!
//! A batch owns its buffers and is meant to be reused: [`SampleBatch::clear`] keeps them, so steady
//! ingest of known series allocates nothing. A row names its series by [`SeriesRef`] or by a label
//! set that the batch keeps packed in one arena (written once for the rows of a new series).

use std::fmt;
use std::num::NonZeroU64;

use crate::histogram::{NativeHistogram, STALE_NAN_BITS};
use crate::labels::{Labels, LabelsRef};

/// An engine's number for one series.
///
/// Never reused in a data directory, across openings too: the upper bits number the opening. A ref
/// of another opening, or of a series that was freed, is *unknown* to the engine: never an error, never a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesRef(NonZeroU64);

impl SeriesRef {
    /// Bits of the number within one opening.
    pub const INDEX_BITS: u32 = 40;
    /// Bits of the opening's number; the top bit of the whole is never set.
    pub const OPENING_BITS: u32 = 23;

    /// The ref of series `index` of opening `opening` (from 1).
    ///
    /// Returns `None` when either does not fit its bits or the opening is 0.
    #[must_use]
    pub const fn new(opening: u32, index: u64) -> Option<SeriesRef> {
        if opening == 0 || opening >> Self::OPENING_BITS != 0 || index >> Self::INDEX_BITS != 0 {
            return None;
        }
        match NonZeroU64::new((opening as u64) << Self::INDEX_BITS | index) {
            Some(number) => Some(SeriesRef(number)),
            None => None,
        }
    }

    /// From its number, as kept on disk.
    #[must_use]
    #[inline]
    pub const fn from_u64(number: u64) -> Option<SeriesRef> {
        SeriesRef::new((number >> Self::INDEX_BITS) as u32, number & ((1 << Self::INDEX_BITS) - 1))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// Which opening of the data directory handed it out.
    #[must_use]
    #[inline]
    pub const fn opening(self) -> u32 {
        (self.0.get() >> Self::INDEX_BITS) as u32
    }

    /// The series' number within that opening.
    #[must_use]
    #[inline]
    pub const fn index(self) -> u64 {
        self.0.get() & ((1 << Self::INDEX_BITS) - 1)
    }
}

/// How a row names its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowSeries<'a> {
    /// By the engine's number.
    Ref(SeriesRef),
    /// By its labels.
    Labels(LabelsRef<'a>),
}

/// A count added by one writer over `(start_ms, end_ms]` (delta temporality, span-derived counts).
#[derive(Debug, Clone)]
pub struct Increment {
    /// Who counts: chosen by ingest from all identifying attributes, also those that are not labels.
    pub writer: u64,
    /// Start of the interval, exclusive.
    pub start_ms: i64,
    /// End of the interval, inclusive.
    pub end_ms: i64,
    /// What was added.
    pub value: AddedValue,
}

/// A cumulative total of one of several writers of a series.
#[derive(Debug, Clone)]
pub struct Total {
    /// Who counts.
    pub writer: u64,
    /// When the writer began to count.
    pub start_ms: i64,
    /// Its total so far.
    pub value: AddedValue,
}

/// The value of an [`Increment`] or [`Total`].
#[derive(Debug, Clone)]
pub enum AddedValue {
    /// A plain number.
    Float(f64),
    /// A distribution.
    Histogram(NativeHistogram),
}

/// The value of a row.
#[derive(Debug, Clone, Copy)]
pub enum RowValue<'a> {
    /// A float. The stale NaN is the same as [`RowValue::Stale`].
    Float(f64),
    /// A native histogram. One whose sum is the stale NaN is a staleness marker.
    Histogram(&'a NativeHistogram),
    /// The series ends here, whatever its type.
    Stale,
    /// Something to add.
    Increment(&'a Increment),
    /// Something that replaces its writer's share.
    Total(&'a Total),
}

/// One row of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Which series.
    pub series: RowSeries<'a>,
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// When a cumulative value began to count; 0 = unset.
    pub start_ms: i64,
    /// The value.
    pub value: RowValue<'a>,
}

/// One traced observation attached to a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Labels of the exemplar itself, such as `trace_id`.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
}

/// What kind of metric a family is, as senders declare it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum FamilyType {
    /// Not declared.
    #[default]
    Unknown = 0,
    /// Only rises, but for resets.
    Counter = 1,
    /// Rises and falls.
    Gauge = 2,
    /// Buckets that only rise.
    Histogram = 3,
    /// Buckets that rise and fall.
    GaugeHistogram = 4,
    /// Quantiles.
    Summary = 5,
    /// Constant 1 with labels that tell something.
    Info = 6,
    /// One series per state.
    StateSet = 7,
}

impl FamilyType {
    /// The name used by OpenMetrics and the HTTP API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FamilyType::Unknown => "unknown",
            FamilyType::Counter => "counter",
            FamilyType::Gauge => "gauge",
            FamilyType::Histogram => "histogram",
            FamilyType::GaugeHistogram => "gaugehistogram",
            FamilyType::Summary => "summary",
            FamilyType::Info => "info",
            FamilyType::StateSet => "stateset",
        }
    }

    /// From the number used on disk (and in remote write 2.0).
    #[must_use]
    pub fn from_u8(number: u8) -> Option<FamilyType> {
        Some(match number {
            0 => FamilyType::Unknown,
            1 => FamilyType::Counter,
            2 => FamilyType::Gauge,
            3 => FamilyType::Histogram,
            4 => FamilyType::GaugeHistogram,
            5 => FamilyType::Summary,
            6 => FamilyType::Info,
            7 => FamilyType::StateSet,
            _ => return None,
        })
    }
}

/// Type, unit and help of one metric family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Metadata {
    /// The declared type.
    pub family_type: FamilyType,
    /// The unit, empty if none.
    pub unit: String,
    /// The help text, empty if none.
    pub help: String,
}

/// Where a row's series is named: a ref's number, or, with the top bit set, an index into `names`.
#[derive(Debug, Clone, Copy)]
struct Named(u64);

const BY_LABELS: u64 = 1 << 63;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum RowKind {
    Float,
    Histogram,
    Stale,
    Increment,
    Total,
}

/// Samples on their way into an engine, in columns, with exemplars and metadata beside.
#[derive(Default)]
pub struct SampleBatch {
    series: Vec<Named>,
    times: Vec<i64>,
    kinds: Vec<RowKind>,
    /// Float bits, or an index into the column of the row's kind.
    payload: Vec<u64>,
    /// Empty, or as long as the rows.
    starts: Vec<i64>,
    histograms: Vec<NativeHistogram>,
    increments: Vec<Increment>,
    totals: Vec<Total>,
    /// (start, end) of packed label sets in `arena`.
    names: Vec<(u32, u32)>,
    arena: Vec<u8>,
    exemplars: Vec<(Named, Exemplar)>,
    metadata: Vec<(String, Metadata)>,
}

/// The rows of a batch in columns, where all are plain: floats or staleness markers, without start timestamps, of series named
/// by ref.
#[derive(Debug, Clone, Copy)]
pub struct PlainRows<'a> {
    series: &'a [Named],
    /// Milliseconds since the Unix epoch.
    pub times: &'a [i64],
    /// Of the floats; of a marker those of the stale NaN.
    pub bits: &'a [u64],
}

impl<'a> PlainRows<'a> {
    /// The series of each.
    pub fn series(&self) -> impl ExactSizeIterator<Item = SeriesRef> + use<'a> {
        self.series.iter().map(|named| named.pushed())
    }
}

impl Named {
    #[inline]
    fn pushed(self) -> SeriesRef {
        SeriesRef::from_u64(self.0).expect("only whole refs are pushed")
    }
}

/// A label set kept in a batch, for several rows of one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSeries(u32);

/// How a pusher names the series of a row.
#[derive(Debug, Clone, Copy)]
pub enum PushSeries<'a> {
    /// By the engine's number.
    Ref(SeriesRef),
    /// By a label set already kept in this batch.
    Kept(BatchSeries),
    /// By labels, copied into the batch.
    Labels(LabelsRef<'a>),
}

impl From<SeriesRef> for PushSeries<'_> {
    fn from(series: SeriesRef) -> Self {
        PushSeries::Ref(series)
    }
}
impl From<BatchSeries> for PushSeries<'_> {
    fn from(series: BatchSeries) -> Self {
        PushSeries::Kept(series)
    }
}
impl<'a> From<LabelsRef<'a>> for PushSeries<'a> {
    fn from(labels: LabelsRef<'a>) -> Self {
        PushSeries::Labels(labels)
    }
}
impl<'a> From<&'a Labels> for PushSeries<'a> {
    fn from(labels: &'a Labels) -> Self {
        PushSeries::Labels(labels.as_ref())
    }
}

impl SampleBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> SampleBatch {
        SampleBatch::default()
    }

    /// Forgets everything and keeps the buffers.
    pub fn clear(&mut self) {
        self.series.clear();
        self.times.clear();
        self.kinds.clear();
        self.payload.clear();
        self.starts.clear();
        self.histograms.clear();
        self.increments.clear();
        self.totals.clear();
        self.names.clear();
        self.arena.clear();
        self.exemplars.clear();
        self.metadata.clear();
    }

    /// Number of rows (exemplars and metadata apart).
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there is nothing in it at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty() && self.exemplars.is_empty() && self.metadata.is_empty()
    }

    /// Keeps a label set for several rows. Cost: a copy of its packed bytes.
    pub fn keep(&mut self, labels: LabelsRef<'_>) -> BatchSeries {
        let start = self.arena.len();
        self.arena.extend_from_slice(labels.packed());
        let range = (start, self.arena.len());
        let index = u32::try_from(self.names.len()).expect("fewer than 2^32 label sets in a batch");
        let to_u32 = |n: usize| u32::try_from(n).expect("a batch's labels take less than 4 GiB");
        self.names.push((to_u32(range.0), to_u32(range.1)));
        BatchSeries(index)
    }

    /// Adds a float sample; the stale NaN makes it a staleness marker.
    #[inline]
    pub fn push_float<'a>(&mut self, series: impl Into<PushSeries<'a>>, time_ms: i64, value: f64) {
        let kind = if value.to_bits() == STALE_NAN_BITS { RowKind::Stale } else { RowKind::Float };
        self.push(series.into(), time_ms, kind, value.to_bits());
    }

    /// Adds a native histogram sample; one whose sum is the stale NaN is a staleness marker.
    pub fn push_histogram<'a>(&mut self, series: impl Into<PushSeries<'a>>, time_ms: i64, value: NativeHistogram) {
        if value.is_stale() {
            return self.push_stale(series, time_ms);
        }
        let at = self.histograms.len() as u64;
        self.histograms.push(value);
        self.push(series.into(), time_ms, RowKind::Histogram, at);
    }

    /// Adds a staleness marker.
    pub fn push_stale<'a>(&mut self, series: impl Into<PushSeries<'a>>, time_ms: i64) {
        self.push(series.into(), time_ms, RowKind::Stale, STALE_NAN_BITS);
    }

    /// Adds an increment; the row's time is the increment's end.
    pub fn push_increment<'a>(&mut self, series: impl Into<PushSeries<'a>>, increment: Increment) {
        let at = self.increments.len() as u64;
        let time_ms = increment.end_ms;
        self.increments.push(increment);
        self.push(series.into(), time_ms, RowKind::Increment, at);
    }

    /// Adds a writer's total.
    pub fn push_total<'a>(&mut self, series: impl Into<PushSeries<'a>>, time_ms: i64, total: Total) {
        let at = self.totals.len() as u64;
        self.totals.push(total);
        self.push(series.into(), time_ms, RowKind::Total, at);
    }

    /// Gives the newest row a start timestamp.
    #[inline]
    pub fn set_start(&mut self, start_ms: i64) {
        if self.starts.is_empty() && start_ms != 0 {
            self.starts.resize(self.times.len(), 0);
        }
        if let Some(last) = self.starts.last_mut() {
            *last = start_ms;
        }
    }

    /// Attaches an exemplar to a series.
    pub fn push_exemplar<'a>(&mut self, series: impl Into<PushSeries<'a>>, exemplar: Exemplar) {
        let named = self.name(series.into());
        self.exemplars.push((named, exemplar));
    }

    /// Declares type, unit and help of a family.
    pub fn push_metadata(&mut self, family: impl Into<String>, metadata: Metadata) {
        self.metadata.push((family.into(), metadata));
    }

    /// Replaces the series of `row` by a ref; used to re-send rows and by engines that resolve once.
    pub fn set_ref(&mut self, row: usize, series: SeriesRef) {
        self.series[row] = Named(series.get());
    }

    /// Whether any row or exemplar names its series by labels.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        !self.names.is_empty()
    }

    /// The native histograms of all rows, in row order.
    #[must_use]
    pub fn histograms(&self) -> &[NativeHistogram] {
        &self.histograms
    }

    /// Row `index`, in the order pushed. Panics past the end.
    #[must_use]
    #[inline]
    pub fn row(&self, index: usize) -> Row<'_> {
        let payload = self.payload[index];
        Row {
            series: self.named(self.series[index]),
            time_ms: self.times[index],
            start_ms: self.starts.get(index).copied().unwrap_or(0),
            value: match self.kinds[index] {
                RowKind::Float => RowValue::Float(f64::from_bits(payload)),
                RowKind::Stale => RowValue::Stale,
                RowKind::Histogram => RowValue::Histogram(&self.histograms[payload as usize]),
                RowKind::Increment => RowValue::Increment(&self.increments[payload as usize]),
                RowKind::Total => RowValue::Total(&self.totals[payload as usize]),
            },
        }
    }

    /// All rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        (0..self.len()).map(|i| self.row(i))
    }

    /// All rows in columns, if they are plain. Those of nearly every batch of known series are, and then an engine need not
    /// ask each what it is.
    #[must_use]
    pub fn plain_rows(&self) -> Option<PlainRows<'_>> {
        // A row of another kind has a value beside the columns.
        let is_plain = self.names.is_empty()
            && self.starts.is_empty()
            && self.histograms.is_empty()
            && self.increments.is_empty()
            && self.totals.is_empty();
        is_plain.then_some(PlainRows { series: &self.series, times: &self.times, bits: &self.payload })
    }

    /// All exemplars with their series.
    pub fn exemplars(&self) -> impl ExactSizeIterator<Item = (RowSeries<'_>, &Exemplar)> {
        self.exemplars.iter().map(|(named, exemplar)| (self.named(*named), exemplar))
    }

    /// All metadata, by family.
    pub fn metadata(&self) -> &[(String, Metadata)] {
        &self.metadata
    }

    #[inline]
    fn push(&mut self, series: PushSeries<'_>, time_ms: i64, kind: RowKind, payload: u64) {
        let named = self.name(series);
        self.series.push(named);
        self.times.push(time_ms);
        self.kinds.push(kind);
        self.payload.push(payload);
        if !self.starts.is_empty() {
            self.starts.push(0);
        }
    }

    #[inline]
    fn name(&mut self, series: PushSeries<'_>) -> Named {
        match series {
            PushSeries::Ref(series) => Named(series.get()),
            PushSeries::Kept(kept) => Named(u64::from(kept.0) | BY_LABELS),
            PushSeries::Labels(labels) => Named(u64::from(self.keep(labels).0) | BY_LABELS),
        }
    }

    #[inline]
    fn named(&self, named: Named) -> RowSeries<'_> {
        if named.0 & BY_LABELS == 0 {
            return RowSeries::Ref(named.pushed());
        }
        let (start, end) = self.names[(named.0 & !BY_LABELS) as usize];
        let packed = &self.arena[start as usize..end as usize];
        RowSeries::Labels(LabelsRef::trusted(packed))
    }
}

impl fmt::Debug for SampleBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rows()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_carries_its_opening_and_never_the_top_bit() {
        let series = SeriesRef::new(7, 42).unwrap();
        assert_eq!((series.opening(), series.index()), (7, 42));
        assert_eq!(SeriesRef::from_u64(series.get()), Some(series));
        assert_eq!(SeriesRef::new(0, 1), None);
        assert_eq!(SeriesRef::new(1 << 23, 0), None);
        assert_eq!(SeriesRef::new(1, 1 << 40), None);
        assert_eq!(SeriesRef::from_u64(BY_LABELS | 5), None);
    }

    #[test]
    fn rows_come_back_as_pushed_and_starts_stay_aligned() {
        let labels = Labels::from_pairs([("__name__", "m")]);
        let mut batch = SampleBatch::new();
        for round in 0..2 {
            batch.clear();
            let kept = batch.keep(labels.as_ref());
            batch.push_float(kept, 1, 2.5);
            batch.push_float(SeriesRef::new(1, 9).unwrap(), 2, -0.0);
            batch.set_start(77);
            batch.push_float(kept, 3, f64::from_bits(STALE_NAN_BITS));
            let rows: Vec<_> = batch.rows().collect();
            assert_eq!(rows.len(), 3, "round {round}");
            assert_eq!(rows[0].series, RowSeries::Labels(labels.as_ref()));
            assert!(matches!(rows[1].series, RowSeries::Ref(r) if r.index() == 9));
            assert!(matches!(rows[1].value, RowValue::Float(v) if v.to_bits() == (-0.0f64).to_bits()));
            assert!(matches!(rows[2].value, RowValue::Stale));
            assert_eq!(rows.iter().map(|r| r.start_ms).collect::<Vec<_>>(), [0, 77, 0]);
        }
    }

    #[test]
    fn rows_are_plain_as_long_as_none_is_anything_else() {
        let series = SeriesRef::new(3, 9).unwrap();
        let mut batch = SampleBatch::new();
        batch.push_float(series, 1, -0.0);
        batch.push_stale(series, 2);
        let rows = batch.plain_rows().unwrap();
        assert!(rows.series().eq([series; 2]));
        assert_eq!((rows.times, rows.bits), (&[1, 2][..], &[(-0.0f64).to_bits(), STALE_NAN_BITS][..]));
        let others: [fn(&mut SampleBatch, SeriesRef); 4] = [
            |batch, series| {
                batch.push_float(series, 3, 1.0);
                batch.set_start(1);
            },
            |batch, _| batch.push_float(&Labels::from_pairs([("__name__", "m")]), 3, 1.0),
            |batch, series| batch.push_histogram(series, 3, NativeHistogram::default()),
            |batch, series| {
                let increment = Increment { writer: 1, start_ms: 1, end_ms: 3, value: AddedValue::Float(1.0) };
                batch.push_increment(series, increment);
            },
        ];
        for other in others {
            batch.clear();
            batch.push_float(series, 1, 1.0);
            assert!(batch.plain_rows().is_some());
            other(&mut batch, series);
            assert!(batch.plain_rows().is_none(), "{batch:?}");
        }
    }
}
