//! `kymo verify`: a data directory or a snapshot checked, in use or not.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kymo_core::text::write_size_rounded;
use kymo_storage::fs::RealFs;
use kymo_storage::{Depth, StorageError, VerifyReport, verify};
use serde_json::json;

use crate::failure::Failure;
use crate::output;
use crate::progress::Progress;

/// Exit status when there are faults.
const FAULTY: u8 = 3;

/// Check a data directory or a snapshot: every checksum, every reference, every order
///
/// Nothing is changed, locked or waited for: a server may have the directory open. Each fault is told with its file, byte
/// and, where it is one series' samples, series.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo verify /var/lib/kymo
  kymo verify --deep /backup/kymo-2026-11-21
  kymo verify --output json /var/lib/kymo | jq .faults

Exit status: 0 when everything is sound, 1 when it could not be checked, 3 when there are faults.")]
pub(crate) struct VerifyArgs {
    /// The data directory, or a snapshot of one
    #[arg(env = "KYMO_DATA_DIR", hide_env_values = true, value_name = "DIR", default_value = "./kymo-data")]
    dir: PathBuf,
    /// Decode every sample, too
    #[arg(long)]
    deep: bool,
    /// Form of what is found
    #[arg(long, short, env = "KYMO_OUTPUT", hide_env_values = true, value_enum, default_value_t = Form::Table)]
    output: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
}

pub(crate) fn run(args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let depth = if args.deep { Depth::Samples } else { Depth::Structure };
    let began = Instant::now();
    let report = {
        let progress = Progress::bytes("verifying");
        verify(&RealFs, &args.dir, depth, &mut |done, total| progress.at(done, total))
    };
    let report = report.map_err(|error| refused(args, &error))?;
    output::print(&match args.output {
        Form::Table => table(&report, began.elapsed()),
        Form::Json => format!("{:#}\n", json(&report)),
    })?;
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(FAULTY) })
}

fn refused(args: &VerifyArgs, error: &StorageError) -> Failure {
    let failure = Failure::because(format_args!("cannot check {}", args.dir.display()), error);
    match error {
        StorageError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            failure.hint("name a directory that kymo serve has written, or a snapshot")
        }
        StorageError::NewerVersion { .. } => failure.hint("check it with the newer kymo that wrote it"),
        _ => failure,
    }
}

/// A size, rounded, with its unit.
pub(crate) fn size(bytes: u64) -> String {
    let mut text = String::new();
    write_size_rounded(&mut text, bytes);
    text
}

/// So much a second.
pub(crate) fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-6)
}

fn table(report: &VerifyReport, took: Duration) -> String {
    let mut text = String::new();
    for fault in &report.faults {
        let _ = writeln!(text, "fault: {fault}");
    }
    let untold = report.fault_count - report.faults.len() as u64;
    if untold > 0 {
        let _ = writeln!(text, "and {untold} more faults");
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let state = match report.fault_count {
        0 => "sound".to_owned(),
        1 => "1 fault".to_owned(),
        count => format!("{count} faults"),
    };
    let _ = writeln!(
        text,
        "{state}: {} blocks with {} samples of {} series, {} log files with {} samples in {} frames; {} at {:.0} MB/s",
        report.blocks,
        report.samples,
        report.series,
        report.segments,
        report.log_samples,
        report.frames,
        size(report.bytes),
        rate(report.bytes, took) / 1e6,
    );
    text
}

fn json(report: &VerifyReport) -> serde_json::Value {
    let fault = |fault: &kymo_storage::Fault| {
        json!({
            "file": fault.path.display().to_string(),
            "offset": fault.offset,
            "series": fault.series.as_ref().map(ToString::to_string),
            "what": fault.what,
        })
    };
    json!({
        "sound": report.is_sound(),
        "blocks": report.blocks,
        "series": report.series,
        "samples": report.samples,
        "segments": report.segments,
        "frames": report.frames,
        "logSamples": report.log_samples,
        "bytes": report.bytes,
        "faultCount": report.fault_count,
        "faults": report.faults.iter().map(fault).collect::<Vec<_>>(),
        "notes": report.notes,
    })
}
