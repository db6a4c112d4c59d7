//! The program's log: events of all crates, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;

use crate::failure::Failure;

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Logging")]
pub(crate) struct LogArgs {
    /// Least severe events that are logged
    #[arg(long, global = true, env = "KYMO_LOG_LEVEL", hide_env_values = true, value_name = "LEVEL")]
    #[arg(value_enum, default_value_t = Level::Info)]
    log_level: Level,
    /// Form of the log on standard error
    #[arg(long, global = true, env = "KYMO_LOG_FORMAT", hide_env_values = true, value_name = "FORMAT")]
    #[arg(value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A line of text per event.
    Text,
    /// A JSON object per event and line.
    Json,
}

/// Sends the events of this process to standard error. Called once.
pub(crate) fn start(args: &LogArgs) -> Result<(), Failure> {
    let level = match args.log_level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    let started = match args.log_format {
        Format::Text => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::because("cannot start the log", error.as_ref()))
}
