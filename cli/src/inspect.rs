//! `kymo config`: a file checked or shown, without a server.

use std::path::PathBuf;
use std::process::ExitCode;

use kymo::config::{defaults, load, reference};

use crate::failure::Failure;
use crate::output;

/// Check a configuration file, show what it comes to, or what may be written in one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo config check prometheus.yml
  kymo config show kymo.yml

Exit status: 0 when the file can be acted on, 1 when it cannot.")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Say everything that is wrong with a file, and what in it is not acted on
    #[command(after_help = "Examples:\n  kymo config check prometheus.yml")]
    Check(FileArgs),
    /// Print the effective values as YAML, secrets masked
    #[command(after_help = "Examples:\n  kymo config show prometheus.yml")]
    Show(ShowArgs),
    /// Print the JSON Schema of a configuration file, for editors that complete keys
    #[command(after_help = "Examples:\n  kymo config schema > kymo.schema.json")]
    Schema,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The configuration file; without one the defaults are shown
    #[arg(env = "KYMO_CONFIG", hide_env_values = true, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct FileArgs {
    /// The configuration file
    #[arg(env = "KYMO_CONFIG", hide_env_values = true, value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn run(args: &ConfigArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        ConfigCommand::Check(FileArgs { file }) => {
            let configuration = load(file).map_err(|faults| Failure::faults(&faults))?;
            let mut text = format!("{} can be used: {} scrape jobs\n", file.display(), configuration.jobs.len());
            for notice in &configuration.notices {
                text.push_str(&format!("  not acted on: {notice}\n"));
            }
            output::print(&text)?;
        }
        ConfigCommand::Show(ShowArgs { file: Some(file) }) => {
            let configuration = load(file).map_err(|faults| Failure::faults(&faults))?;
            output::print(&configuration.text)?;
        }
        ConfigCommand::Show(ShowArgs { file: None }) => output::print(&defaults())?,
        ConfigCommand::Schema => output::print(&format!("{:#}\n", reference::schema()))?,
    }
    Ok(ExitCode::SUCCESS)
}
