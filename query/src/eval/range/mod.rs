//! Functions over ranges: one series after another is read, slid over, and let go.

mod function;

use std::sync::Arc;

use kymo_core::query::{Grid, QueryError};
use kymo_core::storage::Columns;
use kymo_core::{Labels, METRIC_NAME, MatchOp, SeriesSet};

use self::function::{OneSeries, RangeFunction, telling, weight};
use super::column::{Column, Scalars, StepSet, Value, Vector};
use super::labels::{Distinct, METADATA_LABELS, NameRemoval};
use super::meter::Meter;
use super::notes::Note;
use super::shards::{Desk, Made, Make, Order, Read, Room};
use super::window::{Samples, Windows};
use super::{Evaluator, invalid};
use crate::parser::{Call, ExprKind, NodeId, RangeExtension, Span};
use crate::plan::Source;

/// Where the samples of a range come from.
enum Ranges {
    /// Storage.
    Stored(Arc<dyn SeriesSet>),
    /// A subquery's expression, at the steps of its grid.
    Computed { vector: Vector, grid: Grid },
}

impl Ranges {
    fn len(&self) -> usize {
        match self {
            Ranges::Stored(set) => set.len(),
            Ranges::Computed { vector, .. } => vector.series.len(),
        }
    }

    fn labels(&self, index: usize) -> Labels {
        match self {
            Ranges::Stored(set) => set.labels(index),
            Ranges::Computed { vector, .. } => vector.series[index].labels.clone(),
        }
    }

    /// Puts what an expression gave into the order of storage, so that sums do not depend on the way it came.
    fn sort(&mut self, meter: &Meter<'_>) -> Result<(), QueryError> {
        match self {
            Ranges::Computed { vector, .. } => vector.sort(meter),
            Ranges::Stored(_) => Ok(()),
        }
    }

    /// Whether a label besides the name goes with the name.
    fn any_has_type_or_unit(&self) -> bool {
        let [_, besides @ ..] = METADATA_LABELS;
        (0..self.len()).any(|index| {
            let labels = self.labels(index);
            besides.iter().any(|name| labels.get(name).is_some())
        })
    }
}

/// Makes the series of a function over ranges.
struct Sliding<'a> {
    function: RangeFunction<'a>,
    samples: Samples,
    windows: Windows,
    grid: Grid,
    /// Start timestamps are looked at.
    by_starts: bool,
    /// How names go, if they do.
    names: Option<NameRemoval>,
}

impl Sliding<'_> {
    /// Slides over the samples that were taken.
    fn slide(&mut self, made: &mut Made, desk: &mut Desk<'_, '_>) -> Result<bool, QueryError> {
        let (grid, steps) = (self.grid, self.grid.steps());
        desk.read.samples += self.samples.len() as u64;
        if self.samples.len() == 0 || steps == 0 {
            return Ok(false);
        }
        desk.reserve(Column::bytes(steps))?;
        let Made { source, series } = made;
        series.column.reset(steps);
        let one = OneSeries { metric: source.metric_name().unwrap_or_default(), samples: &self.samples, grid };
        self.function.apply(desk, one, &mut self.windows, &mut series.column)?;
        if series.column.is_empty() {
            return Ok(false);
        }
        series.labels = source.clone();
        if let Some(names) = self.names {
            names.apply(series);
        }
        Ok(true)
    }
}

impl<'a> Make<'a> for Sliding<'_> {
    fn make(&mut self, columns: &mut Columns, made: &mut Made, desk: &mut Desk<'_, 'a>) -> Result<bool, QueryError> {
        self.samples.take(columns);
        if !self.by_starts {
            self.samples.forget_starts();
        }
        self.slide(made, desk)
    }
}

/// Functions over ranges that exist for a range extension.
const ANCHORED_FUNCTIONS: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
const SMOOTHED_FUNCTIONS: [&str; 3] = ["delta", "increase", "rate"];

/// Functions that look at start timestamps, where those are on. Not over anchored and smoothed ranges.
const START_TIMESTAMP_FUNCTIONS: [&str; 4] = ["increase", "irate", "rate", "resets"];

/// The label with a metric's type.
const TYPE_LABEL: &str = "__type__";

/// Ends of names that counters have.
const COUNTER_SUFFIXES: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

impl Evaluator<'_> {
    /// Evaluates a call whose argument number `at` is a range vector.
    pub(super) fn call_range(&mut self, id: NodeId, call: &Call, at: usize) -> Result<Value, QueryError> {
        let name = call.function.name;
        let grid = self.grid(id);
        let steps = grid.steps();
        let range_id = self.ast.unwrap_parens(call.args[at]);
        let planned = self.plan.node(range_id);
        let source = planned.source.as_ref().expect("a planned range has a source");
        check_extension(name, source)?;
        let mut params = Vec::new();
        for (number, &arg) in call.args.iter().enumerate() {
            if number != at {
                params.push(self.take_scalars(arg));
            }
        }
        self.meter.check_steps(steps)?;
        let mut ranges = self.ranges(range_id, source)?;
        let mut sink = self.sink(id)?;
        // Series that differ in their names alone become one, which is refused; those of one name do not.
        let drops_names = self.names == NameRemoval::AtOnce && name != "absent_over_time";
        let typed = drops_names && ranges.any_has_type_or_unit();
        if typed {
            // They go with the name too; which series then meet is known for the whole range only.
            self.notes.depends_on_range();
        }
        let mut distinct = (drops_names && (typed || !names_one_metric(source))).then(Distinct::default);
        if self.is_summed(id) {
            ranges.sort(&self.meter)?;
        }
        let mut no_counter: Option<NoCounter> = None;
        let by_starts =
            self.starts && source.extension == RangeExtension::None && START_TIMESTAMP_FUNCTIONS.contains(&name);
        let drops_name = !matches!(name, "last_over_time" | "first_over_time");
        let (span, counting, ctx) = (self.span(call.args[0]), planned.counting, self.ctx);
        let params: Vec<&[f64]> = params.iter().map(Scalars::values).collect();
        let names = drops_name.then_some(self.names);
        let maker = |meter: &Meter<'_>| {
            let function = RangeFunction::new(name, &params, source, span, counting, meter.hold()?, ctx);
            Ok(Sliding { function, samples: Samples::default(), windows: Windows::new(meter)?, grid, by_starts, names })
        };
        let mut look = |evaluator: &mut Evaluator<'_>, made: &Made| {
            if matches!(name, "rate" | "increase") && !made.series.column.floats.is_empty() {
                evaluator.note_non_counter(&mut no_counter, made, (id, span));
            }
            distinct.as_mut().map_or(Ok(()), |distinct| distinct.add(&made.series.labels))
        };
        let read = match &ranges {
            Ranges::Stored(set) => self.make_all(
                Order { set: set.as_ref(), steps, weight: weight(name), maker: &maker },
                &mut sink,
                &mut look,
            )?,
            Ranges::Computed { vector, grid } => {
                let (mut sliding, mut made, mut read) = (maker(&self.meter)?, Made::new(), Read::default());
                for one in &vector.series {
                    self.meter.check()?;
                    sliding.samples.take_column(&one.column, *grid);
                    made.source = one.labels.clone();
                    made.series.drop_name = one.drop_name;
                    let (meter, notes, counts) = (&self.meter, &mut self.notes, &mut self.samples);
                    let mut desk = Desk { meter, notes, counts, read: &mut read, room: Room::Sink(&mut sink) };
                    if sliding.slide(&mut made, &mut desk)? {
                        look(self, &made)?;
                        sink.push(&mut made.series, &mut self.notes)?;
                    }
                }
                read
            }
        };
        self.say_non_counter(no_counter, (id, span));
        read.met.say(telling(name, source), grid, source, &mut self.notes, span);
        if source.selector.is_some() {
            self.saw(range_id, ranges.len(), read.samples, read.bytes);
        }
        let out = self.drained(id, sink)?;
        if name == "absent_over_time" {
            return Ok(Value::Vector(self.absent(out, call.args[0], steps)?));
        }
        Ok(Value::Vector(out))
    }

    fn ranges(&mut self, range_id: NodeId, source: &Source) -> Result<Ranges, QueryError> {
        if let Some(selector) = &source.selector {
            let set = match self.take_opened(range_id) {
                Some(set) => set,
                None => Arc::from(self.storage.select(selector, self.ctx)?),
            };
            return Ok(Ranges::Stored(set));
        }
        let ExprKind::Subquery(subquery) = &self.ast[range_id].kind else {
            panic!("the parser lets only selectors and subqueries be ranges")
        };
        let inner = source.inner.expect("a planned subquery has a grid");
        let vector = match self.take(subquery.expr) {
            Value::Vector(vector) => vector,
            Value::Scalar(scalars) => self.scalars_as_vector(&scalars, inner)?,
            other => panic!("the parser lets only vectors and scalars into subqueries, not {other:?}"),
        };
        Ok(Ranges::Computed { vector, grid: inner })
    }

    /// Gathers the steps at which series of one metric gave a rate, if the metric is none that should.
    fn note_non_counter(&mut self, found: &mut Option<NoCounter>, made: &Made, place: (NodeId, Span)) {
        let Some(metric) = made.source.metric_name() else { return };
        let kind = self.typed.then(|| made.source.get(TYPE_LABEL).unwrap_or_default());
        let is_same = |found: &&mut NoCounter| found.metric == metric && found.kind.as_deref() == kind;
        if let Some(same) = found.as_mut().filter(is_same) {
            same.steps.union_with(&made.series.column.floats);
            return;
        }
        self.say_non_counter(found.take(), place);
        let is_counter = match kind {
            Some(kind) => matches!(kind, "counter" | "histogram"),
            None => COUNTER_SUFFIXES.iter().any(|suffix| metric.ends_with(suffix)),
        };
        if !is_counter {
            let (metric, kind) = (metric.to_owned(), kind.map(str::to_owned));
            *found = Some(NoCounter { metric, kind, steps: made.series.column.floats.clone() });
        }
    }

    fn say_non_counter(&mut self, found: Option<NoCounter>, (id, span): (NodeId, Span)) {
        let Some(NoCounter { metric, kind, steps }) = found else { return };
        let note = Note::PossibleNonCounter { metric: &metric, kind: kind.as_deref() };
        if self.grid(id) == self.plan.grid {
            self.notes.add_info_at(note, span, &steps);
        } else {
            self.notes.add(note, span);
        }
    }
}

/// A metric that is no counter by its name, or by the label of its type.
struct NoCounter {
    metric: String,
    /// The label, where it decides.
    kind: Option<String>,
    /// Steps at which it gave a rate.
    steps: StepSet,
}

/// Whether all series have one name, by what the selector asks for.
fn names_one_metric(source: &Source) -> bool {
    let matchers = source.selector.as_ref().map(|selector| selector.matchers.as_slice()).unwrap_or_default();
    matchers.iter().any(|m| m.name() == METRIC_NAME && m.op() == MatchOp::Equal && !m.value().is_empty())
}

fn check_extension(name: &str, source: &Source) -> Result<(), QueryError> {
    let (modifier, functions): (_, &[&str]) = match source.extension {
        RangeExtension::None => return Ok(()),
        RangeExtension::Anchored => ("anchored", &ANCHORED_FUNCTIONS),
        RangeExtension::Smoothed => ("smoothed", &SMOOTHED_FUNCTIONS),
    };
    if functions.contains(&name) {
        return Ok(());
    }
    let allowed = functions.join(", ");
    Err(invalid(format!("{modifier} modifier can only be used with: {allowed} - not with {name}")))
}
