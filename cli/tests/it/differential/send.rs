//! The data as remote write 1.0, sent in slices of time.

use super::data::{Histogram as Made, LENGTH_MS, Point, STALE, START_MS, Series};
use crate::remote_write::{BucketSpan, Histogram, Label, Request, Sample, TimeSeries};

/// Time in one request: Prometheus takes nothing that is an hour older than the newest sample.
const SLICE_MS: i64 = 5 * 60_000;

/// Writes everything to a server, oldest first. Returns the number of samples.
///
/// The reference reads series in the order in which it met them, and that decides between equals. So every series
/// is announced in the order of labels, by a staleness marker before its data.
pub(super) fn send(port: u16, series: &[Series]) -> usize {
    let marker = |series: &Series| TimeSeries {
        labels: labels(series),
        samples: vec![Sample { value: f64::from_bits(STALE), timestamp: START_MS - 1 }],
        ..TimeSeries::default()
    };
    write(port, series.iter().map(marker).collect());
    let mut sent = 0;
    let mut start = START_MS;
    while start <= START_MS + LENGTH_MS {
        let end = start + SLICE_MS;
        // Of a request the reference takes all floats of a series before its histograms, so that a series which turns
        // from one to the other goes on in the next request.
        let mut rest: Vec<_> = series.iter().map(|series| time_series(series, start, end).into_iter()).collect();
        loop {
            let next: Vec<TimeSeries> = rest.iter_mut().filter_map(Iterator::next).collect();
            if next.is_empty() {
                break;
            }
            sent += write(port, next);
        }
        start = end;
    }
    sent
}

/// Sends one request; the number of samples in it.
fn write(port: u16, timeseries: Vec<TimeSeries>) -> usize {
    let count = timeseries.iter().map(|one| one.samples.len() + one.histograms.len()).sum();
    let answer = Request::of(timeseries).send(port);
    assert!(answer.status / 100 == 2, "port {port}: {answer:?}");
    count
}

fn labels(series: &Series) -> Vec<Label> {
    series.labels.iter().map(|(name, value)| Label { name: name.clone(), value: value.clone() }).collect()
}

/// One entry per run of floats or histograms.
fn time_series(series: &Series, start: i64, end: i64) -> Vec<TimeSeries> {
    let mut out: Vec<TimeSeries> = Vec::new();
    for &(timestamp, ref point) in series.points.iter().filter(|(time, _)| (start..end).contains(time)) {
        let float = matches!(point, Point::Float(_));
        if out.last().is_none_or(|entry| entry.samples.is_empty() == float) {
            out.push(TimeSeries { labels: labels(series), ..TimeSeries::default() });
        }
        let Some(entry) = out.last_mut() else { continue };
        match point {
            Point::Float(value) => entry.samples.push(Sample { value: *value, timestamp }),
            Point::Histogram(made) => entry.histograms.push(histogram(made, timestamp)),
        }
    }
    out
}

fn histogram(made: &Made, timestamp: i64) -> Histogram {
    let (positive_spans, positive) = buckets(made.positive.iter());
    let (negative_spans, negative) = buckets(made.negative.iter());
    let mut out = Histogram {
        sum: made.sum,
        schema: made.schema,
        zero_threshold: made.zero_threshold,
        positive_spans,
        negative_spans,
        reset_hint: if made.gauge { 3 } else { 0 },
        timestamp,
        custom_values: made.bounds.clone(),
        ..Histogram::default()
    };
    if made.float {
        // Halves: no integer histogram has them.
        let half = |count: &u64| *count as f64 / 2.0;
        out.count_float = Some(half(&made.count()));
        out.zero_count_float = Some(half(&made.zero));
        out.positive_counts = positive.iter().map(half).collect();
        out.negative_counts = negative.iter().map(half).collect();
    } else {
        out.count_int = Some(made.count());
        out.zero_count_int = Some(made.zero);
        out.positive_deltas = deltas(&positive);
        out.negative_deltas = deltas(&negative);
    }
    out
}

/// Runs of neighbours, and the counts in them.
fn buckets<'a>(buckets: impl Iterator<Item = (&'a i32, &'a u64)>) -> (Vec<BucketSpan>, Vec<u64>) {
    let (mut spans, mut counts): (Vec<BucketSpan>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut next = 0;
    for (&index, &count) in buckets {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => spans.push(BucketSpan { offset: index - next, length: 1 }),
        }
        next = index + 1;
        counts.push(count);
    }
    (spans, counts)
}

fn deltas(counts: &[u64]) -> Vec<i64> {
    let mut before = 0;
    counts.iter().map(|&count| (count as i64) - std::mem::replace(&mut before, count as i64)).collect()
}
