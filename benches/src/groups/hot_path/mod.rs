//! What recording costs a program: ns, instructions, allocations and bytes, beside floors and, if there are any, peers.
//!
//! An operation is a call that is not inlined, and its handle went through [`black_box`](std::hint::black_box) once, before the loop: the
//! optimiser knows nothing of it, and nothing but the operation and the call is timed. (Through `black_box` each time, the
//! store and load of the handle's address would be timed too, which take longer than an increment.) Eight calls stand in a
//! row, so that little of the loop is timed. The rows of two threads have a third that makes the series' page without pause,
//! as fast as each crate makes it.
//!
//! A call alone can take longer than an increment, and hides it then. So the goals of all handles stand in the rows of
//! `inlined`, where nothing is around the operation, as a program's loop has it: one handle again and again and
//! [`ROTATION`] in turn, one thread and two beside a scraper, and their floors in the same way. An observation of a histogram
//! is several times as long as a call and has its goals there too; a look-up is not inlined.
//!
//! The calls stand in a library, as most of a program's code does. Without link-time optimisation the compiler does not know
//! what the library becomes part of, and finds thread-local cells by a longer way than in a program's own crate: a counter
//! takes three instructions more than `cargo xtask instructions` counts.

mod counts;

use std::any::Any;

use anyhow::Result;

use crate::cases::floors::{self, Floors};
use crate::cases::handles::{Handles, ROTATION};
use crate::cases::requests::Requests;
use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::{self, Case};
use crate::{heap, instructions};

pub use counts::by_name;

const ROUNDS: usize = 101;
const TRIALS: usize = 40;
const SERIES: usize = 10_000;
/// Rounds of requests: what is recorded is small beside them.
const REQUEST_ROUNDS: usize = 1_001;
/// Requests whose instructions are counted, each set of labels as often as the others.
const REQUESTS: u64 = 2 * ROTATION as u64;
/// Percent of a request that its metrics may take.
const OVERHEAD_MAX: f64 = 0.2;
/// A series' labels, its node, its cell, and its share of the table.
const SERIES_BYTES_MAX: f64 = 108.0;

/// What is recorded, and how its series is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Adds one through a handle.
    Counter,
    /// Sets a level through a handle.
    Gauge,
    /// Records an observation in twelve buckets and the one above them through a handle.
    Histogram,
    /// Finds a counter by two label values and adds one.
    Lookup2,
    /// Finds a counter by five label values and adds one.
    Lookup5,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 5] =
        [Operation::Counter, Operation::Gauge, Operation::Histogram, Operation::Lookup2, Operation::Lookup5];

    fn name(self) -> &'static str {
        match self {
            Operation::Counter => "counter",
            Operation::Gauge => "gauge",
            Operation::Histogram => "histogram",
            Operation::Lookup2 => "lookup 2",
            Operation::Lookup5 => "lookup 5",
        }
    }

    fn question(self) -> &'static str {
        match self {
            Operation::Counter => "counter increment",
            Operation::Gauge => "gauge set",
            Operation::Histogram => "histogram record, 12 buckets",
            Operation::Lookup2 => "counter by 2 label values",
            Operation::Lookup5 => "counter by 5 label values",
        }
    }

    /// Nanoseconds on one thread.
    fn goal(self) -> f64 {
        match self {
            Operation::Counter | Operation::Gauge => 1.0,
            Operation::Histogram => 5.0,
            Operation::Lookup2 => 20.0,
            Operation::Lookup5 => 35.0,
        }
    }

    /// Nanoseconds on each of two threads, for those that are asked so.
    fn goal_of_two(self) -> Option<f64> {
        match self {
            Operation::Counter => Some(1.5),
            Operation::Histogram => Some(20.0),
            Operation::Lookup2 => Some(40.0),
            Operation::Gauge | Operation::Lookup5 => None,
        }
    }

    /// Hashes of labels are seeded anew in each run.
    fn is_lookup(self) -> bool {
        matches!(self, Operation::Lookup2 | Operation::Lookup5)
    }

    /// A call takes longer than it.
    fn is_hidden_by_a_call(self) -> bool {
        matches!(self, Operation::Counter | Operation::Gauge)
    }

    fn goal_of_a_call(self, goal: f64) -> Goal {
        if self.is_hidden_by_a_call() { Goal::None } else { Goal::AtMost(goal) }
    }

    fn instructions_goal(self) -> Goal {
        match self {
            Operation::Counter => Goal::AtMost(10.0),
            _ => Goal::None,
        }
    }

    fn floor(self) -> &'static str {
        match self {
            Operation::Counter => "owned cell",
            Operation::Gauge => "store",
            Operation::Histogram => "scan + locked add",
            Operation::Lookup2 | Operation::Lookup5 => "hash, probe, owned cell",
        }
    }

    /// Where several threads do it.
    fn floor_of_two(self) -> &'static str {
        match self {
            Operation::Histogram => "scan + locked add",
            Operation::Lookup2 | Operation::Lookup5 => "hash, probe, shared atomic",
            Operation::Counter | Operation::Gauge => "shared atomic",
        }
    }
}

/// A crate with handles for metrics: ours or another's.
pub trait Peer: Sync {
    /// What it is called in the table.
    fn name(&self) -> &'static str;
    /// Does it so often.
    fn record(&self, operation: Operation, times: u64);
    /// Reads the series of the operation as a scrape does: makes their page, or whatever the crate has for one.
    fn scrape(&self, operation: Operation);
    /// So many counters with two labels, each counted once, for their weight.
    fn counters(&self, series: usize) -> Result<Box<dyn Any>>;
}

/// What stands for the least that could do an operation.
#[derive(Clone, Copy)]
struct Floor<'a>(&'a Floors);

impl Floor<'_> {
    fn record(self, operation: Operation, times: u64) {
        match operation {
            Operation::Counter => self.0.owned_add(times),
            Operation::Gauge => self.0.store(times),
            Operation::Histogram => self.0.bare_histogram(times),
            Operation::Lookup2 => self.0.find_by_two(times),
            Operation::Lookup5 => self.0.find_by_five(times),
        }
    }

    /// The same where more than one thread writes.
    fn record_shared(self, operation: Operation, times: u64) {
        match operation {
            Operation::Histogram => self.0.bare_histogram(times),
            Operation::Lookup2 | Operation::Lookup5 => self.0.find_by_two_shared(times),
            Operation::Counter | Operation::Gauge => self.0.shared_add(times),
        }
    }

    /// The loop around an operation, and a call that does nothing.
    fn call(self, operation: Operation, times: u64) {
        match operation {
            Operation::Counter => self.0.call(times),
            Operation::Gauge | Operation::Histogram => self.0.call_in_rotation(times),
            Operation::Lookup2 | Operation::Lookup5 => self.0.call_with_labels(times),
        }
    }
}

/// Adds the rows of this group, `peers` beside ours.
///
/// # Errors
/// A handle does not count.
pub fn run(report: &mut Report, peers: &[&dyn Peer]) -> Result<()> {
    let (handles, floors) = (Handles::new()?, Floors::default());
    compare(report, "", &handles, peers, Some(&floors))?;
    inlined(report, &handles, &floors);
    summed(report, &handles);
    within(&handles, report);
    beside_work(report)
}

/// Adds the rows of typed handles, or of those of a facade: `ours` beside `peers`. `suffix` ends what a row is called.
///
/// # Errors
/// Counters cannot be made.
pub fn compare(
    report: &mut Report,
    suffix: &str,
    ours: &dyn Peer,
    peers: &[&dyn Peer],
    floors: Option<&Floors>,
) -> Result<()> {
    let floor = floors.map(Floor);
    for operation in Operation::ALL {
        alone(report, suffix, operation, ours, peers, floor);
    }
    for operation in Operation::ALL {
        if let Some(goal) = operation.goal_of_two() {
            together(report, (suffix, goal), operation, ours, peers, floor);
        }
    }
    for operation in Operation::ALL {
        counts::compare(report, suffix, operation, ours, peers, floor.is_some());
    }
    for operation in Operation::ALL {
        let allocations_of = |record: &dyn Fn(u64)| {
            record(ROTATION as u64);
            let (allocations, _, ()) = heap::of(|| record(ROTATION as u64));
            allocations as f64 / ROTATION as f64
        };
        let allocations = |peer: &dyn Peer| allocations_of(&|times| peer.record(operation, times));
        let what = format!("{}{suffix}", operation.question());
        let row = Row::new(what, "allocations", allocations(ours));
        let row = match floor {
            Some(floor) => {
                let least = allocations_of(&|times| floor.record(operation, times));
                row.floor(operation.floor(), least).goal(Goal::AtMost(0.0))
            }
            None => row,
        };
        report.row(peers.iter().fold(row, |row, peer| row.peer(peer.name(), allocations(*peer))));
    }
    let weight_of = |make: &dyn Fn() -> Result<Box<dyn Any>>| -> Result<f64> {
        let (_, bytes, made) = heap::of(make);
        drop(made?);
        Ok(bytes as f64 / SERIES as f64)
    };
    let weight = |peer: &dyn Peer| weight_of(&|| peer.counters(SERIES));
    let mut row = Row::new(format!("counter with 2 labels, touched by one thread{suffix}"), "B of heap", weight(ours)?);
    if floor.is_some() {
        let lightest = weight_of(&|| Ok(floors::counters(SERIES)))?;
        row = row.floor("text and a cell", lightest).goal(Goal::AtMost(SERIES_BYTES_MAX));
    }
    for peer in peers {
        row = row.peer(peer.name(), weight(*peer)?);
    }
    report.row(row);
    Ok(())
}

/// One thread.
fn alone(
    report: &mut Report,
    suffix: &str,
    operation: Operation,
    ours: &dyn Peer,
    peers: &[&dyn Peer],
    floor: Option<Floor<'_>>,
) {
    let mut cases = vec![Case::new("ours", |times| ours.record(operation, times))];
    cases.extend(peers.iter().map(|peer| Case::new(peer.name(), |times| peer.record(operation, times))));
    cases.extend(floor.map(|floor| Case::new("floor", move |times| floor.record(operation, times))));
    let found = rounds::in_turn(&mut cases, ROUNDS);
    let mut row = Row::new(format!("{}{suffix}, 1 thread", operation.question()), "ns", found[0].median);
    if floor.is_some() {
        row = row
            .goal(operation.goal_of_a_call(operation.goal()))
            .floor(operation.floor(), found[peers.len() + 1].median);
    }
    report.row(peers.iter().zip(&found[1..]).fold(row, |row, (peer, found)| row.peer(peer.name(), found.median)));
}

/// Two threads on one series, a third scraping it without pause.
fn together(
    report: &mut Report,
    (suffix, goal): (&str, f64),
    operation: Operation,
    ours: &dyn Peer,
    peers: &[&dyn Peer],
    floor: Option<Floor<'_>>,
) {
    let figure = |peer: &dyn Peer| beside(&|times| peer.record(operation, times), &|| peer.scrape(operation));
    let what = format!("{}{suffix}, 2 threads and a scraper", operation.question());
    let mut row = Row::new(what, "CPU ns", figure(ours));
    if let Some(floor) = floor {
        row = row.goal(operation.goal_of_a_call(goal));
        if let Figure::Of(value) = beside(&|times| floor.record_shared(operation, times), &|| floor.0.read()) {
            row = row.floor(operation.floor_of_two(), value);
        }
    }
    report.row(peers.iter().fold(row, |row, peer| row.peer(peer.name(), figure(*peer))));
}

/// Handles without a call around them.
fn inlined(report: &mut Report, handles: &Handles, floors: &Floors) {
    let mut cases = [
        Case::new("one counter", |times| handles.counter_inlined(times)),
        Case::new("counters in turn", |times| handles.counters_inlined(times)),
        Case::new("one gauge", |times| handles.gauge_inlined(times)),
        Case::new("gauges in turn", |times| handles.gauges_inlined(times)),
        Case::new("one histogram", |times| handles.histogram_inlined(times)),
        Case::new("histograms in turn", |times| handles.histograms_inlined(times)),
        Case::new("one cell", |times| floors.owned_add_inlined(times)),
        Case::new("cells in turn", |times| floors.owned_adds_inlined(times)),
        Case::new("one store", |times| floors.store_inlined(times)),
        Case::new("stores in turn", |times| floors.stores_inlined(times)),
        Case::new("one bare histogram", |times| floors.bare_histogram_inlined(times)),
        Case::new("bare histograms in turn", |times| floors.bare_histograms_inlined(times)),
        Case::new("call", |times| floors.call(times)),
    ];
    let found = rounds::in_turn(&mut cases, ROUNDS);
    let rows = [Operation::Counter, Operation::Gauge, Operation::Histogram].into_iter().flat_map(|operation| {
        ["one handle", "64 handles in turn"]
            .map(|handles| (operation, format!("{}, inlined, {handles}", operation.question())))
    });
    for (index, (operation, what)) in rows.enumerate() {
        let row = Row::new(what, "ns", found[index].median).floor(operation.floor(), found[index + 6].median);
        report.row(row.goal(Goal::AtMost(operation.goal())));
    }
    let mut beside = |operation: Operation, work: &(dyn Fn(u64) + Sync)| {
        let Some(goal) = operation.goal_of_two() else { return };
        let what = format!("{}, inlined, 2 threads and a scraper", operation.question());
        let figure = beside(work, &|| handles.scrape(operation));
        report.row(Row::new(what, "CPU ns", figure).goal(Goal::AtMost(goal)));
    };
    beside(Operation::Counter, &|times| handles.counter_inlined(times));
    beside(Operation::Histogram, &|times| handles.histogram_inlined(times));
    report.note(format!(
        "Rows that do not say `inlined` are calls; one that does nothing takes {:.2} ns on this machine, which is why no \
         goal of a counter or gauge stands there.",
        found[12].median
    ));
}

/// The hardest reader: one that does nothing but sum up the series.
fn summed(report: &mut Report, handles: &Handles) {
    let mut row = |operation: Operation, work: &(dyn Fn(u64) + Sync), read: &(dyn Fn() + Sync)| {
        let Some(goal) = operation.goal_of_two() else { return };
        let how = if operation.is_lookup() { "" } else { ", inlined" };
        let what = format!("{}{how}, 2 threads and a reader that sums", operation.question());
        report.row(Row::new(what, "CPU ns", beside(work, read)).goal(Goal::AtMost(goal)));
    };
    row(Operation::Counter, &|times| handles.counter_inlined(times), &|| handles.read_counter());
    row(Operation::Histogram, &|times| handles.histogram_inlined(times), &|| handles.read_histogram());
    row(Operation::Lookup2, &|times| handles.lookup(times), &|| handles.read_lookup());
}

fn beside(work: &(dyn Fn(u64) + Sync), read: &(dyn Fn() + Sync)) -> Figure {
    match rounds::beside_a_reader(work, read, TRIALS) {
        Some(spread) => Figure::Of(spread.median),
        None => Figure::missing("one core"),
    }
}

/// What has no peer here: interning and rings.
fn within(handles: &Handles, report: &mut Report) {
    let mut cases = [
        Case::new("intern", |times| handles.intern(times)),
        Case::new("intern many", |times| handles.intern_many(times)),
        Case::new("push", |times| handles.push(times)),
    ];
    let found = rounds::in_turn(&mut cases, ROUNDS);
    report.row(Row::new("intern, 32 hot strings", "ns", found[0].median).goal(Goal::AtMost(10.0)));
    report.row(Row::new("intern, 10,000 strings in turn", "ns", found[1].median).goal(Goal::AtMost(20.0)));
    report.row(Row::new("push to a ring", "ns", found[2].median).goal(Goal::AtMost(3.0)));
    let (allocations, _, ()) = heap::of(|| {
        handles.intern(ROTATION as u64);
        handles.push(ROTATION as u64);
    });
    report.row(Row::new("interning and pushing, 64 times", "allocations", allocations as f64).goal(Goal::AtMost(0.0)));
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
    let mut row = |what, unit, figure: Figure, goal| report.row(Row::new(what, unit, figure).goal(goal));
    row("overhead of all metrics, kept handles", "% of CPU time", kept.into(), Goal::AtMost(OVERHEAD_MAX));
    row("the same", "% of instructions", more("request"), Goal::AtMost(OVERHEAD_MAX));
    row("overhead of all metrics, `Family::at`", "% of CPU time", looked_up.into(), Goal::None);
    row("the same", "% of instructions", more("request, looked up"), Goal::None);
    report.note(format!(
        "The overhead is that of 4 counters, a gauge and 2 histograms of 2 labels each on a request of {micros:.1} µs of \
         arithmetic, {REQUEST_ROUNDS} rounds with and without in turn. Instructions of the arithmetic wait for each \
         other, those of a look-up do not, so its share of instructions is greater than that of time. What looks up all \
         seven at each request has no goal: hashing and comparing their labels alone, the floor of the rows above, takes \
         more than kept handles may."
    ));
    Ok(())
}
