//! `kymo compact`: flush and merging finished at once, in a data directory that no server has open.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use kymo_core::MetricStorage;
use kymo_core::text::write_size_rounded;
use kymo_storage::fs::RealFs;
use kymo_storage::{Engine, Options};

use crate::failure::{Failure, chain};
use crate::output;
use crate::serve::refused;

/// Write a data directory as small as it will be: everything out of the log, everything merged
///
/// The directory must not be in use. Whatever happens meanwhile, nothing is lost; it can be run again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kymo compact --data-dir /var/lib/kymo")]
pub(crate) struct CompactArgs {
    /// Where the data lives
    #[arg(long, env = "KYMO_DATA_DIR", hide_env_values = true, value_name = "DIR", default_value = "./kymo-data")]
    data_dir: PathBuf,
}

pub(crate) fn run(args: &CompactArgs) -> Result<ExitCode, Failure> {
    let dir = &args.data_dir;
    if !dir.join("MANIFEST").is_file() {
        return Err(Failure::new(format!("{} is no data directory", dir.display()))
            .hint("name one that kymo serve has written with --data-dir"));
    }
    // What is kept is for the server to say: nothing is retired here.
    let options = Options { retention: None, ..Options::default() };
    let (engine, _) = Engine::open(Arc::new(RealFs), dir, options).map_err(|error| refused(dir, &error))?;
    let before = engine.statistics();
    let failed = |error| Failure::new(format!("cannot compact {}: {}", dir.display(), chain(&error)));
    engine.compact().map_err(failed)?;
    engine.close().map_err(failed)?;
    let after = engine.statistics();
    let size = |bytes: u64| {
        let mut text = String::new();
        write_size_rounded(&mut text, bytes);
        text
    };
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
