//! `kymo export`: series into a file, out of a data directory that a server may have open.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use kymo_core::{Clock, Matcher, QueryContext, SystemClock};
use kymo_export::files::{Exported, FileError, FileExport, FileFormat, export};
use kymo_query::parser::{ParseOptions, parse_metric_selector};
use kymo_storage::fs::RealFs;
use kymo_storage::{Engine, Options, SnapshotExtent, snapshot};

use crate::failure::{Failure, chain};
use crate::progress::Progress;
use crate::query::Moment;
use crate::verify::rate;

/// Write series into a file, whether a server has the data open or not
///
/// The data is exported as of the moment of the call. JSON lines hold everything, bit for bit, and are what `kymo import`
/// brings back unchanged. CSV holds floats and staleness markers, OpenMetrics text floats only; what a form cannot
/// hold is counted and said.
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
}

/// The matchers of a selector.
#[derive(Debug, Clone)]
struct Selected(Vec<Matcher>);

fn selector(text: &str) -> Result<Selected, String> {
    let matchers = parse_metric_selector(text, &ParseOptions::default()).map_err(|error| error.to_string())?;
    let matchers = matchers.into_iter().map(|m| Matcher::new(m.name, m.op, m.value).map_err(|error| error.to_string()));
    matchers.collect::<Result<_, _>>().map(Selected)
}

pub(crate) fn run(args: &ExportArgs) -> Result<ExitCode, Failure> {
    let now_ms = SystemClock::new().now_ms();
    let what = FileExport {
        matchers: args.matchers.clone().map(|selected| selected.0).unwrap_or_default(),
        start_ms: args.start.map_or(i64::MIN, |moment| moment.resolve(now_ms)),
        end_ms: args.end.map_or(i64::MAX, |moment| moment.resolve(now_ms)),
        format: match args.format {
            Format::Jsonl => FileFormat::JsonLines,
            Format::Csv => FileFormat::Csv,
            Format::Openmetrics => FileFormat::OpenMetrics,
        },
    };
    let began = Instant::now();
    let copy = Copy::take(&args.data_dir)?;
    let engine = copy.open()?;
    let is_stdout = args.file == Path::new("-");
    let cannot =
        |error: &dyn std::error::Error| Failure::because(format_args!("cannot write {}", args.file.display()), error);
    let out: Box<dyn Write> = if is_stdout {
        Box::new(io::stdout().lock())
    } else {
        Box::new(fs::File::create_new(&args.file).map_err(|error| cannot(&error))?)
    };
    let mut out = Counting { out: BufWriter::with_capacity(1 << 20, out), bytes: 0 };
    let exported = {
        let progress = Progress::samples("exporting");
        export(&engine, &what, &mut out, &QueryContext::unlimited(), &mut |samples| progress.done(samples))
    };
    let exported = match exported {
        // A reader that has seen enough.
        Err(FileError::Write(error)) if is_stdout && error.kind() == io::ErrorKind::BrokenPipe => {
            return Ok(ExitCode::SUCCESS);
        }
        exported => exported.map_err(|error| cannot(&error))?,
    };
    drop(engine);
    say(&exported, out.bytes, began);
    Ok(ExitCode::SUCCESS)
}

/// On standard error: standard output may be the file.
fn say(exported: &Exported, bytes: u64, began: Instant) {
    let took = began.elapsed();
    let Exported { series, samples, left_out, exemplars } = exported;
    anstream::eprintln!(
        "exported {samples} samples and {exemplars} exemplars of {series} series, at {:.0} samples/s and {:.1} MB/s",
        rate(*samples, took),
        rate(bytes, took) / 1e6,
    );
    if *left_out > 0 {
        anstream::eprintln!("left out {left_out} samples that this form cannot hold; --format jsonl holds everything");
    }
}

/// A snapshot that goes away with its name.
struct Copy {
    path: PathBuf,
}

impl Copy {
    fn take(data_dir: &Path) -> Result<Copy, Failure> {
        let refused = |error: &dyn std::error::Error| {
            Failure::because(format_args!("cannot read {}", data_dir.display()), error)
                .hint("name a directory that kymo serve has written with --data-dir")
        };
        if !data_dir.join("MANIFEST").is_file() {
            return Err(Failure::new(format!("{} is no data directory", data_dir.display()))
                .hint("name one that kymo serve has written with --data-dir"));
        }
        let folder = data_dir.join("snapshots");
        fs::create_dir_all(&folder).map_err(|error| refused(&error))?;
        let path = folder.join(format!("export-{}", std::process::id()));
        snapshot(&RealFs, data_dir, &path, SnapshotExtent::Everything).map_err(|error| refused(&error))?;
        Ok(Copy { path })
    }

    fn open(&self) -> Result<Engine, Failure> {
        // What is kept is for the server to say; the copy is not written to.
        let options =
            Options { retention: kymo_storage::RetentionPolicy::of_age(None), reserve_bytes: 0, ..Options::default() };
        let opened = Engine::open(Arc::new(RealFs), &self.path, options);
        let (engine, _) =
            opened.map_err(|error| Failure::new(format!("cannot open a copy of the data: {}", chain(&error))))?;
        Ok(engine)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a copy made for the export could not be removed");
        }
    }
}

/// Counts what is written.
struct Counting<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
