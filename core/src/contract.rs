//! The contract of [`MetricStorage`] as tests that every implementation runs.
//!
//! An implementation offers a [`Subject`] and calls [`run`]; a failure panics with what was seen.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::batch::{AddedValue, Exemplar, FamilyType, Increment, Metadata, RowSeries, SampleBatch, SeriesRef};
use crate::clock::{Clock, ManualClock};
use crate::histogram::{BucketCounts, BucketSpan, HistogramCounts, NativeHistogram, ResetHint, stale_nan};
use crate::labels::Labels;
use crate::matcher::{MatchOp, Matcher};
use crate::storage::{
    AppendReport, Changes, ColumnValue, Columns, MetricStorage, QueryContext, RejectReason, RowCounts, RunKind,
    Selector,
};

mod increments;
pub mod queue;
pub mod state;

/// How the suite wants an engine opened.
#[derive(Clone)]
pub struct Options {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Age beyond which samples are rejected.
    pub retention: Option<Duration>,
    /// Most series.
    pub series_max: usize,
}

/// An implementation under test.
pub trait Subject {
    /// Opens an empty engine.
    fn open(&mut self, options: Options) -> Arc<dyn MetricStorage>;
    /// Closes what was opened last and opens it again on the same data.
    fn reopen(&mut self) -> Arc<dyn MetricStorage>;
    /// Moves what is in memory to wherever it goes next, if there is such a place.
    fn flush(&mut self) {}
}

/// The suite's present, milliseconds.
pub const NOW_MS: i64 = 1_700_000_000_000;

/// Runs every test of the suite.
pub fn run(subject: &mut dyn FnMut() -> Box<dyn Subject>) {
    type Test = fn(&mut dyn Subject);
    let tests: [(&str, Test); 13] = [
        ("what_was_appended_is_selected", what_was_appended_is_selected),
        ("identical_and_replaced_are_told_apart", identical_and_replaced_are_told_apart),
        ("bad_rows_are_rejected_alone", bad_rows_are_rejected_alone),
        ("a_row_by_ref_is_refused_alone_wherever_it_stands", a_row_by_ref_is_refused_alone_wherever_it_stands),
        ("refs_of_another_opening_are_unknown", refs_of_another_opening_are_unknown),
        ("a_warm_ref_cache_never_hits_another_series", a_warm_ref_cache_never_hits_another_series),
        ("a_series_set_is_a_snapshot", a_series_set_is_a_snapshot),
        ("every_column_survives", every_column_survives),
        ("matchers_agree_with_a_naive_filter", matchers_agree_with_a_naive_filter),
        ("the_catalogue_lists_what_is_there", the_catalogue_lists_what_is_there),
        ("exemplars_and_metadata_are_kept", exemplars_and_metadata_are_kept),
        ("changes_cover_every_append", changes_cover_every_append),
        ("agrees_with_a_map_model", agrees_with_a_map_model),
    ];
    for (name, test) in tests {
        println!("contract: {name}");
        test(&mut *subject());
    }
    increments::run(subject);
}

fn options() -> Options {
    Options { clock: Arc::new(ManualClock::at(NOW_MS)), retention: None, series_max: usize::MAX }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn ctx() -> QueryContext {
    QueryContext::unlimited()
}

/// A series with its samples: time, start and value as text.
type Dumped = (String, Vec<(i64, i64, String)>);

/// Everything that matches, rendered: what tests compare.
fn dump(storage: &dyn MetricStorage, what: &Selector) -> Vec<Dumped> {
    let set = storage.select(what, &ctx()).expect("select");
    let mut columns = Columns::default();
    let mut found = Vec::new();
    for i in 0..set.len() {
        set.read(i, &mut columns).expect("read");
        assert_eq!(columns.runs.iter().map(|r| r.len).sum::<usize>(), columns.times.len(), "runs add up");
        assert!(columns.times.windows(2).all(|w| w[0] < w[1]), "times rise: {:?}", columns.times);
        assert!(columns.starts.is_empty() || columns.starts.len() == columns.times.len(), "starts are aligned");
        let start = |n: usize| columns.starts.get(n).copied().unwrap_or(0);
        let samples: Vec<_> = columns.iter().enumerate().map(|(n, (t, v))| (t, start(n), render(v))).collect();
        if !samples.is_empty() {
            found.push((set.labels(i).to_string(), samples));
        }
    }
    assert!(found.windows(2).all(|w| w[0].0 != w[1].0), "a series stands once");
    found
}

fn render(value: ColumnValue<'_>) -> String {
    match value {
        ColumnValue::Float(v) => format!("{:016x}", v.to_bits()),
        ColumnValue::Histogram(h) => format!("{h:?}"),
        ColumnValue::Stale => "stale".to_owned(),
    }
}

fn append(storage: &dyn MetricStorage, batch: &SampleBatch) -> AppendReport {
    storage.append(batch).expect("append")
}

fn floats(n: u64) -> RowCounts {
    RowCounts { floats: n, ..RowCounts::default() }
}

fn what_was_appended_is_selected(subject: &mut dyn Subject) {
    let storage = subject.open(options());
    let (a, b) = (labels(&[("__name__", "m"), ("x", "1")]), labels(&[("__name__", "m"), ("x", "2")]));
    let mut batch = SampleBatch::new();
    batch.push_float(&b, NOW_MS - 2_000, 1.0);
    batch.push_float(&a, NOW_MS - 1_000, 2.0);
    batch.push_float(&a, NOW_MS - 3_000, 3.0);
    let report = append(&*storage, &batch);
    assert_eq!(report.stored, floats(3));
    assert_eq!(report.new_refs.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(report.new_refs[1].1, report.new_refs[2].1);
    assert_eq!(storage.resolve(a.as_ref()), Some(report.new_refs[1].1));
    assert_eq!(storage.labels(report.new_refs[0].1), Some(b.clone()));
    for flushed in [false, true] {
        if flushed {
            subject.flush();
        }
        let all = dump(&*storage, &Selector::everything());
        assert_eq!(all.len(), 2, "flushed: {flushed}");
        assert_eq!(all[0].0, a.to_string());
        assert_eq!(all[0].1.iter().map(|s| s.0).collect::<Vec<_>>(), [NOW_MS - 3_000, NOW_MS - 1_000]);
        // The window is open to the left and closed to the right.
        let window = Selector::new(vec![], NOW_MS - 3_000, NOW_MS - 2_000);
        let inside = dump(&*storage, &window);
        assert_eq!(inside.len(), 1, "{inside:?}");
        assert_eq!(inside[0].1[0].0, NOW_MS - 2_000);
    }
    drop(storage);
    let storage = subject.reopen();
    assert_eq!(dump(&*storage, &Selector::everything()).len(), 2);
}

fn identical_and_replaced_are_told_apart(subject: &mut dyn Subject) {
    let storage = subject.open(options());
    let series = labels(&[("__name__", "m")]);
    let mut batch = SampleBatch::new();
    batch.push_float(&series, NOW_MS, 0.0);
    batch.push_float(&series, NOW_MS - 10, f64::NAN);
    batch.push_stale(&series, NOW_MS - 20);
    assert_eq!(append(&*storage, &batch).stored, RowCounts { floats: 2, stale: 1, ..RowCounts::default() });
    for flushed in [false, true] {
        if flushed {
            subject.flush();
        }
        let report = append(&*storage, &batch);
        assert_eq!(report.identical, RowCounts { floats: 2, stale: 1, ..RowCounts::default() }, "flushed: {flushed}");
        assert_eq!((report.stored, report.replaced), (floats(0), floats(0)), "flushed: {flushed}");
    }
    let mut other = SampleBatch::new();
    other.push_float(&series, NOW_MS, -0.0);
    other.push_float(&series, NOW_MS - 20, 5.0);
    assert_eq!(append(&*storage, &other).replaced, floats(2));
    // One batch may write one timestamp twice; the later row wins.
    let mut twice = SampleBatch::new();
    twice.push_float(&series, NOW_MS - 5, 1.0);
    twice.push_float(&series, NOW_MS - 5, 2.0);
    let report = append(&*storage, &twice);
    assert_eq!((report.stored, report.replaced), (floats(1), floats(1)));
    subject.flush();
    let all = dump(&*storage, &Selector::everything());
    let wanted = [(NOW_MS - 20, 5.0), (NOW_MS - 10, f64::NAN), (NOW_MS - 5, 2.0), (NOW_MS, -0.0)];
    let wanted: Vec<_> = wanted.iter().map(|(t, v)| (*t, 0, render(ColumnValue::Float(*v)))).collect();
    assert_eq!(all[0].1, wanted);
}

fn bad_rows_are_rejected_alone(subject: &mut dyn Subject) {
    let storage = subject.open(Options { retention: Some(Duration::from_secs(3_600)), series_max: 2, ..options() });
    let (a, b, c) = (labels(&[("__name__", "a")]), labels(&[("__name__", "b")]), labels(&[("__name__", "c")]));
    let mut batch = SampleBatch::new();
    batch.push_float(&a, NOW_MS, 1.0);
    batch.push_float(&a, NOW_MS + 600_001, 1.0);
    batch.push_float(&a, NOW_MS + 600_000, 1.0);
    batch.push_float(&a, NOW_MS - 3_600_001, 1.0);
    batch.push_float(&b, NOW_MS, 1.0);
    batch.push_float(&c, NOW_MS, 1.0);
    batch.push_float(&labels(&[("x", "1")]), NOW_MS, 1.0);
    batch.push_increment(
        &a,
        Increment { writer: 1, start_ms: NOW_MS - 1, end_ms: NOW_MS, value: AddedValue::Float(1.0) },
    );
    batch.push_histogram(&a, NOW_MS, NativeHistogram { schema: 20, ..histogram(1) });
    let report = append(&*storage, &batch);
    assert_eq!(report.stored.floats, 3);
    let reason = |row: usize| report.rejected.iter().find(|r| r.0 == row).map(|r| r.1);
    assert_eq!(reason(1), Some(RejectReason::TooFarInFuture));
    assert_eq!(reason(3), Some(RejectReason::OutsideRetention));
    assert_eq!(reason(5), Some(RejectReason::SeriesLimit));
    assert_eq!(reason(6), Some(RejectReason::MissingName));
    assert_eq!(reason(8), Some(RejectReason::InvalidHistogram));
    assert_eq!(report.rejected_counts.floats, 4, "{report:?}");
    let rows: Vec<usize> = report.rejected.iter().map(|r| r.0).collect();
    assert!(rows.windows(2).all(|w| w[0] < w[1]), "rejected rows come in order: {rows:?}");
    assert_eq!((reason(7), report.stored.increments), (None, 1), "{report:?}");
    assert_eq!(dump(&*storage, &Selector::new(vec![Matcher::equal("__name__", "b")], i64::MIN, i64::MAX)).len(), 1);
}

fn a_row_by_ref_is_refused_alone_wherever_it_stands(subject: &mut dyn Subject) {
    const SERIES: usize = 5;
    let storage = subject.open(Options { retention: Some(Duration::from_secs(3_600)), ..options() });
    let names: Vec<Labels> = (0..SERIES).map(|n| labels(&[("__name__", "m"), ("n", &n.to_string())])).collect();
    let first_ms = NOW_MS - 1_000_000;
    let mut batch = SampleBatch::new();
    names.iter().for_each(|name| batch.push_float(name, first_ms, 0.5));
    let refs: Vec<SeriesRef> = append(&*storage, &batch).new_refs.iter().map(|(_, series)| *series).collect();
    let unknown = SeriesRef::new(refs[0].opening(), 1 << 20).expect("fits");
    let float = |value: f64| render(ColumnValue::Float(value));
    let mut wanted: Vec<BTreeMap<i64, String>> = vec![BTreeMap::from([(first_ms, float(0.5))]); SERIES];
    // What the row at the odd place is, if not as the others: ref and time; and for which reason it is refused.
    let odd = [
        (Some(unknown), None, None),
        (None, Some(NOW_MS + 600_001), Some(RejectReason::TooFarInFuture)),
        (None, Some(NOW_MS - 3_600_001), Some(RejectReason::OutsideRetention)),
        (None, Some(first_ms), None),
    ];
    let cases = odd.iter().flat_map(|odd| (0..SERIES).map(move |place| (odd, place)));
    for (round, ((series, time_ms, refused), place)) in cases.enumerate() {
        let (usual_ms, value) = (first_ms + 1_000 * (round as i64 + 1), round as f64);
        batch.clear();
        for n in 0..SERIES {
            let is_odd = n == place;
            let series = series.filter(|_| is_odd).unwrap_or(refs[n]);
            match time_ms.filter(|_| is_odd) {
                Some(time_ms) => batch.push_float(series, time_ms, 0.5),
                None if n % 2 == 1 => batch.push_stale(series, usual_ms),
                None => batch.push_float(series, usual_ms, value),
            }
            if !is_odd {
                let value = if n % 2 == 1 { render(ColumnValue::Stale) } else { float(value) };
                wanted[n].insert(usual_ms, value);
            }
        }
        let report = append(&*storage, &batch);
        let rejected = refused.map(|reason| (place, reason));
        assert_eq!(report.rejected, Vec::from_iter(rejected), "round {round}");
        assert_eq!(report.unknown_refs, Vec::from_iter(series.map(|_| place)), "round {round}");
        assert_eq!(report.stored.floats + report.stored.stale, SERIES as u64 - 1, "round {round}");
        assert_eq!(report.identical.floats, u64::from(*time_ms == Some(first_ms)), "round {round}");
    }
    for (n, samples) in wanted.iter().enumerate() {
        let name = vec![Matcher::equal("n", n.to_string())];
        let found = dump(&*storage, &Selector::new(name, i64::MIN, i64::MAX));
        let found: BTreeMap<i64, String> = found[0].1.iter().map(|sample| (sample.0, sample.2.clone())).collect();
        assert_eq!(found, *samples, "series {n}");
    }
}

fn refs_of_another_opening_are_unknown(subject: &mut dyn Subject) {
    let storage = subject.open(options());
    let series = labels(&[("__name__", "m")]);
    let mut batch = SampleBatch::new();
    batch.push_float(&series, NOW_MS, 1.0);
    let old = append(&*storage, &batch).new_refs[0].1;
    drop(storage);
    let storage = subject.reopen();
    let mut batch = SampleBatch::new();
    batch.push_float(old, NOW_MS + 1, 2.0);
    batch.push_float(&series, NOW_MS + 2, 3.0);
    batch.push_float(SeriesRef::new(old.opening() + 7, 0).expect("fits"), NOW_MS, 9.0);
    batch.push_exemplar(old, Exemplar { labels: Labels::empty(), value: 1.0, time_ms: NOW_MS });
    let report = append(&*storage, &batch);
    assert_eq!(report.unknown_refs, [0, 2]);
    assert_eq!(report.unknown_exemplars, [0]);
    assert_eq!(report.stored, floats(1));
    assert_eq!(report.rejected_counts, RowCounts::default());
    assert_ne!(report.new_refs[0].1, old);
    assert_eq!(storage.labels(old), None);
    let all = dump(&*storage, &Selector::everything());
    assert_eq!(all[0].1.iter().map(|s| s.0).collect::<Vec<_>>(), [NOW_MS, NOW_MS + 2]);
}

fn a_warm_ref_cache_never_hits_another_series(subject: &mut dyn Subject) {
    let mut storage = subject.open(options());
    // What a sender's cache would hold, over openings, series always appearing in another order.
    let mut cache: BTreeMap<String, SeriesRef> = BTreeMap::new();
    let mut wanted: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for round in 0..6i64 {
        let names: Vec<Labels> =
            (0..20).map(|n| labels(&[("__name__", "m"), ("n", &((n * 7 + round * 3) % 40).to_string())])).collect();
        let time = NOW_MS - 100_000 + round * 1_000;
        let mut batch = SampleBatch::new();
        for name in &names {
            match cache.get(&name.to_string()) {
                Some(&known) => batch.push_float(known, time, round as f64),
                None => batch.push_float(name, time, round as f64),
            }
            wanted.entry(name.to_string()).or_default().push(time);
        }
        let report = append(&*storage, &batch);
        let mut again = SampleBatch::new();
        for &row in &report.unknown_refs {
            assert!(matches!(batch.row(row).series, RowSeries::Ref(_)));
            again.push_float(&names[row], time, round as f64);
        }
        let second = append(&*storage, &again);
        assert!(second.unknown_refs.is_empty());
        for (row, series) in report.new_refs {
            cache.insert(names[row].to_string(), series);
        }
        for (row, series) in second.new_refs {
            cache.insert(names[report.unknown_refs[row]].to_string(), series);
        }
        match round % 3 {
            0 => subject.flush(),
            1 => {
                drop(storage);
                storage = subject.reopen();
            }
            _ => {}
        }
    }
    let all: BTreeMap<String, Vec<i64>> = dump(&*storage, &Selector::everything())
        .into_iter()
        .map(|(name, samples)| (name, samples.into_iter().map(|s| s.0).collect()))
        .collect();
    assert_eq!(all, wanted);
}

fn a_series_set_is_a_snapshot(subject: &mut dyn Subject) {
    let storage = subject.open(options());
    let (a, b) = (labels(&[("__name__", "a")]), labels(&[("__name__", "b")]));
    let write = |time: i64, value: f64| {
        let mut batch = SampleBatch::new();
        batch.push_float(&a, time, value);
        batch.push_float(&b, time, value);
        append(&*storage, &batch);
    };
    for n in 0..300 {
        write(NOW_MS - 300_000 + n * 1_000, n as f64);
    }
    let set = storage.select(&Selector::everything(), &ctx()).expect("select");
    assert_eq!(set.version(), storage.version());
    for n in 0..300 {
        write(NOW_MS - 300_000 + n * 1_000, -1.0);
        write(NOW_MS - 299_500 + n * 1_000, -2.0);
    }
    subject.flush();
    let mut columns = Columns::default();
    for i in 0..set.len() {
        set.read(i, &mut columns).expect("read");
        assert_eq!(columns.floats, (0..300).map(f64::from).collect::<Vec<_>>(), "series {i}");
    }
    assert!(storage.version() > set.version());
}

fn histogram(n: u64) -> NativeHistogram {
    NativeHistogram {
        schema: 2,
        hint: ResetHint::NotReset,
        zero_threshold: 1e-128,
        counts: HistogramCounts::Integer(BucketCounts {
            zero: n,
            count: 4 * n,
            positive: vec![n, n],
            negative: vec![n],
        }),
        sum: n as f64 * 0.5,
        positive_spans: vec![BucketSpan { offset: -3, len: 1 }, BucketSpan { offset: 4, len: 1 }],
        negative_spans: vec![BucketSpan { offset: 9, len: 1 }],
        custom_values: Arc::from([]),
    }
}

fn custom_histogram(x: f64) -> NativeHistogram {
    NativeHistogram {
        schema: -53,
        hint: ResetHint::Unknown,
        zero_threshold: 0.0,
        counts: HistogramCounts::Float(BucketCounts {
            zero: 0.0,
            count: 2.0 * x,
            positive: vec![x, x],
            negative: vec![],
        }),
        sum: f64::NAN,
        positive_spans: vec![BucketSpan { offset: 0, len: 2 }],
        negative_spans: vec![],
        custom_values: Arc::from([0.1, 5.0]),
    }
}

fn every_column_survives(subject: &mut dyn Subject) {
    let storage = subject.open(options());
    let series = labels(&[("__name__", "mixed"), ("a b", "ä\n\"\\")]);
    let mut batch = SampleBatch::new();
    let odd = [f64::from_bits(0x7ff8_0000_0000_1234), f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324, f64::MAX, 1.5];
    for (n, value) in odd.iter().enumerate() {
        batch.push_float(&series, NOW_MS - 1_000 + n as i64, *value);
        batch.set_start(if n % 2 == 0 { NOW_MS - 9_000 } else { 0 });
    }
    for n in 0..5u64 {
        batch.push_histogram(&series, NOW_MS - 500 + n as i64, histogram(n + 1));
        batch.set_start(NOW_MS - 8_000);
    }
    batch.push_float(&series, NOW_MS - 490, stale_nan());
    batch.push_histogram(&series, NOW_MS - 480, custom_histogram(1.5));
    batch.push_histogram(&series, NOW_MS - 470, NativeHistogram { sum: stale_nan(), ..histogram(1) });
    batch.push_float(&series, NOW_MS - 460, 7.0);
    let report = append(&*storage, &batch);
    assert_eq!(report.stored, RowCounts { floats: 8, histograms: 6, stale: 2, ..RowCounts::default() });
    let before = dump(&*storage, &Selector::everything());
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].1.len(), 16);
    assert_eq!(before[0].1[3], (NOW_MS - 997, 0, render(ColumnValue::Float(-0.0))));
    assert_eq!(before[0].1[2].1, NOW_MS - 9_000);
    assert_eq!(before[0].1[8].2, format!("{:?}", histogram(2)));
    let set = storage.select(&Selector::everything(), &ctx()).expect("select");
    let mut columns = Columns::default();
    set.read(0, &mut columns).expect("read");
    let kinds: Vec<(RunKind, usize)> = columns.runs.iter().map(|r| (r.kind, r.len)).collect();
    use RunKind::{Float, Histogram, Stale};
    assert_eq!(kinds, [(Float, 7), (Histogram, 5), (Stale, 1), (Histogram, 1), (Stale, 1), (Float, 1)]);
    drop(set);
    subject.flush();
    assert_eq!(dump(&*storage, &Selector::everything()), before, "after a flush");
    drop(storage);
    assert_eq!(dump(&*subject.reopen(), &Selector::everything()), before, "after reopening");
}

fn matchers_agree_with_a_naive_filter(subject: &mut dyn Subject) {
    let storage = subject.open(options());
    let mut all = Vec::new();
    let mut batch = SampleBatch::new();
    for n in 0..60u32 {
        let (job, env) = (format!("job-{}", n % 5), if n % 3 == 0 { "" } else { "prod" });
        let series =
            labels(&[("__name__", ["up", "down"][n as usize % 2]), ("job", &job), ("env", env), ("n", &n.to_string())]);
        batch.push_float(&series, NOW_MS, f64::from(n));
        all.push(series);
        if n == 30 {
            append(&*storage, &batch);
            batch.clear();
            subject.flush();
        }
    }
    append(&*storage, &batch);
    all.sort();
    use MatchOp::{Equal, NotEqual, NotRegex, Regex};
    let cases: [&[(&str, MatchOp, &str)]; 12] = [
        &[],
        &[("__name__", Equal, "up")],
        &[("env", Equal, "")],
        &[("env", NotEqual, "")],
        &[("env", NotEqual, "prod"), ("__name__", Equal, "up")],
        &[("job", Regex, "job-[12]")],
        &[("job", NotRegex, "job-[12]"), ("n", Regex, "1.*")],
        &[("missing", Regex, ".*")],
        &[("missing", Regex, ".+")],
        &[("missing", NotEqual, "x")],
        &[("job", Regex, "job-1|job-3|nope")],
        &[("env", Regex, "|prod"), ("job", Equal, "job-0")],
    ];
    for case in cases {
        let matchers: Vec<_> = case.iter().map(|(n, op, v)| Matcher::new(*n, *op, *v).expect("matcher")).collect();
        let what = Selector::new(matchers, i64::MIN, i64::MAX);
        let wanted: Vec<_> = all.iter().filter(|l| what.matches(l.as_ref())).cloned().collect();
        assert_eq!(storage.series(&what, &ctx()).expect("series"), wanted, "{case:?}");
        assert_eq!(dump(&*storage, &what).len(), wanted.len(), "{case:?}");
    }
}

fn the_catalogue_lists_what_is_there(subject: &mut dyn Subject) {
    let storage = subject.open(options());
    let mut batch = SampleBatch::new();
    batch.push_float(&labels(&[("__name__", "a"), ("x", "2")]), NOW_MS, 1.0);
    batch.push_float(&labels(&[("__name__", "b"), ("x", "1"), ("y", "z")]), NOW_MS - 5_000, 1.0);
    append(&*storage, &batch);
    for flushed in [false, true] {
        if flushed {
            subject.flush();
        }
        let all = Selector::everything();
        assert_eq!(storage.label_names(&all, &ctx()).expect("names"), ["__name__", "x", "y"], "flushed: {flushed}");
        assert_eq!(storage.label_values("x", &all, &ctx()).expect("values"), ["1", "2"]);
        assert_eq!(storage.label_values("nope", &all, &ctx()).expect("values"), Vec::<String>::new());
        for (seen_max, expected) in [(9, &["1", "2"][..]), (1, &["1"])] {
            let mut seen = Vec::new();
            let mut visit = |value: &str| {
                seen.push(value.to_owned());
                if seen.len() == seen_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            storage.visit_label_values("x", &all, &ctx(), &mut visit).expect("values");
            assert_eq!(seen, expected, "flushed: {flushed}");
        }
        let recent = Selector::new(vec![], NOW_MS - 1_000, NOW_MS);
        assert_eq!(storage.label_values("x", &recent, &ctx()).expect("values"), ["2"], "flushed: {flushed}");
        let b = Selector::new(vec![Matcher::equal("__name__", "b")], i64::MIN, i64::MAX);
        assert_eq!(storage.label_values("x", &b, &ctx()).expect("values"), ["1"]);
    }
}

fn exemplars_and_metadata_are_kept(subject: &mut dyn Subject) {
    let storage = subject.open(options());
    let series = labels(&[("__name__", "m_bucket"), ("le", "1")]);
    let exemplar =
        |n: i64| Exemplar { labels: labels(&[("trace_id", &n.to_string())]), value: 0.5, time_ms: NOW_MS + n };
    let meta = |help: &str| Metadata { family_type: FamilyType::Histogram, unit: "s".into(), help: help.into() };
    let mut batch = SampleBatch::new();
    batch.push_float(&series, NOW_MS, 1.0);
    for n in [5, 1, 3, 1] {
        batch.push_exemplar(&series, exemplar(n));
    }
    batch.push_metadata("m", meta("old"));
    batch.push_metadata("m", meta("new"));
    batch.push_metadata("other", meta("other"));
    let report = append(&*storage, &batch);
    assert_eq!((report.stored.exemplars, report.identical.exemplars), (3, 1));
    let check = |storage: &dyn MetricStorage, when: &str| {
        let found = storage.exemplars(&Selector::everything(), &ctx()).expect("exemplars");
        assert_eq!(found, [(series.clone(), vec![exemplar(1), exemplar(3), exemplar(5)])], "{when}");
        let window = Selector::new(vec![], NOW_MS + 1, NOW_MS + 3);
        let found = storage.exemplars(&window, &ctx()).expect("exemplars");
        assert_eq!(found, [(series.clone(), vec![exemplar(3)])], "{when}");
        let found = storage.metadata(Some("m"), &ctx()).expect("metadata");
        assert_eq!(found, [("m".to_owned(), vec![meta("new"), meta("old")])], "{when}");
        assert_eq!(storage.metadata(None, &ctx()).expect("metadata").len(), 2, "{when}");
    };
    check(&*storage, "in memory");
    subject.flush();
    check(&*storage, "after a flush");
    drop(storage);
    check(&*subject.reopen(), "after reopening");
}

fn changes_cover_every_append(subject: &mut dyn Subject) {
    let storage = subject.open(options());
    let (a, b) = (labels(&[("__name__", "a")]), labels(&[("__name__", "b")]));
    let what = Selector::new(vec![Matcher::equal("__name__", "a")], i64::MIN, i64::MAX);
    let mut version = storage.version();
    for (n, series) in [(0, &a), (1, &b), (2, &a), (3, &a)] {
        let time = NOW_MS - 10_000 + n * 1_000;
        let mut batch = SampleBatch::new();
        batch.push_float(series, time, 1.0);
        append(&*storage, &batch);
        assert!(storage.version() > version, "append {n}");
        match storage.changed_since(version, &what) {
            Changes::Unknown => {}
            Changes::Ranges(ranges) => {
                assert!(ranges.windows(2).all(|w| w[0].1 < w[1].0), "merged and rising: {ranges:?}");
                let covered = ranges.iter().any(|r| r.0 <= time && time <= r.1);
                assert!(covered || series == &b, "append {n}: {ranges:?}");
            }
        }
        version = storage.version();
        assert!(matches!(storage.changed_since(version, &what), Changes::Unknown | Changes::Ranges(_)));
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Rows of (series, time offset, value).
    Append(Vec<(u8, u16, ModelValue)>),
    Flush,
    Reopen,
}

#[derive(Debug, Clone, PartialEq)]
enum ModelValue {
    Float(u8),
    Histogram(u8),
    Stale,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![
        6 => (0..4u8).prop_map(ModelValue::Float),
        1 => (1..3u8).prop_map(ModelValue::Histogram),
        1 => Just(ModelValue::Stale)
    ];
    let rows = proptest::collection::vec((0..6u8, prop_oneof![0..40u16, 0..2_000u16], value), 1..60);
    let step = prop_oneof![6 => rows.prop_map(Step::Append), 2 => Just(Step::Flush), 1 => Just(Step::Reopen)];
    proptest::collection::vec(step, 1..14)
}

/// Whatever the order of appends, flushes and reopenings, the engine holds what a map would.
fn agrees_with_a_map_model(subject: &mut dyn Subject) {
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let subject = std::cell::RefCell::new(subject);
    let outcome = runner.run(&steps(), |steps| {
        let mut subject = subject.borrow_mut();
        let mut storage = subject.open(options());
        let mut model: BTreeMap<(u8, i64), ModelValue> = BTreeMap::new();
        for step in &steps {
            match step {
                Step::Flush => subject.flush(),
                Step::Reopen => {
                    drop(storage);
                    storage = subject.reopen();
                }
                Step::Append(rows) => {
                    let mut batch = SampleBatch::new();
                    let (mut stored, mut identical, mut replaced) = (0, 0, 0);
                    for (series, offset, value) in rows {
                        // Half a minute a step, so that a sequence spans several block ranges.
                        let time = NOW_MS - 60_000_000 + i64::from(*offset) * 30_000;
                        let name = labels(&[("__name__", "m"), ("s", &series.to_string())]);
                        match value {
                            ModelValue::Float(v) => batch.push_float(&name, time, f64::from(*v)),
                            ModelValue::Histogram(v) => batch.push_histogram(&name, time, histogram(u64::from(*v))),
                            ModelValue::Stale => batch.push_stale(&name, time),
                        }
                        match model.insert((*series, time), value.clone()) {
                            None => stored += 1,
                            Some(old) if old == *value => identical += 1,
                            Some(_) => replaced += 1,
                        }
                    }
                    let report = append(&*storage, &batch);
                    prop_assert_eq!(report.stored.samples(), stored);
                    prop_assert_eq!(report.identical.samples(), identical);
                    prop_assert_eq!(report.replaced.samples(), replaced);
                }
            }
        }
        let mut wanted: BTreeMap<String, Vec<(i64, i64, String)>> = BTreeMap::new();
        for ((series, time), value) in &model {
            let name = labels(&[("__name__", "m"), ("s", &series.to_string())]).to_string();
            let text = match value {
                ModelValue::Float(v) => render(ColumnValue::Float(f64::from(*v))),
                ModelValue::Histogram(v) => render(ColumnValue::Histogram(&histogram(u64::from(*v)))),
                ModelValue::Stale => render(ColumnValue::Stale),
            };
            wanted.entry(name).or_default().push((*time, 0, text));
        }
        let found: BTreeMap<_, _> = dump(&*storage, &Selector::everything()).into_iter().collect();
        prop_assert_eq!(found, wanted);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
