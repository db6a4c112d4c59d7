//! What one request adds to a subject, and the rows it becomes.

use std::sync::Arc;

use kymo_core::batch::{AddedValue, FamilyType, Increment, Metadata, PushSeries};
use kymo_core::histogram::{BucketCounts, HistogramCounts, ResetHint, exponential_index};
use kymo_core::labels::LabelsBuilder;
use kymo_core::{Exemplar, NativeHistogram, SampleBatch};

use super::super::histogram::{ZERO_THRESHOLD, spans};
use super::gather::Ids;
use super::subject::{SERIES, Subject};

/// Resolution of durations: neighbouring bounds differ by 9 %, as Prometheus' clients have it by default.
const SCHEMA: i8 = 3;

/// One span, for an exemplar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observed {
    pub(super) ids: Ids,
    pub(super) duration_ns: u64,
    pub(super) end_ms: i64,
    pub(super) is_error: bool,
}

impl Observed {
    fn seconds(&self) -> f64 {
        seconds(u128::from(self.duration_ns))
    }

    fn exemplar(&self) -> Exemplar {
        let mut labels = LabelsBuilder::new();
        labels.set("trace_id", &hex(&self.ids.trace)).set("span_id", &hex(&self.ids.span));
        Exemplar { labels: labels.labels(), value: self.seconds(), time_ms: self.end_ms }
    }
}

pub(super) fn seconds(nanos: u128) -> f64 {
    nanos as f64 / 1e9
}

fn hex(id: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    id.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The spans of one subject in one request.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Its place.
    pub(super) subject: u32,
    pub(super) requests: u64,
    errors: u64,
    zero: u64,
    nanos: u128,
    /// Bucket and count, by rising bucket.
    buckets: Vec<(i32, u64)>,
    slowest: Option<Observed>,
    /// The slowest of those that failed.
    failed: Option<Observed>,
}

impl Tally {
    /// Begins anew for another subject; keeps the buffer.
    pub(super) fn begin(&mut self, subject: u32) {
        let mut buckets = std::mem::take(&mut self.buckets);
        buckets.clear();
        *self = Tally { subject, buckets, ..Tally::default() };
    }

    pub(super) fn add(&mut self, observed: Observed) {
        self.requests += 1;
        self.nanos += u128::from(observed.duration_ns);
        if observed.duration_ns == 0 {
            self.zero += 1;
        } else {
            let bucket = exponential_index(observed.seconds(), SCHEMA);
            match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
                Ok(at) => self.buckets[at].1 += 1,
                Err(at) => self.buckets.insert(at, (bucket, 1)),
            }
        }
        let is_slower = |than: Option<Observed>| than.is_none_or(|than| observed.duration_ns > than.duration_ns);
        if observed.is_error {
            self.errors += 1;
            if is_slower(self.failed) {
                self.failed = Some(observed);
            }
        }
        if is_slower(self.slowest) {
            self.slowest = Some(observed);
        }
    }

    fn histogram(&self) -> NativeHistogram {
        let numbered = self.buckets.iter().map(|(bucket, count)| (i64::from(*bucket), *count));
        let (positive_spans, positive) = spans(numbered).expect("buckets of durations are few and small");
        NativeHistogram {
            schema: SCHEMA,
            hint: ResetHint::Unknown,
            zero_threshold: ZERO_THRESHOLD,
            counts: HistogramCounts::Integer(BucketCounts {
                zero: self.zero,
                count: self.requests,
                positive,
                negative: Vec::new(),
            }),
            sum: seconds(self.nanos),
            positive_spans,
            negative_spans: Vec::new(),
            custom_values: Arc::from([]),
        }
    }
}

/// When a request's increments count: who counts, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) writer: u64,
    pub(super) end_ms: i64,
}

/// Makes rows of tallies.
pub(super) struct Rows<'b> {
    pub(super) batch: &'b mut SampleBatch,
    pub(super) builder: &'b mut LabelsBuilder,
    pub(super) moment: Moment,
}

impl Rows<'_> {
    /// Adds the rows of a tally; only those that `wanted` names, and then with labels, if it is given.
    pub(super) fn push(&mut self, tally: &Tally, subject: &Subject, wanted: Option<[bool; SERIES]>) {
        let Moment { writer, end_ms } = self.moment;
        for number in 0..SERIES {
            if wanted.is_some_and(|wanted| !wanted[number]) {
                continue;
            }
            let series: PushSeries<'static> = match subject.refs[number].filter(|_| wanted.is_none()) {
                Some(series) => PushSeries::Ref(series),
                None => PushSeries::Kept(self.batch.keep(subject.labels(number, self.builder))),
            };
            let value = match number {
                0 => AddedValue::Float(tally.requests as f64),
                // Also where it is 0, so that a ratio of errors has its numerator from the beginning.
                1 => AddedValue::Float(tally.errors as f64),
                _ => AddedValue::Histogram(tally.histogram()),
            };
            self.batch.push_increment(series, Increment { writer, start_ms: end_ms - 1, end_ms, value });
            self.batch.set_start(end_ms - 1);
            if number + 1 == SERIES {
                let failed =
                    tally.failed.filter(|failed| tally.slowest.is_none_or(|slowest| slowest.ids != failed.ids));
                for observed in tally.slowest.into_iter().chain(failed) {
                    self.batch.push_exemplar(series, observed.exemplar());
                }
            }
        }
    }
}

/// Type, unit and help of the families.
pub(super) fn declare(batch: &mut SampleBatch) {
    let counter = FamilyType::Counter;
    for (family, family_type, unit, help) in [
        ("kymo_service_requests_total", counter, "", "Spans of an operation of a service, by kind."),
        ("kymo_service_errors_total", counter, "", "Spans of an operation that failed."),
        ("kymo_service_duration_seconds", FamilyType::Histogram, "seconds", "Durations of spans of an operation."),
        ("kymo_service_edge_requests_total", counter, "", "Calls of one service by another."),
        ("kymo_service_edge_errors_total", counter, "", "Calls that failed, as the caller sees it."),
        (
            "kymo_service_edge_duration_seconds",
            FamilyType::Histogram,
            "seconds",
            "Durations of calls, as the caller sees them.",
        ),
    ] {
        batch.push_metadata(family, Metadata { family_type, unit: unit.to_owned(), help: help.to_owned() });
    }
}
