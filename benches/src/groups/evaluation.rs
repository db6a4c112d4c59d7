//! What parsing and evaluating a query costs within a process, over the real engine: CPU time of one thread.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kymo_core::query::{Grid, PlanNode, QueryCost, QueryValue};
use kymo_core::{Budget, MetricStorage, QueryBackend, QueryContext, QueryRequest};
use kymo_query::parser::{ParseOptions, parse};
use kymo_query::{Engine, EngineConfig};

use super::query::texts;
use super::{Setup, engine};
use crate::cases::append::{Appending, open};
use crate::load::{INTERVAL_MS, SCRAPES_MEASURED, SERIES_MEASURED};
use crate::machine;
use crate::report::{Goal, Report, Row};
use crate::rounds::Spread;

/// A quarter of the measured series, for an hour.
const SERIES: usize = 4_000;
const SCRAPES: usize = 240;
const ROUNDS: usize = 15;
const PARSED: usize = 2_000;

/// Functions over ranges that slide; each sample enters and leaves its window once.
const SLIDING: [(&str, &str); 5] = [
    ("rate[5m]", "sum(rate(node_cpu_seconds_total[5m]))"),
    ("avg_over_time[1h]", "sum(avg_over_time(node_cpu_seconds_total[1h]))"),
    ("max_over_time[1h]", "sum(max_over_time(node_cpu_seconds_total[1h]))"),
    ("quantile_over_time[1h]", "sum(quantile_over_time(0.95, node_cpu_seconds_total[1h]))"),
    ("changes[1h]", "sum(changes(node_cpu_seconds_total[1h]))"),
];

/// The measured set.
const WIDE_SERIES: usize = SERIES_MEASURED;
const WIDE_SCRAPES: usize = SCRAPES_MEASURED;

/// Queries over many series.
const WIDE: [&str; 4] = [
    "sum by (__name__) (last_over_time({__name__=~\"node_.*\"}[5m]))",
    "sum by (mode) (rate(node_cpu_seconds_total[5m]))",
    "max(quantile_over_time(0.95, node_cpu_seconds_total[1h]))",
    "count by (instance) ({__name__=~\".+\"})",
];

/// Adds the rows.
///
/// # Errors
/// A query is refused, or a plan cannot be had.
pub fn run(setup: &Setup, report: &mut Report) -> Result<()> {
    let (storage, grid) = stored(setup, SERIES, SCRAPES, "evaluation")?;
    // CPU time of a thread is that of all only if there is one.
    let engine = on_threads(&storage, 1);

    parsing(report)?;
    for (what, text) in SLIDING {
        let (took, cost) = evaluated(&engine, text, grid)?;
        ensure!(cost.samples > 0, "{text} reads nothing");
        let per_sample = took.as_nanos() as f64 / cost.samples as f64;
        report.row(Row::new(format!("{what} at every step, reading included"), "ns/sample", per_sample));
    }
    // Told apart by a matcher that changes nothing: what is alike is read once.
    let join = "node_cpu_seconds_total / on (instance, cpu, mode) node_cpu_seconds_total{cpu!=\"\"}";
    let (took, cost) = evaluated(&engine, join, grid)?;
    report.row(Row::new(
        "join one to one, reading included",
        "µs/pair",
        took.as_nanos() as f64 / 1e3 / (cost.series / 2) as f64,
    ));
    spread(setup, report)?;
    moving(&storage, grid, report)?;
    estimates(&engine, grid, report)
}

/// An engine that holds so much, and the grid of its scrapes.
fn stored(setup: &Setup, series: usize, scrapes: usize, name: &str) -> Result<(Arc<dyn MetricStorage>, Grid)> {
    let load = setup.load(series, scrapes)?;
    let dir = engine::folder(setup, name)?;
    let mut appending = Appending::new(&load, &dir)?;
    appending.append_up_to(&load, scrapes)?;
    appending.abandon();
    let start_ms = load.shape().base_ms;
    let end_ms = start_ms + INTERVAL_MS * (scrapes as i64 - 1);
    Ok((Arc::new(open(&dir)?.0), Grid::Range { start_ms, end_ms, step_ms: INTERVAL_MS }))
}

fn on_threads(storage: &Arc<dyn MetricStorage>, threads: usize) -> Engine {
    Engine::with_config(Arc::clone(storage), EngineConfig { threads, ..EngineConfig::default() })
}

/// Queries that read much, by the clock, on as many threads as processors; on one as the floor, asked in turn.
fn spread(setup: &Setup, report: &mut Report) -> Result<()> {
    let threads = EngineConfig::default().threads;
    if threads < 2 {
        report.later("queries on several threads", "this process may use one processor");
        return Ok(());
    }
    let (storage, grid) = stored(setup, WIDE_SERIES, WIDE_SCRAPES, "spread")?;
    let (one, all) = (on_threads(&storage, 1), on_threads(&storage, threads));
    for text in WIDE {
        let mut found = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            let mut bits = Vec::new();
            for (engine, found) in [&one, &all].into_iter().zip(&mut found) {
                let started = Instant::now();
                let answer = engine.query(&QueryRequest::new(text, grid), &QueryContext::unlimited())?;
                found.push(started.elapsed().as_secs_f64() * 1e3);
                bits.push(format!("{:?}", answer.value));
            }
            ensure!(bits[0] == bits[1], "{text}: another answer on {threads} threads");
        }
        let [one, all] = found.map(|found| Spread::of(found).map(|spread| spread.median));
        let what = format!("{text}, of {WIDE_SERIES} series, {threads} threads");
        let row = Row::new(what, "ms", all.context("never asked")?);
        report.row(row.floor("1 thread", one.context("never asked")?));
    }
    Ok(())
}

fn parsing(report: &mut Report) -> Result<()> {
    let options = ParseOptions::default();
    let mut found = Vec::new();
    for _ in 0..ROUNDS {
        let before = machine::thread_cpu();
        for text in texts().cycle().take(PARSED) {
            black_box(parse(black_box(text), &options).ok().context("a query of the table does not parse")?);
        }
        found.push((machine::thread_cpu().saturating_sub(before)).as_nanos() as f64 / PARSED as f64);
    }
    let median = Spread::of(found).context("nothing was parsed")?.median;
    report.row(Row::new("parse a query of the table", "ns", median));
    Ok(())
}

/// Median CPU time, and what was read.
fn evaluated(engine: &Engine, text: &str, grid: Grid) -> Result<(Duration, QueryCost)> {
    let (mut found, mut cost) = (Vec::new(), QueryCost::default());
    for _ in 0..ROUNDS {
        let before = machine::thread_cpu();
        let answer = engine.query(&QueryRequest::new(text, grid), &QueryContext::unlimited())?;
        found.push((machine::thread_cpu().saturating_sub(before)).as_secs_f64());
        ensure!(matches!(&answer.value, QueryValue::Matrix(series) if !series.is_empty()), "{text} has no answer");
        cost = answer.cost;
    }
    Ok((Duration::from_secs_f64(Spread::of(found).context("nothing was asked")?.median), cost))
}

/// The range moves one step per repeat and nothing is written: what taking over alone costs.
fn moving(storage: &Arc<dyn MetricStorage>, grid: Grid, report: &mut Report) -> Result<()> {
    let text = "sum by (mode) (rate(node_cpu_seconds_total[5m]))";
    let engine = on_threads(storage, 1).keeping_answers(Budget::unlimited());
    let mut found = Vec::new();
    for moved in 0..ROUNDS as i64 {
        let by = moved * INTERVAL_MS;
        let half = (grid.end_ms() - grid.start_ms()) / 2;
        let moved =
            Grid::Range { start_ms: grid.start_ms() + by, end_ms: grid.start_ms() + half + by, step_ms: INTERVAL_MS };
        let before = machine::thread_cpu();
        let answer = engine.query(&QueryRequest::new(text, moved), &QueryContext::unlimited())?;
        let took = machine::thread_cpu().saturating_sub(before);
        if by > 0 {
            ensure!(answer.cost.steps_reused as usize + 1 == moved.steps(), "{:?} after {by} ms", answer.cost);
            found.push(took.as_secs_f64() * 1e6);
        }
    }
    let median = Spread::of(found).context("nothing was asked")?.median;
    report.row(Row::new("CPU rate by mode, range moved by one step", "µs", median));
    Ok(())
}

/// How far off a plan's worst figure is, over the queries of the table.
fn estimates(engine: &Engine, grid: Grid, report: &mut Report) -> Result<()> {
    let (mut worst, mut where_worst, mut each) = (1.0, String::new(), String::new());
    for text in texts() {
        let mut worst_here: f64 = 1.0;
        for grid in [grid, Grid::Instant { at_ms: grid.end_ms() }] {
            let mut request = QueryRequest::new(text, grid);
            request.explain = true;
            let Ok(answer) = engine.query(&request, &QueryContext::unlimited()) else { continue };
            let plan = answer.plan.context("a plan was asked for")?;
            let mut nodes = vec![&plan];
            while let Some(node) = nodes.pop() {
                nodes.extend(&node.inputs);
                let off = off_by(node);
                worst_here = worst_here.max(off);
                if off > worst {
                    (worst, where_worst) = (off, format!("{text}, {}", node.operation));
                }
            }
        }
        each.push_str(&format!(" {worst_here:.2} {text};"));
    }
    report.note(format!("By how much the worst figure of each plan is off:{}.", each.trim_end_matches(';')));
    report.row(Row::new("worst estimate of a plan's node", "times off", worst).goal(Goal::AtMost(2.0)));
    report.note(format!("The worst estimate: {where_worst}."));
    Ok(())
}

/// By how much the worst of a node's figures is off; below 4 KiB memory is all overhead.
fn off_by(node: &PlanNode) -> f64 {
    const OVERHEAD: u64 = 4 << 10;
    let (expected, seen) = (node.estimated, node.actual);
    let memory = (expected.memory_bytes.max(OVERHEAD), seen.memory_bytes.max(OVERHEAD));
    let pairs =
        [(expected.series, seen.series), (expected.samples, seen.samples), (expected.bytes, seen.bytes), memory];
    let off = |(a, b): (u64, u64)| (a.max(1) as f64 / b.max(1) as f64).max(b.max(1) as f64 / a.max(1) as f64);
    pairs.map(off).into_iter().fold(1.0, f64::max)
}
