//! An interpreter with OpenTelemetry's Python SDK and Prometheus' Python client, in a virtual environment beside the reference servers.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;

/// The SDK, both of its exporters for OTLP, and the client, for its parser of OpenMetrics. Of one version, so that a release of
/// theirs fails no test of a commit that passed before.
const PACKAGES: [&str; 4] = [
    "opentelemetry-sdk==1.45.2",
    "opentelemetry-exporter-otlp-proto-grpc==1.45.2",
    "opentelemetry-exporter-otlp-proto-http==1.45.2",
    "prometheus-client==0.26.0",
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
    let venv =
        |more: &[&str]| run(Command::new("python3").args(["-m", "venv", "--clear"]).args(more).arg(&environment));
    let install = ["install", "--quiet", "--disable-pip-version-check"];
    match venv(&[]) {
        Ok(()) => run(Command::new(&python).args(["-m", "pip"]).args(install).args(PACKAGES))?,
        Err(error) => {
            // Debian has what venv makes pip of in a package of its own; a pip that is there can fill the environment as well.
            venv(&["--without-pip"]).map_err(|_| error)?;
            run(Command::new("python3").args(["-m", "pip", "--python"]).arg(&python).args(install).args(PACKAGES))
                .context("there is no venv with pip (on Debian: apt-get install python3-venv)")?;
        }
    }
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
    process::stdout(command).map(drop)
}
