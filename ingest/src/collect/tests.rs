//! From a source to the engine: refs, markers, the ledger, the loop.

mod registry;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kymo_core::batch::RowSeries;
use kymo_core::ledger::Received;
use kymo_core::pool::{Job, PoolFull};
use kymo_core::registry::Registry;
use kymo_core::storage::{Changes, ColumnValue, StorageStatistics};
use kymo_core::{
    AppendError, AppendReport, BlockingPool, Clock, Columns, Exemplar, FamilyType, Labels, LabelsRef, LossLedger,
    ManualClock, MemoryStorage, Metadata, MetricStorage, QueryContext, SampleBatch, SelectError, Selector, SeriesRef,
    SeriesSet,
};
use tokio_util::sync::CancellationToken;

use super::store::{Engine, SourceStore};
use super::{CollectParts, Collector, CollectorOptions, Gathered, Source, own};

const NOW_MS: i64 = 1_760_000_000_000;

/// An in-memory engine that tells how rows named their series, fails, and forgets refs when told to.
#[derive(Default)]
struct Recorder {
    memory: MemoryStorage,
    /// Per append: rows by ref, and by labels.
    appended: Mutex<Vec<(usize, usize)>>,
    fails: AtomicBool,
    /// Refs of lower numbers are unknown.
    known_from: AtomicU64,
}

impl Recorder {
    fn appended(&self) -> Vec<(usize, usize)> {
        std::mem::take(&mut *self.appended.lock().unwrap())
    }

    /// Everything stored, `series @time value`, times since [`NOW_MS`].
    fn stored(&self) -> Vec<String> {
        let set = self.memory.select(&Selector::everything(), &QueryContext::unlimited()).unwrap();
        let (mut columns, mut lines) = (Columns::default(), Vec::new());
        for at in 0..set.len() {
            set.read(at, &mut columns).unwrap();
            for (row, (time, value)) in columns.iter().enumerate() {
                let value = match value {
                    ColumnValue::Float(value) => value.to_string(),
                    ColumnValue::Stale => "stale".to_owned(),
                    ColumnValue::Histogram(value) => match columns.starts.get(row) {
                        None | Some(0) => format!("{} observed", value.count()),
                        Some(start) => format!("{} observed since {}", value.count(), start - NOW_MS),
                    },
                };
                lines.push(format!("{} @{} {value}", set.labels(at), time - NOW_MS));
            }
        }
        lines
    }
}

impl MetricStorage for Recorder {
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(AppendError::Log { source: std::io::ErrorKind::StorageFull.into() });
        }
        let is_ref = |series: &RowSeries<'_>| matches!(series, RowSeries::Ref(_));
        let refs = batch.rows().filter(|row| is_ref(&row.series)).count();
        self.appended.lock().unwrap().push((refs, batch.len() - refs));
        let known_from = self.known_from.load(Ordering::SeqCst);
        let is_unknown = |series: RowSeries<'_>| matches!(series, RowSeries::Ref(of) if of.get() < known_from);
        let unknown: Vec<usize> = (0..batch.len()).filter(|row| is_unknown(batch.row(*row).series)).collect();
        if unknown.is_empty() {
            return self.memory.append(batch);
        }
        assert_eq!(unknown.len(), batch.len(), "tests forget all refs or none");
        Ok(AppendReport { unknown_refs: unknown, ..AppendReport::default() })
    }
    fn select(&self, what: &Selector, ctx: &QueryContext) -> Result<Box<dyn SeriesSet>, SelectError> {
        self.memory.select(what, ctx)
    }
    fn version(&self) -> u64 {
        self.memory.version()
    }
    fn changed_since(&self, since: u64, what: &Selector) -> Changes {
        self.memory.changed_since(since, what)
    }
    fn resolve(&self, labels: LabelsRef<'_>) -> Option<SeriesRef> {
        self.memory.resolve(labels)
    }
    fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.memory.labels(series)
    }
    fn label_names(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.memory.label_names(what, ctx)
    }
    fn label_values(&self, name: &str, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.memory.label_values(name, what, ctx)
    }
    fn metadata(&self, family: Option<&str>, ctx: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, SelectError> {
        self.memory.metadata(family, ctx)
    }
    fn exemplars(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<(Labels, Vec<Exemplar>)>, SelectError> {
        self.memory.exemplars(what, ctx)
    }
    fn statistics(&self) -> StorageStatistics {
        self.memory.statistics()
    }
}

/// A store with everything around it.
struct Bench {
    recorder: Arc<Recorder>,
    engine: Engine,
    store: SourceStore,
    gathered: Gathered,
}

impl Bench {
    fn new(series_max: usize) -> Bench {
        let recorder = Arc::new(Recorder::default());
        let engine =
            Engine { storage: recorder.clone(), ledger: Arc::default(), clock: Arc::new(ManualClock::at(NOW_MS)) };
        let store = SourceStore::new("host", "j".into(), "i".into(), series_max);
        Bench { recorder, engine, store, gathered: Gathered::default() }
    }

    /// Stores gauges `g{n="…"}` of these values at so many milliseconds.
    fn round(&mut self, at_ms: i64, values: &[(&str, f64)]) -> Result<(), AppendError> {
        self.gathered.clear();
        let mut family = self.gathered.family(FamilyType::Gauge, "g", "Help.");
        values.iter().for_each(|(n, value)| family.push([("n", *n)], *value));
        self.store.store(&self.engine, &mut self.gathered, NOW_MS + at_ms)
    }

    fn received(&self) -> Received {
        self.engine.ledger.received().into_iter().find(|(source, _)| *source == "host").unwrap().1
    }

    fn losses(&self) -> Vec<(String, u64)> {
        self.engine.ledger.losses().into_iter().map(|loss| (loss.reason, loss.count)).collect()
    }
}

fn line(n: &str, at_ms: i64, value: &str) -> String {
    format!(r#"{{__name__="g", instance="i", job="j", n="{n}"}} @{at_ms} {value}"#).replacen(
        r#"{__name__="g", "#,
        "g{",
        1,
    )
}

#[test]
fn a_series_is_named_once_and_marked_once_when_it_is_gone() {
    let mut bench = Bench::new(10);
    bench.round(0, &[("a", 1.0), ("b", 2.0)]).unwrap();
    bench.round(5, &[("a", 3.0), ("b", 4.0)]).unwrap();
    bench.round(10, &[("b", 5.0)]).unwrap();
    bench.round(15, &[("b", 6.0)]).unwrap();
    bench.round(20, &[("a", 7.0), ("b", 8.0)]).unwrap();
    assert_eq!(bench.recorder.appended(), [(0, 2), (2, 0), (2, 0), (1, 0), (1, 1)]);
    let wanted = [
        line("a", 0, "1"),
        line("a", 5, "3"),
        line("a", 10, "stale"),
        line("a", 20, "7"),
        line("b", 0, "2"),
        line("b", 5, "4"),
        line("b", 10, "5"),
        line("b", 15, "6"),
        line("b", 20, "8"),
    ];
    assert_eq!(bench.recorder.stored(), wanted);
    assert_eq!(bench.received(), Received { received: 9, stored: 9, ..Received::default() });
    let metadata = bench.recorder.metadata(Some("g"), &QueryContext::unlimited()).unwrap();
    assert_eq!((metadata[0].1.len(), metadata[0].1[0].help.as_str()), (1, "Help."));
}

#[test]
fn the_end_marks_every_series_after_its_last_sample() {
    let mut bench = Bench::new(10);
    bench.round(50, &[("a", 1.0)]).unwrap();
    // The clock was set back.
    bench.store.end(&bench.engine, NOW_MS + 20).unwrap();
    bench.store.end(&bench.engine, NOW_MS + 99).unwrap();
    assert_eq!(bench.recorder.stored(), [line("a", 50, "1"), line("a", 51, "stale")]);
}

#[test]
fn refs_that_the_engine_forgot_are_named_again_within_the_round() {
    let mut bench = Bench::new(10);
    bench.round(0, &[("a", 1.0), ("b", 2.0)]).unwrap();
    bench.recorder.known_from.store(u64::MAX, Ordering::SeqCst);
    bench.round(5, &[("a", 3.0)]).unwrap();
    bench.recorder.known_from.store(0, Ordering::SeqCst);
    bench.round(10, &[("a", 4.0)]).unwrap();
    assert_eq!(bench.recorder.appended(), [(0, 2), (2, 0), (0, 1), (1, 0)]);
    // What is forgotten needs no marker: `b` does not come back for one.
    let wanted = [line("a", 0, "1"), line("a", 5, "3"), line("a", 10, "4"), line("b", 0, "2")];
    assert_eq!(bench.recorder.stored(), wanted);
    assert_eq!(bench.received(), Received { received: 4, stored: 4, ..Received::default() });
}

#[test]
fn a_round_that_is_not_taken_is_booked_and_the_next_one_is_whole() {
    let mut bench = Bench::new(10);
    bench.round(0, &[("a", 1.0), ("b", 2.0)]).unwrap();
    bench.recorder.fails.store(true, Ordering::SeqCst);
    assert!(bench.round(5, &[("a", 3.0), ("c", 4.0)]).is_err());
    bench.recorder.fails.store(false, Ordering::SeqCst);
    bench.round(10, &[("a", 5.0), ("c", 6.0)]).unwrap();
    let wanted = [line("a", 0, "1"), line("a", 10, "5"), line("b", 0, "2"), line("b", 10, "stale"), line("c", 10, "6")];
    assert_eq!(bench.recorder.stored(), wanted);
    assert_eq!(bench.losses(), [("log_write_failed".to_owned(), 3)]);
    let wanted = Received { received: 8, stored: 5, rejected: 3, ..Received::default() };
    assert_eq!(bench.received(), wanted);
}

#[test]
fn doubles_and_series_beyond_the_limit_are_booked() {
    let mut bench = Bench::new(2);
    bench.round(0, &[("a", 1.0), ("a", 9.0), ("b", 2.0), ("c", 3.0)]).unwrap();
    assert_eq!(bench.recorder.stored(), [line("a", 0, "1"), line("b", 0, "2")]);
    assert_eq!(bench.losses(), [("duplicate_sample".to_owned(), 1), ("series_limit".to_owned(), 1)]);
    // Series that vanish make room.
    bench.round(5, &[("c", 3.0)]).unwrap();
    bench.round(10, &[("c", 4.0)]).unwrap();
    assert!(bench.recorder.stored().contains(&line("c", 10, "4")));
}

#[test]
fn a_registry_gives_the_series_that_a_scrape_of_it_would() {
    let registry = Registry::new();
    registry.counter("hits_total").help("Hits.").labels(["job", "empty"]).family().unwrap().with(["x", ""]).add(2);
    let seconds = registry.histogram("h").unit("").buckets(&[0.5, 2.0]).register().unwrap();
    [0.25, 1.0, 9.0].iter().for_each(|value| seconds.record(*value));
    registry.summary("s").quantiles(&[1.0]).register().unwrap().record(4.0);
    let mut bench = Bench::new(100);
    registry.snapshot().iter().for_each(|family| own::push_family(&mut bench.gathered, family));
    bench.store.store(&bench.engine, &mut bench.gathered, NOW_MS).unwrap();
    let quantile = bench.recorder.stored().iter().find(|line| line.contains("quantile")).cloned();
    assert!(quantile.is_some_and(|line| line.contains(r#"quantile="1.0""#)));
    let others: Vec<String> = bench.recorder.stored().into_iter().filter(|line| !line.contains("quantile")).collect();
    assert_eq!(
        others,
        [
            r#"h_bucket{instance="i", job="j", le="+Inf"} @0 3"#,
            r#"h_bucket{instance="i", job="j", le="0.5"} @0 1"#,
            r#"h_bucket{instance="i", job="j", le="2.0"} @0 2"#,
            r#"h_count{instance="i", job="j"} @0 3"#,
            r#"h_sum{instance="i", job="j"} @0 10.25"#,
            r#"hits_total{exported_job="x", instance="i", job="j"} @0 2"#,
            r#"s_count{instance="i", job="j"} @0 1"#,
            r#"s_sum{instance="i", job="j"} @0 4"#,
        ]
    );
}

/// Runs jobs on the caller's thread, or refuses them.
#[derive(Default)]
struct InlinePool {
    is_full: AtomicBool,
}

impl BlockingPool for InlinePool {
    fn try_execute(&self, job: Job) -> Result<(), PoolFull> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(PoolFull { name: "ingest".into(), limit: 7 });
        }
        // A pool outlives a job that panics.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
        Ok(())
    }
}

/// The clock of a paused runtime.
struct RuntimeClock(tokio::time::Instant);

impl Clock for RuntimeClock {
    fn now_ms(&self) -> i64 {
        NOW_MS + i64::try_from(self.monotonic().as_millis()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Gives one gauge that counts rounds; cancels after the last, panics in the second.
struct Counting {
    rounds: u32,
    last: u32,
    stop: CancellationToken,
    panics_in: Option<u32>,
}

impl Source for Counting {
    fn gather(&mut self, out: &mut Gathered) {
        self.rounds += 1;
        out.gauge("rounds", "Rounds so far.", f64::from(self.rounds));
        if self.rounds == self.last {
            self.stop.cancel();
        }
        assert_ne!(Some(self.rounds), self.panics_in, "a fault of the source");
    }
}

async fn run(last: u32, panics_in: Option<u32>) -> (Arc<Recorder>, Registry, Arc<LossLedger>) {
    let recorder = Arc::new(Recorder::default());
    let stop = CancellationToken::new();
    let (registry, ledger) = (Registry::new(), Arc::new(LossLedger::default()));
    let parts = CollectParts {
        storage: recorder.clone(),
        pool: Arc::new(InlinePool::default()),
        ledger: ledger.clone(),
        clock: Arc::new(RuntimeClock(tokio::time::Instant::now())),
        registry: registry.clone(),
    };
    let options = CollectorOptions {
        interval: Duration::from_secs(15),
        offset: Duration::from_secs(2),
        job: "j".into(),
        instance: "i".into(),
        is_target: true,
    };
    let source = Counting { rounds: 0, last, stop: stop.clone(), panics_in };
    Collector::of("test", options, Box::new(source), parts).unwrap().run(stop).await;
    (recorder, registry, ledger)
}

fn rounds_of(registry: &Registry) -> Vec<(String, f64)> {
    let families = registry.snapshot();
    let rounds = families.iter().find(|family| family.name == "kymo_collect_rounds_total").unwrap();
    let outcome = |labels: &[(String, String)]| labels[0].1.clone();
    rounds.series.iter().map(|series| (outcome(&series.labels), series.value.value())).collect()
}

#[tokio::test(start_paused = true)]
async fn rounds_begin_at_once_and_then_lie_on_the_grid_until_the_end_is_marked() {
    let (recorder, registry, _) = run(3, None).await;
    // NOW_MS is five seconds past a multiple of fifteen; the offset is two.
    assert_eq!(NOW_MS.rem_euclid(15_000), 5_000);
    let series = |name: &str, at: i64, value: &str| format!(r#"{name}{{instance="i", job="j"}} @{at} {value}"#);
    let mut wanted = Vec::new();
    for (name, values) in [("rounds", ["1", "2", "3"]), ("up", ["1", "1", "1"])] {
        wanted.extend([0, 12_000, 27_000].into_iter().zip(values).map(|(at, value)| series(name, at, value)));
        wanted.push(series(name, 27_001, "stale"));
    }
    assert_eq!(recorder.stored(), wanted);
    let outcome = |name: &str, count| (name.to_owned(), count);
    assert_eq!(rounds_of(&registry), [outcome("failed", 0.0), outcome("skipped", 0.0), outcome("stored", 3.0)]);
}

#[tokio::test(start_paused = true)]
async fn a_process_stores_its_registry_and_itself() {
    let recorder = Arc::new(Recorder::default());
    let mut parts = CollectParts::around(recorder.clone(), Arc::new(InlinePool::default()));
    parts.clock = Arc::new(RuntimeClock(tokio::time::Instant::now()));
    parts.registry.counter("work_total").register().unwrap().add(7);
    let elsewhere = Registry::new();
    elsewhere.gauge("level").register().unwrap().set(3.0);
    let others = elsewhere.snapshot();
    let options = CollectorOptions { instance: "i".into(), ..CollectorOptions::own() };
    let stop = CancellationToken::new();
    let running = tokio::spawn(Collector::own(options, parts, move || others.clone()).unwrap().run(stop.clone()));
    // The only other task runs its first round.
    tokio::task::yield_now().await;
    stop.cancel();
    running.await.unwrap();
    let stored = recorder.stored();
    for start in [
        r#"kymo_collect_rounds_total{instance="i", job="kymo", outcome="stored", source="self"} @0 0"#,
        r#"level{instance="i", job="kymo"} @0 3"#,
        r#"up{instance="i", job="kymo"} @0 1"#,
        r#"work_total{instance="i", job="kymo"} @0 7"#,
    ] {
        assert!(stored.iter().any(|line| line.starts_with(start)), "{start} in {stored:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_costs_one_round() {
    let (recorder, registry, _) = run(3, Some(2)).await;
    let rounds: Vec<String> = recorder.stored().into_iter().filter(|line| line.starts_with("rounds")).collect();
    assert_eq!(rounds.len(), 3, "{rounds:?}");
    assert!(rounds[1].ends_with("@27000 3") && rounds[2].ends_with("stale"), "{rounds:?}");
    assert_eq!(rounds_of(&registry)[0], ("failed".to_owned(), 1.0));
}

#[tokio::test(start_paused = true)]
async fn a_full_pool_skips_rounds_and_says_so() {
    let recorder = Arc::new(Recorder::default());
    let pool = Arc::new(InlinePool { is_full: AtomicBool::new(true) });
    let mut parts = CollectParts::around(recorder.clone(), pool);
    parts.clock = Arc::new(RuntimeClock(tokio::time::Instant::now()));
    let (registry, ledger) = (parts.registry.clone(), parts.ledger.clone());
    let stop = CancellationToken::new();
    let source = Counting { rounds: 0, last: 1, stop: stop.clone(), panics_in: None };
    let collector = Collector::of("test", CollectorOptions::host(), Box::new(source), parts).unwrap();
    let running = tokio::spawn(collector.run(stop.clone()));
    tokio::time::advance(Duration::from_secs(1)).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(recorder.stored(), Vec::<String>::new());
    assert_eq!(rounds_of(&registry)[1], ("skipped".to_owned(), 1.0));
    assert_eq!((ledger.losses()[0].reason.as_str(), ledger.losses()[0].count), ("pool_full", 1));
}
