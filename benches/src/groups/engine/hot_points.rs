//! Points handed to another process in a file, so that it need not hold anything that made them.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use kymo_core::{Labels, LabelsRef, MetricStorage, SampleBatch, SeriesRef};
use serde_json::{Value, json};

use crate::cases::append::open;
use crate::load::Load;
use crate::machine;

const FILE: &str = "points";
const ROWS_PER_BATCH: usize = 2_000;

/// Writes the load: the series, then its rows in the order of time.
pub(super) fn write(load: &Load, dir: &Path) -> Result<()> {
    let shape = load.shape();
    let mut file = BufWriter::new(File::create(dir.join(FILE))?);
    put(&mut file, shape.series as u64)?;
    for index in 0..shape.series {
        let packed = load.labels(index).as_ref().packed();
        put(&mut file, packed.len() as u64)?;
        file.write_all(packed)?;
    }
    put(&mut file, load.samples())?;
    for (index, time_ms, value) in (0..shape.scrapes).flat_map(|scrape| load.scrape(scrape)) {
        put(&mut file, index as u64)?;
        put(&mut file, time_ms.cast_unsigned())?;
        put(&mut file, value.to_bits())?;
    }
    file.flush().context("cannot write points")
}

/// Holds the points that were written to `dir` in an engine and says what they take, as JSON: `resident` is what the
/// process grew by, `counted` what the engine says.
///
/// # Errors
/// The engine's, and a point that was not stored.
pub(super) fn hold(dir: &Path) -> Result<Value> {
    let pid = std::process::id();
    let mut file = BufReader::new(File::open(dir.join(FILE)).context("there are no points")?);
    let before = machine::resident(pid)?.anonymous;
    let (engine, _) = open(&dir.join("data"))?;
    let refs = (0..take(&mut file)?).map(|_| introduce(&mut file)).collect::<Result<Vec<Labels>>>()?;
    let mut refs: Vec<Result<SeriesRef, Labels>> = refs.into_iter().map(Err).collect();
    let rows = take(&mut file)?;
    let (mut batch, mut members, mut stored) = (SampleBatch::new(), Vec::new(), 0);
    for row in 1..=rows {
        let (index, time_ms, value) = (take(&mut file)? as usize, take(&mut file)?, take(&mut file)?);
        let (time_ms, value) = (time_ms.cast_signed(), f64::from_bits(value));
        match &refs[index] {
            Ok(series) => batch.push_float(*series, time_ms, value),
            Err(labels) => batch.push_float(labels, time_ms, value),
        }
        members.push(index);
        if members.len() == ROWS_PER_BATCH || row == rows {
            let report = engine.append(&batch)?;
            stored += report.stored.samples();
            for (row, series) in report.new_refs {
                refs[members[row]] = Ok(series);
            }
            // As a second does, which passes between scrapes: until then the log's frames are held as well.
            engine.sync_now()?;
            batch.clear();
            members.clear();
        }
    }
    ensure!(stored == rows, "{stored} of {rows} points were stored");
    let resident = (machine::resident(pid)?.anonymous - before) * 1024.0 * 1024.0;
    let counted = engine.statistics().head_bytes;
    Ok(json!({ "resident": resident, "counted": counted }))
}

fn introduce(from: &mut impl Read) -> Result<Labels> {
    let mut packed = vec![0; usize::try_from(take(from)?)?];
    from.read_exact(&mut packed)?;
    Ok(LabelsRef::from_packed(&packed)?.to_labels())
}

fn put(to: &mut impl Write, number: u64) -> Result<()> {
    Ok(to.write_all(&number.to_le_bytes())?)
}

fn take(from: &mut impl Read) -> Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes).context("the points end too early")?;
    Ok(u64::from_le_bytes(bytes))
}
