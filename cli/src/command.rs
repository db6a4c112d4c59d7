//! The command line as a whole.

use crate::cardinality::CardinalityArgs;
use crate::compact::CompactArgs;
use crate::delete::DeleteArgs;
use crate::demo::DemoArgs;
use crate::describe::{CompletionsArgs, ManArgs, ReferenceArgs};
use crate::export_files::ExportArgs;
use crate::import::ImportArgs;
use crate::inspect::ConfigArgs;
use crate::logging::LogArgs;
use crate::otlp::OtlpArgs;
use crate::promqltest::PromqltestArgs;
use crate::query::QueryArgs;
use crate::restore::RestoreArgs;
use crate::retention::RetentionArgs;
use crate::serve::ServeArgs;
use crate::snapshot::SnapshotArgs;
use crate::state::StateArgs;
use crate::status::StatusArgs;
use crate::top::TopArgs;
use crate::verify::VerifyArgs;

/// A metrics engine that speaks Prometheus
///
/// Exit status: 0 when the work was done, 1 when it failed, 2 when the command line was not understood, 128 + signal
/// when a second signal cut the shutdown short.
#[derive(Debug, clap::Parser)]
#[command(name = "kymo", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Kymo {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Serve(Box<ServeArgs>),
    Query(QueryArgs),
    Status(StatusArgs),
    Top(TopArgs),
    Demo(DemoArgs),
    Promqltest(PromqltestArgs),
    Config(ConfigArgs),
    Otlp(OtlpArgs),
    Compact(CompactArgs),
    Delete(DeleteArgs),
    Retention(RetentionArgs),
    Verify(VerifyArgs),
    Snapshot(SnapshotArgs),
    Restore(RestoreArgs),
    Export(ExportArgs),
    Import(ImportArgs),
    Cardinality(CardinalityArgs),
    State(StateArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
    Reference(ReferenceArgs),
}
