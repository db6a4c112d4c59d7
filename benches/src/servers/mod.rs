//! Servers as processes: ours and the peers', all started, loaded and asked in the same way.

pub mod answer;
mod http;
mod process;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

pub use http::{Answer, Connection, query_encoded};
pub use process::Server;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Ours.
    Kymo,
    /// VictoriaMetrics.
    VictoriaMetrics,
    /// Prometheus.
    Prometheus,
}

impl Kind {
    /// Its short name in a table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Kymo => "Kymo",
            Kind::VictoriaMetrics => "VM",
            Kind::Prometheus => "Prometheus",
        }
    }
}

/// A server that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// Which.
    pub kind: Kind,
    /// The program.
    pub path: PathBuf,
    /// As it says itself; empty for ours.
    pub version: String,
}

/// A program of the table that is no server.
///
/// # Errors
/// The table cannot be read.
pub fn tool(peers: Option<&Path>, name: &str) -> Result<Option<PathBuf>> {
    let Some(table) = peers else { return Ok(None) };
    let text = fs::read_to_string(table).with_context(|| format!("cannot read {}", table.display()))?;
    let table: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", table.display()))?;
    Ok(table[name]["path"].as_str().map(PathBuf::from))
}

/// Ours first, then the peers that the table of `cargo xtask peers` has, and why others are missing.
///
/// # Errors
/// The table cannot be read.
pub fn find(kymo: Option<&Path>, peers: Option<&Path>) -> Result<(Vec<Binary>, Vec<String>)> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    match kymo {
        Some(path) => found.push(Binary { kind: Kind::Kymo, path: path.to_owned(), version: String::new() }),
        None => missing.push("kymo: no binary was given (cargo xtask bench builds it)".to_owned()),
    }
    if let Some(table) = peers {
        let text = fs::read_to_string(table).with_context(|| format!("cannot read {}", table.display()))?;
        let table: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", table.display()))?;
        for (kind, name) in [(Kind::VictoriaMetrics, "victoria-metrics"), (Kind::Prometheus, "prometheus")] {
            let entry = &table[name];
            match (entry["path"].as_str(), entry["version"].as_str()) {
                (Some(path), Some(version)) => {
                    found.push(Binary { kind, path: path.into(), version: version.to_owned() });
                }
                _ => missing.push(format!("{name}: {}", entry["missing"].as_str().unwrap_or("not in the table"))),
            }
        }
    }
    Ok((found, missing))
}
