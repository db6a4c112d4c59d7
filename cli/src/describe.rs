//! The program describing itself: completions, man pages, and the reference pages of `docs`.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, Command, CommandFactory};
use clap_complete::Shell;
use kymo::config::reference;
use kymo_core::health::HealthOptions;
use kymo_core::metric::MetricKind;
use kymo_core::query::{DEFAULT_LOOKBACK, POINTS_MAX};
use kymo_core::registry::MetricDesc;
use kymo_core::storage::FUTURE_LIMIT;
use kymo_core::text::{DurationText, write_size};
use kymo_export::api::ApiOptions;
use kymo_export::server::ServerOptions;
use kymo_ingest::otlp::{self, OtlpLimits};
use kymo_ingest::remote_write::RemoteWriteConfig;
use kymo_query::EngineConfig;
use kymo_storage::Limits;

use crate::command::Kymo;
use crate::failure::Failure;
use crate::output;
use crate::serve;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo completions bash > ~/.local/share/bash-completion/completions/kymo
  kymo completions fish > ~/.config/fish/completions/kymo.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn completions(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Kymo::command(), "kymo", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Print the manual page, or write one per command into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo man | man -l -
  kymo man --dir /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Folder for kymo.1 and a page per command
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    let mut command = Kymo::command();
    command.build();
    let Some(dir) = &args.dir else {
        output::print(&man_page(command)?)?;
        return Ok(ExitCode::SUCCESS);
    };
    let visible: Vec<Command> = command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned().collect();
    for page in [command].into_iter().chain(visible) {
        let name = page.get_display_name().unwrap_or_else(|| page.get_name()).replace(' ', "-");
        let file = dir.join(format!("{name}.1"));
        fs::write(&file, man_page(page)?)
            .map_err(|error| Failure::because(format_args!("cannot write {}", file.display()), &error))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn man_page(command: Command) -> Result<String, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::because("cannot render the manual page", &error))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Print a reference page of the documentation as Markdown
#[derive(Debug, clap::Args)]
#[command(hide = true)]
#[group(required = true, multiple = false)]
pub(crate) struct ReferenceArgs {
    /// Commands and flags
    #[arg(long)]
    cli: bool,
    /// Keys of the configuration file
    #[arg(long)]
    configuration: bool,
    /// Limits with their defaults
    #[arg(long)]
    limits: bool,
    /// Metrics that the server has of itself
    #[arg(long)]
    metrics: bool,
}

pub(crate) fn reference(args: &ReferenceArgs) -> Result<ExitCode, Failure> {
    let page = if args.cli {
        cli_page()
    } else if args.configuration {
        head("Configuration") + &reference::page()
    } else if args.limits {
        limits_page()
    } else {
        metrics_page()
    };
    output::print(&page)?;
    Ok(ExitCode::SUCCESS)
}

/// The head of a generated page.
fn head(title: &str) -> String {
    format!("# {title}\n\n<!-- Written by `cargo xtask gen` from the program; edit the program. -->\n")
}

fn cli_page() -> String {
    let mut command = Kymo::command();
    command.build();
    let mut page = head("Command line");
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        let _ = write!(page, "\n{about}\n");
    }
    page.push_str("\nEach flag with an environment variable can be set by it; the flag wins. ");
    page.push_str("Flags of every command:\n\n");
    push_arguments(&mut page, command.get_arguments());
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let _ = write!(page, "\n## kymo {}\n\n", sub.get_name());
        if let Some(about) = sub.get_long_about().or(sub.get_about()) {
            let _ = write!(page, "{about}\n\n");
        }
        if !sub.has_subcommands() {
            push_arguments(&mut page, sub.get_arguments().filter(|argument| !argument.is_global_set()));
        }
        if let Some(examples) = sub.get_after_help() {
            let _ = write!(page, "\n```text\n{examples}\n```\n");
        }
        for below in sub.get_subcommands().filter(|below| below.get_name() != "help") {
            let about = below.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = write!(page, "\n### kymo {} {}\n\n{about}\n\n", sub.get_name(), below.get_name());
            push_arguments(&mut page, below.get_arguments().filter(|argument| !argument.is_global_set()));
        }
    }
    page
}

fn push_arguments<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    page.push_str("| Flag | Environment | Default | Meaning |\n|---|---|---|---|\n");
    for argument in arguments.filter(|argument| !argument.is_hide_set() && argument.get_id() != "help") {
        let environment = argument.get_env().map_or_else(String::new, |name| format!("`{}`", name.to_string_lossy()));
        let defaults: Vec<String> =
            argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        // A default that is worked out when the program runs stands in the help.
        let (meaning, default) = match help.strip_suffix(']').and_then(|help| help.rsplit_once(" [default: ")) {
            Some((meaning, default)) => (meaning, default.to_owned()),
            None if takes_value(argument) => (&*help, defaults.join(", ")),
            None => (&*help, String::new()),
        };
        let _ = writeln!(page, "| {} | {environment} | {default} | {} |", usage(argument), cell(meaning));
    }
}

fn takes_value(argument: &Arg) -> bool {
    argument.is_positional() || matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
}

/// `-o`, `--output table|json|csv`, or `EXPR`.
fn usage(argument: &Arg) -> String {
    let values: Vec<String> = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let names = argument.get_value_names().unwrap_or_default();
    let value = if values.is_empty() || !takes_value(argument) {
        names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    } else {
        values.join("|")
    };
    let mut text = String::new();
    if let Some(short) = argument.get_short() {
        let _ = write!(text, "`-{short}`, ");
    }
    match argument.get_long() {
        Some(long) if takes_value(argument) => {
            let _ = write!(text, "`--{long} {value}`");
        }
        Some(long) => {
            let _ = write!(text, "`--{long}`");
        }
        None => {
            let _ = write!(text, "`{value}`");
        }
    }
    cell(&text)
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// A limit: what it is called, what it is, what happens there.
pub(crate) struct Limit {
    name: &'static str,
    value: String,
    at_the_limit: &'static str,
}

impl Limit {
    pub(crate) fn new(name: &'static str, value: impl ToString, at_the_limit: &'static str) -> Limit {
        Limit { name, value: value.to_string(), at_the_limit }
    }
}

fn limits_page() -> String {
    let mut page = head("Limits");
    page.push_str(
        "\nEverything grows to a named limit. What is refused there is answered with its name; samples that are ",
    );
    page.push_str("refused for good are counted by reason at `/api/v1/status/drops`.\n");
    for (title, limits) in [
        ("Memory and queues", serve::limits()),
        ("Writing", writing_limits()),
        ("OTLP", otlp_limits()),
        ("Health of services", health_limits()),
        ("Querying", querying_limits()),
        ("HTTP", http_limits()),
    ] {
        let _ = write!(page, "\n## {title}\n\n| Limit | Default | At the limit |\n|---|---|---|\n");
        for limit in limits {
            let _ = writeln!(page, "| {} | {} | {} |", limit.name, limit.value, limit.at_the_limit);
        }
    }
    page
}

fn metrics_page() -> String {
    let mut page = head("Metrics of Kymo itself");
    page.push_str("\nWhat the server says of itself at `/metrics`.\n\n");
    page.push_str("| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n");
    let metrics = kymo_ingest::metrics::METRICS
        .iter()
        .chain(otlp::metrics::METRICS)
        .chain(kymo_ingest::scrape::metrics::METRICS)
        .chain(kymo_ingest::collect::metrics::METRICS)
        .chain(kymo_core::ledger::METRICS)
        .chain(kymo_storage::METRICS)
        .chain(kymo_storage::state::STATE_METRICS)
        .chain(kymo_context::metrics::METRICS)
        .chain(serve::reload::METRICS);
    for MetricDesc { name, kind, labels, help, .. } in metrics {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::Summary => "summary",
        };
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {} |", labels.join(", "), cell(help));
    }
    page
}

fn otlp_limits() -> Vec<Limit> {
    let limits = OtlpLimits::default();
    vec![
        Limit::new("bytes of a request as sent", size(limits.body_bytes_max), "413, `RESOURCE_EXHAUSTED`"),
        Limit::new(
            "bytes of a request after decompression",
            size(limits.decompressed_bytes_max),
            "413, `RESOURCE_EXHAUSTED`",
        ),
        Limit::new(
            "bytes that the series of a request unfold to",
            size(limits.unfolded_bytes_max),
            "413, `RESOURCE_EXHAUSTED`",
        ),
        Limit::new(
            "operations of a service counted from spans, and services it calls",
            otlp::OPERATIONS_PER_SERVICE_MAX,
            "others are counted as `kymo_overflow`",
        ),
        Limit::new("services counted from spans", otlp::SERVICES_MAX, "others are counted as `kymo_overflow`"),
        Limit::new(
            "operations and calls counted from spans",
            otlp::SUBJECTS_MAX,
            "others are counted as `kymo_overflow` of their service",
        ),
        Limit::new("calls that wait for their other side", otlp::WAITING_MAX, "the oldest wait no longer"),
        Limit::new(
            "spans remembered, so that none counts twice",
            2 * otlp::GENERATION_MAX,
            "they are remembered for less time",
        ),
        Limit::new(
            "memory of series known by their bytes",
            size(otlp::KNOWN_SERIES_BYTES_MAX),
            "the least used are decoded again",
        ),
    ]
}

fn health_limits() -> Vec<Limit> {
    let options = HealthOptions::default();
    let shared = "others are counted as `kymo_overflow`";
    vec![
        Limit::new("memory of all of it", size(options.bytes_max as u64), "new names are counted as `kymo_overflow`"),
        Limit::new("services", options.services_max, shared),
        Limit::new("operations of one service", options.operations_of_service_max, shared),
        Limit::new("operations of all services", options.operations_max, shared),
        Limit::new("pairs of services that call each other", options.edges_max, shared),
        Limit::new(
            "series of metrics of requests that are followed",
            kymo_ingest::services::FOLLOWED_SERIES_MAX,
            "others are not counted",
        ),
    ]
}

fn writing_limits() -> Vec<Limit> {
    let (remote_write, engine) = (RemoteWriteConfig::default(), Limits::default());
    vec![
        Limit::new("bytes of a request as sent", size(remote_write.compressed_bytes_max), "413, not to be repeated"),
        Limit::new(
            "bytes of a request after decompression",
            size(remote_write.decompressed_bytes_max),
            "413, not to be repeated",
        ),
        Limit::new("samples of a request", remote_write.samples_max, "413, not to be repeated"),
        Limit::new(
            "label bytes of a series on the wire",
            size(remote_write.series_label_bytes_max),
            "the series is rejected",
        ),
        Limit::new(
            "label bytes that a 2.0 request unfolds to",
            size(remote_write.unfolded_bytes_max),
            "413, not to be repeated",
        ),
        Limit::new(
            "series that take samples at once (`--series-limit`)",
            engine.active_series,
            "new series are rejected as `series_limit`",
        ),
        Limit::new(
            "writers of increments and totals",
            engine.increment_writers,
            "rows of new writers are rejected as `writer_limit`",
        ),
        Limit::new("labels of a series", engine.labels_per_series, "the series is rejected as `too_many_labels`"),
        Limit::new(
            "bytes of a label name or value",
            size(engine.label_bytes),
            "the series is rejected as `label_too_long`",
        ),
        Limit::new("time ahead of the clock", duration(FUTURE_LIMIT), "the sample is rejected as `too_far_in_future`"),
        Limit::new(
            "deletes whose bytes are not given back yet",
            kymo_storage::TOMBSTONES_MAX,
            "422; clean tombstones first",
        ),
        Limit::new("age of a sample", "the retention", "the sample is rejected as `outside_retention`"),
    ]
}

fn querying_limits() -> Vec<Limit> {
    let api = ApiOptions::default();
    vec![
        Limit::new("time of a query", duration(api.timeout_max), "503, `timeout`"),
        Limit::new("memory of a query with its answer", size(api.query_memory_max), "422, naming the limit"),
        Limit::new("bytes of a query's text", size(api.query_bytes_max), "413"),
        Limit::new("bytes of a form", size(api.form_bytes_max), "413"),
        Limit::new("points per series of a range query", POINTS_MAX, "400"),
        Limit::new("samples that a query holds at once", EngineConfig::MAX_SAMPLES, "422"),
        Limit::new("bytes of a label value that a query makes", size(EngineConfig::LABEL_BYTES_MAX), "422"),
        Limit::new("lookback of an instant selector", duration(DEFAULT_LOOKBACK), "older samples are not seen"),
    ]
}

fn http_limits() -> Vec<Limit> {
    let server = ServerOptions::default();
    vec![
        Limit::new("connections at once", server.connections_max, "further ones wait in the kernel's queue"),
        Limit::new("bytes of a body", size(server.body_bytes_max), "413"),
        Limit::new("time for a request's head, or idle", duration(server.head_timeout), "the connection is closed"),
        Limit::new("time for a request's body", duration(server.body_timeout), "the request fails"),
        Limit::new("time for requests in flight at a stop", duration(server.grace), "they are cut off"),
    ]
}

fn size(bytes: impl TryInto<u64>) -> String {
    let mut text = String::new();
    write_size(&mut text, bytes.try_into().unwrap_or(u64::MAX));
    text
}

fn duration(duration: Duration) -> String {
    DurationText(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)).to_string()
}
