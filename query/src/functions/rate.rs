//! `rate`, `increase`, `delta`, `irate`, `idelta`, also over `anchored` and `smoothed` ranges.

use super::starts::Starts;
use crate::eval::window::Window;

/// Whether a drop in value is a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A counter, whose drops are resets.
    Counter,
    /// A gauge, which may fall.
    Gauge,
}

/// Positions at which a counter fell, found once per series.
#[derive(Debug, Default)]
pub(crate) struct Resets(Vec<u32>);

impl Resets {
    pub(crate) fn find(&mut self, values: &[f64]) {
        self.0.clear();
        self.0.extend(values.windows(2).enumerate().filter(|(_, w)| w[1] < w[0]).map(|(i, _)| i as u32 + 1));
    }

    /// The same of samples that may tell by their start timestamps where they began anew.
    pub(crate) fn find_with_starts(&mut self, values: &[f64], starts: Starts<'_>) {
        if starts.starts.is_empty() {
            return self.find(values);
        }
        self.0.clear();
        let began_anew = |&at: &usize| values[at] < values[at - 1] || starts.is_reset(at);
        self.0.extend((1..values.len()).filter(began_anew).map(|at| at as u32));
    }

    /// What the counter lost in `values`, which begin at `first` of the series: the sum of the values
    /// before its drops.
    fn lost(&self, values: &[f64], first: usize) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        let begin = self.0.partition_point(|&at| at as usize <= first);
        let inside = self.0[begin..].iter().take_while(|&&at| (at as usize) < first + values.len());
        inside.fold(0.0, |sum, &at| sum + values[at as usize - first - 1])
    }
}

/// How a change between the first and last sample of a window is carried to the window's edges, as Prometheus does
/// (`extrapolatedRate`, 3.x). Follows from times alone; what depends on values is [`of`](Self::of).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Extrapolation {
    /// First to last sample, in seconds.
    sampled: f64,
    /// How far to go to the start and the end, in seconds.
    to_start: f64,
    to_end: f64,
    /// Divides the result, for `rate`.
    seconds: f64,
    /// By what a change is multiplied, unless it is a counter's that would fall below zero.
    factor: f64,
}

impl Extrapolation {
    /// Of samples at `times`, which lie in the window. All 0 for fewer than two.
    pub(crate) fn of(times: &[i64], window: Window, kind: Kind) -> Extrapolation {
        let &[first_ms, .., last_ms] = times else { return Extrapolation::default() };
        Extrapolation::between(first_ms, last_ms, times.len() as f64, window, kind)
    }

    /// The same of two samples at least, by the times of the first and the last, and how many there are.
    pub(crate) fn between(first_ms: i64, last_ms: i64, count: f64, window: Window, kind: Kind) -> Extrapolation {
        let sampled = (last_ms - first_ms) as f64 / 1000.0;
        let mut to_start = (first_ms - window.start_ms) as f64 / 1000.0;
        let mut to_end = (window.end_ms - last_ms) as f64 / 1000.0;
        let between = sampled / (count - 1.0);
        // A gap of more than 1.1 usual distances at an edge means that the series begins or ends inside
        // the window: half a distance is then the best guess for where.
        let threshold = between * 1.1;
        if to_start >= threshold {
            to_start = between / 2.0;
        }
        if to_end >= threshold {
            to_end = between / 2.0;
        }
        let seconds = if kind == Kind::Rate { window.seconds() } else { 1.0 };
        let mut found = Extrapolation { sampled, to_start, to_end, seconds, factor: 0.0 };
        found.factor = found.factor_from(to_start);
        found
    }

    /// Of counters at `times` that were zero at `zero_ms`, which lies in the window before them: nothing is guessed
    /// about the time before.
    fn from_zero(times: &[i64], zero_ms: i64, window: Window, kind: Kind) -> Extrapolation {
        let &[first_ms, .., last_ms] = times else {
            let sampled = times.first().map_or(0.0, |&at_ms| (at_ms - zero_ms) as f64 / 1000.0);
            let seconds = if kind == Kind::Rate { window.seconds() } else { 1.0 };
            // Of one sample the distance to the next is not known, so the end is not reached for either.
            return Extrapolation { sampled, to_start: 0.0, to_end: 0.0, seconds, factor: 1.0 / seconds };
        };
        let between = (last_ms - first_ms) as f64 / 1000.0 / (times.len() - 1) as f64;
        let to_end = (window.end_ms - last_ms) as f64 / 1000.0;
        let mut found = Extrapolation {
            sampled: (last_ms - zero_ms) as f64 / 1000.0,
            to_start: 0.0,
            to_end: if to_end >= between * 1.1 { between / 2.0 } else { to_end },
            seconds: if kind == Kind::Rate { window.seconds() } else { 1.0 },
            factor: 0.0,
        };
        found.factor = found.factor_from(0.0);
        found
    }

    fn factor_from(&self, to_start: f64) -> f64 {
        (self.sampled + to_start + self.to_end) / self.sampled / self.seconds
    }

    /// By what `change` is multiplied. A counter that began at `first` cannot be followed back beyond its zero.
    pub(crate) fn of_counter(&self, first: f64, change: f64) -> f64 {
        let is_near_zero = change > 0.0 && first >= 0.0 && !self.is_far_from_zero(first, change);
        if is_near_zero {
            let to_zero = self.sampled * (first / change);
            if to_zero < self.to_start {
                return self.factor_from(to_zero);
            }
        }
        self.factor
    }

    /// By what the change of a gauge is multiplied.
    pub(crate) fn of_gauge(&self) -> f64 {
        self.factor
    }

    /// Surely so: the division that decides is spared where it could not decide otherwise.
    fn is_far_from_zero(&self, first: f64, change: f64) -> bool {
        self.sampled * first > self.to_start * change * CLEARLY
    }
}

/// More than rounding can make of a quotient.
const CLEARLY: f64 = 1.000_001;

/// Change over the window, extrapolated to its edges; per second if asked.
///
/// `times` (ms, rising) and `values` have one length and lie in `window`; `first` is their place in
/// the series that `resets` belongs to. `None` for fewer than two samples.
pub(crate) fn extrapolated(
    times: &[i64],
    values: &[f64],
    window: Window,
    kind: Kind,
    resets: &Resets,
    first: usize,
) -> Option<f64> {
    let &[first_value, .., last_value] = values else { return None };
    let edges = Extrapolation::of(times, window, kind);
    let mut change = last_value - first_value;
    if kind.meaning() == Meaning::Gauge {
        return Some(change * edges.of_gauge());
    }
    change += resets.lost(values, first);
    Some(change * edges.of_counter(first_value, change))
}

/// By what the change of counters since they were zero is multiplied, if the first says that this was in the window.
///
/// That change is the one since the first sample and the first sample; one sample is enough.
pub(crate) fn since_zero(starts: Starts<'_>, window: Window, kind: Kind) -> Option<f64> {
    let zero_ms = starts.zero_ms(window.start_ms).filter(|_| kind.meaning() == Meaning::Counter)?;
    Some(Extrapolation::from_zero(starts.times, zero_ms, window, kind).factor)
}

/// [`extrapolated`], where `resets` were found with start timestamps, and the first of them may say when the counter
/// was zero.
pub(crate) fn extrapolated_with_starts(
    values: &[f64],
    starts: Starts<'_>,
    window: Window,
    kind: Kind,
    resets: &Resets,
    first: usize,
) -> Option<f64> {
    let Some(factor) = since_zero(starts, window, kind) else {
        return extrapolated(starts.times, values, window, kind, resets, first);
    };
    let (&first_value, &last_value) = (values.first()?, values.last()?);
    let change = last_value - first_value + resets.lost(values, first) + first_value;
    Some(change * factor)
}

/// [`extrapolated`] for all windows of a series of floats: the loop that dashboards wait for.
///
/// `of_step` are begin and end of windows in `values`, `edges` what follows from their times; a window of fewer than
/// two samples leaves its place in `out` as it is.
pub(crate) fn extrapolated_all(
    values: &[f64],
    of_step: &[(u32, u32)],
    edges: &[Extrapolation],
    meaning: Meaning,
    resets: &Resets,
    out: &mut [f64],
) {
    let windows = of_step.iter().zip(edges).zip(out);
    let windows = windows.filter(|((window, _), _)| window.1 > window.0 + 1);
    if meaning == Meaning::Gauge {
        for ((&(begin, end), edges), out) in windows {
            *out = (values[end as usize - 1] - values[begin as usize]) * edges.of_gauge();
        }
        return;
    }
    for ((&(begin, end), edges), out) in windows {
        let (begin, end) = (begin as usize, end as usize);
        let first = values[begin];
        let change = values[end - 1] - first + resets.lost(&values[begin..end], begin);
        *out = change * edges.of_counter(first, change);
    }
}

/// Which of the extrapolating functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Rate,
    Increase,
    Delta,
}

impl Kind {
    /// Of the functions' names.
    pub(crate) fn of_name(name: &str) -> Option<Kind> {
        Some(match name {
            "rate" => Kind::Rate,
            "increase" => Kind::Increase,
            "delta" => Kind::Delta,
            _ => return None,
        })
    }

    pub(crate) fn meaning(self) -> Meaning {
        if self == Kind::Delta { Meaning::Gauge } else { Meaning::Counter }
    }
}

/// Change between the last two samples; `per_second` divides by their distance. `reset`: whether a counter is known
/// to have begun anew between them, whatever their values.
pub(crate) fn last_two(
    earlier: (i64, f64),
    later: (i64, f64),
    meaning: Meaning,
    per_second: bool,
    reset: bool,
) -> Option<f64> {
    let distance_ms = later.0 - earlier.0;
    if distance_ms == 0 {
        return None;
    }
    let reset = meaning == Meaning::Counter && (reset || later.1 < earlier.1);
    let change = if reset { later.1 } else { later.1 - earlier.1 };
    Some(if per_second { change / (distance_ms as f64 / 1000.0) } else { change })
}

/// How far beyond the window samples were read, and what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edges {
    /// The sample at or before the start stands for the start.
    Anchored,
    /// Values at both edges are interpolated.
    Smoothed,
}

/// Change between the edges of the window, without extrapolation (`extendedRate`, 3.x).
///
/// `times` reach beyond the window by the lookback. `None` if nothing lies behind its start.
pub(crate) fn extended(times: &[i64], values: &[f64], window: Window, meaning: Meaning, edges: Edges) -> Option<f64> {
    let (mut first, mut last) = edge_samples(times, window, edges)?;
    let left = left_value(times, values, first, window, meaning, edges);
    let right = right_value(times, values, last, window, meaning, edges);
    let mut change = right - left;
    if meaning == Meaning::Counter {
        // Samples on or beyond the edges are in `left` and `right` already.
        if times[first] <= window.start_ms {
            first += 1;
        }
        let mut end = last + 1;
        if times[last] >= window.end_ms {
            end = last;
        }
        last = end.max(first);
        let mut before = left;
        for &value in values[first..last].iter().chain([&right]) {
            if value < before {
                change += before;
            }
            before = value;
        }
    }
    Some(change)
}

/// The samples of an extended range as a range vector shows them: one at each edge, those between.
pub(crate) fn extended_samples(times: &[i64], values: &[f64], window: Window, edges: Edges) -> (Vec<i64>, Vec<f64>) {
    let Some((mut first, last)) = edge_samples(times, window, edges) else { return (Vec::new(), Vec::new()) };
    let left = left_value(times, values, first, window, Meaning::Gauge, edges);
    let right = right_value(times, values, last, window, Meaning::Gauge, edges);
    if times[first] <= window.start_ms {
        first += 1;
    }
    let end = if times[last] >= window.end_ms { last } else { last + 1 }.max(first);
    let mut out = (vec![window.start_ms], vec![left]);
    out.0.extend_from_slice(&times[first..end]);
    out.1.extend_from_slice(&values[first..end]);
    out.0.push(window.end_ms);
    out.1.push(right);
    out
}

/// The first sample an anchored function looks at: the last one at or before the start, if any.
pub(crate) fn anchored_first(times: &[i64], window: Window) -> Option<usize> {
    let last = times.len().checked_sub(1)?;
    if times[last] <= window.start_ms {
        return None;
    }
    Some(times[..last].partition_point(|&t| t <= window.start_ms).saturating_sub(1))
}

/// The samples that an extended window begins and ends with; `None` if nothing lies inside it.
pub(super) fn edge_samples(times: &[i64], window: Window, edges: Edges) -> Option<(usize, usize)> {
    let newest = times.len().checked_sub(1)?;
    let first = times[..newest].partition_point(|&t| t <= window.start_ms).saturating_sub(1);
    let last = match edges {
        Edges::Anchored => newest,
        Edges::Smoothed => times[..newest].partition_point(|&t| t < window.end_ms),
    };
    // Smoothed ranges read beyond their end: samples there alone say nothing of the range.
    (times[last] > window.start_ms && times[first] <= window.end_ms).then_some((first, last))
}

fn left_value(times: &[i64], values: &[f64], first: usize, window: Window, meaning: Meaning, edges: Edges) -> f64 {
    if edges == Edges::Smoothed && times[first] < window.start_ms && first + 1 < times.len() {
        return interpolate(times, values, first, window.start_ms, meaning);
    }
    values[first]
}

fn right_value(times: &[i64], values: &[f64], last: usize, window: Window, meaning: Meaning, edges: Edges) -> f64 {
    if edges == Edges::Smoothed && last > 0 && times[last] > window.end_ms {
        return interpolate(times, values, last - 1, window.end_ms, meaning);
    }
    values[last]
}

/// The value at `at_ms` between sample `idx` and the next; a counter that fell started from zero.
fn interpolate(times: &[i64], values: &[f64], idx: usize, at_ms: i64, meaning: Meaning) -> f64 {
    let (mut low, high) = (values[idx], values[idx + 1]);
    if meaning == Meaning::Counter && high < low {
        low = 0.0;
    }
    low + (high - low) * (at_ms - times[idx]) as f64 / (times[idx + 1] - times[idx]) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start_ms: i64, end_ms: i64) -> Window {
        Window { start_ms, end_ms, step_ms: end_ms, step: 0 }
    }

    fn increase(times: &[i64], values: &[f64], w: Window, kind: Kind) -> Option<f64> {
        let mut resets = Resets::default();
        resets.find(values);
        extrapolated(times, values, w, kind, &resets, 0)
    }

    #[test]
    fn change_is_carried_to_the_edges_but_not_below_zero() {
        let times = [60_000, 120_000, 180_000, 240_000, 300_000];
        let rows: [(&str, &[f64], Kind, f64); 4] = [
            ("full window", &[100.0, 160.0, 220.0, 280.0, 340.0], Kind::Increase, 300.0),
            ("zero at the start", &[0.0, 60.0, 120.0, 180.0, 240.0], Kind::Increase, 240.0),
            ("a gauge may have been negative", &[0.0, 60.0, 120.0, 180.0, 240.0], Kind::Delta, 300.0),
            ("a reset adds what was lost", &[100.0, 160.0, 20.0, 80.0, 140.0], Kind::Increase, 250.0),
        ];
        for (name, values, kind, expected) in rows {
            let found = increase(&times, values, window(0, 300_000), kind).unwrap();
            assert!((found - expected).abs() < 1e-9, "{name}: {found}");
        }
        assert_eq!(increase(&[60_000], &[1.0], window(0, 300_000), Kind::Increase), None);
    }

    #[test]
    fn a_far_edge_is_reached_by_half_a_distance() {
        let found = increase(&[300_000, 360_000], &[1e6, 1e6 + 60.0], window(0, 900_000), Kind::Increase).unwrap();
        assert!((found - 120.0).abs() < 1e-9, "{found}");
    }

    #[test]
    fn resets_outside_the_window_do_not_count() {
        let values = [5.0, 1.0, 2.0, 3.0, 0.0];
        let mut resets = Resets::default();
        resets.find(&values);
        assert_eq!(resets.lost(&values[1..4], 1), 0.0);
        assert_eq!(resets.lost(&values[0..2], 0), 5.0);
        assert_eq!(resets.lost(&values, 0), 8.0);
    }

    #[test]
    fn the_last_two_samples_decide_irate_and_idelta() {
        assert_eq!(last_two((0, 10.0), (10_000, 20.0), Meaning::Counter, true, false), Some(1.0));
        assert_eq!(last_two((0, 10.0), (10_000, 20.0), Meaning::Counter, true, true), Some(2.0));
        assert_eq!(last_two((0, 10.0), (10_000, 5.0), Meaning::Counter, true, false), Some(0.5));
        assert_eq!(last_two((0, 10.0), (10_000, 5.0), Meaning::Gauge, false, false), Some(-5.0));
    }

    #[test]
    fn anchored_takes_the_sample_before_and_smoothed_interpolates() {
        let (times, values) = ([0, 60_000, 120_000], [0.0, 60.0, 120.0]);
        let w = window(30_000, 90_000);
        assert_eq!(extended(&times[..2], &values[..2], w, Meaning::Counter, Edges::Anchored), Some(60.0));
        assert_eq!(extended(&times, &values, w, Meaning::Counter, Edges::Smoothed), Some(60.0));
        let (at, shown) = extended_samples(&times, &values, w, Edges::Smoothed);
        assert_eq!((at, shown), (vec![30_000, 60_000, 90_000], vec![30.0, 60.0, 90.0]));
        assert_eq!(extended(&times[..1], &values[..1], w, Meaning::Counter, Edges::Anchored), None);
        assert_eq!(extended(&times[2..], &values[2..], w, Meaning::Counter, Edges::Smoothed), None);
    }
}
