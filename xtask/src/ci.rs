//! `ci`: the tests, then everything else a change has to pass, in one go and without stopping at the first failure.
//!
//! Dependencies are compiled three times at most: with the tests, as metadata for clippy and rustdoc, and in the timed
//! release build, whose binary the later steps use.

use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::binary::Source;
use crate::workspace::Workspace;
use crate::{conformance, dependencies, fuzz, instructions, memcheck, process, test, tidy, torture};

/// A release build from nothing takes at most this long on two cores.
const RELEASE_BUILD_MAX: Duration = Duration::from_mins(6);

/// Room for all builds together, on the safe side: with less, a step may fail for want of it.
const DISK_NEEDED: u64 = 10_000_000_000;

enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

struct Step {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

/// Runs every step and prints a table of them; `true` when none failed.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    // No crate is changed and built again here, which is what the pieces are for, and they would take up the disk.
    let workspace = &Workspace { incremental: false, root: workspace.root.clone(), target: workspace.target.clone() };
    if let Some(free) = workspace.free_bytes().filter(|free| *free < DISK_NEEDED) {
        println!(
            "ci: warning: {:.1} GB are free on the disk of {}; {} GB are room enough",
            free as f64 / 1e9,
            workspace.target.display(),
            DISK_NEEDED / 1_000_000_000
        );
    }
    let mut steps = Steps::default();
    let mut tests = test::Outcome::default();
    steps.run("test", || {
        tests = test::run(workspace, &test::Options::default())?;
        Ok(if tests.tally.failed == 0 { Outcome::Passed } else { Outcome::Failed(tests.tally.to_string()) })
    });
    let mut tally = tests.tally;
    steps.run("fmt", || cargo(workspace, &["fmt", "--all", "--check"], &[]));
    steps.run("clippy", || {
        cargo(workspace, &["clippy", "--workspace", "--all-targets", "--all-features", "--", "--deny=warnings"], &[])
    });
    steps.run("doc", || {
        cargo(workspace, &["doc", "--workspace", "--all-features", "--no-deps"], &[("RUSTDOCFLAGS", "--deny=warnings")])
    });
    steps.run("portable", || {
        // What stands in where unsafe code and Linux cannot be had, with a build folder of its own: other flags, other code.
        let folder = workspace.target.join("portable");
        for arguments in [&["--package=kymo-core", "--all-features"][..], &["--package=kymo-export"]] {
            let mut cargo = workspace.cargo();
            cargo.arg("test").args(arguments).arg("--target-dir").arg(&folder);
            process::run(cargo.env("RUSTFLAGS", "--cfg=kymo_portable"))?;
        }
        // No other step reads it, and with those of the tests and the release it would fill a small disk.
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        Ok(Outcome::Passed)
    });
    steps.run("memcheck", || {
        Ok(memcheck::run(workspace)?.map_or(Outcome::Passed, |reason| Outcome::Skipped(reason.to_owned())))
    });
    steps.run("instructions", || {
        Ok(match instructions::run(workspace)? {
            instructions::Outcome::Passed => Outcome::Passed,
            instructions::Outcome::Failed(reason) => Outcome::Failed(reason),
            instructions::Outcome::Skipped(reason) => Outcome::Skipped(reason.to_owned()),
        })
    });
    steps.run("dependencies", || Ok(passed(dependencies::run(workspace)?, "see the lines above")));

    let mut built = None;
    steps.run("release build", || {
        let (path, took) = release_build(workspace)?;
        built = Some(path);
        println!("release build: {:.1} s from nothing", took.as_secs_f64());
        if took > RELEASE_BUILD_MAX {
            println!("release build: warning: more than {} s", RELEASE_BUILD_MAX.as_secs());
        }
        Ok(Outcome::Passed)
    });
    match built.map(Source::Built) {
        Some(source) => {
            steps.run("tidy", || Ok(passed(tidy::run(workspace, &source)?, "see the lines above")));
            steps.run("conformance", || {
                Ok(match conformance::run(workspace, &conformance::Options::default(), &source)? {
                    conformance::Outcome::Passed => Outcome::Passed,
                    conformance::Outcome::Failed(files) => Outcome::Failed(files.join(", ")),
                    conformance::Outcome::Skipped(reason) => Outcome::Skipped(reason),
                })
            });
            steps.run("torture", || Ok(passed(torture::smoke(workspace, &source)?, "acknowledged samples were lost")));
        }
        None => {
            for name in ["tidy", "conformance", "torture"] {
                steps.run(name, || bail!("there is no binary to run"));
            }
        }
    }
    steps.run("fuzz", || {
        Ok(match fuzz::run(workspace, &fuzz::Options::smoke())? {
            fuzz::Outcome::Passed => Outcome::Passed,
            fuzz::Outcome::Failed(targets) => Outcome::Failed(targets.join(", ")),
            fuzz::Outcome::Skipped(reason) => Outcome::Skipped(reason),
        })
    });

    let failed_steps = steps.print();
    tests.retell();
    // The closing line must not say 0 failed when a step beside the tests did.
    tally.failed = tally.failed.max(failed_steps);
    println!("\n{tally}");
    Ok(failed_steps == 0)
}

fn passed(is_passed: bool, otherwise: &str) -> Outcome {
    if is_passed { Outcome::Passed } else { Outcome::Failed(otherwise.to_owned()) }
}

fn cargo(workspace: &Workspace, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Outcome> {
    process::run(workspace.cargo().args(arguments).envs(environment.iter().copied()))?;
    Ok(Outcome::Passed)
}

/// Builds the binary into a folder of its own, emptied before, so that the time is that of a first build.
///
/// Crates are not downloaded in that time: the tests have done so.
fn release_build(workspace: &Workspace) -> Result<(PathBuf, Duration)> {
    let folder = workspace.target.join("ci-release");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    let started = Instant::now();
    process::run(workspace.cargo().args(["build", "--release", "--target-dir"]).arg(&folder))?;
    Ok((folder.join(format!("release/kymo{EXE_SUFFIX}")), started.elapsed()))
}

#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<Outcome>) {
        println!("\n== {name}");
        let started = Instant::now();
        let outcome = step().unwrap_or_else(|error| {
            println!("{name}: {error:#}");
            Outcome::Failed(format!("{error:#}"))
        });
        self.0.push(Step { name, took: started.elapsed(), outcome });
    }

    /// Prints the table and gives back how many steps failed.
    fn print(&self) -> usize {
        println!("\n{:<14} {:>7}  result", "step", "seconds");
        let mut failed = 0;
        for step in &self.0 {
            let result = match &step.outcome {
                Outcome::Passed => "passed".to_owned(),
                Outcome::Skipped(reason) => format!("skipped: {reason}"),
                Outcome::Failed(reason) => {
                    failed += 1;
                    format!("FAILED: {reason}")
                }
            };
            println!("{:<14} {:>7.1}  {result}", step.name, step.took.as_secs_f64());
        }
        let total: Duration = self.0.iter().map(|step| step.took).sum();
        println!("{:<14} {:>7.1}", "total", total.as_secs_f64());
        failed
    }
}
