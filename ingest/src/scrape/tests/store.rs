use std::sync::Arc;

use kymo_core::batch::SampleBatch;
use kymo_core::storage::{
    AppendError, AppendReport, Changes, QueryContext, SelectError, Selector, SeriesSet, StorageStatistics,
};
use kymo_core::{Budget, Exemplar, Labels, LabelsRef, Metadata, MetricStorage, SeriesRef};

use super::support::{Rig, START_MS, job};
use crate::exposition::Format;
use crate::scrape::error::ScrapeError;
use crate::scrape::store::{Answer, Engine, Outcome, TargetStore};

/// One target without HTTP.
struct Target {
    rig: Rig,
    engine: Engine,
    store: TargetStore,
}

impl Target {
    fn new(json: &str) -> Target {
        Target::on(Rig::new(), json)
    }

    fn on(rig: Rig, json: &str) -> Target {
        let labels = Labels::from_pairs([("job", "j")]);
        let store = TargetStore::new(Arc::new(job(json)), labels, 10.0, &Budget::unlimited()).unwrap();
        let engine = rig.engine();
        Target { rig, engine, store }
    }

    fn scrape(&mut self, after_ms: i64, body: &str) -> Outcome {
        self.scrape_as(after_ms, body, Format::Text)
    }

    fn scrape_as(&mut self, after_ms: i64, body: &str, format: Format) -> Outcome {
        self.rig.clock.set_wall_ms(START_MS + after_ms);
        let answer = Answer { body: body.as_bytes(), format };
        self.store.store(&self.engine, START_MS + after_ms, Ok(answer), || 0.25)
    }

    fn fail(&mut self, after_ms: i64) -> Outcome {
        let status = reqwest::StatusCode::INTERNAL_SERVER_ERROR;
        self.store.store(&self.engine, START_MS + after_ms, Err(ScrapeError::Status { status }), || 0.5)
    }

    /// `scraped, kept, added, up` as stored.
    fn reports(&self, after_ms: i64) -> [f64; 4] {
        let of = |name| self.rig.report(name, after_ms).unwrap();
        [of("scrape_samples_scraped"), of("scrape_samples_post_metric_relabeling"), of("scrape_series_added"), of("up")]
    }
}

const PLAIN: &str = r#"{"job_name":"j"}"#;

#[test]
fn a_scrape_is_stored_with_the_series_about_it() {
    let mut target = Target::new(PLAIN);
    let outcome = target.scrape(0, "a{x=\"1\"} 1\na{x=\"2\"} 2\nb 3 1700000000500\n");
    assert!(outcome.error.is_none() && outcome.store_error.is_none(), "{outcome:?}");
    assert_eq!(
        target.rig.samples(""),
        [
            r#"a{job="j", x="1"} 1 @0"#,
            r#"a{job="j", x="2"} 2 @0"#,
            r#"b{job="j"} 3 @500"#,
            r#"scrape_duration_seconds{job="j"} 0.25 @0"#,
            r#"scrape_samples_post_metric_relabeling{job="j"} 3 @0"#,
            r#"scrape_samples_scraped{job="j"} 3 @0"#,
            r#"scrape_series_added{job="j"} 3 @0"#,
            r#"up{job="j"} 1 @0"#,
        ]
    );
    target.scrape(15_000, "a{x=\"1\"} 1\nc 1\n");
    assert_eq!(target.reports(15_000), [2.0, 2.0, 1.0, 1.0]);
    let (_, totals) = target.rig.ledger.received()[0];
    assert_eq!((totals.received, totals.stored, totals.rejected), (16, 16, 0));
}

#[test]
fn a_series_that_vanishes_gets_one_marker_and_comes_back() {
    let mut target = Target::new(PLAIN);
    for (after_ms, body) in [(0, "a 1\nb 1\n"), (10, "b 2\n"), (20, "b 3\n"), (30, "a 4\nb 4\n")] {
        target.scrape(after_ms, body);
    }
    let wanted = [r#"a{job="j"} 1 @0"#, r#"a{job="j"} stale @10"#, r#"a{job="j"} 4 @30"#];
    assert_eq!(target.rig.samples("a"), wanted);
    assert_eq!(target.rig.samples("b").len(), 4);
    assert_eq!(target.reports(30), [2.0, 2.0, 1.0, 1.0]);
}

#[test]
fn all_series_go_stale_when_a_scrape_fails_and_come_back_known() {
    let mut target = Target::new(PLAIN);
    target.scrape(0, "a 1\nb 1\n");
    let outcome = target.fail(10);
    assert_eq!(outcome.error.unwrap().to_string(), "server returned HTTP status 500 Internal Server Error");
    target.fail(20);
    target.scrape(30, "a 2\nb 2\n");
    let wanted = [r#"a{job="j"} 1 @0"#, r#"a{job="j"} stale @10"#, r#"a{job="j"} 2 @30"#];
    assert_eq!(target.rig.samples("a"), wanted);
    assert_eq!(target.reports(10), [0.0, 0.0, 0.0, 0.0]);
    assert_eq!(target.reports(30), [2.0, 2.0, 0.0, 1.0]);
    assert_eq!(target.rig.report("scrape_duration_seconds", 10), Some(0.5));
    // Nothing arrived, so nothing was lost.
    assert!(target.rig.losses().is_empty());
}

#[test]
fn a_partly_bad_page_is_wholly_bad() {
    for (format, bad) in [(Format::Text, "a 2\nc 1\nb{ 2\n"), (Format::OpenMetrics, "a 2\nc 1\nb 2\n")] {
        let mut target = Target::new(PLAIN);
        target.scrape(0, "a 1\nb 1\n");
        let outcome = target.scrape_as(10, bad, format);
        assert!(matches!(outcome.error, Some(ScrapeError::Exposition(_))), "{outcome:?}");
        let wanted = [r#"a{job="j"} 1 @0"#, r#"a{job="j"} stale @10"#, r#"b{job="j"} 1 @0"#, r#"b{job="j"} stale @10"#];
        assert_eq!([target.rig.samples("a"), target.rig.samples("b")].concat(), wanted);
        assert!(target.rig.samples("c").is_empty());
        assert_eq!(target.reports(10)[3], 0.0);
        assert_eq!(target.rig.losses()[0].0, "bad_exposition");
        // What the bad page named for the first time is new when it is stored for the first time.
        target.scrape(20, "c 1\n");
        assert_eq!(target.reports(20), [1.0, 1.0, 1.0, 1.0]);
        assert_eq!(target.rig.samples("a").len(), 2);
    }
}

#[test]
fn an_empty_page_is_up_and_ends_all_series() {
    let mut target = Target::new(PLAIN);
    target.scrape(0, "a 1\n");
    assert!(target.scrape_as(10, "", Format::OpenMetrics).error.is_none());
    assert_eq!(target.rig.samples("a"), [r#"a{job="j"} 1 @0"#, r#"a{job="j"} stale @10"#]);
    assert_eq!(target.reports(10), [0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn of_duplicates_the_first_counts_however_they_are_spelt() {
    let drop_x = r#"{"job_name":"j","metric_relabel_configs":[{"regex":"x","action":"labeldrop"}]}"#;
    let page = "a{x=\"1\"} 1\na{x=\"2\"} 2\na{x=\"1\"} 3\n a { x = \"1\" } 4\n";
    let mut target = Target::new(drop_x);
    for after_ms in [0, 10] {
        target.scrape(after_ms, page);
        assert_eq!(target.reports(after_ms)[..2], [4.0, 4.0]);
    }
    assert_eq!(target.rig.samples("a"), [r#"a{job="j"} 1 @0"#, r#"a{job="j"} 1 @10"#]);
    assert_eq!(target.rig.losses(), [("duplicate_sample".to_owned(), 6)]);
    // As long as one spelling stays, the series does.
    target.scrape(20, "a{x=\"2\"} 5\n");
    target.scrape(30, "a{x=\"3\"} 6\n");
    assert_eq!(target.rig.samples("a")[2..], [r#"a{job="j"} 5 @20"#, r#"a{job="j"} 6 @30"#]);
    let (_, totals) = target.rig.ledger.received()[0];
    assert_eq!(totals.received, totals.stored + totals.rejected);
}

#[test]
fn timestamps_of_the_target_are_honoured_or_not() {
    let page = "a 1 1700000000001\na 2 1700000000002\n";
    let mut target = Target::new(PLAIN);
    target.scrape(10, page);
    assert_eq!(target.rig.samples("a"), [r#"a{job="j"} 1 @1"#, r#"a{job="j"} 2 @2"#]);
    // A series with times of its own does not go stale…
    target.scrape(20, "b 1\n");
    assert_eq!(target.rig.samples("a").len(), 2);
    // …unless the job wants it.
    let mut tracked = Target::new(r#"{"job_name":"j","track_timestamps_staleness":true}"#);
    tracked.scrape(10, page);
    tracked.scrape(20, "b 1\n");
    assert_eq!(tracked.rig.samples("a")[2], r#"a{job="j"} stale @20"#);
    let mut ignored = Target::new(r#"{"job_name":"j","honor_timestamps":false}"#);
    ignored.scrape(10, page);
    assert_eq!(ignored.rig.samples("a"), [r#"a{job="j"} 1 @10"#]);
}

#[test]
fn samples_of_the_future_are_refused_and_the_others_stored() {
    let mut target = Target::new(PLAIN);
    let outcome = target.scrape(0, "a 1 1700000600000\nb 1 1700000600001\nc 1\n");
    assert!(outcome.error.is_none());
    assert_eq!(target.rig.samples("a"), [r#"a{job="j"} 1 @600000"#]);
    assert!(target.rig.samples("b").is_empty());
    assert_eq!(target.reports(0), [3.0, 3.0, 2.0, 1.0]);
    assert_eq!(target.rig.losses(), [("too_far_in_future".to_owned(), 1)]);
}

#[test]
fn limits_fail_the_whole_scrape_and_are_counted_to_its_end() {
    let table = [
        (r#""sample_limit":2"#, "sample limit exceeded", [3.0, 3.0, 2.0, 0.0]),
        (r#""label_limit":2"#, "label_limit exceeded (metric: b, number of labels: 3, limit: 2)", [2.0, 1.0, 1.0, 0.0]),
    ];
    for (limit, error, reports) in table {
        let mut target = Target::new(&format!(r#"{{"job_name":"j",{limit}}}"#));
        target.scrape(0, "a 1\n");
        let outcome = target.scrape(10, "a 1\nb{x=\"y\"} 1\nc 1\n");
        assert_eq!(outcome.error.unwrap().to_string(), error);
        let mut wanted = reports;
        // `a` was known before.
        wanted[2] -= 1.0;
        assert_eq!(target.reports(10), wanted, "{error}");
        assert_eq!(target.rig.samples("a")[1], r#"a{job="j"} stale @10"#);
        assert!(target.rig.samples("b").is_empty());
        assert_eq!(target.rig.losses()[0].1, reports[0] as u64);
    }
    let mut fits = Target::new(
        r#"{"job_name":"j","sample_limit":1,"metric_relabel_configs":[
        {"source_labels":["__name__"],"regex":"go_.*","action":"drop"}]}"#,
    );
    assert!(fits.scrape(0, "go_a 1\nb 1\ngo_c 1\n").error.is_none());
    assert_eq!(fits.reports(0), [3.0, 1.0, 1.0, 1.0]);
}

#[test]
fn more_is_told_of_a_scrape_if_the_job_wants_it() {
    let mut target = Target::new(r#"{"job_name":"j","extra_scrape_metrics":true,"sample_limit":7}"#);
    target.scrape(0, "a 1\n");
    let found =
        ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"].map(|n| target.rig.report(n, 0));
    assert_eq!(found, [Some(10.0), Some(7.0), Some(4.0)]);
    let outcome = target.store.store(&target.engine, START_MS + 10, Err(ScrapeError::BodyLimit), || 1.0);
    assert_eq!(outcome.error.unwrap().to_string(), "body size limit exceeded");
    assert_eq!(target.rig.report("scrape_body_size_bytes", 10), Some(-1.0));
}

#[test]
fn refs_that_the_engine_forgot_are_named_again_in_the_same_scrape() {
    let mut target = Target::new(PLAIN);
    let page = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nb 2\nc 3\n";
    target.scrape(0, page);
    target.rig.storage.reopen();
    target.scrape(10, "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nb 2\n");
    assert_eq!(
        target.rig.samples("h"),
        [r#"h_bucket{job="j", le="1.0"} 1 @0"#, r#"h_bucket{job="j", le="1.0"} 1 @10"#]
    );
    assert_eq!(target.rig.samples("c"), [r#"c{job="j"} 3 @0"#, r#"c{job="j"} stale @10"#]);
    assert_eq!(target.reports(10), [2.0, 2.0, 0.0, 1.0]);
    let (_, totals) = target.rig.ledger.received()[0];
    assert_eq!((totals.received, totals.stored), (16, 16));
    target.scrape(20, "b 2\n");
    assert_eq!(target.rig.samples("h").last().unwrap(), r#"h_bucket{job="j", le="1.0"} stale @20"#);
}

#[test]
fn series_beyond_the_engines_limit_are_refused_and_tried_again() {
    let mut target = Target::on(Rig::with(|options| options.series_max = 1), PLAIN);
    let outcome = target.scrape(0, "a 1\nb 1\n");
    assert!(outcome.error.is_none() && outcome.store_error.is_none());
    assert_eq!(target.rig.samples(""), [r#"a{job="j"} 1 @0"#]);
    target.scrape(10, "b 1\n");
    assert_eq!(target.rig.samples(""), [r#"a{job="j"} 1 @0"#, r#"a{job="j"} stale @10"#]);
    let (_, totals) = target.rig.ledger.received()[0];
    assert_eq!(totals.received, totals.stored + totals.rejected);
}

#[test]
fn exemplars_go_with_their_series() {
    let mut target = Target::new(PLAIN);
    let long = "x".repeat(128);
    let page = format!(
        "a_total 1 # {{trace=\"t1\"}} 0.5 1700000000.001\nb_total 1 # {{trace=\"t2\"}} 0.5\nc_total 1 # {{t=\"{long}\"}} 1\n# EOF\n"
    );
    for after_ms in [10, 20] {
        assert!(target.scrape_as(after_ms, &page, Format::OpenMetrics).error.is_none());
    }
    target.rig.storage.reopen();
    target.scrape_as(30, &page, Format::OpenMetrics);
    let found = target.rig.storage.exemplars(&Selector::everything(), &QueryContext::unlimited()).unwrap();
    let shown: Vec<String> = found
        .iter()
        .flat_map(|(series, all)| {
            all.iter().map(|e| {
                format!(
                    "{} {} @{}",
                    series.metric_name().unwrap(),
                    e.labels.get("trace").unwrap(),
                    e.time_ms - START_MS
                )
            })
        })
        .collect();
    assert_eq!(shown, ["a_total t1 @1", "b_total t2 @10", "b_total t2 @20", "b_total t2 @30"]);
}

#[test]
fn families_are_told_once_and_again_when_they_change() {
    let mut target = Target::new(PLAIN);
    let page = "# HELP a_s First.\n# TYPE a_s gauge\n# UNIT a_s s\na_s 1\n# EOF\n";
    let told = target.scrape_as(0, page, Format::OpenMetrics).families.unwrap();
    assert_eq!(
        (told.len(), told[0].0.as_str(), told[0].1.help.as_str(), told[0].1.unit.as_str()),
        (1, "a_s", "First.", "s")
    );
    assert!(target.scrape_as(10, page, Format::OpenMetrics).families.is_none());
    target.scrape_as(20, &page.replace("First", "Second\\n"), Format::OpenMetrics);
    let kept = target.rig.storage.metadata(Some("a_s"), &QueryContext::unlimited()).unwrap();
    let helps: Vec<&str> = kept[0].1.iter().map(|metadata| metadata.help.as_str()).collect();
    assert_eq!(helps, ["Second\n.", "First."]);
}

/// An engine that takes nothing while it is told to.
struct Refusing(Arc<kymo_core::MemoryStorage>, std::sync::atomic::AtomicBool);

impl MetricStorage for Refusing {
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        match self.1.load(std::sync::atomic::Ordering::SeqCst) {
            true => Err(AppendError::Closed),
            false => self.0.append(batch),
        }
    }
    fn select(&self, what: &Selector, ctx: &QueryContext) -> Result<Box<dyn SeriesSet>, SelectError> {
        self.0.select(what, ctx)
    }
    fn version(&self) -> u64 {
        self.0.version()
    }
    fn changed_since(&self, since: u64, what: &Selector) -> Changes {
        self.0.changed_since(since, what)
    }
    fn resolve(&self, labels: LabelsRef<'_>) -> Option<SeriesRef> {
        self.0.resolve(labels)
    }
    fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.0.labels(series)
    }
    fn label_names(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.0.label_names(what, ctx)
    }
    fn label_values(&self, name: &str, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.0.label_values(name, what, ctx)
    }
    fn metadata(&self, family: Option<&str>, ctx: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, SelectError> {
        self.0.metadata(family, ctx)
    }
    fn exemplars(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<(Labels, Vec<Exemplar>)>, SelectError> {
        self.0.exemplars(what, ctx)
    }
    fn statistics(&self) -> StorageStatistics {
        self.0.statistics()
    }
}

#[test]
fn a_scrape_that_could_not_be_stored_leaves_the_cache_as_it_was() {
    let mut target = Target::new(PLAIN);
    let storage = Arc::new(Refusing(target.rig.storage.clone(), false.into()));
    target.engine.storage = storage.clone();
    target.scrape(0, "# TYPE a gauge\na 1\nb 1\n");
    storage.1.store(true, std::sync::atomic::Ordering::SeqCst);
    let outcome = target.scrape(10, "# TYPE c gauge\na 2\nc 2\n");
    assert!(outcome.error.is_none());
    assert_eq!(outcome.store_error.unwrap().to_string(), "the samples could not be stored: the storage is closed");
    assert_eq!(target.rig.losses(), [("not_stored".to_owned(), 8)]);
    storage.1.store(false, std::sync::atomic::Ordering::SeqCst);
    target.scrape(20, "# TYPE c gauge\na 3\nc 3\n");
    // The marker of `b` comes with the next scrape that is stored.
    assert_eq!(target.rig.samples("b"), [r#"b{job="j"} 1 @0"#, r#"b{job="j"} stale @20"#]);
    assert_eq!(target.rig.samples("c"), [r#"c{job="j"} 3 @20"#]);
    assert_eq!(target.reports(20), [2.0, 2.0, 1.0, 1.0]);
    assert_eq!(target.rig.storage.metadata(Some("c"), &QueryContext::unlimited()).unwrap().len(), 1);
}

#[test]
fn the_end_of_a_target_is_marked_but_for_what_others_go_on_with() {
    let mut target = Target::new(PLAIN);
    target.scrape(0, "a 1\nb 1\n");
    let b = target.rig.storage.resolve(Labels::from_pairs([("__name__", "b"), ("job", "j")]).as_ref()).unwrap();
    let mut tracked = target.store.tracked();
    tracked.sort();
    assert_eq!((tracked.len(), tracked.contains(&b)), (7, true));
    target.store.end_of_run(&target.engine, START_MS + 20, |series| series == b).unwrap();
    assert_eq!(target.rig.samples("a"), [r#"a{job="j"} 1 @0"#, r#"a{job="j"} stale @20"#]);
    assert_eq!(target.rig.samples("b").len(), 1);
    assert_eq!(target.rig.samples("up").last().unwrap(), r#"up{job="j"} stale @20"#);
}
