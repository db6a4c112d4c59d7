//! From the root's value to the answer.

use std::sync::Arc;

use kymo_core::query::{Grid, GridPresence, PointTimes, QueryError, QueryValue, ResultSeries};
use kymo_core::{Labels, SeriesSet};

use super::Evaluator;
use super::column::{Column, Scalars, Series, Value, Vector};
use super::labels::{self, NameRemoval};
use super::select::{Reader, no_histograms_extended};
use super::window::{Samples, Window};
use crate::functions::rate::{Edges, extended_samples};
use crate::parser::{ExprKind, NodeId, RangeExtension};
use crate::plan::Source;

impl Evaluator<'_> {
    /// The answer of the whole query.
    pub(super) fn answer(&mut self, root: NodeId) -> Result<QueryValue, QueryError> {
        let grid = self.plan.grid;
        match (self.take(root), grid) {
            (Value::Scalar(scalars), Grid::Instant { at_ms }) => {
                Ok(QueryValue::Scalar { time_ms: at_ms, value: scalars.at(0) })
            }
            (Value::Scalar(scalars), Grid::Range { .. }) => {
                let times = PointTimes::Grid(GridPresence::full(grid));
                let floats = match scalars {
                    Scalars::Constant(value) => vec![value; grid.steps()],
                    Scalars::PerStep(values, _) => values,
                };
                let one = ResultSeries { labels: Labels::empty(), times, floats, histograms: Vec::new() };
                Ok(QueryValue::Matrix(if one.is_empty() { Vec::new() } else { vec![one] }))
            }
            (Value::Vector(vector), _) => {
                let mut series = self.without_dropped_names(vector)?;
                if matches!(grid, Grid::Instant { .. }) {
                    return Ok(QueryValue::Vector(series.into_iter().map(|s| on_grid(s, grid)).collect()));
                }
                series = self.meter.sorted(series, |a, b| a.labels.cmp(&b.labels))?;
                Ok(QueryValue::Matrix(series.into_iter().map(|s| on_grid(s, grid)).collect()))
            }
            (Value::Deferred, _) => {
                let series = self.range_answer(self.ast.unwrap_parens(root))?;
                Ok(QueryValue::Matrix(self.meter.sorted(series, |a, b| a.labels.cmp(&b.labels))?))
            }
            (Value::Text, _) => {
                let value = self.string(root).to_owned();
                Ok(QueryValue::String { time_ms: grid.start_ms(), value })
            }
        }
    }

    /// Removes the names whose removal was delayed.
    fn without_dropped_names(&self, vector: Vector) -> Result<Vec<Series>, QueryError> {
        let mut series = vector.series;
        if self.names == NameRemoval::Delayed {
            for one in series.iter_mut().filter(|one| one.drop_name) {
                one.labels = labels::without_name(&one.labels);
            }
        }
        labels::merge(series, &self.meter)
    }

    fn range_answer(&mut self, root: NodeId) -> Result<Vec<ResultSeries>, QueryError> {
        let planned = self.plan.node(root);
        let source = planned.source.as_ref().expect("a planned range has a source");
        if let ExprKind::Subquery(subquery) = &self.ast[root].kind {
            let inner = source.inner.expect("a planned subquery has a grid");
            let vector = match self.take(subquery.expr) {
                Value::Vector(vector) => vector,
                Value::Scalar(scalars) => self.scalars_as_vector(&scalars, inner)?,
                Value::Deferred | Value::Text => return Ok(Vec::new()),
            };
            let series = self.without_dropped_names(vector)?;
            return Ok(series.into_iter().map(|s| at_own_times(s, inner)).collect());
        }
        let Some(selector) = &source.selector else { return Ok(Vec::new()) };
        let set = match self.take_opened(root) {
            Some(set) => set,
            None => Arc::from(self.storage.select(selector, self.ctx)?),
        };
        self.samples_of(root, set.as_ref(), source, planned.grid)
    }

    /// Every sample of a range vector.
    fn samples_of(
        &mut self,
        id: NodeId,
        set: &dyn SeriesSet,
        source: &Source,
        grid: Grid,
    ) -> Result<Vec<ResultSeries>, QueryError> {
        let mut reader = Reader::new(&self.meter)?;
        let mut hold = self.meter.hold()?;
        let mut samples = Samples::default();
        let mut found = Vec::new();
        let (mut read, mut bytes) = (0, 0);
        for index in 0..set.len() {
            let estimate = set.estimate(index) as u64;
            bytes += set.estimate_bytes(index);
            hold.grow_bytes(estimate * 2 * size_of::<i64>() as u64)?;
            reader.read(set, index, &self.meter)?;
            reader.has_read(reader.columns.times.len())?;
            samples.take(&mut reader.columns);
            if source.extension != RangeExtension::None {
                if !samples.histograms.is_empty() {
                    return Err(no_histograms_extended());
                }
                let smoothed = source.extension == RangeExtension::Smoothed;
                let edges = if smoothed { Edges::Smoothed } else { Edges::Anchored };
                let window = Window::of(source, grid, 0);
                (samples.times, samples.values) = extended_samples(&samples.times, &samples.values, window, edges);
            }
            if samples.len() == 0 {
                continue;
            }
            hold.grow_samples(samples.len())?;
            read += samples.len() as u64;
            self.samples.count(self.plan.node(id).counting, 0, samples.len() as u64);
            found.push(merged(set.labels(index), &samples));
        }
        self.saw(id, set.len(), read, bytes);
        Ok(found)
    }

    /// Scalars as the one series without labels that a subquery makes of them.
    pub(super) fn scalars_as_vector(&self, scalars: &Scalars, grid: Grid) -> Result<Vector, QueryError> {
        let steps = grid.steps();
        self.meter.check_steps(steps)?;
        let mut vector = self.empty()?;
        vector.hold.grow_bytes(Column::bytes(steps))?;
        vector.hold.grow_samples(steps)?;
        let mut column = Column::empty(steps);
        (0..steps).for_each(|step| column.set(step, scalars.at(step)));
        if steps > 0 {
            vector.series.push(Series { labels: Labels::empty(), drop_name: false, column });
        }
        Ok(vector)
    }
}

fn on_grid(series: Series, grid: Grid) -> ResultSeries {
    let Series { labels, column, .. } = series;
    let mut presence = GridPresence::empty(grid);
    let mut histograms = Vec::with_capacity(column.histograms.len());
    let floats = if column.histograms.is_empty() && column.floats.len() == column.values.len() {
        (0..column.values.len()).for_each(|step| presence.set(step));
        column.values
    } else {
        let mut sparse = column.histograms.iter().peekable();
        let mut floats = Vec::with_capacity(column.floats.len());
        for (number, step) in column.present().iter().enumerate() {
            presence.set(step);
            match sparse.next_if(|(s, _)| *s as usize == step) {
                Some((_, histogram)) => histograms.push((number, histogram.as_ref().clone())),
                None => floats.push(column.values[step]),
            }
        }
        floats
    };
    ResultSeries { labels, times: PointTimes::Grid(presence), floats, histograms }
}

fn at_own_times(series: Series, grid: Grid) -> ResultSeries {
    let mut result = on_grid(series, grid);
    if let PointTimes::Grid(presence) = &result.times {
        result.times = PointTimes::Own(presence.times().collect());
    }
    result
}

fn merged(labels: Labels, samples: &Samples) -> ResultSeries {
    if samples.histograms.is_empty() {
        let times = PointTimes::Own(samples.times.clone());
        return ResultSeries { labels, times, floats: samples.values.clone(), histograms: Vec::new() };
    }
    let mut times = samples.times.clone();
    times.extend_from_slice(&samples.histogram_times);
    times.sort_unstable();
    let number = |time: i64| times.partition_point(|&t| t < time);
    let histograms = samples
        .histogram_times
        .iter()
        .zip(&samples.histograms)
        .map(|(&time, histogram)| (number(time), histogram.as_ref().clone()))
        .collect();
    ResultSeries { labels, floats: samples.values.clone(), histograms, times: PointTimes::Own(times) }
}
