//! Parts of an answer joined to one, series by series in label order.

use std::ops::Range;

use kymo_core::query::{Grid, GridPresence, PointTimes, ResultSeries};

use crate::eval::column::StepSet;
use crate::eval::notes::Placed;

/// An answer on some grid, of which some steps are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    /// Sorted by labels, all on one grid.
    pub(crate) series: &'a [ResultSeries],
    /// Remarks, with steps of that grid.
    pub(crate) notes: &'a [Placed],
    /// Which steps of that grid.
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Where they go.
    pub(crate) to: usize,
}

/// The points of all parts on `grid`, sorted by labels. Parts come in the order of their steps, which do not overlap.
pub(crate) fn join(grid: Grid, parts: &[Part<'_>]) -> Vec<ResultSeries> {
    let mut at = vec![0; parts.len()];
    let mut joined = Vec::with_capacity(parts.iter().map(|part| part.series.len()).max().unwrap_or_default());
    loop {
        let heads = parts.iter().zip(&at).filter_map(|(part, &at)| part.series.get(at));
        let Some(labels) = heads.map(|series| &series.labels).min().cloned() else { return joined };
        let mut presence = GridPresence::empty(grid);
        let mut one =
            ResultSeries { labels, times: PointTimes::Own(Vec::new()), floats: Vec::new(), histograms: Vec::new() };
        for (part, at) in parts.iter().zip(&mut at) {
            let Some(series) = part.series.get(*at).filter(|series| series.labels == one.labels) else { continue };
            *at += 1;
            add(&mut one, &mut presence, series, part);
        }
        if presence.count() > 0 {
            one.times = PointTimes::Grid(presence);
            joined.push(one);
        }
    }
}

/// Adds the wanted points of a series.
fn add(one: &mut ResultSeries, presence: &mut GridPresence, series: &ResultSeries, part: &Part<'_>) {
    // Answers of range queries are on grids.
    let PointTimes::Grid(of_part) = &series.times else { return };
    let already = presence.count();
    let steps = part.first..part.first + part.count;
    let points = of_part.count_before(steps.start)..of_part.count_before(steps.end);
    presence.copy_from(of_part, steps, part.to);
    let is_wanted = |number: &usize| points.contains(number);
    let floats = float_places(series, &points);
    one.floats.extend_from_slice(&series.floats[floats]);
    let histograms = series.histograms.iter().filter(|(number, _)| is_wanted(number));
    one.histograms.extend(histograms.map(|(number, h)| (number - points.start + already, h.clone())));
}

/// The notes of all parts, with the steps of `grid` they are about; those that are about none are dropped.
pub(crate) fn join_notes(grid: Grid, parts: &[Part<'_>]) -> Vec<Placed> {
    let mut joined: Vec<Placed> = Vec::new();
    for part in parts {
        let wanted = part.first..part.first + part.count;
        for note in part.notes {
            let mut steps = StepSet::empty(grid.steps());
            let moved = note.steps.iter().filter(|step| wanted.contains(step)).map(|step| step - part.first + part.to);
            moved.for_each(|step| steps.insert(step));
            if steps.is_empty() {
                continue;
            }
            match joined.iter_mut().find(|known| known.text == note.text) {
                Some(known) => known.steps.union_with(&steps),
                None => joined.push(Placed { text: note.text.clone(), steps }),
            }
        }
    }
    joined
}

/// Which floats belong to points of these numbers.
fn float_places(series: &ResultSeries, points: &Range<usize>) -> Range<usize> {
    let histograms_before = |number: usize| series.histograms.partition_point(|(at, _)| *at < number);
    points.start - histograms_before(points.start)..points.end - histograms_before(points.end)
}

/// Bytes that series take in memory.
pub(crate) fn series_bytes(series: &[ResultSeries]) -> u64 {
    series.iter().map(ResultSeries::bytes).sum()
}
