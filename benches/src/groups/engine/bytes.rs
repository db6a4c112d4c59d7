//! What a sample takes on disk after compaction, quoted only after every sample was read back with its bits.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use kymo_core::storage::ColumnValue;
use kymo_core::{Columns, MetricStorage, QueryContext, Selector};
use kymo_storage::{Engine, Lane, MaintainLimit, Next};

use crate::cases::append::{Appending, bytes_below, open};
use crate::load::Load;
use crate::report::{Report, Row};

/// An engine's bytes for one load.
pub(in crate::groups) struct OnDisk {
    /// Samples read back.
    pub(in crate::groups) samples: u64,
    /// Files of the data directory that hold them, index and all; the log is empty.
    pub(in crate::groups) bytes: u64,
    /// What they are spent on.
    sections: Vec<(&'static str, u64)>,
}

impl OnDisk {
    /// Adds what the bytes are spent on.
    pub(in crate::groups) fn sections(&self, report: &mut Report, what: &str) {
        for (section, bytes) in &self.sections {
            report.row(Row::new(format!("· {section}, {what}"), "B", *bytes as f64 / self.samples as f64));
        }
    }
}

/// Does all upkeep there is to do.
pub(super) fn settle(engine: &Engine) -> Result<()> {
    engine.flush()?;
    for lane in [Lane::Flush, Lane::Merge] {
        while engine.maintain(lane, MaintainLimit::default())? == Next::Now {}
    }
    Ok(())
}

/// Writes `load` into an engine in `dir`, compacts it, reads every sample back, and counts bytes.
pub(in crate::groups) fn of(load: &Load, dir: &Path) -> Result<OnDisk> {
    let mut appending = Appending::new(load, dir)?;
    while appending.appended() < load.shape().scrapes {
        appending.append_up_to(load, (appending.appended() + 60).min(load.shape().scrapes))?;
        appending.engine().maintain(Lane::Flush, MaintainLimit::default())?;
    }
    appending.engine().compact(|| true)?;
    appending.engine().close()?;
    appending.abandon();
    let (engine, opened) = open(dir)?;
    ensure!(opened.samples == 0, "{} samples are still in the log", opened.samples);
    check_bits(load, &engine)?;
    let statistics = engine.block_statistics()?;
    let (samples, bytes) = (load.samples(), bytes_below(&dir.join("blocks"))?);
    ensure!(statistics.samples == samples, "{} samples are in blocks, not {samples}", statistics.samples);
    ensure!(statistics.bytes() == bytes, "sections of {} bytes make files of {bytes}", statistics.bytes());
    let sections = vec![
        ("values", statistics.value_bytes),
        ("timestamps", statistics.time_bytes),
        ("index", statistics.index_bytes),
        ("overhead", statistics.overhead_bytes + statistics.side_bytes),
    ];
    Ok(OnDisk { samples, bytes, sections })
}

/// Every sample of the load is in the engine with its bits, and nothing else.
pub(super) fn check_bits(load: &Load, engine: &dyn MetricStorage) -> Result<()> {
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
