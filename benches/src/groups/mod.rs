//! What is measured, group by group. A group adds its rows to one report.

pub mod context;
pub mod decode;
pub mod engine;
pub mod evaluation;
mod gone;
pub mod health;
pub mod hot_path;
pub mod ingest;
pub mod otlp;
pub mod pages;
pub mod query;
pub mod scrape;
pub mod tending;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use kymo_core::{Clock, SystemClock};

use crate::load::{self, Load, Shape};
use crate::machine;
use crate::report::Report;
use crate::servers::{self, Binary};

/// A group of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// Handles of the registry, within this process
    HotPath,
    /// Contexts of requests, their status and their memory, within this process
    Context,
    /// From a remote write body or a page to rows, within this process
    Decode,
    /// OTLP from the body to rows, and over HTTP into a server
    Otlp,
    /// Append, log, blocks, replay and select, within this process
    Engine,
    /// Remote write over HTTP into servers, their memory, and what a kill loses
    Ingest,
    /// PromQL over HTTP from servers that hold the load
    Query,
    /// Files out and in, checks, rollups, and the report on a million series
    Tending,
}

/// With what to measure.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The `kymo` program.
    pub kymo: Option<PathBuf>,
    /// The table of reference servers, if they are to be measured.
    pub peers: Option<PathBuf>,
    /// An empty folder on a real disk.
    pub dir: PathBuf,
    /// A program that measures crates, if they are to be measured.
    pub crates: Option<PathBuf>,
    /// Rows of the engine's table to measure; all when empty.
    pub rows: Vec<engine::Rows>,
    /// Series of the load.
    pub series: usize,
    /// Scrapes of the load.
    pub scrapes: usize,
}

impl Setup {
    /// The load of this size, ending a few minutes ago.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub fn load(&self, series: usize, scrapes: usize) -> Result<Load> {
        let base_ms = load::base_ms_before(SystemClock::new().now_ms(), scrapes);
        Ok(Load::new(load::recording()?, Shape { series, scrapes, base_ms }))
    }

    /// The recording as it is, each sample once, ending a few minutes ago.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub fn plain(&self) -> Result<Load> {
        let recording = load::recording()?;
        let base_ms = load::base_ms_before(SystemClock::new().now_ms(), recording.scrapes());
        let shape = Shape::plain(&recording, base_ms);
        Ok(Load::new(recording, shape))
    }
}

/// What servers are wanted for.
#[derive(Debug, Clone, Copy)]
struct OfServers {
    load: bool,
    bytes: bool,
    query: bool,
    scrape: bool,
    kill: bool,
}

impl OfServers {
    fn any(self) -> bool {
        self.load || self.bytes || self.query || self.scrape || self.kill
    }
}

/// Measures one group, or all. What fails is in the report, beside what did not.
#[must_use]
pub fn run(setup: &Setup, group: Option<Group>) -> Report {
    let wants = |one: Group| group.is_none_or(|group| group == one);
    let mut report = Report::default();
    report.note(format!("{} (at the start).", machine::describe()));
    if wants(Group::HotPath) {
        attempt(&mut report, "hot-path", |report| hot_path::run(report, &[]));
        attempt(&mut report, "pages", pages::run);
    }
    if wants(Group::Context) {
        attempt(&mut report, "context", context::run);
    }
    if wants(Group::Decode) {
        attempt(&mut report, "decode", |report| decode::run(setup, report));
    }
    if wants(Group::Otlp) {
        attempt(&mut report, "service health", health::run);
        attempt(&mut report, "otlp", |report| otlp::run(setup, report));
    }
    let of_engine = |rows| wants(Group::Engine) && (setup.rows.is_empty() || setup.rows.contains(&rows));
    engine::run(setup, &mut report, of_engine);
    if wants(Group::Engine) && setup.rows.contains(&engine::Rows::Gone) {
        attempt(&mut report, "gone", |report| gone::run(setup, &servers_there(setup, report)?, report));
    }
    let of_servers = OfServers {
        load: wants(Group::Ingest) || of_engine(engine::Rows::Write),
        bytes: of_engine(engine::Rows::Bytes),
        query: wants(Group::Query),
        scrape: wants(Group::Ingest),
        kill: wants(Group::Ingest) || of_engine(engine::Rows::Kill),
    };
    if wants(Group::Query) {
        attempt(&mut report, "evaluation", |report| evaluation::run(setup, report));
    }
    if wants(Group::Tending) {
        attempt(&mut report, "tending", |report| tending::run(setup, report));
    }
    if of_servers.any() {
        attempt(&mut report, "servers", |report| servers(setup, report, of_servers));
    }
    report.note(format!("Load average at the end: {}.", machine::load_average()));
    report
}

fn attempt(report: &mut Report, what: &str, measure: impl FnOnce(&mut Report) -> Result<()>) {
    if let Err(error) = measure(report) {
        report.failed(what, format!("{error:#}"));
    }
}

/// Servers that there are binaries of; says which are missing.
fn servers_there(setup: &Setup, report: &mut Report) -> Result<Vec<Binary>> {
    let (binaries, missing) = servers::find(setup.kymo.as_deref(), setup.peers.as_deref())?;
    for what in missing {
        report.later("a server", what);
    }
    if setup.peers.is_none() {
        report.later("the reference servers", "ask for them with --peers");
    }
    for Binary { kind, path: _, version } in &binaries {
        if !version.is_empty() {
            report.note(format!("{} is version {version}.", kind.name()));
        }
    }
    Ok(binaries)
}

/// Several groups want servers with the same load, so it is written once.
fn servers(setup: &Setup, report: &mut Report, wanted: OfServers) -> Result<()> {
    let binaries = servers_there(setup, report)?;
    let load = setup.load(setup.series, setup.scrapes)?;
    if !wanted.load {
        report.note(format!("Servers get scrapes of {}.", load.recording().source));
    }
    let loaded = ingest::write_load(setup, &load, &binaries)?;
    if wanted.load {
        attempt(report, "ingest", |report| ingest::report_load(&load, &loaded, report));
    }
    if wanted.bytes {
        attempt(report, "bytes", |report| ingest::report_bytes(setup, &loaded, &binaries, report));
    }
    if wanted.query {
        attempt(report, "query", |report| query::run(&load, &loaded, report));
    }
    if wanted.kill {
        attempt(report, "kill", |report| ingest::kill_settled(&load, loaded, report));
        attempt(report, "kill", |report| ingest::kill(setup, &binaries, report));
    }
    if wanted.scrape {
        attempt(report, "scrape", |report| scrape::run(setup, &binaries, report));
    }
    Ok(())
}
