//! `instructions`: how many instructions it takes to record, by callgrind, held to limits.
//!
//! Counts and not times, so that a busy machine changes nothing. An operation is a call that is not inlined; the loop
//! around it is counted with an empty call and taken off. Two runs of different length take the start-up off.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// What `core/examples/record.rs` can do, and how many instructions of x86-64 it may take: a tenth above what it takes with
/// the compiler that these were set with, but for the counter, whose limit is the promise. Hashes of labels are seeded anew in
/// each run, so look-ups have room for a run in which series stand in each other's way (195 to 235 were seen of the first).
const LIMITS: [(&str, u64); 5] =
    [("counter", 10), ("gauge", 8), ("histogram", 48), ("lookup_2", 265), ("lookup_5", 450)];

const TIMES: u64 = 10_000;

pub(crate) enum Outcome {
    Passed,
    Failed(String),
    Skipped(&'static str),
}

impl Outcome {
    pub(crate) fn passed(&self) -> bool {
        !matches!(self, Outcome::Failed(_))
    }
}

pub(crate) fn run(workspace: &Workspace) -> Result<Outcome> {
    if !cfg!(target_arch = "x86_64") {
        return Ok(skipped("the limits are for x86-64"));
    }
    if !process::is_installed("valgrind") {
        return Ok(skipped("valgrind is not installed; on Debian: apt-get install valgrind"));
    }
    process::run(workspace.cargo().args(["build", "--release", "--package=kymo-core", "--example=record"]))?;
    let program = workspace.target.join("release/examples/record");
    let around = per_time(&program, "nothing")?;
    let mut over = Vec::new();
    println!("{:<12} {:>12} {:>6}", "operation", "instructions", "limit");
    for (what, limit) in LIMITS {
        let count = per_time(&program, what)?.saturating_sub(around);
        println!("{what:<12} {count:>12} {limit:>6}");
        if count > limit {
            over.push(format!("{what} takes {count} instructions, {limit} are allowed"));
        }
    }
    over.iter().for_each(|line| println!("instructions: {line}"));
    Ok(if over.is_empty() { Outcome::Passed } else { Outcome::Failed(over.join("; ")) })
}

fn skipped(reason: &'static str) -> Outcome {
    println!("instructions: skipped: {reason}");
    Outcome::Skipped(reason)
}

/// Instructions of one time round the loop, rounded.
fn per_time(program: &Path, what: &str) -> Result<u64> {
    let (few, many) = (count(program, what, TIMES)?, count(program, what, 2 * TIMES)?);
    Ok((many.saturating_sub(few) + TIMES / 2) / TIMES)
}

fn count(program: &Path, what: &str, times: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program).args([what, &times.to_string()]);
    let output = command.stdin(Stdio::null()).output().context("cannot start valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind ended with {}: {}", output.status, text.trim());
    }
    collected(&text).with_context(|| format!("valgrind told no count: {text}"))
}

/// `==17== Collected : 319489`
fn collected(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.split_once("Collected :"))?;
    line.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read_from_what_callgrind_says() {
        let text = "==7== Callgrind, a call-graph\n==7== Events    : Ir\n==7== Collected : 319489\n==7==\n";
        assert_eq!(collected(text), Some(319_489));
        assert_eq!(collected("==7== no such line"), None);
    }
}
