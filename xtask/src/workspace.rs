//! Where things are: the root of the repository, its build folder, its tracked files, and the cargo that runs us.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

pub(crate) struct Workspace {
    /// Absolute path of the folder that holds the root manifest.
    pub(crate) root: PathBuf,
    /// Absolute path of cargo's build folder; `CARGO_TARGET_DIR` moves it.
    pub(crate) target: PathBuf,
    /// Whether what is compiled is kept in the pieces that make the next build quick; they fill gigabytes.
    pub(crate) incremental: bool,
}

impl Workspace {
    pub(crate) fn locate() -> Result<Self> {
        let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest_dir.parent().context("xtask lies at the root of the file system")?.to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => env::current_dir().context("cannot read the current folder")?.join(dir),
            None => root.join("target"),
        };
        Ok(Self { root, target, incremental: true })
    }

    /// The cargo that started this program, at the root of the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        if !self.incremental {
            command.env("CARGO_INCREMENTAL", "0");
        }
        command
    }

    /// Bytes that can still be written where the build folder lies; `None` where `df` cannot tell.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let folder = if self.target.exists() { &self.target } else { &self.root };
        let told = process::stdout(Command::new("df").arg("-Pk").arg(folder)).ok()?;
        let blocks: u64 = told.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
        Some(blocks * 1024)
    }

    /// `path` relative to the root, for messages.
    pub(crate) fn shown<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// Every file that is tracked, or new and not ignored, relative to the root, sorted.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let listing = process::stdout(Command::new("git").current_dir(&self.root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        let mut files: Vec<PathBuf> = listing
            .split('\0')
            .filter(|name| !name.is_empty())
            .map(PathBuf::from)
            .filter(|file| self.root.join(file).is_file())
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// What `cargo metadata` says with every feature on, for the platform of this machine.
    pub(crate) fn metadata(&self) -> Result<Value> {
        let version = process::stdout(Command::new("rustc").current_dir(&self.root).arg("-vV"))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
        let text = process::stdout(self.cargo().args([
            "metadata",
            "--format-version=1",
            "--all-features",
            "--filter-platform",
            host,
        ]))?;
        serde_json::from_str(&text).context("cargo metadata printed something that is not JSON")
    }
}
