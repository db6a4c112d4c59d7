//! `info`: labels of info metrics added to the series they describe.
//!
//! An info series describes the series with the same `instance` and `job`. Which info series there is may
//! change from step to step, so the steps of a series are divided by what describes it there.

use std::collections::{BTreeMap, BTreeSet};

use kymo_core::query::QueryError;
use kymo_core::{LabelsBuilder, METRIC_NAME, MatchOp, Matcher, Selector};

use super::column::{Column, Series, StepSet, Vector};
use super::labels::{self, braced};
use super::select::Answer;
use super::{Evaluator, invalid};
use crate::parser::{Call, ExprKind, NodeId, RangeExtension};
use crate::plan::{Source, TimeRule};

/// The info metric when none is named.
const TARGET_INFO: &str = "target_info";
/// Labels that say what an info series describes.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Which info series, by number, describe a series at a step; at most one per metric.
type Describing = Vec<usize>;

impl Evaluator<'_> {
    pub(super) fn info(&mut self, id: NodeId, call: &Call) -> Result<Vector, QueryError> {
        let base = self.take_vector(call.args[0]);
        let given = call.args.get(1).and_then(|&arg| self.plan.node(arg).source.as_ref()?.selector.as_ref());
        let mut matchers = given.map(|selector| selector.matchers.clone()).unwrap_or_default();
        let data: Vec<Matcher> = matchers.iter().filter(|m| m.name() != METRIC_NAME).cloned().collect();
        if matchers.iter().all(|m| m.name() != METRIC_NAME) {
            matchers.push(Matcher::equal(METRIC_NAME, TARGET_INFO));
        }
        // Without a second argument `target_info` itself is not described either; with one that names no
        // metric, everything is.
        let names: Vec<Matcher> = match given {
            Some(given) => given.matchers.iter().filter(|m| m.name() == METRIC_NAME).cloned().collect(),
            None => matchers.clone(),
        };
        let is_info = |series: &Series| {
            let name = series.labels.metric_name().unwrap_or_default();
            !names.is_empty() && names.iter().all(|m| m.matches(name))
        };
        let described: Vec<&Series> = base.series.iter().filter(|series| !is_info(series)).collect();
        let info = self.info_series(id, call.args[0], &described, matchers)?;
        let mut out = self.empty()?;
        for series in &base.series {
            self.meter.check()?;
            out.hold.grow_bytes(Column::bytes(series.column.values.len()))?;
            if is_info(series) {
                out.series.push(series.clone());
                continue;
            }
            for (describing, steps) in divide(series, &info.series)? {
                if describing.is_empty() && data.iter().any(|m| !m.matches_empty()) {
                    continue;
                }
                let mut part = series.clone();
                part.column.retain(&steps);
                part.labels = enriched(series, &describing, &info.series, &data)?;
                out.series.push(part);
            }
        }
        out.series = labels::merge(out.series, &self.meter)?;
        out.hold.set_samples(out.series.iter().map(|s| s.column.len()).sum())?;
        Ok(out)
    }

    /// The info series of anything in `described`; values are the times of their samples.
    fn info_series(
        &mut self,
        id: NodeId,
        what: NodeId,
        described: &[&Series],
        mut matchers: Vec<Matcher>,
    ) -> Result<Vector, QueryError> {
        let mut identified = false;
        for label in IDENTIFYING {
            let values: BTreeSet<&str> = described.iter().filter_map(|series| series.labels.get(label)).collect();
            if values.is_empty() {
                continue;
            }
            identified = true;
            let any: Vec<String> = values.into_iter().map(regex::escape).collect();
            let matcher = Matcher::new(label, MatchOp::Regex, any.join("|")).map_err(|e| invalid(e.to_string()))?;
            matchers.push(matcher);
        }
        if !identified {
            return self.empty();
        }
        let grid = self.grid(id);
        let lookback_ms = self.plan.lookback_ms;
        let last = grid.time_ms(grid.steps().saturating_sub(1));
        // Upstream reads info series where the first selector of the described looks, and evaluates them at the steps
        // all the same: with `@` or an offset it sees only what lies in both.
        let time = self.described_at(what);
        if time.at_ms.is_some() || time.offset_ms != 0 {
            self.notes.depends_on_range();
        }
        let (first_ms, last_ms) = (time.end_ms(grid.start_ms()), time.end_ms(last));
        let selector = Selector::new(matchers, first_ms.saturating_sub(lookback_ms), last_ms);
        let source = Source {
            time: TimeRule { at_ms: None, offset_ms: 0 },
            range_ms: lookback_ms,
            extension: RangeExtension::None,
            margin_ms: (0, 0),
            selector: Some(selector),
            inner: None,
        };
        let found = self.select(id, &source, Answer::FloatTimes)?;
        match found.series.iter().find(|series| !series.column.histograms.is_empty()) {
            Some(series) => {
                let labels = braced(&series.labels);
                Err(invalid(format!("this should be an info metric, with float samples: {labels}")))
            }
            None => Ok(found),
        }
    }
}

impl Evaluator<'_> {
    /// The time rule of the first selector of an expression.
    fn described_at(&self, what: NodeId) -> TimeRule {
        let mut left = vec![what];
        while let Some(id) = left.pop() {
            let node = &self.ast[id];
            if matches!(node.kind, ExprKind::VectorSelector(_) | ExprKind::MatrixSelector(_))
                && let Some(source) = &self.plan.node(id).source
            {
                return source.time;
            }
            let below = left.len();
            node.for_each_child(|child| left.push(child));
            left[below..].reverse();
        }
        TimeRule { at_ms: None, offset_ms: 0 }
    }
}

/// The steps of a series by what describes it there.
fn divide(series: &Series, info: &[Series]) -> Result<Vec<(Describing, StepSet)>, QueryError> {
    let steps = series.column.values.len();
    let same = |other: &Series| IDENTIFYING.iter().all(|name| series.labels.get(name) == other.labels.get(name));
    let mut by_metric: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, one) in info.iter().enumerate().filter(|(_, one)| same(one)) {
        by_metric.entry(one.labels.metric_name().unwrap_or_default()).or_default().push(number);
    }
    let mut parts: Vec<(Describing, StepSet)> = Vec::new();
    for step in series.column.present().iter() {
        let mut describing = Describing::new();
        for candidates in by_metric.values() {
            describing.extend(newest(candidates, info, step)?);
        }
        let at = parts.iter().position(|(known, _)| *known == describing).unwrap_or_else(|| {
            parts.push((describing, StepSet::empty(steps)));
            parts.len() - 1
        });
        parts[at].1.insert(step);
    }
    Ok(parts)
}

/// The info series with the newest sample; two equally new ones are an error.
fn newest(candidates: &[usize], info: &[Series], step: usize) -> Result<Option<usize>, QueryError> {
    let mut best: Option<(usize, f64)> = None;
    for &number in candidates {
        let Some(seconds) = info[number].column.float(step) else { continue };
        match best {
            Some((known, newest)) if newest == seconds => {
                let ms = (seconds * 1000.0).round() as i64;
                return Err(invalid(format!(
                    "found duplicate series for info metric: existing {} @ {ms}, new {} @ {ms}",
                    braced(&info[known].labels),
                    braced(&info[number].labels)
                )));
            }
            Some((_, newest)) if newest > seconds => {}
            _ => best = Some((number, seconds)),
        }
    }
    Ok(best.map(|(number, _)| number))
}

/// The labels of `series` with those of what describes it; its own win.
fn enriched(
    series: &Series,
    describing: &[usize],
    info: &[Series],
    data: &[Matcher],
) -> Result<kymo_core::Labels, QueryError> {
    let mut added = LabelsBuilder::new();
    for &number in describing {
        for (name, value) in info[number].labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            if !data.is_empty() && data.iter().all(|m| m.name() != name) {
                continue;
            }
            if added.get(name).is_some_and(|known| known != value) {
                return Err(invalid(format!("conflicting label: {name}")));
            }
            if series.labels.get(name).is_none() {
                added.set(name, value);
            }
        }
    }
    let mut all = LabelsBuilder::from_labels(series.labels.as_ref());
    for (name, value) in added.iter() {
        all.set(name, value);
    }
    Ok(all.labels())
}
