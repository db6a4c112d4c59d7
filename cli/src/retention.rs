//! `kymo retention`: what a policy of keeping would let go of, before it is put in force.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use kymo::config::{self, BlockBytes, DiskShare, Retention, RetentionSection, selector};
use kymo_core::{ErrorKind, QueryContext};
use kymo_export::api::{AdminFailure, DeleteFigures, RetentionAnswer, RetentionLoss, RetentionQuestion};
use kymo_storage::{Engine, RetentionFigures, RetentionPolicy, RetentionRule};

use crate::administer::{self, Administered, size};
use crate::delete::counted;
use crate::failure::{Failure, chain};
use crate::output::{self, Form};

/// Say what would go if data were kept otherwise, and how many bytes
///
/// Changes nothing. Counts what is in blocks; what is still in memory, which is hours old at the most, is left out. A server must have
/// been started with --enable-admin-api; without --config it is asked about the policy in force.
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  kymo retention
  kymo retention --config new.yml
  kymo retention --config new.yml --data-dir /var/lib/kymo --output json"
)]
pub(crate) struct RetentionArgs {
    /// Configuration file whose settings of retention are tried
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    /// Look into this data directory, which no server has open
    #[arg(long, value_name = "DIR", requires = "config")]
    data_dir: Option<PathBuf>,
    /// Form of the figures
    #[arg(long, short, env = "KYMO_OUTPUT", hide_env_values = true, value_enum, default_value_t = Form::Table)]
    output: Form,
}

pub(crate) fn run(args: &RetentionArgs) -> Result<ExitCode, Failure> {
    let question = args.config.as_deref().map(asked_by).transpose()?.unwrap_or_default();
    let answer = match &args.data_dir {
        Some(dir) => {
            let engine = administer::open(dir)?;
            let failed = |failure: AdminFailure| Failure::new(format!("{}: {}", dir.display(), failure.message));
            of_server(&engine, &question, &QueryContext::unlimited()).map_err(failed)?
        }
        None => by_server(&question, args)?,
    };
    output::print(&rendered(&answer, args.output))?;
    Ok(ExitCode::SUCCESS)
}

/// What a file says, as it is asked. What it leaves open is told by its default, so that it is not the policy in force.
fn asked_by(path: &Path) -> Result<RetentionQuestion, Failure> {
    let file = config::load(path).map_err(|faults| Failure::faults(&faults))?.kymo;
    let section = file.retention;
    let of_others = section.as_ref().and_then(RetentionSection::of_others);
    let raw = of_others.unwrap_or(Retention(RetentionPolicy::default().raw));
    let [five_minutes, one_hour] = section.as_ref().map(RetentionSection::of_rollups).unwrap_or_default();
    let selectors = section.iter().flat_map(RetentionSection::selectors).map(str::to_owned);
    let ages = section.iter().flat_map(RetentionSection::rules).map(|rule| Retention(rule.keep).to_string());
    Ok(RetentionQuestion {
        rules: selectors.zip(ages).collect(),
        raw: Some(raw.to_string()),
        five_minutes: five_minutes.map(|keep| keep.to_string()),
        one_hour: one_hour.map(|keep| keep.to_string()),
        size: file.retention_size.map(|size| size.to_string()),
        disk_share: file.retention_disk_share.map(|share| share.to_string()),
    })
}

fn by_server(question: &RetentionQuestion, args: &RetentionArgs) -> Result<RetentionAnswer, Failure> {
    let server = Administered::new(&args.server, args.auth_token_file.as_deref())?;
    let mut params: Vec<(&str, String)> = Vec::new();
    for (matches, keep) in &question.rules {
        params.extend([("match[]", matches.clone()), ("keep[]", keep.clone())]);
    }
    let others = [
        ("raw", &question.raw),
        ("5m", &question.five_minutes),
        ("1h", &question.one_hour),
        ("size", &question.size),
        ("disk_share", &question.disk_share),
    ];
    params.extend(others.into_iter().filter_map(|(name, text)| Some((name, text.clone()?))));
    server.ask("look ahead", |client, ctx| client.administer("retention", &params, ctx))
}

/// Answers a question about the data of an engine.
///
/// # Errors
/// The question makes no sense, or a block cannot be read.
pub(crate) fn of_server(
    engine: &Engine,
    question: &RetentionQuestion,
    ctx: &QueryContext,
) -> Result<RetentionAnswer, AdminFailure> {
    let policy = match *question == RetentionQuestion::default() {
        true => RetentionPolicy::clone(&engine.retention()),
        false => policy(question).map_err(|message| AdminFailure { kind: ErrorKind::Invalid, message })?,
    };
    let preview = engine.preview_retention(&policy, ctx);
    let preview = preview.map_err(|error| AdminFailure { kind: error.kind(), message: chain(&error) })?;
    let figures = |of: &RetentionFigures| {
        let RetentionFigures { series, samples, buckets, bytes } = *of;
        DeleteFigures { series, samples, buckets, bytes }
    };
    let rules = policy.rules.iter().map(|rule| (matchers_text(rule), rule.keep)).chain([(String::new(), policy.raw)]);
    let loss = |((series, keep), goes): ((String, _), &RetentionFigures)| RetentionLoss {
        series,
        keep: Retention(keep).to_string(),
        goes: figures(goes),
    };
    Ok(RetentionAnswer { by_age: rules.zip(&preview.by_age).map(loss).collect(), by_size: figures(&preview.by_size) })
}

fn matchers_text(rule: &RetentionRule) -> String {
    let matchers: Vec<String> = rule.matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", matchers.join(","))
}

fn policy(question: &RetentionQuestion) -> Result<RetentionPolicy, String> {
    let rule = |(matches, keep): &(String, String)| -> Result<RetentionRule, String> {
        Ok(RetentionRule { matchers: selector(matches)?, keep: keep.parse::<Retention>()?.0 })
    };
    let rollups = |text: &Option<String>| -> Result<Option<Duration>, String> {
        Ok(text.as_deref().map(str::parse::<Retention>).transpose()?.map(|keep| keep.0.unwrap_or(Duration::MAX)))
    };
    let raw = question.raw.as_deref().map(str::parse::<Retention>).transpose()?;
    Ok(RetentionPolicy {
        raw: raw.map_or(RetentionPolicy::default().raw, |raw| raw.0),
        five_minutes: rollups(&question.five_minutes)?,
        one_hour: rollups(&question.one_hour)?,
        rules: question.rules.iter().map(rule).collect::<Result<_, _>>()?,
        max_bytes: question.size.as_deref().map(str::parse::<BlockBytes>).transpose()?.and_then(|size| size.0),
        max_disk_share: question.disk_share.as_deref().map(str::parse::<DiskShare>).transpose()?.map(|share| share.0),
    })
}

fn rendered(answer: &RetentionAnswer, form: Form) -> String {
    let named = answer.by_age.iter().map(|loss| match loss.series.as_str() {
        "" => RetentionLoss { series: "all others".to_owned(), ..loss.clone() },
        _ => loss.clone(),
    });
    match form {
        Form::Json => serde_json::to_string(answer).map_or_else(|_| String::new(), |text| text + "\n"),
        Form::Csv => {
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let mut text = "series,keep,series_count,samples,buckets,bytes\n".to_owned();
            let by_size =
                RetentionLoss { series: "the oldest".to_owned(), keep: "size".to_owned(), goes: answer.by_size };
            for RetentionLoss { series, keep, goes } in named.chain([by_size]) {
                let DeleteFigures { series: count, samples, buckets, bytes } = goes;
                text += &format!("{},{keep},{count},{samples},{buckets},{bytes}\n", quoted(&series));
            }
            text
        }
        Form::Table => {
            let told = |goes: &DeleteFigures| {
                format!("{} of {} series go, {}\n", counted(goes), goes.series, size(goes.bytes))
            };
            let by_age =
                named.map(|RetentionLoss { series, keep, goes }| format!("{series} kept {keep}: {}", told(&goes)));
            by_age.chain([format!("beyond the limits of size, the oldest: {}", told(&answer.by_size))]).collect()
        }
    }
}
