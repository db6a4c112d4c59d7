//! `kymo export`: series into a file, out of a data directory that a server may have open.

mod copy;
mod counted;
mod resumed;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use kymo_core::{Clock, Matcher, QueryContext, SystemClock};
use kymo_export::files::{ExportPlace, Exported, FileError, FileExport, FileFormat, export};
use kymo_query::parser::{ParseOptions, parse_metric_selector};

use self::copy::Copy;
use self::counted::Counted;
use crate::failure::Failure;
use crate::query::Moment;
use crate::verify::rate;

/// Write series into a file, whether a server has the data open or not
///
/// The data is exported as of the moment of the call. An export that broke off goes on where it was when the same command is
/// run again: until it is done there are FILE.part, FILE.checkpoint, and a copy of the data below its snapshots/. JSON lines hold everything, bit for bit, and are what `kymo import`
/// brings back unchanged. CSV and Parquet hold floats and staleness markers, OpenMetrics text floats only; what a form
/// cannot hold is counted and said. A kymo that was built with the feature parquet writes that; it is not read back.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo export --data-dir /var/lib/kymo all.jsonl
  kymo export --match '{job=\"node\"}' --start -1d --format openmetrics node.txt
  kymo export --match up --format csv - | head")]
pub(crate) struct ExportArgs {
    /// The file, which must not be there; - for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the data lives
    #[arg(long, env = "KYMO_DATA_DIR", hide_env_values = true, value_name = "DIR", default_value = "./kymo-data")]
    data_dir: PathBuf,
    /// Only series that this selector matches
    #[arg(long = "match", value_name = "SELECTOR", value_parser = selector)]
    matchers: Option<Selected>,
    /// First time [default: the oldest]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    start: Option<Moment>,
    /// Last time [default: the newest]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    end: Option<Moment>,
    /// Form of the file
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
}

/// A file of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A JSON object per line: everything, bit for bit.
    Jsonl,
    /// A sample per line.
    Csv,
    /// OpenMetrics 1.0 text.
    Openmetrics,
    /// Parquet, a row per float: of a kymo that was built with it.
    Parquet,
}

/// The matchers of a selector, and its text.
#[derive(Debug, Clone)]
struct Selected {
    text: String,
    matchers: Vec<Matcher>,
}

fn selector(text: &str) -> Result<Selected, String> {
    let matchers = parse_metric_selector(text, &ParseOptions::default()).map_err(|error| error.to_string())?;
    let matchers = matchers.into_iter().map(|m| Matcher::new(m.name, m.op, m.value).map_err(|error| error.to_string()));
    Ok(Selected { text: text.to_owned(), matchers: matchers.collect::<Result<_, _>>()? })
}

pub(crate) fn run(args: &ExportArgs) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let what = wanted(args)?;
    let done = if args.file == Path::new("-") { to_stdout(args, &what)? } else { Some(resumed::run(args, what)?) };
    if let Some(done) = done {
        say(&done, began);
    }
    Ok(ExitCode::SUCCESS)
}

/// What was written by this call, and in all.
struct Done {
    exported: Exported,
    samples: u64,
    bytes: u64,
}

/// What is asked for, now.
fn wanted(args: &ExportArgs) -> Result<FileExport, Failure> {
    let now_ms = SystemClock::new().now_ms();
    Ok(FileExport {
        matchers: args.matchers.clone().map(|selected| selected.matchers).unwrap_or_default(),
        start_ms: args.start.map_or(i64::MIN, |moment| moment.resolve(now_ms)),
        end_ms: args.end.map_or(i64::MAX, |moment| moment.resolve(now_ms)),
        format: match args.format {
            Format::Jsonl => FileFormat::JsonLines,
            Format::Csv => FileFormat::Csv,
            Format::Openmetrics => FileFormat::OpenMetrics,
            Format::Parquet => parquet()?,
        },
    })
}

#[cfg(feature = "parquet")]
fn parquet() -> Result<FileFormat, Failure> {
    Ok(FileFormat::Parquet)
}

#[cfg(not(feature = "parquet"))]
fn parquet() -> Result<FileFormat, Failure> {
    Err(Failure::new("this kymo cannot write Parquet: it was built without the feature parquet").hint(
        "build one with cargo build --release -p kymo --features parquet, or take --format csv, which holds the same",
    ))
}

fn cannot_write(args: &ExportArgs, error: &dyn std::error::Error) -> Failure {
    Failure::because(format_args!("cannot write {}", args.file.display()), error)
}

/// `None` if the reader has seen enough.
fn to_stdout(args: &ExportArgs, what: &FileExport) -> Result<Option<Done>, Failure> {
    let copy = Copy::take(&args.data_dir)?;
    let engine = copy.open()?;
    let mut out = Counted::new(io::stdout().lock(), 0, |_, _, _| Ok(()));
    let exported = export(&engine, what, &ExportPlace::default(), &mut out, &QueryContext::unlimited());
    drop(engine);
    copy.remove();
    match exported {
        Ok(exported) => Ok(Some(Done { exported, samples: exported.samples, bytes: out.bytes })),
        Err(FileError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(error) => Err(cannot_write(args, &error)),
    }
}

/// On standard error: standard output may be the file.
fn say(done: &Done, began: Instant) {
    let took = began.elapsed();
    let Exported { series, samples, left_out, exemplars } = done.exported;
    anstream::eprintln!(
        "exported {samples} samples and {exemplars} exemplars of {series} series, at {:.0} samples/s and {:.1} MB/s",
        rate(done.samples, took),
        rate(done.bytes, took) / 1e6,
    );
    if left_out > 0 {
        anstream::eprintln!("left out {left_out} samples that this form cannot hold; --format jsonl holds everything");
    }
}
