//! `memcheck`: the unit tests of the modules with unsafe code, under valgrind's memory checker.
//!
//! A read or write outside what is allocated, or after it was freed, and a decision on memory nobody wrote fail the job.
//! Leaks are not looked for: what is retired is freed when a thread next gets to it, so at the end of a program some of it
//! never is. Under valgrind threads take turns, so tests that are about interleaving are left to real threads and loom.

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// Modules of `kymo-core` that hold unsafe code or hand out what it keeps: all of them. `kymo-export` has none.
const MODULES: [&str; 5] = ["epoch::", "intern::", "labels::", "registry::", "ring::"];

/// Models, which loom runs, and tests that spin until another thread is done.
const LEFT_OUT: [&str; 5] = ["model::", "beside", "many_threads", "threads_come_and_go", "torn"];

/// As cargo's configuration: every test program is valgrind's argument.
const RUNNER: &str = r#"target."cfg(unix)".runner = ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=no"]"#;

/// Why the tests were not run, if they were not; an error is what valgrind found.
pub(crate) fn run(workspace: &Workspace) -> Result<Option<&'static str>> {
    if !process::is_installed("valgrind") {
        const REASON: &str = "valgrind is not installed; on Debian: apt-get install valgrind";
        println!("memcheck: skipped: {REASON}");
        return Ok(Some(REASON));
    }
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--package=kymo-core", "--lib", "--config", RUNNER, "--", "--test-threads=1"]);
    cargo.args(MODULES);
    for name in LEFT_OUT {
        cargo.args(["--skip", name]);
    }
    process::run(&mut cargo)?;
    Ok(None)
}
