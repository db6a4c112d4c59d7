//! `kymo compact`: flush and merging finished at once, in a data directory that no server has open, or by a server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kymo_core::MetricStorage;
use kymo_export::client::PrometheusClient;

use crate::administer::{self, Administered, size};
use crate::failure::{Failure, chain};
use crate::output;

/// Write a data directory as small as it will be: everything out of the log, everything merged
///
/// A directory must not be in use; a server that has it open does the same when it is asked with --server, if it was
/// started with --enable-admin-api. Whatever happens meanwhile, nothing is lost; it can be run again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo compact --data-dir /var/lib/kymo
  kymo compact --server http://127.0.0.1:9911")]
pub(crate) struct CompactArgs {
    /// Where the data lives
    #[arg(long, env = "KYMO_DATA_DIR", hide_env_values = true, value_name = "DIR", default_value = "./kymo-data")]
    data_dir: PathBuf,
    /// Have this server do it to its own data
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    server: Option<String>,
    /// File with the bearer token that the server asks for
    #[arg(long, env = "KYMO_AUTH_TOKEN_FILE", hide_env_values = true, value_name = "FILE", requires = "server")]
    auth_token_file: Option<PathBuf>,
}

pub(crate) fn run(args: &CompactArgs) -> Result<ExitCode, Failure> {
    match &args.server {
        Some(server) => by_server(server, args.auth_token_file.as_deref()),
        None => directory(&args.data_dir),
    }
}

/// Asks a server and waits, however long it takes.
fn by_server(server: &str, token: Option<&Path>) -> Result<ExitCode, Failure> {
    Administered::new(server, token)?.ask("compact its data", PrometheusClient::compact)?;
    output::print(&format!("{server}: everything is in blocks, and merged\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn directory(dir: &Path) -> Result<ExitCode, Failure> {
    let engine = administer::open(dir)?;
    let before = engine.statistics();
    let failed = |error| Failure::new(format!("cannot compact {}: {}", dir.display(), chain(&error)));
    engine.compact(|| true).map_err(failed)?;
    engine.close().map_err(failed)?;
    let after = engine.statistics();
    output::print(&format!(
        "{}: {} blocks of {} and {} of log became {} blocks of {} with {} samples\n",
        dir.display(),
        before.blocks,
        size(before.block_bytes),
        size(before.log_bytes),
        after.blocks,
        size(after.block_bytes),
        after.block_samples,
    ))?;
    Ok(ExitCode::SUCCESS)
}
