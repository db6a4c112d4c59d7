//! The `kymo` binary that a job runs.

use std::env::consts::EXE_SUFFIX;
use std::path::PathBuf;

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// Where a job gets the `kymo` binary from.
pub(crate) enum Source {
    /// Built on demand, in the profile the job asks for.
    Build,
    /// Already built.
    Built(PathBuf),
}

#[derive(Clone, Copy)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Source {
    /// Path of the binary. A built one is taken as it is, whatever its profile.
    pub(crate) fn kymo(&self, workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
        match self {
            Self::Built(path) => Ok(path.clone()),
            Self::Build => build(workspace, profile),
        }
    }
}

fn build(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--quiet", "--package", "kymo", "--bin", "kymo"]);
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => {
            cargo.arg("--release");
            "release"
        }
    };
    process::run(&mut cargo)?;
    Ok(workspace.target.join(folder).join(format!("kymo{EXE_SUFFIX}")))
}
