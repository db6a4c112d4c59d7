//! What a page of a registry costs: ns per series, every value changed since the page before.

use anyhow::Result;

use crate::cases::pages::Pages;
use crate::report::{Goal, Report, Row};
use crate::rounds::{self, Case};

const ROUNDS: usize = 101;
const COUNTERS: usize = 10_000;
const HISTOGRAMS: usize = 1_000;

/// Adds the rows.
///
/// # Errors
/// A page does not show what it should.
pub fn run(report: &mut Report) -> Result<()> {
    let (counters, histograms) = (Pages::counters(COUNTERS)?, Pages::histograms(HISTOGRAMS)?);
    let (mut copied, mut copied_too) = (Vec::new(), Vec::new());
    let mut cases = [
        Case::passes("change counters", || counters.change()),
        Case::passes("counters", || {
            counters.change();
            counters.render()
        }),
        Case::passes("copy counters", || counters.copy(&mut copied)),
        Case::passes("change histograms", || histograms.change()),
        Case::passes("histograms", || {
            histograms.change();
            histograms.render()
        }),
        Case::passes("copy histograms", || histograms.copy(&mut copied_too)),
    ];
    let found = rounds::in_turn(&mut cases, ROUNDS);
    let per = |at: usize, series: usize| found[at].per(series as u64).median;
    let row = |what, changed: usize, series, goal| {
        // Changing the values is not part of the page.
        Row::new(what, "ns", per(changed + 1, series) - per(changed, series))
            .floor("copy of the page", per(changed + 2, series))
            .goal(Goal::AtMost(goal))
    };
    report.row(row("exposition per counter series", 0, COUNTERS, 30.0));
    report.row(row("exposition per histogram, 12 buckets", 3, HISTOGRAMS, 700.0));
    Ok(())
}
