//! What decoding remote write costs: ns per sample, from the compressed body.

use anyhow::Result;

use super::Setup;
use crate::cases::decode::Decode;
use crate::report::{Report, Row};
use crate::rounds::{self, Case};

const SERIES: usize = 4_000;
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
    report.note(format!("Decode: of the floor, snap is {snap:.0} ns and the walk {walk:.0} ns a sample."));
    Ok(())
}
