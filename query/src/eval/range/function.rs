//! Which function over a range does what with a window.

use std::sync::Arc;

use kymo_core::query::{Grid, QueryError};
use kymo_core::storage::{FloatRollup, HistogramRollup};
use kymo_core::{NativeHistogram, QueryContext};

use crate::eval::column::{Column, Sample};
use crate::eval::meter::{Hold, Meter, Pace};
use crate::eval::notes::Note;
use crate::eval::rolled::Telling;
use crate::eval::shards::Desk;
use crate::eval::window::{Asked, Bounds, Samples, View, Windows};
use crate::eval::{histogram_samples, invalid};
use crate::functions::histogram::{self, Fold, Remarks};
use crate::functions::over_time::{self, SlidingExtreme};
use crate::functions::rate::{self, Edges, Extrapolation, Kind, Meaning, Resets};
use crate::functions::regression;
use crate::functions::rolled;
use crate::functions::sorted_window::SortedWindow;
use crate::functions::starts::{self, Started};
use crate::functions::window_sum::{self, WindowSums};
use crate::parser::{RangeExtension, Span};
use crate::plan::{Counting, Source};

/// One function over ranges with its parameters, and buffers that live from series to series.
pub(super) struct RangeFunction<'a> {
    name: &'static str,
    /// The values of all steps; of a constant one.
    params: &'a [&'a [f64]],
    source: &'a Source,
    span: Span,
    counting: Counting,
    resets: Resets,
    extreme: SlidingExtreme,
    sums: WindowSums,
    sorted: SortedWindow,
    scratch: Vec<f64>,
    /// Of the buffers above.
    hold: Hold,
    ctx: &'a QueryContext,
}

/// The series a function is applied to.
#[derive(Clone, Copy)]
pub(super) struct OneSeries<'a> {
    /// The metric's name, for notes.
    pub(super) metric: &'a str,
    pub(super) samples: &'a Samples,
    pub(super) grid: Grid,
}

/// What is to be said of a series; once, whatever the number of steps.
#[derive(Default)]
struct Found {
    mixed: bool,
    ignored: bool,
    /// Spans of counters overlap by their start timestamps.
    overlap: bool,
    remarks: Remarks,
    /// Quantiles outside of `[0, 1]`.
    wrong: Vec<f64>,
}

impl Found {
    /// Notes a quantile that is none.
    fn quantile(&mut self, q: f64) {
        let known = self.wrong.last().is_some_and(|last| last.to_bits() == q.to_bits());
        if !(0.0..=1.0).contains(&q) && !known {
            self.wrong.push(q);
        }
    }
}

/// How a function is told from rollups.
pub(super) fn telling(name: &'static str, source: &Source) -> Telling {
    match name {
        _ if source.extension != RangeExtension::None => Telling::FromLast(name),
        "quantile_over_time" => Telling::Bounded,
        name if rolled::EXACT.contains(&name) => Telling::Exact,
        name => Telling::FromLast(name),
    }
}

/// What a sample takes, against one of a function of which only what enters and leaves a window is looked at. Of the others
/// those that look at whole windows take far more, by how long these are.
pub(super) fn weight(name: &str) -> usize {
    match name {
        "quantile_over_time"
        | "mad_over_time"
        | "stddev_over_time"
        | "stdvar_over_time"
        | "deriv"
        | "predict_linear"
        | "double_exponential_smoothing" => 16,
        _ => 1,
    }
}

/// A parameter at a step.
fn at(param: &[f64], step: usize) -> f64 {
    if let [constant] = param { *constant } else { param[step] }
}

/// The function's value for one window.
type OfWindow<'f> = dyn FnMut(&View<'_>, &mut Found) -> Result<Option<Sample>, QueryError> + 'f;

impl<'a> RangeFunction<'a> {
    pub(super) fn new(
        name: &'static str,
        params: &'a [&'a [f64]],
        source: &'a Source,
        span: Span,
        counting: Counting,
        hold: Hold,
        ctx: &'a QueryContext,
    ) -> RangeFunction<'a> {
        RangeFunction {
            name,
            params,
            source,
            span,
            counting,
            resets: Resets::default(),
            extreme: SlidingExtreme::default(),
            sums: WindowSums::default(),
            sorted: SortedWindow::default(),
            scratch: Vec::new(),
            hold,
            ctx,
        }
    }

    /// Fills `column` with the function's value at every step.
    pub(super) fn apply(
        &mut self,
        desk: &mut Desk<'_, '_>,
        one: OneSeries<'_>,
        windows: &mut Windows,
        column: &mut Column,
    ) -> Result<(), QueryError> {
        let (mut found, mut pace) = (Found::default(), Pace::default());
        let (source, span, counting) = (self.source, self.span, self.counting);
        let asked = Asked { grid: one.grid, source, kind: Kind::of_name(self.name) };
        let is_rolled_up =
            !one.samples.rollups.is_empty() && !matches!(telling(self.name, self.source), Telling::FromLast(_));
        let plain = !is_rolled_up && one.samples.histograms.is_empty() && one.samples.starts().starts.is_empty();
        if plain && source.extension == RangeExtension::None {
            let bounds = windows.of_floats(one.samples, asked)?;
            if self.floats(desk.meter, one.samples, bounds, column, &mut found)? {
                desk.counts.count_windows(counting, bounds);
                found.wrong.into_iter().for_each(|q| desk.notes.add(Note::InvalidQuantile(q), span));
                return Ok(());
            }
        }
        let (meter, counts, error) = (desk.meter, &mut *desk.counts, &mut desk.read.met.error);
        let mut run = |of_window: &mut OfWindow<'_>| {
            windows.each(one.samples, asked, |view| {
                pace.work(meter, view.len())?;
                let histograms: u64 = view.histograms.iter().map(|h| histogram_samples(h)).sum();
                counts.count(counting, view.window.step, view.times.len() as u64 + histograms);
                if let Some(sample) = of_window(&view, &mut found)? {
                    column.put(view.window.step, sample);
                }
                Ok(())
            })
        };
        match is_rolled_up {
            true => self.run_rolled_up(one.samples, error, &mut run)?,
            false => self.run(one.samples, &mut run)?,
        }
        if found.mixed {
            desk.notes.add(Note::MixedFloatsHistograms { metric: one.metric }, span);
        }
        if found.ignored {
            desk.notes.add(Note::IgnoredInMixedRange { metric: one.metric }, span);
        }
        if found.overlap {
            desk.notes.add(Note::StartTimeOverlap { metric: one.metric }, span);
        }
        found.wrong.into_iter().for_each(|q| desk.notes.add(Note::InvalidQuantile(q), span));
        desk.notes.remarks(found.remarks, one.metric, span);
        Ok(())
    }

    /// The functions whose windows over floats are no more than two places in a column of something: what enters
    /// and leaves is all that is looked at. False for other functions.
    fn floats(
        &mut self,
        meter: &Meter<'_>,
        samples: &Samples,
        bounds: &Bounds,
        column: &mut Column,
        found: &mut Found,
    ) -> Result<bool, QueryError> {
        let RangeFunction { name, params, resets, extreme, sums, sorted, hold, ctx, .. } = self;
        let (times, values) = (samples.times.as_slice(), samples.values.as_slice());
        let windows = || {
            bounds.some.iter().map(|step| {
                let (begin, end) = bounds.of_step[step];
                (step, begin as usize, end as usize)
            })
        };
        let out = &mut column.values;
        let mut pace = Pace::default();
        column.floats.clone_from(&bounds.some);
        match *name {
            "rate" | "increase" | "delta" => {
                let meaning = if *name == "delta" { Meaning::Gauge } else { Meaning::Counter };
                if meaning == Meaning::Counter {
                    resets.find(values);
                }
                rate::extrapolated_all(values, &bounds.of_step, &bounds.edges, meaning, resets, out);
                column.floats.clone_from(&bounds.two);
            }
            "sum_over_time" | "avg_over_time" => {
                hold.reach_bytes(WindowSums::bytes(values.len()))?;
                sums.take(values);
                for (step, begin, end) in windows() {
                    out[step] = if *name == "sum_over_time" {
                        sums.sum(values, begin, end)
                    } else {
                        sums.mean(values, begin, end)
                    };
                }
            }
            "count_over_time" => windows().for_each(|(step, begin, end)| out[step] = (end - begin) as f64),
            "present_over_time" | "absent_over_time" => windows().for_each(|(step, ..)| out[step] = 1.0),
            "first_over_time" => windows().for_each(|(step, begin, _)| out[step] = values[begin]),
            "last_over_time" => windows().for_each(|(step, _, end)| out[step] = values[end - 1]),
            "ts_of_first_over_time" => windows().for_each(|(step, begin, _)| out[step] = times[begin] as f64 / 1000.0),
            "ts_of_last_over_time" => windows().for_each(|(step, _, end)| out[step] = times[end - 1] as f64 / 1000.0),
            "min_over_time" | "max_over_time" => {
                let beats = extreme_of(name);
                extreme.restart();
                windows().for_each(|(step, begin, end)| out[step] = extreme.of(values, begin, end, beats));
            }
            "quantile_over_time" => {
                hold.reach_bytes(SortedWindow::bytes(values.len()))?;
                sorted.restart();
                for (step, begin, end) in windows() {
                    pace.work(meter, (end - begin) / 4)?;
                    let q = at(params[0], step);
                    found.quantile(q);
                    out[step] = sorted.quantile(q, values, begin..end, ctx)?;
                }
            }
            "mad_over_time" => {
                hold.reach_bytes(SortedWindow::bytes(values.len()))?;
                sorted.restart();
                for (step, begin, end) in windows() {
                    pace.work(meter, end - begin)?;
                    out[step] = sorted.mad(values, begin..end, ctx)?;
                }
            }
            "changes" | "resets" => {
                hold.reach_bytes(WindowSums::bytes(values.len()))?;
                let turn = if *name == "changes" { over_time::is_change } else { over_time::is_reset };
                let turns = &mut self.scratch;
                over_time::running_count(values, turn, turns);
                // A turn is at the later of two samples, so the window's first does not count.
                windows().for_each(|(step, begin, end)| out[step] = turns[end - 1] - turns[begin]);
            }
            _ => {
                column.floats.reset(out.len());
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The functions that follow from figures of buckets.
    fn run_rolled_up(
        &mut self,
        samples: &Samples,
        error: &mut f64,
        run: &mut dyn FnMut(&mut OfWindow<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let RangeFunction { name, params, .. } = self;
        let (name, mut scratch) = (*name, Vec::new());
        run(&mut |view, found| {
            let floats = &samples.rollups.floats[view.first..view.first + view.values.len()];
            let from = view.first_histogram;
            let histograms = &samples.rollups.histograms[from..from + view.histograms.len()];
            Ok(match name {
                "rate" | "increase" | "delta" => {
                    let Some(kind) = Kind::of_name(name) else { return Ok(None) };
                    match of_one_kind(view, found) {
                        Only::Floats => change_rolled_up(view, floats, kind).map(Sample::Float),
                        Only::Histograms => change_of_rolled_up(view, histograms, kind, &mut found.remarks),
                        Only::Neither => None,
                    }
                }
                "sum_over_time" | "avg_over_time" => match of_one_kind(view, found) {
                    Only::Floats if name == "sum_over_time" => Some(Sample::Float(rolled::sum(floats))),
                    Only::Floats => Some(Sample::Float(rolled::mean(floats))),
                    Only::Histograms => rolled::sum_of(histograms, &mut found.remarks).map(|mut sum| {
                        if name == "avg_over_time" {
                            sum.divide(rolled::count_of(histograms));
                        }
                        shared(sum)
                    }),
                    Only::Neither => None,
                },
                "count_over_time" => Some(Sample::Float(rolled::count(floats) + rolled::count_of(histograms))),
                "present_over_time" | "absent_over_time" => Some(Sample::Float(1.0)),
                "min_over_time" => some_floats(view, found).then(|| Sample::Float(rolled::min(floats))),
                "max_over_time" => some_floats(view, found).then(|| Sample::Float(rolled::max(floats))),
                "last_over_time" => end_of(view, End::Last).map(|(_, sample)| sample),
                "ts_of_last_over_time" => end_of(view, End::Last).map(|(ms, _)| seconds(ms)),
                "first_over_time" | "ts_of_first_over_time" => {
                    let float = floats.first().map(|of| (of.first_ms, Sample::Float(of.first)));
                    let histogram = histograms.first().map(|of| (of.first_ms, shared(of.first.clone())));
                    let first = [float, histogram].into_iter().flatten().min_by_key(|(at_ms, _)| *at_ms);
                    first.map(|(at_ms, sample)| if name == "first_over_time" { sample } else { seconds(at_ms) })
                }
                "quantile_over_time" => some_floats(view, found).then(|| {
                    let q = at(params[0], view.window.step);
                    found.quantile(q);
                    let (value, off) = rolled::quantile(q, floats, &mut scratch);
                    *error = error.max(off);
                    Sample::Float(value)
                }),
                other => return Err(invalid(format!("{other}() is not told from rollups"))),
            })
        })
    }

    fn run(
        &mut self,
        samples: &Samples,
        run: &mut dyn FnMut(&mut OfWindow<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let RangeFunction { name, params, source, resets, extreme, scratch, ctx, .. } = self;
        let (name, ctx) = (*name, *ctx);
        let edges = match source.extension {
            RangeExtension::None => None,
            RangeExtension::Anchored => Some(Edges::Anchored),
            RangeExtension::Smoothed => Some(Edges::Smoothed),
        };
        if let Some(kind) = Kind::of_name(name) {
            if let Some(edges) = edges {
                return run(&mut |view, found| {
                    Ok(match of_one_kind(view, found) {
                        Only::Floats => rate::extended(view.times, view.values, view.window, kind.meaning(), edges)
                            .map(|c| Sample::Float(if kind == Kind::Rate { c / view.window.seconds() } else { c })),
                        Only::Histograms => extended_histograms(view, kind, edges, &mut found.remarks),
                        Only::Neither => None,
                    })
                });
            }
            if kind.meaning() == Meaning::Counter {
                resets.find_with_starts(&samples.values, samples.starts());
            }
            return run(&mut |view, found| {
                let of_one_kind = of_one_kind(view, found);
                found.overlap |= kind.meaning() == Meaning::Counter
                    && !matches!(of_one_kind, Only::Neither)
                    && (view.starts.any_overlap() || view.histogram_starts.any_overlap());
                Ok(match of_one_kind {
                    Only::Floats => {
                        let (values, starts) = (view.values, view.starts);
                        rate::extrapolated_with_starts(values, starts, view.window, kind, resets, view.first)
                            .map(Sample::Float)
                    }
                    Only::Histograms => extrapolated_histograms(view, kind, &mut found.remarks),
                    Only::Neither => None,
                })
            });
        }
        match name {
            "irate" => run(&mut |view, found| Ok(last_two(view, found, Meaning::Counter))),
            "idelta" => run(&mut |view, found| Ok(last_two(view, found, Meaning::Gauge))),
            "deriv" => run(&mut |view, found| {
                some_floats(view, found);
                let line = view.times.first().and_then(|&at| regression::line(view.times, view.values, at));
                Ok(line.map(|l| Sample::Float(l.slope)))
            }),
            "predict_linear" => run(&mut |view, found| {
                some_floats(view, found);
                let line = regression::line(view.times, view.values, view.window.step_ms);
                let ahead = at(params[0], view.window.step);
                Ok(line.map(|l| Sample::Float(l.slope * ahead + l.intercept)))
            }),
            "double_exponential_smoothing" => run(&mut |view, found| {
                let (smoothing, trend) = (at(params[0], view.window.step), at(params[1], view.window.step));
                check_factor("smoothing", "sf", smoothing)?;
                check_factor("trend", "tf", trend)?;
                some_floats(view, found);
                let smooth = over_time::double_exponential_smoothing(view.values, smoothing, trend);
                Ok(smooth.map(Sample::Float))
            }),
            "sum_over_time" => run(&mut |view, found| Ok(folded(view, found, window_sum::sum, Fold::sum))),
            "avg_over_time" => run(&mut |view, found| Ok(folded(view, found, window_sum::mean, Fold::mean))),
            "count_over_time" => run(&mut |view, _| Ok(Some(Sample::Float(view.len() as f64)))),
            "present_over_time" | "absent_over_time" => run(&mut |_, _| Ok(Some(Sample::Float(1.0)))),
            "first_over_time" => run(&mut |view, _| Ok(end_of(view, End::First).map(|(_, sample)| sample))),
            "last_over_time" => run(&mut |view, _| Ok(end_of(view, End::Last).map(|(_, sample)| sample))),
            "ts_of_first_over_time" => run(&mut |view, _| Ok(end_of(view, End::First).map(|(ms, _)| seconds(ms)))),
            "ts_of_last_over_time" => run(&mut |view, _| Ok(end_of(view, End::Last).map(|(ms, _)| seconds(ms)))),
            "min_over_time" | "max_over_time" => {
                let beats = extreme_of(name);
                extreme.restart();
                run(&mut |view, found| {
                    let end = view.first + view.values.len();
                    let value = extreme.of(&samples.values, view.first, end, beats);
                    Ok(some_floats(view, found).then_some(Sample::Float(value)))
                })
            }
            "ts_of_min_over_time" | "ts_of_max_over_time" => {
                let beats = extreme_of(name);
                run(&mut |view, found| {
                    some_floats(view, found);
                    Ok(over_time::time_of(view.times, view.values, beats).map(seconds))
                })
            }
            "stdvar_over_time" => run(&mut |view, found| {
                Ok(some_floats(view, found).then(|| Sample::Float(over_time::stdvar(view.values))))
            }),
            "stddev_over_time" => run(&mut |view, found| {
                Ok(some_floats(view, found).then(|| Sample::Float(over_time::stdvar(view.values).sqrt())))
            }),
            "mad_over_time" => run(&mut |view, found| {
                if !some_floats(view, found) {
                    return Ok(None);
                }
                Ok(Some(Sample::Float(over_time::mad(view.values, scratch, ctx)?)))
            }),
            "quantile_over_time" => run(&mut |view, found| {
                if !some_floats(view, found) {
                    return Ok(None);
                }
                let q = at(params[0], view.window.step);
                found.quantile(q);
                Ok(Some(Sample::Float(over_time::quantile_of(q, view.values, scratch, ctx)?)))
            }),
            "changes" | "resets" => {
                run(&mut |view, _| Ok(turns(name, view, edges.is_some()).map(|turns| Sample::Float(turns as f64))))
            }
            other => Err(invalid(format!("{other}() is not supported yet"))),
        }
    }
}

/// [`rate::extrapolated`] of buckets.
fn change_rolled_up(view: &View<'_>, buckets: &[FloatRollup], kind: Kind) -> Option<f64> {
    let (first, last, last_ms) = (buckets.first()?, *view.values.last()?, *view.times.last()?);
    let count = rolled::count(buckets);
    if count < 2.0 {
        return None;
    }
    let edges = Extrapolation::between(first.first_ms, last_ms, count, view.window, kind);
    let change = last - first.first;
    Some(match kind.meaning() {
        Meaning::Gauge => change * edges.of_gauge(),
        Meaning::Counter => {
            let change = change + rolled::lost(view.values, buckets);
            change * edges.of_counter(first.first, change)
        }
    })
}

/// The same of histograms.
fn change_of_rolled_up(
    view: &View<'_>,
    buckets: &[HistogramRollup],
    kind: Kind,
    remarks: &mut Remarks,
) -> Option<Sample> {
    let (first, last_ms, count) = (buckets.first()?, *view.histogram_times.last()?, rolled::count_of(buckets));
    if count < 2.0 {
        return None;
    }
    let mut change = rolled::change_of(view.histograms, buckets, kind.meaning(), remarks)?;
    let edges = Extrapolation::between(first.first_ms, last_ms, count, view.window, kind);
    let factor = match kind.meaning() {
        Meaning::Counter => edges.of_counter(first.first.count(), change.count()),
        Meaning::Gauge => edges.of_gauge(),
    };
    change.multiply(factor);
    Some(shared(change))
}

/// What a window holds, for functions that take no mix.
enum Only {
    Floats,
    Histograms,
    Neither,
}

fn of_one_kind(view: &View<'_>, found: &mut Found) -> Only {
    match (view.values.is_empty(), view.histograms.is_empty()) {
        (false, true) => Only::Floats,
        (true, false) => Only::Histograms,
        (true, true) => Only::Neither,
        (false, false) => {
            found.mixed = true;
            Only::Neither
        }
    }
}

/// Whether there is any float to work on; histograms beside it are noted as ignored.
fn some_floats(view: &View<'_>, found: &mut Found) -> bool {
    found.ignored |= !view.values.is_empty() && !view.histograms.is_empty();
    !view.values.is_empty()
}

fn extreme_of(name: &str) -> fn(f64, f64) -> bool {
    if name.contains("max") { |a, b| a > b } else { |a, b| a < b }
}

fn seconds(ms: i64) -> Sample {
    Sample::Float(ms as f64 / 1000.0)
}

fn shared(histogram: NativeHistogram) -> Sample {
    Sample::Histogram(Arc::new(histogram))
}

fn extrapolated_histograms(view: &View<'_>, kind: Kind, remarks: &mut Remarks) -> Option<Sample> {
    let starts = view.histogram_starts;
    if let Some(factor) = rate::since_zero(starts, view.window, kind) {
        let mut change = histogram::change_since_zero(view.histograms, starts, remarks)?;
        change.multiply(factor);
        return Some(shared(change));
    }
    let mut change = histogram::change(view.histograms, starts, kind.meaning(), remarks)?;
    let edges = Extrapolation::of(view.histogram_times, view.window, kind);
    let factor = match kind.meaning() {
        Meaning::Counter => edges.of_counter(view.histograms.first()?.count(), change.count()),
        Meaning::Gauge => edges.of_gauge(),
    };
    change.multiply(factor);
    Some(shared(change))
}

fn extended_histograms(view: &View<'_>, kind: Kind, edges: Edges, remarks: &mut Remarks) -> Option<Sample> {
    let (times, window) = (view.histogram_times, view.window);
    let mut change = histogram::extended(times, view.histograms, window, kind.meaning(), edges, remarks)?;
    if kind == Kind::Rate {
        change.divide(window.seconds());
    }
    Some(shared(change))
}

/// `irate` for counters, `idelta` for gauges: the last two samples, if they are of one kind.
fn last_two(view: &View<'_>, found: &mut Found, meaning: Meaning) -> Option<Sample> {
    let per_second = meaning == Meaning::Counter;
    if let (&[.., t0, t1], &[.., a, b], true) = (view.times, view.values, view.histograms.is_empty()) {
        let reset = view.starts.is_reset(view.times.len() - 1);
        return rate::last_two((t0, a), (t1, b), meaning, per_second, reset).map(Sample::Float);
    }
    let mut newest = both_kinds(view);
    let (t1, later) = newest.pop()?;
    let (t0, earlier) = newest.pop()?;
    let reset = starts::is_reset(t0, t1);
    let (t0, t1) = (t0.at_ms, t1.at_ms);
    match (&earlier, &later) {
        (Sample::Float(a), Sample::Float(b)) => {
            rate::last_two((t0, *a), (t1, *b), meaning, per_second, reset).map(Sample::Float)
        }
        (Sample::Histogram(a), Sample::Histogram(b)) => {
            let mut change = histogram::last_two(a, b, meaning, reset, &mut found.remarks)?;
            if per_second {
                change.divide((t1 - t0) as f64 / 1000.0);
            }
            Some(shared(change))
        }
        _ => {
            found.mixed = true;
            None
        }
    }
}

/// The samples of a window in time order.
fn both_kinds(view: &View<'_>) -> Vec<(Started, Sample)> {
    let floats = view.values.iter().enumerate().map(|(idx, &value)| (view.starts.at(idx), Sample::Float(value)));
    let histograms = view.histograms.iter().enumerate();
    let histograms = histograms.map(|(idx, h)| (view.histogram_starts.at(idx), Sample::Histogram(Arc::clone(h))));
    let mut all: Vec<(Started, Sample)> = floats.chain(histograms).collect();
    all.sort_by_key(|(at, _)| at.at_ms);
    all
}

/// A sum or mean of a window.
fn folded(
    view: &View<'_>,
    found: &mut Found,
    floats: fn(&[f64]) -> f64,
    histograms: fn(&NativeHistogram) -> Fold,
) -> Option<Sample> {
    match of_one_kind(view, found) {
        Only::Floats => Some(Sample::Float(floats(view.values))),
        Only::Histograms => {
            let (first, rest) = view.histograms.split_first()?;
            let mut fold = histograms(first);
            rest.iter().for_each(|h| fold.update(h, &mut found.remarks));
            fold.finish(&mut found.remarks).map(shared)
        }
        Only::Neither => None,
    }
}

/// Which end of a window.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    First,
    Last,
}

/// The first or last sample of a window with its time.
fn end_of(view: &View<'_>, end: End) -> Option<(i64, Sample)> {
    let (float, histogram) = match end {
        End::First => {
            (view.times.first().zip(view.values.first()), view.histogram_times.first().zip(view.histograms.first()))
        }
        End::Last => {
            (view.times.last().zip(view.values.last()), view.histogram_times.last().zip(view.histograms.last()))
        }
    };
    let float = float.map(|(&t, &v)| (t, Sample::Float(v)));
    let histogram = histogram.map(|(&t, h)| (t, Sample::Histogram(Arc::clone(h))));
    match (float, histogram) {
        (Some(f), Some(h)) => Some(if (f.0 < h.0) == (end == End::First) { f } else { h }),
        (float, histogram) => float.or(histogram),
    }
}

/// `changes` and `resets` over both kinds; going from one kind to the other is both.
///
/// `None` for an anchored range that holds nothing behind its start.
fn turns(name: &str, view: &View<'_>, anchored: bool) -> Option<usize> {
    let of_floats = if name == "changes" { over_time::changes } else { over_time::resets };
    if view.histograms.is_empty() && view.starts.starts.is_empty() {
        let first = if anchored { rate::anchored_first(view.times, view.window)? } else { 0 };
        return Some(of_floats(&view.values[first..]));
    }
    let all = both_kinds(view);
    let times: Vec<i64> = all.iter().map(|(at, _)| at.at_ms).collect();
    let first = if anchored { rate::anchored_first(&times, view.window)? } else { 0 };
    let turns = all[first..].windows(2);
    let turns = turns
        .map(|pair| match (&pair[0].1, &pair[1].1) {
            (Sample::Float(_), Sample::Float(_)) | (Sample::Histogram(_), Sample::Histogram(_))
                if starts::is_reset(pair[0].0, pair[1].0) =>
            {
                1
            }
            (Sample::Float(a), Sample::Float(b)) => of_floats(&[*a, *b]),
            (Sample::Histogram(a), Sample::Histogram(b)) => usize::from(histogram::turned(name, a, b)),
            _ => 1,
        })
        .sum();
    Some(turns)
}

fn check_factor(what: &str, short: &str, factor: f64) -> Result<(), QueryError> {
    if factor.is_nan() || (factor > 0.0 && factor < 1.0) {
        return Ok(());
    }
    Err(invalid(format!("invalid {what} factor. Expected: 0 < {short} < 1, got: {factor:.6}")))
}
