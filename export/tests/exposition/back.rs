//! What is rendered is what is parsed: by the scraper's own parser, whatever names and values there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use kymo_core::metric::{Bucket, MetricKind, MetricType, Quantile};
use kymo_core::registry::{FamilySnapshot, NativeOptions, Registry, SeriesSnapshot};
use kymo_core::text::FloatText;
use kymo_core::{Exemplar, Labels, LabelsBuilder, LabelsRef};
use kymo_export::exposition::{self, Escaping, Format};
use kymo_ingest::exposition as parser;
use kymo_ingest::exposition::{Entry, HistogramParts, SampleValue};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::formats;

/// Series by labels, name included: value bits.
type Found = BTreeMap<Vec<(String, String)>, u64>;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z_.:-]{1,6}",
        1 => "\\PC{1,5}",
        1 => proptest::sample::select(vec!["\"", "\\", "\n", "\\n", "}", "{", ",", "=", "# ", " ", "é温🦀", "_", "0k", "U__a_2e_b"])
            .prop_map(str::to_owned),
    ]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => any::<i32>().prop_map(f64::from),
        2 => any::<f64>().prop_map(|value| if value.is_nan() { f64::NAN } else { value }),
        1 => proptest::sample::select(vec![0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, 9_007_199_254_740_993.0, 1e300, 0.1]),
    ]
}

fn value(kind: MetricKind) -> BoxedStrategy<MetricType> {
    match kind {
        MetricKind::Counter => number().prop_map(|value| MetricType::Counter { value, exemplars: None }).boxed(),
        MetricKind::Gauge => number().prop_map(|value| MetricType::Gauge { value }).boxed(),
        MetricKind::Histogram => (vec(0..1_000u64, 3), number())
            .prop_map(|(counts, sum)| {
                let mut cumulative_count = 0;
                let bucket = |(upper_bound, count)| {
                    cumulative_count += count;
                    Bucket { upper_bound, cumulative_count }
                };
                let bounds = [0.25, 3.0, f64::INFINITY];
                let buckets: Vec<Bucket> = bounds.into_iter().zip(counts).map(bucket).collect();
                let count = buckets[2].cumulative_count;
                MetricType::Histogram { buckets, sum, count, exemplars: None }
            })
            .boxed(),
        MetricKind::Summary => (vec(number(), 2), number(), any::<u32>())
            .prop_map(|(values, sum, count)| {
                let quantiles = [0.5, 1.0].into_iter().zip(values);
                MetricType::Summary {
                    quantiles: quantiles.map(|(quantile, value)| Quantile { quantile, value }).collect(),
                    sum,
                    count: count.into(),
                }
            })
            .boxed(),
    }
}

fn family(name: String) -> impl Strategy<Value = FamilySnapshot> {
    let kind = proptest::sample::select(vec![
        MetricKind::Counter,
        MetricKind::Gauge,
        MetricKind::Histogram,
        MetricKind::Summary,
    ]);
    (kind, "\\PC{0,8}|\\\\n\"", btree_set(text(), 0..3)).prop_flat_map(move |(kind, help, labels)| {
        let name = name.clone();
        let reserved = |label: &String| !["le", "quantile", "__name__"].contains(&label.as_str());
        let labels: Vec<String> = labels.into_iter().filter(reserved).collect();
        let values = vec(text(), labels.len());
        btree_map(values, value(kind), 1..4).prop_map(move |series| FamilySnapshot {
            name: name.clone(),
            kind,
            unit: String::new(),
            help: help.clone(),
            series: series
                .into_iter()
                .map(|(values, value)| SeriesSnapshot {
                    labels: labels.iter().cloned().zip(values).collect::<Vec<_>>().into(),
                    value,
                    created_ms: None,
                })
                .collect(),
        })
    })
}

fn families() -> impl Strategy<Value = Vec<FamilySnapshot>> {
    btree_set(text(), 1..5)
        .prop_flat_map(|names| names.into_iter().map(|name| family(name).boxed()).collect::<Vec<BoxedStrategy<_>>>())
}

/// All samples of a page, and how many there were.
fn parse(format: Format, page: &[u8]) -> Result<(Found, usize), TestCaseError> {
    let read_as = match format {
        Format::Protobuf(_) => parser::Format::Protobuf,
        Format::OpenMetrics001 | Format::OpenMetrics100(_) => parser::Format::OpenMetrics,
        Format::Text004 | Format::Text100(_) => parser::Format::Text,
    };
    let mut parser = parser::Parser::new(read_as, page, HistogramParts::Classic);
    let (mut found, mut count, mut labels) = (Found::new(), 0, LabelsBuilder::new());
    let fail =
        |what: &dyn std::fmt::Display| TestCaseError::fail(format!("{what}:\n{}", String::from_utf8_lossy(page)));
    while let Some(entry) = parser.next_entry().map_err(|error| fail(&error))? {
        let Entry::Sample(sample) = entry else { continue };
        parser::push_labels(sample.series, sample.family_type, &mut labels).map_err(|error| fail(&error))?;
        let built = labels.build().map_err(|error| fail(&error))?;
        let SampleValue::Float(value) = sample.value else { return Err(fail(&"a native histogram")) };
        found.insert(pairs(built), value.to_bits());
        count += 1;
    }
    Ok((found, count))
}

fn pairs(labels: LabelsRef<'_>) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Name, labels, value.
type Wanted = (String, Vec<(String, String)>, f64);

/// Every sample that the families stand for, under their own names.
fn samples(format: Format, families: &[FamilySnapshot]) -> Vec<Wanted> {
    let mut all = Vec::new();
    for family in families {
        for series in &family.series {
            let mut push = |suffix: &str, extra: Option<(&str, f64)>, value: f64| {
                let mut labels = series.labels.to_vec();
                labels
                    .extend(extra.map(|(name, at)| (name.to_owned(), FloatText::open_metrics(at).as_str().to_owned())));
                all.push((format!("{}{suffix}", family.name), labels, value));
            };
            match &series.value {
                MetricType::Counter { value, .. } | MetricType::Gauge { value } => {
                    let is_total = family.kind == MetricKind::Counter && !family.name.ends_with("_total");
                    let is_open_metrics = matches!(format, Format::OpenMetrics001 | Format::OpenMetrics100(_));
                    push(if is_open_metrics && is_total { "_total" } else { "" }, None, *value);
                }
                MetricType::Histogram { buckets, sum, count, .. } => {
                    buckets
                        .iter()
                        .for_each(|b| push("_bucket", Some(("le", b.upper_bound)), b.cumulative_count as f64));
                    push("_sum", None, *sum);
                    push("_count", None, *count as f64);
                }
                MetricType::Summary { quantiles, sum, count } => {
                    quantiles.iter().for_each(|q| push("", Some(("quantile", q.quantile)), q.value));
                    push("_sum", None, *sum);
                    push("_count", None, *count as f64);
                }
                MetricType::NativeHistogram { .. } => {}
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn every_sample_comes_back_and_none_is_mixed_with_another(families in families()) {
        for format in formats() {
            let mut page = Vec::new();
            exposition::write(&mut page, format, &families);
            let wanted = samples(format, &families);
            let (found, count) = parse(format, &page)?;
            // No two samples have one name and labels, whatever became of the names.
            prop_assert!(found.len() == count && count == wanted.len(), "{format:?}: {} of {} in\n{}",
                found.len(), wanted.len(), String::from_utf8_lossy(&page));
            let sorted = |mut values: Vec<u64>| { values.sort_unstable(); values };
            let bits = |value: f64| if value.is_nan() { kymo_core::histogram::NORMAL_NAN_BITS } else { value.to_bits() };
            prop_assert_eq!(
                sorted(found.values().copied().collect()),
                sorted(wanted.iter().map(|(.., value)| bits(*value)).collect()),
                "{:?}", format
            );
            // Where names need no change they are the very same.
            let is_whole = format.escaping() == Escaping::AllowUtf8;
            for (name, labels, value) in wanted.iter().filter(|_| is_whole) {
                let mut wanted: Vec<(String, String)> = labels.clone();
                wanted.push(("__name__".to_owned(), name.clone()));
                wanted.retain(|(_, value)| !value.is_empty());
                wanted.sort();
                let is_there = found.get(&wanted) == Some(&bits(*value));
                let renamed = || String::from_utf8_lossy(&page).contains("U__") || String::from_utf8_lossy(&page).contains("unknown");
                prop_assert!(is_there || renamed(), "{name:?} {labels:?} in {format:?}:\n{}", String::from_utf8_lossy(&page));
            }
        }
    }
}

#[test]
fn exemplars_and_times_of_creation_come_back() {
    let exemplar = |value, time_ms| Exemplar { labels: Labels::from_pairs([("trace.id", "a\"b")]), value, time_ms };
    let family = |name: &str, value: MetricType| FamilySnapshot {
        name: name.to_owned(),
        kind: value.kind(),
        unit: String::new(),
        help: String::new(),
        series: vec![SeriesSnapshot { labels: Arc::new([]), value, created_ms: Some(1_500) }],
    };
    let families = [
        family("c_total", MetricType::Counter { value: 2.0, exemplars: Some(vec![exemplar(1.0, 1_700)]) }),
        family(
            "h",
            MetricType::Histogram {
                buckets: vec![Bucket { upper_bound: f64::INFINITY, cumulative_count: 1 }],
                sum: 1.0,
                count: 1,
                exemplars: Some(vec![exemplar(3.5, -1)]),
            },
        ),
    ];
    for escaping in [Escaping::AllowUtf8, Escaping::Underscores] {
        let (mut page, mut labels) = (Vec::new(), LabelsBuilder::new());
        exposition::write(&mut page, Format::Protobuf(escaping), &families);
        let mut parser = parser::Parser::new(parser::Format::Protobuf, &page, HistogramParts::Classic);
        let mut found = Vec::new();
        while let Some(entry) = parser.next_entry().unwrap() {
            let Entry::Sample(sample) = entry else { continue };
            assert_eq!(sample.start_ms, 1_500);
            for exemplar in sample.exemplars.iter() {
                parser::push_exemplar_labels(exemplar.labels, &mut labels).unwrap();
                found.push((pairs(labels.build().unwrap()), exemplar.value, exemplar.time_ms));
            }
        }
        let name = if escaping == Escaping::AllowUtf8 { "trace.id" } else { "trace_id" };
        let labels = vec![(name.to_owned(), "a\"b".to_owned())];
        assert_eq!(found, [(labels.clone(), 1.0, Some(1_700)), (labels, 3.5, Some(-1))]);
    }
}

#[test]
fn native_histograms_come_back_by_bits() {
    let registry = Registry::new();
    let native = registry.histogram("wait_seconds").native(NativeOptions::default()).register().unwrap();
    registry.histogram("empty_seconds").native(NativeOptions::default()).register().unwrap();
    for value in [0.0, 1e-200, 0.013, 0.02, 0.02, 7.5, -3.0, -0.25, 1e6] {
        native.record(value);
    }
    native.record_with_exemplar(2.0, Labels::from_pairs([("trace_id", "t")]), 5);
    let page = exposition::Exposition::from(registry).render(Format::Protobuf(Escaping::AllowUtf8));
    let mut parser = parser::Parser::new(parser::Format::Protobuf, &page, HistogramParts::Native);
    let mut found = Vec::new();
    while let Some(entry) = parser.next_entry().unwrap() {
        let Entry::Sample(sample) = entry else { continue };
        let SampleValue::Histogram(histogram) = sample.value else { panic!("{:?}", sample.value) };
        found.push((String::from_utf8(sample.series.to_vec()).unwrap(), histogram, sample.exemplars.iter().count()));
    }
    let [(empty, no_observations, 0), (wait, observed, 1)] = &found[..] else { panic!("{found:?}") };
    assert!(empty.contains("empty_seconds") && wait.contains("wait_seconds"), "{found:?}");
    assert_eq!(no_observations.counts.count(), 0.0);
    let wanted = native.native().unwrap();
    assert_eq!(observed.counts.count(), 10.0);
    // A target does not say whether there was a reset; all else is the same.
    assert!(observed.same_bits(&wanted), "{observed:?} is not {wanted:?}");
}
