//! What the engine costs within a process: ns, bytes and MB.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kymo_core::storage::ColumnValue;
use kymo_core::{Columns, MetricStorage, QueryContext, Selector};

use super::{Setup, hot_points};
use crate::cases::append::{Appending, Bare, bytes_below, open};
use crate::load::Load;
use crate::machine;
use crate::report::{Goal, Report, Row};
use crate::rounds::Spread;

/// Series of the engine that is appended to, read back and replayed.
const SERIES: usize = 8_000;
/// Its scrapes: an hour. Two runs of 120 are sealed of each series.
const SCRAPES: usize = 240;
/// The seed's shape of a million hot points.
const HOT_SERIES: usize = 3_334;
const HOT_SCRAPES: usize = 300;
/// Series and scrapes of the selects.
const SELECTED: (usize, usize) = (1_000, 240);
const SELECTS: usize = 20;

/// Adds the rows of this group.
///
/// # Errors
/// A sample does not come back with its bits.
pub fn run(setup: &Setup, report: &mut Report) -> Result<()> {
    let load = setup.load(SERIES, SCRAPES)?;
    report.note(format!("The engine takes {SERIES} series × {SCRAPES} scrapes of {}.", load.recording().source));
    let dir = folder(setup, "engine")?;
    append(&load, &dir, report)?;
    drop(load);
    select(setup, report)?;
    memory(setup, report)
}

fn folder(setup: &Setup, name: &str) -> Result<PathBuf> {
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

/// Append, log, replay, blocks and their bytes, in one life of a data directory.
fn append(load: &Load, dir: &Path, report: &mut Report) -> Result<()> {
    let data = dir.join("data");
    let mut appending = Appending::new(load, &data)?;
    let mut bare = Bare::new(load, dir)?;
    let log_before = appending.log_bytes()?;
    let (mut ours, mut floor, mut stored) = (Vec::new(), Vec::new(), 0);
    for scrape in 1..load.shape().scrapes {
        let batches = appending.prepare(load);
        let rows: Vec<(usize, i64, f64)> = load.scrape(scrape).collect();
        let (count, took) = timed(|| appending.append(&batches))?;
        ours.push(took.as_nanos() as f64 / count as f64);
        stored += count;
        let (count, took) = timed(|| bare.append(&rows))?;
        floor.push(took.as_nanos() as f64 / count as f64);
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let spread = |values| Spread::of(values).context("nothing was appended");
    let (ours_mean, floor_mean) = (mean(&ours), mean(&floor));
    let ours = spread(ours)?;
    report.row(
        Row::new("append by handle, logged", "M samples/s/core", 1e3 / ours_mean)
            .floor("raw rows to file and vector", 1e3 / floor_mean)
            .goal(Goal::AtLeast(5.0)),
    );
    report.note(format!(
        "Append by handle: {ours_mean:.0} ns a sample on average, sealing included; the middle scrape {:.0}, the best \
         {:.0} ns.",
        ours.median, ours.min
    ));
    let logged = appending.log_bytes()? - log_before;
    report.row(Row::new("log", "B/sample", logged as f64 / stored as f64).floor("ref, time, value", 20.0));

    let held = appending.engine().statistics().head_samples;
    appending.abandon();
    let wall = Instant::now();
    let ((engine, opened), cpu) = timed(|| open(&data))?;
    let wall = wall.elapsed();
    ensure!(opened.samples == held, "replay gives {} of {held} samples", opened.samples);
    report.row(Row::new("replay", "ns/sample", cpu.as_nanos() as f64 / held as f64));
    report.row(Row::new(format!("open after a kill, {:.1} M samples", held as f64 / 1e6), "s", wall.as_secs_f64()));

    let ((), cpu) = timed(|| Ok(engine.close()?))?;
    report.row(Row::new("flush to blocks", "ns/sample", cpu.as_nanos() as f64 / held as f64));
    drop(engine);
    let (engine, _) = open(&data)?;
    let statistics = engine.statistics();
    ensure!(statistics.head_samples == 0, "{} samples are not in blocks", statistics.head_samples);
    check_bits(load, &engine)?;
    let per_sample = |bytes: u64| bytes as f64 / statistics.block_samples as f64;
    report.row(Row::new("blocks with index, read back by bits", "B/sample", per_sample(statistics.block_bytes)));
    drop(engine);
    let all = bytes_below(&data)? - fs::metadata(data.join("RESERVE")).map_or(0, |metadata| metadata.len());
    report.row(Row::new("data folder after close, reserve apart", "B/sample", per_sample(all)));
    Ok(())
}

/// Every sample of the load is in the engine with its bits, and nothing else.
fn check_bits(load: &Load, engine: &dyn MetricStorage) -> Result<()> {
    let by_labels: BTreeMap<_, usize> =
        (0..load.shape().series).map(|index| (load.labels(index).clone(), index)).collect();
    let set = engine.select(&Selector::everything(), &QueryContext::unlimited())?;
    let (mut columns, mut compared) = (Columns::default(), 0);
    for number in 0..set.len() {
        let labels = set.labels(number);
        let Some(index) = by_labels.get(&labels) else { bail!("{labels:?} was never appended") };
        set.read(number, &mut columns)?;
        let mut found = columns.iter();
        for (time_ms, value) in (0..load.shape().scrapes).filter_map(|scrape| load.sample(*index, scrape)) {
            let same = match found.next() {
                Some((time, ColumnValue::Float(float))) => time == time_ms && float.to_bits() == value.to_bits(),
                _ => false,
            };
            ensure!(same, "{labels:?} at {time_ms} did not come back as {value}");
            compared += 1;
        }
        ensure!(found.next().is_none(), "{labels:?} has samples that were never appended");
    }
    ensure!(compared == load.samples(), "{compared} of {} samples came back", load.samples());
    Ok(())
}

/// 1,000 series over an hour, from the head and from blocks.
fn select(setup: &Setup, report: &mut Report) -> Result<()> {
    let load = setup.load(SELECTED.0, SELECTED.1)?;
    let dir = folder(setup, "select")?;
    let mut appending = Appending::new(&load, &dir)?;
    appending.append_up_to(&load, SELECTED.1)?;
    let samples = load.samples();
    let from_head = read_all(appending.engine(), samples)?;
    appending.engine().close()?;
    appending.abandon();
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
    Ok(())
}

/// Milliseconds to select and read every sample.
fn read_all(engine: &dyn MetricStorage, samples: u64) -> Result<f64> {
    let mut columns = Columns::default();
    let mut found = Vec::new();
    for _ in 0..SELECTS {
        let (read, took) = timed(|| {
            let set = engine.select(&Selector::everything(), &QueryContext::unlimited())?;
            let mut read = 0;
            for number in 0..set.len() {
                set.read(number, &mut columns)?;
                read += columns.times.len() as u64;
            }
            Ok(read)
        })?;
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

/// Memory of a million hot points, in a process that does nothing else.
fn memory(setup: &Setup, report: &mut Report) -> Result<()> {
    let dir = folder(setup, "memory")?;
    hot_points::write(&setup.load(HOT_SERIES, HOT_SCRAPES)?, &dir)?;
    let program = std::env::current_exe().context("this program has no path")?;
    let output = Command::new(program).arg("--hold-hot-points").arg(dir).output().context("cannot start a process")?;
    ensure!(output.status.success(), "holding points failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let held: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let figure = |name: &str| held[name].as_f64().with_context(|| format!("no {name} in {held}"));
    let what = format!("{HOT_SERIES} series × {HOT_SCRAPES} points with index");
    let raw = (HOT_SERIES * HOT_SCRAPES * 16) as f64 / 1e6;
    let resident = Row::new(format!("{what}, resident"), "MB", figure("resident")?);
    report.row(resident.floor("16 B a point, no index", raw).goal(Goal::AtMost(5.0)));
    report.row(Row::new(format!("{what}, as the engine counts"), "MB", figure("counted")?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;

    #[test]
    fn a_small_load_comes_back_from_log_and_blocks_by_bits() {
        let now_ms = kymo_core::Clock::now_ms(&kymo_core::SystemClock::new());
        let shape = load::Shape { series: 100, scrapes: 130, base_ms: now_ms - 3_600_000 };
        let load = Load::new(load::synthetic(1), shape);
        let dir = tempfile::tempdir().unwrap();
        let mut report = Report::default();
        append(&load, dir.path(), &mut report).unwrap();
        let table = report.to_string();
        assert!(table.contains("blocks with index, read back by bits"), "{table}");
    }
}
