//! The crate that does the same within a process: tsink, driven by the program in `benches/peers`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Rows, folder};
use crate::groups::Setup;
use crate::load::{Load, RequestFile};
use crate::machine;
use crate::report::{Figure, Report, Row};

/// Scrapes of the measured set that it takes: at 6 to 7 µs a sample, and as much again to open it after a kill, all of them
/// would take a quarter of an hour.
const SCRAPES: usize = 30;

/// Adds a row per figure that tsink has, under the same words as ours.
pub(super) fn run(setup: &Setup, report: &mut Report, wants: impl Fn(Rows) -> bool) -> Result<()> {
    let program = setup.crates.as_deref().context("there is no program for crates")?;
    if wants(Rows::Append) || wants(Rows::Write) || wants(Rows::Kill) || wants(Rows::Bytes) {
        let scrapes = setup.scrapes.min(SCRAPES);
        let load = setup.load(setup.series, scrapes)?;
        measure(program, setup, &load, &format!("measured set, {scrapes} scrapes"), report)?;
    }
    if wants(Rows::Bytes) {
        measure(program, setup, &setup.plain()?, "as recorded, no clones", report)?;
    }
    Ok(())
}

fn measure(program: &Path, setup: &Setup, load: &Load, what: &str, report: &mut Report) -> Result<()> {
    let dir = folder(setup, &format!("tsink {what}"))?;
    let requests = dir.join("requests");
    RequestFile::write(load, &requests)?;
    let mut command = Command::new(program);
    command.arg("tsink").arg(&requests).arg(dir.join("data"));
    let core = machine::two_cores().map(|[first, _]| first);
    let output = machine::on_core(core, || command.output()).context("cannot start the program for crates")?;
    ensure!(output.status.success(), "tsink: {}", String::from_utf8_lossy(&output.stderr).trim());
    let found: Value = serde_json::from_slice(&output.stdout)?;
    let rows = [
        ("CPU until acknowledged", "µs/sample", "append_us"),
        ("CPU until closed", "µs/sample", "closed_us"),
        ("resident, loaded", "MiB", "resident_mib"),
        ("bytes per sample on disk after closing", "B", "bytes"),
        ("samples that do not come back with their bits", "samples", "wrong"),
        ("open on what a kill left", "s", "reopen_s"),
        ("samples lost to a kill", "samples", "lost"),
        ("select 1,000 series × 1 h, warm", "ms", "select_ms"),
    ];
    for (figure, unit, name) in rows {
        let value = found[name].as_f64().map_or(Figure::missing("not found"), Figure::Of);
        report.row(Row::new(format!("tsink: {figure}, {what}"), unit, Figure::missing("")).peer("tsink", value));
    }
    std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    Ok(())
}
