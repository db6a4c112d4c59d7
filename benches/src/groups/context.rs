//! What the tree of contexts costs: ns and bytes per context, and the share of a request.

use std::hint::black_box;

use anyhow::Result;
use kymo_context::{Context, Settings};

use crate::cases::context::{Contexts, crowd};
use crate::machine;
use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::{self, Case};

const ROUNDS: usize = 101;
/// Rounds of the requests: each takes 50 µs, and the difference is small beside them.
const REQUEST_ROUNDS: usize = 501;
/// Contexts whose status is read.
const CROWD: usize = 10_000;
/// Contexts that live at once, for their bytes.
const LIVING: usize = 500_000;
/// Requests that come and go.
const REQUESTS: u64 = 10_000_000;
/// What memory may move by without anything being kept: pages that the allocator took once more.
const GROWTH_MIB_MAX: f64 = 1.0;

/// Adds the rows of this group.
///
/// # Errors
/// The tree does not count, or the machine does not tell its memory.
pub fn run(report: &mut Report) -> Result<()> {
    let (bytes, growth) = memory()?;
    let contexts = Contexts::new()?;
    let mut cases = [
        Case::new("persist", |times| contexts.persist(times)),
        Case::new("child", |times| contexts.child_drop(times)),
        Case::new("child, persist", |times| contexts.child_persist_drop(times)),
        Case::new("lock", |times| contexts.lock(times)),
        Case::new("bare lock", |times| contexts.bare_lock(times)),
    ];
    let [persist, child, child_persist, lock, bare_lock] = in_turn(&mut cases, ROUNDS);
    let row = |what, ours: f64| Row::new(what, "ns", ours);
    report.row(row("persist at depth 4", persist).goal(Goal::AtMost(100.0)));
    report.row(row("a context begins and ends", child));
    report.row(row("a context begins, persists and ends", child_persist));
    report.row(row("named lock, uncontended", lock).floor("tokio's lock", bare_lock));

    let mut cases = [
        Case::new("bare", |times| contexts.bare_request(times)),
        Case::new("watched", |times| contexts.request(times)),
    ];
    let [bare, watched] = in_turn(&mut cases, REQUEST_ROUNDS);
    report.row(row("request of 50 µs, with context, persist, lock, await", watched).floor("without", bare));
    let percent = (watched / bare - 1.0) * 100.0;
    report.row(Row::new("overhead of leaving all of it on", "%", percent).goal(Goal::AtMost(1.0)));

    let (global, living) = crowd(CROWD)?;
    let mut cases = [
        Case::passes("status", || global.status()),
        Case::passes("text", || global.status_with_latest().to_string()),
        Case::passes("json", || global.status_json().to_string()),
    ];
    let [status, text, json] = in_turn(&mut cases, 11);
    for (what, nanos) in [("values", status), ("text", text), ("JSON", json)] {
        report.row(Row::new(format!("status of 10,000 contexts as {what}"), "ms", nanos / 1e6));
    }
    drop(living);

    report.row(Row::new("memory per living context", "B", bytes).goal(Goal::AtMost(600.0)));
    report.row(Row::new("growth over 10 million request contexts", "MiB", growth).goal(Goal::AtMost(GROWTH_MIB_MAX)));
    Ok(())
}

fn in_turn<const N: usize>(cases: &mut [Case<'_>; N], rounds: usize) -> [f64; N] {
    let found = rounds::in_turn(cases, rounds);
    std::array::from_fn(|index| found[index].median)
}

/// Bytes per living context, and MiB kept after contexts that ended; both of resident memory.
fn memory() -> Result<(f64, Figure)> {
    let resident = || Ok::<_, anyhow::Error>(machine::resident(std::process::id())?.anonymous);
    let global = Context::with_settings("global", Settings::default());
    let endpoint = global.child("http").begin();
    let serve = |requests: u64| {
        for _ in 0..requests {
            let request = endpoint.child("request").begin();
            request.persist();
            black_box(&request);
        }
    };
    serve(10_000);
    let before = resident()?;
    serve(REQUESTS);
    let growth = resident()? - before;

    let before = resident()?;
    let mut living = Vec::with_capacity(LIVING);
    living.extend((0..LIVING).map(|n| endpoint.child(&format!("request-{n}")).begin()));
    // The list of this bench is not the contexts'.
    let list = (LIVING * size_of_val(&endpoint)) as f64;
    let bytes = ((resident()? - before) * 1024.0 * 1024.0 - list) / LIVING as f64;
    drop(living);
    Ok((bytes, Figure::Of(growth.max(0.0))))
}
