//! Programs of others that pages are held against, and how a test says that it has none.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

/// A program of the table that `cargo xtask peers` writes, which `KYMO_PEERS` names; or why there is none.
pub(crate) fn program(name: &str) -> Result<PathBuf, String> {
    let file = std::env::var("KYMO_PEERS").map_err(|_| "KYMO_PEERS names no table of peers".to_owned())?;
    let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let table: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
    let missing = || format!("no {name}: {}", table[name]["missing"].as_str().unwrap_or("not in the table"));
    table[name]["path"].as_str().map(PathBuf::from).ok_or_else(missing)
}

/// Says that a test was not done, in what it prints and in the log that `KYMO_SKIP_LOG` names.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(crate) fn skip(test: &str, reason: &str) {
    println!("SKIPPED {test}: {reason}");
    if let Ok(log) = std::env::var("KYMO_SKIP_LOG") {
        let mut log = OpenOptions::new().create(true).append(true).open(log).unwrap();
        writeln!(log, "{test}: {reason}").unwrap();
    }
}
