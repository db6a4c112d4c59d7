//! `test`: every test of the workspace, doctests included, with all of its set-up.
//!
//! Tests learn from the environment what they can have: `KYMO_PEERS` is the path of the table of reference servers
//! (see `peers`), `KYMO_PYTHON` that of an interpreter with OpenTelemetry's SDK, `KYMO_NODE_MODULES` that of a folder with
//! the JavaScript one, `KYMO_SKIP_LOG` that of a file to which a test that cannot do its work appends `test name: reason`.

mod report;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::peers;
use crate::process;
pub(crate) use crate::test::report::Tally;
use crate::test::report::{Failure, Report, failed_target};
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

/// Targets whose tests start servers, clients and kernels' clocks beside them, so that a machine under load can fail them.
/// What fails there is run once more, alone, and named either way; a test inside one process has no such excuse.
const BESIDE_OTHER_PROCESSES: [&str; 2] = ["-p kymo --test it", "-p kymo-ingest --test otlp"];

/// What came of the tests.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    failed: Vec<Failure>,
    /// Tests that failed at first and passed when they were run again alone; counted as passed.
    passed_again: Vec<Failure>,
}

impl Outcome {
    /// Says what failed and what it printed, for the end of a long output, where it is looked for.
    pub(crate) fn retell(&self) {
        const LINES_MAX: usize = 25;
        for (failures, what) in [(&self.failed, "failed"), (&self.passed_again, "failed, then passed alone")] {
            for failure in failures {
                println!("\n{what}: {}", failure.name);
                for line in failure.printed.iter().take(LINES_MAX) {
                    println!("  {line}");
                }
            }
        }
    }
}

/// Runs the tests and prints what was skipped. A test that fails is counted, one that cannot be built is an error.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    check_tools()?;
    fs::create_dir_all(&workspace.target).with_context(|| format!("cannot create {}", workspace.target.display()))?;
    let skip_log = workspace.target.join("kymo-skipped-tests.log");
    fs::write(&skip_log, "").with_context(|| format!("cannot write {}", skip_log.display()))?;

    let mut environment = vec![("KYMO_SKIP_LOG", skip_log.clone())];
    let mut missing = Vec::new();
    if options.no_peers {
        println!("test: tests that need a reference server are skipped, as asked");
    } else {
        let dir = peers::default_dir(workspace);
        if !peers::unpack_all(&dir)?.is_complete() {
            println!("test: tests that need a missing server are skipped");
        }
        environment.push(("KYMO_PEERS", peers::table(&dir)));
        for (what, variable, found) in [
            ("Python", "KYMO_PYTHON", peers::python::interpreter(&dir)),
            ("JavaScript", "KYMO_NODE_MODULES", peers::node::modules(&dir)),
        ] {
            match found {
                Ok(path) => {
                    println!("test: OpenTelemetry's {what} SDK: {}", path.display());
                    environment.push((variable, path));
                }
                Err(error) => {
                    let said = format!("OpenTelemetry's {what} SDK cannot be had: {error:#}");
                    println!("test: {said}");
                    missing.push(said);
                }
            }
        }
    }

    let command = |arguments: &[&str]| {
        let mut cargo = workspace.cargo();
        cargo.args(["test", "--workspace", "--all-features", "--no-fail-fast"]).args(arguments);
        cargo.env_remove("KYMO_PEERS").envs(environment.iter().map(|(name, value)| (name, value)));
        cargo
    };
    let mut report = Report::default();
    let extra: Vec<&str> = options.extra.iter().map(String::as_str).collect();
    let (status, failed_targets) = watch(command(&extra), &mut report)?;
    if !status.success() && report.tally.failed == 0 {
        bail!("cargo test ended with {status} and without a failed test: something was not built");
    }

    let mut settled = Vec::new();
    for target in BESIDE_OTHER_PROCESSES.iter().filter(|target| failed_targets.iter().any(|failed| failed == *target)) {
        let names: Vec<String> = report.failures.iter().map(|failure| failure.name.clone()).collect();
        println!("\ntest: {target}: what failed is run again, alone");
        let (_, name) = target.rsplit_once(' ').unwrap_or_default();
        let mut arguments = vec!["--test", name, "--", "--test-threads=1", "--exact"];
        arguments.extend(names.iter().map(String::as_str));
        let mut again = Report::default();
        watch(command(&arguments), &mut again)?;
        settled.extend(report.settle(&again.ok));
    }
    let mut tally = report.tally;

    let skipped = fs::read_to_string(&skip_log).with_context(|| format!("cannot read {}", skip_log.display()))?;
    let mut skipped: Vec<&str> = skipped.lines().filter(|line| !line.trim().is_empty()).collect();
    skipped.sort_unstable();
    skipped.dedup();
    if !skipped.is_empty() {
        println!("\nSkipped, with the reason:");
        for line in &skipped {
            println!("  {line}");
        }
        // A test knows only that a package is not there, not why.
        for line in &missing {
            println!("  {line}");
        }
    }
    tally.passed = tally.passed.saturating_sub(skipped.len());
    tally.skipped += skipped.len();
    Ok(Outcome { tally, failed: report.failures, passed_again: settled })
}

/// Runs `cargo`, showing what it prints; gives back how it ended and the targets it names as failed.
fn watch(mut cargo: Command, report: &mut Report) -> Result<(ExitStatus, Vec<String>)> {
    let mut child = cargo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let targets = thread::scope(|scope| -> Result<_> {
        let errors = scope.spawn(|| {
            let mut targets = Vec::new();
            each_line(stderr, |line| {
                eprintln!("{line}");
                targets.extend(failed_target(line).map(str::to_owned));
            })?;
            Ok(targets)
        });
        each_line(stdout, |line| {
            println!("{line}");
            report.read(line);
        })?;
        errors.join().unwrap_or_else(|_| bail!("the reader of cargo test's messages panicked"))
    })?;
    Ok((child.wait().context("cannot wait for cargo test")?, targets))
}

fn each_line(output: Option<impl Read>, mut take: impl FnMut(&str)) -> Result<()> {
    let Some(output) = output else { return Ok(()) };
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    // Bytes, not text: a failed test may print anything.
    while reader.read_until(b'\n', &mut line).context("cannot read what cargo test prints")? > 0 {
        take(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
    Ok(())
}

fn check_tools() -> Result<()> {
    for (tool, purpose) in [("git", "the tree is listed with it"), ("cc", "Rust links with it")] {
        if !process::is_installed(tool) {
            bail!("{tool} is not installed: {purpose}; on Debian: apt-get install git gcc libc6-dev");
        }
    }
    process::stdout(Command::new("rustc").arg("--version")).map(drop)
}
