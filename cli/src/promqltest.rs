//! `kymo promqltest`: scripts of PromQL cases, each file on an engine of its own, in memory.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use kymo_core::{MetricStorage, QueryBackend};
use kymo_query::Engine;
use kymo_query::promqltest::{self, ScriptReport, run_script};

use crate::failure::{FAILED, Failure, chain};
use crate::output;

/// Run scripts of PromQL cases: load samples, evaluate, compare
///
/// Prints `FILE: passed N, failed M` for each file, and every case that failed. Exit status 1 when any did.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo promqltest rates.test
  kymo promqltest testdata/*.test")]
pub(crate) struct PromqltestArgs {
    /// Scripts in Prometheus' promqltest language
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(crate) fn run(args: &PromqltestArgs) -> Result<ExitCode, Failure> {
    let mut all_passed = true;
    for file in &args.files {
        let name = file.display().to_string();
        let text =
            fs::read_to_string(file).map_err(|error| Failure::because(format_args!("cannot read {name}"), &error))?;
        let engine = |storage: Arc<dyn MetricStorage>| Box::new(Engine::new(storage)) as Box<dyn QueryBackend>;
        let report = run_script(&name, &text, &mut promqltest::memory_storage, &engine)
            .map_err(|error| Failure::new(format!("{name}: {}", chain(&error))))?;
        all_passed &= report.failed.is_empty();
        output::print(&render(&report))?;
    }
    Ok(if all_passed { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// The failing cases, then the counts.
fn render(report: &ScriptReport) -> String {
    let mut text = String::new();
    for failure in &report.failed {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}:{}: {}", report.name, failure.line, failure.text);
        for line in failure.what.lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    let _ = writeln!(text, "{}: passed {}, failed {}", report.name, report.passed, report.failed.len());
    text
}
