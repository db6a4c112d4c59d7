//! The runner against a small backend whose answers are known, and scripts with one thing wrong.

use std::sync::Arc;

use kymo_core::histogram::{TestNotation, is_stale_nan};
use kymo_core::query::{
    Annotations, CatalogRequest, Grid, GridPresence, Listed, PointTimes, QueryRequest, QueryResult, QueryValue,
    ResultSeries,
};
use kymo_core::storage::{ColumnValue, Columns, Selector};
use kymo_core::{ErrorKind, Labels, Matcher, MetricStorage, NativeHistogram, QueryBackend, QueryContext, QueryError};
use proptest::prelude::*;

use super::load::parse_start_offsets;
use super::script::{Command, parse_script};
use super::*;
use crate::parser::{At, ExprKind, LabelMatcher, ParseOptions, parse};

/// Answers literals, `time()`, selectors and `sort_desc` of one; some metric names misbehave.
struct Selects(Arc<dyn MetricStorage>);

impl Selects {
    fn series(&self, matchers: &[LabelMatcher], from: i64, to: i64) -> Vec<(Labels, Columns)> {
        let matchers = matchers.iter().map(|m| Matcher::new(&m.name, m.op, &m.value).unwrap()).collect();
        let set = self.0.select(&Selector::new(matchers, from, to), &QueryContext::unlimited()).unwrap();
        let read = |at| {
            let mut columns = Columns::default();
            set.read(at, &mut columns).unwrap();
            (set.labels(at), columns)
        };
        (0..set.len()).map(read).collect()
    }

    fn select(&self, grid: Grid, matchers: &[LabelMatcher], at: Option<At>) -> Vec<ResultSeries> {
        let name = matchers.iter().find(|m| m.name == "__name__").map_or("", |m| m.value.as_str());
        let mut found: Vec<(GridPresence, ResultSeries)> = Vec::new();
        for step in 0..grid.steps() {
            let time = match at {
                Some(At::Timestamp(time)) => time,
                Some(At::Start) => grid.start_ms(),
                Some(At::End) => grid.end_ms(),
                None => grid.time_ms(step),
            };
            for (labels, columns) in self.series(matchers, time - 300_000, time) {
                let Some((_, value)) = columns.iter().last().filter(|(_, v)| !matches!(v, ColumnValue::Stale)) else {
                    continue;
                };
                let at = found.iter().position(|(_, known)| known.labels == labels).unwrap_or_else(|| {
                    let times = PointTimes::Own(Vec::new());
                    let series = ResultSeries { labels, times, floats: Vec::new(), histograms: Vec::new() };
                    found.push((GridPresence::empty(grid), series));
                    found.len() - 1
                });
                let (presence, series) = &mut found[at];
                let off = match name {
                    "fickle" if grid.steps() > 1 => 1.0,
                    "drifting" => grid.time_ms(step) as f64,
                    _ => 0.0,
                };
                match value {
                    ColumnValue::Histogram(h) => series.histograms.push((presence.count(), h.clone())),
                    ColumnValue::Float(value) => series.floats.push(value + off),
                    ColumnValue::Stale => {}
                }
                presence.set(step);
            }
        }
        found.sort_by(|(_, a), (_, b)| a.labels.cmp(&b.labels));
        if name == "unsorted" && grid.steps() > 1 {
            found.reverse();
        }
        let on_grid = |(presence, series)| ResultSeries { times: PointTimes::Grid(presence), ..series };
        found.into_iter().map(on_grid).collect()
    }

    fn number(grid: Grid, value: impl Fn(i64) -> f64) -> QueryValue {
        match grid {
            Grid::Instant { at_ms } => QueryValue::Scalar { time_ms: at_ms, value: value(at_ms) },
            Grid::Range { .. } => QueryValue::Matrix(vec![ResultSeries {
                labels: Labels::empty(),
                times: PointTimes::Grid(GridPresence::full(grid)),
                floats: (0..grid.steps()).map(|step| value(grid.time_ms(step))).collect(),
                histograms: Vec::new(),
            }]),
        }
    }
}

impl QueryBackend for Selects {
    fn query(&self, request: &QueryRequest, _: &QueryContext) -> Result<QueryResult, QueryError> {
        let ast = parse(&request.text, &ParseOptions::all()).map_err(|e| QueryError::parse(e.to_string(), None))?;
        let mut root = ast.root();
        let mut sorted = false;
        if let ExprKind::Call(call) = &ast.node(root).kind
            && call.function.name == "sort_desc"
        {
            (root, sorted) = (call.args[0], true);
        }
        let mut annotations = Annotations::default();
        let value = match &ast.node(root).kind {
            ExprKind::NumberLiteral(literal) => Selects::number(request.grid, |_| literal.value),
            ExprKind::Call(call) if call.function.name == "time" => {
                Selects::number(request.grid, |time| time as f64 / 1000.0)
            }
            ExprKind::StringLiteral(text) => {
                QueryValue::String { time_ms: request.grid.start_ms(), value: text.to_string() }
            }
            ExprKind::VectorSelector(selector) => {
                match selector.name.as_deref() {
                    Some("broken") => return Err(QueryError::execute(ErrorKind::Invalid, "it broke at {place}")),
                    Some("panics") => panic!("no such thing"),
                    Some("noisy") => {
                        let column = ast.node(root).span.start + 1;
                        annotations.warn(format!("PromQL warning: too loud (1:{column})"));
                        annotations.info("PromQL info: by the way (1:1)");
                    }
                    _ => {}
                }
                let mut series = self.select(request.grid, &selector.matchers, selector.at);
                match request.grid {
                    Grid::Instant { .. } if sorted => {
                        series.sort_by(|a, b| b.floats[0].total_cmp(&a.floats[0]));
                        QueryValue::Vector(series)
                    }
                    Grid::Instant { .. } => QueryValue::Vector(series),
                    Grid::Range { .. } => QueryValue::Matrix(series),
                }
            }
            ExprKind::MatrixSelector(matrix) => {
                let end = match matrix.selector.at {
                    Some(At::Timestamp(time)) => time,
                    _ => request.grid.end_ms(),
                };
                let start = end - matrix.range.constant_ms().unwrap();
                let series = self.series(&matrix.selector.matchers, start, end);
                let series = series.into_iter().map(|(labels, columns)| ResultSeries {
                    labels,
                    times: PointTimes::Own(columns.times),
                    floats: columns.floats,
                    histograms: Vec::new(),
                });
                QueryValue::Matrix(series.collect())
            }
            other => return Err(QueryError::execute(ErrorKind::Invalid, format!("cannot do {other:?}"))),
        };
        Ok(QueryResult { value, annotations, ..QueryResult::default() })
    }

    fn series(&self, _: &CatalogRequest, _: &QueryContext) -> Result<Listed<Labels>, QueryError> {
        unreachable!("scripts only query")
    }

    fn label_names(&self, _: &CatalogRequest, _: &QueryContext) -> Result<Listed<String>, QueryError> {
        unreachable!("scripts only query")
    }

    fn label_values(&self, _: &str, _: &CatalogRequest, _: &QueryContext) -> Result<Listed<String>, QueryError> {
        unreachable!("scripts only query")
    }

    fn metadata(
        &self,
        _: Option<&str>,
        _: &QueryContext,
    ) -> Result<Vec<(String, Vec<kymo_core::Metadata>)>, QueryError> {
        unreachable!("scripts only query")
    }
}

fn run(script: &str) -> Result<ScriptReport, ScriptError> {
    run_script("test", script, &mut memory_storage, &|storage| Box::new(Selects(storage)))
}

const SOUND: &str = r#"
# Two gauges, a gap, a marker and a histogram.
load 1m
  up{job="a"}  1 2 _ 4 stale
  up{job="b"}  10+10x4
  size         {{schema:1 sum:3 count:22 buckets:[5 10 7]}} {{schema:1 sum:4 count:30 buckets:[5 10 15]}}

eval instant at 1m up
  up{job="a"} 2
  up{job="b"} 20

eval instant at 2m up{job="a"}
  {__name__="up", job="a"} 2

eval instant at 4m up
  up{job="b"} 50

eval instant at 5s 3.5
  3.5

eval instant at 10 time()
  10

eval instant at 0 "a\"b"
  expect string `a"b`

eval range from 0 to 4m step 1m up
  up{job="a"} 1 2 2 4 _
  up{job="b"} 10 20 30 40 50

eval instant at 1m size
  size {{schema:1 sum:4 count:30 buckets:[5 10 15] counter_reset_hint:not_reset}}

eval instant at 4m up[3m]
  expect range vector from 2m to 4m step 1m
  up{job="a"} _ 4
  up{job="b"} 30 40 50

eval_ordered instant at 1m sort_desc(up)
  up{job="b"} 20
  up{job="a"} 2

eval instant at 1m nothing

clear
eval instant at 1m up
"#;

#[test]
fn a_sound_script_passes() {
    let report = run(SOUND).unwrap();
    assert_eq!(report.failed, []);
    assert_eq!(report.passed, 12);
}

#[test]
fn every_wrong_expectation_fails_its_case_and_no_other() {
    // (from, to, what the failure says); the text is changed once.
    let mutations = [
        (r#"up{job="a"} 2"#, r#"up{job="a"} 2.00001"#, "expected 2.00001"),
        ("  up{job=\"b\"} 20\n\neval", "\neval", "unexpected series"),
        ("20\n\neval instant at 2m", "20\n  up{job=\"c\"} 1\n\neval instant at 2m", "is missing"),
        (r#"{__name__="up", job="a"} 2"#, r#"{job="a"} 2"#, "unexpected series"),
        ("  3.5", "  3.4", "expected scalar 3.4"),
        ("  3.5", "  {} 3.5", "expected a vector or matrix, got scalar"),
        ("at 10 time()\n  10", "at 10 time()\n  11", "expected scalar 11"),
        ("expect string `a\"b`", "expect string `ab`", "expected string"),
        ("expect string `a\"b`", "", "expected a vector or matrix, got string"),
        ("1 2 2 4 _", "1 2 2 4 4", "got no further point"),
        ("1 2 2 4 _", "1 2 _ 4 _", "expected 4@180000ms"),
        ("1 2 2 4 _", "1 2 2 4 _ _ 7", "steps"),
        ("10 20 30 40 50", "10 20 30 40 {{}}", "expected {{}}@240000ms"),
        ("count:30 buckets:[5 10 15] counter", "count:30 buckets:[5 11 14] counter", "expected {{schema:1"),
        ("sum:4 count:30 buckets:[5 10 15] counter", "sum:5 count:30 buckets:[5 10 15] counter", "sum:5"),
        ("[5 10 15] counter_reset_hint:not_reset", "[5 10 15] counter_reset_hint:gauge", "gauge"),
        ("[5 10 15] counter_reset_hint:not_reset", "[5 10 15] z_bucket_w:0.1", "z_bucket_w:0.1"),
        ("  size {{schema:1 sum:4", "  size {{schema:0 sum:4", "expected {{"),
        (
            "  size {{schema:1 sum:4 count:30 buckets:[5 10 15] counter_reset_hint:not_reset}}",
            "  size 30",
            "expected 30",
        ),
        ("_ 4\n", "3 4\n", "expected 3@120000ms"),
        ("from 2m to 4m step 1m\n", "from 1m to 3m step 1m\n", "all points"),
        (
            "  expect range vector from 2m to 4m step 1m\n  up{job=\"a\"} _ 4\n  up{job=\"b\"} 30 40 50\n",
            "",
            "range vector",
        ),
        ("up{job=\"b\"} 20\n  up{job=\"a\"} 2\n", "up{job=\"a\"} 2\n  up{job=\"b\"} 20\n", "at position"),
        ("eval instant at 1m nothing", "eval instant at 1m nothing\n  0", "expected scalar 0"),
        ("eval instant at 1m nothing", "eval instant at 1m nothing\n  expect fail", "expected an error"),
        ("eval instant at 1m nothing", "eval instant at 1m nothing\n  expect warn", "expected warn annotations"),
        ("eval instant at 1m nothing", "eval instant at 1m nothing(", "the query failed: "),
        ("\nclear\n", "\n\n", "unexpected series"),
    ];
    for (from, to, says) in mutations {
        assert!(SOUND.contains(from), "{from}");
        let at = SOUND.rfind(from).unwrap();
        let script = format!("{}{to}{}", &SOUND[..at], &SOUND[at + from.len()..]);
        let report = run(&script).unwrap_or_else(|error| panic!("{from} → {to}: {error}"));
        let [failure] = &report.failed[..] else { panic!("{from} → {to}: {:#?}", report.failed) };
        assert!(failure.what.contains(says), "{from} → {to}: {}", failure.what);
        assert_eq!(report.passed, 11, "{from} → {to}");
        let line = script.lines().nth(failure.line - 1).unwrap();
        assert!(line.starts_with("eval") && line.ends_with(&failure.text), "{line}: {}", failure.text);
    }
}

#[test]
fn an_instant_answer_must_hold_pinned_and_as_a_range() {
    let script = r#"
load 1m
  fickle 1+1x10
  drifting 0x10
  unsorted{a="1"} 1x10
  unsorted{a="2"} 1x10

eval instant at 2m fickle
  fickle 3

eval instant at 2m drifting
  drifting 120000

eval instant at 2m unsorted
  unsorted{a="1"} 1
  unsorted{a="2"} 1
"#;
    let report = run(script).unwrap();
    let what: Vec<&str> = report.failed.iter().map(|failure| failure.what.as_str()).collect();
    assert_eq!(report.passed, 0);
    assert!(what[0].starts_with("as a range query: expected 3 for fickle"), "{what:?}");
    assert!(what[1].starts_with("as \"drifting @ 120.000\" at -1200000ms: expected 120000"), "{what:?}");
    assert!(what[2].starts_with("as a range query: the matrix is not sorted"), "{what:?}");
}

#[test]
fn failures_and_annotations_are_held_to_their_lines() {
    let load = "load 1m\n  noisy 1x10\n\n";
    // (expectation lines, whether they hold)
    let rows = [
        ("eval instant at 1m broken\n expect fail", true),
        ("eval instant at 1m broken\n expect fail msg: it broke at {place}", true),
        ("eval instant at 1m broken\n expect fail msg:it broke", false),
        ("eval instant at 1m broken\n expect fail regex: broke.*{pl", true),
        ("eval instant at 1m broken\n expect fail regex: ^broke", false),
        ("eval_fail instant at 1m broken", true),
        ("eval_fail instant at 1m broken\n expected_fail_message it broke at {place}", true),
        ("eval_fail instant at 1m broken\n expected_fail_message broke", false),
        ("eval_fail instant at 1m broken\n expected_fail_regexp (broke|burnt) at", true),
        ("eval_fail range from 0 to 1m step 1m broken", true),
        ("eval_fail range from 0 to 1m step 1m noisy", false),
        ("eval instant at 1m broken", false),
        ("eval_warn instant at 1m noisy\n noisy 1", true),
        ("eval_info instant at 1m noisy\n noisy 1", true),
        ("eval_warn instant at 1m noisy\n noisy 2", false),
        ("eval_warn instant at 1m quiet", false),
        ("eval instant at 1m noisy\n expect warn msg: PromQL warning: too loud (1:1)\n noisy 1", true),
        ("eval instant at 1m noisy\n expect warn msg: PromQL warning: too loud (1:2)\n noisy 1", false),
        ("eval instant at 1m noisy\n expect warn regex: loud \\(1:1\\)$\n expect info\n noisy 1", true),
        ("eval instant at 1m noisy\n expect warn regex: loud\n expect warn msg: quiet\n noisy 1", false),
        ("eval instant at 1m noisy\n expect info msg: PromQL info: other\n noisy 1", false),
        ("eval instant at 1m noisy\n expect no_warn\n noisy 1", false),
        ("eval instant at 1m noisy\n expect no_info\n noisy 1", false),
        ("eval instant at 1m quiet\n expect no_info\n expect no_warn", true),
        ("eval instant at 1m panics", false),
    ];
    for (case, holds) in rows {
        let report = run(&format!("{load}{case}\n")).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!((report.passed, report.failed.len()), if holds { (1, 0) } else { (0, 1) }, "{case}: {report:?}");
    }
}

#[test]
fn a_line_outside_the_language_is_named_with_what_was_expected() {
    let rows = [
        ("lode 5m\n", 1, "expected clear, load STEP or eval"),
        ("\n\nload 5y1x\n", 3, "expected a duration"),
        ("load 5m\n  up 1 2x\n", 2, "expected a number of repetitions"),
        ("load 5m\n  up 1+2\n", 2, "expected a repetition"),
        ("load 5m\n  up{a=1} 2\n", 2, "expected a quoted label value at byte 5"),
        ("load 5m\n  up {{size:1}}\n", 2, "expected a key of a histogram"),
        ("load 5m\n  up@st -30s\n  down 1\n", 3, "expected series up"),
        ("load 5m\n  up@st -30sx2\n  up 1\n", 3, "expected 3 values"),
        ("load 5m\n  up@st -30s\n", 2, "expected a line of the same series"),
        ("eval often at 5m up\n", 1, "expected instant or range"),
        ("eval instant 5m up\n", 1, "expected at TIME"),
        ("eval instant at 5m\n", 1, "expected a query"),
        ("eval range from 0 to 5m by 1m up\n", 1, "expected from START to END step STEP"),
        ("eval range from 5m to 1m step 1m up\n", 1, "expected an end that is not before the start"),
        ("eval range from 0 to 5m step 0 up\n", 1, "expected a step above 0"),
        ("eval instant at 5m up\n  up 1 2\n", 2, "expected one value"),
        ("eval instant at 5m up\n  up _\n", 2, "expected one value"),
        ("eval instant at 5m up\n  expect much\n", 2, "expected ordered, fail, warn"),
        ("eval instant at 5m up\n  expect fail because\n", 2, "expected msg: or regex:"),
        ("eval instant at 5m up\n  expect warn\n  expect no_warn\n", 3, "expected no no_warn"),
        ("eval instant at 5m up\n  expect fail\n  expect fail\n", 3, "expected one fail line"),
        ("eval instant at 5m up\n  expect fail regex: (\n", 2, "expected a regular expression"),
        ("eval instant at 5m up\n  expect string foo\n", 2, "expected a quoted string literal"),
        ("eval instant at 5m up\n  expect range vector from 1m\n", 2, "expected from A to B step S"),
    ];
    for (script, line, reason) in rows {
        let error = run(script).expect_err(script);
        assert_eq!(error.line, line, "{script}: {error}");
        assert!(error.reason.contains(reason), "{script}: {error}");
        assert_eq!(error.text, script.lines().nth(line - 1).unwrap().trim());
    }
}

fn show(values: &[SeriesValue]) -> String {
    let one = |value: &SeriesValue| match value {
        SeriesValue::Omitted => "_".to_owned(),
        SeriesValue::Float(value) if is_stale_nan(*value) => "stale".to_owned(),
        SeriesValue::Float(value) => format!("{value}"),
        SeriesValue::Histogram { value, .. } => TestNotation(value).to_string(),
    };
    values.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn values_expand_as_the_table_says() {
    let rows = [
        ("", ""),
        ("3 -1.5 +2 1e3 NaN Inf -Inf", "3 -1.5 2 1000 NaN inf -inf"),
        ("_ 1 _x3 2", "_ 1 _ _ _ 2"),
        ("stale 1", "stale 1"),
        ("1+2x3", "1 3 5 7"),
        ("1-2x3", "1 -1 -3 -5"),
        ("-1e-1+1e+1x1", "-0.1 9.9"),
        ("4x3 \t 5", "4 4 4 4 5"),
        ("4x0", "4"),
        ("010 0b11", "8 3"),
        ("{{}}", "{{}}"),
        ("{{schema:1 sum:-3 count:22.5 buckets:[5 10 7]}}", "{{schema:1 count:22.5 sum:-3 buckets:[5 10 7]}}"),
        (
            "{{ z_bucket:2  z_bucket_w:0.001 offset:-2 buckets:[ 1 2 ] n_offset:3 n_buckets:[4] }}",
            "{{z_bucket:2 z_bucket_w:0.001 offset:-2 buckets:[1 2] n_offset:3 n_buckets:[4]}}",
        ),
        (
            "{{schema:-53 custom_values:[5 10] buckets:[1 2 3] counter_reset_hint:reset}}",
            "{{schema:-53 custom_values:[5 10] counter_reset_hint:reset buckets:[1 2 3]}}",
        ),
        ("{{count:1}}x1 2", "{{count:1}} {{count:1}} 2"),
        (
            "{{count:1 buckets:[1]}}+{{count:2 offset:1 buckets:[2]}}x2",
            "{{count:1 buckets:[1]}} {{count:3 buckets:[1 2]}} {{count:5 buckets:[1 4]}}",
        ),
        ("{{count:5 buckets:[5]}}-{{count:2 buckets:[2]}}x1", "{{count:5 buckets:[5]}} {{count:3 buckets:[3]}}"),
    ];
    for (text, values) in rows {
        assert_eq!(show(&parse_values(text).unwrap_or_else(|e| panic!("{text}: {e}"))), values, "{text}");
    }
}

#[test]
fn what_is_no_value_is_refused() {
    let rows = [
        "1x",
        "1xx2",
        "x3",
        "1+2",
        "1+x3",
        "one",
        "1,2",
        "_x",
        "_1",
        "stale+1x2",
        "{{",
        "{{sum:}}",
        "{{sum}}",
        "{{sum:1 sum:2}}",
        "{{buckets:1}}",
        "{{buckets:[1}}",
        "{{counter_reset_hint:maybe}}",
        "{{schema:1000}}",
        "{{}}x",
        "{{}}+{{}}",
        "{{}}1",
        "{{schema:1}}+{{schema:0}}x1",
        "{{custom_values:[1]}}",
        "1x99999999999999999999999",
        "{{schema:-53 custom_values:[1] buckets:[1]}}+{{buckets:[1]}}x1",
    ];
    for text in rows {
        assert!(parse_values(text).is_err(), "{text}");
    }
    assert_eq!(
        parse_values("{{sum:1 sum:2}}").unwrap_err(),
        NotationError::DuplicateField { field: HistogramField::Sum }
    );
}

#[test]
fn hints_written_are_told_from_hints_left_out() {
    let written = |text: &str| match &parse_values(text).unwrap()[0] {
        SeriesValue::Histogram { hint_written, .. } => *hint_written,
        _ => panic!("{text}"),
    };
    assert!(written("{{counter_reset_hint:unknown}}") && !written("{{}}"));
}

#[test]
fn loaded_counters_get_the_hints_a_head_would_give() {
    let text = "{{count:1 buckets:[1]}} {{count:2 buckets:[2]}} {{count:1 buckets:[1]}} {{count:3 buckets:[3]}} \
                {{schema:1 count:3 buckets:[3]}} {{schema:1 count:3 buckets:[3] counter_reset_hint:reset}} \
                {{count:9 counter_reset_hint:gauge}} {{count:9 counter_reset_hint:not_reset}} \
                {{schema:-53 count:9 custom_values:[1] buckets:[9]}} {{schema:-53 count:9 custom_values:[2] buckets:[9]}}";
    let mut chunk = hints::OpenChunk::default();
    let hints: Vec<String> = parse_values(text)
        .unwrap()
        .into_iter()
        .map(|value| match value {
            SeriesValue::Histogram { mut value, .. } => {
                chunk.append(&mut value);
                format!("{:?}", value.hint)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let wanted = "Unknown NotReset Reset NotReset Unknown Reset Gauge Unknown Unknown Unknown";
    assert_eq!(hints.join(" "), wanted);
}

#[test]
fn start_timestamps_are_relative_to_their_samples() {
    assert_eq!(parse_start_offsets("-30s _ *").unwrap(), [Some(-30_000), None, Some(-30_000)]);
    assert_eq!(parse_start_offsets("-30s-1mx2").unwrap(), [Some(-30_000), Some(-90_000), Some(-150_000)]);
    assert_eq!(parse_start_offsets("0s+1msx1 _x2 *x1").unwrap(), [Some(0), Some(1), None, None, Some(1), Some(1)]);
    assert!(parse_start_offsets("-30s-1m").is_err() && parse_start_offsets("5").is_err());
    let script = "load 1m\n  up{a=\"1\"}@st -30s _x2\n  up{a=\"1\"} 1 2 _\n  @st -1m\n  other 1 2\n";
    let commands = parse_script(script).unwrap();
    let [Command::Load(load)] = &commands[..] else { panic!("{commands:?}") };
    let starts: Vec<Vec<(i64, i64)>> =
        load.series.iter().map(|s| s.samples.iter().map(|s| (s.time_ms, s.start_ms)).collect()).collect();
    assert_eq!(starts, [vec![(0, -30_000), (60_000, 0)], vec![(0, -60_000), (60_000, 0)]]);
}

#[test]
fn classic_histograms_are_stored_as_native_ones_too() {
    let script = r#"
load_with_nhcb 1m
  h_bucket{le="1", job="a"} 1 2
  h_bucket{le="5", job="a"} 3 4
  h_bucket{le="+Inf", job="a"} 4 6
  h_sum{job="a"} 8 9.5
  h_count{job="a"} 4 6

eval instant at 1m h
  h{job="a"} {{schema:-53 count:6 sum:9.5 custom_values:[1 5] buckets:[2 2 2]}}

eval instant at 1m h_count
  h_count{job="a"} 6
"#;
    let report = run(script).unwrap();
    assert_eq!((report.passed, &report.failed[..]), (2, &[][..]));
    let broken = run("load_with_nhcb 1m\n  h_bucket{le=\"1\"} 5\n  h_bucket{le=\"2\"} 4\n").unwrap();
    assert!(broken.failed[0].what.contains("not cumulative"), "{broken:?}");
    assert_eq!((broken.failed[0].line, broken.failed[0].text.as_str()), (1, "load"));
}

#[test]
fn a_refused_load_is_a_failure_of_its_line() {
    let report = run("\nload 1m\n  {job=\"a\"} 1\n").unwrap();
    assert_eq!(report.failed.len(), 1);
    assert!(report.failed[0].what.contains("no metric name") && report.failed[0].line == 2, "{report:?}");
}

#[test]
fn selectors_are_pinned_where_upstream_pins_them() {
    let rows = [
        ("up", "up @ 60.000"),
        ("up offset 5m", "up offset 5m @ 60.000"),
        ("up @ 10", "up @ 10"),
        ("up @ start() offset 1m", "up @ 60.000 offset 1m"),
        ("rate(up[5m]) + on (a) down", "rate(up[5m] @ 60.000) + on (a) down @ 60.000"),
        ("sum_over_time(rate(up[5m])[1h:1m])", "sum_over_time(rate(up[5m])[1h:1m] @ 60.000)"),
        ("sum_over_time(vector(time())[1h:1m] @ end ( ))", "sum_over_time(vector(time())[1h:1m] @ 60.000)"),
        (r#"up{a="@ start()"}"#, r#"up{a="@ start()"} @ 60.000"#),
        ("1", "1"),
    ];
    for (query, wanted) in rows {
        let variants = pinned::pinned(query, 60_000);
        let times: Vec<i64> = variants.iter().map(|(_, time)| *time).collect();
        assert_eq!(times, [-600_000, 0, 12_000, 60_000, 600_000]);
        for (text, _) in variants {
            // `@ end ( )` leaves the blank before it.
            assert_eq!(text.replace("  ", " "), wanted, "{query}");
            assert!(parse(&text, &ParseOptions::all()).is_ok(), "{text}");
        }
    }
    for query in ["time() + up", "timestamp(up)", "up +"] {
        assert!(pinned::pinned(query, 60_000).is_empty(), "{query}");
    }
    assert_eq!(pinned::pinned("up", 0).len(), 3);
    assert_eq!(pinned::pinned("up", -1_500)[0].0, "up @ -1.500");
}

#[test]
fn every_form_of_the_language_is_read_and_held() {
    let over = |storage: Arc<dyn MetricStorage>| Box::new(crate::Engine::new(storage)) as Box<dyn QueryBackend>;
    let script = include_str!("../../testdata/language.test");
    let report = run_script("language", script, &mut memory_storage, &over).unwrap();
    assert_eq!((report.passed, &report.failed[..]), (36, &[][..]));
}

proptest! {
    #[test]
    fn floats_are_compared_by_relative_error(a in any::<f64>(), scale in -3e-6..3e-6f64) {
        prop_assume!(a.is_finite() && a.abs() > 1e-290 && a.abs() < 1e290);
        let b = a * (1.0 + scale);
        let relative = (a - b).abs() / (a.abs() + b.abs());
        prop_assert_eq!(compare::almost_equal(a, b), relative < 1e-6);
        prop_assert!(compare::almost_equal(a, a) && !compare::almost_equal(a, -a));
        prop_assert!(!compare::almost_equal(a, f64::NAN) && !compare::almost_equal(a, f64::INFINITY));
        prop_assert!(!compare::almost_equal(a, 0.0) && compare::almost_equal(0.0, -0.0));
        prop_assert!(compare::almost_equal(f64::NAN, -f64::NAN));
        prop_assert!(!compare::almost_equal(f64::INFINITY, f64::NEG_INFINITY));
    }

    #[test]
    fn what_is_written_is_read(
        counts in prop::collection::vec(0u32..100, 1..9), zero in 0u32..9, offset in -9i32..9, schema in -4i8..9, sum in any::<f64>()
    ) {
        let list: Vec<String> = counts.iter().map(u32::to_string).collect();
        let (count, list) = (counts.iter().sum::<u32>() + zero, list.join(" "));
        let sum = if sum.is_finite() { sum } else { 1.0 };
        let text = format!("{{{{schema:{schema} count:{count} sum:{sum:e} z_bucket:{zero} offset:{offset} buckets:[{list}]}}}}");
        let values = parse_values(&text).unwrap();
        let [SeriesValue::Histogram { value, .. }] = &values[..] else { panic!("{values:?}") };
        prop_assert_eq!(value.validate(), Ok(()));
        let again = parse_values(&TestNotation(value).to_string()).unwrap();
        let [SeriesValue::Histogram { value: again, .. }] = &again[..] else { panic!("{again:?}") };
        prop_assert!(compare::same_histogram(value, again, true));
        let mut other = NativeHistogram::clone(value);
        other.float_counts().positive[0] += 1.0;
        prop_assert!(!compare::same_histogram(value, &other, false));
    }

    #[test]
    fn no_text_breaks_the_reader(text in "[ -~\\n\\t]{0,80}") {
        let _ = (parse_script(&text), parse_values(&text), parse_series(&text), parse_start_offsets(&text));
    }

    #[test]
    fn no_words_of_the_language_break_the_reader(words in prop::collection::vec(prop::sample::select(vec![
        "load", "eval", "instant", "at", "range", "from", "to", "step", "expect", "fail", "warn", "msg:", "regex:", "\n", "\n  ",
        "5m", "0", "up", "{a=\"b\"}", "@st", "{{", "}}", "x3", "_", "stale", "buckets:[", "]", "clear", "string", "\"é\"",
    ]), 0..30)) {
        let text = words.join(" ");
        let _ = (parse_script(&text), parse_values(&text), parse_series(&words.concat()), parse_start_offsets(&text));
    }
}
