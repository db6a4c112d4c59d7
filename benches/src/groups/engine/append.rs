//! What an append costs, and what becomes of it: log, replay, blocks.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kymo_core::MetricStorage;

use super::bytes::check_bits;
use super::{folder, timed};
use crate::cases::append::{Appending, Bare, open};
use crate::groups::Setup;
use crate::heap;
use crate::load::Load;
use crate::report::{Goal, Report, Row};
use crate::rounds::Spread;

/// Series of the engine that is appended to, read back and replayed.
const SERIES: usize = 8_000;
/// Its scrapes: an hour.
const SCRAPES: usize = 240;
/// Series in engines whose cost per sample should be the same.
const SCALES: [usize; 3] = [10_000, 100_000, 1_000_000];
/// Samples appended at each scale, first ones apart, or more: until every open run was sealed once.
const SAMPLES_AT_SCALE: usize = 4_000_000;
/// Scrapes at the least; 60 samples fill a run.
const SCRAPES_AT_SCALE: usize = 62;

/// Adds the rows on one engine's life.
pub(super) fn run(setup: &Setup, report: &mut Report) -> Result<()> {
    let load = setup.load(SERIES, SCRAPES)?;
    report.note(format!("The engine takes {SERIES} series × {SCRAPES} scrapes of {}.", load.recording().source));
    append(&load, &folder(setup, "append")?, report)
}

/// Adds a row per number of series.
pub(super) fn scaling(setup: &Setup, report: &mut Report) -> Result<()> {
    let mut first = None;
    for series in SCALES {
        let scrapes = (SAMPLES_AT_SCALE / series).max(SCRAPES_AT_SCALE) + 1;
        let load = setup.load(series, scrapes)?;
        let dir = folder(setup, &format!("scale {series}"))?;
        let mut appending = Appending::new(&load, &dir)?;
        let log_before = appending.log_bytes()?;
        let (mut nanos, mut rows) = (Vec::new(), 0);
        for _ in 1..scrapes {
            let batches = appending.prepare(&load);
            let (count, took) = timed(|| appending.append(&batches))?;
            nanos.push(took.as_nanos() as f64 / count as f64);
            rows += count;
            // As a second does, which passes between scrapes: until then the log's frames are held as well.
            appending.engine().sync_now()?;
        }
        let logged = (appending.log_bytes()? - log_before) as f64 / rows as f64;
        let mean = nanos.iter().sum::<f64>() / nanos.len() as f64;
        let smallest = *first.get_or_insert(mean);
        report.row(
            Row::new(format!("append by handle, {series} series"), "ns/sample", mean)
                .floor("at the fewest series", smallest),
        );
        let spread = Spread::of(nanos).context("nothing was appended")?;
        report.note(format!(
            "{series} series: {} scrapes, the middle one {:.0}, the best {:.0} ns a sample; the log {logged:.2} B a sample.",
            scrapes - 1,
            spread.median,
            spread.min
        ));
        appending.abandon();
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}

/// Two threads append to one engine, each its own half of the series: by the clock, and what a sample costs in CPU time.
pub(super) fn two_writers(setup: &Setup, report: &mut Report) -> Result<()> {
    let mut found = Vec::new();
    for writers in [1, 2] {
        let load = setup.load(SERIES, SCRAPES)?;
        let mut appending = Appending::new(&load, &folder(setup, &format!("{writers} writers"))?)?;
        let batches: Vec<_> = (1..SCRAPES).map(|_| appending.prepare(&load)).collect();
        let samples = (batches.iter().flatten().map(|batch| batch.rows()).sum::<usize>()) as f64;
        let engine = appending.engine();
        let began = Instant::now();
        let cpu = std::thread::scope(|scope| -> Result<f64> {
            let threads: Vec<_> = (0..writers)
                .map(|writer| {
                    let batches = &batches;
                    scope.spawn(move || {
                        let mine = batches.iter().flat_map(|scrape| scrape.iter().skip(writer).step_by(writers));
                        timed(|| mine.map(|batch| batch.append_to(engine)).sum::<Result<u64>>())
                    })
                })
                .collect();
            let mut cpu = 0.0;
            for thread in threads {
                cpu += thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??.1.as_nanos() as f64;
            }
            Ok(cpu)
        })?;
        found.push((samples / began.elapsed().as_secs_f64() / 1e6, cpu / samples));
    }
    let [(one, one_cpu), (two, two_cpu)] = [found[0], found[1]];
    report.row(Row::new("append by handle, two threads, by the clock", "M samples/s", two).floor("one thread", one));
    report.row(Row::new("append by handle, two threads, CPU", "ns/sample", two_cpu).floor("one thread", one_cpu));
    Ok(())
}

/// Append, log, replay, blocks and their bytes, in one life of a data directory.
fn append(load: &Load, dir: &Path, report: &mut Report) -> Result<()> {
    let data = dir.join("data");
    let mut appending = Appending::new(load, &data)?;
    let mut bare = Bare::new(load, dir)?;
    let log_before = appending.log_bytes()?;
    let (mut ours, mut floor, mut stored, mut allocated) = (Vec::new(), Vec::new(), 0, 0);
    for scrape in 1..load.shape().scrapes {
        let batches = appending.prepare(load);
        let rows: Vec<(usize, i64, f64)> = load.scrape(scrape).collect();
        let (allocations, _, appended) = heap::of(|| timed(|| appending.append(&batches)));
        let (count, took) = appended?;
        allocated += allocations;
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
    report.row(
        Row::new("allocations, sealing included", "1/sample", allocated as f64 / stored as f64)
            .goal(Goal::AtMost(0.001)),
    );
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
    report.row(Row::new(
        "flushed blocks, not merged, read back by bits",
        "B/sample",
        per_sample(statistics.block_bytes),
    ));
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
        assert!(table.contains("flushed blocks, not merged, read back by bits"), "{table}");
    }
}
