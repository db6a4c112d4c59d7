//! `torture simulate`: worlds drawn from seeds on a simulated disk, crashed everywhere and held against a model. The worlds
//! are the storage crate's own test, built with optimisations.

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many worlds
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// Seed of the first
    #[arg(long, default_value_t = 1)]
    first: u64,
}

pub(super) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--quiet", "--release", "--package", "kymo-storage", "--test", "it", "--", "simulation::"]);
    cargo.arg("--nocapture");
    cargo.env("KYMO_SIMULATE_SEEDS", options.seeds.to_string());
    cargo.env("KYMO_SIMULATE_FIRST", options.first.to_string());
    process::run(&mut cargo).map(|()| true)
}
