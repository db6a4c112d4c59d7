//! The seam to an engine: [`MetricStorage`], and what goes through it.
//!
//! Everything here is synchronous and object-safe. An async caller goes through a
//! [`BlockingPool`](crate::pool::BlockingPool).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::batch::{Exemplar, Metadata, SampleBatch, SeriesRef};
use crate::budget::{Budget, BudgetExceeded};
use crate::clock::{Clock, SystemClock};
use crate::error::ErrorKind;
use crate::health::{ServiceHealth, ServiceHealthMetrics, ServiceName};
use crate::increments::SeriesTotals;
use crate::labels::{Labels, LabelsRef};
use crate::matcher::Matcher;

mod columns;

pub use columns::{ColumnValue, Columns, FloatRollup, HistogramRollup, Rollups, Run, RunKind};

/// A sample further ahead of the clock than this is rejected.
pub const FUTURE_LIMIT: Duration = Duration::from_secs(600);

/// Keeps samples and gives them back.
///
/// **Append.** When [`append`](Self::append) returns `Ok`, every row not named in the report as rejected or unknown
/// is visible to every later `select` and survives a kill of the process; power loss is governed by
/// the engine's sync policy. `Err` means nothing of the batch was applied and nothing of it is visible. Callers
/// may append from many threads; order is defined per series only: of two batches the later acknowledged wins.
///
/// **Data rules.** Timestamps of a series are unique across floats and histograms. Same timestamp and bits:
/// *identical*, counted, not stored again. Different bits: the last write wins, *replaced*, counted.
/// Samples may come in any order and of any age inside retention.
///
/// **Select.** A [`SeriesSet`] is a snapshot: later appends do not show in it.
pub trait MetricStorage: Send + Sync {
    /// Stores a batch. See the trait for what `Ok` and `Err` promise.
    ///
    /// # Errors
    /// [`AppendError`] when nothing could be applied; a bad row is never one, it is in the report.
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError>;

    /// [`append`](Self::append) into a report of the caller, whose buffers are used again; what it held is forgotten.
    ///
    /// # Errors
    /// As [`append`](Self::append); `report` is then unspecified.
    fn append_into(&self, batch: &SampleBatch, report: &mut AppendReport) -> Result<(), AppendError> {
        *report = self.append(batch)?;
        Ok(())
    }

    /// The series that match and have a sample in the window, sorted by labels.
    ///
    /// # Errors
    /// [`SelectError`]; also when the deadline passed, the caller cancelled, or the budget is used up.
    fn select(&self, what: &Selector, ctx: &QueryContext) -> Result<Box<dyn SeriesSet>, SelectError>;

    /// A number that rises with every change of what `select` may answer: appends, new series,
    /// deletes and retirement.
    fn version(&self) -> u64;

    /// What changed since version `since` in series that match; [`Changes::Unknown`] means everything may have.
    fn changed_since(&self, since: u64, what: &Selector) -> Changes;

    /// The ref of a label set, if the engine knows it as a live series.
    fn resolve(&self, labels: LabelsRef<'_>) -> Option<SeriesRef>;

    /// The labels of a ref; `None` if unknown.
    fn labels(&self, series: SeriesRef) -> Option<Labels>;

    /// Distinct label names of series that match all of `what`'s matchers in its window, sorted.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn label_names(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError>;

    /// Distinct values of label `name`, sorted; otherwise as [`label_names`](Self::label_names).
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn label_values(&self, name: &str, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError>;

    /// Shows what [`label_values`](Self::label_values) lists, in its order, until `visit` has seen enough: for who looks at each
    /// once, and needs no text of its own. No lock of the engine is held meanwhile.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn visit_label_values(
        &self,
        name: &str,
        what: &Selector,
        ctx: &QueryContext,
        visit: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), SelectError> {
        // Where it ended is for who ended it.
        let _ = self.label_values(name, what, ctx)?.iter().try_for_each(|value| visit(value));
        Ok(())
    }

    /// Label sets that match and have a sample in the window, sorted.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn series(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<Labels>, SelectError> {
        let set = self.select(what, ctx)?;
        Ok((0..set.len()).map(|i| set.labels(i)).collect())
    }

    /// Shows every series that matches and has a sample in one of some windows, open to the left, with those it has one in as
    /// bits, the first window's being the lowest. Each once and in no order, for reports on very many series; windows beyond
    /// the 32nd are not looked at.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn visit_series(
        &self,
        matchers: &[Matcher],
        windows: &[(i64, i64)],
        ctx: &QueryContext,
        visit: &mut dyn FnMut(LabelsRef<'_>, u32),
    ) -> Result<(), SelectError> {
        let mut all: BTreeMap<Labels, u32> = BTreeMap::new();
        for (at, (start_ms, end_ms)) in windows.iter().enumerate().take(u32::BITS as usize) {
            for labels in self.series(&Selector::new(matchers.to_vec(), *start_ms, *end_ms), ctx)? {
                *all.entry(labels).or_default() |= 1 << at;
            }
        }
        all.iter().for_each(|(labels, present)| visit(labels.as_ref(), *present));
        Ok(())
    }

    /// Type, unit and help per family, families sorted, newest first, at most 10 each; of one family
    /// if `family` is given.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn metadata(&self, family: Option<&str>, ctx: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, SelectError>;

    /// Exemplars of matching series in the window, series sorted by labels, exemplars by time.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn exemplars(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<(Labels, Vec<Exemplar>)>, SelectError>;

    /// Facts on the engine's size.
    fn statistics(&self) -> StorageStatistics;

    /// Service health, where the engine was given it.
    fn health(&self) -> Option<&ServiceHealth> {
        None
    }

    /// Stores one point (the seed's name for [`append`](Self::append) of a single float row).
    ///
    /// # Errors
    /// [`AppendError`]; a rejected point is [`AppendError::Rejected`].
    fn store_metric(&self, labels: LabelsRef<'_>, time_ms: i64, value: f64) -> Result<(), AppendError> {
        let mut batch = SampleBatch::new();
        batch.push_float(labels, time_ms, value);
        match self.append(&batch)?.rejected.first() {
            Some(&(_, reason)) => Err(AppendError::Rejected { reason }),
            None => Ok(()),
        }
    }

    /// Every float sample that matches, as `(labels, time, value)` in label and time order (the seed's
    /// name for [`select`](Self::select) read to the end).
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn query_metrics(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<(Labels, i64, f64)>, SelectError> {
        let set = self.select(what, ctx)?;
        let (mut columns, mut found) = (Columns::default(), Vec::new());
        for i in 0..set.len() {
            set.read(i, &mut columns)?;
            let labels = set.labels(i);
            found.extend(columns.iter().filter_map(|(time, value)| match value {
                ColumnValue::Float(v) => Some((labels.clone(), time, v)),
                ColumnValue::Histogram(_) | ColumnValue::Stale => None,
            }));
        }
        Ok(found)
    }

    /// Health of one service as last aggregated; `None` where the engine keeps none or does not know the service. Takes no
    /// lock.
    fn get_service_health(&self, service: &ServiceName) -> Option<ServiceHealthMetrics> {
        let found = self.health()?.get(service.as_str())?;
        Some(ServiceHealthMetrics::clone(&found))
    }
}

/// Why one row was not stored. Each is booked in the loss ledger under [`as_str`](Self::as_str).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RejectReason {
    /// More than [`FUTURE_LIMIT`] ahead of the clock.
    TooFarInFuture,
    /// Older than the retention keeps.
    OutsideRetention,
    /// A new series beyond the limit of active series.
    SeriesLimit,
    /// A label set without `__name__`.
    MissingName,
    /// More labels than the limit allows.
    TooManyLabels,
    /// A label name or value longer than the limit allows.
    LabelTooLong,
    /// The histogram breaks a rule of its model.
    InvalidHistogram,
    /// An increment overlaps one already added.
    OverlappingIncrement,
    /// An increment or total that ends before it starts, is not finite, or cannot be added to those before.
    InvalidIncrement,
    /// A writer of increments beyond the limit of writers that are remembered.
    WriterLimit,
    /// The engine cannot keep this kind of row.
    Unsupported,
}

impl RejectReason {
    /// The name used in the ledger, metrics and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RejectReason::TooFarInFuture => "too_far_in_future",
            RejectReason::OutsideRetention => "outside_retention",
            RejectReason::SeriesLimit => "series_limit",
            RejectReason::MissingName => "missing_name",
            RejectReason::TooManyLabels => "too_many_labels",
            RejectReason::LabelTooLong => "label_too_long",
            RejectReason::InvalidHistogram => "invalid_histogram",
            RejectReason::OverlappingIncrement => "overlapping_increment",
            RejectReason::InvalidIncrement => "invalid_increment",
            RejectReason::WriterLimit => "writer_limit",
            RejectReason::Unsupported => "unsupported",
        }
    }

    /// One sentence for a client.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            RejectReason::TooFarInFuture => "timestamp is more than 10 minutes ahead of the server's clock",
            RejectReason::OutsideRetention => "timestamp is older than the retention",
            RejectReason::SeriesLimit => "the limit of active series is reached",
            RejectReason::MissingName => "the series has no metric name",
            RejectReason::TooManyLabels => "the series has too many labels",
            RejectReason::LabelTooLong => "a label name or value is too long",
            RejectReason::InvalidHistogram => "the native histogram is invalid",
            RejectReason::OverlappingIncrement => "the increment overlaps one already added",
            RejectReason::InvalidIncrement => "the increment ends before it starts or cannot be added",
            RejectReason::WriterLimit => "the limit of writers of increments is reached",
            RejectReason::Unsupported => "this kind of sample is not supported yet",
        }
    }
}

/// Rows counted by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowCounts {
    /// Float samples.
    pub floats: u64,
    /// Native histogram samples.
    pub histograms: u64,
    /// Staleness markers.
    pub stale: u64,
    /// Increments and totals.
    pub increments: u64,
    /// Exemplars.
    pub exemplars: u64,
}

impl RowCounts {
    /// All samples: everything but exemplars.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.floats + self.histograms + self.stale + self.increments
    }
}

impl std::ops::AddAssign for RowCounts {
    fn add_assign(&mut self, more: RowCounts) {
        self.floats += more.floats;
        self.histograms += more.histograms;
        self.stale += more.stale;
        self.increments += more.increments;
        self.exemplars += more.exemplars;
    }
}

/// What became of a batch. *Written* = stored + identical + replaced.
///
/// A report without rejected, unknown or new rows holds no allocation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppendReport {
    /// Rows that are new.
    pub stored: RowCounts,
    /// Rows that were there already with the same bits.
    pub identical: RowCounts,
    /// Rows that replaced a sample with other bits at the same timestamp.
    pub replaced: RowCounts,
    /// Of the increments stored: those with a gap to what their writer told before. No fault of theirs, but nobody told
    /// what was counted in between.
    pub gaps: u64,
    /// Rows that were refused.
    pub rejected_counts: RowCounts,
    /// Which rows were refused and why, in row order.
    pub rejected: Vec<(usize, RejectReason)>,
    /// Exemplars that were refused, by their number in the batch.
    pub rejected_exemplars: Vec<(usize, RejectReason)>,
    /// Rows whose ref the engine does not know, in row order. They were not applied and are counted
    /// nowhere until they are sent again with labels.
    pub unknown_refs: Vec<usize>,
    /// Exemplars whose ref the engine does not know.
    pub unknown_exemplars: Vec<usize>,
    /// Rows that came with labels, with the ref to use from now on, in row order.
    pub new_refs: Vec<(usize, SeriesRef)>,
}

impl AppendReport {
    /// Forgets everything and keeps the buffers.
    pub fn clear(&mut self) {
        self.stored = RowCounts::default();
        self.identical = RowCounts::default();
        self.replaced = RowCounts::default();
        self.gaps = 0;
        self.rejected_counts = RowCounts::default();
        self.rejected.clear();
        self.rejected_exemplars.clear();
        self.unknown_refs.clear();
        self.unknown_exemplars.clear();
        self.new_refs.clear();
    }

    /// Rows of each kind that are in the engine now because of, or as in, this batch.
    #[must_use]
    pub fn written(&self) -> RowCounts {
        let mut sum = self.stored;
        sum += self.identical;
        sum += self.replaced;
        sum
    }
}

/// Nothing of a batch was applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// A memory limit was reached.
    #[error(transparent)]
    Budget(#[from] BudgetExceeded),
    /// The log could not be written (a full disk, a failed write or sync).
    #[error("the write-ahead log could not be written")]
    Log {
        /// What the disk said.
        #[source]
        source: std::io::Error,
    },
    /// The engine is shutting down.
    #[error("the storage is closed")]
    Closed,
    /// The only row of [`MetricStorage::store_metric`] was refused.
    #[error("the sample was rejected: {}", reason.describe())]
    Rejected {
        /// Why.
        reason: RejectReason,
    },
}

impl AppendError {
    /// What a surface makes of it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            AppendError::Budget(_) | AppendError::Log { .. } => ErrorKind::unavailable(),
            AppendError::Closed => ErrorKind::unavailable(),
            AppendError::Rejected { .. } => ErrorKind::Invalid,
        }
    }
}

/// Which resolution of the data answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tier {
    /// Samples as written.
    #[default]
    Raw,
    /// Five-minute rollups.
    FiveMinutes,
    /// One-hour rollups.
    OneHour,
}

impl Tier {
    /// As requests and answers call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Raw => "raw",
            Tier::FiveMinutes => "5m",
            Tier::OneHour => "1h",
        }
    }

    /// Length of its buckets in milliseconds; 0 for samples as written.
    #[must_use]
    pub fn width_ms(self) -> i64 {
        match self {
            Tier::Raw => 0,
            Tier::FiveMinutes => 300_000,
            Tier::OneHour => 3_600_000,
        }
    }

    /// The end of the bucket that a time lies in: buckets are open to the left, closed to the right, and end at
    /// multiples of their width. Of samples as written it is the time itself.
    #[must_use]
    pub fn bucket_end_ms(self, time_ms: i64) -> i64 {
        match self {
            Tier::Raw => time_ms,
            _ => time_ms.saturating_add((-i128::from(time_ms)).rem_euclid(i128::from(self.width_ms())) as i64),
        }
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Tier {
    type Err = String;

    fn from_str(text: &str) -> Result<Tier, String> {
        let tiers = [Tier::Raw, Tier::FiveMinutes, Tier::OneHour];
        let found = tiers.into_iter().find(|tier| tier.as_str() == text);
        found.ok_or_else(|| format!("unknown tier {text:?}: expected raw, 5m or 1h"))
    }
}

/// What the reader will do with the samples, so that an engine may prepare only what is needed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SelectHint {
    /// The function around the selector, if any.
    pub function: Option<&'static str>,
    /// Step of the query's grid; 0 for an instant.
    pub step_ms: i64,
    /// Range of the selector; 0 for an instant selector.
    pub range_ms: i64,
}

/// Which series and which window.
#[derive(Debug, Clone, PartialEq)]
pub struct Selector {
    /// All must hold. None at all selects every series.
    pub matchers: Vec<Matcher>,
    /// Window start, exclusive.
    pub start_ms: i64,
    /// Window end, inclusive.
    pub end_ms: i64,
    /// What the samples are for.
    pub hint: SelectHint,
    /// The tier asked for. `None` lets the engine choose: samples as written, and where those were retired, the finest
    /// rollups there are.
    pub tier: Option<Tier>,
}

impl Selector {
    /// Matchers and window without hints.
    #[must_use]
    pub fn new(matchers: Vec<Matcher>, start_ms: i64, end_ms: i64) -> Selector {
        Selector { matchers, start_ms, end_ms, hint: SelectHint::default(), tier: None }
    }

    /// Every series, all time.
    #[must_use]
    pub fn everything() -> Selector {
        Selector::new(Vec::new(), i64::MIN, i64::MAX)
    }

    /// Whether a label set satisfies every matcher.
    #[must_use]
    pub fn matches(&self, labels: LabelsRef<'_>) -> bool {
        self.matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or_default()))
    }

    /// Whether a sample time lies in the window.
    #[must_use]
    pub fn covers(&self, time_ms: i64) -> bool {
        time_ms > self.start_ms && time_ms <= self.end_ms
    }
}

/// What a delete is about: samples and exemplars of matching series in a range of time.
///
/// It hides what was written before it; what is written later stays, whatever its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Deletion {
    /// A series matches if all matchers of any one of these lists hold.
    pub any_of: Vec<Vec<Matcher>>,
    /// First time, inclusive.
    pub start_ms: i64,
    /// Last time, inclusive.
    pub end_ms: i64,
}

impl Deletion {
    /// Everything that was ever written to series for which all `matchers` hold.
    #[must_use]
    pub fn of(matchers: Vec<Matcher>) -> Deletion {
        Deletion { any_of: vec![matchers], start_ms: i64::MIN, end_ms: i64::MAX }
    }

    /// Whether it is about a series.
    #[must_use]
    pub fn matches(&self, labels: LabelsRef<'_>) -> bool {
        let holds = |m: &Matcher| m.matches(labels.get(m.name()).unwrap_or_default());
        self.any_of.iter().any(|all| all.iter().all(holds))
    }

    /// Whether it is about a time.
    #[must_use]
    pub fn covers(&self, time_ms: i64) -> bool {
        self.start_ms <= time_ms && time_ms <= self.end_ms
    }
}

/// A flag that tells running work to stop. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Asks the work to stop.
    pub fn cancel(&self) {
        // Relaxed: the flag publishes nothing, and a reader may be late.
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Under which limits a query runs.
#[derive(Clone)]
pub struct QueryContext {
    /// When to give up, on the clock's monotonic time; `None` for never.
    pub deadline: Option<Duration>,
    /// Whether the caller still wants the answer.
    pub cancel: CancelFlag,
    /// Memory for this query.
    pub budget: Budget,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl QueryContext {
    /// No limits at all; for tests and programs of one's own.
    #[must_use]
    pub fn unlimited() -> QueryContext {
        QueryContext {
            deadline: None,
            cancel: CancelFlag::default(),
            budget: Budget::unlimited(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Fails when the query should stop. Cheap enough for every series; for inner loops call it now and then.
    ///
    /// # Errors
    /// [`SelectError::Cancelled`] or [`SelectError::Timeout`].
    pub fn check(&self) -> Result<(), SelectError> {
        if self.cancel.is_cancelled() {
            return Err(SelectError::Cancelled);
        }
        match self.deadline {
            Some(deadline) if self.clock.monotonic() >= deadline => Err(SelectError::Timeout),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for QueryContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryContext")
            .field("deadline", &self.deadline)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// Why samples could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The query's memory is used up.
    #[error(transparent)]
    Budget(#[from] BudgetExceeded),
    /// The deadline passed.
    #[error("the deadline passed while reading samples")]
    Timeout,
    /// The caller went away.
    #[error("the query was cancelled")]
    Cancelled,
    /// A stored piece is damaged; the text names file and offset.
    #[error("{place}: {what}")]
    Damaged {
        /// File and offset.
        place: String,
        /// What is wrong there.
        what: String,
    },
    /// The disk failed.
    #[error("{place}: cannot read")]
    Read {
        /// File and offset.
        place: String,
        /// What the disk said.
        source: std::io::Error,
    },
}

impl SelectError {
    /// What a surface makes of it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            SelectError::Budget(_) => ErrorKind::Limit,
            SelectError::Timeout => ErrorKind::Timeout,
            SelectError::Cancelled => ErrorKind::Cancelled,
            SelectError::Damaged { .. } | SelectError::Read { .. } => ErrorKind::Internal,
        }
    }
}

/// A snapshot of matching series, sorted by labels. Owns what it needs, its memory reservation included.
pub trait SeriesSet: Send + Sync {
    /// Number of series. A series in the set may turn out to have no sample in the window.
    fn len(&self) -> usize;

    /// Whether nothing matched.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Labels of series `index`; rising with the index.
    fn labels(&self, index: usize) -> Labels;

    /// About how many samples [`read`](Self::read) will give, never less by more than half.
    fn estimate(&self, index: usize) -> usize;

    /// About how many bytes those samples take where they are stored; 16 a sample unless the engine knows.
    fn estimate_bytes(&self, index: usize) -> u64 {
        self.estimate(index) as u64 * 16
    }

    /// About how many different columns of times its series have, for who keeps something of each; `None` where that is
    /// not known without reading them. O(n).
    fn distinct_times(&self) -> Option<usize> {
        None
    }

    /// The coarsest resolution that answers.
    fn tier(&self) -> Tier {
        Tier::Raw
    }

    /// The engine's version the snapshot was taken at.
    fn version(&self) -> u64;

    /// Series of the set that are sums of what several writers told, if the engine knows any.
    fn shared(&self) -> Option<SharedSeries> {
        None
    }

    /// Replaces `columns` by the samples of series `index` in the window. Rows of rollups lie where the last sample of
    /// their bucket does, and reach one bucket further back than the window.
    ///
    /// # Errors
    /// [`SelectError`]; `columns` is then unspecified.
    fn read(&self, index: usize, columns: &mut Columns) -> Result<(), SelectError>;
}

/// Series that several writers count in, or that a writer left gaps or overlaps in: their labels do not tell the writers
/// apart, so each is kept by itself, and the series is their sum. See [`increments`](crate::increments).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SharedSeries {
    /// How many series have several writers.
    pub series: usize,
    /// Most writers of one of them.
    pub writers: usize,
    /// Times between what writers told that nobody told of, in all series; of those that are remembered.
    pub gaps: usize,
    /// Increments refused because they overlapped what their writer told before, in all series; lately, as
    /// [`SeriesTotals::overlaps`] has it.
    pub overlaps: u64,
}

impl SharedSeries {
    /// With one series more; one writer without gaps and overlaps is nothing to tell of.
    #[must_use]
    pub fn with(shared: Option<SharedSeries>, totals: &SeriesTotals) -> Option<SharedSeries> {
        let (writers, gaps, overlaps) = (totals.independent_writers(), totals.gaps(), totals.overlaps());
        if writers < 2 && gaps == 0 && overlaps == 0 {
            return shared;
        }
        let mut shared = shared.unwrap_or_default();
        if writers >= 2 {
            shared.series += 1;
            shared.writers = shared.writers.max(writers);
        }
        shared.gaps += gaps;
        shared.overlaps = shared.overlaps.saturating_add(overlaps);
        Some(shared)
    }
}

/// What changed since a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// Only samples in these time ranges (both ends inclusive, merged, rising) of matching series.
    Ranges(Vec<(i64, i64)>),
    /// Anything may have.
    Unknown,
}

/// Facts on an engine's size.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct StorageStatistics {
    /// Series that can take samples by ref now.
    pub active_series: u64,
    /// Samples held in memory.
    pub head_samples: u64,
    /// Bytes of memory reserved for the head.
    pub head_bytes: u64,
    /// Block files.
    pub blocks: u64,
    /// Samples in block files; a sample in two parts counts twice until they are merged.
    pub block_samples: u64,
    /// Bytes of block files.
    pub block_bytes: u64,
    /// Bytes of the write-ahead log, the segment in use included.
    pub log_bytes: u64,
    /// Oldest sample, milliseconds.
    pub min_time_ms: Option<i64>,
    /// Newest sample, milliseconds.
    pub max_time_ms: Option<i64>,
    /// Pieces of stored data found damaged and set aside.
    pub quarantined: u64,
}
