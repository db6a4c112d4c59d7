//! `tidy`: what no compiler checks. Prints path, line, problem and fix of everything it finds.

mod arrows;
mod formats;
mod links;
mod names;
mod rust_version;
mod tree;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::binary::Source;
use crate::generate;
use crate::workspace::Workspace;

/// One thing that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Relative to the root of the workspace.
    path: PathBuf,
    /// Counted from 1.
    line: usize,
    problem: String,
    fix: String,
}

impl Finding {
    pub(crate) fn new(
        path: impl Into<PathBuf>,
        line: usize,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { path: path.into(), line, problem: problem.into(), fix: fix.into() }
    }

    #[cfg(test)]
    pub(crate) fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; fix: {}", self.path.display(), self.line, self.problem, self.fix)
    }
}

/// A tracked file that is text.
struct Text {
    /// Relative to the root of the workspace.
    path: PathBuf,
    content: String,
}

impl Text {
    fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|found| found == extension)
    }

    fn is_below(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }
}

pub(crate) fn run(workspace: &Workspace, source: &Source) -> Result<bool> {
    let files = workspace.files()?;
    let texts: Vec<Text> = files
        .iter()
        .filter_map(|path| {
            let content = fs::read_to_string(workspace.root.join(path)).ok()?;
            Some(Text { path: path.clone(), content })
        })
        .collect();

    let metadata = workspace.metadata()?;
    let mut findings = arrows::check(&metadata)?;
    findings.extend(rust_version::check(&metadata)?);
    findings.extend(links::check(&workspace.root, &texts));
    findings.extend(formats::check(&texts));
    findings.extend(names::check(&workspace.root, &texts));
    findings.extend(tree::check(&files, &texts));
    findings.extend(generate::check(workspace, source)?);
    Ok(report(findings))
}

/// Prints `findings`, sorted; `true` when there are none.
pub(crate) fn report(mut findings: Vec<Finding>) -> bool {
    findings.sort_by(|a, b| (&a.path, a.line, &a.problem).cmp(&(&b.path, b.line, &b.problem)));
    for finding in &findings {
        println!("{finding}");
    }
    findings.is_empty()
}

/// Lines of `content` that lie outside fenced code blocks of Markdown, with their numbers from 1.
fn prose_lines(content: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    content.lines().enumerate().filter_map(move |(index, line)| {
        let start = line.trim_start();
        let marker = ["```", "~~~"].into_iter().find(|marker| start.starts_with(marker));
        match (fence, marker) {
            (None, Some(marker)) => fence = Some(marker),
            (Some(open), Some(marker)) if open == marker => fence = None,
            (None, None) => return Some((index + 1, line)),
            _ => {}
        }
        None
    })
}

/// The folder a file lies in; empty for one at the root.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
