//! From OpenTelemetry's model to rows of a batch: what listens to a request ([`Visit`](super::visit::Visit)).
//!
//! | OTLP | becomes |
//! |---|---|
//! | gauge, non-monotonic sum | `name` |
//! | monotonic sum | `name_total` |
//! | histogram | `name_bucket{le}`, `name_sum`, `name_count`, or one native histogram with custom buckets |
//! | exponential histogram | a native histogram `name` |
//! | summary | `name{quantile}`, `name_sum`, `name_count` |
//! | resource | `target_info` at the times of its points |
//!
//! What a metric's points count is written in one of three [`Mode`]s. A cumulative point is a sample; where its labels do
//! not say which process counted (no `service.instance.id`, or scopes that are no labels) it is its writer's
//! [`Total`], which the engine adds up with those of others; a delta point is an [`Increment`]. The writer is the stream
//! as its sender sees it ([`writer`](super::writer)).
//!
//! A point flagged as without a value becomes staleness markers of its series. Every row knows its point, so that the
//! refusals of an engine are counted in points.
//!
//! **Known series.** The first series of a point is looked up by the number of its metric ([`Known`]) and the bytes of its
//! attributes; the others of the same point by the ref of the first and what sets them apart. Names and labels are only
//! made of what is not found; [`Translation::learn`] then remembers the refs that the engine gave. The rows of a request
//! are the same ones in the same order, whatever was known: so a second walk in which nothing is known gives labels to
//! those rows whose refs the engine has forgotten ([`Translation::again`]).

mod listen;

use std::cell::Cell;
use std::collections::HashSet;

use kymo_core::batch::{AddedValue, FamilyType, Increment, Metadata, PushSeries, Total};
use kymo_core::histogram::stale_nan;
use kymo_core::storage::{AppendReport, RejectReason};
use kymo_core::text::write_float_plain;
use kymo_core::{Budget, BudgetExceeded, NativeHistogram, SampleBatch, SeriesRef};
use prost::Message;

use super::config::OtlpConfig;
use super::error::{ExportError, Reason};
use super::exemplar;
use super::known::{Facts, Known};
use super::labels::SeriesLabels;
use super::memory::{Layout, Meter};
use super::message::{CUMULATIVE, DELTA, Exemplar, KeyValue, NO_RECORDED_VALUE, Resource, Scope};
use super::name::{NameKind, Unnameable, metric_name};
use super::outcome::Outcome;
use super::visit::{Data, NumberPoint};
use super::writer::Stream;
use crate::ProtoError;
use crate::proto::Cursor;
use crate::series_cache::{SESSION_SERIES, SeriesCache, Session, Slot};

/// Bytes of a row in its batch beside labels and histogram, with what is kept about it here.
const ROW_BYTES: usize = 80;
/// Between two samples of `target_info` there are points no further apart than this: half of PromQL's lookback, so that
/// a join finds it wherever it finds a point.
const TARGET_INFO_STEP_MS: i64 = 150_000;
/// Stands for the point of rows that belong to none.
const NO_POINT: u32 = u32::MAX;
/// First bytes of keys: of a point's first series, of its others, and of `target_info`.
const MAIN: u8 = 0;
const SUB: u8 = 1;
const TARGET: u8 = 2;
/// The same in [`Known`].
const RESOURCE: u8 = 0;
const SCOPE: u8 = 1;
const METRIC: u8 = 2;
/// Bytes of the keys of a point's first series before its attributes.
const MAIN_PREFIX: usize = 9;
/// Rows of a request whose buffers are kept for the next.
const KEPT_ROWS_MAX: usize = 1 << 17;

/// Buffers of a request, used again for the next.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) batch: SampleBatch,
    /// The point each row belongs to.
    row_points: Vec<u32>,
    /// First point of each metric, and where its name ends in `names`.
    metrics: Vec<(u32, usize)>,
    names: String,
    /// Times of accepted points of the current resource.
    times: Vec<i64>,
    /// Targets that have one, by the number of their resource's stream and the time.
    target_infos: HashSet<(u64, i64)>,
    /// Rows whose series are to be remembered, by rising number, and the keys of some of them.
    learn: Vec<Learn>,
    keys: Vec<u8>,
    key: Vec<u8>,
    resource: Vec<u8>,
    scope: Vec<u8>,
    schema_url: String,
    family: String,
    /// Series of the buckets of the point at hand, for its exemplars.
    buckets: Vec<(f64, PushSeries<'static>)>,
}

impl Buffers {
    /// Forgets everything; whether it is worth keeping.
    pub(super) fn clear(&mut self) -> bool {
        let is_small = self.batch.len() <= KEPT_ROWS_MAX && self.keys.capacity() <= KEPT_ROWS_MAX * 8;
        self.batch.clear();
        self.row_points.clear();
        self.metrics.clear();
        self.names.clear();
        self.times.clear();
        self.target_infos.clear();
        self.learn.clear();
        self.keys.clear();
        is_small
    }
}

/// A row whose series has no ref yet.
#[derive(Debug, Clone, Copy)]
struct Learn {
    row: usize,
    key: Key,
}

#[derive(Debug, Clone, Copy)]
enum Key {
    /// It stands in the buffer.
    Bytes { start: usize, end: usize },
    /// Of the point's first series, and of what sets this one apart.
    Sub { first: First, which: Which, bits: u64 },
}

/// The first series of a point.
#[derive(Debug, Clone, Copy)]
enum First {
    Ref(SeriesRef),
    /// It comes with labels, in this row.
    Row(usize),
}

/// Which of a point's series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Which {
    Sum = 0,
    Bucket = 1,
    Quantile = 2,
    Min = 3,
    Max = 4,
}

/// The attributes of a point, as sent.
#[derive(Debug, Clone, Copy)]
struct Attributes<'p> {
    fields: &'p [u8],
    number: u32,
}

/// How the values of a metric are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// As samples.
    Sample,
    /// As what was added since the last report of the same writer.
    Increment,
    /// As totals of one of several writers.
    Total,
}

/// The metric at hand.
struct Current {
    facts: Facts,
    /// Whether its name and metadata reached the engine before.
    is_known: bool,
    mode: Mode,
    data: Data,
    /// Why none of its points can be stored.
    refusal: Option<Reason>,
    first_point: u32,
    kind: NameKind,
    unit: String,
    description: String,
    /// In [`Known`], where it is not there yet.
    key: Vec<u8>,
}

/// Rows that an engine did not know the refs of.
struct Wanted<'r> {
    rows: &'r [usize],
    exemplars: &'r [usize],
}

/// The rows of one request in the making.
pub(super) struct Translation<'c> {
    config: &'c OtlpConfig,
    known: &'c Known,
    series: &'c SeriesCache,
    /// `None` when nothing is to be looked up.
    session: Option<Session<'c>>,
    /// Look-ups left until the session's lock is given back for a moment.
    session_left: usize,
    /// What was said to be expected.
    expected: Cell<Slot>,
    labels: SeriesLabels<'c>,
    is_resource_read: bool,
    is_scope_read: bool,
    is_point_read: bool,
    pub(super) buffers: Buffers,
    resource: Facts,
    scope: Facts,
    metric: Current,
    /// Points that have rows.
    points: u32,
    rows: usize,
    exemplars: usize,
    wanted: Option<Wanted<'c>>,
    metadata: HashSet<(String, Metadata)>,
    /// Keys of metrics to be known once the engine has them.
    new_metrics: Vec<(Box<[u8]>, Facts)>,
    outcome: Outcome,
    meter: Meter,
    stream: Stream,
}

/// A point's times in milliseconds; a start of 0 is unset.
#[derive(Clone, Copy)]
struct Times {
    time_ms: i64,
    start_ms: i64,
    /// As sent.
    start_ns: u64,
    is_backwards: bool,
}

impl Times {
    fn of(start_ns: u64, time_ns: u64) -> Result<Times, Reason> {
        if time_ns == 0 {
            return Err(Reason::MissingTime);
        }
        // A start behind the point's own time says nothing.
        let start_ms = if start_ns <= time_ns { millis(start_ns) } else { 0 };
        Ok(Times { time_ms: millis(time_ns), start_ms, start_ns, is_backwards: start_ns > time_ns })
    }
}

pub(super) fn millis(unix_nano: u64) -> i64 {
    (unix_nano / 1_000_000) as i64
}

/// Why a point has no rows: it alone is refused, or the whole request.
enum Stop {
    Point(Reason),
    Request(ExportError),
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Stop {
        Stop::Point(reason)
    }
}

impl From<ExportError> for Stop {
    fn from(error: ExportError) -> Stop {
        Stop::Request(error)
    }
}

impl From<ProtoError> for Stop {
    fn from(source: ProtoError) -> Stop {
        Stop::Request(source.into())
    }
}

impl From<prost::DecodeError> for Stop {
    fn from(source: prost::DecodeError) -> Stop {
        Stop::Request(source.into())
    }
}

impl From<BudgetExceeded> for Stop {
    fn from(source: BudgetExceeded) -> Stop {
        Stop::Request(source.into())
    }
}

impl<'c> Translation<'c> {
    pub(super) fn new(
        config: &'c OtlpConfig,
        (known, series): (&'c Known, &'c SeriesCache),
        buffers: Buffers,
        budget: &Budget,
        unfolded_bytes_max: usize,
    ) -> Result<Translation<'c>, BudgetExceeded> {
        Ok(Translation {
            config,
            known,
            series,
            session: Some(series.session(Slot::NONE)),
            session_left: SESSION_SERIES,
            expected: Cell::new(Slot::NONE),
            labels: SeriesLabels::new(config),
            is_resource_read: false,
            is_scope_read: false,
            is_point_read: false,
            buffers,
            resource: Facts::default(),
            scope: Facts::default(),
            metric: Current {
                facts: Facts::default(),
                is_known: false,
                mode: Mode::Sample,
                data: Data::Unknown,
                refusal: None,
                first_point: 0,
                kind: NameKind::Other,
                unit: String::new(),
                description: String::new(),
                key: Vec::new(),
            },
            points: 0,
            rows: 0,
            exemplars: 0,
            wanted: None,
            metadata: HashSet::new(),
            new_metrics: Vec::new(),
            outcome: Outcome::default(),
            meter: Meter::new(budget, unfolded_bytes_max)?,
            stream: Stream::default(),
        })
    }

    /// One for a second walk over the same request, in which only these rows and exemplars are made, with labels.
    pub(super) fn again(
        config: &'c OtlpConfig,
        caches: (&'c Known, &'c SeriesCache),
        budget: &Budget,
        rows: &'c [usize],
        exemplars: &'c [usize],
    ) -> Result<Translation<'c>, BudgetExceeded> {
        let first = Translation::new(config, caches, Buffers::default(), budget, usize::MAX)?;
        Ok(Translation { session: None, wanted: Some(Wanted { rows, exemplars }), ..first })
    }

    /// Gives the lock of the cache back; nothing is looked up from here on.
    pub(super) fn end(&mut self) {
        self.session = None;
    }

    /// Remembers the refs of series that came with labels, and metrics whose metadata the engine has now.
    pub(super) fn learn(&mut self, new_refs: &[(usize, SeriesRef)]) {
        let Buffers { learn, keys, key, .. } = &mut self.buffers;
        let mut wanted = learn.iter().peekable();
        let mut first: Option<(usize, SeriesRef)> = None;
        for some in new_refs.chunks(SESSION_SERIES) {
            let mut learning = self.series.learning();
            for &(row, series) in some {
                while wanted.next_if(|learn| learn.row < row).is_some() {}
                let Some(learn) = wanted.next_if(|learn| learn.row == row) else { continue };
                match learn.key {
                    Key::Bytes { start, end } => {
                        first = Some((row, series));
                        learning.put(&keys[start..end], series, Slot::NONE);
                    }
                    Key::Sub { first: of, which, bits } => {
                        let of = match of {
                            First::Ref(series) => Some(series),
                            First::Row(row) => first.filter(|(first, _)| *first == row).map(|(_, series)| series),
                        };
                        if let Some(of) = of {
                            sub_key(key, of, which, bits);
                            learning.put(key, series, Slot::NONE);
                        }
                    }
                }
            }
        }
        for (key, facts) in self.new_metrics.drain(..) {
            self.known.put(&key, facts);
        }
    }

    /// What became of the points, now that the engine has answered for the batch.
    pub(super) fn finish(&mut self, report: &AppendReport) -> Outcome {
        let mut outcome = std::mem::take(&mut self.outcome);
        let Buffers { row_points, metrics, names, .. } = &self.buffers;
        let mut refused = 0;
        let mut last = NO_POINT;
        // Rows of a point are neighbours, and the report is in row order.
        for &(row, reason) in &report.rejected {
            let point = row_points[row];
            if point != NO_POINT && point != last {
                last = point;
                refused += 1;
                let after = metrics.partition_point(|(first, _)| *first <= point);
                let start = after.checked_sub(2).map_or(0, |before| metrics[before].1);
                let name = after.checked_sub(1).map_or("", |at| &names[start..metrics[at].1]);
                outcome.refuse(Reason::Row(reason), 1, name);
            }
        }
        outcome.exemplars_refused += report.rejected_exemplars.len() as u64;
        outcome.written = u64::from(self.points) - refused;
        // An engine counts rows. Where the rows of a request are partly new and partly not, and points have several, its
        // points are divided as its rows are; their sum is exact.
        let rows = [report.stored, report.identical, report.replaced].map(|counts| u128::from(counts.samples()));
        let all: u128 = rows.iter().sum();
        let share = |rows: u128| (u128::from(outcome.written) * rows).checked_div(all).unwrap_or(0) as u64;
        (outcome.identical, outcome.replaced) = (share(rows[1]), share(rows[2]));
        outcome.told_before = report.identical.increments;
        outcome.gaps = report.gaps;
        outcome
    }

    /// Chooses the mode of a metric that counts; only one that says since when passes.
    fn mode(&self, data: Data) -> Result<Mode, Reason> {
        let (temporality, rises) = match data {
            Data::Gauge | Data::Summary | Data::Unknown => return Ok(Mode::Sample),
            Data::Sum { temporality, is_monotonic } => (temporality, is_monotonic),
            Data::Histogram { temporality } | Data::Exponential { temporality } => (temporality, true),
        };
        // Whether the labels say which process and which scope counted.
        let tells_apart = self.resource.has_instance && self.config.promote_scope_metadata;
        match temporality {
            DELTA => Ok(Mode::Increment),
            CUMULATIVE if rises && !tells_apart => Ok(Mode::Total),
            CUMULATIVE => Ok(Mode::Sample),
            _ => Err(Reason::UnspecifiedTemporality),
        }
    }

    /// Adds the rows of a point, or counts it as refused. `Err` means the request is too large.
    #[inline]
    fn point(&mut self, one: impl FnOnce(&mut Self) -> Result<i64, Stop>) -> Result<(), ExportError> {
        self.is_point_read = false;
        let made = match self.metric.refusal {
            Some(reason) => Err(reason.into()),
            None => one(self),
        };
        match made {
            Ok(time_ms) => {
                self.points += 1;
                let times = &mut self.buffers.times;
                if times.last() != Some(&time_ms) {
                    times.push(time_ms);
                }
                Ok(())
            }
            Err(Stop::Point(reason)) => {
                let Buffers { names, metrics, .. } = &self.buffers;
                let start = metrics.len().checked_sub(2).map_or(0, |before| metrics[before].1);
                self.outcome.refuse(reason, 1, &names[start..]);
                Ok(())
            }
            Err(Stop::Request(error)) => Err(error),
        }
    }

    /// Adds a number that stands where it stood in the last request: a sample of a known series, which nearly all are. `false` if it
    /// is anything else. What it does is what `number` does of such a point, without asking for each thing
    /// that it is not.
    #[inline]
    fn known_sample(&mut self, point: &NumberPoint<'_>) -> Result<bool, ExportError> {
        let is_plain = point.is_expected && self.metric.mode == Mode::Sample && self.metric.refusal.is_none();
        let has_no_more = point.exemplars.is_empty() && point.flags & NO_RECORDED_VALUE == 0 && self.wanted.is_none();
        let (true, true, Some(value), Some(session)) = (is_plain, has_no_more, point.value, self.session.as_mut())
        else {
            return Ok(false);
        };
        let Ok(times) = Times::of(point.start_ns, point.time_ns) else { return Ok(false) };
        let Some(hit) = session.hit(self.expected.get()) else { return Ok(false) };
        self.count_look_up();
        self.meter.take(ROW_BYTES)?;
        let Buffers { batch, row_points, times: all, .. } = &mut self.buffers;
        batch.push_float(hit.series, times.time_ms, value);
        batch.set_start(times.start_ms);
        row_points.push(self.points);
        if all.last() != Some(&times.time_ms) {
            all.push(times.time_ms);
        }
        self.rows += 1;
        self.points += 1;
        Ok(true)
    }

    /// Refuses a point that cannot be added up before any of its rows are made.
    #[inline]
    fn addable(&self, times: &Times, value: Option<f64>) -> Result<(), Reason> {
        if self.metric.mode == Mode::Sample {
            return Ok(());
        }
        let is_sum = value.is_none_or(|value| value.is_finite() || value.to_bits() == stale_nan().to_bits());
        let ends_before_it_starts = self.metric.mode == Mode::Increment && times.is_backwards;
        match ends_before_it_starts || !is_sum {
            true => Err(Reason::Row(RejectReason::InvalidIncrement)),
            false => Ok(()),
        }
    }

    /// The first series of a point: found, or named by its labels.
    #[inline]
    fn first(
        &mut self,
        suffix: &str,
        attributes: Attributes<'_>,
        is_expected: bool,
    ) -> Result<(PushSeries<'static>, First), Stop> {
        if self.metric.mode != Mode::Sample {
            self.stream.set_point(attributes.fields, attributes.number)?;
        }
        if let Some(session) = self.session.as_mut().filter(|_| self.metric.is_known) {
            let expected = if is_expected { session.hit(self.expected.get()) } else { None };
            let hit = expected.or_else(|| {
                main_key(&mut self.buffers.key, self.metric.facts.number, attributes.fields);
                session.find(&self.buffers.key)
            });
            self.count_look_up();
            if let Some(hit) = hit {
                return Ok((PushSeries::Ref(hit.series), First::Ref(hit.series)));
            }
        }
        self.read_point(attributes)?;
        let series = self.labelled(suffix, None)?;
        if self.is_wanted() {
            let Buffers { keys, learn, key, batch, .. } = &mut self.buffers;
            main_key(key, self.metric.facts.number, attributes.fields);
            self.meter.take(2 * (key.len() + size_of::<Learn>()))?;
            let start = keys.len();
            keys.extend_from_slice(key);
            learn.push(Learn { row: batch.len(), key: Key::Bytes { start, end: keys.len() } });
        }
        Ok((series, First::Row(self.buffers.batch.len())))
    }

    /// Another series of the point.
    fn other(
        &mut self,
        first: First,
        (which, bits): (Which, u64),
        (suffix, label): (&str, Option<&str>),
        attributes: Attributes<'_>,
    ) -> Result<PushSeries<'static>, Stop> {
        if let (First::Ref(of), Some(session)) = (first, self.session.as_mut()) {
            let key = &mut self.buffers.key;
            sub_key(key, of, which, bits);
            let predicted = session.predicted().filter(|(_, predicted)| predicted == key).map(|(slot, _)| slot);
            let hit = predicted.and_then(|slot| session.hit(slot)).or_else(|| session.find(key));
            self.count_look_up();
            if let Some(hit) = hit {
                return Ok(PushSeries::Ref(hit.series));
            }
        }
        self.read_point(attributes)?;
        let series = match label {
            Some(label) => {
                let mut text = String::new();
                write_float_plain(&mut text, f64::from_bits(bits));
                self.labelled(suffix, Some((label, &text)))?
            }
            None => self.labelled(suffix, None)?,
        };
        if self.is_wanted() {
            self.meter.take(2 * size_of::<Learn>())?;
            let row = self.buffers.batch.len();
            self.buffers.learn.push(Learn { row, key: Key::Sub { first, which, bits } });
        }
        Ok(series)
    }

    /// Gives those who wait to write to the cache their turn now and then.
    #[inline]
    fn count_look_up(&mut self) {
        self.session_left -= 1;
        if self.session_left == 0 {
            // The old lock is given back before the new one is asked for.
            let last = self.session.take().map_or(Slot::NONE, Session::end);
            self.session = Some(self.series.session(last));
            self.session_left = SESSION_SERIES;
        }
    }

    /// Makes the labels of the point at hand.
    #[cold]
    fn read_point(&mut self, attributes: Attributes<'_>) -> Result<(), Stop> {
        if self.is_point_read {
            return Ok(());
        }
        if !self.is_resource_read {
            self.labels.set_resource(&Resource::decode(&self.buffers.resource[..])?);
            self.is_resource_read = true;
            self.is_scope_read = false;
        }
        if !self.is_scope_read {
            self.labels.set_scope(&Scope::decode(&self.buffers.scope[..])?, &self.buffers.schema_url);
            self.is_scope_read = true;
        }
        if self.buffers.family.is_empty() {
            // A known metric has new series; its name was found valid.
            let Buffers { names, metrics, .. } = &self.buffers;
            let start = metrics.len().checked_sub(2).map_or(0, |before| metrics[before].1);
            let Current { kind, unit, .. } = &self.metric;
            let name = metric_name(&names[start..], unit, *kind, self.config.translation_strategy);
            self.buffers.family = name.map_err(|Unnameable| Reason::InvalidName)?;
        }
        let mut pairs: Vec<KeyValue> = Vec::new();
        let mut weight = 0;
        let mut fields = Cursor::new(attributes.fields);
        while let Some(field) = fields.next()? {
            if field.number == attributes.number {
                let pair = field.span()?.of(attributes.fields);
                weight += self.meter.lend(Layout::KeyValue.weigh(pair)? + 2 * size_of::<KeyValue>() as u64)?;
                pairs.push(KeyValue::decode(pair)?);
            }
        }
        let set = self.labels.set_point(&pairs);
        drop(pairs);
        self.meter.take_back(weight);
        set?;
        self.is_point_read = true;
        Ok(())
    }

    fn labelled(&mut self, suffix: &str, label: Option<(&str, &str)>) -> Result<PushSeries<'static>, ExportError> {
        let family = &mut self.buffers.family;
        let len = family.len();
        family.push_str(suffix);
        let labels = self.labels.series(family, label);
        let kept = self.meter.take(labels.packed().len()).map(|()| self.buffers.batch.keep(labels));
        family.truncate(len);
        Ok(PushSeries::Kept(kept?))
    }

    /// Whether the next row is added.
    #[inline]
    fn is_wanted(&self) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.rows.binary_search(&self.rows).is_ok())
    }

    /// Adds a row, if it is one of those that are wanted; `push` adds it to the batch.
    #[inline]
    fn row(&mut self, point: u32, push: impl FnOnce(&mut SampleBatch)) -> Result<(), ExportError> {
        let is_wanted = self.is_wanted();
        self.rows += 1;
        if !is_wanted {
            return Ok(());
        }
        self.meter.take(ROW_BYTES)?;
        push(&mut self.buffers.batch);
        self.buffers.row_points.push(point);
        Ok(())
    }

    /// Adds a value in the metric's mode; a staleness marker is one in every mode.
    #[inline]
    fn counted(&mut self, series: PushSeries<'static>, times: Times, value: f64) -> Result<(), ExportError> {
        if self.metric.mode == Mode::Sample || value.to_bits() == stale_nan().to_bits() {
            return self.float(series, times, value);
        }
        self.added(series, times, AddedValue::Float(value))
    }

    #[inline]
    fn float(&mut self, series: PushSeries<'static>, times: Times, value: f64) -> Result<(), ExportError> {
        self.row(self.points, |batch| {
            batch.push_float(series, times.time_ms, value);
            batch.set_start(times.start_ms);
        })
    }

    fn added(&mut self, series: PushSeries<'static>, times: Times, value: AddedValue) -> Result<(), ExportError> {
        self.meter.take(size_of::<Increment>())?;
        let (mode, stream) = (self.metric.mode, self.stream);
        self.row(self.points, |batch| {
            let end_ms = times.time_ms;
            if mode == Mode::Increment {
                // Without a start nothing is known but the moment.
                let start_ms = if times.start_ms == 0 { end_ms } else { times.start_ms };
                batch.push_increment(series, Increment { writer: stream.writer(), start_ms, end_ms, value });
            } else {
                let (writer, start_ms) = (stream.writer_since(times.start_ns), times.start_ms);
                batch.push_total(series, end_ms, Total { writer, start_ms, value });
            }
            batch.set_start(times.start_ms);
        })
    }

    /// Adds a native histogram, or a staleness marker where there is none.
    fn native(
        &mut self,
        series: PushSeries<'static>,
        times: Times,
        value: Option<NativeHistogram>,
    ) -> Result<(), ExportError> {
        self.meter.take(value.as_ref().map_or(0, NativeHistogram::bytes))?;
        match value {
            Some(value) if self.metric.mode != Mode::Sample => self.added(series, times, AddedValue::Histogram(value)),
            value => self.row(self.points, |batch| {
                match value {
                    Some(value) => batch.push_histogram(series, times.time_ms, value),
                    None => batch.push_stale(series, times.time_ms),
                }
                batch.set_start(times.start_ms);
            }),
        }
    }

    fn min_max(
        &mut self,
        first: First,
        attributes: Attributes<'_>,
        values: [Option<f64>; 2],
        times: Times,
    ) -> Result<(), Stop> {
        for ((which, suffix), value) in [(Which::Min, "_min"), (Which::Max, "_max")].into_iter().zip(values) {
            if let Some(value) = value.filter(|_| self.config.keep_min_max) {
                let series = self.other(first, (which, 0), (suffix, None), attributes)?;
                self.float(series, Times { start_ms: 0, ..times }, value)?;
                if !self.metric.is_known {
                    let metadata = Metadata { family_type: FamilyType::Gauge, ..Metadata::default() };
                    self.add_metadata(format!("{}{suffix}", self.buffers.family), metadata)?;
                }
            }
        }
        Ok(())
    }

    /// Adds the exemplars among the fields; `series_of` says of which series each is.
    fn exemplars(
        &mut self,
        (fields, number): (&[u8], u32),
        times: Times,
        series_of: impl Fn(&Buffers, &Exemplar) -> Option<PushSeries<'static>>,
    ) -> Result<(), ExportError> {
        let body = fields;
        let mut fields = Cursor::new(body);
        while let Some(field) = fields.next()? {
            if field.number != number {
                continue;
            }
            let encoded = field.span()?.of(body);
            let weight = self.meter.lend(Layout::Exemplar.weigh(encoded)?)?;
            let sent = Exemplar::decode(encoded)?;
            let translated = exemplar::translate(&sent, times.time_ms, |key| self.labels.label_name(key));
            let series = series_of(&self.buffers, &sent);
            drop(sent);
            self.meter.take_back(weight);
            let (Some(series), Some(exemplar)) = (series, translated) else {
                self.outcome.exemplars_refused += 1;
                continue;
            };
            let at = self.exemplars;
            self.exemplars += 1;
            if self.wanted.as_ref().is_none_or(|wanted| wanted.exemplars.binary_search(&at).is_ok()) {
                self.meter.take(size_of_val(&exemplar) + exemplar.labels.as_ref().packed().len())?;
                self.buffers.batch.push_exemplar(series, exemplar);
            }
        }
        Ok(())
    }

    fn add_metadata(&mut self, family: String, metadata: Metadata) -> Result<(), ExportError> {
        if self.wanted.is_none() && !self.metadata.contains(&(family.clone(), metadata.clone())) {
            let text = family.len() + metadata.unit.len() + metadata.help.len();
            self.meter.take(2 * (size_of::<(String, Metadata)>() + text))?;
            self.buffers.batch.push_metadata(family.clone(), metadata.clone());
            self.metadata.insert((family, metadata));
        }
        Ok(())
    }

    /// The series `target_info` of the resource at hand; `None` if it has nothing to tell, or nobody to tell it of.
    fn target_info(&mut self) -> Result<Option<PushSeries<'static>>, ExportError> {
        if !self.resource.has_target {
            return Ok(None);
        }
        let key = &mut self.buffers.key;
        key.clear();
        key.push(TARGET);
        key.extend_from_slice(&self.resource.number.to_le_bytes());
        if let Some(hit) = self.session.as_mut().and_then(|session| session.find(&self.buffers.key)) {
            return Ok(Some(PushSeries::Ref(hit.series)));
        }
        let resource = Resource::decode(&self.buffers.resource[..])?;
        self.labels.set_resource(&resource);
        (self.is_resource_read, self.is_scope_read) = (true, false);
        let Some(labels) = self.labels.target_info(&resource) else { return Ok(None) };
        self.meter.take(labels.packed().len())?;
        let series = PushSeries::Kept(self.buffers.batch.keep(labels));
        let help = "Target metadata".to_owned();
        let metadata = Metadata { family_type: FamilyType::Info, unit: String::new(), help };
        self.add_metadata("target_info".to_owned(), metadata)?;
        Ok(Some(series))
    }
}

fn main_key(key: &mut Vec<u8>, metric: u64, attributes: &[u8]) {
    key.clear();
    key.push(MAIN);
    key.extend_from_slice(&metric.to_le_bytes());
    key.extend_from_slice(attributes);
}

fn sub_key(key: &mut Vec<u8>, first: SeriesRef, which: Which, bits: u64) {
    key.clear();
    key.extend_from_slice(&[SUB, which as u8]);
    key.extend_from_slice(&first.get().to_le_bytes());
    key.extend_from_slice(&bits.to_le_bytes());
}
