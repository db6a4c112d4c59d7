//! What remote write costs without HTTP: ns per sample, from the compressed body.

use anyhow::{Context, Result, ensure};

use super::Setup;
use crate::cases::append;
use crate::cases::decode::Decode;
use crate::load::Requests;
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
    report.note(format!("Decode: of the floor, snap is {snap:.0} ns and the walk {walk:.0} ns a sample."));
    Ok(())
}

/// ns per sample from the body to the acknowledgement, over an hour of known series.
fn logged(setup: &Setup) -> Result<f64> {
    let load = setup.load(SERIES, SCRAPES_LOGGED)?;
    let requests = Requests::of(&load, 0..SCRAPES_LOGGED)?;
    let receiver = append::receiver(&setup.dir.join("received"))?;
    let (first, others) = requests.scrapes.split_first().context("there are no requests")?;
    append::receive(&receiver, first)?;
    let before = machine::thread_cpu();
    let stored = others.iter().map(|requests| append::receive(&receiver, requests)).sum::<Result<u64>>()?;
    let took = machine::thread_cpu().saturating_sub(before);
    let sent: u64 = others.iter().flatten().map(|request| request.samples).sum();
    ensure!(stored == sent, "{stored} of {sent} samples were stored");
    Ok(took.as_nanos() as f64 / stored as f64)
}
