//! `kymo otlp`: what becomes of OTLP, without a server.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use kymo::config::load;
use kymo_ingest::otlp::{OtlpConfig, Preview, TranslationStrategy};
use serde_json::json;

use crate::failure::{FAILED, Failure};
use crate::output;

/// Show what OTLP becomes, without a server
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo otlp preview request.json
  kymo otlp preview --config kymo.yml request.bin")]
pub(crate) struct OtlpArgs {
    #[command(subcommand)]
    command: OtlpCommand,
}

#[derive(Debug, clap::Subcommand)]
enum OtlpCommand {
    Preview(PreviewArgs),
}

/// Print the series that a request would be stored as, by the rules of a configuration
///
/// Takes an ExportMetricsServiceRequest in protobuf or JSON, plain or compressed with gzip or zstd; which, it sees from
/// the bytes. Nothing is stored. Exit status 1 when points would be refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo otlp preview request.json
  kymo otlp preview --config kymo.yml --output json request.bin
  kymo otlp preview --strategy NoTranslation - < request.json")]
struct PreviewArgs {
    /// The request; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The configuration file whose section otlp has the rules; without one the defaults are used
    #[arg(long, env = "KYMO_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Translate names in this way, whatever the configuration says; the last two keep UTF-8
    #[arg(long, value_enum)]
    strategy: Option<Strategy>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Form::Table)]
    output: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[clap(rename_all = "PascalCase")]
enum Strategy {
    UnderscoreEscapingWithSuffixes,
    UnderscoreEscapingWithoutSuffixes,
    #[value(name = "NoUTF8EscapingWithSuffixes")]
    NoUtf8EscapingWithSuffixes,
    NoTranslation,
}

impl From<Strategy> for TranslationStrategy {
    fn from(strategy: Strategy) -> TranslationStrategy {
        match strategy {
            Strategy::UnderscoreEscapingWithSuffixes => TranslationStrategy::UnderscoreEscapingWithSuffixes,
            Strategy::UnderscoreEscapingWithoutSuffixes => TranslationStrategy::UnderscoreEscapingWithoutSuffixes,
            Strategy::NoUtf8EscapingWithSuffixes => TranslationStrategy::NoUTF8EscapingWithSuffixes,
            Strategy::NoTranslation => TranslationStrategy::NoTranslation,
        }
    }
}

pub(crate) fn run(args: &OtlpArgs) -> Result<ExitCode, Failure> {
    let OtlpCommand::Preview(args) = &args.command;
    let mut config = match &args.config {
        Some(file) => load(file).map_err(|faults| Failure::faults(&faults))?.otlp,
        None => OtlpConfig::default(),
    };
    if let Some(strategy) = args.strategy {
        config.translation_strategy = strategy.into();
    }
    let name = args.file.display();
    let body = match args.file.as_os_str() == "-" {
        true => {
            let mut body = Vec::new();
            io::stdin().read_to_end(&mut body).map(|_| body)
        }
        false => fs::read(&args.file),
    };
    let body = body.map_err(|error| Failure::because(format_args!("cannot read {name}"), &error))?;
    let preview = Preview::of(&config, &body)
        .map_err(|error| Failure::because(format_args!("{name} would be refused"), &error))?;
    output::print(&match args.output {
        Form::Table => table(&preview),
        Form::Json => format!("{:#}\n", as_json(&preview)),
    })?;
    Ok(if preview.outcome.rejected() == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn table(preview: &Preview) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (labels, written) in &preview.series {
        let _ = writeln!(text, "{:<9}  {labels}", written.as_str());
    }
    for (family, metadata) in &preview.metadata {
        let _ = writeln!(text, "{:<9}  {family}  {}", metadata.family_type.as_str(), metadata.help.replace('\n', " "));
    }
    let message = preview.outcome.message();
    let _ = writeln!(text, "{} series, {} points refused", preview.series.len(), preview.outcome.rejected());
    if !message.is_empty() {
        let _ = writeln!(text, "{message}");
    }
    if preview.series.is_empty() && preview.outcome.rejected() == 0 {
        text.push_str("the request has no data point; one of traces or logs has none either\n");
    }
    text
}

fn as_json(preview: &Preview) -> serde_json::Value {
    let labels = |labels: &kymo_core::Labels| -> serde_json::Map<String, serde_json::Value> {
        labels.iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
    };
    let series: Vec<_> =
        preview.series.iter().map(|(of, written)| json!({"labels": labels(of), "written": written.as_str()})).collect();
    let metadata: Vec<_> = preview
        .metadata
        .iter()
        .map(
            |(family, of)| json!({"family": family, "type": of.family_type.as_str(), "unit": of.unit, "help": of.help}),
        )
        .collect();
    let refused: Vec<_> = preview
        .outcome
        .refusals
        .iter()
        .map(|refusal| json!({"reason": refusal.reason.as_str(), "points": refusal.points, "example": refusal.example}))
        .collect();
    json!({"series": series, "metadata": metadata, "refused": refused})
}
