//! `bench`: builds what is measured in the profile that archives are built with, and prints one table.

use std::env::consts::EXE_SUFFIX;
use std::path::PathBuf;

use anyhow::Result;

use crate::peers;
use crate::process;
use crate::workspace::Workspace;

pub(crate) const PROFILE: &str = "dist";
/// Groups for which servers are started.
const OF_SERVERS: [&str; 5] = ["engine", "ingest", "otlp", "query", "tending"];
/// The group that `benches/peers` measures with other crates beside ours, in one table.
const OF_CRATES: &str = "hot-path";
/// Groups that take figures of other crates into their table.
const WITH_CRATES: [&str; 1] = ["engine"];
/// Its build folder, below ours.
const CRATES_TARGET: &str = "bench-peers";
/// Not a group of the table: the criterion benches.
const MICRO: &str = "micro";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rows to measure: hot-path, context, decode, otlp, engine, ingest, query or tending; micro for the criterion benches; all rows when absent
    group: Option<String>,
    /// Measure the reference servers and other crates beside ours
    #[arg(long)]
    peers: bool,
    /// Rows of the engine's table: append, scaling, select, hot, series, churn, encoders, bytes, write or kill; all when absent
    #[arg(long = "row", value_name = "ROW")]
    rows: Vec<String>,
    /// Servers take the whole measured set also for other groups than the engine: four hours instead of one
    #[arg(long)]
    full: bool,
    /// Passed to the benches
    #[arg(last = true)]
    extra: Vec<String>,
}

impl Options {
    fn wants_one_of(&self, groups: &[&str]) -> bool {
        self.group.as_deref().is_none_or(|group| groups.contains(&group))
    }
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.group.as_deref() == Some(MICRO) {
        let mut cargo = workspace.cargo();
        cargo.args(["bench", "--profile", PROFILE, "--package", "kymo-benches", "--"]).args(&options.extra);
        return process::run(&mut cargo);
    }
    if options.peers && options.group.as_deref() == Some(OF_CRATES) {
        return process::run(&mut other_crates(workspace, "run"));
    }
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--quiet", "--profile", PROFILE, "--package", "kymo-benches", "--"]);
    cargo.args(&options.group).arg("--dir").arg(workspace.target.join("bench"));
    cargo.env_remove("KYMO_BIN").env_remove("KYMO_PEERS");
    if options.wants_one_of(&OF_SERVERS) {
        cargo.arg("--kymo").arg(kymo(workspace)?);
        if options.peers {
            let dir = peers::default_dir(workspace);
            if !peers::unpack_all(&dir)?.is_complete() {
                println!("bench: figures of a missing server are left out");
            }
            cargo.arg("--peers").arg(peers::table(&dir));
        }
    }
    if options.peers && options.wants_one_of(&WITH_CRATES) {
        cargo.arg("--crates").arg(crates(workspace)?);
    }
    for row in &options.rows {
        cargo.args(["--row", row]);
    }
    if options.full {
        cargo.arg("--full");
    }
    process::run(cargo.args(&options.extra))?;
    if options.peers && options.group.is_none() {
        process::run(&mut other_crates(workspace, "run"))?;
    }
    Ok(())
}

/// The program, in the profile of the benches.
fn kymo(workspace: &Workspace) -> Result<PathBuf> {
    process::run(workspace.cargo().args([
        "build",
        "--quiet",
        "--profile",
        PROFILE,
        "--package",
        "kymo",
        "--bin",
        "kymo",
    ]))?;
    Ok(workspace.target.join(PROFILE).join(format!("kymo{EXE_SUFFIX}")))
}

/// Has a lock file and a build folder of its own, so that nothing of it reaches the product. The lock file follows the
/// dependencies of our crates, so it is not held to what it is.
fn other_crates(workspace: &Workspace, job: &str) -> std::process::Command {
    let mut cargo = workspace.cargo();
    cargo.args([job, "--quiet", "--profile", PROFILE, "--manifest-path", "benches/peers/Cargo.toml"]);
    cargo.env("CARGO_TARGET_DIR", workspace.target.join(CRATES_TARGET));
    cargo
}

/// The program that measures them.
fn crates(workspace: &Workspace) -> Result<PathBuf> {
    process::run(&mut other_crates(workspace, "build"))?;
    Ok(workspace.target.join(CRATES_TARGET).join(PROFILE).join(format!("kymo-bench-peers{EXE_SUFFIX}")))
}
