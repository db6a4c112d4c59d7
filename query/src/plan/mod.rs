//! From a tree to what will be read and where it is evaluated.
//!
//! A plan fixes, before a sample is read, everything that depends on the request and not on data:
//! durations and offsets in milliseconds, `@` as a time, the grid of every node, the window of every
//! selector, and which parts give the same answer at every step. Those are evaluated once, on a grid
//! of one step, and broadcast.
//!
//! ```text
//!   tree ──bottom-up──▶ which nodes are constant ──top-down──▶ grids and windows ──▶ Plan
//! ```
//!
//! Invariants: (1) `Plan::nodes` runs parallel to [`Ast::nodes`]; (2) a node's grid has one step if the
//! node is constant, and then `broadcast` names the steps its parent wants; (3) a selector's window
//! covers every sample that any step of its grid can look at.

mod explain;
mod local;

use kymo_core::query::{EngineOptions, Grid, QueryError};
use kymo_core::storage::{SelectHint, Tier};
use kymo_core::{Matcher, Selector};

pub(crate) use self::explain::Seen;
pub(crate) use self::local::{Dependence, Reach};

use crate::parser::{
    self, Ast, At, DurationContext, DurationExpr, ExprKind, LabelMatcher, NodeId, RangeExtension, Span, ValueType,
    VectorSelector,
};

/// Everything decided before evaluation.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<Planned>,
    /// The query's own grid.
    pub(crate) grid: Grid,
    /// How far back an instant selector looks.
    pub(crate) lookback_ms: i64,
}

/// What is known of one node.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Where the node is evaluated.
    pub(crate) grid: Grid,
    /// Steps its one answer stands for, if it is constant on a larger grid.
    pub(crate) broadcast: Option<usize>,
    /// How its samples count in the statistics.
    pub(crate) counting: Counting,
    /// What it reads.
    pub(crate) source: Option<Source>,
}

impl Planned {
    /// Whether it is a selector.
    pub(crate) fn asks_storage(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.selector.is_some())
    }
}

/// How often samples read for one step count, as Prometheus counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counting {
    /// At the step that read them.
    Step,
    /// At every step of the query: read once for a constant part.
    EveryStep,
    /// Not at all: inside a subquery, whose windows count instead.
    Hidden,
}

/// What a selector or a subquery looks at.
#[derive(Debug)]
pub(crate) struct Source {
    /// From a step to the end of its window.
    pub(crate) time: TimeRule,
    /// Length of the window: the lookback, or the range.
    pub(crate) range_ms: i64,
    /// `anchored` or `smoothed`.
    pub(crate) extension: RangeExtension,
    /// How far beyond the window's start and end an extension looks.
    pub(crate) margin_ms: (i64, i64),
    /// What is asked of storage; `None` for a subquery.
    pub(crate) selector: Option<Selector>,
    /// The grid of a subquery's expression; `None` for a selector.
    pub(crate) inner: Option<Grid>,
}

/// Which time an expression means at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeRule {
    /// `@`: the same at every step.
    pub(crate) at_ms: Option<i64>,
    /// `offset`.
    pub(crate) offset_ms: i64,
}

impl TimeRule {
    /// The end of the window at a step, inclusive.
    pub(crate) fn end_ms(self, step_ms: i64) -> i64 {
        self.at_ms.unwrap_or(step_ms).saturating_sub(self.offset_ms)
    }
}

/// Functions whose answer depends on the step even if their arguments do not.
const STEP_FUNCTIONS: [&str; 12] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "time",
    "timestamp",
    "start_timestamp",
];

impl Plan {
    /// Plans `ast` for a grid.
    ///
    /// # Errors
    /// A duration without a value.
    pub(crate) fn new(
        ast: &Ast,
        grid: Grid,
        lookback_ms: i64,
        tier: Option<Tier>,
        options: &EngineOptions,
    ) -> Result<Plan, QueryError> {
        let builder = Builder {
            ast,
            grid,
            durations: duration_context(grid),
            lookback_ms,
            tier,
            subquery_step_ms: i64::try_from(options.default_subquery_step.as_millis()).unwrap_or(i64::MAX).max(1),
            constant: constant_nodes(ast),
        };
        builder.build()
    }

    pub(crate) fn node(&self, id: NodeId) -> &Planned {
        &self.nodes[id.idx()]
    }
}

/// What `step()` and `range()` mean.
pub(crate) fn duration_context(grid: Grid) -> DurationContext {
    match grid {
        Grid::Instant { .. } => DurationContext { step_ms: 0, range_ms: 0 },
        Grid::Range { start_ms, end_ms, step_ms } => {
            DurationContext { step_ms, range_ms: end_ms.saturating_sub(start_ms) }
        }
    }
}

/// Which nodes answer the same at every step, by the rules of Prometheus' preprocessing.
fn constant_nodes(ast: &Ast) -> Vec<bool> {
    let mut constant = vec![false; ast.nodes().len()];
    for (id, expr) in ast.iter() {
        constant[id.idx()] = match &expr.kind {
            ExprKind::NumberLiteral(_) | ExprKind::StringLiteral(_) => true,
            ExprKind::VectorSelector(selector) => selector.at.is_some(),
            ExprKind::MatrixSelector(matrix) => matrix.selector.at.is_some(),
            ExprKind::Subquery(subquery) => subquery.at.is_some(),
            ExprKind::Call(call) => {
                !STEP_FUNCTIONS.contains(&call.function.name) && call.args.iter().all(|arg| constant[arg.idx()])
            }
            _ => {
                let mut all = true;
                expr.for_each_child(|child| all &= constant[child.idx()]);
                all
            }
        };
    }
    constant
}

struct Builder<'a> {
    ast: &'a Ast,
    grid: Grid,
    durations: DurationContext,
    lookback_ms: i64,
    tier: Option<Tier>,
    subquery_step_ms: i64,
    constant: Vec<bool>,
}

/// What a parent hands down to a node.
#[derive(Clone, Copy)]
struct Context {
    grid: Grid,
    counting: Counting,
    function: Option<&'static str>,
}

impl Builder<'_> {
    fn build(self) -> Result<Plan, QueryError> {
        let count = self.ast.nodes().len();
        let root = Context { grid: self.grid, counting: Counting::Step, function: None };
        let mut contexts = vec![root; count];
        let mut nodes: Vec<Planned> = Vec::with_capacity(count);
        let answer = self.ast.unwrap_parens(self.ast.root());
        // Parents stand behind their children, so backwards every parent is met first.
        for (id, expr) in self.ast.iter().rev() {
            let mut context = contexts[id.idx()];
            let mut broadcast = None;
            let ranged = matches!(expr.kind, ExprKind::MatrixSelector(_) | ExprKind::Subquery(_));
            let literal = matches!(expr.kind, ExprKind::NumberLiteral(_) | ExprKind::StringLiteral(_));
            if self.constant[id.idx()] && !literal && !ranged && context.grid.steps() != 1 {
                broadcast = Some(context.grid.steps());
                context.grid = Grid::Instant { at_ms: context.grid.start_ms() };
                if context.counting == Counting::Step {
                    context.counting = Counting::EveryStep;
                }
            }
            let source = self.source(&expr.kind, context, expr.span)?;
            let mut below = context;
            if let Some(inner) = source.as_ref().and_then(|source| source.inner) {
                // Of a subquery that is the answer itself, everything counts at the one step there is.
                let counting = if id == answer { Counting::EveryStep } else { Counting::Hidden };
                below = Context { grid: inner, counting, function: None };
            }
            match &expr.kind {
                ExprKind::Call(call) => below.function = Some(call.function.name),
                ExprKind::Aggregate(aggregate) => below.function = Some(aggregate.op.as_str()),
                ExprKind::Binary(_) | ExprKind::Unary(_) => below.function = None,
                _ => {}
            }
            expr.for_each_child(|child| contexts[child.idx()] = below);
            nodes.push(Planned { grid: context.grid, broadcast, counting: context.counting, source });
        }
        nodes.reverse();
        Ok(Plan { nodes, grid: self.grid, lookback_ms: self.lookback_ms })
    }

    fn source(&self, kind: &ExprKind, context: Context, span: Span) -> Result<Option<Source>, QueryError> {
        let (selector, range_ms) = match kind {
            ExprKind::VectorSelector(selector) => (selector.as_ref(), None),
            ExprKind::MatrixSelector(matrix) => (&matrix.selector, Some(self.positive(&matrix.range)?)),
            ExprKind::Subquery(subquery) => {
                let time = self.time_rule(subquery.at, subquery.offset.as_ref())?;
                let range_ms = self.positive(&subquery.range)?;
                let step_ms = match &subquery.step {
                    Some(step) => self.positive(step)?.max(1),
                    None => self.subquery_step_ms,
                };
                return Ok(Some(Source {
                    time,
                    range_ms,
                    extension: RangeExtension::None,
                    margin_ms: (0, 0),
                    selector: None,
                    inner: Some(subquery_grid(context.grid, time, range_ms, step_ms)?),
                }));
            }
            _ => return Ok(None),
        };
        let time = self.time_rule(selector.at, selector.offset.as_ref())?;
        let margin_ms = match (selector.extension, range_ms) {
            (RangeExtension::Anchored, Some(_)) => (self.lookback_ms, 0),
            (RangeExtension::Smoothed, Some(_)) => (self.lookback_ms, self.lookback_ms),
            (RangeExtension::Smoothed, None) => (0, self.lookback_ms),
            _ => (0, 0),
        };
        let window_ms = range_ms.unwrap_or(self.lookback_ms);
        let last = context.grid.steps().saturating_sub(1);
        let start_ms = time.end_ms(context.grid.start_ms()).saturating_sub(window_ms).saturating_sub(margin_ms.0);
        let end_ms = time.end_ms(context.grid.time_ms(last)).saturating_add(margin_ms.1);
        let mut wanted = Selector::new(matchers(selector, span)?, start_ms, end_ms);
        wanted.tier = self.tier;
        wanted.hint = SelectHint {
            function: context.function,
            step_ms: match context.grid {
                Grid::Instant { .. } => 0,
                Grid::Range { step_ms, .. } => step_ms,
            },
            range_ms: range_ms.unwrap_or(0),
        };
        // Upstream forgets the offset when it takes the times of samples at `@`, but not when it reads them.
        let forgets = matches!(context.function, Some("timestamp" | "start_timestamp")) && range_ms.is_none();
        let time = if forgets && time.at_ms.is_some() { TimeRule { offset_ms: 0, ..time } } else { time };
        Ok(Some(Source {
            time,
            range_ms: window_ms,
            extension: selector.extension,
            margin_ms,
            selector: Some(wanted),
            inner: None,
        }))
    }

    fn time_rule(&self, at: Option<At>, offset: Option<&DurationExpr>) -> Result<TimeRule, QueryError> {
        let at_ms = at.map(|at| match at {
            At::Timestamp(ms) => ms,
            At::Start => self.grid.start_ms(),
            At::End => self.grid.end_ms(),
        });
        let offset_ms = match offset {
            Some(expr) => expr.resolve_ms(self.durations).map_err(|e| duration_fault(&e, expr))?,
            None => 0,
        };
        Ok(TimeRule { at_ms, offset_ms })
    }

    fn positive(&self, expr: &DurationExpr) -> Result<i64, QueryError> {
        expr.resolve_positive_ms(self.durations).map_err(|e| duration_fault(&e, expr))
    }
}

fn duration_fault(error: &parser::DurationError, expr: &DurationExpr) -> QueryError {
    QueryError::parse(error.to_string(), Some((expr.span().start, expr.span().end)))
}

pub(crate) fn matchers(selector: &VectorSelector, span: Span) -> Result<Vec<Matcher>, QueryError> {
    let compile = |matcher: &LabelMatcher| {
        let op = match matcher.op {
            parser::MatchOp::Equal => kymo_core::MatchOp::Equal,
            parser::MatchOp::NotEqual => kymo_core::MatchOp::NotEqual,
            parser::MatchOp::Regex => kymo_core::MatchOp::Regex,
            parser::MatchOp::NotRegex => kymo_core::MatchOp::NotRegex,
        };
        Matcher::new(matcher.name.as_str(), op, matcher.value.as_str())
            .map_err(|e| QueryError::parse(e.to_string(), Some((span.start, span.end))))
    };
    selector.matchers.iter().map(compile).collect()
}

/// Steps at absolute multiples of the step, from just behind the first window's start.
fn subquery_grid(outer: Grid, time: TimeRule, range_ms: i64, step_ms: i64) -> Result<Grid, QueryError> {
    let last = outer.steps().saturating_sub(1);
    let end_ms = time.end_ms(outer.time_ms(last));
    let bound = time.end_ms(outer.start_ms()).saturating_sub(range_ms);
    let start_ms = bound.div_euclid(step_ms).saturating_add(1).saturating_mul(step_ms);
    if outer.steps() == 0 || end_ms < start_ms {
        return Ok(Grid::Range { start_ms: 0, end_ms: -1, step_ms });
    }
    check_length(start_ms, end_ms)?;
    Ok(Grid::Range { start_ms, end_ms, step_ms })
}

/// The length of a range of time.
///
/// # Errors
/// A range so long that its steps could not be counted.
pub(crate) fn check_length(start_ms: i64, end_ms: i64) -> Result<i64, QueryError> {
    end_ms.checked_sub(start_ms).ok_or_else(|| QueryError::parse("time range is longer than 2^63 ms", None))
}

/// Whether a range query may have a root of this type.
pub(crate) fn check_root(ast: &Ast, grid: Grid) -> Result<(), QueryError> {
    match (grid, ast.value_type()) {
        (Grid::Range { .. }, found @ (ValueType::Matrix | ValueType::String)) => {
            let text = format!(
                "invalid expression type {:?} for range query, must be Scalar or instant Vector",
                found.documented()
            );
            Err(QueryError::parse(text, None))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
