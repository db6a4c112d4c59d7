//! `kymo query`: one expression over any Prometheus API.

mod csv;
mod excerpt;
mod json;
mod plan;
mod plot;
mod remote;
mod table;
mod time;

use std::process::ExitCode;

use kymo_core::histogram::HistogramCounts;
use kymo_core::query::{Annotations, Grid, PointValue, QueryError, QueryRequest};
use kymo_core::storage::Tier;
use kymo_core::text::{FloatText, write_rfc3339};
use kymo_core::{Clock, ErrorKind, NativeHistogram, SystemClock};

use crate::failure::{FAILED, Failure};
use crate::output::{self, Form};

pub(crate) use remote::bearer;
use remote::{Remote, RemoteArgs};
pub(crate) use time::Moment;
use time::Step;

/// Points of a range query that names no step: enough for a chart on a screen.
const DEFAULT_POINTS: i64 = 250;

/// Ask a question in PromQL, of Kymo or any server with a Prometheus API
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  kymo query up
  kymo query 'sum by (mode) (rate(node_cpu_seconds_total[1m]))' --time -5m
  kymo query 'rate(http_requests_total[5m])' --start -1h --step 1m --output csv
  kymo query --explain 'sum(rate(http_requests_total[5m]))'
  kymo query 'rate(http_requests_total[5m])' --start -6h --plot
  kymo query 'max_over_time(up[1h])' --start -365d --step 1h --tier 1h
  kymo query up --server https://prometheus.example.com

Times are `now`, relative (`-1h`, `now-90s`), RFC 3339, or seconds since 1970."
)]
pub(crate) struct QueryArgs {
    /// The PromQL expression
    #[arg(value_name = "EXPR")]
    expression: String,
    #[command(flatten)]
    remote: RemoteArgs,
    /// When to evaluate it, once [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with_all = ["start", "end", "step"])]
    time: Option<Moment>,
    /// First time of a range of evaluations
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    start: Option<Moment>,
    /// Last time of the range [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, requires = "start")]
    end: Option<Moment>,
    /// Distance of the evaluations: a duration, or seconds [default: a 250th of the range, at least 1s]
    #[arg(long, value_name = "DURATION", requires = "start")]
    step: Option<Step>,
    /// What is to answer: `raw`, as samples were written, rollups of `5m` or `1h`, or `auto`, the finest there is
    #[arg(long, value_name = "TIER", default_value = "auto", value_parser = tier)]
    tier: AskedTier,
    /// Show the plan as a tree, with what it was expected to cost and what it did, in the place of the answer
    #[arg(long)]
    explain: bool,
    /// Draw the range as a chart, once, as wide as the terminal
    #[arg(long, requires = "start", conflicts_with_all = ["explain", "output"])]
    plot: bool,
    /// A logarithmic scale for the chart
    #[arg(long, requires = "plot")]
    log: bool,
    /// Form of the answer
    #[arg(long, short, env = "KYMO_OUTPUT", hide_env_values = true, value_enum, default_value_t = Form::Table)]
    output: Form,
}

/// What is to answer; `None` leaves the choice to the server.
#[derive(Debug, Clone, Copy)]
struct AskedTier(Option<Tier>);

fn tier(text: &str) -> Result<AskedTier, String> {
    match text {
        "auto" => Ok(AskedTier(None)),
        text => text.parse().map(|tier| AskedTier(Some(tier))).map_err(|_| "expected raw, 5m, 1h or auto".to_owned()),
    }
}

pub(crate) fn run(args: &QueryArgs) -> Result<ExitCode, Failure> {
    let request = QueryRequest {
        explain: args.explain,
        // A person wonders at an empty answer.
        explain_empty: true,
        tier: args.tier.0,
        ..QueryRequest::new(&*args.expression, grid(args)?)
    };
    let remote = Remote::new(&args.remote)?;
    let answer = remote.query(&request).and_then(|mut result| {
        let remarks = std::mem::take(&mut result.annotations);
        let text = match (args.output, &result.plan) {
            _ if args.plot => plot::render(&request, &result, args.log),
            (Form::Table, Some(plan)) => plan::render(plan),
            (Form::Table, None) if args.explain => {
                let text = "the server tells no plan: it is not Kymo, or an older one";
                return Err(QueryError::execute(ErrorKind::Invalid, text));
            }
            (Form::Table, None) => table::render(&result.value),
            (Form::Csv, _) => csv::render(&result.value),
            (Form::Json, _) => json::render(remote.runtime(), result)?,
        };
        Ok((text, remarks))
    });
    match answer {
        Ok((text, Annotations { warnings, infos })) => {
            output::print(&text)?;
            for warning in warnings {
                anstream::eprintln!("\x1b[1;33mwarning\x1b[0m: {warning}");
            }
            for info in infos {
                anstream::eprintln!("\x1b[1;36minfo\x1b[0m: {info}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => refused(&args.expression, &error),
    }
}

/// Says why there is no answer, with the place in the expression where there is one.
fn refused(expression: &str, error: &QueryError) -> Result<ExitCode, Failure> {
    match excerpt::render(expression, error) {
        Some(excerpt) => {
            anstream::eprintln!("{excerpt}");
            Ok(ExitCode::from(FAILED))
        }
        None => {
            let failure = Failure::new(error.to_string());
            Err(match remote::hint(error) {
                Some(hint) => failure.hint(hint),
                None => failure,
            })
        }
    }
}

fn grid(args: &QueryArgs) -> Result<Grid, Failure> {
    let now_ms = SystemClock::new().now_ms();
    let resolve = |moment: Option<Moment>| moment.unwrap_or(Moment::FromNow(0)).resolve(now_ms);
    let Some(start) = args.start else {
        return Ok(Grid::Instant { at_ms: resolve(args.time) });
    };
    let (start_ms, end_ms) = (start.resolve(now_ms), resolve(args.end));
    let length_ms = end_ms.saturating_sub(start_ms);
    if length_ms < 0 {
        return Err(Failure::usage("--end lies before --start")
            .hint("give a later --end, or leave it out for a range that ends now"));
    }
    let step_ms = args.step.map_or_else(|| (length_ms / DEFAULT_POINTS / 1000 * 1000).max(1000), |Step(ms)| ms);
    Ok(Grid::Range { start_ms, end_ms, step_ms })
}

fn time_text(time_ms: i64) -> String {
    let mut text = String::new();
    write_rfc3339(&mut text, time_ms);
    text
}

fn scalar_text(value: f64) -> String {
    FloatText::json(value).as_str().to_owned()
}

/// A float as the API prints it; of a histogram the totals.
fn point_text(value: PointValue<'_>) -> String {
    match value {
        PointValue::Float(value) => scalar_text(value),
        PointValue::Histogram(histogram) => histogram_text(histogram),
    }
}

/// `count 12, sum 3.4, 5 buckets`: buckets are those that hold something.
fn histogram_text(histogram: &NativeHistogram) -> String {
    let buckets = match &histogram.counts {
        HistogramCounts::Integer(counts) => {
            [counts.zero].iter().chain(&counts.positive).chain(&counts.negative).filter(|count| **count != 0).count()
        }
        HistogramCounts::Float(counts) => {
            [counts.zero].iter().chain(&counts.positive).chain(&counts.negative).filter(|count| **count != 0.0).count()
        }
    };
    let (count, sum) = (scalar_text(histogram.counts.count()), scalar_text(histogram.sum));
    format!("count {count}, sum {sum}, {buckets} buckets")
}
