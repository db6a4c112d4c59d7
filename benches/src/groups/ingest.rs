//! What remote write costs a server: CPU, memory, and what a kill takes away.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kymo_core::{Clock, SystemClock};

use super::Setup;
use super::engine::bytes;
use crate::cases::decode::Decode;
use crate::load::{INTERVAL_MS, Load, RequestFile, SCRAPES_MEASURED, SERIES_MEASURED};
use crate::machine::Resident;
use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::{self, Case};
use crate::servers::{Binary, Connection, Kind, Server, answer, query_encoded};

/// Parts of the load; all servers take one before any takes the next.
const PARTS: usize = 4;
/// Scrapes before the kill.
const SCRAPES_KILLED: usize = 60;
/// VictoriaMetrics shows a sample after 30 s.
const VISIBLE_DEADLINE: Duration = Duration::from_secs(40);

/// A server that holds the load, and what it took to get it there.
pub struct Loaded {
    /// Running.
    pub server: Server,
    samples: u64,
    nans: u64,
    /// Per part: CPU µs per sample, and samples/s by the clock.
    parts: Vec<(f64, f64)>,
    idle: Resident,
    loaded: Resident,
    settled: Resident,
    settled_cpu: Duration,
    /// Bytes of its files and its CPU time after it finished flushing and merging, if it can be asked to.
    compacted: Option<(u64, Duration)>,
}

/// What a kill did to a server; times in seconds.
struct Killed {
    kind: Kind,
    lost: f64,
    ready_after: f64,
    answers_after: f64,
    /// `None` beyond the deadline.
    visible_after: Option<f64>,
}

/// Starts every server and writes the load into each, in parts by turns.
///
/// # Errors
/// A server does not start, or does not acknowledge a request.
pub fn write_load(setup: &Setup, load: &Load, binaries: &[Binary]) -> Result<Vec<Loaded>> {
    std::fs::create_dir_all(&setup.dir).with_context(|| format!("cannot create {}", setup.dir.display()))?;
    let requests = RequestFile::write(load, &setup.dir.join("load.requests"))?;
    let (samples, nans, _) = requests.totals();
    let mut loaded = Vec::new();
    for binary in binaries {
        let server = Server::start(binary, &setup.dir.join(binary.kind.name()))?;
        let idle = server.resident()?;
        loaded.push(Loaded {
            samples,
            nans,
            parts: Vec::new(),
            idle,
            loaded: idle,
            settled: idle,
            settled_cpu: Duration::ZERO,
            compacted: None,
            server,
        });
    }
    let scrapes = load.shape().scrapes;
    let length = scrapes.div_ceil(PARTS).max(1);
    for first in (0..scrapes).step_by(length) {
        for one in &mut loaded {
            let written = one.server.write(&requests, first..scrapes.min(first + length))?;
            let samples = written.samples as f64;
            one.parts.push((written.cpu.as_secs_f64() * 1e6 / samples, samples / written.wall.as_secs_f64()));
        }
    }
    for one in &mut loaded {
        one.loaded = one.server.resident()?;
        one.server.settle()?;
        one.settled = one.server.resident()?;
        one.settled_cpu = one.server.cpu()?;
        if let Some(bytes) = one.server.compact()? {
            one.compacted = Some((bytes, one.server.cpu()?));
        }
    }
    Ok(loaded)
}

/// Adds the rows on writing.
///
/// # Errors
/// A server does not hold what it acknowledged.
pub fn report_load(load: &Load, loaded: &[Loaded], report: &mut Report) -> Result<()> {
    let shape = load.shape();
    let (samples, nans) = loaded.first().map_or((0, 0), |one| (one.samples, one.nans));
    let is_measured = (shape.series, shape.scrapes) == (SERIES_MEASURED, SCRAPES_MEASURED);
    report.note(format!(
        "Servers take {} series × {} scrapes of {}: {samples} samples, {nans} of them NaN{}. One core for the server, \
         one for the sender, 4 connections, in {PARTS} parts by turns.",
        shape.series,
        shape.scrapes,
        load.recording().source,
        if is_measured { " (the measured set)" } else { "; the measured set comes with --full" },
    ));
    let hour = |time_ms: i64| time_ms.div_euclid(3_600_000).rem_euclid(24);
    report.note(format!(
        "They lie between {} and {} o'clock UTC; blocks are cut at even hours.",
        hour(shape.base_ms),
        hour(shape.base_ms + INTERVAL_MS * shape.scrapes as i64)
    ));
    for one in loaded {
        let (kind, kept) = (one.server.kind(), count(&one.server, load)?);
        let lost = expected(kind, one.samples, one.nans).saturating_sub(kept);
        ensure!(kind != Kind::Kymo || lost == 0, "Kymo lost {lost} of {} acknowledged samples", one.samples);
        if lost > 0 {
            report.note(format!("{} does not answer {lost} of {} acknowledged samples.", kind.name(), one.samples));
        }
    }
    let mean =
        |one: &Loaded, of: fn(&(f64, f64)) -> f64| one.parts.iter().map(of).sum::<f64>() / one.parts.len() as f64;
    let cpu = |one: &Loaded| mean(one, |part| part.0);
    let row = |what: &str, unit, figure: &dyn Fn(&Loaded) -> f64| {
        let of = |kind: Kind| loaded.iter().find(|one| one.server.kind() == kind).map(figure).map(Figure::Of);
        of_all(what, unit, of)
    };
    let floor = decode_floor(load)?;
    report.row(
        row("remote write, CPU at acknowledgement", "µs/sample", &cpu)
            .floor("snap + walk, in process", floor)
            .goal(Goal::AtMost(0.28)),
    );
    let by_core = |one: &Loaded| 1.0 / cpu(one);
    report.row(row("same, as a rate", "M samples/s/core", &by_core).goal(Goal::AtLeast(3.5)));
    report.row(row("by the clock", "M samples/s", &|one| mean(one, |part| part.1) / 1e6).goal(Goal::AtLeast(0.05)));
    // Ours with everything merged, where it can be asked for; the others' merging goes on later, unmeasured.
    let settled = |one: &Loaded| {
        let merged = one.compacted.filter(|_| one.server.kind() == Kind::Kymo).map(|(_, cpu)| cpu);
        merged.unwrap_or(one.settled_cpu).as_secs_f64() * 1e6 / one.samples as f64
    };
    report.row(row("CPU from start to settled", "µs/sample", &settled).goal(Goal::AtMost(0.25)));
    if loaded.iter().any(|one| one.server.kind() == Kind::Kymo && one.compacted.is_none()) {
        report.later("CPU per sample, compaction included", "the server cannot be asked to finish compaction");
    }
    report.row(row("resident, idle", "MiB", &|one| one.idle.total).goal(Goal::AtMost(40.0)));
    report.row(row("resident, most", "MiB", &|one| one.loaded.peak));
    report.row(row("resident, settled", "MiB", &|one| one.settled.total).goal(Goal::AtMost(48.0)));
    report.row(row("anonymous, settled", "MiB", &|one| one.settled.anonymous));
    if let Some(ours) = loaded.iter().find(|one| one.server.kind() == Kind::Kymo) {
        for peer in loaded.iter().filter(|one| one.server.kind() != Kind::Kymo) {
            let ratios: Vec<String> =
                ours.parts.iter().zip(&peer.parts).map(|(a, b)| format!("{:.2}", a.0 / b.0)).collect();
            let name = peer.server.kind().name();
            report.note(format!("CPU at acknowledgement against {name}, part by part: {}.", ratios.join(", ")));
        }
    }
    Ok(())
}

/// Adds the rows on bytes: ours within this process, where every sample is read back; the peers' from their files.
///
/// # Errors
/// A sample does not come back with its bits, or a server's.
pub fn report_bytes(setup: &Setup, loaded: &[Loaded], binaries: &[Binary], report: &mut Report) -> Result<()> {
    let measured = setup.load(setup.series, setup.scrapes)?;
    let recorded = setup.plain()?;
    let small: Vec<Loaded> = {
        let peers: Vec<Binary> = binaries.iter().filter(|one| one.kind != Kind::Kymo).cloned().collect();
        write_load(&Setup { dir: setup.dir.join("as recorded"), ..setup.clone() }, &recorded, &peers)?
    };
    for (what, load, peers) in [("measured set", &measured, loaded), ("as recorded, no clones", &recorded, &small)] {
        let dir = setup.dir.join(format!("bytes, {what}"));
        let ours = bytes::of(load, &dir)?;
        let of = |bytes: u64| bytes as f64 / ours.samples as f64;
        let shape = load.shape();
        let row =
            Row::new(format!("bytes per sample, {what}, {} × {}", shape.series, shape.scrapes), "B", of(ours.bytes));
        let row = peers.iter().filter(|one| one.server.kind() != Kind::Kymo).fold(row, |row, one| {
            let figure = one.compacted.map_or(Figure::missing("no files"), |(bytes, _)| Figure::Of(of(bytes)));
            row.peer(one.server.kind().name(), figure)
        });
        report.row(row.floor("time and value as they are", 16.0).goal(Goal::OfPeer(0.58)));
        ours.sections(report, what);
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    report.note(
        "Bytes: files of samples and index after compaction, the log apart; every sample of ours was read back with its \
         bits first. VictoriaMetrics after a forced merge, which keeps no NaN; Prometheus in a snapshot.",
    );
    Ok(())
}

/// A row of one figure of every server that was there.
fn of_all(what: &str, unit: &'static str, figure: impl Fn(Kind) -> Option<Figure>) -> Row {
    let ours = figure(Kind::Kymo).unwrap_or(Figure::missing("no binary"));
    let peers = [Kind::VictoriaMetrics, Kind::Prometheus].into_iter().filter_map(|kind| Some((kind, figure(kind)?)));
    peers.fold(Row::new(what, unit, ours), |row, (kind, figure)| row.peer(kind.name(), figure))
}

/// µs per sample of what no receiver gets around.
fn decode_floor(load: &Load) -> Result<f64> {
    let decode = std::cell::RefCell::new(Decode::new(load)?);
    let samples = decode.borrow().samples();
    let mut cases =
        [Case::passes("snap", || decode.borrow_mut().snap()), Case::passes("walk", || decode.borrow().walk())];
    let found = rounds::in_turn(&mut cases, 21);
    Ok(found.iter().map(|spread| spread.per(samples).median).sum::<f64>() / 1e3)
}

/// VictoriaMetrics acknowledges NaN and does not keep it.
fn expected(kind: Kind, samples: u64, nans: u64) -> u64 {
    if kind == Kind::VictoriaMetrics { samples - nans } else { samples }
}

/// Samples that a server answers, name by name: over all names at once their series would collide.
fn count(server: &Server, load: &Load) -> Result<u64> {
    let shape = load.shape();
    let end_ms = shape.base_ms + INTERVAL_MS * shape.scrapes as i64;
    let range_s = (end_ms - shape.base_ms) / 1_000 + 60;
    let mut http = server.connect()?;
    let mut counted = 0;
    for name in load.names() {
        let query = query_encoded(&format!("sum(count_over_time({name}[{range_s}s]))"));
        let time = end_ms / 1_000;
        let found = server.ask(&mut http, &format!("/api/v1/query?query={query}&time={time}&nocache=1"))?;
        ensure!(found.is_success(), "{} cannot count {name}: {:?}", server.kind().name(), answer::read(&found.body));
        counted += answer::read(&found.body).count();
    }
    Ok(counted)
}

/// Adds the row on `kill -9` of servers that hold the load and have settled, and consumes them.
///
/// # Errors
/// A server does not start again.
pub fn kill_settled(load: &Load, loaded: Vec<Loaded>, report: &mut Report) -> Result<()> {
    let mut found = Vec::new();
    for one in loaded {
        let (kind, samples, nans) = (one.server.kind(), one.samples, one.nans);
        let server = one.server.kill_and_restart()?;
        let lost = expected(kind, samples, nans).saturating_sub(count(&server, load)?);
        ensure!(kind != Kind::Kymo || lost == 0, "Kymo lost {lost} of {samples} acknowledged samples");
        found.push((kind, [server.ready_after().as_secs_f64(), server.answers_after().as_secs_f64()]));
    }
    for (at, what) in ["ready", "first answer"].into_iter().enumerate() {
        let of = |kind| found.iter().find(|(one, _)| *one == kind).map(|(_, seconds)| Figure::Of(seconds[at]));
        let what = format!("{what} after kill -9, whole load, settled");
        report.row(of_all(&what, "s", of).goal(Goal::AtMost(0.15)));
    }
    Ok(())
}

/// Adds the rows on `kill -9` right after the last acknowledgement, and on when a sample can be seen.
///
/// # Errors
/// A server does not start again.
pub fn kill(setup: &Setup, binaries: &[Binary], report: &mut Report) -> Result<()> {
    let scrapes = SCRAPES_KILLED.min(setup.scrapes);
    let load = setup.load(setup.series, scrapes)?;
    let requests = RequestFile::write(&load, &setup.dir.join("killed.requests"))?;
    let (samples, nans, _) = requests.totals();
    let mut found = Vec::new();
    for binary in binaries {
        let dir = setup.dir.join(format!("{} killed", binary.kind.name()));
        let server = Server::start(binary, &dir)?;
        server.write(&requests, 0..scrapes)?;
        let server = server.kill_and_restart()?;
        let lost = expected(binary.kind, samples, nans).saturating_sub(count(&server, &load)?);
        let visible_after = visible_after(setup, &server)?;
        let ready_after = server.ready_after().as_secs_f64();
        let answers_after = server.answers_after().as_secs_f64();
        found.push(Killed { kind: binary.kind, lost: lost as f64, ready_after, answers_after, visible_after });
    }
    let row = |what: &str, unit, figure: &dyn Fn(&Killed) -> Figure| {
        of_all(what, unit, |kind| found.iter().find(|one| one.kind == kind).map(figure))
    };
    report.row(row("acknowledged samples lost to kill -9", "samples", &|one| one.lost.into()).goal(Goal::AtMost(0.0)));
    report.row(row("ready after kill -9", "s", &|one| one.ready_after.into()).goal(Goal::AtMost(0.15)));
    report.row(row("first answer after kill -9", "s", &|one| one.answers_after.into()).goal(Goal::AtMost(0.15)));
    let visible = |one: &Killed| match one.visible_after {
        Some(seconds) => Figure::Of(seconds),
        None => Figure::missing(format!("> {}", VISIBLE_DEADLINE.as_secs())),
    };
    report.row(row("new series visible after acknowledgement", "s", &visible));
    report.note(format!("Killed after {samples} samples, at once after the last acknowledgement."));
    Ok(())
}

/// Seconds from the acknowledgement of a sample of now to the first answer with it.
fn visible_after(setup: &Setup, server: &Server) -> Result<Option<f64>> {
    let mut fresh = setup.load(1, 1)?;
    let labels = fresh.labels(0).clone();
    // Of now, not of some minutes ago; the series has no other sample within the lookback.
    fresh.begin_at(SystemClock::new().now_ms());
    let requests = RequestFile::write(&fresh, &setup.dir.join("fresh.requests"))?;
    let matchers: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    let target = format!("/api/v1/query?query={}", query_encoded(&format!("{{{}}}", matchers.join(","))));
    server.write(&requests, 0..1)?;
    let acknowledged = Instant::now();
    let mut http: Connection = server.connect()?;
    while acknowledged.elapsed() < VISIBLE_DEADLINE {
        let found = server.ask(&mut http, &target)?;
        let seen = acknowledged.elapsed();
        let answer = String::from_utf8(found.body).context("an answer is not UTF-8")?;
        ensure!(answer.contains("\"success\""), "{} answers {answer} to {target}", server.kind().name());
        if answer.contains("\"value\"") {
            return Ok(Some(seen.as_secs_f64()));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(None)
}
