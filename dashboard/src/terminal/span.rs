//! The span of time that charts show.

use kymo_core::query::Grid;
use serde::{Deserialize, Serialize};

use super::chart::Kind;

/// Shortest and longest span.
const LENGTHS_MS: (i64, i64) = (10_000, 365 * 86_400_000);
/// Distances of points.
const STEPS_S: [i64; 17] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400];
/// Points that a chart has at most, about: two for each column of a usual terminal.
const POINTS: i64 = 240;

/// With what the same is compared.
pub(super) const COMPARISONS: [(i64, &str); 4] =
    [(0, "nothing"), (3_600_000, "an hour ago"), (86_400_000, "a day ago"), (604_800_000, "a week ago")];

/// From when to when, and how it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Span {
    /// How long, milliseconds.
    pub length_ms: i64,
    /// Its end; `None` for now.
    #[serde(skip)]
    pub end_ms: Option<i64>,
    /// How long ago the same is compared with, milliseconds; 0 for not at all.
    pub compare_ms: i64,
    /// A logarithmic scale.
    pub log: bool,
    /// Lines, areas, stacked or a heatmap; `None` for what suits the chart.
    pub kind: Option<Kind>,
}

impl Default for Span {
    fn default() -> Span {
        Span { length_ms: 15 * 60_000, end_ms: None, compare_ms: 0, log: false, kind: None }
    }
}

impl Span {
    /// Distance of points.
    pub fn step_ms(&self) -> i64 {
        let wanted = self.length_ms / POINTS;
        STEPS_S.iter().map(|step| step * 1_000).find(|step| *step >= wanted).unwrap_or(86_400_000)
    }

    /// Its edges; the end is a multiple of the step, so that points stay where they are as time goes on.
    pub fn range(&self, now_ms: i64) -> (i64, i64) {
        let step = self.step_ms();
        let end = self.end_ms.unwrap_or(now_ms).div_euclid(step) * step;
        (end - self.length_ms.div_euclid(step) * step, end)
    }

    /// As a grid of evaluations, `ago_ms` earlier.
    pub fn grid(&self, now_ms: i64, ago_ms: i64) -> Grid {
        let (start, end) = self.range(now_ms);
        Grid::Range { start_ms: start - ago_ms, end_ms: end - ago_ms, step_ms: self.step_ms() }
    }

    /// Twice (or half) as long, about `center`, or about its end where it moves with the time.
    pub fn zoom(&mut self, into: bool, center: Option<i64>, now_ms: i64) {
        let (start, end) = self.range(now_ms);
        let length = if into { self.length_ms / 2 } else { self.length_ms.saturating_mul(2) };
        let length = length.clamp(LENGTHS_MS.0, LENGTHS_MS.1);
        if let Some(center) = center {
            let share = (center - start) as f64 / (end - start).max(1) as f64;
            let new_end = center + ((1.0 - share) * length as f64) as i64;
            self.end_ms = (new_end < now_ms).then_some(new_end);
        } else if let Some(end) = self.end_ms {
            let middle = end - self.length_ms / 2;
            let new_end = middle + length / 2;
            self.end_ms = (new_end < now_ms).then_some(new_end);
        }
        self.length_ms = length;
    }

    /// A quarter earlier or later; at now it moves on with the time again.
    pub fn pan(&mut self, later: bool, now_ms: i64) {
        let by = (self.length_ms / 4).max(1_000);
        let end = self.end_ms.unwrap_or(now_ms) + if later { by } else { -by };
        self.end_ms = (end < now_ms).then_some(end);
    }

    /// Exactly from one moment to another.
    pub fn select(&mut self, from_ms: i64, to_ms: i64) {
        let (from, to) = (from_ms.min(to_ms), from_ms.max(to_ms));
        self.length_ms = (to - from).clamp(LENGTHS_MS.0, LENGTHS_MS.1);
        self.end_ms = Some(from + self.length_ms);
    }

    /// Sets its length.
    pub fn set_length(&mut self, length_ms: i64) {
        self.length_ms = length_ms.clamp(LENGTHS_MS.0, LENGTHS_MS.1);
    }

    /// The next of [`COMPARISONS`]; says which.
    pub fn next_comparison(&mut self) -> &'static str {
        let at = COMPARISONS.iter().position(|(ms, _)| *ms == self.compare_ms).unwrap_or(0);
        let (ms, name) = COMPARISONS[(at + 1) % COMPARISONS.len()];
        self.compare_ms = ms;
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_123_456;

    #[test]
    fn the_grid_stays_where_it_is_as_time_goes_on() {
        let span = Span::default();
        let (start, end) = span.range(NOW);
        assert_eq!((span.step_ms(), end % 5_000, end - start), (5_000, 0, 900_000));
        assert_eq!(span.range(NOW + 1_000), (start, end));
        assert_eq!(span.grid(NOW, 3_600_000).start_ms(), start - 3_600_000);
        assert!(span.grid(NOW, 0).steps() <= 241);
    }

    #[test]
    fn zoom_keeps_what_is_pointed_at_and_pan_comes_back_to_now() {
        let mut span = Span { length_ms: 3_600_000, ..Span::default() };
        let at = NOW - 1_800_000;
        span.zoom(true, Some(at), NOW);
        let (start, end) = span.range(NOW);
        assert!(start < at && at < end && end - start <= 1_800_000);
        span.zoom(false, Some(at), NOW);
        assert_eq!(span.length_ms, 3_600_000);
        let mut span = Span::default();
        span.pan(false, NOW);
        assert!(span.end_ms.is_some());
        span.pan(true, NOW);
        assert_eq!(span.end_ms, None);
        for _ in 0..40 {
            span.zoom(true, None, NOW);
        }
        assert_eq!(span.length_ms, 10_000);
        span.select(NOW, NOW - 60_000);
        assert_eq!((span.length_ms, span.end_ms), (60_000, Some(NOW)));
    }
}
