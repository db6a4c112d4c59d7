//! `kymo delete`: series taken away in a range of time, by the server that has them or in a directory of one's own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kymo::config::selector;
use kymo_core::{Clock, Deletion, Matcher, QueryContext, SystemClock};
use kymo_export::api::{CleanFigures, DeleteFigures};
use kymo_storage::DeleteReport;
use serde_json::json;

use crate::administer::{self, Administered, size};
use crate::failure::{Failure, chain};
use crate::output::{self, Form};
use crate::query::Moment;

/// Delete series, or a range of time of them
///
/// Hides at once what was written until now, and keeps what is written later. Bytes come back with the next merge, or at once
/// with --clean. A server must have been started with --enable-admin-api; a directory must not be in use.
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  kymo delete '{job=\"debug\"}' --dry-run
  kymo delete '{job=\"debug\"}' --end -7d --clean
  kymo delete http_requests_total '{__name__=~\"tmp_.*\"}' --start 2026-11-20T00:00:00Z --end 2026-11-20T06:00:00Z
  kymo delete up --data-dir /var/lib/kymo

A series is deleted if any of the selectors matches it. Times are as in kymo query; both ends are included."
)]
pub(crate) struct DeleteArgs {
    /// Which series
    #[arg(value_name = "SELECTOR", required = true)]
    selectors: Vec<String>,
    /// Address of the server
    #[arg(
        long,
        env = "KYMO_SERVER",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:9911",
        conflicts_with = "data_dir"
    )]
    server: String,
    /// File with the bearer token that the server asks for
    #[arg(long, env = "KYMO_AUTH_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,
    /// Delete in this data directory, which no server has open
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// First time to delete [default: the beginning]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    start: Option<Moment>,
    /// Last time to delete [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    end: Option<Moment>,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Give the bytes back before it returns
    #[arg(long, conflicts_with = "dry_run")]
    clean: bool,
    /// Form of the figures
    #[arg(long, short, env = "KYMO_OUTPUT", hide_env_values = true, value_enum, default_value_t = Form::Table)]
    output: Form,
}

pub(crate) fn run(args: &DeleteArgs) -> Result<ExitCode, Failure> {
    let what = deletion(args)?;
    let (took, gave_back) = match &args.data_dir {
        Some(dir) => in_directory(dir, &what, args)?,
        None => by_server(&what, args)?,
    };
    output::print(&rendered(args, took, gave_back))?;
    Ok(ExitCode::SUCCESS)
}

/// What is asked for; checked here, so that a mistake is told with its place whoever is asked.
fn deletion(args: &DeleteArgs) -> Result<Deletion, Failure> {
    let matchers = |text: &String| -> Result<Vec<Matcher>, Failure> {
        selector(text).map_err(|reason| Failure::usage(reason).hint("give a selector like '{job=\"debug\"}'"))
    };
    let now_ms = SystemClock::new().now_ms();
    let what = Deletion {
        any_of: args.selectors.iter().map(matchers).collect::<Result<_, _>>()?,
        start_ms: args.start.map_or(i64::MIN, |start| start.resolve(now_ms)),
        end_ms: args.end.map_or(i64::MAX, |end| end.resolve(now_ms)),
    };
    if what.end_ms < what.start_ms {
        return Err(Failure::usage("--end lies before --start").hint("give a later --end, or leave it out"));
    }
    Ok(what)
}

fn by_server(what: &Deletion, args: &DeleteArgs) -> Result<(DeleteFigures, Option<CleanFigures>), Failure> {
    let server = Administered::new(&args.server, args.auth_token_file.as_deref())?;
    let mut params: Vec<(&str, String)> = args.selectors.iter().map(|text| ("match[]", text.clone())).collect();
    let seconds = |ms: i64| format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000));
    params.extend(args.start.map(|_| ("start", seconds(what.start_ms))));
    params.extend(args.end.map(|_| ("end", seconds(what.end_ms))));
    params.push((if args.dry_run { "dry_run" } else { "report" }, "true".to_owned()));
    let took = server.ask("delete anything", |client, ctx| client.administer("delete_series", &params, ctx))?;
    let report = [("report", "true".to_owned())];
    let clean = || server.ask("give the bytes back", |client, ctx| client.administer("clean_tombstones", &report, ctx));
    Ok((took, args.clean.then(clean).transpose()?))
}

fn in_directory(
    dir: &Path,
    what: &Deletion,
    args: &DeleteArgs,
) -> Result<(DeleteFigures, Option<CleanFigures>), Failure> {
    let engine = administer::open(dir)?;
    let failed =
        |error: &dyn std::error::Error| Failure::new(format!("cannot delete in {}: {}", dir.display(), chain(error)));
    let measured = engine.measure_delete(what, &QueryContext::unlimited()).map_err(|error| failed(&error))?;
    let took = figures(measured);
    if args.dry_run {
        return Ok((took, None));
    }
    engine.delete(what).map_err(|error| failed(&error))?;
    let clean = || engine.clean_tombstones(|| true).map_err(|error| failed(&error));
    let cleaned = args.clean.then(clean).transpose()?;
    engine.close().map_err(|error| failed(&error))?;
    Ok((took, cleaned.map(|cleaned| CleanFigures { blocks: cleaned.blocks, bytes: cleaned.bytes })))
}

/// What the engine counted, as it is told.
pub(crate) fn figures(measured: DeleteReport) -> DeleteFigures {
    let DeleteReport { series, samples, buckets, bytes } = measured;
    DeleteFigures { series, samples, buckets, bytes }
}

/// Samples, and buckets of rollups where there are any.
pub(crate) fn counted(figures: &DeleteFigures) -> String {
    match figures.buckets {
        0 => format!("{} samples", figures.samples),
        buckets => format!("{} samples, {buckets} buckets of rollups", figures.samples),
    }
}

fn rendered(args: &DeleteArgs, took: DeleteFigures, gave_back: Option<CleanFigures>) -> String {
    let DeleteFigures { series, samples, buckets, bytes } = took;
    match args.output {
        Form::Json => format!("{}\n", json!({"dryRun": args.dry_run, "deleted": took, "cleaned": gave_back})),
        Form::Csv => {
            let freed = gave_back.map(|gave_back| gave_back.bytes.to_string()).unwrap_or_default();
            format!("series,samples,buckets,value_bytes,freed_bytes\n{series},{samples},{buckets},{bytes},{freed}\n")
        }
        Form::Table => {
            let does = if args.dry_run { "would be deleted" } else { "deleted" };
            let mut text = format!("{series} series, {}, {} of values {does}\n", counted(&took), size(bytes));
            if let Some(CleanFigures { blocks, bytes }) = gave_back {
                text += &format!("{blocks} blocks written anew, {} given back\n", size(bytes));
            }
            text
        }
    }
}
