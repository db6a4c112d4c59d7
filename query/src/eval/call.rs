//! Function calls, other than those over ranges.

use kymo_core::matcher::compile_regex;
use kymo_core::query::{Grid, QueryError};
use kymo_core::{ErrorKind, Labels, LabelsBuilder, METRIC_NAME};

use super::column::{Column, Scalars, Series, StepSet, Value, Vector};
use super::labels;
use super::notes::Note;
use super::{Evaluator, invalid};
use crate::engine::EngineConfig;
use crate::functions::{calendar, math, natural};
use crate::parser::{self, Call, ExprKind, LabelMatcher, MatchOp, NodeId, Span, ValueType};
use crate::plan;

impl Evaluator<'_> {
    /// Evaluates a call.
    pub(super) fn call(&mut self, id: NodeId, call: &Call) -> Result<Value, QueryError> {
        if let Some(at) = call.args.iter().position(|&arg| self.ast[arg].value_type == ValueType::Matrix) {
            return self.call_range(id, call, at);
        }
        let name = call.function.name;
        let grid = self.grid(id);
        if let Some(scalars) = self.scalar_call(name, call, grid)? {
            return Ok(Value::Scalar(scalars));
        }
        let vector = match name {
            "vector" => {
                let scalars = self.take_scalars(call.args[0]);
                self.scalars_as_vector(&scalars, grid)?
            }
            "absent" => {
                let vector = self.take_vector(call.args[0]);
                self.absent(vector, call.args[0], grid.steps())?
            }
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => self.sort(id, name, call)?,
            "label_replace" => self.label_replace(call)?,
            "label_join" => self.label_join(call)?,
            "clamp" | "clamp_min" | "clamp_max" => self.clamp(name, call)?,
            "round" => {
                let nearest = call.args.get(1).map(|&arg| self.take_scalars(arg));
                let nearest = nearest.unwrap_or(Scalars::Constant(1.0));
                let vector = self.take_vector(call.args[0]);
                self.map_floats(vector, |value, step| math::round(value, nearest.at(step)))?
            }
            "timestamp" => self.timestamp(call.args[0], grid)?,
            "start_timestamp" => self.start_timestamp(call.args[0])?,
            "info" => self.info(id, call)?,
            "histogram_quantile" | "histogram_fraction" | "histogram_quantiles" => self.histograms(id, name, call)?,
            "histogram_count" | "histogram_sum" | "histogram_avg" | "histogram_stddev" | "histogram_stdvar" => {
                let vector = self.take_vector(call.args[0]);
                self.of_histograms(name, vector)?
            }
            _ => match (math::unary(name), calendar::field(name)) {
                (Some(function), _) => {
                    let vector = self.take_vector(call.args[0]);
                    self.map_floats(vector, |value, _| function(value))?
                }
                (_, Some(field)) => self.calendar(field, call, grid)?,
                _ => return Err(invalid(format!("{name}() is not supported yet"))),
            },
        };
        Ok(Value::Vector(vector))
    }

    /// Functions whose result is a scalar.
    fn scalar_call(&mut self, name: &str, call: &Call, grid: Grid) -> Result<Option<Scalars>, QueryError> {
        let seconds = |ms: i64| Scalars::Constant(ms as f64 / 1000.0);
        let durations = plan::duration_context(self.plan.grid);
        Ok(Some(match name {
            "time" => self.per_step(grid, |step| grid.time_ms(step) as f64 / 1000.0)?,
            "pi" => Scalars::Constant(std::f64::consts::PI),
            "start" => seconds(self.plan.grid.start_ms()),
            "end" => seconds(self.plan.grid.end_ms()),
            "step" => seconds(durations.step_ms),
            "range" => seconds(durations.range_ms),
            "min_of" | "max_of" => {
                let (a, b) = (self.take_scalars(call.args[0]), self.take_scalars(call.args[1]));
                a.combine(b, if name == "min_of" { smaller } else { larger })
            }
            "scalar" => {
                let vector = self.take_vector(call.args[0]);
                self.only_floats(&vector, grid)?
            }
            _ => return Ok(None),
        }))
    }

    /// The one float of each step, NaN where there are none or several.
    fn only_floats(&self, vector: &Vector, grid: Grid) -> Result<Scalars, QueryError> {
        let mut found = self.per_step(grid, |_| f64::NAN)?;
        let mut taken = StepSet::empty(grid.steps());
        if let Scalars::PerStep(values, _) = &mut found {
            for series in &vector.series {
                for step in series.column.floats.iter() {
                    values[step] = if taken.contains(step) { f64::NAN } else { series.column.values[step] };
                    taken.insert(step);
                }
            }
        }
        Ok(found)
    }

    /// Applies `function(value, step)` to every float; histograms are left out, names dropped.
    fn map_floats(&mut self, mut vector: Vector, function: impl Fn(f64, usize) -> f64) -> Result<Vector, QueryError> {
        for series in &mut vector.series {
            self.meter.check()?;
            series.column.histograms.clear();
            series.column.values.iter_mut().enumerate().for_each(|(step, v)| *v = function(*v, step));
            self.names.apply(series);
        }
        self.finish(vector)
    }

    fn clamp(&mut self, name: &str, call: &Call) -> Result<Vector, QueryError> {
        let first = self.take_scalars(call.args[1]);
        let (min, max) = match name {
            "clamp_min" => (first, Scalars::Constant(f64::INFINITY)),
            "clamp_max" => (Scalars::Constant(f64::NEG_INFINITY), first),
            _ => (first, self.take_scalars(call.args[2])),
        };
        let mut vector = self.take_vector(call.args[0]);
        for series in &mut vector.series {
            for step in 0..series.column.values.len() {
                if max.at(step) < min.at(step) {
                    series.column.floats.remove(step);
                }
            }
        }
        self.map_floats(vector, |value, step| math::clamp(value, min.at(step), max.at(step)))
    }

    /// `timestamp`: a selector gave its samples' times already; anything else has the step's time.
    fn timestamp(&mut self, arg: NodeId, grid: Grid) -> Result<Vector, QueryError> {
        let mut vector = self.take_vector(arg);
        let selector = matches!(self.ast[self.ast.unwrap_parens(arg)].kind, ExprKind::VectorSelector(_));
        for series in &mut vector.series {
            if !selector {
                let present = series.column.present();
                series.column.histograms.clear();
                present.iter().for_each(|step| series.column.set(step, grid.time_ms(step) as f64 / 1000.0));
            }
            self.names.apply(series);
        }
        self.finish(vector)
    }

    /// `start_timestamp`: what a selector gave, if start timestamps are looked at; what an expression makes has none.
    fn start_timestamp(&mut self, arg: NodeId) -> Result<Vector, QueryError> {
        let mut vector = self.take_vector(arg);
        let selector = matches!(self.ast[self.ast.unwrap_parens(arg)].kind, ExprKind::VectorSelector(_));
        if !selector || !self.starts {
            vector.series.clear();
        }
        self.map_floats(vector, |value, _| value)
    }

    fn calendar(&mut self, field: fn(i64) -> f64, call: &Call, grid: Grid) -> Result<Vector, QueryError> {
        if let Some(&arg) = call.args.first() {
            let vector = self.take_vector(arg);
            return self.map_floats(vector, |value, _| field(calendar::seconds(value)));
        }
        let now = self.per_step(grid, |step| field(grid.time_ms(step) / 1000))?;
        self.scalars_as_vector(&now, grid)
    }

    /// One series of 1 at the steps where `vector` has nothing.
    pub(super) fn absent(&mut self, vector: Vector, arg: NodeId, steps: usize) -> Result<Vector, QueryError> {
        let mut missing = StepSet::full(steps);
        for series in &vector.series {
            missing.subtract(&series.column.present());
        }
        let mut out = self.empty()?;
        if missing.is_empty() {
            return Ok(out);
        }
        out.hold.grow_bytes(Column::bytes(steps))?;
        out.hold.grow_samples(missing.len())?;
        let mut column = Column::empty(steps);
        missing.iter().for_each(|step| column.set(step, 1.0));
        out.series.push(Series { labels: self.absent_labels(arg), drop_name: false, column });
        Ok(out)
    }

    /// The labels that the argument's matchers fix to one value.
    fn absent_labels(&self, arg: NodeId) -> Labels {
        let matchers: &[LabelMatcher] = match &self.ast[self.ast.unwrap_parens(arg)].kind {
            ExprKind::VectorSelector(selector) => &selector.matchers,
            ExprKind::MatrixSelector(matrix) => &matrix.selector.matchers,
            _ => &[],
        };
        let mut builder = LabelsBuilder::new();
        let mut fixed: Vec<&str> = Vec::new();
        for matcher in matchers.iter().filter(|m| m.name != METRIC_NAME) {
            // A second matcher on a label unfixes it, whatever it says: so does upstream.
            if matcher.op == MatchOp::Equal && !fixed.contains(&matcher.name.as_str()) {
                builder.set(&matcher.name, &matcher.value);
                fixed.push(&matcher.name);
            } else {
                builder.remove(&matcher.name);
            }
        }
        builder.labels()
    }

    fn sort(&mut self, id: NodeId, name: &str, call: &Call) -> Result<Vector, QueryError> {
        if matches!(self.plan.grid, Grid::Range { .. }) {
            self.notes.add(Note::SortInRangeQuery, self.ast[id].span);
        }
        let mut vector = self.take_vector(call.args[0]);
        let descending = name.ends_with("_desc");
        if name.starts_with("sort_by_label") {
            let by: Vec<&str> = call.args[1..].iter().map(|&arg| self.string(arg)).collect();
            vector.series = self.meter.sorted(vector.series, |a, b| {
                let value = |series: &Series, label: &str| series.labels.get(label).unwrap_or_default().to_owned();
                let first = by
                    .iter()
                    .map(|label| natural::compare(&value(a, label), &value(b, label)))
                    .find(|order| order.is_ne());
                let order = first.unwrap_or_else(|| a.labels.cmp(&b.labels));
                if descending { order.reverse() } else { order }
            })?;
            return Ok(vector);
        }
        vector.series.retain_mut(|series| {
            series.column.histograms.clear();
            !series.column.is_empty()
        });
        if self.grid(id).steps() == 1 {
            // NaN is last in either direction.
            vector.series = self.meter.sorted(vector.series, |a, b| {
                let (a, b) = (a.column.values[0], b.column.values[0]);
                let order = if descending { b.partial_cmp(&a) } else { a.partial_cmp(&b) };
                order.unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            })?;
        }
        self.finish_sorted(vector)
    }

    fn finish_sorted(&mut self, mut vector: Vector) -> Result<Vector, QueryError> {
        vector.hold.set_samples(vector.series.iter().map(|s| s.column.len()).sum())?;
        Ok(vector)
    }

    fn label_replace(&mut self, call: &Call) -> Result<Vector, QueryError> {
        let text = |at: usize| self.string(call.args[at]).to_owned();
        let (target, replacement, source, expression) = (text(1), text(2), text(3), text(4));
        let refused = || invalid(format!("invalid regular expression in label_replace(): {expression}"));
        parser::check_regex(&expression).map_err(|_| refused())?;
        let regex = compile_regex(&expression).map_err(|_| refused())?;
        self.check_label_name(call.args[1], "destination", "label_replace")?;
        let mut vector = self.take_vector(call.args[0]);
        let mut value = String::new();
        let references = replacement.matches('$').count();
        for series in &mut vector.series {
            self.meter.check()?;
            let labels = series.labels.clone();
            if let Some(found) = regex.captures(labels.get(&source).unwrap_or_default()) {
                value.clear();
                // Each reference stands for a part of the source.
                let source_bytes = found.get(0).map_or(0, |whole| whole.len());
                let bytes_at_most = replacement.len().saturating_add(references.saturating_mul(source_bytes));
                if bytes_at_most > EXPANDED_BYTES_MAX {
                    return Err(too_long_a_label("label_replace", bytes_at_most));
                }
                found.expand(&replacement, &mut value);
                if value.len() > EngineConfig::LABEL_BYTES_MAX {
                    return Err(too_long_a_label("label_replace", value.len()));
                }
                set_label(series, &target, &value);
            }
        }
        vector.series = labels::merge(vector.series, &self.meter)?;
        self.finish_sorted(vector)
    }

    fn label_join(&mut self, call: &Call) -> Result<Vector, QueryError> {
        let (target, separator) = (self.string(call.args[1]).to_owned(), self.string(call.args[2]).to_owned());
        for &arg in &call.args[3..] {
            self.check_label_name(arg, "source", "label_join")?;
        }
        self.check_label_name(call.args[1], "destination", "label_join")?;
        let mut vector = self.take_vector(call.args[0]);
        let sources: Vec<&str> = call.args[3..].iter().map(|&arg| self.string(arg)).collect();
        for series in &mut vector.series {
            self.meter.check_often()?;
            let values: Vec<&str> = sources.iter().map(|name| series.labels.get(name).unwrap_or_default()).collect();
            let bytes = values.iter().map(|value| value.len()).sum::<usize>();
            let bytes = bytes.saturating_add(separator.len().saturating_mul(values.len().saturating_sub(1)));
            if bytes > EngineConfig::LABEL_BYTES_MAX {
                return Err(too_long_a_label("label_join", bytes));
            }
            let joined = values.join(&separator);
            set_label(series, &target, &joined);
        }
        vector.series = labels::merge(vector.series, &self.meter)?;
        self.finish_sorted(vector)
    }

    /// Fails for a label name that is empty or not UTF-8.
    fn check_label_name(&self, arg: NodeId, role: &str, function: &str) -> Result<(), QueryError> {
        let Span { start, end } = self.span(arg);
        let bytes = parser::string_literal_bytes(&self.text[start as usize..end as usize]);
        if !bytes.is_empty() && std::str::from_utf8(&bytes).is_ok() {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(&bytes);
        Err(QueryError::execute(ErrorKind::Invalid, format!("invalid {role} label name in {function}(): {shown}")))
    }
}

/// What `label_replace` may make before it is looked at.
const EXPANDED_BYTES_MAX: usize = 16 * EngineConfig::LABEL_BYTES_MAX;

/// A value that is longer than any that is stored: each step of a query could double it, and an expression over it could
/// not be interrupted.
fn too_long_a_label(function: &str, bytes: usize) -> QueryError {
    let max = EngineConfig::LABEL_BYTES_MAX;
    let text = format!("{function}() makes a label value of {bytes} bytes, and the limit is {max}, which is fixed");
    QueryError::execute(ErrorKind::Limit, text)
}

fn set_label(series: &mut Series, name: &str, value: &str) {
    series.labels = LabelsBuilder::from_labels(series.labels.as_ref()).set(name, value).labels();
    if name == METRIC_NAME {
        series.drop_name = false;
    }
}

/// Go's `math.Min`: NaN if either is.
fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}
