//! OpenTelemetry's JavaScript SDK, in a folder beside the reference servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// The SDKs of metrics and traces, and their exporters of JSON over HTTP; of one version, as in [`python`](super::python).
const PACKAGES: [(&str, &str); 5] = [
    ("@opentelemetry/api", "1.9.1"),
    ("@opentelemetry/sdk-metrics", "2.12.1"),
    ("@opentelemetry/exporter-metrics-otlp-http", "0.223.0"),
    ("@opentelemetry/sdk-trace", "2.12.1"),
    ("@opentelemetry/exporter-trace-otlp-http", "0.223.1"),
];

/// The folder of its modules below `dir`, for `NODE_PATH`; filled on the first call, which takes a quarter of a minute.
pub(crate) fn modules(dir: &Path) -> Result<PathBuf> {
    let folder = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?.join("node");
    let modules = folder.join("node_modules");
    if PACKAGES.iter().all(|(package, _)| modules.join(package).join("package.json").is_file()) {
        return Ok(modules);
    }
    for tool in ["node", "npm"] {
        if !process::is_installed(tool) {
            bail!("{tool} is not installed");
        }
    }
    let packages = PACKAGES.map(|(package, version)| format!("{package}@{version}"));
    let mut npm = Command::new("npm");
    npm.args(["install", "--loglevel=error", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).args(packages);
    process::stdout(&mut npm)?;
    Ok(modules)
}
