//! OpenTelemetry's JavaScript SDK, in a folder beside the reference servers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;

/// The SDKs of metrics and traces, and their exporters of JSON over HTTP.
const PACKAGES: [&str; 5] = [
    "@opentelemetry/api",
    "@opentelemetry/sdk-metrics",
    "@opentelemetry/exporter-metrics-otlp-http",
    "@opentelemetry/sdk-trace",
    "@opentelemetry/exporter-trace-otlp-http",
];

/// The folder of its modules below `dir`, for `NODE_PATH`; filled on the first call, which takes a quarter of a minute.
pub(crate) fn modules(dir: &Path) -> Result<PathBuf> {
    let folder = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?.join("node");
    let modules = folder.join("node_modules");
    if PACKAGES.iter().all(|package| modules.join(package).join("package.json").is_file()) {
        return Ok(modules);
    }
    for tool in ["node", "npm"] {
        if !process::is_installed(tool) {
            bail!("{tool} is not installed");
        }
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).args(PACKAGES);
    let output = npm.stdin(Stdio::null()).output().context("cannot start npm")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("npm install ended with {}: {}", output.status, said.trim().lines().last().unwrap_or_default());
    }
    Ok(modules)
}
