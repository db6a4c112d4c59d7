//! The chores of this repository, one file per job: `cargo xtask <job>`.
//!
//! A job does all of its own set-up, says plainly what it left out and why, and needs nothing installed beyond git,
//! Rust and a C linker. Nothing here is used by the product.

mod bench;
mod binary;
mod ci;
mod conformance;
mod dependencies;
mod fuzz;
mod generate;
mod instructions;
mod memcheck;
mod peers;
mod process;
mod test;
mod tidy;
mod torture;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The chores of this repository", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Run every test of the workspace, doctests included, with its own set-up
    Test(test::Options),
    /// Run the tests, then everything else a change has to pass
    Ci,
    /// Check crate arrows, links, generated pages, format pages and the shape of the tree
    Tidy,
    /// Check licences, banned crates and sources of every dependency
    Dependencies,
    /// Write what is generated: the reference pages, from the program, or the sets that bytes are quoted on
    Gen(generate::Options),
    /// Unpack the reference servers that tests and benches compare with, installing nothing
    Peers {
        /// Folder to unpack into [default: target/peers]
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Succeed even when some of them cannot be had
        #[arg(long)]
        optional: bool,
    },
    /// Run the PromQL scripts and hold each file to the result it must reach
    Conformance(conformance::Options),
    /// Run the fuzz targets
    Fuzz(fuzz::Options),
    /// Count the instructions that recording takes and hold them to limits
    Instructions,
    /// Run the tests of unsafe code under valgrind's memory checker (two minutes)
    Memcheck,
    /// Run the benches
    Bench(bench::Options),
    /// Hurt a running server and count what it loses
    Torture(torture::Options),
}

fn main() -> ExitCode {
    match Workspace::locate().and_then(|workspace| run(&workspace, Cli::parse().job)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(workspace: &Workspace, job: Job) -> anyhow::Result<ExitCode> {
    let passed = match job {
        Job::Test(options) => {
            let outcome = test::run(workspace, &options)?;
            outcome.retell();
            println!("\n{}", outcome.tally);
            outcome.tally.failed == 0
        }
        Job::Ci => ci::run(workspace)?,
        Job::Tidy => tidy::run(workspace, &binary::Source::Build)?,
        Job::Dependencies => dependencies::run(workspace)?,
        Job::Gen(options) => generate::run(workspace, &options)?,
        Job::Peers { dir, optional } => {
            let dir = dir.unwrap_or_else(|| peers::default_dir(workspace));
            peers::unpack_all(&dir)?.is_complete() || optional
        }
        Job::Conformance(options) => conformance::run(workspace, &options, &binary::Source::Build)?.passed(),
        Job::Fuzz(options) => fuzz::run(workspace, &options)?.passed(),
        Job::Instructions => instructions::run(workspace)?.passed(),
        Job::Memcheck => memcheck::run(workspace).map(|_| true)?,
        Job::Bench(options) => bench::run(workspace, &options).map(|()| true)?,
        Job::Torture(options) => torture::run(workspace, &options)?,
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
