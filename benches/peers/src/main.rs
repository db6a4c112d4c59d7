//! Other crates, measured beside ours: `handles` prints the table of the hot path, `faults` what published crates get wrong
//! and ours must not, nothing both; `tsink` prints figures that the engine's table takes in.

mod faults;
mod handles;
mod tsink;

use std::path::Path;

use anyhow::{Result, bail};
use kymo_benches::{heap, instructions};

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

fn main() -> Result<()> {
    if instructions::serve(handles::count)? {
        return Ok(());
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => handles::run().and_then(|()| faults::run()),
        ["handles"] => handles::run(),
        ["faults"] => faults::run(),
        ["tsink", requests, data] => tsink::run(Path::new(requests), Path::new(data)),
        [tsink::LOAD, requests, data, end] => tsink::load(Path::new(requests), Path::new(data), end),
        _ => bail!(
            "expected nothing, handles, faults, or tsink with a file of requests and a folder; found {arguments:?}"
        ),
    }
}
