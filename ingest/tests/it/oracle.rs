//! What prost reads, the cursor reads: random requests of both versions, decoded both ways.

use std::collections::BTreeSet;

use kymo_core::histogram::{
    BucketCounts, BucketSpan, HistogramCounts, NativeHistogram, ResetHint, STALE_NAN_BITS, is_stale_nan,
};
use kymo_core::{FamilyType, Labels, Metadata, MetricStorage, QueryContext};
use kymo_ingest::remote_write::{Version, Written};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use crate::support::{self, Door, NOW_MS};
use crate::wire::{self, Count, Histogram, Symbols, ZeroCount, compress, v1, v2};

/// Label names and values.
type Pairs = Vec<(String, String)>;

/// A request that both versions can carry.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub is_v1: bool,
    series: Vec<Series>,
}

#[derive(Debug, Clone)]
struct Series {
    /// Sorted, unique, with a name.
    labels: Pairs,
    elements: Elements,
    exemplars: Vec<(Pairs, f64, i64)>,
    metadata: Option<(i32, String, String)>,
}

#[derive(Debug, Clone)]
enum Elements {
    /// Time, start, value.
    Floats(Vec<(i64, i64, f64)>),
    Histograms(Vec<Histogram>),
}

/// Without −0.0, which prost leaves out as if it were the default.
fn values() -> impl Strategy<Value = f64> {
    let values = prop_oneof![any::<f64>(), any::<u64>().prop_map(f64::from_bits), Just(f64::from_bits(STALE_NAN_BITS))];
    values.prop_map(|value| if value == 0.0 { 0.0 } else { value })
}

fn times() -> impl Strategy<Value = i64> {
    NOW_MS - 50..NOW_MS
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{1,2}", "\\PC{1,6}", Just("x".repeat(200))]
}

fn labels() -> impl Strategy<Value = Pairs> {
    let name = prop_oneof!["m[0-4]", "\\PC{1,6}"];
    (name, proptest::collection::btree_map(text(), text(), 0..5)).prop_map(|(name, mut labels)| {
        labels.insert("__name__".into(), name);
        labels.into_iter().collect()
    })
}

fn buckets() -> impl Strategy<Value = (Vec<wire::BucketSpan>, Vec<u32>)> {
    vec((0..5i32, vec(0u32..1_000, 0..4)), 0..3).prop_map(|runs| {
        let spans = runs.iter().map(|(offset, run)| wire::BucketSpan { offset: *offset, length: run.len() as u32 });
        (spans.collect(), runs.iter().flat_map(|(_, run)| run.clone()).collect())
    })
}

fn deltas(counts: &[u32]) -> Vec<i64> {
    let mut last = 0;
    counts.iter().map(|&n| i64::from(n) - std::mem::replace(&mut last, i64::from(n))).collect()
}

fn histograms() -> impl Strategy<Value = Histogram> {
    let common = (times(), prop_oneof![Just(0), times()], 0..6i32, prop_oneof![values(), Just(1.5)]);
    (common, -4..=8i32, 0u32..9, buckets(), buckets(), any::<bool>(), any::<bool>()).prop_map(
        |((timestamp, start_timestamp, reset_hint, sum), schema, zero, positive, negative, float, custom)| {
            let negative = if custom { (vec![], vec![]) } else { negative };
            let zero = if custom { 0 } else { zero };
            let total: u64 = positive.1.iter().chain(&negative.1).map(|&n| u64::from(n)).sum::<u64>() + u64::from(zero);
            let floats = |counts: &[u32]| if float { counts.iter().map(|&n| f64::from(n)).collect() } else { vec![] };
            let ints = |counts: &[u32]| if float { vec![] } else { deltas(counts) };
            let end = positive.0.iter().map(|s| i64::from(s.offset) + i64::from(s.length)).sum::<i64>();
            Histogram {
                count: Some(if float { Count::Float(total as f64) } else { Count::Int(total) }),
                sum,
                schema: if custom { -53 } else { schema },
                zero_threshold: 0.5,
                zero_count: Some(if float { ZeroCount::Float(f64::from(zero)) } else { ZeroCount::Int(zero.into()) }),
                negative_deltas: ints(&negative.1),
                negative_counts: floats(&negative.1),
                negative_spans: negative.0,
                positive_deltas: ints(&positive.1),
                positive_counts: floats(&positive.1),
                positive_spans: positive.0,
                reset_hint,
                timestamp,
                custom_values: if custom { (0..end).map(|n| n as f64).collect() } else { vec![] },
                start_timestamp,
            }
        },
    )
}

fn series() -> impl Strategy<Value = Series> {
    let elements = prop_oneof![
        3 => vec((times(), prop_oneof![Just(0), times()], values()), 1..4).prop_map(Elements::Floats),
        1 => vec(histograms(), 1..3).prop_map(Elements::Histograms),
    ];
    let pairs = proptest::collection::btree_map(text(), text(), 0..3).prop_map(|m| m.into_iter().collect::<Vec<_>>());
    let exemplars = vec((pairs, values(), times()), 0..2);
    let metadata = prop::option::of((0..9i32, text(), text()));
    (labels(), elements, exemplars, metadata).prop_map(|(labels, elements, exemplars, metadata)| Series {
        labels,
        elements,
        exemplars,
        metadata,
    })
}

pub(crate) fn requests() -> impl Strategy<Value = Request> {
    (any::<bool>(), vec(series(), 0..6)).prop_map(|(is_v1, series)| Request { is_v1, series })
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

impl Request {
    pub(crate) fn v1(&self) -> v1::WriteRequest {
        let mut request = v1::WriteRequest::default();
        for one in &self.series {
            let label = |(name, value): &(String, String)| v1::Label { name: name.clone(), value: value.clone() };
            let mut series = wire::series_v1(&borrowed(&one.labels), &[]);
            // Order does not matter in this version.
            series.labels.reverse();
            match &one.elements {
                Elements::Floats(floats) => {
                    series.samples =
                        floats.iter().map(|&(timestamp, _, value)| v1::Sample { value, timestamp }).collect();
                }
                Elements::Histograms(histograms) => series.histograms = histograms.clone(),
            }
            let exemplar = |(labels, value, timestamp): &(Vec<_>, f64, i64)| v1::Exemplar {
                labels: labels.iter().map(label).collect(),
                value: *value,
                timestamp: *timestamp,
            };
            series.exemplars = one.exemplars.iter().map(exemplar).collect();
            request.timeseries.push(series);
            if let Some((number, help, unit)) = &one.metadata {
                request.metadata.push(v1::MetricMetadata {
                    r#type: *number,
                    metric_family_name: "family".into(),
                    help: help.clone(),
                    unit: unit.clone(),
                });
            }
        }
        request
    }

    pub(crate) fn v2(&self) -> v2::Request {
        let mut symbols = Symbols::default();
        let mut timeseries = Vec::new();
        for one in &self.series {
            let mut series = symbols.series(&borrowed(&one.labels), &[]);
            match &one.elements {
                Elements::Floats(floats) => {
                    let sample = |&(timestamp, start_timestamp, value): &(i64, i64, f64)| v2::Sample {
                        value,
                        timestamp,
                        start_timestamp,
                    };
                    series.samples = floats.iter().map(sample).collect();
                }
                Elements::Histograms(histograms) => series.histograms = histograms.clone(),
            }
            for (labels, value, timestamp) in &one.exemplars {
                let labels_refs = symbols.refs(&borrowed(labels));
                series.exemplars.push(v2::Exemplar { labels_refs, value: *value, timestamp: *timestamp });
            }
            if let Some((number, help, unit)) = &one.metadata {
                let (help_ref, unit_ref) = (symbols.of(help), symbols.of(unit));
                series.metadata = Some(v2::Metadata { r#type: *number, help_ref, unit_ref });
            }
            timeseries.push(series);
        }
        symbols.request(timeseries)
    }

    fn encoded(&self) -> Vec<u8> {
        if self.is_v1 { self.v1().encode_to_vec() } else { self.v2().encode_to_vec() }
    }

    fn version(&self) -> Version {
        if self.is_v1 { Version::V1 } else { Version::V2 }
    }
}

/// The histogram that a message stands for, written down without regard to speed.
fn expected_histogram(h: &Histogram) -> NativeHistogram {
    let spans = |spans: &[wire::BucketSpan]| {
        spans.iter().map(|s| BucketSpan { offset: s.offset, len: s.length }).collect::<Vec<_>>()
    };
    let absolute = |deltas: &[i64]| {
        let mut sum = 0;
        deltas
            .iter()
            .map(|d| {
                sum += d;
                sum as u64
            })
            .collect::<Vec<_>>()
    };
    let counts = match (h.count, h.zero_count) {
        (Some(Count::Int(count)), Some(ZeroCount::Int(zero))) => HistogramCounts::Integer(BucketCounts {
            zero,
            count,
            positive: absolute(&h.positive_deltas),
            negative: absolute(&h.negative_deltas),
        }),
        (Some(Count::Float(count)), Some(ZeroCount::Float(zero))) => HistogramCounts::Float(BucketCounts {
            zero,
            count,
            positive: h.positive_counts.clone(),
            negative: h.negative_counts.clone(),
        }),
        other => panic!("the generator keeps kinds apart: {other:?}"),
    };
    let hints = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge];
    NativeHistogram {
        schema: h.schema as i8,
        hint: hints.get(h.reset_hint as usize).copied().unwrap_or_default(),
        zero_threshold: h.zero_threshold,
        counts,
        sum: h.sum,
        positive_spans: spans(&h.positive_spans),
        negative_spans: spans(&h.negative_spans),
        custom_values: h.custom_values.clone().into(),
    }
}

/// Everything that an engine which takes the request shows afterwards; later samples replace earlier ones.
fn expected(request: &Request) -> (BTreeSet<String>, Written) {
    let mut samples = std::collections::BTreeMap::new();
    let mut exemplars = BTreeSet::new();
    let mut written = Written::default();
    let has_starts = !request.is_v1;
    for one in &request.series {
        let labels = Labels::from_pairs(borrowed(&one.labels));
        let mut put = |time, start, value: String| {
            let start = if has_starts { start } else { 0 };
            samples.insert((labels.clone(), time), support::line(&labels, time, start, &value));
        };
        match &one.elements {
            Elements::Floats(floats) => {
                for &(time, start, value) in floats {
                    let shown = if is_stale_nan(value) { "stale".into() } else { support::float(value) };
                    put(time, start, shown);
                    written.samples += 1;
                }
            }
            Elements::Histograms(histograms) => {
                for h in histograms {
                    let shown =
                        if is_stale_nan(h.sum) { "stale".into() } else { support::histogram(&expected_histogram(h)) };
                    put(h.timestamp, h.start_timestamp, shown);
                    written.histograms += 1;
                }
            }
        }
        for (pairs, value, time) in &one.exemplars {
            exemplars.insert(support::exemplar(&labels, &Labels::from_pairs(borrowed(pairs)), *time, *value));
            written.exemplars += 1;
        }
    }
    exemplars.extend(samples.into_values());
    (exemplars, written)
}

#[test]
fn minus_zero_is_kept_where_the_sender_writes_it() {
    let door = Door::open();
    let mut body = v1::WriteRequest {
        timeseries: vec![wire::series_v1(&[("__name__", "m")], &[(NOW_MS, 1.0)])],
        metadata: vec![],
    }
    .encode_to_vec();
    let at = body.windows(8).position(|bytes| bytes == 1.0f64.to_le_bytes()).unwrap();
    body[at..at + 8].copy_from_slice(&(-0.0f64).to_le_bytes());
    door.write(Version::V1, &compress(&body)).unwrap();
    let stored = door.stored();
    assert!(stored.first().unwrap().ends_with(&support::float(-0.0)), "{stored:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn both_versions_are_read_as_generated_code_reads_them(request in requests()) {
        let door = Door::open();
        let (wanted, written) = expected(&request);
        let encoded = request.encoded();
        // Cold, then with every series known, then with every ref forgotten.
        for round in 0..3 {
            if round == 2 {
                door.engine.memory.reopen();
            }
            let outcome = door.write(request.version(), &compress(&encoded)).unwrap();
            prop_assert!(outcome.is_complete(), "{}", outcome);
            prop_assert_eq!(outcome.written, written);
            prop_assert_eq!(&door.stored(), &wanted);
        }
    }

    #[test]
    fn unknown_fields_are_skipped_everywhere(
        request in requests(),
        number in 20u32..500,
        bytes in vec(any::<u8>(), 0..9),
    ) {
        let door = Door::open();
        let mut encoded = Vec::new();
        prost::encoding::bytes::encode(number, &bytes, &mut encoded);
        prost::encoding::uint64::encode(number + 1, &u64::MAX, &mut encoded);
        prost::encoding::double::encode(number + 2, &1.5, &mut encoded);
        prost::encoding::fixed32::encode(number + 3, &7, &mut encoded);
        let strange = encoded.clone();
        encoded.extend(request.encoded());
        encoded.extend(&strange);
        let outcome = door.write(request.version(), &compress(&encoded)).unwrap();
        prop_assert!(outcome.is_complete());
        prop_assert_eq!(door.stored(), expected(&request).0);
    }

    #[test]
    fn metadata_of_1_0_arrives(request in requests()) {
        let door = Door::open();
        door.write(Version::V1, &compress(&request.v1().encode_to_vec())).unwrap();
        let kept = door.engine.metadata(None, &QueryContext::unlimited()).unwrap();
        let mut wanted: Vec<Metadata> = Vec::new();
        for (number, help, unit) in request.series.iter().filter_map(|series| series.metadata.clone()) {
            let family_type = FamilyType::from_u8(number as u8).unwrap_or_default();
            kymo_core::memory::remember_metadata(&mut wanted, &Metadata { family_type, unit, help });
        }
        let kept = kept.into_iter().next().map(|(_, versions)| versions).unwrap_or_default();
        prop_assert_eq!(kept, wanted);
    }
}
