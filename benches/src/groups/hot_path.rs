//! What recording costs a program: ns per operation.

use anyhow::Result;

use crate::cases::handles::Handles;
use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::{self, Case};

const ROUNDS: usize = 101;
const TRIALS: usize = 300;

/// Adds the rows of this group.
///
/// # Errors
/// A handle does not count.
pub fn run(report: &mut Report) -> Result<()> {
    let handles = Handles::new()?;
    let mut cases = [
        Case::new("owned", |times| handles.owned_add(times)),
        Case::new("shared", |times| handles.shared_add(times)),
        Case::new("counter", |times| handles.counter(times)),
        Case::new("store", |times| handles.store(times)),
        Case::new("gauge", |times| handles.gauge(times)),
        Case::new("bare histogram", |times| handles.bare_histogram(times)),
        Case::new("histogram", |times| handles.histogram(times)),
        Case::new("lookup", |times| handles.lookup(times)),
    ];
    let found = rounds::in_turn(&mut cases, ROUNDS);
    let [owned, shared, counter, store, gauge, bare, histogram, lookup] =
        std::array::from_fn(|index| found[index].median);
    let row = |what, ours: f64| Row::new(what, "ns", ours);
    report.row(row("counter increment, 1 thread", counter).floor("owned cell", owned).goal(Goal::AtMost(1.0)));
    report.row(row("same, against a locked add", counter).floor("shared atomic", shared));
    report.row(row("gauge set", gauge).floor("store", store).goal(Goal::AtMost(1.0)));
    report.row(row("histogram record, 12 buckets", histogram).floor("scan + locked add", bare));
    report.row(row("counter by 2 label values", lookup).floor("shared atomic", shared).goal(Goal::AtMost(20.0)));

    let together = |work: &(dyn Fn(u64) + Sync)| match rounds::on_two_cores(work, TRIALS) {
        Some(spread) => Figure::Of(spread.median),
        None => Figure::missing("no undisturbed trial"),
    };
    let counter = together(&|times| handles.counter(times));
    report.row(Row::new("counter increment, 2 threads on one series", "ns", counter).goal(Goal::AtMost(1.5)));
    let lookup = together(&|times| handles.lookup(times));
    report.row(Row::new("counter by 2 label values, 2 threads", "ns", lookup).goal(Goal::AtMost(40.0)));
    report.note("Handles are plain shared atomics until the hot-path work (issue 6); no reader sums meanwhile yet.");
    Ok(())
}
