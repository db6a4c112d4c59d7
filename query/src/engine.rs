//! The engine: requests in, answers out.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kymo_core::batch::{Exemplar, Metadata};
use kymo_core::query::{
    Annotations, CatalogRequest, DEFAULT_LOOKBACK, EngineOptions, Grid, Listed, POINTS_MAX, QueryCost, QueryError,
    QueryRequest, QueryResult, QueryStats, QueryValue, StatsWanted,
};
use kymo_core::{Budget, Labels, MetricStorage, QueryBackend, QueryContext, Selector};

use crate::empties;
use crate::eval::labels::NameRemoval;
use crate::eval::{Evaluated, Evaluation, evaluate};
use crate::parser::{Ast, ExprKind, ParseOptions, parse};
use crate::plan::{self, Plan, check_length, check_root};
use crate::reuse::{Part, Question, Reuse, Usable, join, join_notes, part_of, series_bytes};
use crate::threads::Threads;

/// What an [`Engine`] allows and assumes.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// Most samples one query may hold at once.
    pub max_samples: u64,
    /// Threads that evaluate queries at once. Each query has one of its own, however many there are; others share its work as
    /// long as there are fewer. 1 for none to share.
    pub threads: usize,
    /// Most steps of a range query beyond its first.
    pub max_points: u64,
    /// Lookback of requests that name none.
    pub lookback: Duration,
    /// Switches of requests that name none.
    pub options: EngineOptions,
}

impl EngineConfig {
    /// Prometheus' default of `--query.max-samples`.
    pub const MAX_SAMPLES: u64 = 50_000_000;

    /// Bytes of a label value that `label_join` and `label_replace` may make: as long as one that is stored may be.
    pub const LABEL_BYTES_MAX: usize = 64 << 10;
}

/// Those of Prometheus, and as many threads as the process may run at once.
impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            max_samples: EngineConfig::MAX_SAMPLES,
            threads: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            max_points: POINTS_MAX,
            lookback: DEFAULT_LOOKBACK,
            options: EngineOptions::default(),
        }
    }
}

/// Answers PromQL over a storage. Cheap to clone. A query runs on the thread that asks; one that reads much gets help of others,
/// started for it, as long as queries take fewer than [`EngineConfig::threads`].
#[derive(Clone)]
pub struct Engine {
    storage: Arc<dyn MetricStorage>,
    config: EngineConfig,
    pub(crate) threads: Arc<Threads>,
    reuse: Option<Arc<Reuse>>,
}

impl Engine {
    /// An engine with the defaults of Prometheus.
    #[must_use]
    pub fn new(storage: Arc<dyn MetricStorage>) -> Engine {
        Engine::with_config(storage, EngineConfig::default())
    }

    /// An engine with limits and switches of one's own.
    #[must_use]
    pub fn with_config(storage: Arc<dyn MetricStorage>, config: EngineConfig) -> Engine {
        let threads = Arc::new(Threads::new(config.threads));
        Engine { storage, config, threads, reuse: None }
    }

    /// The same engine, keeping answers of range queries in this budget. A request for a range that was answered
    /// before then pays for the steps that are new, and for those that look at samples written since; the answer
    /// has the bits of a fresh one. Clones share what is kept.
    #[must_use]
    pub fn keeping_answers(self, budget: Budget) -> Engine {
        Engine { reuse: Some(Arc::new(Reuse::new(budget))), ..self }
    }

    /// Gives the memory of kept answers back.
    pub fn forget_answers(&self) {
        if let Some(reuse) = &self.reuse {
            reuse.forget();
        }
    }

    /// The limits and switches.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    fn check_grid(&self, grid: Grid) -> Result<(), QueryError> {
        let Grid::Range { start_ms, end_ms, step_ms } = grid else { return Ok(()) };
        if step_ms <= 0 {
            let text = "zero or negative query resolution step widths are not accepted. Try a positive integer";
            return Err(QueryError::parse(text, None));
        }
        if end_ms < start_ms {
            return Err(QueryError::parse("end timestamp must not be before start time", None));
        }
        let points = (check_length(start_ms, end_ms)? / step_ms) as u64;
        if points > self.config.max_points {
            let text = format!(
                "exceeded maximum resolution of {} points per timeseries. \
                 Try decreasing the query resolution (?step=XX)",
                with_thousands(self.config.max_points)
            );
            return Err(QueryError::parse(text, None));
        }
        Ok(())
    }

    /// The selectors of a catalogue question; one for everything if it names none.
    fn selectors(what: &CatalogRequest) -> Vec<Selector> {
        let start_ms = what.start_ms.map_or(i64::MIN, |ms| ms.saturating_sub(1));
        let end_ms = what.end_ms.unwrap_or(i64::MAX);
        if what.matchers.is_empty() {
            return vec![Selector::new(Vec::new(), start_ms, end_ms)];
        }
        what.matchers.iter().map(|matchers| Selector::new(matchers.clone(), start_ms, end_ms)).collect()
    }

    /// Asks for each matcher list and joins the sorted answers.
    fn listed<T: Ord>(
        what: &CatalogRequest,
        ctx: &QueryContext,
        ask: impl Fn(&Selector) -> Result<Vec<T>, kymo_core::SelectError>,
    ) -> Result<Listed<T>, QueryError> {
        let mut items = Vec::new();
        let selectors = Engine::selectors(what);
        for selector in &selectors {
            ctx.check()?;
            items.append(&mut ask(selector)?);
        }
        if selectors.len() > 1 {
            items.sort();
            items.dedup();
        }
        let mut annotations = Annotations::default();
        cut(&mut items, what.limit, &mut annotations);
        Ok(Listed { items, annotations })
    }
}

/// A request, read.
struct Asked<'a> {
    request: &'a QueryRequest,
    ast: &'a Ast,
    options: EngineOptions,
    lookback_ms: i64,
}

impl Asked<'_> {
    fn plan(&self, grid: Grid) -> Result<Plan, QueryError> {
        Plan::new(self.ast, grid, self.lookback_ms, self.request.tier, &self.options)
    }

    /// Whether it is only the answer that is asked for, and not how it came about.
    fn takes_any_answer(&self) -> bool {
        let request = self.request;
        !request.fresh
            && request.tier.is_none()
            && request.stats == StatsWanted::None
            && !request.explain
            && !request.explain_empty
    }
}

impl Engine {
    fn evaluated(&self, asked: &Asked<'_>, plan: &Plan, ctx: &QueryContext) -> Result<Evaluated, QueryError> {
        evaluate(Evaluation {
            text: &asked.request.text,
            ast: asked.ast,
            plan,
            storage: self.storage.as_ref(),
            ctx,
            threads: &self.threads,
            samples_max: self.config.max_samples,
            typed: asked.options.type_and_unit_labels,
            starts: asked.options.start_timestamps,
            names: if asked.options.delayed_name_removal { NameRemoval::Delayed } else { NameRemoval::AtOnce },
            stats: asked.request.stats,
            explain: asked.request.explain,
        })
    }

    /// Says of each selector that matches nothing why.
    fn explain_empty(
        &self,
        ast: &Ast,
        plan: &Plan,
        ctx: &QueryContext,
        to: &mut Annotations,
    ) -> Result<(), QueryError> {
        for (id, expr) in ast.iter() {
            let is_info = matches!(&expr.kind, ExprKind::VectorSelector(selector) if selector.may_match_empty);
            let selector = plan.node(id).source.as_ref().and_then(|source| source.selector.as_ref());
            if let Some(selector) = selector.filter(|_| !is_info)
                && self.storage.select(selector, ctx)?.is_empty()
            {
                empties::explain(selector, self.storage.as_ref(), ctx, to)?;
            }
        }
        Ok(())
    }

    /// Takes over what is still true of an answer given before, and keeps the new one.
    fn reusing(
        &self,
        reuse: &Reuse,
        asked: &Asked<'_>,
        plan: &Plan,
        ctx: &QueryContext,
    ) -> Result<Evaluated, QueryError> {
        let Asked { request, lookback_ms, options, .. } = asked;
        let question = Question::new(&request.text, request.grid, *lookback_ms, options);
        let dependences = plan.dependences(asked.ast, &request.text);
        let (Some(question), Some(dependences)) = (question, dependences) else {
            return self.evaluated(asked, plan, ctx);
        };
        // Before anything is looked at: a write from here on counts as later.
        let version = self.storage.version();
        let usable = reuse.look_up(&question, request.grid, &dependences, self.storage.as_ref());
        let joined = match usable {
            Some(usable) => self.joined(&usable, asked, ctx)?,
            None => None,
        };
        let done = match joined {
            Some(joined) => joined,
            None => self.evaluated(asked, plan, ctx)?,
        };
        if let (QueryValue::Matrix(series), Some(notes)) = (&done.value, &done.notes) {
            reuse.keep(question, version, request.grid, series, notes);
        }
        Ok(done)
    }

    /// The steps taken over and the others, evaluated now. `None` if they turn out not to go together.
    fn joined(&self, usable: &Usable, asked: &Asked<'_>, ctx: &QueryContext) -> Result<Option<Evaluated>, QueryError> {
        let grid = asked.request.grid;
        let kept = &usable.kept;
        let mut evaluated = Vec::with_capacity(usable.new.len());
        for steps in &usable.new {
            let done = self.evaluated(asked, &asked.plan(part_of(grid, steps))?, ctx)?;
            let (QueryValue::Matrix(_), Some(_)) = (&done.value, &done.notes) else { return Ok(None) };
            evaluated.push(done);
        }
        let mut parts: Vec<Part<'_>> = Vec::with_capacity(usable.old.len() + usable.new.len());
        for steps in &usable.old {
            let first = (grid.time_ms(steps.start) - kept.grid.start_ms()) / grid.step_ms();
            let (series, notes) = (kept.series.as_slice(), kept.notes.as_slice());
            parts.push(Part { series, notes, first: first as usize, count: steps.len(), to: steps.start });
        }
        for (steps, done) in usable.new.iter().zip(&evaluated) {
            let (QueryValue::Matrix(series), Some(notes)) = (&done.value, &done.notes) else { return Ok(None) };
            parts.push(Part { series, notes, first: 0, count: steps.len(), to: steps.start });
        }
        parts.sort_unstable_by_key(|part| part.to);
        let notes = join_notes(grid, &parts);
        if notes.len() > 1 {
            // In which order a whole evaluation would find them is not known.
            return Ok(None);
        }
        let bytes = parts.iter().map(|part| series_bytes(part.series)).max().unwrap_or_default();
        let memory = ctx.budget.try_reserve(bytes).map_err(kymo_core::SelectError::from)?;
        let mut annotations = Annotations::default();
        notes.iter().for_each(|note| annotations.info(note.text.clone()));
        let mut cost =
            QueryCost { steps_reused: usable.old.iter().map(|steps| steps.len() as u64).sum(), ..QueryCost::default() };
        for done in &evaluated {
            cost.series += done.cost.series;
            cost.samples += done.cost.samples;
            cost.bytes += done.cost.bytes;
            cost.nodes_shared += done.cost.nodes_shared;
            cost.memory_bytes = cost.memory_bytes.max(done.cost.memory_bytes + bytes);
        }
        let value = QueryValue::Matrix(join(grid, &parts));
        drop(memory);
        Ok(Some(Evaluated {
            value,
            annotations,
            stats: QueryStats::default(),
            cost,
            notes: Some(notes),
            seen: Vec::new(),
        }))
    }
}

impl QueryBackend for Engine {
    fn query(&self, request: &QueryRequest, ctx: &QueryContext) -> Result<QueryResult, QueryError> {
        let _busy = self.threads.enter();
        let started = ctx.clock.monotonic();
        let options = request.options.unwrap_or(self.config.options);
        self.check_grid(request.grid)?;
        let ast = parse(&request.text, &parse_options(&options))
            .map_err(|e| QueryError::parse(e.to_string(), Some((e.span.start, e.span.end))))?;
        check_root(&ast, request.grid)?;
        let lookback = request.lookback.unwrap_or(self.config.lookback);
        let lookback_ms = i64::try_from(lookback.as_millis()).unwrap_or(i64::MAX);
        let asked = Asked { request, ast: &ast, options, lookback_ms };
        let plan = asked.plan(request.grid)?;
        let prepared = ctx.clock.monotonic();
        let mut done = match &self.reuse {
            Some(reuse) if asked.takes_any_answer() => self.reusing(reuse, &asked, &plan, ctx)?,
            _ => self.evaluated(&asked, &plan, ctx)?,
        };
        if request.explain_empty {
            self.explain_empty(&ast, &plan, ctx, &mut done.annotations)?;
        }
        let finished = ctx.clock.monotonic();
        if let QueryValue::Vector(series) | QueryValue::Matrix(series) = &mut done.value {
            cut(series, request.limit, &mut done.annotations);
        }
        let stats = (request.stats != StatsWanted::None).then(|| {
            let mut stats = done.stats;
            stats.prepare_time = prepared.saturating_sub(started);
            stats.eval_time = finished.saturating_sub(prepared);
            stats.total_time = finished.saturating_sub(started);
            stats
        });
        let explained = request.explain.then(|| plan.explain(&ast, &done.seen));
        let mut cost = done.cost;
        cost.time = finished.saturating_sub(started);
        Ok(QueryResult { value: done.value, annotations: done.annotations, cost, stats, plan: explained })
    }

    fn series(&self, what: &CatalogRequest, ctx: &QueryContext) -> Result<Listed<Labels>, QueryError> {
        Engine::listed(what, ctx, |selector| self.storage.series(selector, ctx))
    }

    fn label_names(&self, what: &CatalogRequest, ctx: &QueryContext) -> Result<Listed<String>, QueryError> {
        Engine::listed(what, ctx, |selector| self.storage.label_names(selector, ctx))
    }

    fn label_values(
        &self,
        name: &str,
        what: &CatalogRequest,
        ctx: &QueryContext,
    ) -> Result<Listed<String>, QueryError> {
        Engine::listed(what, ctx, |selector| self.storage.label_values(name, selector, ctx))
    }

    fn visit_label_values(
        &self,
        name: &str,
        what: &CatalogRequest,
        ctx: &QueryContext,
        visit: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Annotations, QueryError> {
        let mut annotations = Annotations::default();
        let selectors = Engine::selectors(what);
        let [selector] = &*selectors else {
            let listed = self.label_values(name, what, ctx)?;
            // Where it ended is for who ended it.
            let _ = listed.items.iter().try_for_each(|value| visit(value));
            return Ok(listed.annotations);
        };
        let (mut shown, mut is_cut) = (0, false);
        self.storage.visit_label_values(name, selector, ctx, &mut |value| {
            is_cut = shown == what.limit && what.limit > 0;
            shown += 1;
            if is_cut { ControlFlow::Break(()) } else { visit(value) }
        })?;
        if is_cut {
            annotations.warn(CUT);
        }
        Ok(annotations)
    }

    fn metadata(&self, family: Option<&str>, ctx: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, QueryError> {
        Ok(self.storage.metadata(family, ctx)?)
    }

    fn exemplars(
        &self,
        text: &str,
        start_ms: i64,
        end_ms: i64,
        ctx: &QueryContext,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, QueryError> {
        let ast = parse(text, &parse_options(&self.config.options))
            .map_err(|error| QueryError::parse(error.to_string(), Some((error.span.start, error.span.end))))?;
        let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        for node in ast.nodes() {
            let selector = match &node.kind {
                ExprKind::VectorSelector(selector) => selector,
                ExprKind::MatrixSelector(matrix) => &matrix.selector,
                _ => continue,
            };
            let matchers = plan::matchers(selector, node.span)?;
            let what = Selector::new(matchers, start_ms.saturating_sub(1), end_ms);
            for (labels, exemplars) in self.storage.exemplars(&what, ctx)? {
                // Two selectors may name one series; its exemplars are the same.
                found.insert(labels, exemplars);
            }
        }
        Ok(found.into_iter().collect())
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.config).finish_non_exhaustive()
    }
}

fn parse_options(options: &EngineOptions) -> ParseOptions {
    ParseOptions {
        experimental_functions: options.experimental_functions,
        duration_expressions: options.duration_expressions,
        extended_range_selectors: options.extended_range_selectors,
        fill_modifiers: options.fill_modifiers,
        ..ParseOptions::default()
    }
}

/// Prometheus' words.
const CUT: &str = "results truncated due to limit";

fn cut<T>(items: &mut Vec<T>, limit: usize, annotations: &mut Annotations) {
    if limit > 0 && items.len() > limit {
        items.truncate(limit);
        annotations.warn(CUT);
    }
}

fn with_thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
