//! What tending the data costs: files out and in, checks, rollups, and the report on a million series. All of it in CPU
//! time, so that what runs beside it does not show much; commands are measured from their start to their end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kymo_core::random::SeededRandom;
use kymo_core::storage::Tier;
use kymo_core::{Clock, Labels, MetricStorage, Random, SampleBatch, SystemClock};
use kymo_storage::fs::RealFs;
use kymo_storage::{Depth, Engine, Options, RetentionPolicy, verify};

use super::Setup;
use crate::cases::append::{Appending, bytes_below};
use crate::load::{self, Load, Shape};
use crate::machine;
use crate::report::{Report, Row};
use crate::servers::{self, Kind, Server};

/// Series and scrapes of what is exported and imported: four hours.
const SERIES: usize = 2_000;
const SCRAPES: usize = 960;
/// Of what is rolled up: four days, which ended two days ago.
const ROLLED_SERIES: usize = 400;
const ROLLED_SCRAPES: usize = 4 * 86_400 / 15;
const ROLLED_AGE_MS: i64 = 6 * 86_400_000;
/// Series and scrapes of noise that is checked, which is as large as samples get, and checks that are timed together.
const CHECKED_SERIES: usize = 1_000;
const CHECKED_SCRAPES: usize = 2_000;
const CHECKS: u32 = 10;
/// Series that cardinality is told of, and rows of one batch of them.
const MANY_SERIES: usize = 1_000_000;
const MANY_ROWS: usize = 5_000;

/// Adds the rows of this group.
///
/// # Errors
/// A command or a server fails.
pub fn run(setup: &Setup, report: &mut Report) -> Result<()> {
    match &setup.kymo {
        Some(kymo) => {
            let dir = setup.dir.join("tending");
            fs::create_dir_all(&dir)?;
            let copies = Copies { setup, kymo, dir, samples: 0 };
            super::attempt(report, "copies", |report| copies.run(report));
            super::attempt(report, "cardinality", |report| cardinality(setup, report));
        }
        None => report.later("copies and cardinality", "no kymo binary was given"),
    }
    super::attempt(report, "verify", |report| checks(setup, report));
    super::attempt(report, "rollups", |report| rollups(setup, report));
    Ok(())
}

/// Files out and in, and checks.
struct Copies<'s> {
    setup: &'s Setup,
    kymo: &'s Path,
    dir: PathBuf,
    samples: u64,
}

/// CPU time of a command that must succeed; what it prints goes to a file, or nowhere.
fn timed(program: &Path, arguments: &[&str], out: Option<&Path>) -> Result<Duration> {
    let before = machine::children_cpu()?;
    let stdout = out.map(File::create).transpose()?.map_or_else(Stdio::null, Stdio::from);
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
    let said = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    let error = String::from_utf8_lossy(&said.stderr);
    ensure!(said.status.success(), "{} {arguments:?} ends with {}: {error}", program.display(), said.status);
    Ok(machine::children_cpu()?.saturating_sub(before))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no text", path.display()))
}

impl Copies<'_> {
    fn run(mut self, report: &mut Report) -> Result<()> {
        let load = self.setup.load(SERIES, SCRAPES)?;
        let data = self.dir.join("data");
        fs::create_dir_all(&data)?;
        let mut appending = Appending::new(&load, &data)?;
        appending.append_up_to(&load, SCRAPES)?;
        appending.engine().flush()?;
        self.samples = appending.engine().block_list().iter().map(|block| block.samples).sum();
        appending.engine().close()?;
        drop(appending);

        let promtool = servers::tool(self.setup.peers.as_deref(), "promtool")?;
        let made = self.dir.join("made");
        for (form, name) in [("openmetrics", "OpenMetrics text"), ("csv", "CSV"), ("jsonl", "JSON lines")] {
            let file = self.dir.join(form);
            let out = timed(self.kymo, &["export", text(&file)?, "--format", form, "--data-dir", text(&data)?], None)?;
            let bytes = fs::metadata(&file)?.len();
            let back = self.import(form, &file)?;
            let (mut others_out, mut others_in) = (Vec::new(), Vec::new());
            if let (Some(promtool), "openmetrics") = (&promtool, form) {
                let arguments = ["tsdb", "create-blocks-from", "openmetrics", text(&file)?, text(&made)?];
                others_in.push(("promtool", timed(promtool, &arguments, None)?));
                // It wants a log to be there.
                fs::create_dir_all(made.join("wal"))?;
                let dumped = self.dir.join("dumped");
                let took = timed(promtool, &["tsdb", "dump-openmetrics", text(&made)?], Some(&dumped))?;
                others_out.push(("promtool", took));
                fs::remove_file(dumped)?;
            }
            if form == "jsonl" {
                match self.victoria_metrics(&file) {
                    Ok(Some((back, out))) => {
                        others_in.push(("VM", back));
                        others_out.push(("VM", out));
                    }
                    Ok(None) => {}
                    Err(error) => report.later("VM's import and export", format!("{error:#}")),
                }
            }
            self.rows(&format!("export, {name}"), bytes, out, &others_out, report);
            self.rows(&format!("import, {name}"), bytes, back, &others_in, report);
            fs::remove_file(file)?;
        }
        if made.is_dir() {
            let took = self.import("prometheus", &made)?;
            self.rows("import, a Prometheus' blocks", bytes_below(&made)?, took, &[], report);
        }
        Ok(())
    }

    fn rows(&self, what: &str, bytes: u64, ours: Duration, others: &[(&str, Duration)], report: &mut Report) {
        for (unit, count) in [("million samples/s", self.samples), ("MB/s", bytes)] {
            let rate = |took: Duration| count as f64 / 1e6 / took.as_secs_f64();
            let row = Row::new(what, unit, rate(ours));
            report.row(others.iter().fold(row, |row, (name, took)| row.peer(*name, rate(*took))));
        }
    }

    /// Into a new data directory, which must have all samples then.
    fn import(&self, form: &str, from: &Path) -> Result<Duration> {
        let target = self.dir.join("imported");
        let took = timed(self.kymo, &["import", form, text(from)?, "--data-dir", text(&target)?], None)?;
        let (engine, _) = Engine::open(Arc::new(RealFs), &target, Options::default())?;
        let stored: u64 = engine.block_list().iter().map(|block| block.samples).sum();
        drop(engine);
        fs::remove_dir_all(target)?;
        // Text has no staleness markers.
        let is_whole = stored == self.samples || form == "openmetrics" || form == "prometheus";
        ensure!(is_whole && stored > self.samples / 2, "{stored} of {} samples came back", self.samples);
        Ok(took)
    }

    /// CPU time for JSON lines in and out.
    fn victoria_metrics(&self, file: &Path) -> Result<Option<(Duration, Duration)>> {
        let (binaries, _) = servers::find(None, self.setup.peers.as_deref())?;
        let Some(binary) = binaries.iter().find(|binary| binary.kind == Kind::VictoriaMetrics) else {
            return Ok(None);
        };
        // NaNs with their bits are texts that it does not know: it gets the common one instead.
        let mut body = Vec::new();
        for line in BufReader::new(File::open(file)?).lines() {
            let line = line?;
            let mut parts = line.split("\"NaN(0x");
            body.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
            for part in parts {
                body.extend_from_slice(b"null");
                body.extend_from_slice(part.split_once(")\"").map_or("", |(_, after)| after).as_bytes());
            }
            body.push(b'\n');
        }
        let server = Server::start(binary, &self.dir.join("vm"))?;
        let mut http = server.connect()?;
        let before = server.cpu()?;
        let answer = http.post("/api/v1/import", &[], &body)?;
        ensure!(answer.is_success(), "it answers {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        server.ask(&mut http, "/internal/force_flush")?;
        let back = server.cpu()?.saturating_sub(before);
        let before = server.cpu()?;
        let answer = server.ask(&mut http, "/api/v1/export?match%5B%5D=%7B__name__!%3D%22%22%7D&start=0")?;
        ensure!(answer.is_success() && answer.body.len() > body.len() / 2, "it gives {} bytes", answer.body.len());
        Ok(Some((back, server.cpu()?.saturating_sub(before))))
    }
}

/// What it costs to check blocks of noise.
fn checks(setup: &Setup, report: &mut Report) -> Result<()> {
    let dir = setup.dir.join("checked");
    fs::create_dir_all(&dir)?;
    let (engine, _) = Engine::open(Arc::new(RealFs), &dir, Options::default())?;
    let (random, base_ms) = (SeededRandom::new(8), SystemClock::new().now_ms() - CHECKED_SCRAPES as i64 * 15_000);
    let labels = |n: usize| Labels::from_pairs([("__name__", "noise"), ("n", &n.to_string())]);
    let labels: Vec<Labels> = (0..CHECKED_SERIES).map(labels).collect();
    let mut batch = SampleBatch::new();
    for scrape in 0..CHECKED_SCRAPES as i64 {
        batch.clear();
        for labels in &labels {
            batch.push_float(labels, base_ms + scrape * 15_000, f64::from_bits(random.below(1 << 52) | 1023 << 52));
        }
        ensure!(engine.append(&batch)?.rejected.is_empty(), "a row was refused");
    }
    engine.close()?;
    let samples: u64 = engine.block_list().iter().map(|block| block.samples).sum();
    drop(engine);
    let bytes = bytes_below(&dir.join("blocks"))?;
    for (what, depth) in [("verify, noise", Depth::Structure), ("verify --deep, noise", Depth::Samples)] {
        let before = machine::process_cpu(process::id())?;
        for _ in 0..CHECKS {
            let found = verify(&RealFs, &dir, depth, &mut |_, _| {})?;
            ensure!(found.is_sound() && found.samples == samples, "{found:?}");
        }
        let took = machine::process_cpu(process::id())?.saturating_sub(before) / CHECKS;
        report.row(Row::new(what, "MB/s", bytes as f64 / 1e6 / took.as_secs_f64()));
        report.row(Row::new(what, "million samples/s", samples as f64 / 1e6 / took.as_secs_f64()));
    }
    Ok(())
}

/// What a million series cost to tell about: of a server that has them, with a sample an hour, CPU and time to the answer.
fn cardinality(setup: &Setup, report: &mut Report) -> Result<()> {
    let (binaries, _) = servers::find(setup.kymo.as_deref(), None)?;
    let [binary] = &binaries[..] else { return Ok(()) };
    let dir = setup.dir.join("many");
    let data = dir.join("data");
    fs::create_dir_all(&data)?;
    let (engine, _) = Engine::open(Arc::new(RealFs), &data, Options::default())?;
    let now_ms = SystemClock::new().now_ms();
    let mut batch = SampleBatch::new();
    // There in each hour that is compared.
    for (hours_ago, n) in (0..4).rev().flat_map(|ago| (0..MANY_SERIES).map(move |n| (ago, n))) {
        let texts =
            [format!("metric_{}", n % 997), format!("host-{}", n / 997), format!("job-{}", n % 17), n.to_string()];
        let [name, instance, job, id] = &texts;
        let pairs = [("__name__", &**name), ("id", id), ("instance", instance), ("job", job)];
        batch.push_float(&Labels::from_pairs(pairs), now_ms - 1_000 - hours_ago * 3_600_000, n as f64);
        if batch.len() == MANY_ROWS {
            ensure!(engine.append(&batch)?.rejected.is_empty(), "a row was refused");
            batch.clear();
        }
    }
    drop(engine);
    let server = Server::start(binary, &dir)?;
    server.settle()?;
    let mut http = server.connect()?;
    let (before, began) = (server.cpu()?, Instant::now());
    let answer = server.ask(&mut http, "/api/v1/status/cardinality")?;
    let (took, cpu) = (began.elapsed(), server.cpu()?.saturating_sub(before));
    let said: serde_json::Value = serde_json::from_slice(&answer.body).context("the report is no JSON")?;
    let series = said["data"]["series"].as_u64().unwrap_or(0);
    ensure!(series == MANY_SERIES as u64, "the report is on {series} series");
    report.row(Row::new("cardinality of 1,000,000 series, to the answer", "ms", took.as_secs_f64() * 1e3));
    report.row(Row::new("cardinality of 1,000,000 series", "ms CPU", cpu.as_secs_f64() * 1e3));
    Ok(())
}

/// Four days that are merged first are rolled up then.
fn rollups(setup: &Setup, report: &mut Report) -> Result<()> {
    let dir = setup.dir.join("rolled");
    fs::create_dir_all(&dir)?;
    let base_ms = load::base_ms_before(SystemClock::new().now_ms() - ROLLED_AGE_MS, 0);
    let load = Load::new(load::recording()?, Shape { series: ROLLED_SERIES, scrapes: ROLLED_SCRAPES, base_ms });
    let mut appending = Appending::new(&load, &dir)?;
    // A flush every two hours, as a server has them, and all merged, so that only rollups are left to make.
    for scrapes in (480..=ROLLED_SCRAPES).step_by(480) {
        appending.append_up_to(&load, scrapes)?;
        appending.engine().flush()?;
    }
    appending.engine().compact(|| true)?;
    let samples: u64 = appending.engine().block_list().iter().map(|block| block.samples).sum();
    appending.engine().close()?;
    drop(appending);

    let all = Some(Duration::MAX);
    let retention = RetentionPolicy { five_minutes: all, one_hour: all, ..RetentionPolicy::of_age(None) };
    let (engine, _) = Engine::open(Arc::new(RealFs), &dir, Options { retention, ..Options::default() })?;
    let before = machine::process_cpu(process::id())?;
    engine.compact(|| true)?;
    let cpu = machine::process_cpu(process::id())?.saturating_sub(before);
    let blocks = engine.block_list();
    let bytes = |is_wanted: fn(Tier) -> bool| -> u64 {
        blocks.iter().filter(|block| is_wanted(block.tier)).map(|block| block.bytes).sum()
    };
    let (raw, rolled) = (bytes(|tier| tier == Tier::Raw), bytes(|tier| tier != Tier::Raw));
    drop(engine);
    ensure!(rolled > 0, "no rollups were made of {raw} bytes in {} blocks", blocks.len());
    let per_million = cpu.as_secs_f64() * 1e3 / (samples as f64 / 1e6);
    report.row(Row::new("rollups of 5 m and 1 h, made of a million samples", "ms CPU", per_million));
    let share = 100.0 * rolled as f64 / raw as f64;
    report.row(Row::new("rollups of 5 m and 1 h on disk, of the bytes of samples", "%", share));
    Ok(())
}
