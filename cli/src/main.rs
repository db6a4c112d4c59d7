//! The `kymo` program: reads the command line, builds the parts, connects them, and renders what goes wrong.
//!
//! ```text
//! command ─▶ serve        engine + every way in + API routes + upkeep threads, until a signal
//!         ─▶ query        one expression over any Prometheus API
//!         ─▶ status       what a running program does and waits for
//!         ─▶ top          the same and everything measured, on a terminal that is left open; demo: with made services
//!         ─▶ promqltest   scripts, on an engine of their own
//!         ─▶ inspect      a configuration file checked or shown (read by `config`, in the library half)
//!         ─▶ otlp         what becomes of an OTLP request, without a server
//!         ─▶ compact      a data directory that no server has open, written as small as it will be
//!         ─▶ delete       series taken away in a range of time, by a server or in a directory that none has open
//!         ─▶ retention    what a policy of keeping would let go of
//!         ─▶ verify       a data directory checked, in use or not
//!         ─▶ snapshot, restore   a copy of it taken while it is in use, and put to use
//!         ─▶ export, import   series into files, and files or a Prometheus' data into the engine
//!         ─▶ cardinality  what a server's series are of
//!         ─▶ state        the small facts that a server keeps of itself
//!         ─▶ completions, man, reference   the program describing itself
//! ```
//!
//! Deliberately absent: anything that needs a unit test. What has rules of its own lives in the crate whose field it
//! is; what remains here is tested by running the program (`tests/it`).

mod administer;
mod allocator;
mod cardinality;
mod checkpoint;
mod command;
mod compact;
mod delete;
mod demo;
mod describe;
mod export_files;
mod failure;
mod import;
mod inspect;
mod logging;
mod otlp;
mod output;
mod progress;
mod promqltest;
mod query;
mod restore;
mod retention;
mod serve;
mod snapshot;
mod state;
mod status;
mod top;
mod verify;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

use command::{Command, Kymo};

fn main() -> ExitCode {
    let kymo = Kymo::parse();
    // On a terminal, a log would be written across the screen.
    let is_screen = matches!(kymo.command, Command::Top(_) | Command::Demo(_)) && std::io::stderr().is_terminal();
    let logging = if is_screen { Ok(()) } else { logging::start(&kymo.log) };
    let done = logging.and_then(|()| match kymo.command {
        Command::Serve(args) => serve::run(*args),
        Command::Query(args) => query::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Promqltest(args) => promqltest::run(&args),
        Command::Config(args) => inspect::run(&args),
        Command::Otlp(args) => otlp::run(&args),
        Command::Compact(args) => compact::run(&args),
        Command::Delete(args) => delete::run(&args),
        Command::Retention(args) => retention::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Snapshot(args) => snapshot::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Export(args) => export_files::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Cardinality(args) => cardinality::run(&args),
        Command::State(args) => state::run(&args),
        Command::Completions(args) => describe::completions(&args),
        Command::Man(args) => describe::man(&args),
        Command::Reference(args) => describe::reference(&args),
    });
    done.unwrap_or_else(|failure| failure.report())
}
