//! `kymo snapshot`: a copy of the data as of one moment, of hard links, while serving or not.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use kymo_core::QueryContext;
use kymo_export::client::{ClientOptions, PrometheusClient};
use kymo_storage::fs::RealFs;
use kymo_storage::{SnapshotError, SnapshotExtent, StorageError, snapshot};

use crate::failure::Failure;
use crate::output;
use crate::query::bearer;

/// Copy the data as of now, by hard links, whether a server has it open or not
///
/// Everything acknowledged before the call is in the copy. The copy is a data directory: `kymo verify` checks it, `kymo
/// restore` puts it to use. Files that never change are linked where the copy is on the same file system, so it takes
/// no room until they are merged away. With --server the server does it, below its own data directory, and the name is
/// printed; it must have been started with --enable-admin-api.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo snapshot /backup/kymo-today --data-dir /var/lib/kymo
  kymo snapshot --server http://127.0.0.1:9911")]
pub(crate) struct SnapshotArgs {
    /// Where the copy is to be: a name that is not taken, in a directory that is there
    #[arg(value_name = "DIR", required_unless_present = "server", conflicts_with = "server")]
    target: Option<PathBuf>,
    /// Where the data lives
    #[arg(long, env = "KYMO_DATA_DIR", hide_env_values = true, value_name = "DIR", default_value = "./kymo-data")]
    data_dir: PathBuf,
    /// Leave out what is not in blocks yet
    #[arg(long)]
    blocks_only: bool,
    /// Have this server do it to its own data
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    server: Option<String>,
    /// File with the bearer token that the server asks for
    #[arg(long, env = "KYMO_AUTH_TOKEN_FILE", hide_env_values = true, value_name = "FILE", requires = "server")]
    auth_token_file: Option<PathBuf>,
}

pub(crate) fn run(args: &SnapshotArgs) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let text = match (&args.server, &args.target) {
        (Some(server), _) => {
            let name = by_server(server, args)?;
            format!("{name}\n")
        }
        (None, Some(target)) => {
            let extent = if args.blocks_only { SnapshotExtent::BlocksOnly } else { SnapshotExtent::Everything };
            snapshot(&RealFs, &args.data_dir, target, extent).map_err(|error| refused(&args.data_dir, &error))?;
            let took = began.elapsed().as_secs_f64();
            format!("{} is in {} as of {took:.3} s ago\n", args.data_dir.display(), target.display())
        }
        (None, None) => return Err(Failure::usage("neither a place for the snapshot nor a server was named")),
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn by_server(server: &str, args: &SnapshotArgs) -> Result<String, Failure> {
    // The client waits on this thread, so another must drive its connection.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::because("cannot start the async threads", &error))?;
    let mut options = ClientOptions::new(server);
    options.http.authorization = args.auth_token_file.as_deref().map(bearer).transpose()?;
    let client = PrometheusClient::new(options, runtime.handle().clone())
        .map_err(|error| Failure::because("cannot ask the server", &error))?;
    client.snapshot(args.blocks_only, &QueryContext::unlimited()).map_err(|error| {
        Failure::new(format!("{server} took no snapshot: {}", error.message))
            .hint("is it running, and with --enable-admin-api?")
    })
}

fn refused(dir: &Path, error: &SnapshotError) -> Failure {
    let failure = Failure::because(format_args!("cannot take a snapshot of {}", dir.display()), error);
    match error {
        SnapshotError::Taken { .. } => failure.hint("choose another name: a snapshot replaces nothing"),
        SnapshotError::Storage(StorageError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            failure.hint("name the data with --data-dir, and a place whose directory is there")
        }
        _ => failure,
    }
}
