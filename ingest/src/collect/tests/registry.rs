//! From a registry to the engine: what becomes of each kind, and of series that end.

use std::collections::BTreeMap;

use kymo_core::registry::NativeOptions;

use super::*;

/// Stores what the registry holds at so many milliseconds.
fn round(bench: &mut Bench, registry: &Registry, at_ms: i64) {
    bench.gathered.clear();
    registry.snapshot().iter().for_each(|family| own::push_family(&mut bench.gathered, family));
    bench.store.store(&bench.engine, &mut bench.gathered, NOW_MS + at_ms).unwrap();
}

/// A dropped scoped handle, a removal and a time to live that passed each end a stored series at the next round, and
/// nothing else does.
#[tokio::test(start_paused = true)]
async fn a_series_that_leaves_the_registry_is_marked_at_the_next_round() {
    let recorder = Arc::new(Recorder::default());
    let clock = Arc::new(RuntimeClock(tokio::time::Instant::now()));
    let registry = Registry::with_clock(clock.clone());
    let mut parts = CollectParts::around(recorder.clone(), Arc::new(InlinePool::default()));
    (parts.clock, parts.registry) = (clock, registry.clone());

    let open = registry.up_down_counter("open").labels(["peer"]).family().unwrap();
    let (first, second) = (open.scoped(["a"]), open.scoped(["b"]));
    let native = NativeOptions::default();
    let waits = registry.histogram("wait_seconds").native(native).labels(["peer"]).family().unwrap();
    let waiting = waits.scoped(["a"]);
    let hits = registry.counter("hits_total").labels(["n"]).family().unwrap();
    let levels = registry.gauge("level").ttl(Duration::from_secs(20)).labels(["n"]).family().unwrap();
    let held = levels.with(["held"]);
    [&first, &second].iter().for_each(|scoped| scoped.inc());
    waiting.record(0.25);
    hits.at(["removed"]).add(2);
    hits.at(["stays"]).inc();
    levels.at(["idle"]).set(1.0);

    let options = CollectorOptions {
        interval: Duration::from_secs(15),
        offset: Duration::from_secs(2),
        job: "j".into(),
        instance: "i".into(),
        is_target: true,
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(Collector::own(options, parts, Vec::new).unwrap().run(stop.clone()));
    // The time of this runtime passes only while all of its tasks wait: rounds are at 0, 12 and 27 seconds.
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop((first, waiting));
    assert!(hits.remove(["removed"]));
    tokio::time::sleep(Duration::from_secs(27)).await;
    stop.cancel();
    running.await.unwrap();

    let stored = recorder.stored();
    let of = |series: &str| -> Vec<&str> {
        stored.iter().filter_map(|line| line.strip_prefix(series)?.strip_prefix(" @")).collect()
    };
    assert_eq!(of(r#"open{instance="i", job="j", peer="a"}"#), ["0 1", "12000 stale"]);
    assert_eq!(of(r#"wait_seconds{instance="i", job="j", peer="a"}"#), ["0 1 observed since 0", "12000 stale"]);
    assert_eq!(of(r#"hits_total{instance="i", job="j", n="removed"}"#), ["0 2", "12000 stale"]);
    assert_eq!(of(r#"level{instance="i", job="j", n="idle"}"#), ["0 1", "12000 1", "27000 stale"]);
    // What is still there is marked only when the collector stops.
    for (series, value) in [
        (r#"open{instance="i", job="j", peer="b"}"#, "1"),
        (r#"hits_total{instance="i", job="j", n="stays"}"#, "1"),
        (r#"level{instance="i", job="j", n="held"}"#, "0"),
    ] {
        let wanted = [0, 12_000, 27_000].map(|at| format!("{at} {value}"));
        assert_eq!(of(series)[..3], wanted, "{series}");
        assert_eq!(of(series)[3..], ["28000 stale"], "{series}");
    }
    drop((second, held));
}

#[test]
fn native_histograms_are_native_rows_that_start_when_they_were_made() {
    let registry = Registry::with_clock(Arc::new(ManualClock::at(NOW_MS - 5_000)));
    let family = registry.histogram("wait_seconds").native(NativeOptions::default()).labels(["peer"]).family().unwrap();
    let waits = family.with(["a"]);
    waits.record(0.25);
    waits.record(9.0);
    let mut bench = Bench::new(10);
    round(&mut bench, &registry, 0);
    // What the engine holds is the histogram, not its sum and count only.
    let set = bench.recorder.select(&Selector::everything(), &QueryContext::unlimited()).unwrap();
    let mut columns = Columns::default();
    set.read(0, &mut columns).unwrap();
    assert_eq!((set.len(), &columns.histograms[..]), (1, &[waits.native().unwrap()][..]));

    waits.record(1.0);
    round(&mut bench, &registry, 5);
    // Named again within the round, as a histogram and with its start.
    bench.recorder.known_from.store(u64::MAX, Ordering::SeqCst);
    round(&mut bench, &registry, 10);
    bench.recorder.known_from.store(0, Ordering::SeqCst);
    assert!(family.remove(["a"]));
    round(&mut bench, &registry, 15);
    let line = |rest: &str| format!(r#"wait_seconds{{instance="i", job="j", peer="a"}} @{rest}"#);
    let wanted = ["0 2 observed since -5000", "5 3 observed since -5000", "10 3 observed since -5000", "15 stale"];
    assert_eq!(bench.recorder.stored(), wanted.map(line));
    assert_eq!(bench.recorder.appended(), [(0, 1), (1, 0), (1, 0), (0, 1), (1, 0)]);
    let metadata = bench.recorder.metadata(Some("wait_seconds"), &QueryContext::unlimited()).unwrap();
    assert_eq!(metadata[0].1[0].family_type, FamilyType::Histogram);
}

#[test]
fn what_is_counted_says_since_when_and_what_is_a_level_does_not() {
    let registry = Registry::with_clock(Arc::new(ManualClock::at(NOW_MS - 5_000)));
    registry.counter("hits_total").register().unwrap().inc();
    registry.gauge("level").register().unwrap().set(2.0);
    registry.histogram("wait_seconds").buckets(&[1.0]).register().unwrap().record(0.5);
    registry.summary("size_bytes").quantiles(&[0.5]).register().unwrap().record(7.0);
    let mut bench = Bench::new(20);
    round(&mut bench, &registry, 0);
    let set = bench.recorder.select(&Selector::everything(), &QueryContext::unlimited()).unwrap();
    let (mut columns, mut found) = (Columns::default(), BTreeMap::new());
    for index in 0..set.len() {
        set.read(index, &mut columns).unwrap();
        let start = columns.starts.first().copied().unwrap_or(0);
        *found.entry((set.labels(index).metric_name().unwrap_or_default().to_owned(), start)).or_insert(0) += 1;
    }
    let born = NOW_MS - 5_000;
    let wanted = [
        ("hits_total", born, 1),
        ("level", 0, 1),
        ("size_bytes", 0, 1),
        ("size_bytes_count", born, 1),
        ("size_bytes_sum", born, 1),
        ("wait_seconds_bucket", born, 2),
        ("wait_seconds_count", born, 1),
        ("wait_seconds_sum", born, 1),
    ];
    assert_eq!(found, wanted.map(|(name, start, series)| ((name.to_owned(), start), series)).into());
}

#[test]
fn a_histogram_made_after_the_moment_of_its_round_has_no_start() {
    let registry = Registry::with_clock(Arc::new(ManualClock::at(NOW_MS + 1)));
    registry.histogram("h").native(NativeOptions::default()).register().unwrap().record(1.0);
    let mut bench = Bench::new(10);
    round(&mut bench, &registry, 0);
    assert_eq!(bench.recorder.stored(), [r#"h{instance="i", job="j"} @0 1 observed"#]);
}

#[test]
fn the_quantiles_of_a_summary_end_with_its_window_and_its_totals_do_not() {
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let registry = Registry::with_clock(clock.clone());
    let summary = registry.summary("s").quantiles(&[0.5]).window(Duration::from_secs(60)).register().unwrap();
    summary.record(0.0);
    let mut bench = Bench::new(10);
    round(&mut bench, &registry, 0);
    clock.advance(Duration::from_secs(120));
    round(&mut bench, &registry, 120_000);
    assert_eq!(
        bench.recorder.stored(),
        [
            r#"s{instance="i", job="j", quantile="0.5"} @0 0"#,
            r#"s{instance="i", job="j", quantile="0.5"} @120000 NaN"#,
            r#"s_count{instance="i", job="j"} @0 1"#,
            r#"s_count{instance="i", job="j"} @120000 1"#,
            r#"s_sum{instance="i", job="j"} @0 0"#,
            r#"s_sum{instance="i", job="j"} @120000 0"#,
        ]
    );
}
