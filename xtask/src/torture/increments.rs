//! The part of `torture crash` on increments: three writers add to one series in a process that is killed with `kill -9`, and
//! the total is in the end the sum of what was acknowledged. No protocol brings increments into the server yet, so the
//! process is the storage crate's own test, which hands them to the engine itself.

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

const TEST: &str = "kill::three_writers_and_twenty_kills_add_up_on_a_real_disk";

/// Fails if a total is wrong.
pub(super) fn run(workspace: &Workspace, kills: u32) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--quiet", "--package", "kymo-storage", "--test", "it", "--", "--exact", TEST, "--nocapture"]);
    cargo.env("KYMO_KILLS", kills.to_string());
    process::run(&mut cargo)
}
