//! `gen peer-set`: the benches write their load to files that anything can be fed with.

use std::path::PathBuf;

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// When the recording begins: two runs give the same bytes.
const RECORDED_FROM_MS: i64 = 1_795_205_078_000;

#[derive(clap::Args)]
pub(super) struct Options {
    /// Folder for the files [default: target/peer-set]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Time of the first scrape, ms since the Unix epoch; servers refuse what is outside their retention
    #[arg(long, default_value_t = RECORDED_FROM_MS)]
    base_ms: i64,
}

/// The form of the files stands at the head of `benches/src/load/requests.rs`.
pub(super) fn write(workspace: &Workspace, options: &Options) -> Result<()> {
    let dir = match &options.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => workspace.target.join("peer-set"),
    };
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--quiet", "--profile", crate::bench::PROFILE, "--package", "kymo-benches", "--"]);
    cargo.arg("--write-peer-set").arg(dir).args(["--base-ms", &options.base_ms.to_string()]);
    process::run(&mut cargo)
}
