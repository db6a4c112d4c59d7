//! Evaluates a plan, node by node, each over its whole grid.
//!
//! ```text
//!   Plan ──▶ select ──▶ Column per series ──▶ call · aggregate · binary ──▶ … ──▶ answer
//!               │            ▲
//!               └─ window ───┘   functions over ranges read samples here and keep only their answer
//! ```
//!
//! The arena lists children before parents, so evaluation is one loop over it; a value waits in its
//! slot until its parent takes it. Nothing recurses on the length of a query.
//!
//! Invariants: (1) every [`Column`] of a value is as long as its node's grid; (2) a vector that leaves a
//! node has no series without samples, and no two with the same labels at one step unless the removal
//! of names is delayed; (3) memory is reserved before it is allocated, and the context is checked at
//! every series.

mod aggregate;
mod answer;
mod binary;
mod call;
pub(crate) mod column;
mod histograms;
mod info;
pub(crate) mod labels;
mod meter;
pub(crate) mod notes;
mod open;
mod range;
mod rolled;
mod select;
mod shards;
mod shared;
mod sink;
mod times;
pub(crate) mod window;

use kymo_core::query::{Annotations, Grid, QueryCost, QueryError, QueryStats, QueryValue, StatsWanted};
use kymo_core::{ErrorKind, MetricStorage, QueryContext};

use self::column::{Column, Scalars, Value, Vector};
use self::labels::NameRemoval;
use self::meter::Meter;
use self::notes::{Notes, Placed};
use self::open::Opened;
use self::select::Answer;
use self::shared::Shared;
use self::sink::Streams;
use self::window::Bounds;
use crate::parser::{Ast, Expr, ExprKind, NodeId, Span, UnaryOp};
use crate::plan::{Counting, Plan, Seen};
use crate::threads::Threads;

/// What a query evaluated to.
#[derive(Debug)]
pub(crate) struct Evaluated {
    pub(crate) value: QueryValue,
    pub(crate) annotations: Annotations,
    pub(crate) stats: QueryStats,
    pub(crate) cost: QueryCost,
    /// Infos by step; `None` if the answer of a step depends on the range around it.
    pub(crate) notes: Option<Vec<Placed>>,
    /// Per node of the arena.
    pub(crate) seen: Vec<Seen>,
}

/// What an evaluation needs besides its plan.
pub(crate) struct Evaluation<'a> {
    pub(crate) text: &'a str,
    pub(crate) ast: &'a Ast,
    pub(crate) plan: &'a Plan,
    pub(crate) storage: &'a dyn MetricStorage,
    pub(crate) ctx: &'a QueryContext,
    /// Of all queries.
    pub(crate) threads: &'a Threads,
    pub(crate) samples_max: u64,
    pub(crate) names: NameRemoval,
    /// Counters are told by the label of their type.
    pub(crate) typed: bool,
    /// Start timestamps are looked at.
    pub(crate) starts: bool,
    pub(crate) stats: StatsWanted,
    /// Whether the plan's costs are wanted.
    pub(crate) explain: bool,
}

/// One evaluation on its way.
pub(crate) struct Evaluator<'a> {
    text: &'a str,
    ast: &'a Ast,
    plan: &'a Plan,
    storage: &'a dyn MetricStorage,
    ctx: &'a QueryContext,
    threads: &'a Threads,
    names: NameRemoval,
    typed: bool,
    starts: bool,
    meter: Meter<'a>,
    notes: Notes<'a>,
    samples: SampleCounts,
    seen: Vec<Seen>,
    values: Vec<Option<Value>>,
    /// Selectors looked up and not yet read.
    opened: Opened,
    explain: bool,
    /// Series that go into an aggregation one by one.
    streams: Streams,
    /// Expressions that stand more than once.
    shared: Shared,
    /// Nodes that were not evaluated, because others like them were.
    nodes_shared: u64,
}

/// Evaluates a plan.
///
/// # Errors
/// Limits, cancelling, storage, and what PromQL forbids at run time.
pub(crate) fn evaluate(what: Evaluation<'_>) -> Result<Evaluated, QueryError> {
    let count = what.ast.nodes().len();
    let streams = Streams::find(what.ast, what.plan);
    let shared = Shared::find(what.ast, what.plan, &streams);
    let mut evaluator = Evaluator {
        text: what.text,
        ast: what.ast,
        plan: what.plan,
        storage: what.storage,
        ctx: what.ctx,
        threads: what.threads,
        names: what.names,
        typed: what.typed,
        starts: what.starts,
        meter: Meter::new(what.ctx, what.samples_max),
        notes: Notes::new(what.text),
        samples: SampleCounts::new(what.plan.grid, what.stats),
        seen: vec![Seen::default(); count],
        values: (0..count).map(|_| None).collect(),
        opened: (0..count).map(|_| None).collect(),
        explain: what.explain,
        streams,
        shared,
        nodes_shared: 0,
    };
    evaluator.open()?;
    if evaluator.explain {
        evaluator.estimate();
    }
    evaluator.evaluate_all().map_err(|error| evaluator.with_need(error))?;
    evaluator.into_answer()
}

impl<'a> Evaluator<'a> {
    fn evaluate_all(&mut self) -> Result<(), QueryError> {
        let ast = self.ast;
        for (id, expr) in ast.iter() {
            self.meter.check()?;
            if self.is_taken(id) {
                continue;
            }
            self.mark_givers(id);
            let started = self.explain.then(|| self.ctx.clock.monotonic());
            let held_before = self.meter.mark();
            let mut value = self.node(id, expr)?;
            if let Some(steps) = self.plan.node(id).broadcast {
                value = self.broadcast(value, steps)?;
            }
            self.give(id, &value)?;
            let seen = &mut self.seen[id.idx()];
            seen.actual.memory_bytes = self.meter.peak_since_mark().saturating_sub(held_before);
            if let Value::Vector(vector) = &value {
                if self.streams.aggregate_of(id).is_none() && !self.streams.is_passed(id) {
                    seen.actual.series = vector.series.len() as u64;
                }
                seen.actual.memory_bytes = seen.actual.memory_bytes.max(vector.hold.bytes());
            }
            if let Some(started) = started {
                seen.time = self.ctx.clock.monotonic().saturating_sub(started);
            }
            self.values[id.idx()] = Some(value);
        }
        Ok(())
    }

    /// A refusal for want of memory, with what the query was expected to need.
    fn with_need(&mut self, mut error: QueryError) -> QueryError {
        if error.kind == ErrorKind::Limit {
            let bytes = self.expected_bytes().max(self.meter.peak_bytes());
            error.message.push_str(&format!("; the query was expected to hold about {bytes} bytes at once"));
        }
        error
    }

    fn into_answer(mut self) -> Result<Evaluated, QueryError> {
        let value = self.answer(self.ast.root())?;
        let stats = QueryStats {
            total_queryable_samples: self.samples.total(),
            peak_samples: self.meter.peak_samples(),
            samples_per_step: self.samples.per_step(),
            ..QueryStats::default()
        };
        let mut cost = QueryCost {
            memory_bytes: self.meter.peak_with_helpers(),
            nodes_shared: self.nodes_shared,
            ..QueryCost::default()
        };
        for seen in &self.seen {
            cost.series += seen.series_read;
            cost.samples += seen.actual.samples;
            cost.bytes += seen.actual.bytes;
        }
        let notes = self.notes.by_step();
        Ok(Evaluated { value, annotations: self.notes.finish(), stats, cost, notes, seen: self.seen })
    }

    fn node(&mut self, id: NodeId, expr: &'a Expr) -> Result<Value, QueryError> {
        match &expr.kind {
            ExprKind::NumberLiteral(number) => Ok(Value::Scalar(Scalars::Constant(number.value))),
            ExprKind::StringLiteral(_) => Ok(Value::Text),
            // The second argument of `info` says which series to add, it is not a vector.
            ExprKind::VectorSelector(selector) if selector.may_match_empty => Ok(Value::Deferred),
            ExprKind::VectorSelector(_) => {
                let planned = self.plan.node(id);
                let source = planned.source.as_ref().expect("a planned selector has a source");
                let answer = match source.selector.as_ref().and_then(|s| s.hint.function) {
                    Some("timestamp") => Answer::Times,
                    Some("start_timestamp") => Answer::Starts,
                    _ => Answer::Values,
                };
                Ok(Value::Vector(self.select(id, source, answer)?))
            }
            ExprKind::MatrixSelector(_) | ExprKind::Subquery(_) => Ok(Value::Deferred),
            ExprKind::Call(call) => self.call(id, call),
            ExprKind::Aggregate(aggregate) => Ok(Value::Vector(self.aggregate(id, expr.span, aggregate)?)),
            ExprKind::Binary(binary) => self.binary(id, expr.span, binary),
            ExprKind::Unary(unary) => {
                let value = self.take(unary.expr);
                if self.streams.is_passed(id) {
                    return Ok(value);
                }
                match (unary.op, value) {
                    (UnaryOp::Plus, value) => Ok(value),
                    (UnaryOp::Minus, Value::Scalar(scalars)) => Ok(Value::Scalar(scalars.map(|v| -v))),
                    (UnaryOp::Minus, Value::Vector(vector)) => Ok(Value::Vector(self.negate(vector)?)),
                    (UnaryOp::Minus, other) => Ok(other),
                }
            }
            ExprKind::Paren(inner) => Ok(self.take(*inner)),
        }
    }

    /// Keeps the invariants of a vector whose samples or labels were changed.
    fn finish(&mut self, mut vector: Vector) -> Result<Vector, QueryError> {
        vector.series.retain(|series| !series.column.is_empty());
        if self.names == NameRemoval::AtOnce {
            vector.series = labels::merge(std::mem::take(&mut vector.series), &self.meter)?;
        }
        vector.hold.set_samples(vector.series.iter().map(|s| s.column.len()).sum())?;
        Ok(vector)
    }

    fn broadcast(&self, value: Value, steps: usize) -> Result<Value, QueryError> {
        Ok(match value {
            Value::Scalar(scalars) => Value::Scalar(scalars.broadcast()),
            Value::Vector(Vector { series, mut hold }) => {
                self.meter.check_steps(steps)?;
                let mut wide = Vec::with_capacity(series.len());
                for mut one in series {
                    hold.grow_bytes(Column::bytes(steps))?;
                    hold.grow_samples(steps.saturating_sub(1))?;
                    one.column = one.column.broadcast(steps);
                    wide.push(one);
                }
                wide.retain(|one| !one.column.is_empty());
                Value::Vector(Vector { series: wide, hold })
            }
            other => other,
        })
    }

    /// The value of a child, which is evaluated before its parent and wanted once.
    fn take(&mut self, id: NodeId) -> Value {
        self.values[id.idx()].take().expect("a child is evaluated before its only parent")
    }

    fn take_vector(&mut self, id: NodeId) -> Vector {
        match self.take(id) {
            Value::Vector(vector) => vector,
            other => panic!("the parser lets only instant vectors through here, not {other:?}"),
        }
    }

    fn take_scalars(&mut self, id: NodeId) -> Scalars {
        match self.take(id) {
            Value::Scalar(scalars) => scalars,
            other => panic!("the parser lets only scalars through here, not {other:?}"),
        }
    }

    /// The text of a string argument.
    fn string(&self, id: NodeId) -> &str {
        match &self.ast[self.ast.unwrap_parens(id)].kind {
            ExprKind::StringLiteral(text) => text,
            other => panic!("the parser lets only strings through here, not {other:?}"),
        }
    }

    /// Where upstream says an argument is: parentheses around it do not count, and subqueries, which it replaces by
    /// what they gave, are nowhere.
    fn span(&self, id: NodeId) -> Span {
        let node = &self.ast[self.ast.unwrap_parens(id)];
        if matches!(node.kind, ExprKind::Subquery(_)) { Span::default() } else { node.span }
    }

    fn grid(&self, id: NodeId) -> Grid {
        self.plan.node(id).grid
    }

    /// A number per step of a grid.
    fn per_step(&self, grid: Grid, value: impl Fn(usize) -> f64) -> Result<Scalars, QueryError> {
        self.meter.check_steps(grid.steps())?;
        let mut hold = self.meter.hold()?;
        hold.grow_bytes((grid.steps() * size_of::<f64>()) as u64)?;
        Ok(Scalars::PerStep((0..grid.steps()).map(value).collect(), hold))
    }

    /// A vector without series.
    fn empty(&self) -> Result<Vector, QueryError> {
        Ok(Vector { series: Vec::new(), hold: self.meter.hold()? })
    }

    /// Notes what was read at a node.
    fn saw(&mut self, id: NodeId, series: usize, samples: u64, bytes: u64) {
        let seen = &mut self.seen[id.idx()];
        seen.series_read = series as u64;
        seen.actual.series = series as u64;
        seen.actual.samples = samples;
        seen.actual.bytes = bytes;
    }
}

/// Counts of samples read, as Prometheus' statistics have them: what is evaluated once for two places counts twice.
#[derive(Debug, Clone)]
struct SampleCounts {
    grid: Grid,
    total: u64,
    steps: Option<Vec<u64>>,
}

impl SampleCounts {
    fn new(grid: Grid, wanted: StatsWanted) -> SampleCounts {
        let steps = (wanted == StatsWanted::PerStep).then(|| vec![0; grid.steps()]);
        SampleCounts { grid, total: 0, steps }
    }

    fn count_column(&mut self, counting: Counting, column: &Column) {
        if counting == Counting::Step && self.steps.is_none() && column.histograms.is_empty() {
            self.total += column.floats.len() as u64;
            return;
        }
        for step in column.floats.iter() {
            self.count(counting, step, 1);
        }
        for (step, histogram) in &column.histograms {
            self.count(counting, *step as usize, histogram_samples(histogram));
        }
    }

    /// Counts the samples of all windows of a series of floats.
    fn count_windows(&mut self, counting: Counting, bounds: &Bounds) {
        if counting == Counting::Step && self.steps.is_none() {
            self.total += bounds.samples;
            return;
        }
        for (step, &(begin, end)) in bounds.of_step.iter().enumerate() {
            self.count(counting, step, u64::from(end - begin));
        }
    }

    fn count(&mut self, counting: Counting, step: usize, samples: u64) {
        match counting {
            Counting::Hidden => {}
            Counting::Step => {
                self.total += samples;
                if let Some(at) = self.steps.as_mut().and_then(|steps| steps.get_mut(step)) {
                    *at += samples;
                }
            }
            Counting::EveryStep => {
                self.total += samples * self.grid.steps() as u64;
                self.steps.iter_mut().flatten().for_each(|at| *at += samples);
            }
        }
    }

    /// Counts nothing any more.
    fn clear(&mut self) {
        self.total = 0;
        self.steps.iter_mut().flatten().for_each(|at| *at = 0);
    }

    /// What was counted since.
    fn since(&self, before: &SampleCounts) -> SampleCounts {
        let mut since = self.clone();
        since.total -= before.total;
        let steps = since.steps.iter_mut().flatten().zip(before.steps.iter().flatten());
        steps.for_each(|(now, before)| *now -= before);
        since
    }

    fn add(&mut self, more: &SampleCounts) {
        self.total += more.total;
        self.steps.iter_mut().flatten().zip(more.steps.iter().flatten()).for_each(|(sum, more)| *sum += more);
    }

    fn total(&self) -> u64 {
        self.total
    }

    fn per_step(&self) -> Vec<(i64, u64)> {
        let steps = self.steps.as_deref().unwrap_or_default();
        steps.iter().enumerate().map(|(step, &count)| (self.grid.time_ms(step), count)).collect()
    }
}

/// How many float samples a histogram stands for: one per 16 bytes, as upstream counts.
fn histogram_samples(histogram: &kymo_core::NativeHistogram) -> u64 {
    (histogram.bytes() as u64 + 8) / 16
}

fn invalid(text: impl Into<String>) -> QueryError {
    QueryError::execute(ErrorKind::Invalid, text)
}

#[cfg(test)]
pub(crate) mod tests;
