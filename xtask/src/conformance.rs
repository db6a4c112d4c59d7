//! `conformance`: runs PromQL scripts through `kymo promqltest` and holds each file to the result it must reach.
//!
//! The scripts are another project's and lie outside the repository; where they are absent the job says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::binary::{Profile, Source};
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Folder of the scripts, seen from the root of the repository
    #[arg(long, default_value = "../shared/promqltest")]
    dir: PathBuf,
    /// Print the failing cases of every file, not only of those that must pass
    #[arg(long)]
    verbose: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { dir: "../shared/promqltest".into(), verbose: false }
    }
}

/// How many cases of a file may fail at most. A file that is not named may fail anywhere.
const FAILURES_MAX: [(&str, usize); 11] = [
    ("aggregators.test", 0),
    ("at_modifier.test", 0),
    ("collision.test", 0),
    ("literals.test", 0),
    ("name_label_dropping.test", 0),
    ("operators.test", 0),
    ("range_queries.test", 0),
    ("selectors.test", 0),
    ("staleness.test", 0),
    ("subquery.test", 0),
    ("trig_functions.test", 0),
];

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// Files that fell below what they must reach.
    Failed(Vec<String>),
    Skipped(String),
}

impl Outcome {
    pub(crate) fn passed(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

pub(crate) fn run(workspace: &Workspace, options: &Options, source: &Source) -> Result<Outcome> {
    let dir = workspace.root.join(&options.dir);
    let scripts = scripts(&dir);
    if scripts.is_empty() {
        let reason = format!("no scripts in {}", options.dir.display());
        println!("conformance: skipped: {reason}");
        return Ok(Outcome::Skipped(reason));
    }
    let kymo = source.kymo(workspace, Profile::Release)?;
    let mut below = Vec::new();
    let (mut passed, mut failed) = (0, 0);
    for script in &scripts {
        let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let allowed = FAILURES_MAX.iter().find(|(file, _)| *file == name).map(|(_, failures)| *failures);
        let run = run_script(&kymo, script)?;
        let counts = match run.counts {
            Some(counts) => {
                passed += counts.passed;
                failed += counts.failed;
                format!("passed {}, failed {}", counts.passed, counts.failed)
            }
            None => "no result".to_owned(),
        };
        let reached = run.counts.is_some_and(|counts| allowed.is_none_or(|allowed| counts.failed <= allowed));
        if options.verbose || !reached {
            print!("{}", run.output);
        }
        let verdict = match (allowed, reached) {
            (_, false) => "  must be better",
            (Some(_), true) => "  as it must",
            (None, true) => "",
        };
        println!("conformance: {name}: {counts}{verdict}");
        if !reached {
            below.push(name);
        }
    }
    println!("conformance: {passed} cases passed, {failed} failed, {} files", scripts.len());
    Ok(if below.is_empty() { Outcome::Passed } else { Outcome::Failed(below) })
}

fn scripts(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut scripts: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .collect();
    scripts.sort();
    scripts
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
}

struct Run {
    /// Absent when the program ended before its closing line.
    counts: Option<Counts>,
    output: String,
}

fn run_script(kymo: &Path, script: &Path) -> Result<Run> {
    let output = Command::new(kymo)
        .arg("promqltest")
        .arg(script)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", kymo.display()))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let counts = text.lines().find_map(counts);
    if output.status.success() && counts.is_some_and(|counts| counts.failed > 0) {
        bail!("kymo promqltest ended well although cases of {} failed", script.display());
    }
    Ok(Run { counts, output: text })
}

/// Reads `FILE: passed N, failed M`.
fn counts(line: &str) -> Option<Counts> {
    let (_, counts) = line.rsplit_once(": passed ")?;
    let (passed, failed) = counts.split_once(", failed ")?;
    Some(Counts { passed: passed.parse().ok()?, failed: failed.trim().parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_a_script_is_read() {
        assert_eq!(counts("a/b: c.test: passed 12, failed 3"), Some(Counts { passed: 12, failed: 3 }));
        for line in ["c.test: passed x, failed 3", "passed 12, failed 3 of", "c.test:12: eval failed"] {
            assert_eq!(counts(line), None, "{line}");
        }
    }
}
