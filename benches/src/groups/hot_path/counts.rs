//! Instructions of the operations, each counted by callgrind in a run of its own.

use anyhow::{Context, Result};

use super::{Floor, Operation, Peer};
use crate::cases::floors::Floors;
use crate::cases::handles::{Handles, ROTATION};
use crate::cases::requests::Requests;
use crate::instructions;
use crate::report::{Figure, Report, Row};

/// Before an operation's name: the loop around it and a call that does nothing.
const CALL: &str = "call";
/// Before an operation's name: what could do it at the least.
const FLOOR: &str = "floor";
/// Look-ups are counted in so many runs, of which each has hashes of its own.
const LOOKUP_RUNS: u32 = 3;

/// Instructions, without those of the loop around it and of a call that does nothing.
pub(super) fn compare(
    report: &mut Report,
    suffix: &str,
    operation: Operation,
    ours: &dyn Peer,
    peers: &[&dyn Peer],
    has_floor: bool,
) {
    let around = instructions::of(&counted_name(CALL, operation));
    let count = |name: &str| -> Figure {
        let runs = if operation.is_lookup() { LOOKUP_RUNS } else { 1 };
        let mut sum = 0.0;
        for _ in 0..runs {
            match (instructions::of(&counted_name(name, operation)), &around) {
                (Figure::Of(count), Figure::Of(around)) => sum += count - around,
                (missing @ Figure::Missing(_), _) => return missing,
                (_, missing) => return missing.clone(),
            }
        }
        Figure::Of(sum / f64::from(runs))
    };
    let what = format!("{}{suffix}", operation.question());
    let mut row = Row::new(what, "instructions", count(ours.name()));
    if has_floor {
        row = row.goal(operation.instructions_goal());
        if let Figure::Of(value) = count(FLOOR) {
            row = row.floor(operation.floor(), value);
        }
    }
    report.row(peers.iter().fold(row, |row, peer| row.peer(peer.name(), count(peer.name()))));
}

fn counted_name(peer: &str, operation: Operation) -> String {
    format!("{peer}/{}", operation.name())
}

/// Does by name what is to be counted by callgrind, for [`instructions::serve`]: an operation of ours or of `peers`, of a
/// floor, a request, or nothing. Every series is known before.
///
/// # Errors
/// There is none of this name.
pub fn by_name(name: &str, times: u64, peers: &[&dyn Peer]) -> Result<()> {
    if name.contains("request") {
        return Requests::new()?.by_name(name, times);
    }
    let find = |prefix: &str| Operation::ALL.into_iter().find(|operation| counted_name(prefix, *operation) == name);
    let count = |record: &dyn Fn(u64)| {
        record(ROTATION as u64);
        instructions::counted(|| record(times));
    };
    if let Some((peer, operation)) = peers.iter().find_map(|peer| Some((peer, find(peer.name())?))) {
        count(&|times| peer.record(operation, times));
    } else if let Some(operation) = find(FLOOR) {
        let floors = Floors::default();
        count(&|times| Floor(&floors).record(operation, times));
    } else if let Some(operation) = find(CALL) {
        let floors = Floors::default();
        count(&|times| Floor(&floors).call(operation, times));
    } else {
        let handles = Handles::new()?;
        let operation = find(handles.name()).with_context(|| format!("no operation is called {name:?}"))?;
        count(&|times| handles.record(operation, times));
    }
    Ok(())
}
