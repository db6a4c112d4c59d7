//! The shape of the tree: what lies at the top, and how long a source file may be.

use std::path::{Path, PathBuf};

use super::{Finding, Text};

/// Everything that may lie at the root; a new room or file there is a decision.
const TOP: [&str; 24] = [
    ".cargo",
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "alerts",
    "benches",
    "cli",
    "clippy.toml",
    "context",
    "core",
    "dashboard",
    "docs",
    "export",
    "ingest",
    "query",
    "rustfmt.toml",
    "storage",
    "xtask",
    "CHANGELOG.md",
];

/// Lines of a source file that ask for no explanation.
const LINES_MAX: usize = 900;
/// The explanation stands within this many lines from the top, and uses one of these words.
const HEADER_LINES: usize = 40;
const EXPLANATIONS: [&str; 4] = ["one table", "one algorithm", "one grammar", "one list"];

pub(super) fn check(files: &[PathBuf], texts: &[Text]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for file in files {
        let Some(top) = file.components().next() else {
            continue;
        };
        let top = Path::new(top.as_os_str());
        let is_known = TOP.iter().any(|name| Path::new(name) == top);
        if !is_known && !findings.iter().any(|finding| finding.path == top) {
            findings.push(Finding::new(
                top,
                1,
                "this does not belong at the root",
                "move it into the room it belongs to, or add it to xtask/src/tidy/tree.rs",
            ));
        }
    }
    for text in texts.iter().filter(|text| ["rs", "ts", "tsx"].iter().any(|kind| text.has_extension(kind))) {
        let lines = text.content.lines().count();
        let is_explained = text
            .content
            .lines()
            .take(HEADER_LINES)
            .filter(|line| line.trim_start().starts_with("//"))
            .any(|line| EXPLANATIONS.iter().any(|words| line.contains(words)));
        if lines > LINES_MAX && !is_explained {
            findings.push(Finding::new(
                &text.path,
                1,
                format!("{lines} lines, more than {LINES_MAX}"),
                "split it, or say in its header that it is one table, one algorithm, one grammar or one list",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_at_the_root_is_reported_once() {
        let files = ["core/src/lib.rs", "attic/a.rs", "attic/b.rs", "README.md"].map(PathBuf::from);
        let found: Vec<PathBuf> = check(&files, &[]).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, [PathBuf::from("attic")]);
    }

    #[test]
    fn a_long_file_says_why_at_its_head() {
        let long = "x\n".repeat(LINES_MAX + 1);
        let text = |content: String| Text { path: "core/a.rs".into(), content };
        assert_eq!(check(&[], &[text(long.clone())]).len(), 1);
        assert_eq!(check(&[], &[text(format!("//! This is one table.\n{long}"))]), []);
        assert_eq!(check(&[], &[text("x\n".repeat(LINES_MAX))]), []);
    }
}
