//! Commands against a storage and a backend.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kymo_core::batch::SampleBatch;
use kymo_core::histogram::{ClassicError, ClassicHistogram, ClassicPart, is_stale_nan};
use kymo_core::query::{DEFAULT_LOOKBACK, EngineOptions, Grid, PointValue, QueryRequest, QueryResult, QueryValue};
use kymo_core::text::parse_float;
use kymo_core::{
    Labels, LabelsBuilder, METRIC_NAME, MetricStorage, NativeHistogram, QueryBackend, QueryContext, QueryError,
};

use super::compare::{self, Positions};
use super::hints::OpenChunk;
use super::load::SeriesValue;
use super::pinned::pinned;
use super::script::{Command, Eval, Load, ScriptError, parse_script};

/// Distance of the steps at which an instant case is asked as a range query.
const AROUND_MS: i64 = 60_000;

/// Gives an empty storage; called at the start and at each `clear`.
pub type FreshStorage<'a> = dyn FnMut() -> Arc<dyn MetricStorage> + 'a;

/// Puts an engine on a storage.
pub type EngineOver<'a> = dyn Fn(Arc<dyn MetricStorage>) -> Box<dyn QueryBackend> + 'a;

/// A case, or a load, that did not come out as the script says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Number of the command's line, from 1.
    pub line: usize,
    /// The query, or `load`.
    pub text: String,
    /// What was expected and what came.
    pub what: String,
}

/// What became of a script.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScriptReport {
    /// The name the script was run under.
    pub name: String,
    /// Number of `eval`s that hold.
    pub passed: usize,
    /// The others in order, and loads that were refused.
    pub failed: Vec<Failure>,
}

/// Runs a script. Each `eval` is one case, whichever it fails by; the script always runs to its end.
///
/// Every engine option is on and lookback is 5 minutes, as the scripts assume.
///
/// # Errors
/// [`ScriptError`] if the text is not in the language; nothing was run then.
pub fn run_script(
    name: &str,
    text: &str,
    fresh: &mut FreshStorage<'_>,
    engine: &EngineOver<'_>,
) -> Result<ScriptReport, ScriptError> {
    let commands = parse_script(text)?;
    let mut report = ScriptReport { name: name.to_owned(), ..ScriptReport::default() };
    let mut stage = Stage::new(fresh, engine);
    for command in commands {
        match command {
            Command::Clear => stage = Stage::new(fresh, engine),
            Command::Load(load) => {
                if let Err(what) = stage.load(&load) {
                    report.failed.push(Failure { line: load.line, text: "load".to_owned(), what });
                }
            }
            Command::Eval(eval) => {
                // An engine that panics fails this case; the storage under it is still sound.
                let outcome = catch_unwind(AssertUnwindSafe(|| stage.check(&eval)));
                match outcome.unwrap_or_else(|panic| Err(format!("the engine panicked: {}", panic_text(&*panic)))) {
                    Ok(()) => report.passed += 1,
                    Err(what) => report.failed.push(Failure { line: eval.line, text: eval.query.clone(), what }),
                }
            }
        }
    }
    Ok(report)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

/// One storage between two `clear`s.
struct Stage {
    storage: Arc<dyn MetricStorage>,
    backend: Box<dyn QueryBackend>,
    context: QueryContext,
    chunks: BTreeMap<Labels, OpenChunk>,
}

/// The parts of a classic histogram at one time.
#[derive(Default)]
struct ClassicSample {
    parts: ClassicHistogram,
    fault: Option<ClassicError>,
    stale: bool,
}

impl Stage {
    fn new(fresh: &mut FreshStorage<'_>, engine: &EngineOver<'_>) -> Stage {
        let storage = fresh();
        let backend = engine(Arc::clone(&storage));
        Stage { storage, backend, context: QueryContext::unlimited(), chunks: BTreeMap::new() }
    }

    fn load(&mut self, load: &Load) -> Result<(), String> {
        let mut batch = SampleBatch::new();
        let mut rows: Vec<&Labels> = Vec::new();
        for series in &load.series {
            let chunk = self.chunks.entry(series.labels.clone()).or_default();
            let kept = batch.keep(series.labels.as_ref());
            for sample in &series.samples {
                match &sample.value {
                    SeriesValue::Omitted => continue,
                    SeriesValue::Float(value) => {
                        *chunk = OpenChunk::None;
                        batch.push_float(kept, sample.time_ms, *value);
                    }
                    SeriesValue::Histogram { value, .. } => {
                        let mut value = NativeHistogram::clone(value);
                        chunk.append(&mut value);
                        batch.push_histogram(kept, sample.time_ms, value);
                    }
                }
                batch.set_start(sample.start_ms);
                rows.push(&series.labels);
            }
        }
        let native = if load.with_nhcb { custom_histograms(load)? } else { BTreeMap::new() };
        for (labels, samples) in &native {
            let chunk = self.chunks.entry(labels.clone()).or_default();
            let kept = batch.keep(labels.as_ref());
            for (&time_ms, sample) in samples {
                match sample {
                    Some(histogram) => {
                        let mut histogram = histogram.clone();
                        chunk.append(&mut histogram);
                        batch.push_histogram(kept, time_ms, histogram);
                    }
                    None => {
                        *chunk = OpenChunk::None;
                        batch.push_stale(kept, time_ms);
                    }
                }
                rows.push(labels);
            }
        }
        let report = self.storage.append(&batch).map_err(|error| error.to_string())?;
        match report.rejected.first() {
            Some(&(row, reason)) => Err(format!("{}: {}", rows[row], reason.describe())),
            None => Ok(()),
        }
    }

    fn check(&self, eval: &Eval) -> Result<(), String> {
        let Grid::Instant { at_ms } = eval.grid else { return self.check_range(eval) };
        self.check_instant(eval, &eval.query, at_ms, Positions::AsWritten)?;
        for (query, at_ms) in pinned(&eval.query, at_ms) {
            self.check_instant(eval, &query, at_ms, Positions::Moved)
                .map_err(|what| format!("as {query:?} at {at_ms}ms: {what}"))?;
        }
        Ok(())
    }

    fn ask(&self, query: &str, grid: Grid) -> Result<QueryResult, QueryError> {
        let mut request = QueryRequest::new(query, grid);
        request.lookback = Some(DEFAULT_LOOKBACK);
        request.options = Some(EngineOptions::all());
        self.backend.query(&request, &self.context)
    }

    /// `None` if the query failed as it must.
    fn ask_case(&self, eval: &Eval, query: &str, grid: Grid) -> Result<Option<QueryResult>, String> {
        match (self.ask(query, grid), &eval.fail) {
            (Ok(result), None) => Ok(Some(result)),
            (Ok(_), Some(wanted)) => Err(format!("expected an error matching {wanted}, got none")),
            (Err(error), None) => Err(format!("the query failed: {}", error.message)),
            (Err(error), Some(wanted)) if wanted.matches(&error.message) => Ok(None),
            (Err(error), Some(wanted)) => Err(format!("expected error {wanted}, got {:?}", error.message)),
        }
    }

    fn check_range(&self, eval: &Eval) -> Result<(), String> {
        let Some(result) = self.ask_case(eval, &eval.query, eval.grid)? else { return Ok(()) };
        compare::annotations(eval, &result.annotations, Positions::AsWritten)?;
        match &result.value {
            QueryValue::Matrix(_) if eval.ordered => Err("a range query has no order to expect".to_owned()),
            QueryValue::Matrix(series) => compare::matrix(eval, series, eval.grid),
            other => Err(format!("expected a matrix, got a {}", kind(other))),
        }
    }

    fn check_instant(&self, eval: &Eval, query: &str, at_ms: i64, positions: Positions) -> Result<(), String> {
        let Some(result) = self.ask_case(eval, query, Grid::Instant { at_ms })? else { return Ok(()) };
        compare::annotations(eval, &result.annotations, positions)?;
        match &result.value {
            QueryValue::Vector(series) => {
                let mut elements = Vec::with_capacity(series.len());
                for one in series {
                    match (one.points().next(), one.len()) {
                        (Some((time, value)), 1) if time == at_ms => elements.push((&one.labels, value)),
                        _ => return Err(format!("{} has not one point at {at_ms}ms in an instant vector", one.labels)),
                    }
                }
                compare::vector(eval, &elements, eval.ordered)?;
            }
            QueryValue::Scalar { value, .. } => compare::scalar(eval, *value)?,
            QueryValue::String { value, .. } => return compare::string(eval, value),
            QueryValue::Matrix(series) => {
                return match eval.range_vector {
                    Some(grid) => compare::matrix(eval, series, grid),
                    None => {
                        Err("the query returned a range vector, which no `expect range vector` announces".to_owned())
                    }
                };
            }
        }
        if eval.range_vector.is_some() {
            return Err(format!("expected a range vector, got a {}", kind(&result.value)));
        }
        self.check_around(eval, query, at_ms, &result.value).map_err(|what| format!("as a range query: {what}"))
    }

    /// The same case as the middle step of a range query.
    fn check_around(&self, eval: &Eval, query: &str, at_ms: i64, instant: &QueryValue) -> Result<(), String> {
        // These speak of the query's own times, which differ.
        let own_times = ["start()", "end()", "range()", "step()"];
        if own_times.iter().any(|call| query.contains(call)) {
            return Ok(());
        }
        let grid = Grid::Range {
            start_ms: at_ms.saturating_sub(AROUND_MS),
            end_ms: at_ms.saturating_add(AROUND_MS),
            step_ms: AROUND_MS,
        };
        let result = self.ask(query, grid).map_err(|error| format!("the query failed: {}", error.message))?;
        if eval.ordered {
            // Range results are sorted by labels.
            return Ok(());
        }
        let QueryValue::Matrix(series) = &result.value else {
            return Err(format!("expected a matrix, got a {}", kind(&result.value)));
        };
        compare::sorted(series)?;
        let at = |one| -> Option<compare::Element<'_>> {
            let one: &kymo_core::query::ResultSeries = one;
            one.points().find(|(time, _)| *time == at_ms).map(|(_, value)| (&one.labels, value))
        };
        let elements: Vec<_> = series.iter().filter_map(at).collect();
        match (instant, &elements[..]) {
            (QueryValue::Scalar { .. }, [(labels, PointValue::Float(value))]) if labels.is_empty() => {
                compare::scalar(eval, *value)
            }
            (QueryValue::Scalar { .. }, _) => Err("expected one series without labels".to_owned()),
            _ => compare::vector(eval, &elements, false),
        }
    }
}

fn kind(value: &QueryValue) -> &'static str {
    match value {
        QueryValue::Scalar { .. } => "scalar",
        QueryValue::String { .. } => "string",
        QueryValue::Vector(_) => "vector",
        QueryValue::Matrix(_) => "matrix",
    }
}

/// Native histograms of the classic ones in a load, by series and time; `None` for a staleness marker.
fn custom_histograms(load: &Load) -> Result<BTreeMap<Labels, BTreeMap<i64, Option<NativeHistogram>>>, String> {
    let mut classic: BTreeMap<Labels, BTreeMap<i64, ClassicSample>> = BTreeMap::new();
    for series in &load.series {
        let name = series.labels.metric_name().unwrap_or_default();
        let Some((part, base)) = ClassicPart::of_name(name) else { continue };
        let le = series.labels.get("le");
        let bound = match (part, le) {
            (ClassicPart::Bucket, None) => return Err(format!("{} has no label le", series.labels)),
            (ClassicPart::Bucket, Some(le)) => match parse_float(le) {
                Ok(bound) if !bound.is_nan() => bound,
                _ => continue,
            },
            _ => f64::NAN,
        };
        let mut labels = LabelsBuilder::from_labels(series.labels.as_ref());
        labels.set(METRIC_NAME, base).remove("le");
        let samples = classic.entry(labels.labels()).or_default();
        for sample in &series.samples {
            let SeriesValue::Float(value) = sample.value else { continue };
            let at = samples.entry(sample.time_ms).or_default();
            if is_stale_nan(value) {
                at.stale = true;
                continue;
            }
            let set = match part {
                ClassicPart::Bucket => at.parts.set_bucket(bound, value),
                ClassicPart::Count => at.parts.set_count(value),
                ClassicPart::Sum => {
                    at.parts.set_sum(value);
                    Ok(())
                }
            };
            at.fault = at.fault.or(set.err());
        }
    }
    let convert = |labels: &Labels, sample: ClassicSample| {
        if sample.stale {
            return Ok(None);
        }
        let converted = sample.fault.map_or_else(|| sample.parts.convert(), Err);
        converted.map(|histogram| Some(histogram.to_float())).map_err(|error| format!("{labels}: {error}"))
    };
    classic
        .into_iter()
        .map(|(labels, samples)| {
            let samples = samples.into_iter().map(|(time, sample)| Ok((time, convert(&labels, sample)?)));
            let samples = samples.collect::<Result<BTreeMap<_, _>, String>>()?;
            Ok((labels, samples))
        })
        .collect()
}
