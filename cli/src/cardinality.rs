//! `kymo cardinality`: which metrics, labels, values and jobs a server's series are of.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use kymo_core::QueryContext;
use kymo_export::client::{ClientOptions, PrometheusClient};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::failure::Failure;
use crate::output;
use crate::query::bearer;

/// Show what a server's series are of, and how many come and go
///
/// Of series with a sample in the last hour. How many values a label has is estimated within some percent, and so are counts
/// of metrics, jobs and pairs where there are very many of them; born and gone are series with a sample in one of two hours only.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo cardinality
  kymo cardinality --match '{job=\"node\"}' --limit 20
  kymo cardinality --hours 24 --output json | jq .hours")]
pub(crate) struct CardinalityArgs {
    /// Address of the server
    #[arg(
        long,
        env = "KYMO_SERVER",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:9911"
    )]
    server: String,
    /// File with the bearer token that the server asks for
    #[arg(long, env = "KYMO_AUTH_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,
    /// Only series that this selector matches
    #[arg(long = "match", value_name = "SELECTOR")]
    matchers: Option<String>,
    /// Entries of each list
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    limit: u32,
    /// Hours whose growth and churn are shown
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    hours: u32,
    /// Form of the answer
    #[arg(long, short, env = "KYMO_OUTPUT", hide_env_values = true, value_enum, default_value_t = Form::Table)]
    output: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people.
    Table,
    /// As the HTTP API's `data`.
    Json,
}

const LISTS: [(&str, &str); 5] = [
    ("seriesCountByMetricName", "metric"),
    ("seriesCountByJob", "job"),
    ("labelValueCountByLabelName", "label, by its values"),
    ("seriesCountByLabelValuePair", "label and value"),
    ("growthByMetricName", "metric, by what it grew in the last hour"),
];

pub(crate) fn run(args: &CardinalityArgs) -> Result<ExitCode, Failure> {
    let runtime = Runtime::new().map_err(|error| Failure::because("cannot start the async threads", &error))?;
    let mut options = ClientOptions::new(&*args.server);
    options.http.authorization = args.auth_token_file.as_deref().map(bearer).transpose()?;
    let client = PrometheusClient::new(options, runtime.handle().clone())
        .map_err(|error| Failure::because("cannot ask the server", &error))?;
    let mut params = vec![("limit", args.limit.to_string()), ("hours", args.hours.to_string())];
    params.extend(args.matchers.iter().map(|selector| ("match[]", selector.clone())));
    let data = client.cardinality(&params, &QueryContext::unlimited()).map_err(|error| {
        Failure::new(format!("{} does not tell: {}", args.server, error.message))
            .hint("is it a Kymo, and running? Name another server with --server URL")
    })?;
    if args.output == Form::Json {
        output::print(&format!("{data:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&table(&data))?;
    Ok(ExitCode::SUCCESS)
}

fn table(data: &Value) -> String {
    let mut text = format!("{} series in the last hour, {} known to the head", data["series"], data["activeSeries"]);
    if let Some(limit) = data["seriesLimit"].as_u64() {
        let _ = write!(text, " of {limit} at most");
    }
    text.push('\n');
    if let Some(refused) = data["refusedSamples"].as_array().filter(|refused| !refused.is_empty()) {
        let _ = writeln!(text, "\n  refused  by a limit of series or labels since the start: metric, label");
        for row in refused {
            let [metric, label] = ["metric", "label"].map(|key| row[key].as_str().unwrap_or_default());
            let _ = writeln!(text, "{:>9}  {metric}, {label}", number(&row["samples"]));
        }
    }
    for (key, title) in LISTS {
        let _ = writeln!(text, "\n   series  {title}");
        for row in data[key].as_array().into_iter().flatten() {
            let _ = writeln!(text, "{:>9}  {}", number(&row["value"]), row["name"].as_str().unwrap_or_default());
        }
    }
    let _ = writeln!(text, "\n   series     born     gone  hour before");
    for hour in data["hours"].as_array().into_iter().flatten() {
        let mut end = String::new();
        kymo_core::text::write_rfc3339(&mut end, (hour["end"].as_f64().unwrap_or(0.0) * 1000.0) as i64);
        let [series, born, gone] = ["series", "born", "gone"].map(|key| number(&hour[key]));
        let _ = writeln!(text, "{series:>9} {born:>8} {gone:>8}  {end}");
    }
    text
}

fn number(value: &Value) -> String {
    value.to_string()
}
