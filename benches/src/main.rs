//! Prints what Kymo costs beside floors and peers; `cargo xtask bench` builds what it needs and runs it.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use kymo_benches::groups::engine::{Held, Rows};
use kymo_benches::groups::{self, Group, Setup, hot_path, otlp};
use kymo_benches::load::{self, SCRAPES_MEASURED, SERIES_MEASURED};
use kymo_benches::{heap, instructions};

/// An hour: enough for ratios of servers' CPU time and queries.
const SCRAPES: usize = 240;

#[derive(Parser)]
#[command(name = "kymo-benches", about = "Floor, peers and Kymo side by side, from one run")]
struct Cli {
    /// Group of rows; all of them when absent
    group: Option<Group>,
    /// The kymo program, for rows on servers
    #[arg(long, env = "KYMO_BIN", value_name = "FILE")]
    kymo: Option<PathBuf>,
    /// The table of reference servers, as `cargo xtask peers` writes it
    #[arg(long, env = "KYMO_PEERS", value_name = "FILE")]
    peers: Option<PathBuf>,
    /// Folder for data, on a real disk; made anew below it and removed at the end [default: the system's]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The program that measures other crates
    #[arg(long, value_name = "FILE")]
    crates: Option<PathBuf>,
    /// Rows of the engine's table, by name; all of them when absent
    #[arg(long = "row", value_name = "ROW")]
    rows: Vec<Rows>,
    /// Scrapes that servers take, 15 s apart [default: 960 for the engine's table, else 240]
    #[arg(long)]
    scrapes: Option<usize>,
    /// Series that servers take
    #[arg(long, default_value_t = SERIES_MEASURED)]
    series: usize,
    /// Take the whole measured set: 15,920 series × 960 scrapes
    #[arg(long)]
    full: bool,
    /// Write the measured set and the recording as it is, as requests, into DIR
    #[arg(long, value_name = "DIR")]
    write_peer_set: Option<PathBuf>,
    /// Time of the first scrape of what is written, ms since the Unix epoch [default: now minus four hours and a bit]
    #[arg(long, value_name = "MS", requires = "write_peer_set")]
    base_ms: Option<i64>,
    /// Hold something in an engine below --dir and print what it takes
    #[arg(long, hide = true, requires = "dir")]
    hold: Option<Held>,
}

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

fn main() -> ExitCode {
    let counted = instructions::serve(|name, times| match otlp::by_name(name, times)? {
        true => Ok(()),
        false => hot_path::by_name(name, times, &[]),
    });
    let result = match counted {
        Ok(true) => Ok(true),
        Ok(false) => run(Cli::parse()),
        Err(error) => Err(error),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kymo-benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `false` when something that was asked for went wrong.
fn run(cli: Cli) -> Result<bool> {
    if let (Some(what), Some(dir)) = (cli.hold, &cli.dir) {
        println!("{}", groups::engine::hold(what, dir)?);
        return Ok(true);
    }
    if let Some(dir) = cli.write_peer_set {
        for set in load::write_peer_set(&dir, cli.base_ms.unwrap_or_else(load::base_ms_of_now))? {
            println!("{set}");
        }
        return Ok(true);
    }
    let is_engine = cli.group == Some(Group::Engine);
    let scrapes = cli.scrapes.unwrap_or(if is_engine { SCRAPES_MEASURED } else { SCRAPES });
    let (series, scrapes) = if cli.full { (SERIES_MEASURED, SCRAPES_MEASURED) } else { (cli.series, scrapes) };
    let below = cli.dir.unwrap_or_else(std::env::temp_dir);
    fs::create_dir_all(&below).with_context(|| format!("cannot create {}", below.display()))?;
    let dir = tempfile::tempdir_in(&below).context("cannot create a folder for data")?;
    let setup = Setup {
        kymo: cli.kymo,
        peers: cli.peers,
        crates: cli.crates,
        rows: cli.rows,
        dir: dir.path().to_owned(),
        series,
        scrapes,
    };
    let report = groups::run(&setup, cli.group);
    // Not `println!`: who reads may have gone, which is no bug of ours.
    writeln!(io::stdout(), "{report}").context("cannot print the report")?;
    Ok(report.is_complete())
}
