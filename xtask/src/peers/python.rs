//! An interpreter with OpenTelemetry's Python SDK and Prometheus' Python client, in a virtual environment beside the reference servers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;

/// The SDK, both of its exporters for OTLP, and the client, for its parser of OpenMetrics.
const PACKAGES: [&str; 4] = [
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp-proto-grpc",
    "opentelemetry-exporter-otlp-proto-http",
    "prometheus-client",
];
/// Fails unless all of them are there.
const IMPORTS: &str = "import opentelemetry.sdk.metrics, \
    opentelemetry.exporter.otlp.proto.grpc.metric_exporter, opentelemetry.exporter.otlp.proto.http.metric_exporter, \
    prometheus_client.openmetrics.parser";

/// The interpreter below `dir`; made on the first call, which takes half a minute.
pub(crate) fn interpreter(dir: &Path) -> Result<PathBuf> {
    let environment = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?.join("python");
    let python = environment.join("bin/python");
    if imports_work(&python) {
        return Ok(python);
    }
    if !process::is_installed("python3") {
        bail!("python3 is not installed");
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES))?;
    if !imports_work(&python) {
        bail!("the packages {} were installed, and cannot be imported", PACKAGES.join(", "));
    }
    Ok(python)
}

fn imports_work(python: &Path) -> bool {
    let status = Command::new(python).args(["-c", IMPORTS]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}: {}", output.status, said.trim().lines().last().unwrap_or_default());
    }
    Ok(())
}
