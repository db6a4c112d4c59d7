//! The seam to whatever answers PromQL: the local engine, or any server with a Prometheus API.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::batch::{Exemplar, Metadata};
use crate::error::ErrorKind;
use crate::histogram::NativeHistogram;
use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::storage::{QueryContext, Tier};

/// Lookback of instant selectors when a request names none.
pub const DEFAULT_LOOKBACK: Duration = Duration::from_secs(300);
/// Points per series that a range query may have.
pub const POINTS_MAX: u64 = 11_000;

/// Answers PromQL and the catalogue questions beside it. Sync; an async caller goes through a pool.
pub trait QueryBackend: Send + Sync {
    /// Evaluates a request.
    ///
    /// # Errors
    /// [`QueryError`] with a kind, a text for the client and, for the query's own faults, a position.
    fn query(&self, request: &QueryRequest, ctx: &QueryContext) -> Result<QueryResult, QueryError>;

    /// Label sets of series that match any of the matcher lists in `range`, sorted, without duplicates.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    fn series(&self, what: &CatalogRequest, ctx: &QueryContext) -> Result<Listed<Labels>, QueryError>;

    /// Label names of such series; of all series if no matcher list is given.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    fn label_names(&self, what: &CatalogRequest, ctx: &QueryContext) -> Result<Listed<String>, QueryError>;

    /// Values of one label of such series; of all series if no matcher list is given.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    fn label_values(&self, name: &str, what: &CatalogRequest, ctx: &QueryContext)
    -> Result<Listed<String>, QueryError>;

    /// Shows the items of [`label_values`](Self::label_values) in their order, until `visit` has seen enough, and gives the
    /// remarks on the list.
    ///
    /// # Errors
    /// As [`query`](Self::query); some may have been shown before.
    fn visit_label_values(
        &self,
        name: &str,
        what: &CatalogRequest,
        ctx: &QueryContext,
        visit: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Annotations, QueryError> {
        let listed = self.label_values(name, what, ctx)?;
        // Where it ended is for who ended it.
        let _ = listed.items.iter().try_for_each(|value| visit(value));
        Ok(listed.annotations)
    }

    /// Metadata by family, newest first.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    fn metadata(&self, family: Option<&str>, ctx: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, QueryError>;

    /// Exemplars between `start_ms` and `end_ms`, both inclusive, of the series that the selectors of the
    /// expression `text` name: series sorted by labels, exemplars by time.
    ///
    /// # Errors
    /// As [`query`](Self::query); [`ErrorKind::NotFound`] from a backend that has none to give.
    fn exemplars(
        &self,
        text: &str,
        start_ms: i64,
        end_ms: i64,
        ctx: &QueryContext,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, QueryError> {
        let _ = (text, start_ms, end_ms, ctx);
        Err(QueryError::execute(ErrorKind::NotFound, "exemplars cannot be asked for here"))
    }
}

/// When an expression is evaluated. Both ends are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grid {
    /// Once.
    Instant {
        /// Milliseconds since the Unix epoch.
        at_ms: i64,
    },
    /// At `start`, `start + step`, … up to `end`.
    Range {
        /// First step, milliseconds since the Unix epoch.
        start_ms: i64,
        /// No step lies beyond it.
        end_ms: i64,
        /// Distance of steps, above 0.
        step_ms: i64,
    },
}

impl Grid {
    /// Time of the first step.
    #[must_use]
    pub fn start_ms(self) -> i64 {
        match self {
            Grid::Instant { at_ms } => at_ms,
            Grid::Range { start_ms, .. } => start_ms,
        }
    }

    /// End of the grid as asked for.
    #[must_use]
    pub fn end_ms(self) -> i64 {
        match self {
            Grid::Instant { at_ms } => at_ms,
            Grid::Range { end_ms, .. } => end_ms,
        }
    }

    /// Distance of steps; 1 for an instant, whose grid has one step.
    #[must_use]
    pub fn step_ms(self) -> i64 {
        match self {
            Grid::Instant { .. } => 1,
            Grid::Range { step_ms, .. } => step_ms,
        }
    }

    /// Number of steps; 0 when the end lies before the start.
    #[must_use]
    pub fn steps(self) -> usize {
        match self {
            Grid::Instant { .. } => 1,
            Grid::Range { start_ms, end_ms, step_ms } if end_ms >= start_ms && step_ms > 0 => {
                usize::try_from((i128::from(end_ms) - i128::from(start_ms)) / i128::from(step_ms) + 1)
                    .unwrap_or(usize::MAX)
            }
            Grid::Range { .. } => 0,
        }
    }

    /// Time of step `index`, which is one of the grid's.
    #[must_use]
    pub fn time_ms(self, index: usize) -> i64 {
        // The time of a step of the grid is an `i64` even where its distance from the start is none, and what wraps
        // twice is back in place.
        self.start_ms().wrapping_add(self.step_ms().wrapping_mul(index as i64))
    }
}

/// Which statistics come with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StatsWanted {
    /// None.
    #[default]
    None,
    /// Totals.
    Totals,
    /// Totals and samples per step.
    PerStep,
}

/// Switches of the language; `Default` is Prometheus' defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineOptions {
    /// Experimental functions and aggregations.
    pub experimental_functions: bool,
    /// Arithmetic in durations.
    pub duration_expressions: bool,
    /// `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `fill`, `fill_left`, `fill_right`.
    pub fill_modifiers: bool,
    /// Drop metric names at the end of the evaluation instead of at each function.
    pub delayed_name_removal: bool,
    /// Tell counters by the label `__type__` instead of by the metric's name.
    pub type_and_unit_labels: bool,
    /// Rates and resets go by the start timestamps of samples too, and `start_timestamp` shows them.
    pub start_timestamps: bool,
    /// Step of subqueries that name none.
    pub default_subquery_step: Duration,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            experimental_functions: false,
            duration_expressions: true,
            extended_range_selectors: false,
            fill_modifiers: false,
            delayed_name_removal: false,
            type_and_unit_labels: false,
            start_timestamps: false,
            default_subquery_step: Duration::from_secs(60),
        }
    }
}

impl EngineOptions {
    /// Everything on that the test scripts assume: all but the labels of type and unit, without which counters are
    /// told by their names.
    #[must_use]
    pub fn all() -> EngineOptions {
        EngineOptions {
            experimental_functions: true,
            duration_expressions: true,
            extended_range_selectors: true,
            fill_modifiers: true,
            delayed_name_removal: true,
            start_timestamps: true,
            ..EngineOptions::default()
        }
    }
}

/// An expression and how to evaluate it.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryRequest {
    /// The PromQL text.
    pub text: String,
    /// When.
    pub grid: Grid,
    /// Lookback of instant selectors; `None` for the backend's own.
    pub lookback: Option<Duration>,
    /// Most series in the answer; 0 for no limit. A cut is said in a warning.
    pub limit: usize,
    /// Statistics wanted.
    pub stats: StatsWanted,
    /// Whether everything is to be evaluated anew, whatever was answered before. The answer is the same.
    pub fresh: bool,
    /// Whether the plan is wanted beside the result, with what it cost.
    pub explain: bool,
    /// Whether an info should say why a selector matched nothing: which matcher emptied it, and the
    /// nearest names that exist. Costs a look at the catalogue per such selector.
    pub explain_empty: bool,
    /// The resolution that is to answer. `None` for samples as written, and where those were retired, the finest rollups
    /// there are.
    pub tier: Option<Tier>,
    /// Switches; `None` for the backend's own.
    pub options: Option<EngineOptions>,
}

impl QueryRequest {
    /// An expression on a grid, everything else by default.
    #[must_use]
    pub fn new(text: impl Into<String>, grid: Grid) -> QueryRequest {
        QueryRequest {
            text: text.into(),
            grid,
            lookback: None,
            limit: 0,
            stats: StatsWanted::None,
            fresh: false,
            explain: false,
            explain_empty: false,
            tier: None,
            options: None,
        }
    }
}

/// What a request evaluated to.
#[derive(Debug, Clone, Default)]
pub struct QueryResult {
    /// The value.
    pub value: QueryValue,
    /// Warnings and infos.
    pub annotations: Annotations,
    /// What it took; for logs of queries. All 0 from a backend that does not know.
    pub cost: QueryCost,
    /// Present when asked for.
    pub stats: Option<QueryStats>,
    /// Present when asked for.
    pub plan: Option<PlanNode>,
}

impl QueryResult {
    /// Bytes that its series take in memory, about. O(series and histograms).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.value {
            QueryValue::Vector(series) | QueryValue::Matrix(series) => series.iter().map(ResultSeries::bytes).sum(),
            QueryValue::Scalar { .. } | QueryValue::String { .. } => 0,
        }
    }
}

/// A value of PromQL over the request's grid.
#[derive(Debug, Clone)]
pub enum QueryValue {
    /// A number per step (only for an instant request; a range request answers a matrix).
    Scalar {
        /// Milliseconds.
        time_ms: i64,
        /// The number.
        value: f64,
    },
    /// A string literal.
    String {
        /// Milliseconds.
        time_ms: i64,
        /// The text.
        value: String,
    },
    /// One point per series, all at the instant. In the order the expression defines.
    Vector(Vec<ResultSeries>),
    /// Points over time per series. Sorted by labels for a range request.
    Matrix(Vec<ResultSeries>),
}

impl Default for QueryValue {
    fn default() -> QueryValue {
        QueryValue::Vector(Vec::new())
    }
}

/// When the points of a series lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointTimes {
    /// On the request's grid, where the bitmap says so.
    Grid(GridPresence),
    /// At times of their own, rising (a range vector, or another server's answer).
    Own(Vec<i64>),
}

/// Which steps of a grid have a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridPresence {
    grid: Grid,
    words: Vec<u64>,
    count: usize,
}

impl GridPresence {
    /// No step has a point yet.
    #[must_use]
    pub fn empty(grid: Grid) -> GridPresence {
        GridPresence { grid, words: vec![0; grid.steps().div_ceil(64)], count: 0 }
    }

    /// Every step has a point.
    #[must_use]
    pub fn full(grid: Grid) -> GridPresence {
        let mut presence = GridPresence::empty(grid);
        for step in 0..grid.steps() {
            presence.set(step);
        }
        presence
    }

    /// Marks a step. Panics past the grid.
    pub fn set(&mut self, step: usize) {
        let (word, bit) = (step / 64, 1u64 << (step % 64));
        if self.words[word] & bit == 0 {
            self.words[word] |= bit;
            self.count += 1;
        }
    }

    /// Whether a step has a point.
    #[must_use]
    pub fn has(&self, step: usize) -> bool {
        self.words.get(step / 64).is_some_and(|w| w >> (step % 64) & 1 == 1)
    }

    /// Number of points.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of points at steps before `step`.
    #[must_use]
    pub fn count_before(&self, step: usize) -> usize {
        let whole: u32 = self.words.iter().take(step / 64).map(|word| word.count_ones()).sum();
        let part = self.words.get(step / 64).map_or(0, |word| (word & ((1 << (step % 64)) - 1)).count_ones());
        (whole + part) as usize
    }

    /// Marks what `from` has at `steps`, beginning with step `to`. Panics past the grid.
    pub fn copy_from(&mut self, from: &GridPresence, steps: std::ops::Range<usize>, to: usize) {
        for step in steps.clone().filter(|step| from.has(*step)) {
            self.set(step - steps.start + to);
        }
    }

    /// The grid.
    #[must_use]
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Times of the points, rising.
    pub fn times(&self) -> impl Iterator<Item = i64> + '_ {
        self.words.iter().enumerate().flat_map(move |(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                if left == 0 {
                    return None;
                }
                let bit = left.trailing_zeros() as usize;
                left &= left - 1;
                Some(self.grid.time_ms(at * 64 + bit))
            })
        })
    }
}

/// One series of a result: times, and a float or a histogram at each.
#[derive(Debug, Clone)]
pub struct ResultSeries {
    /// Its labels.
    pub labels: Labels,
    /// When its points lie.
    pub times: PointTimes,
    /// Values of the float points, in time order.
    pub floats: Vec<f64>,
    /// The histogram points, each with its number among all points of the series, rising.
    pub histograms: Vec<(usize, NativeHistogram)>,
}

/// The value of one point of a result.
#[derive(Debug, Clone, Copy)]
pub enum PointValue<'a> {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(&'a NativeHistogram),
}

impl ResultSeries {
    /// Number of points.
    #[must_use]
    pub fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    /// Whether it has no point.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes it takes in memory, about. O(histograms).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let times = match &self.times {
            PointTimes::Grid(presence) => presence.grid().steps().div_ceil(8),
            PointTimes::Own(times) => size_of_val(times.as_slice()),
        };
        let histograms: usize = self.histograms.iter().map(|(_, h)| h.bytes() + size_of::<usize>()).sum();
        let labels = self.labels.as_ref().packed().len();
        (size_of::<ResultSeries>() + labels + size_of_val(self.floats.as_slice()) + times + histograms) as u64
    }

    /// All points in time order.
    pub fn points(&self) -> impl Iterator<Item = (i64, PointValue<'_>)> {
        let times: Box<dyn Iterator<Item = i64> + '_> = match &self.times {
            PointTimes::Grid(presence) => Box::new(presence.times()),
            PointTimes::Own(times) => Box::new(times.iter().copied()),
        };
        let mut floats = self.floats.iter();
        let mut histograms = self.histograms.iter().peekable();
        times.enumerate().map_while(move |(number, time)| {
            let value = match histograms.peek() {
                Some((at, h)) if *at == number => {
                    histograms.next();
                    PointValue::Histogram(h)
                }
                _ => PointValue::Float(*floats.next()?),
            };
            Some((time, value))
        })
    }
}

/// Remarks on an answer, each text once, in the order found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    /// Something is probably wrong.
    pub warnings: Vec<String>,
    /// Something may surprise.
    pub infos: Vec<String>,
}

impl Annotations {
    /// Adds a warning unless it is there.
    pub fn warn(&mut self, text: impl Into<String>) {
        add_once(&mut self.warnings, text.into());
    }

    /// Adds an info unless it is there.
    pub fn info(&mut self, text: impl Into<String>) {
        add_once(&mut self.infos, text.into());
    }

    /// Adds all of `other`.
    pub fn absorb(&mut self, other: Annotations) {
        for text in other.warnings {
            self.warn(text);
        }
        for text in other.infos {
            self.info(text);
        }
    }
}

fn add_once(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}

/// What a query cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryStats {
    /// Time in all.
    pub total_time: Duration,
    /// Time to parse and plan.
    pub prepare_time: Duration,
    /// Time spent evaluating.
    pub eval_time: Duration,
    /// Samples read, summed over steps as Prometheus counts.
    pub total_queryable_samples: u64,
    /// Most samples held at once.
    pub peak_samples: u64,
    /// Samples per step, when asked for.
    pub samples_per_step: Vec<(i64, u64)>,
}

/// What a query took, counted whether or not anybody asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryCost {
    /// From the request to the result.
    pub time: Duration,
    /// Series read from storage.
    pub series: u64,
    /// Samples read from storage, each once.
    pub samples: u64,
    /// Bytes that those samples take in storage, about.
    pub bytes: u64,
    /// Most memory held at once, in bytes.
    pub memory_bytes: u64,
    /// Steps of the answer that were kept from an earlier one.
    pub steps_reused: u64,
    /// Nodes of the query that were not evaluated, because others in it say the same.
    pub nodes_shared: u64,
}

/// One node of a plan: what it was expected to cost before anything was read, and what it did.
///
/// Operations that are done series by series in one pass (a selector, functions of it, the
/// aggregation around them) stand as a chain of inputs; what is read is told at its end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlanNode {
    /// The operation, as text.
    pub operation: String,
    /// Which bytes of the query text it comes from.
    pub span: Option<(u32, u32)>,
    /// The resolution that answers; of selectors only.
    pub tier: Option<Tier>,
    /// Steps it is evaluated at.
    pub steps: u64,
    /// Known before anything was read.
    pub estimated: NodeCost,
    /// Seen; all 0 where nothing was run.
    pub actual: NodeCost,
    /// Time spent in it, without its inputs.
    pub time: Duration,
    /// Inputs.
    pub inputs: Vec<PlanNode>,
}

/// What one node of a plan takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeCost {
    /// Series that it gives to the node around it; of a selector also those that turn out to have no sample.
    pub series: u64,
    /// Samples it reads from storage; 0 for anything but a selector.
    pub samples: u64,
    /// Bytes that those samples take in storage, about.
    pub bytes: u64,
    /// Most memory that it holds, its result included, in bytes.
    pub memory_bytes: u64,
}

/// Which part of the catalogue.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CatalogRequest {
    /// Lists of matchers; a series counts that matches all of any one list.
    pub matchers: Vec<Vec<Matcher>>,
    /// From here, inclusive; `None` for the beginning of time.
    pub start_ms: Option<i64>,
    /// To here, inclusive; `None` for the end of time.
    pub end_ms: Option<i64>,
    /// Most entries; 0 for no limit.
    pub limit: usize,
}

/// A list that may have been cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// The entries, sorted.
    pub items: Vec<T>,
    /// Remarks, for example that the list was cut.
    pub annotations: Annotations,
}

/// Why a query was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct QueryError {
    /// What a surface makes of it.
    pub kind: ErrorKind,
    /// Whether it is the text that is at fault, found before anything ran.
    pub phase: QueryPhase,
    /// The text for the client, as Prometheus words it where it has a word for it.
    pub message: String,
    /// Which bytes of the query text it is about.
    pub span: Option<(u32, u32)>,
}

/// Where a query failed; decides between `bad_data` and `execution` on the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryPhase {
    /// Reading the text or its parameters.
    Parse,
    /// Evaluating.
    Execute,
}

impl QueryError {
    /// A fault of the text.
    #[must_use]
    pub fn parse(message: impl Into<String>, span: Option<(u32, u32)>) -> QueryError {
        QueryError { kind: ErrorKind::Invalid, phase: QueryPhase::Parse, message: message.into(), span }
    }

    /// A fault found while evaluating.
    #[must_use]
    pub fn execute(kind: ErrorKind, message: impl Into<String>) -> QueryError {
        QueryError { kind, phase: QueryPhase::Execute, message: message.into(), span: None }
    }

    /// The same with a place in the text.
    #[must_use]
    pub fn at(mut self, span: (u32, u32)) -> QueryError {
        self.span = Some(span);
        self
    }

    /// What a surface makes of it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<crate::storage::SelectError> for QueryError {
    fn from(error: crate::storage::SelectError) -> QueryError {
        use std::error::Error;
        let mut message = match error {
            crate::storage::SelectError::Timeout => "query timed out in expression evaluation".to_owned(),
            crate::storage::SelectError::Cancelled => "query was canceled in expression evaluation".to_owned(),
            ref other => other.to_string(),
        };
        let mut cause = error.source();
        while let Some(next) = cause {
            message = format!("{message}: {next}");
            cause = next.source();
        }
        QueryError::execute(error.kind(), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_counts_both_ends_and_survives_extremes() {
        let grid = Grid::Range { start_ms: 0, end_ms: 100, step_ms: 30 };
        assert_eq!((grid.steps(), grid.time_ms(3)), (4, 90));
        assert_eq!(Grid::Range { start_ms: 1, end_ms: 0, step_ms: 1 }.steps(), 0);
        let extreme = Grid::Range { start_ms: i64::MIN, end_ms: i64::MAX, step_ms: i64::MAX };
        assert_eq!(extreme.steps(), 3);
        assert_eq!([0, 1, 2].map(|step| extreme.time_ms(step)), [i64::MIN, -1, i64::MAX - 1]);
        assert_eq!(Grid::Instant { at_ms: 7 }.steps(), 1);
    }

    #[test]
    fn presence_gives_the_times_of_its_points() {
        let grid = Grid::Range { start_ms: 1_000, end_ms: 201_000, step_ms: 1_000 };
        let mut presence = GridPresence::empty(grid);
        for step in [0, 63, 64, 200, 64] {
            presence.set(step);
        }
        assert_eq!(presence.times().collect::<Vec<_>>(), [1_000, 64_000, 65_000, 201_000]);
        assert_eq!(presence.count(), 4);
        assert!(presence.has(63) && !presence.has(62));
        assert_eq!([0, 1, 63, 64, 65, 200, 201].map(|step| presence.count_before(step)), [0, 1, 1, 2, 3, 3, 4]);
        let mut copied = GridPresence::empty(grid);
        copied.copy_from(&presence, 60..70, 5);
        assert_eq!(copied.times().collect::<Vec<_>>(), [9_000, 10_000]);
        assert_eq!(GridPresence::full(grid).count(), 201);
    }
}
