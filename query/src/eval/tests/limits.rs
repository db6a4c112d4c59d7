//! What stops a query, and what a query says of its cost.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kymo_core::query::{CatalogRequest, PlanNode, StatsWanted};
use kymo_core::storage::CancelFlag;
use kymo_core::{Budget, ErrorKind, ManualClock, Matcher};

use super::watched::Watched;
use super::*;

const RANGE: Grid = Grid::Range { start_ms: 0, end_ms: 600_000, step_ms: 60_000 };

/// That many series of 11 samples, one a minute.
fn plain_storage(series: usize) -> Arc<MemoryStorage> {
    let lines: String = (0..series).map(|n| format!("x{{n=\"{n:03}\"}} 0+{n}x10\n")).collect();
    storage(60_000, &lines)
}

fn plain(series: usize) -> Engine {
    engine(plain_storage(series), EngineOptions::default())
}

#[test]
fn ten_thousand_chained_operators_are_answered() {
    let engine = plain(2);
    for (first, next) in [("1", " + 1"), ("x", " + 0"), ("2", " ^ 1"), ("x", " or x"), ("time()", " - time()")] {
        let mut request = QueryRequest::new(first.to_owned() + &next.repeat(10_000), RANGE);
        request.explain = true;
        let found = engine.query(&request, &QueryContext::unlimited()).unwrap();
        let QueryValue::Matrix(series) = found.value else { panic!("{next}") };
        assert!(!series.is_empty(), "{next}");
        assert!(found.plan.unwrap().operation.starts_with("operator"), "{next}");
    }
    let deep = "(".repeat(10_000) + "x" + &")".repeat(10_000);
    assert!(ask(&engine, &deep, RANGE).is_ok());
    let signs = "-".repeat(10_000) + "x";
    assert!(ask(&engine, &signs, RANGE).is_ok());
}

#[test]
fn times_at_the_edges_of_what_there_is_are_answered() {
    let engine = engine(plain_storage(1), EngineOptions::all());
    let texts = [
        "x",
        "x offset 100y",
        "x offset -100y",
        "rate(x[200y])",
        "predict_linear(x[1y] @ 0, 1e9)",
        "time()",
        "max_over_time(x[1m:7s] offset -200y)",
        "year()",
        "timestamp(x @ 0)",
        "x @ end()",
        "absent(x[5m:])",
        "rate(x[1y] smoothed)",
        "x[5m]",
        "x[5m:1m]",
    ];
    for at_ms in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
        for text in texts {
            let found = ask(&engine, text, Grid::Instant { at_ms });
            assert!(found.is_ok() || text.starts_with("absent"), "{text} at {at_ms}: {found:?}");
        }
    }
    for (start_ms, end_ms) in [(i64::MIN, -1), (0, i64::MAX), (i64::MIN / 2, i64::MAX / 2)] {
        let half = Grid::Range { start_ms, end_ms, step_ms: i64::MAX / 3 };
        for text in texts.into_iter().filter(|text| !text.starts_with("x[")) {
            let found = ask(&engine, text, half);
            assert!(found.is_ok() || text.contains(":"), "{text}: {found:?}");
        }
    }
    let whole = Grid::Range { start_ms: i64::MIN, end_ms: i64::MAX, step_ms: i64::MAX / 3 };
    assert_eq!(ask(&engine, "x", whole).unwrap_err().message, "time range is longer than 2^63 ms");
}

#[test]
fn a_range_of_too_many_points_is_refused() {
    let grid = |end_ms| Grid::Range { start_ms: 0, end_ms, step_ms: 1_000 };
    let engine = plain(1);
    assert!(ask(&engine, "x", grid(11_000_000)).is_ok());
    let refused = ask(&engine, "x", grid(11_001_000)).unwrap_err();
    let text = "exceeded maximum resolution of 11,000 points per timeseries. \
                Try decreasing the query resolution (?step=XX)";
    assert_eq!((refused.message.as_str(), refused.kind), (text, ErrorKind::Invalid));
    let backwards = Grid::Range { start_ms: 1, end_ms: 0, step_ms: 1 };
    assert_eq!(ask(&engine, "x", backwards).unwrap_err().message, "end timestamp must not be before start time");
}

#[test]
fn a_query_over_the_sample_limit_is_refused_and_lets_everything_go() {
    let data = plain_storage(10);
    let limited = Engine::with_config(data, EngineConfig { max_samples: 100, ..EngineConfig::default() });
    let ctx = QueryContext::unlimited();
    for text in ["x", "max_over_time(x[1h])", "sum(max_over_time(x[10m:1s]))"] {
        let refused = limited.query(&QueryRequest::new(text, RANGE), &ctx).expect_err(text);
        let expected = "query processing would load too many samples into memory in query execution";
        assert!(refused.message.starts_with(expected), "{text}: {}", refused.message);
        assert!(refused.message.contains("and the limit is 100 (--query-max-samples sets it)"), "{}", refused.message);
        assert_eq!(refused.kind, ErrorKind::Limit, "{text}");
        assert_eq!(ctx.budget.used(), 0);
    }
    assert!(limited.query(&QueryRequest::new("x{n=\"001\"}", RANGE), &ctx).is_ok());
}

#[test]
fn a_query_over_its_budget_names_the_limit() {
    let engine = plain(50);
    let ctx = QueryContext { budget: Budget::root("queries", 8_000), ..QueryContext::unlimited() };
    let refused = engine.query(&QueryRequest::new("x + x", RANGE), &ctx).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Limit);
    assert!(refused.message.starts_with("memory limit \"queries\" of 8000 bytes reached"), "{}", refused.message);
    assert_eq!(ctx.budget.used(), 0);
    assert!(engine.query(&QueryRequest::new("x{n=\"001\"}", RANGE), &ctx).is_ok());
    assert_eq!(ctx.budget.used(), 0);
}

#[test]
fn an_aggregation_holds_its_groups_and_not_its_series() {
    let engine = engine(plain_storage(500), EngineOptions::all());
    let ctx = QueryContext { budget: Budget::root("queries", 20_000), ..QueryContext::unlimited() };
    assert_eq!(engine.query(&QueryRequest::new("x", RANGE), &ctx).unwrap_err().kind, ErrorKind::Limit);
    for text in [
        "sum(x)",
        "avg(rate(x[5m]))",
        "count((max_over_time(x[2m])))",
        "min(x @ 60)",
        "topk(1, x)",
        "bottomk(1, rate(x[5m]))",
        "limitk(1, x)",
        "count_values(\"v\", present_over_time(x[5m]))",
    ] {
        let found = engine.query(&QueryRequest::new(text, RANGE), &ctx).unwrap_or_else(|e| panic!("{text}: {e}"));
        // All begin with a zero, of which `topk` takes the first.
        assert!((1..=2).contains(&shown(&found.value).len()), "{text}");
    }
    assert_eq!(ctx.budget.used(), 0);
}

/// A storage that cancels its query while series number `after` is read, and counts what is read.
fn cancelling(
    inner: Arc<dyn MetricStorage>,
    ctx: &QueryContext,
    after: usize,
    read: &Arc<AtomicUsize>,
) -> Arc<dyn MetricStorage> {
    let (flag, read) = (ctx.cancel.clone(), Arc::clone(read));
    Watched::new(inner, move |_| {
        if read.fetch_add(1, Ordering::Relaxed) == after {
            flag.cancel();
        }
        Ok(())
    })
}

#[test]
fn a_cancelled_query_stops_at_the_next_series() {
    let texts = ["x", "rate(x[5m])", "sum(x)", "x[10m]"];
    for (text, threads) in texts.into_iter().flat_map(|text| [(text, 1), (text, 4)]) {
        let ctx = QueryContext::unlimited();
        let read = Arc::new(AtomicUsize::new(0));
        let storage = cancelling(plain_storage(50), &ctx, 7, &read);
        let engine = Engine::with_config(storage, EngineConfig { threads, ..EngineConfig::default() });
        let stopped = engine.query(&QueryRequest::new(text, Grid::Instant { at_ms: 600_000 }), &ctx).unwrap_err();
        assert_eq!(stopped.kind, ErrorKind::Cancelled, "{text}");
        assert_eq!(stopped.message, "query was canceled in expression evaluation");
        // The others may each have begun one.
        assert!((8..8 + threads).contains(&read.load(Ordering::Relaxed)), "{text} on {threads}");
        assert_eq!(ctx.budget.used(), 0);
    }
}

#[test]
fn a_query_past_its_deadline_times_out() {
    let clock = Arc::new(ManualClock::at(0));
    let ctx =
        QueryContext { deadline: Some(Duration::from_secs(1)), clock: clock.clone(), ..QueryContext::unlimited() };
    let engine = plain(1);
    assert!(engine.query(&QueryRequest::new("x", RANGE), &ctx).is_ok());
    clock.advance(Duration::from_secs(2));
    let late = engine.query(&QueryRequest::new("1", RANGE), &ctx).unwrap_err();
    assert_eq!((late.kind, late.message.as_str()), (ErrorKind::Timeout, "query timed out in expression evaluation"));
}

#[test]
fn an_answer_is_cut_to_the_limit_and_says_so() {
    let engine = plain(5);
    let mut request = QueryRequest::new("x", RANGE);
    request.limit = 2;
    let found = engine.query(&request, &QueryContext::unlimited()).unwrap();
    assert_eq!(shown(&found.value).len(), 2);
    assert_eq!(found.annotations.warnings, ["results truncated due to limit"]);
    request.limit = 5;
    let whole = engine.query(&request, &QueryContext::unlimited()).unwrap();
    assert_eq!((shown(&whole.value).len(), whole.annotations.warnings.len()), (5, 0));
}

#[test]
fn samples_are_counted_as_prometheus_does() {
    let engine = plain(2);
    // Two series, samples at every minute from 0 to 10.
    let rows: [(&str, Grid, u64); 9] = [
        ("x", Grid::Instant { at_ms: 600_000 }, 2),
        ("x", RANGE, 22),
        ("max_over_time(x[2m])", Grid::Instant { at_ms: 600_000 }, 4),
        ("max_over_time(x[2m])", RANGE, 2 + 20 * 2),
        ("x @ 60", RANGE, 22),
        ("max_over_time(x[4m] @ 240)", RANGE, 2 * 4 * 11),
        ("max_over_time(x[4m:2m])", Grid::Instant { at_ms: 600_000 }, 4),
        ("x[4m:2m]", Grid::Instant { at_ms: 600_000 }, 4),
        ("x[4m]", Grid::Instant { at_ms: 600_000 }, 8),
    ];
    for (text, grid, expected) in rows {
        let mut request = QueryRequest::new(text, grid);
        request.stats = StatsWanted::PerStep;
        let stats = engine.query(&request, &QueryContext::unlimited()).unwrap().stats.unwrap();
        assert_eq!(stats.total_queryable_samples, expected, "{text}");
        let by_step: u64 = stats.samples_per_step.iter().map(|(_, count)| count).sum();
        assert_eq!((by_step, stats.samples_per_step.len()), (expected, grid.steps()), "{text}");
        assert!(stats.peak_samples >= 2, "{text}");
    }
}

#[test]
fn a_plan_tells_what_was_expected_and_what_was_seen() {
    let engine = plain(3);
    let mut request = QueryRequest::new("sum(rate(x[5m])) + vector(1)", RANGE);
    request.explain = true;
    let plan = engine.query(&request, &QueryContext::unlimited()).unwrap().plan.unwrap();
    assert_eq!(plan.operation, "operator +, 11 steps");
    assert_eq!((plan.estimated.series, plan.actual.series, plan.inputs.len()), (1, 1, 2));
    let rate = &plan.inputs[0].inputs[0];
    assert_eq!((rate.estimated.series, rate.actual.series), (3, 3));
    let select = &rate.inputs[0];
    assert!(select.operation.starts_with("select range {"), "{}", select.operation);
    let span = select.span.map(|(start, end)| &request.text[start as usize..end as usize]);
    assert_eq!((span, select.tier, select.steps), (Some("x[5m]"), Some(kymo_core::storage::Tier::Raw), 11));
    assert_eq!((select.actual.series, select.actual.samples, select.actual.bytes), (3, 33, 33 * 16));
    assert_eq!(select.estimated, select.actual);
    assert!(plan.inputs[1].operation.ends_with("once for all steps"), "{}", plan.inputs[1].operation);
}

/// Every node of a plan, with its place in the tree.
fn nodes(plan: &PlanNode) -> Vec<&PlanNode> {
    let mut all = vec![plan];
    let mut at = 0;
    while let Some(node) = all.get(at).copied() {
        all.extend(&node.inputs);
        at += 1;
    }
    all
}

#[test]
fn what_is_expected_is_within_twice_of_what_is_seen() {
    let storage = MemoryStorage::default();
    let mut batch = kymo_core::SampleBatch::new();
    for host in 0..6 {
        let instance = format!("host-{host}");
        let mut series = |name: &str, job: &str, more: &[(&str, &str)], rate: f64| {
            let mut pairs = vec![("__name__", name), ("instance", instance.as_str()), ("job", job)];
            pairs.extend_from_slice(more);
            let labels = Labels::from_pairs(pairs);
            // Each target is scraped at moments of its own.
            (0..240).for_each(|at| batch.push_float(&labels, at * 15_000 + host * 700, at as f64 * rate));
        };
        for (cpu, mode) in [("0", "idle"), ("0", "user"), ("1", "idle"), ("1", "user"), ("2", "idle"), ("2", "iowait")]
        {
            series("cpu_seconds_total", "node", &[("cpu", cpu), ("mode", mode)], 3.0 + host as f64);
        }
        for le in ["0.1", "0.5", "1", "+Inf"] {
            series("request_seconds_bucket", "web", &[("le", le)], 1.5);
        }
        series("load1", "node", &[], 0.25);
    }
    assert_eq!(storage.append(&batch).unwrap().rejected, []);
    let engine = alone(Arc::new(storage), EngineOptions::default());
    let whole = Grid::Range { start_ms: 30_000, end_ms: 239 * 15_000, step_ms: 15_000 };
    let end = Grid::Instant { at_ms: 240 * 15_000 };
    let rows = [
        ("load1{instance=\"host-0\"}", end),
        ("sum by (mode) (rate(cpu_seconds_total[5m]))", whole),
        ("topk(3, rate(cpu_seconds_total[5m]))", end),
        ("topk(3, rate(cpu_seconds_total[5m]))", whole),
        ("histogram_quantile(0.99, sum by (le) (rate(request_seconds_bucket[5m])))", whole),
        ("count({__name__=~\".+\"})", end),
        ("sum by (instance) ({__name__=~\".*_.*\"})", whole),
        ("quantile_over_time(0.95, load1[1h])", whole),
        ("avg_over_time(load1[10m]) * 100", whole),
        ("sum(rate(cpu_seconds_total{mode=\"user\"}[5m])) / sum(rate(cpu_seconds_total[5m]))", whole),
        ("load1 / on (instance) sum by (instance) (rate(cpu_seconds_total[5m]))", whole),
        ("quantile by (job) (0.9, load1)", whole),
        // Trees that stand twice are expected where they are evaluated.
        ("sum(rate(cpu_seconds_total[5m])) / count(rate(cpu_seconds_total[5m]))", whole),
        ("rate(cpu_seconds_total[5m]) / on () group_left () sum(rate(cpu_seconds_total[5m]))", whole),
        ("sum by (mode) (cpu_seconds_total) / on () group_left () sum(sum by (mode) (cpu_seconds_total))", whole),
    ];
    for (text, grid) in rows {
        let mut request = QueryRequest::new(text, grid);
        request.explain = true;
        let plan = engine.query(&request, &QueryContext::unlimited()).unwrap().plan.unwrap();
        for node in nodes(&plan) {
            let (expected, seen) = (node.estimated, node.actual);
            let pairs = [
                ("series", expected.series, seen.series, 0),
                ("samples", expected.samples, seen.samples, 0),
                ("bytes", expected.bytes, seen.bytes, 0),
                // What a handful of small values takes is all overhead.
                ("memory", expected.memory_bytes, seen.memory_bytes, 2_000),
            ];
            for (what, expected, seen, slack) in pairs {
                let within = expected <= 2 * seen + slack && seen <= 2 * expected + slack;
                assert!(within, "{text}: {}: {what} {expected} expected, {seen} seen", node.operation);
            }
        }
    }
}

#[test]
fn an_empty_selector_is_explained_when_asked() {
    let engine = plain(3);
    let mut request = QueryRequest::new("sum(x{n=\"01\"}) + x", RANGE);
    assert_eq!(engine.query(&request, &QueryContext::unlimited()).unwrap().annotations.infos.len(), 0);
    request.explain_empty = true;
    let infos = engine.query(&request, &QueryContext::unlimited()).unwrap().annotations.infos;
    assert_eq!(infos.len(), 1);
    assert!(infos[0].contains(r#"no series has n="01""#) && infos[0].contains(r#"nearest: "001""#), "{infos:?}");
}

/// Says how often it was asked for the time, which is once per check of deadline and cancel; cancels at one of them.
struct CountingClock {
    asked: AtomicUsize,
    cancel_at: usize,
    flag: CancelFlag,
}

impl kymo_core::Clock for CountingClock {
    fn now_ms(&self) -> i64 {
        0
    }
    fn monotonic(&self) -> Duration {
        if self.asked.fetch_add(1, Ordering::Relaxed) + 1 >= self.cancel_at {
            self.flag.cancel();
        }
        Duration::ZERO
    }
}

#[test]
fn work_on_one_series_is_cancelled_on_its_way() {
    // One series of 20,000 samples, windows of 3,000 at 1,000 steps: three million samples looked at.
    let one = engine(storage(1_000, "x 0+1x19999\n"), EngineOptions::all());
    let grid = Grid::Range { start_ms: 4_000_000, end_ms: 19_000_000, step_ms: 15_000 };
    let run = |text: &str, cancel_at: usize| {
        let flag = CancelFlag::default();
        let clock = Arc::new(CountingClock { asked: AtomicUsize::new(0), cancel_at, flag: flag.clone() });
        let deadline = Some(Duration::from_secs(1));
        let ctx = QueryContext { deadline, cancel: flag, clock: clock.clone(), ..QueryContext::unlimited() };
        let found = one.query(&QueryRequest::new(text, grid), &ctx);
        (found, clock.asked.load(Ordering::Relaxed))
    };
    for text in
        ["mad_over_time(x[50m])", "deriv(x[50m])", "stddev_over_time(x[50m])", "quantile_over_time(0.5, x[50m])"]
    {
        let (found, checks) = run(text, usize::MAX);
        assert!(found.is_ok(), "{text}");
        // A check for every 65,536 samples looked at; a sliding quantile moves a quarter as many at most.
        let looked_at = if text.starts_with("quantile") { 750_000 } else { 3_000_000 };
        assert!(checks >= looked_at / (1 << 16), "{text}: {checks} checks");
        let (cancelled, last) = run(text, checks - 5);
        assert_eq!(cancelled.unwrap_err().kind, ErrorKind::Cancelled, "{text}");
        assert!(last < checks, "{text}: went on after it was cancelled");
    }
}

#[test]
fn nothing_is_made_of_what_was_read_last_before_a_cancel() {
    let lines: String = (0..50).map(|n| format!("x{{n=\"{n:03}\"}} 0+{n}x10\ny{{n=\"{n:03}\"}} 1+{n}x10\n")).collect();
    let data = storage(60_000, &lines);
    // (query, series that it reads)
    let rows = [
        ("sort_desc(x)", 50),
        ("sort_by_label(x, \"n\")", 50),
        ("topk(3, x)", 50),
        ("quantile(0.5, x)", 50),
        ("count_values(\"v\", x)", 50),
        ("x + on (n) y", 100),
        ("x and on (n) y", 100),
        ("x or y", 100),
        ("sum by (n) (x) / sum by (n) (y)", 100),
        ("label_replace(x, \"d\", \"$1\", \"n\", \"(.*)\")", 50),
        ("max_over_time(rate(x[5m])[5m:1m])", 50),
    ];
    for (text, series) in rows {
        for grid in [RANGE, Grid::Instant { at_ms: 600_000 }] {
            let ctx = QueryContext::unlimited();
            let read = Arc::new(AtomicUsize::new(0));
            let engine = engine(cancelling(data.clone(), &ctx, series - 1, &read), EngineOptions::all());
            let stopped = engine.query(&QueryRequest::new(text, grid), &ctx).map(|found| shown(&found.value));
            assert_eq!(stopped.map_err(|error| error.kind), Err(ErrorKind::Cancelled), "{text} {grid:?}");
            assert_eq!((read.load(Ordering::Relaxed), ctx.budget.used()), (series, 0), "{text} {grid:?}");
        }
    }
}

#[test]
fn a_label_value_that_a_query_makes_is_bounded() {
    let engine = engine(plain_storage(1), EngineOptions::all());
    let ask_for = |text: &str| ask(&engine, text, Grid::Instant { at_ms: 600_000 });
    // Each step doubles the value of three bytes.
    let doubled =
        |times| (0..times).fold("x".to_owned(), |text, _| format!("label_join({text}, \"n\", \"\", \"n\", \"n\")"));
    assert!(ask_for(&doubled(14)).is_ok());
    let refused = ask_for(&doubled(15)).unwrap_err();
    let text = "label_join() makes a label value of 98304 bytes, and the limit is 65536, which is fixed";
    assert!(refused.message.starts_with(text) && refused.kind == ErrorKind::Limit, "{}", refused.message);
    let replaced = |to: &str| ask_for(&format!("label_replace({}, \"m\", \"{to}\", \"n\", \"(.*)\")", doubled(14)));
    assert!(replaced("$1").is_ok());
    let text = "label_replace() makes a label value of 98304 bytes, and the limit is 65536, which is fixed";
    let refused = replaced("$1$1").unwrap_err();
    assert!(refused.message.starts_with(text), "{}", refused.message);
    // What would take gigabytes is refused before it is made.
    let refused = replaced(&"$1".repeat(100_000)).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Limit, "{}", refused.message);
}

#[test]
fn the_catalogue_is_listed_sorted_joined_and_cut() {
    let engine = plain(4);
    let ctx = QueryContext::unlimited();
    let of = |values: &[&str]| values.iter().map(|v| vec![Matcher::equal("n", *v)]).collect();
    let what = CatalogRequest { matchers: of(&["002", "001", "002"]), ..CatalogRequest::default() };
    let series = engine.series(&what, &ctx).unwrap();
    let names: Vec<_> = series.items.iter().filter_map(|labels| labels.get("n")).collect();
    assert_eq!(names, ["001", "002"]);
    assert_eq!(engine.label_names(&CatalogRequest::default(), &ctx).unwrap().items, ["__name__", "n"]);
    let cut = CatalogRequest { limit: 3, ..CatalogRequest::default() };
    let values = engine.label_values("n", &cut, &ctx).unwrap();
    assert_eq!(values.items, ["000", "001", "002"]);
    assert_eq!(values.annotations.warnings, ["results truncated due to limit"]);
    // Of one selector, of several, and of one with no more values than the limit.
    let of_several = CatalogRequest { matchers: of(&["002", "001", "000", "003"]), ..cut.clone() };
    let of_all = CatalogRequest { limit: 4, ..CatalogRequest::default() };
    for what in [cut, of_several, of_all] {
        let mut seen = Vec::new();
        let mut visit = |value: &str| {
            seen.push(value.to_owned());
            ControlFlow::Continue(())
        };
        let annotations = engine.visit_label_values("n", &what, &ctx, &mut visit).unwrap();
        let listed = engine.label_values("n", &what, &ctx).unwrap();
        assert_eq!((seen, annotations), (listed.items, listed.annotations));
    }
    let late = CatalogRequest { start_ms: Some(600_001), ..CatalogRequest::default() };
    assert_eq!(engine.series(&late, &ctx).unwrap().items, []);
    assert_eq!(engine.metadata(None, &ctx).unwrap(), []);
}
