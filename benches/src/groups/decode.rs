//! What the ways in cost without HTTP: ns per sample of remote write from the compressed body, GB/s of a page.

use anyhow::{Context, Result, ensure};

use super::Setup;
use crate::cases::append;
use crate::cases::decode::Decode;
use crate::cases::exposition::Page;
use crate::load::{self, Load};
use crate::machine;
use crate::report::{Goal, Report, Row};
use crate::rounds::{self, Case};

const SERIES: usize = 4_000;
const SCRAPES_LOGGED: usize = 240;
const ROUNDS: usize = 41;

/// Adds the rows of this group.
///
/// # Errors
/// A decoder finds other samples than were sent.
pub fn run(setup: &Setup, report: &mut Report) -> Result<()> {
    let load = setup.load(SERIES, 4)?;
    let decode = std::cell::RefCell::new(Decode::new(&load)?);
    let samples = decode.borrow().samples();
    let mut cases = [
        Case::passes("snap", || decode.borrow_mut().snap()),
        Case::passes("walk", || decode.borrow().walk()),
        Case::passes("prost", || decode.borrow_mut().prost()),
        Case::passes("ours", || decode.borrow().receive()),
    ];
    let found = rounds::in_turn(&mut cases, ROUNDS);
    let [snap, walk, prost, ours] = std::array::from_fn(|index| found[index].per(samples).median);
    report.row(
        Row::new("remote write 1.0 decode, known series", "ns/sample", ours)
            .floor("snap + walk", snap + walk)
            .peer("snap + prost", prost),
    );
    let logged = logged(setup)?;
    report.row(
        Row::new("remote write 1.0 into the engine, logged", "ns/sample", logged)
            .floor("snap + walk", snap + walk)
            .goal(Goal::AtMost(280.0)),
    );
    exposition(&load, report)?;
    report.note(format!("Decode: of the floor, snap is {snap:.0} ns and the walk {walk:.0} ns a sample."));
    Ok(())
}

/// Bytes of a page per ns, which are GB/s.
fn exposition(load: &Load, report: &mut Report) -> Result<()> {
    let page = Page::new(load)?;
    let mut cases = [
        Case::passes("lines", || page.lines()),
        Case::passes("parsed", || page.parsed()),
        Case::passes("first sight", || page.first_sight()),
        Case::passes("repeated", || page.repeated()),
    ];
    let found = rounds::in_turn(&mut cases, ROUNDS);
    let [lines, parsed, first_sight, repeated] = std::array::from_fn(|index| page.bytes() as f64 / found[index].median);
    report.row(Row::new("page parsed", "GB/s", parsed).floor("newlines counted", lines).goal(Goal::AtLeast(1.0)));
    report.row(Row::new("page parsed and every label set built", "GB/s", first_sight));
    report.row(Row::new("page parsed again, known series", "GB/s", repeated).goal(Goal::AtLeast(2.0)));
    report.note(format!("Decode: the page has {} samples and {} bytes.", page.samples(), page.bytes()));
    Ok(())
}

/// ns per sample from the body to the acknowledgement, over an hour of known series.
fn logged(setup: &Setup) -> Result<f64> {
    let load = setup.load(SERIES, SCRAPES_LOGGED)?;
    let requests = load::requests(&load, 0..SCRAPES_LOGGED)?;
    let receiver = append::receiver(&setup.dir.join("received"))?;
    let (first, others) = requests.split_first().context("there are no requests")?;
    append::receive(&receiver, first)?;
    let before = machine::thread_cpu();
    let stored = others.iter().map(|requests| append::receive(&receiver, requests)).sum::<Result<u64>>()?;
    let took = machine::thread_cpu().saturating_sub(before);
    let sent: u64 = others.iter().flatten().map(|request| request.samples).sum();
    ensure!(stored == sent, "{stored} of {sent} samples were stored");
    Ok(took.as_nanos() as f64 / stored as f64)
}
