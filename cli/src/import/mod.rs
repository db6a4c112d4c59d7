//! `kymo import`: files of samples, or a Prometheus' data directory, into a data directory or a server.

mod course;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use kymo_core::text::parse_duration_ms;
use kymo_core::{AppendReport, MetricStorage, QueryContext, SampleBatch};
use kymo_export::client::{ClientOptions, PrometheusClient};
use kymo_ingest::import::{self, ImportError, Imported, Place};
use kymo_storage::fs::RealFs;
use kymo_storage::{Engine, Lane, MaintainLimit, Options, RetentionPolicy};
use tokio::runtime::Runtime;

use self::course::{Course, Reached, Target};
use crate::failure::Failure;
use crate::output;
use crate::progress::Progress;
use crate::query::bearer;
use crate::serve::refused;
use crate::verify::rate;

/// Bring samples in from files, or everything from a Prometheus
///
/// Samples of any age are taken, in any order, into a data directory that no server has open, or, with --server, into a
/// running server. An import that broke off goes on where it was when the same command is run again, if its files have not
/// changed; a sample that is there already is not stored again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo import prometheus /var/lib/prometheus --data-dir /var/lib/kymo
  kymo import jsonl all.jsonl --server http://127.0.0.1:9911
  zcat old.csv.gz | kymo import csv -")]
pub(crate) struct ImportArgs {
    /// What it is
    #[arg(value_enum)]
    kind: Kind,
    /// The files, or the directory of the Prometheus; - for standard input
    #[arg(value_name = "FILE", required = true)]
    from: Vec<PathBuf>,
    /// Where the data is to live
    #[arg(long, env = "KYMO_DATA_DIR", hide_env_values = true, value_name = "DIR", default_value = "./kymo-data")]
    data_dir: PathBuf,
    /// Send it to this server, by remote write 2.0
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    server: Option<String>,
    /// File with the bearer token that the server asks for
    #[arg(long, env = "KYMO_AUTH_TOKEN_FILE", hide_env_values = true, value_name = "FILE", requires = "server")]
    auth_token_file: Option<PathBuf>,
    /// Leave out what is older than this [default: nothing]
    #[arg(long, value_name = "DURATION", conflicts_with = "server", value_parser = duration)]
    retention: Option<Duration>,
    /// Where it is kept how far the import came [default: in the data directory; with --server, beside the first file]
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// By when the server has synced what it acknowledged, and an import that breaks off can go on behind it
    #[arg(long, value_name = "DURATION", requires = "server", default_value = "5s", value_parser = pause)]
    synced_after: Duration,
    /// Begin at the beginning, even if this import broke off before
    #[arg(long)]
    restart: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    match pause(text) {
        Ok(Duration::ZERO) => Err("a retention is longer than nothing".to_owned()),
        other => other,
    }
}

fn pause(text: &str) -> Result<Duration, String> {
    let ms = parse_duration_ms(text).map_err(|error| error.to_string())?;
    u64::try_from(ms).map(Duration::from_millis).map_err(|_| "a time is not negative".to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// The data directory of a Prometheus that is stopped, or one of its snapshots.
    Prometheus,
    /// JSON lines, as `kymo export` and VictoriaMetrics write them.
    Jsonl,
    /// CSV with a header that names timestamp, value, and series or labels.
    Csv,
    /// OpenMetrics text with timestamps.
    Openmetrics,
}

/// What became of the samples.
#[derive(Debug, Default)]
struct Tally {
    stored: u64,
    identical: u64,
    replaced: u64,
    /// Refused, by reason.
    refused: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, report: &AppendReport) {
        self.stored += report.stored.samples();
        self.identical += report.identical.samples();
        self.replaced += report.replaced.samples();
        for (_, reason) in &report.rejected {
            *self.refused.entry(reason.describe().to_owned()).or_default() += 1;
        }
    }
}

pub(crate) fn run(args: &ImportArgs) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let (imported, tally, bytes) = match &args.server {
        Some(server) => into_server(args, server)?,
        None => into_directory(args)?,
    };
    let took = began.elapsed();
    let mut text = format!(
        "imported {} samples and {} exemplars at {:.0} samples/s and {:.1} MB/s: {} stored, {} already there, {} replaced\n",
        imported.samples,
        imported.exemplars,
        rate(imported.samples, took),
        rate(bytes, took) / 1e6,
        tally.stored,
        tally.identical,
        tally.replaced,
    );
    for (reason, count) in &tally.refused {
        text.push_str(&format!("{count} not stored: {reason}\n"));
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn into_directory(args: &ImportArgs) -> Result<(Imported, Tally, u64), Failure> {
    let dir = &args.data_dir;
    // Rollups that are there stay, whatever the server is told to keep of them.
    let (five_minutes, one_hour) = (Some(Duration::MAX), Some(Duration::MAX));
    let retention = RetentionPolicy { five_minutes, one_hour, ..RetentionPolicy::of_age(args.retention) };
    let options = Options { retention, ..Options::default() };
    let opened = Engine::open(Arc::new(RealFs), dir, options);
    let (engine, _) = opened.map_err(|error| match error {
        kymo_storage::StorageError::Locked { .. } => {
            refused(dir, &error).hint("a server uses it: send the samples to that server with --server URL")
        }
        error => refused(dir, &error),
    })?;
    let mut tally = Tally::default();
    let mut report = AppendReport::default();
    let mut course = Course::begin(args, Target::Directory(dir))?;
    let mut take = |batch: &SampleBatch, reached: Reached, course: &mut Course| {
        engine.append_into(batch, &mut report)?;
        tally.add(&report);
        engine.maintain(Lane::Flush, MaintainLimit::default())?;
        course.reached(reached, || Ok::<(), TakeError>(engine.sync_now()?))
    };
    let read = read_all(args, &mut course, &mut take);
    // What was read before a fault stays.
    let closed = engine.close();
    let cannot =
        |error: &dyn std::error::Error| Failure::because(format_args!("cannot write {}", dir.display()), error);
    course.end(read.is_ok() && closed.is_ok(), closed.is_ok()).map_err(|error| cannot(&error))?;
    let (imported, bytes) = read?;
    closed.map_err(|error| cannot(&error))?;
    Ok((imported, tally, bytes))
}

fn into_server(args: &ImportArgs, server: &str) -> Result<(Imported, Tally, u64), Failure> {
    let runtime = Runtime::new().map_err(|error| Failure::because("cannot start the async threads", &error))?;
    let mut options = ClientOptions::new(server);
    options.http.authorization = args.auth_token_file.as_deref().map(bearer).transpose()?;
    let client = PrometheusClient::new(options, runtime.handle().clone())
        .map_err(|error| Failure::because("cannot ask the server", &error))?;
    let mut tally = Tally::default();
    let ctx = QueryContext::unlimited();
    let mut take = |batch: &SampleBatch, reached: Reached, course: &mut Course| {
        let written = client.write(batch, &ctx)?;
        // Which of them were there before, the server does not tell.
        tally.stored += written.written;
        if let Some(reason) = written.reason {
            *tally.refused.entry(format!("the server says: {reason}")).or_default() += written.refused;
        }
        course.reached(reached, || Ok::<(), TakeError>(()))
    };
    let mut course = Course::begin(args, Target::Server(server))?;
    let read = read_all(args, &mut course, &mut take);
    course.end(read.is_ok(), false).map_err(|error| Failure::because("cannot end the import", &error))?;
    let (imported, bytes) = read?;
    Ok((imported, tally, bytes))
}

type TakeError = Box<dyn std::error::Error + Send + Sync>;
/// Takes a batch, everything before which was taken, and books it.
type Take<'a> = dyn FnMut(&SampleBatch, Reached, &mut Course) -> Result<(), TakeError> + 'a;

/// Reads every file from where the course begins; gives what was read, and how many bytes.
fn read_all(args: &ImportArgs, course: &mut Course, take: &mut Take<'_>) -> Result<(Imported, u64), Failure> {
    let (mut all, mut bytes) = (Imported::default(), 0);
    let begin = course.begin.clone();
    for (number, from) in args.from.iter().enumerate().skip(begin.file) {
        let begin = if number == begin.file { begin.place.clone() } else { Place::default() };
        let cannot = |error: ImportError| {
            let failure = Failure::because(format_args!("cannot import {}", from.display()), &error);
            match error {
                ImportError::Store { .. } => failure.hint("what was read until then is stored; run it again to go on"),
                ImportError::Malformed { .. } if args.kind != Kind::Prometheus => {
                    failure.hint("what stands before is stored; mend the file and run it again")
                }
                _ => failure,
            }
        };
        let mut sink =
            |batch: &SampleBatch, place: &Place| take(batch, Reached { file: number, place: place.clone() }, course);
        // Bytes that were gone through before this began, and until now.
        let (mut first, mut read) = (None, 0);
        let imported = if args.kind == Kind::Prometheus {
            let progress = Progress::bytes("importing");
            import::prometheus::data_directory(from, &begin, &mut sink, &mut |done, total| {
                first.get_or_insert(done);
                read = done;
                progress.at(done, total);
            })
        } else {
            let (mut file, total) = open(from, begin.bytes())?;
            let progress = Progress::bytes("importing");
            let progress = &mut |done: u64| {
                first.get_or_insert(done);
                read = done;
                progress.at(done, total.max(done));
            };
            match args.kind {
                Kind::Jsonl => import::json_lines(&mut *file, &begin, &mut sink, progress),
                Kind::Csv => import::csv(&mut *file, &begin, &mut sink, progress),
                Kind::Openmetrics | Kind::Prometheus => import::open_metrics(&mut *file, &begin, &mut sink, progress),
            }
        };
        let imported = imported.map_err(cannot)?;
        all.samples += imported.samples;
        all.exemplars += imported.exemplars;
        bytes += read - first.unwrap_or(read);
        course.ended(number);
    }
    Ok((all, bytes))
}

/// A file behind its first bytes, and its length.
fn open(path: &Path, skipped: u64) -> Result<(Box<dyn BufRead>, u64), Failure> {
    if path == Path::new("-") {
        return Ok((Box::new(BufReader::with_capacity(1 << 20, io::stdin())), 0));
    }
    let cannot = |error| Failure::because(format_args!("cannot read {}", path.display()), &error);
    let mut file = File::open(path).map_err(cannot)?;
    file.seek(SeekFrom::Start(skipped)).map_err(cannot)?;
    let len = file.metadata().map_err(cannot)?.len();
    Ok((Box::new(BufReader::with_capacity(1 << 20, file)), len))
}
