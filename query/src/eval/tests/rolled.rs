//! Rollups against samples: for each function that has an exact form, on windows of whole buckets.

use std::sync::Arc;

use kymo_core::aggregate::rollup::{Figures, append_rows, roll_up};
use kymo_core::batch::{Exemplar, Metadata, SampleBatch, SeriesRef};
use kymo_core::histogram::{BucketCounts, BucketSpan, HistogramCounts, NativeHistogram, ResetHint};
use kymo_core::memory::MemoryStorage;
use kymo_core::query::{Grid, PointValue, QueryRequest, QueryValue, ResultSeries};
use kymo_core::storage::{AppendReport, Changes, Columns, StorageStatistics, Tier};
use kymo_core::{
    AppendError, Labels, LabelsRef, MetricStorage, QueryBackend, QueryContext, SelectError, Selector, SeriesSet,
};
use proptest::prelude::*;

use super::{engine, options};
use crate::Engine;
use crate::functions::rolled::EXACT;

const HOUR_MS: i64 = 3_600_000;
/// On an hour.
const START_MS: i64 = 1_699_999_200_000;

/// Samples in memory, which are rolled up when a tier is asked for; up to a time also when none is.
struct RolledUp {
    samples: MemoryStorage,
    retired_ms: i64,
}

struct RolledSet {
    samples: Box<dyn SeriesSet>,
    start_ms: i64,
    end_ms: i64,
    tier: Tier,
    retired_ms: i64,
    figures: Figures,
}

impl SeriesSet for RolledSet {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.samples.labels(index)
    }

    fn estimate(&self, index: usize) -> usize {
        self.samples.estimate(index)
    }

    fn tier(&self) -> Tier {
        self.tier
    }

    fn version(&self) -> u64 {
        self.samples.version()
    }

    fn read(&self, index: usize, columns: &mut Columns) -> Result<(), SelectError> {
        let (mut raw, mut old, mut rows) = (Columns::default(), Columns::default(), Columns::default());
        self.samples.read(index, &mut raw)?;
        append_rows(&raw, i64::MIN, self.retired_ms, &mut old);
        old.rollups.clear();
        roll_up(&old, self.tier, &mut rows);
        columns.clear();
        append_rows(&rows, self.start_ms - HOUR_MS, self.end_ms, columns);
        append_rows(&raw, self.retired_ms.max(self.start_ms), self.end_ms, columns);
        // As a store that reads what a function is told from, and nothing else.
        self.figures.keep(columns);
        Ok(())
    }
}

impl MetricStorage for RolledUp {
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        self.samples.append(batch)
    }

    fn select(&self, what: &Selector, ctx: &QueryContext) -> Result<Box<dyn SeriesSet>, SelectError> {
        let Some(tier) = what.tier.filter(|tier| *tier != Tier::Raw) else { return self.samples.select(what, ctx) };
        let everything = Selector { start_ms: i64::MIN, end_ms: i64::MAX, ..what.clone() };
        let samples = self.samples.select(&everything, ctx)?;
        let (start_ms, end_ms, retired_ms) = (what.start_ms, what.end_ms, self.retired_ms);
        let figures = Figures::of(&what.hint);
        Ok(Box::new(RolledSet { samples, start_ms, end_ms, tier, retired_ms, figures }))
    }

    fn version(&self) -> u64 {
        self.samples.version()
    }

    fn changed_since(&self, since: u64, what: &Selector) -> Changes {
        self.samples.changed_since(since, what)
    }

    fn resolve(&self, labels: LabelsRef<'_>) -> Option<SeriesRef> {
        self.samples.resolve(labels)
    }

    fn labels(&self, series: SeriesRef) -> Option<Labels> {
        MetricStorage::labels(&self.samples, series)
    }

    fn label_names(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.samples.label_names(what, ctx)
    }

    fn label_values(&self, name: &str, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.samples.label_values(name, what, ctx)
    }

    fn series(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<Labels>, SelectError> {
        self.samples.series(what, ctx)
    }

    fn metadata(&self, family: Option<&str>, ctx: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, SelectError> {
        MetricStorage::metadata(&self.samples, family, ctx)
    }

    fn exemplars(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<(Labels, Vec<Exemplar>)>, SelectError> {
        self.samples.exemplars(what, ctx)
    }

    fn statistics(&self) -> StorageStatistics {
        self.samples.statistics()
    }
}

/// One sample of a series, as far as it is drawn.
#[derive(Debug, Clone)]
enum Drawn {
    Float(f64),
    Histogram(u8, u64),
    Stale,
}

fn histogram(kind: u8, n: u64) -> NativeHistogram {
    let custom = kind > 8;
    NativeHistogram {
        schema: if custom { -53 } else { (kind % 3) as i8 },
        hint: if kind == 8 { ResetHint::Gauge } else { ResetHint::Unknown },
        zero_threshold: 0.0,
        counts: HistogramCounts::Integer(BucketCounts {
            zero: 0,
            count: 3 * n,
            positive: vec![n, 2 * n],
            negative: vec![],
        }),
        sum: n as f64 * 0.5,
        positive_spans: vec![BucketSpan { offset: if custom { 0 } else { i32::from(kind / 3) }, len: 2 }],
        negative_spans: vec![],
        custom_values: if custom { Arc::from([0.1, 5.0]) } else { Arc::from([]) },
    }
}

/// A series: distances in milliseconds and samples; mostly of one kind, with resets, gaps and markers.
fn drawn() -> impl Strategy<Value = Vec<(i64, Drawn)>> {
    let distance = prop_oneof![20 => 10_000i64..20_000, 2 => 60_000i64..400_000, 1 => HOUR_MS..2 * HOUR_MS];
    let float = prop_oneof![
        8 => (0i32..1_000).prop_map(|n| Drawn::Float(f64::from(n))),
        1 => (-1e6..1e6).prop_map(Drawn::Float),
        1 => Just(Drawn::Stale),
    ];
    let odd = prop_oneof![
        10 => (-1e3..1e3).prop_map(Drawn::Float),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-0.0)].prop_map(Drawn::Float),
    ];
    let histogram = prop_oneof![
        30 => (0u64..100).prop_map(|n| Drawn::Histogram(0, n)),
        3 => (0u8..9, 0u64..100).prop_map(|(kind, n)| Drawn::Histogram(kind, n)),
        1 => Just(Drawn::Stale),
    ];
    let mixed = prop_oneof![
        6 => (0u64..100).prop_map(|n| Drawn::Histogram(0, n)),
        6 => (0i32..100).prop_map(|n| Drawn::Float(f64::from(n))),
        1 => Just(Drawn::Stale),
    ];
    let series = |value: BoxedStrategy<Drawn>| prop::collection::vec((distance.clone(), value), 0..400).boxed();
    prop_oneof![series(float.boxed()), series(odd.boxed()), series(histogram.boxed()), series(mixed.boxed())]
}

fn storage(all: &[Vec<(i64, Drawn)>], retired_ms: i64) -> Arc<RolledUp> {
    let samples = MemoryStorage::new(kymo_core::memory::MemoryOptions::default());
    for (number, series) in all.iter().enumerate() {
        let labels = Labels::from_pairs([("__name__", "m_total".to_owned()), ("n", number.to_string())]);
        let (mut batch, mut at) = (SampleBatch::new(), START_MS);
        for (distance, value) in series {
            at += distance;
            match value {
                Drawn::Float(value) => batch.push_float(&labels, at, *value),
                Drawn::Histogram(kind, n) => batch.push_histogram(&labels, at, histogram(*kind, *n)),
                Drawn::Stale => batch.push_stale(&labels, at),
            }
        }
        assert_eq!(samples.append(&batch).expect("append").rejected_counts.samples(), 0);
    }
    Arc::new(RolledUp { samples, retired_ms })
}

fn ask(engine: &Engine, text: &str, grid: Grid, tier: Option<Tier>) -> (Vec<ResultSeries>, Vec<String>, Vec<String>) {
    let request = QueryRequest { tier, ..QueryRequest::new(text, grid) };
    let result = engine.query(&request, &QueryContext::unlimited()).expect(text);
    let series = match result.value {
        QueryValue::Matrix(series) | QueryValue::Vector(series) => series,
        other => panic!("{text}: {other:?}"),
    };
    (series, result.annotations.warnings, result.annotations.infos)
}

/// What counts as equal: sums of floats are, to 1e-12 of the sum of what is summed.
fn is_close(a: f64, b: f64, scale: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * scale
}

fn is_same(a: PointValue<'_>, b: PointValue<'_>, scale: f64) -> bool {
    match (a, b) {
        (PointValue::Float(a), PointValue::Float(b)) => is_close(a, b, scale),
        (PointValue::Histogram(a), PointValue::Histogram(b)) => {
            let buckets = |h: &NativeHistogram| h.all_buckets().map(|bucket| bucket.count).collect::<Vec<f64>>();
            let (mine, theirs) = (buckets(a), buckets(b));
            is_close(a.count(), b.count(), scale)
                && is_close(a.sum, b.sum, scale)
                // A sample from before a reset lends its coarser schema to a bucket, not to a range of samples.
                && (a.schema != b.schema
                    || (mine.len() == theirs.len()
                        && mine.iter().zip(&theirs).all(|(a, b)| is_close(*a, *b, scale))))
        }
        _ => false,
    }
}

fn scale(all: &[Vec<(i64, Drawn)>]) -> f64 {
    let size = |value: &Drawn| match value {
        Drawn::Float(value) if value.is_finite() => value.abs(),
        Drawn::Histogram(_, n) => 3.0 * *n as f64,
        _ => 0.0,
    };
    1.0 + all.iter().flatten().map(|(_, value)| size(value)).sum::<f64>()
}

const RANGES: [(Tier, &[&str]); 2] = [(Tier::FiveMinutes, &["5m", "15m", "2h"]), (Tier::OneHour, &["1h", "3h"])];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_function_with_an_exact_form_answers_as_samples_do(
        all in prop::collection::vec(drawn(), 1..4),
        retired_hours in 0i64..9,
    ) {
        let scale = scale(&all);
        let engine = engine(storage(&all, START_MS + retired_hours * HOUR_MS), options(false));
        for (tier, ranges) in RANGES {
            let (start_ms, end_ms) = (START_MS, START_MS + 9 * HOUR_MS);
            let grid = Grid::Range { start_ms, end_ms, step_ms: tier.width_ms() };
            let ranged = EXACT.iter().flat_map(|name| ranges.iter().map(move |range| format!("{name}(m_total[{range}])")));
            let others = ["m_total", "absent(m_total{n=\"0\"})", "sum(rate(m_total[1h]))", "timestamp(m_total)"];
            for text in ranged.chain(others.map(str::to_owned)) {
                let (wanted, _, _) = ask(&engine, &text, grid, Some(Tier::Raw));
                let (found, _, infos) = ask(&engine, &text, grid, Some(tier));
                prop_assert_eq!(found.len(), wanted.len(), "{}", text);
                for (found, wanted) in found.iter().zip(&wanted) {
                    prop_assert_eq!(&found.labels, &wanted.labels);
                    prop_assert_eq!(found.len(), wanted.len(), "{} of {}: {:?}, not {:?}", text, tier, found, wanted);
                    for ((at, a), (wanted_at, b)) in found.points().zip(wanted.points()) {
                        prop_assert_eq!(at, wanted_at, "{} of {}", text, tier);
                        prop_assert!(is_same(a, b, scale), "{} of {} at {}: {:?}, not {:?}", text, tier, at, a, b);
                    }
                }
                let others: Vec<&String> = infos.iter().filter(|info| info.contains("rollups of")).collect();
                prop_assert!(others.iter().all(|info| info.contains(", exactly")), "{}: {:?}", text, others);
            }
        }
    }

    #[test]
    fn a_quantile_is_off_by_no_more_than_the_info_says(all in prop::collection::vec(drawn(), 1..3), q in 0.0f64..1.0) {
        let engine = engine(storage(&all, i64::MAX), options(false));
        let grid = Grid::Range { start_ms: START_MS, end_ms: START_MS + 9 * HOUR_MS, step_ms: HOUR_MS };
        let text = format!("quantile_over_time({q}, m_total[1h])");
        let (wanted, _, _) = ask(&engine, &text, grid, Some(Tier::Raw));
        let (found, _, infos) = ask(&engine, &text, grid, Some(Tier::FiveMinutes));
        let said = infos.iter().find_map(|info| info.split("off by at most ").nth(1)?.split(' ').next()?.parse::<f64>().ok());
        let is_odd = |value: &(i64, Drawn)| matches!(value.1, Drawn::Float(value) if !value.is_finite());
        if !all.iter().flatten().any(is_odd) {
            for (found, wanted) in found.iter().zip(&wanted) {
                for ((_, a), (_, b)) in found.points().zip(wanted.points()) {
                    let (PointValue::Float(a), PointValue::Float(b)) = (a, b) else { panic!("floats: {a:?} {b:?}") };
                    let error = said.expect("the error is said");
                    prop_assert!((a - b).abs() <= error + 1e-9 * (1.0 + a.abs()), "{a}, not {b}, ± {error}");
                }
            }
        }
    }
}

#[test]
fn infos_say_which_tier_answered_up_to_when_and_how() {
    let series: Vec<(i64, Drawn)> = (0..600).map(|n| (15_000, Drawn::Float(f64::from(n)))).collect();
    let engine = engine(storage(&[series], START_MS + HOUR_MS), options(false));
    let at = |ms: i64| Grid::Instant { at_ms: START_MS + ms };
    let said = |text: &str, grid: Grid, tier: Tier| {
        let (_, _, infos) = ask(&engine, text, grid, Some(tier));
        infos.into_iter().filter(|info| info.contains("rollups")).collect::<Vec<_>>()
    };
    let until = "answer up to 2023-11-14T23:00:00Z";
    assert_eq!(
        said("max_over_time(m_total[1h])", at(2 * HOUR_MS - 300_000), Tier::FiveMinutes),
        [format!("PromQL info: rollups of 5m {until}, exactly (1:15)")]
    );
    assert_eq!(
        said("max_over_time(m_total[1h])", at(HOUR_MS + 1), Tier::FiveMinutes),
        [format!(
            "PromQL info: rollups of 5m {until}: ranges and times are no multiples of 5m, so a bucket counts where its \
             last sample lies (1:15)"
        )]
    );
    assert_eq!(
        said("stddev_over_time(m_total[2h])", at(2 * HOUR_MS), Tier::OneHour),
        [format!(
            "PromQL info: rollups of 1h {until}: stddev_over_time() has no exact form there and takes the last sample of \
             each bucket (1:18)"
        )]
    );
    assert_eq!(
        said("m_total", at(2 * HOUR_MS - 1), Tier::OneHour),
        [format!(
            "PromQL info: rollups of 1h {until}: between multiples of 1h a value holds as it was at the last of them (1:1)"
        )]
    );
    assert!(said("m_total", at(2 * HOUR_MS), Tier::Raw).is_empty());
}
