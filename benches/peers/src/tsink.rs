//! What does tsink take for the samples in a file of requests: CPU, memory, bytes on disk, time to open, what a kill loses?
//!
//! It is given rows that were made before, so decoding is not counted. The log is synced once a second, as ours is.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kymo_benches::cases::append::bytes_below;
use kymo_benches::cases::decode::wire::WriteRequest;
use kymo_benches::load::RequestFile;
use kymo_benches::machine;
use serde_json::{Value as Json, json};
use tsink::{DataPoint, Label, Row, Storage, StorageBuilder, TimestampPrecision, WalSyncMode};

/// First argument of the process that loads.
pub(crate) const LOAD: &str = "tsink-load";
const CLOSE: &str = "close";
const KILLED: &str = "killed";

const SYNC_INTERVAL: Duration = Duration::from_secs(1);
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Series and time of the selects.
const SELECTED_SERIES: usize = 1_000;
const SELECTED_MS: i64 = 3_600_000;
const SELECTS: usize = 20;

type Name = (String, Vec<Label>);

fn open(data: &Path) -> Result<Arc<dyn Storage>> {
    let builder = StorageBuilder::new()
        .with_data_path(data)
        .with_timestamp_precision(TimestampPrecision::Milliseconds)
        .with_retention(RETENTION)
        .with_wal_sync_mode(WalSyncMode::Periodic(SYNC_INTERVAL));
    builder.build().context("cannot open tsink")
}

/// Calls `each` with the rows of every request.
fn requests(path: &Path, mut each: impl FnMut(Vec<(Name, i64, f64)>) -> Result<()>) -> Result<()> {
    let file = RequestFile::open(path)?;
    let mut body = Vec::new();
    for placed in file.scrapes.iter().flatten() {
        file.read(placed, &mut body)?;
        let message = snap::raw::Decoder::new().decompress_vec(&body)?;
        let request = <WriteRequest as prost::Message>::decode(&*message)?;
        let mut rows = Vec::new();
        for series in request.timeseries {
            let (mut metric, mut labels) = (String::new(), Vec::new());
            for label in series.labels {
                if label.name == "__name__" {
                    metric = label.value;
                } else {
                    labels.push(Label::new(label.name, label.value));
                }
            }
            let samples = series.samples.iter().map(|s| ((metric.clone(), labels.clone()), s.timestamp, s.value));
            rows.extend(samples);
        }
        each(rows)?;
    }
    Ok(())
}

/// Loads everything, says what it took, and closes or waits to be killed.
pub(crate) fn load(path: &Path, data: &Path, end: &str) -> Result<()> {
    let storage = open(data)?;
    let pid = std::process::id();
    let (mut samples, mut cpu, mut wall) = (0u64, Duration::ZERO, Duration::ZERO);
    requests(path, |rows| {
        let row = |((metric, labels), time, value): (Name, i64, f64)| {
            Row::with_labels(metric, labels, DataPoint::new(time, value))
        };
        let rows: Vec<Row> = rows.into_iter().map(row).collect();
        samples += rows.len() as u64;
        let (thread, started) = (machine::thread_cpu(), Instant::now());
        storage.insert_rows(&rows)?;
        cpu += machine::thread_cpu().saturating_sub(thread);
        wall += started.elapsed();
        Ok(())
    })?;
    let resident = machine::resident(pid)?.total;
    let per_sample = |time: Duration| time.as_secs_f64() * 1e6 / samples as f64;
    let mut closed = Json::Null;
    if end == CLOSE {
        let before = machine::process_cpu(pid)?;
        storage.close()?;
        closed = per_sample(cpu + machine::process_cpu(pid)?.saturating_sub(before)).into();
    }
    println!(
        "{}",
        json!({ "samples": samples, "append_us": per_sample(cpu), "wall_us": per_sample(wall), "closed_us": closed,
            "resident_mib": resident })
    );
    if end != CLOSE {
        // The kill ends this.
        std::io::stdin().read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

/// Runs [`load`] in a process of its own and gives what it said; it is killed right after, or has closed.
fn loaded(path: &Path, data: &Path, end: &str) -> Result<Json> {
    let program = std::env::current_exe()?;
    let mut child = Command::new(program)
        .arg(LOAD)
        .args([path, data])
        .arg(end)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a process")?;
    let mut line = String::new();
    let output = child.stdout.take().context("the process has no output")?;
    BufReader::new(output).read_line(&mut line)?;
    if end != CLOSE {
        child.kill()?;
    }
    let status = child.wait()?;
    ensure!(end != CLOSE || status.success(), "loading ended with {status}");
    serde_json::from_str(&line).with_context(|| format!("loading said {line:?}"))
}

/// Samples that are missing, and samples with other bits than were sent.
fn compare(storage: &dyn Storage, sent: &BTreeMap<Name, Vec<(i64, u64)>>) -> Result<(u64, u64)> {
    let (mut missing, mut other, mut points) = (0, 0, Vec::new());
    for ((metric, labels), samples) in sent {
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { continue };
        points.clear();
        match storage.select_into(metric, labels, first.0, last.0 + 1, &mut points) {
            Ok(()) => {}
            Err(tsink::TsinkError::NoDataPoints { .. }) => points.clear(),
            Err(error) => return Err(error.into()),
        }
        let found: BTreeMap<i64, Option<u64>> =
            points.iter().map(|point| (point.timestamp, point.value_as_f64().map(f64::to_bits))).collect();
        for (time, bits) in samples {
            match found.get(time) {
                None => missing += 1,
                Some(found) => other += u64::from(*found != Some(*bits)),
            }
        }
    }
    Ok((missing, other))
}

/// Prints all figures as JSON.
pub(crate) fn run(path: &Path, data: &Path) -> Result<()> {
    let (closed, killed) = (data.join(CLOSE), data.join(KILLED));
    let mut found = loaded(path, &closed, CLOSE)?;
    let samples = found["samples"].as_u64().context("loading counted no samples")?;
    let mut sent: BTreeMap<Name, Vec<(i64, u64)>> = BTreeMap::new();
    requests(path, |rows| {
        for (name, time, value) in rows {
            sent.entry(name).or_default().push((time, value.to_bits()));
        }
        Ok(())
    })?;
    found["bytes"] = (bytes_below(&closed)? as f64 / samples as f64).into();
    let storage = open(&closed)?;
    let (missing, other) = compare(&*storage, &sent)?;
    found["wrong"] = (missing + other).into();
    found["select_ms"] = select(&*storage, &sent)?.into();
    storage.close()?;
    drop(storage);

    loaded(path, &killed, KILLED)?;
    let started = Instant::now();
    let storage = open(&killed)?;
    found["reopen_s"] = started.elapsed().as_secs_f64().into();
    found["lost"] = compare(&*storage, &sent)?.0.into();
    println!("{found}");
    Ok(())
}

/// Milliseconds of this thread, the middle one of some.
fn select(storage: &dyn Storage, sent: &BTreeMap<Name, Vec<(i64, u64)>>) -> Result<f64> {
    let last = sent.values().flatten().map(|(time, _)| *time).max().context("nothing was sent")?;
    let mut took = Vec::new();
    for _ in 0..SELECTS {
        let before = machine::thread_cpu();
        for (metric, labels) in sent.keys().take(SELECTED_SERIES) {
            match storage.select(metric, labels, last - SELECTED_MS, last + 1) {
                Ok(_) | Err(tsink::TsinkError::NoDataPoints { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        took.push(machine::thread_cpu().saturating_sub(before).as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() / 2])
}
