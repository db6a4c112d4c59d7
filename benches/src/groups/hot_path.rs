//! What recording costs a program: ns, instructions, allocations and bytes.

use anyhow::Result;

use crate::cases::handles::{self, Handles, ROTATION};
use crate::cases::requests::Requests;
use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::{self, Case};
use crate::{heap, instructions};

const ROUNDS: usize = 101;
const TRIALS: usize = 60;
const SERIES: usize = 10_000;
/// Rounds of requests: what is recorded is small beside them.
const REQUEST_ROUNDS: usize = 1_001;
/// Requests whose instructions are counted, each set of labels as often as the others.
const REQUESTS: u64 = 2 * ROTATION as u64;
/// Percent of a request that its metrics may take through handles that are kept, and when each series is looked up.
const OVERHEAD_MAX: [f64; 2] = [0.2, 1.0];

/// Adds the rows of this group.
///
/// # Errors
/// A handle does not count.
pub fn run(report: &mut Report) -> Result<()> {
    let handles = Handles::new()?;
    alone(&handles, report);
    together(&handles, report);
    counted(report);
    beside_work(report)?;
    weighed(&handles, report)
}

fn alone(handles: &Handles, report: &mut Report) {
    let mut cases = [
        Case::new("owned", |times| handles.owned_add(times)),
        Case::new("shared", |times| handles.shared_add(times)),
        Case::new("counter", |times| handles.counter(times)),
        Case::new("store", |times| handles.store(times)),
        Case::new("gauge", |times| handles.gauge(times)),
        Case::new("bare histogram", |times| handles.bare_histogram(times)),
        Case::new("histogram", |times| handles.histogram(times)),
        Case::new("lookup", |times| handles.lookup(times)),
        Case::new("lookup 5", |times| handles.lookup_5(times)),
        Case::new("intern", |times| handles.intern(times)),
        Case::new("push", |times| handles.push(times)),
    ];
    let found = rounds::in_turn(&mut cases, ROUNDS);
    let [owned, shared, counter, store, gauge, bare, histogram, lookup, lookup_5, intern, push] =
        std::array::from_fn(|index| found[index].median);
    let row = |what, ours: f64| Row::new(what, "ns", ours);
    report.row(row("counter increment, 1 thread", counter).floor("owned cell", owned).goal(Goal::AtMost(1.0)));
    report.row(row("same, against a locked add", counter).floor("shared atomic", shared));
    report.row(row("gauge set", gauge).floor("store", store).goal(Goal::AtMost(1.0)));
    report.row(row("histogram record, 12 buckets", histogram).floor("scan + locked add", bare).goal(Goal::AtMost(5.0)));
    report.row(row("counter by 2 label values", lookup).floor("shared atomic", shared).goal(Goal::AtMost(20.0)));
    report.row(row("counter by 5 label values", lookup_5).goal(Goal::AtMost(35.0)));
    report.row(row("intern, 32 hot strings", intern).goal(Goal::AtMost(10.0)));
    report.row(row("push to a ring", push).goal(Goal::AtMost(3.0)));
}

/// Two threads on one series, a third reading it without pause.
fn together(handles: &Handles, report: &mut Report) {
    let mut row = |what, goal, work: &(dyn Fn(u64) + Sync), read: &(dyn Fn() + Sync)| {
        let figure = match rounds::beside_a_reader(work, read, TRIALS) {
            Some(spread) => Figure::Of(spread.median),
            None => Figure::missing("one core"),
        };
        report.row(Row::new(what, "CPU ns", figure).goal(Goal::AtMost(goal)));
    };
    row("counter, 2 threads on one series and a reader", 1.5, &|n| handles.counter(n), &|| handles.read_counter());
    row("histogram, the same", 20.0, &|n| handles.histogram(n), &|| handles.read_histogram());
    row("counter by 2 label values, the same", 40.0, &|n| handles.lookup(n), &|| handles.read_lookup());
}

/// Instructions, with the loop around a call that is not inlined.
fn counted(report: &mut Report) {
    let ours = |what, name| Row::new(what, "instructions", instructions::of(name));
    let floor = |row: Row, what, name| match instructions::of(name) {
        Figure::Of(count) => row.floor(what, count),
        Figure::Missing(_) => row,
    };
    report.row(floor(ours("counter increment", "counter"), "owned cell", "owned"));
    report.row(floor(ours("gauge set", "gauge"), "store", "store"));
    report.row(floor(ours("histogram record, 12 buckets", "histogram"), "scan + locked add", "bare histogram"));
    report.row(ours("counter by 2 label values", "lookup"));
    report.row(ours("counter by 5 label values", "lookup 5"));
    report.note("Instructions count the loop too; `cargo xtask instructions` takes it off and holds them to limits.");
}

/// What a program pays that records everything about requests of 50 µs: 4 counters, a gauge and 2 histograms of 2 labels.
fn beside_work(report: &mut Report) -> Result<()> {
    let requests = Requests::new()?;
    let mut cases = [
        Case::new("bare", |times| requests.bare(times)),
        Case::new("kept", |times| requests.kept(times)),
        Case::new("looked up", |times| requests.looked_up(times)),
    ];
    let micros = rounds::in_turn(&mut cases[..1], ROUNDS)[0].median / 1e3;
    let [_, kept, looked_up] = rounds::beyond_first(&mut cases, REQUEST_ROUNDS).map(|spread| spread.median);
    let bare = instructions::of_times("bare request", REQUESTS);
    let more = |name| match (&bare, instructions::of_times(name, REQUESTS)) {
        (Figure::Of(bare), Figure::Of(with)) => Figure::Of((with / bare - 1.0) * 100.0),
        (Figure::Missing(why), _) => Figure::missing(why),
        (_, missing) => missing,
    };
    let mut row = |what, unit, figure: Figure, max| report.row(Row::new(what, unit, figure).goal(Goal::AtMost(max)));
    let [kept_max, looked_up_max] = OVERHEAD_MAX;
    row("overhead of all metrics, kept handles", "% of CPU time", kept.into(), kept_max);
    row("the same", "% of instructions", more("request"), kept_max);
    row("overhead of all metrics, `Family::at`", "% of CPU time", looked_up.into(), looked_up_max);
    row("the same", "% of instructions", more("request, looked up"), looked_up_max);
    report.note(format!(
        "The overhead is that of 4 counters, a gauge and 2 histograms of 2 labels each on a request of {micros:.1} µs of \
         arithmetic, {REQUEST_ROUNDS} rounds with and without in turn."
    ));
    Ok(())
}

fn weighed(handles: &Handles, report: &mut Report) -> Result<()> {
    let (allocations, _, ()) = heap::of(|| {
        let times = ROTATION as u64;
        handles.counter(times);
        handles.gauge(times);
        handles.histogram(times);
        handles.lookup(times);
        handles.lookup_5(times);
        handles.intern(times);
        handles.push(times);
    });
    report.row(
        Row::new("recording in all these ways, 64 times", "allocations", allocations as f64).goal(Goal::AtMost(0.0)),
    );
    let (_, bytes, registry) = heap::of(|| handles::counters(SERIES));
    let per_series = bytes as f64 / SERIES as f64;
    report.row(
        Row::new("counter with 2 labels, touched by one thread", "B of heap", per_series).goal(Goal::AtMost(108.0)),
    );
    drop(registry?);
    Ok(())
}
