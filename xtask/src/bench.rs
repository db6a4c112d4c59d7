//! `bench`: runs the benches in the profile that archives are built with.

use anyhow::Result;

use crate::peers;
use crate::process;
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Group of benches; all of them when absent
    group: Option<String>,
    /// Unpack the reference servers and measure them beside ours
    #[arg(long)]
    peers: bool,
    /// Passed to the benches
    #[arg(last = true)]
    extra: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--profile", "dist", "--package", "kymo-benches", "--"]);
    cargo.args(&options.group).args(&options.extra);
    if options.peers {
        let dir = peers::default_dir(workspace);
        if !peers::unpack_all(&dir)?.is_complete() {
            println!("bench: rows of a missing server are left out");
        }
        cargo.env("KYMO_PEERS", peers::table(&dir));
    }
    process::run(&mut cargo)
}
