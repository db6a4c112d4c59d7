//! What the engine costs: ns, bytes and MB; within a process, row by row. Rows on servers are in [`super::ingest`].

mod append;
pub(super) mod bytes;
mod encoders;
mod full;
mod hot_points;
mod memory;
mod select;
mod tsink;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;

pub use memory::{Held, hold, seed};

use super::Setup;
use crate::machine;
use crate::report::Report;

/// Some rows of the engine's table, to be asked for one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rows {
    /// Append by handle, log, replay, flush
    Append,
    /// Cost per sample at 10,000, 100,000 and 1,000,000 series
    Scaling,
    /// Time to open a head that is as full as it gets, late samples in it or not
    Full,
    /// 1,000 series × 1 h from the head and from blocks, warm and cold
    Select,
    /// A million hot points
    Hot,
    /// Memory per further active series
    Series,
    /// A million series born and gone
    Churn,
    /// The same in a server, minutes after; only when asked for by name
    Gone,
    /// Bytes and ns by class of the recording's series, and the encoders they got
    Encoders,
    /// Bytes per sample on disk, on the measured set and on the recording as it is
    Bytes,
    /// Remote write over HTTP: CPU at acknowledgement and settled, resident memory
    Write,
    /// What `kill -9` loses, and the time to ready after it
    Kill,
}

/// Adds the rows that are measured within processes of our own.
pub(super) fn run(setup: &Setup, report: &mut Report, wants: impl Fn(Rows) -> bool) {
    type Measure = fn(&Setup, &mut Report) -> Result<()>;
    let all: [(Rows, Measure); 10] = [
        (Rows::Append, append::run),
        (Rows::Append, append::two_writers),
        (Rows::Scaling, append::scaling),
        (Rows::Full, full::run),
        (Rows::Select, select::run),
        (Rows::Hot, memory::hot),
        (Rows::Series, memory::series),
        (Rows::Churn, memory::churned),
        (Rows::Encoders, encoders::run),
        (Rows::Encoders, encoders::one_by_one),
    ];
    for (rows, measure) in all.into_iter().filter(|(rows, _)| wants(*rows)) {
        super::attempt(report, &format!("{rows:?}").to_lowercase(), |report| measure(setup, report));
    }
    if setup.crates.is_some() {
        super::attempt(report, "tsink", |report| tsink::run(setup, report, &wants));
    }
}

/// A new folder for one measurement.
pub(super) fn folder(setup: &Setup, name: &str) -> Result<PathBuf> {
    let dir = setup.dir.join(name);
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// CPU time of this thread over `work`.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let before = machine::thread_cpu();
    let value = work()?;
    Ok((value, machine::thread_cpu().saturating_sub(before)))
}
