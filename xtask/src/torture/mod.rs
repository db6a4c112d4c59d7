//! `torture`: hurts a running server and counts what it loses.
//!
//! The server is the release binary as anyone runs it, on a data folder below `target/torture`. The client speaks
//! remote write over a socket and remembers what was acknowledged; the query API has to give all of it back.

mod crash;
mod disk_full;
mod http;
mod increments;
mod ledger;
mod remote_write;
mod server;
mod simulate;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::binary::Source;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    kind: Kind,
    /// Run this binary instead of building one
    #[arg(long, global = true)]
    kymo: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Kind {
    /// Kill the server at random moments while it is written to, and start it again
    Crash(crash::Options),
    /// Crash a simulated machine everywhere and hold the engine against a model
    Simulate(simulate::Options),
    /// Fill the server's disk while it is written to, and free it again
    DiskFull(disk_full::Options),
}

/// A short run of both kinds; `true` when nothing acknowledged was lost.
pub(crate) fn smoke(workspace: &Workspace, source: &Source) -> Result<bool> {
    let survives_kills = crash::run(workspace, &crash::Options::smoke(), source)?;
    let survives_full_disk = disk_full::run(workspace, &disk_full::Options::default(), source)?;
    Ok(survives_kills && survives_full_disk)
}

/// `true` when nothing acknowledged was lost.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let source = match &options.kymo {
        Some(path) => Source::Built(path.canonicalize().with_context(|| format!("there is no {}", path.display()))?),
        None => Source::Build,
    };
    match &options.kind {
        Kind::Crash(options) => crash::run(workspace, options, &source),
        Kind::Simulate(options) => simulate::run(workspace, options),
        Kind::DiskFull(options) => disk_full::run(workspace, options, &source),
    }
}
