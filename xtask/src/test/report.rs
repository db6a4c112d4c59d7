//! What `cargo test` printed, read: counts, the tests that failed with what they said, the targets they belong to.

use std::fmt;
use std::str::FromStr;

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

/// A test that failed, and what it printed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) name: String,
    pub(super) printed: Vec<String>,
}

/// Everything read so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) tally: Tally,
    pub(super) failures: Vec<Failure>,
    pub(super) ok: Vec<String>,
    /// Index in `failures` of the test whose output is being printed.
    printing: Option<usize>,
}

impl Report {
    /// Takes in one line of standard output.
    pub(super) fn read(&mut self, line: &str) {
        if let Ok(closing) = line.parse::<ResultLine>() {
            self.tally.passed += closing.passed;
            self.tally.failed += closing.failed;
            self.tally.skipped += closing.ignored;
            self.printing = None;
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----")) {
            self.printing = self.failures.iter().rposition(|failure| failure.name == name);
        } else if line == "failures:" {
            self.printing = None;
        } else if let Some(failure) = self.printing.and_then(|index| self.failures.get_mut(index)) {
            failure.printed.push(line.to_owned());
        } else if let Some((name, result)) = line.strip_prefix("test ").and_then(|line| line.rsplit_once(" ... ")) {
            match result {
                "ok" => self.ok.push(name.to_owned()),
                "FAILED" => self.failures.push(Failure { name: name.to_owned(), printed: Vec::new() }),
                _ => (),
            }
        }
    }

    /// Counts tests that failed and then passed as passed, and hands them over.
    pub(super) fn settle(&mut self, passed_again: &[String]) -> Vec<Failure> {
        let settled: Vec<_> = self.failures.extract_if(.., |failure| passed_again.contains(&failure.name)).collect();
        self.tally.failed = self.tally.failed.saturating_sub(settled.len());
        self.tally.passed += settled.len();
        settled
    }
}

/// The target that a line at the end of cargo's standard error names as failed: ``    `-p kymo --test it` ``.
pub(super) fn failed_target(line: &str) -> Option<&str> {
    line.trim().strip_prefix('`')?.strip_suffix('`').filter(|target| target.starts_with("-p "))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_test_binaries_add_up() {
        let mut report = Report::default();
        for line in [
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.00s",
        ] {
            report.read(line);
        }
        assert_eq!(report.tally, Tally { passed: 12, failed: 2, skipped: 1 });
        assert_eq!(report.tally.to_string(), "12 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn other_lines_are_not_results() {
        for line in ["running 3 tests", "test result: ok.", "test x ... ok"] {
            assert!(line.parse::<ResultLine>().is_err(), "{line}");
        }
    }

    #[test]
    fn failed_tests_are_kept_with_what_they_printed_and_settled_by_a_second_run() {
        let mut report = Report::default();
        let printed = "running 3 tests\ntest doors::one ... ok\ntest doors::two ... FAILED\ntest doors::three ... FAILED\n\
                       \nfailures:\n\n---- doors::two stdout ----\nthread 'doors::two' panicked at a.rs:1:2:\nleft: 1\n\
                       ---- doors::three stdout ----\nthree\n\nfailures:\n    doors::two\n    doors::three\n\n\
                       test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        printed.lines().for_each(|line| report.read(line));
        assert_eq!(report.ok, ["doors::one"]);
        let said: Vec<_> =
            report.failures.iter().map(|failure| (failure.name.as_str(), failure.printed.len())).collect();
        assert_eq!(said, [("doors::two", 2), ("doors::three", 2)]);
        let settled = report.settle(&["doors::two".to_owned(), "other".to_owned()]);
        assert_eq!(settled[0].printed, ["thread 'doors::two' panicked at a.rs:1:2:", "left: 1"]);
        assert_eq!(report.tally, Tally { passed: 2, failed: 1, skipped: 0 });
        assert_eq!(report.failures[0].name, "doors::three");
    }

    #[test]
    fn failed_targets_are_read_from_the_end_of_standard_error() {
        assert_eq!(failed_target("    `-p kymo --test it`"), Some("-p kymo --test it"));
        for line in ["error: 1 target failed:", "    `cargo test`", "   Running tests/it/main.rs"] {
            assert_eq!(failed_target(line), None);
        }
    }
}
