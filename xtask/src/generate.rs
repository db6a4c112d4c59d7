//! `gen`: the reference pages that the program itself prints, so that they cannot drift from it, and the sets of samples
//! that bytes are quoted on.

mod peer_set;

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::binary::{Profile, Source};
use crate::tidy::{self, Finding};
use crate::workspace::Workspace;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    /// Compare with the pages in the tree instead of writing them
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(clap::Subcommand)]
enum What {
    /// Write the measured set (15,920 series × 960 scrapes) and the recording as it is, as remote write requests
    PeerSet(peer_set::Options),
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    match &options.what {
        Some(What::PeerSet(options)) => peer_set::write(workspace, options).map(|()| true),
        None if options.check => Ok(tidy::report(check(workspace, &Source::Build)?)),
        None => write(workspace).map(|()| true),
    }
}

struct Page {
    /// Relative to the root of the workspace.
    path: &'static str,
    /// What `kymo reference` is asked for.
    flag: &'static str,
}

const PAGES: [Page; 4] = [
    Page { path: "docs/cli.md", flag: "--cli" },
    Page { path: "docs/configuration.md", flag: "--configuration" },
    Page { path: "docs/limits.md", flag: "--limits" },
    Page { path: "docs/metrics.md", flag: "--metrics" },
];

/// Exit status of a command line that the program does not understand.
const USAGE_STATUS: i32 = 2;

fn write(workspace: &Workspace) -> Result<()> {
    for (page, text) in printed(workspace, &Source::Build)? {
        match text {
            Some(text) => {
                let path = workspace.root.join(page.path);
                fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
                println!("gen: wrote {}", page.path);
            }
            None => println!("gen: skipped {}: kymo has no `reference {}`", page.path, page.flag),
        }
    }
    Ok(())
}

/// Pages of the tree that differ from what the program prints. A page that neither has is none.
pub(crate) fn check(workspace: &Workspace, source: &Source) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (page, text) in printed(workspace, source)? {
        let in_tree = fs::read_to_string(workspace.root.join(page.path)).ok();
        match (in_tree, text) {
            (None, None) => println!("gen: skipped {}: kymo has no `reference {}`", page.path, page.flag),
            (Some(in_tree), Some(text)) if in_tree == text => {}
            (Some(in_tree), Some(text)) => {
                let same = in_tree.lines().zip(text.lines()).take_while(|(a, b)| a == b).count();
                findings.push(Finding::new(
                    page.path,
                    same + 1,
                    "the page differs from what the program says",
                    "run cargo xtask gen and commit the page",
                ));
            }
            (None, Some(_)) => findings.push(Finding::new(
                page.path,
                1,
                "the page is not in the tree",
                "run cargo xtask gen and commit the page",
            )),
            (Some(_), None) => findings.push(Finding::new(
                page.path,
                1,
                "nothing generates the page",
                format!("let `kymo reference {}` print it, or remove it", page.flag),
            )),
        }
    }
    Ok(findings)
}

/// Each page with its text, or `None` where this program has nothing of the kind.
fn printed(workspace: &Workspace, source: &Source) -> Result<Vec<(&'static Page, Option<String>)>> {
    let kymo = source.kymo(workspace, Profile::Dev)?;
    PAGES
        .iter()
        .map(|page| {
            let mut command = Command::new(&kymo);
            command.args(["reference", page.flag]).stdin(Stdio::null());
            let output = command.output().with_context(|| format!("cannot start {}", kymo.display()))?;
            let text = match output.status.code() {
                Some(0) => String::from_utf8(output.stdout).context("a reference page is not UTF-8")?,
                Some(USAGE_STATUS) => String::new(),
                _ => bail!("kymo reference {} ended with {}", page.flag, output.status),
            };
            Ok((page, Some(text).filter(|text| !text.is_empty())))
        })
        .collect()
}
