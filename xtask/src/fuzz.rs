//! `fuzz`: runs the fuzz targets, each crate's in its own `fuzz` folder outside the workspace.
//!
//! Small inputs that start a run are committed in `<crate>/fuzz/seeds/<target>/`; what a run finds stays in the ignored
//! `corpus` and `artifacts` folders beside it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run this target only
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

impl Options {
    /// A short run of everything.
    pub(crate) fn smoke() -> Self {
        Self { target: None, seconds: 10 }
    }
}

pub(crate) enum Outcome {
    Passed,
    /// Targets that found something.
    Failed(Vec<String>),
    Skipped(String),
}

impl Outcome {
    pub(crate) fn passed(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

struct Target {
    /// The `fuzz` folder it lies in.
    folder: PathBuf,
    name: String,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    let mut targets = targets(workspace)?;
    if let Some(wanted) = &options.target {
        let known: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
        targets.retain(|target| target.name == *wanted);
        if targets.is_empty() {
            bail!("there is no fuzz target {wanted}; there are: {}", known.join(", "));
        }
    }
    if targets.is_empty() {
        return Ok(skipped("there are no fuzz targets".to_owned()));
    }
    if !process::is_installed("cargo-fuzz") {
        return Ok(skipped("cargo-fuzz is not installed; it comes with: cargo install cargo-fuzz".to_owned()));
    }
    let has_nightly = has_nightly();
    let mut found = Vec::new();
    for target in &targets {
        let folder = workspace.shown(&target.folder);
        println!("fuzz: {} of {}, {} s", target.name, folder.display(), options.seconds);
        if process::run(&mut command(workspace, target, options.seconds, has_nightly)?).is_err() {
            found.push(target.name.clone());
        }
    }
    if found.is_empty() {
        return Ok(Outcome::Passed);
    }
    println!("fuzz: failing: {}; the inputs lie in the artifacts folder beside the targets", found.join(", "));
    Ok(Outcome::Failed(found))
}

fn skipped(reason: String) -> Outcome {
    println!("fuzz: skipped: {reason}");
    Outcome::Skipped(reason)
}

/// The targets of all crates, sorted by crate and name.
fn targets(workspace: &Workspace) -> Result<Vec<Target>> {
    let mut targets: Vec<Target> = workspace
        .files()?
        .into_iter()
        .filter_map(|file| {
            let sources = file.parent()?;
            let folder = sources.parent()?;
            let is_target = sources.file_name()? == "fuzz_targets" && file.extension()? == "rs";
            let name = file.file_stem()?.to_str()?.to_owned();
            is_target.then(|| Target { folder: workspace.root.join(folder), name })
        })
        .collect();
    targets.sort_by(|a, b| (&a.folder, &a.name).cmp(&(&b.folder, &b.name)));
    Ok(targets)
}

/// Instrumentation needs a nightly compiler, or a stable one that is told to allow what a nightly one does.
fn command(workspace: &Workspace, target: &Target, seconds: u64, has_nightly: bool) -> Result<Command> {
    let mut command = if has_nightly {
        let mut command = Command::new("rustup");
        command.args(["run", "nightly", "cargo"]).env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC");
        command
    } else {
        let mut command = workspace.cargo();
        command.env("RUSTC_BOOTSTRAP", "1");
        command
    };
    let corpus = target.folder.join("corpus").join(&target.name);
    fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
    command.current_dir(&workspace.root).args(["fuzz", "run", "--fuzz-dir"]).arg(&target.folder);
    command.arg(&target.name).arg(corpus);
    let seeds = target.folder.join("seeds").join(&target.name);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command.arg("--").arg(format!("-max_total_time={seconds}"));
    Ok(command)
}

fn has_nightly() -> bool {
    process::stdout(Command::new("rustup").args(["run", "nightly", "rustc", "--version"])).is_ok()
}
