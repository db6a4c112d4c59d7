//! What it takes to read 1,000 series over an hour.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use kymo_core::{Columns, MetricStorage, QueryContext, Selector};
use rustix::fs::{Advice, fadvise};

use super::bytes::settle;
use super::{folder, timed};
use crate::cases::append::{Appending, open};
use crate::groups::Setup;
use crate::report::{Goal, Report, Row};
use crate::rounds::Spread;

/// Series and scrapes of the selects.
const SELECTED: (usize, usize) = (1_000, 240);
const SELECTS: usize = 20;
const COLD_SELECTS: usize = 5;

/// 1,000 series over an hour, from the head and from blocks.
pub(super) fn run(setup: &Setup, report: &mut Report) -> Result<()> {
    let load = setup.load(SELECTED.0, SELECTED.1)?;
    let dir = folder(setup, "select")?;
    let mut appending = Appending::new(&load, &dir)?;
    appending.append_up_to(&load, SELECTED.1)?;
    let samples = load.samples();
    let from_head = read_all(appending.engine(), samples)?;
    settle(appending.engine())?;
    appending.engine().close()?;
    appending.abandon();
    let cold = read_cold(&dir, samples)?;
    let (engine, _) = open(&dir)?;
    let from_blocks = read_all(&engine, samples)?;
    let copied = copy(samples)?;
    for (what, found) in [("head", from_head), ("blocks", from_blocks)] {
        report.row(
            Row::new(format!("select 1,000 series × 1 h, {what}, warm"), "ms", found)
                .floor("copy of the columns", copied)
                .goal(Goal::AtMost(3.0)),
        );
    }
    report.row(Row::new("select 1,000 series × 1 h, blocks, cold", "ms", cold).floor("copy of the columns", copied));
    Ok(())
}

/// The same by the clock, just opened, with no page of a block in the system's cache.
fn read_cold(dir: &Path, samples: u64) -> Result<f64> {
    let mut found = Vec::new();
    for _ in 0..COLD_SELECTS {
        let (engine, _) = open(dir)?;
        let blocks = dir.join("blocks");
        for entry in fs::read_dir(&blocks).with_context(|| format!("cannot list {}", blocks.display()))? {
            let file = fs::File::open(entry?.path())?;
            file.sync_data()?;
            fadvise(&file, 0, None, Advice::DontNeed).context("cannot empty the system's cache")?;
        }
        let started = std::time::Instant::now();
        let read = read_once(&engine, &mut Columns::default())?;
        found.push(started.elapsed().as_secs_f64() * 1e3);
        ensure!(read == samples, "{read} of {samples} samples were read");
    }
    Ok(Spread::of(found).context("nothing was read")?.median)
}

fn read_once(engine: &dyn MetricStorage, columns: &mut Columns) -> Result<u64> {
    let set = engine.select(&Selector::everything(), &QueryContext::unlimited())?;
    let mut read = 0;
    for number in 0..set.len() {
        set.read(number, columns)?;
        read += columns.times.len() as u64;
    }
    Ok(read)
}

/// Milliseconds to select and read every sample.
fn read_all(engine: &dyn MetricStorage, samples: u64) -> Result<f64> {
    let mut columns = Columns::default();
    let mut found = Vec::new();
    for _ in 0..SELECTS {
        let (read, took) = timed(|| read_once(engine, &mut columns))?;
        ensure!(read == samples, "{read} of {samples} samples were read");
        found.push(took.as_secs_f64() * 1e3);
    }
    Ok(Spread::of(found).context("nothing was read")?.median)
}

fn copy(samples: u64) -> Result<f64> {
    let from: Vec<(i64, f64)> = (0..samples).map(|n| (n as i64, n as f64)).collect();
    let mut to = Vec::with_capacity(from.len());
    let mut found = Vec::new();
    for _ in 0..SELECTS {
        let ((), took) = timed(|| {
            to.clear();
            to.extend_from_slice(black_box(&from));
            black_box(&to);
            Ok(())
        })?;
        found.push(took.as_secs_f64() * 1e3);
    }
    Ok(Spread::of(found).context("nothing was copied")?.median)
}
