//! `kymo restore`: a snapshot put where a server will use it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use kymo_storage::fs::RealFs;
use kymo_storage::{SnapshotError, StorageError, VerifyReport, restore};

use crate::failure::Failure;
use crate::output;
use crate::progress::Progress;
use crate::verify::{rate, size};

/// Faults that are named.
const FAULTS_SHOWN: usize = 20;

/// Copy a snapshot to where a server will use it, and check the copy
///
/// The target must be missing or empty. It becomes a data directory at the very end, when every byte of it was checked:
/// whatever happens before, no server takes it for one, and the command can be run again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo restore /backup/kymo-today --data-dir /var/lib/kymo")]
pub(crate) struct RestoreArgs {
    /// The snapshot
    #[arg(value_name = "SNAPSHOT")]
    snapshot: PathBuf,
    /// Where the data is to live: missing or empty
    #[arg(long, env = "KYMO_DATA_DIR", hide_env_values = true, value_name = "DIR", default_value = "./kymo-data")]
    data_dir: PathBuf,
}

pub(crate) fn run(args: &RestoreArgs) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let restored = {
        let progress = Progress::bytes("restoring");
        restore(&RealFs, &args.snapshot, &args.data_dir, &mut |done, total| progress.at(done, total))
    };
    let report = restored.map_err(|error| refused(&args.snapshot, &error))?;
    let took = began.elapsed();
    output::print(&format!(
        "{}: {} samples in {} blocks and {} in the log, {}, copied and checked at {:.0} MB/s\n",
        args.data_dir.display(),
        report.samples,
        report.blocks,
        report.log_samples,
        size(report.bytes),
        rate(report.bytes, took) / 1e6,
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn refused(snapshot: &Path, error: &SnapshotError) -> Failure {
    let failure = Failure::because(format_args!("cannot restore {}", snapshot.display()), error);
    match error {
        SnapshotError::NotEmpty { .. } => failure.hint("nothing was touched: choose another --data-dir, or empty it"),
        SnapshotError::Storage(StorageError::Locked { .. }) => {
            failure.hint("another kymo uses the target: stop that one, or choose another --data-dir")
        }
        SnapshotError::Faulty { report, .. } => {
            Failure::new(format!("{} is damaged, and nothing was restored{}", snapshot.display(), faults(report)))
                .hint("restore another snapshot; kymo verify says more about this one")
        }
        SnapshotError::Storage(StorageError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            failure.hint("name a snapshot, or a data directory that no server has open")
        }
        _ => failure,
    }
}

fn faults(report: &VerifyReport) -> String {
    report.faults.iter().take(FAULTS_SHOWN).map(|fault| format!("\n  {fault}")).collect()
}
