//! Other crates, measured beside ours: `handles` prints a table; `tsink` prints figures that the engine's table takes in.

mod handles;
mod tsink;

use std::path::Path;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["handles"] => handles::run(),
        ["tsink", requests, data] => tsink::run(Path::new(requests), Path::new(data)),
        [tsink::LOAD, requests, data, end] => tsink::load(Path::new(requests), Path::new(data), end),
        _ => bail!("expected nothing, handles, or tsink with a file of requests and a folder; found {arguments:?}"),
    }
}
