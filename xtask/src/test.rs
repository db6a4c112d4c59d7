//! `test`: every test of the workspace, doctests included, with all of its set-up.
//!
//! Tests learn from the environment what they can have: `KYMO_PEERS` is the path of the table of reference servers
//! (see `peers`), `KYMO_PYTHON` that of an interpreter with OpenTelemetry's SDK, `KYMO_NODE_MODULES` that of a folder with
//! the JavaScript one, `KYMO_SKIP_LOG` that of a file to which a test that cannot do its work appends `test name: reason`.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::peers;
use crate::process;
use crate::workspace::Workspace;

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Do not unpack or use the reference servers
    #[arg(long)]
    no_peers: bool,
    /// Passed to cargo test
    #[arg(last = true)]
    extra: Vec<String>,
}

/// How many tests did what. Those that reported a reason for not doing their work count as skipped only.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Tally {
    fn add_binary(&mut self, line: &ResultLine) {
        self.passed += line.passed;
        self.failed += line.failed;
        self.skipped += line.ignored;
    }
}

/// The closing line of one test binary.
struct ResultLine {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl FromStr for ResultLine {
    type Err = ();

    /// `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
    fn from_str(line: &str) -> Result<Self, ()> {
        let (_, counts) = line.trim().strip_prefix("test result: ").ok_or(())?.split_once(". ").ok_or(())?;
        let count =
            |word: &str| counts.split("; ").find_map(|part| part.strip_suffix(word)?.trim().parse().ok()).ok_or(());
        Ok(Self { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
    }
}

/// Runs the tests and prints what was skipped. A test that fails is counted, one that cannot be built is an error.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<Tally> {
    check_tools()?;
    fs::create_dir_all(&workspace.target).with_context(|| format!("cannot create {}", workspace.target.display()))?;
    let skip_log = workspace.target.join("kymo-skipped-tests.log");
    fs::write(&skip_log, "").with_context(|| format!("cannot write {}", skip_log.display()))?;

    let mut cargo = workspace.cargo();
    cargo.args(["test", "--workspace", "--all-features", "--no-fail-fast"]).args(&options.extra);
    cargo.env("KYMO_SKIP_LOG", &skip_log).env_remove("KYMO_PEERS").stdout(Stdio::piped());
    if options.no_peers {
        println!("test: tests that need a reference server are skipped, as asked");
    } else {
        let dir = peers::default_dir(workspace);
        if !peers::unpack_all(&dir)?.is_complete() {
            println!("test: tests that need a missing server are skipped");
        }
        cargo.env("KYMO_PEERS", peers::table(&dir));
        match peers::python::interpreter(&dir) {
            Ok(python) => {
                cargo.env("KYMO_PYTHON", python);
            }
            Err(error) => println!("test: OpenTelemetry's Python SDK cannot be had: {error:#}"),
        }
        match peers::node::modules(&dir) {
            Ok(modules) => {
                cargo.env("KYMO_NODE_MODULES", modules);
            }
            Err(error) => println!("test: OpenTelemetry's JavaScript SDK cannot be had: {error:#}"),
        }
    }

    let mut child = cargo.spawn().context("cannot start cargo test")?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read what cargo test prints")?;
            println!("{line}");
            if let Ok(result) = line.parse() {
                tally.add_binary(&result);
            }
        }
    }
    let status = child.wait().context("cannot wait for cargo test")?;

    let skipped = fs::read_to_string(&skip_log).with_context(|| format!("cannot read {}", skip_log.display()))?;
    let mut skipped: Vec<&str> = skipped.lines().filter(|line| !line.trim().is_empty()).collect();
    skipped.sort_unstable();
    skipped.dedup();
    if !skipped.is_empty() {
        println!("\nSkipped, with the reason:");
        for line in &skipped {
            println!("  {line}");
        }
    }
    tally.passed = tally.passed.saturating_sub(skipped.len());
    tally.skipped += skipped.len();
    if !status.success() && tally.failed == 0 {
        bail!("cargo test ended with {status} and without a failed test: something was not built");
    }
    Ok(tally)
}

fn check_tools() -> Result<()> {
    for (tool, purpose) in [("git", "the tree is listed with it"), ("cc", "Rust links with it")] {
        if !process::is_installed(tool) {
            bail!("{tool} is not installed: {purpose}; on Debian: apt-get install git gcc libc6-dev");
        }
    }
    process::stdout(Command::new("rustc").arg("--version")).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_test_binaries_add_up() {
        let mut tally = Tally::default();
        for line in [
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.00s",
        ] {
            tally.add_binary(&line.parse().unwrap_or_else(|()| panic!("{line}")));
        }
        assert_eq!(tally, Tally { passed: 12, failed: 2, skipped: 1 });
        assert_eq!(tally.to_string(), "12 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn other_lines_are_not_results() {
        for line in ["running 3 tests", "test result: ok.", "test x ... ok"] {
            assert!(line.parse::<ResultLine>().is_err(), "{line}");
        }
    }
}
