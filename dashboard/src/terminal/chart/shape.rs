//! What is painted on the canvas, dot by dot.

use ratatui::style::Color;
use ratatui::widgets::canvas::{Painter, Shape};

/// Dots of the canvas and how times and shares become them.
struct Dots {
    width: usize,
    height: usize,
    left: f64,
    right: f64,
}

impl Dots {
    fn of(painter: &Painter<'_, '_>) -> Option<Dots> {
        let (x, y) = painter.bounds();
        let (last_x, last_y) = painter.get_point(x[1], y[0])?;
        Some(Dots { width: last_x + 1, height: last_y + 1, left: x[0], right: x[1] })
    }

    /// May lie outside, left or right.
    fn x(&self, time: f64) -> f64 {
        (time - self.left) / (self.right - self.left) * (self.width - 1) as f64
    }

    fn y(&self, share: f64) -> f64 {
        (1.0 - share) * (self.height - 1) as f64
    }
}

/// A line through points (time, share of the height) that belong together.
pub(super) struct Stroke<'a> {
    pub(super) points: &'a [(f64, f64)],
    pub(super) color: Color,
    /// Every other dot only.
    pub(super) dotted: bool,
}

impl Shape for Stroke<'_> {
    fn draw(&self, painter: &mut Painter<'_, '_>) {
        let Some(dots) = Dots::of(painter) else { return };
        let at = |(time, share): (f64, f64)| (dots.x(time), dots.y(share));
        if let [single] = self.points {
            self.dot(painter, &dots, at(*single), 0);
        }
        for pair in self.points.windows(2) {
            let (from, to) = (at(pair[0]), at(pair[1]));
            if to.0 < 0.0 || from.0 > (dots.width - 1) as f64 {
                continue;
            }
            let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).ceil().max(1.0);
            for step in 0..=steps as usize {
                let share = step as f64 / steps;
                let here = (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
                self.dot(painter, &dots, here, here.0.round() as i64);
            }
        }
    }
}

impl Stroke<'_> {
    fn dot(&self, painter: &mut Painter<'_, '_>, dots: &Dots, (x, y): (f64, f64), number: i64) {
        let (x, y) = (x.round(), y.round());
        let inside = x >= 0.0 && y >= 0.0 && (x as usize) < dots.width && (y as usize) < dots.height;
        if inside && !(self.dotted && number.rem_euclid(2) == 1) {
            painter.paint(x as usize, y as usize, self.color);
        }
    }
}

/// What lies between a line and those below it, or the bottom.
pub(super) struct Fill<'a> {
    pub(super) above: &'a [(f64, f64)],
    /// Runs of the line below; where there is none, the bottom.
    pub(super) below: &'a [Vec<(f64, f64)>],
    pub(super) color: Color,
    /// Every dot; else a pattern.
    pub(super) solid: bool,
}

impl Shape for Fill<'_> {
    fn draw(&self, painter: &mut Painter<'_, '_>) {
        let Some(dots) = Dots::of(painter) else { return };
        let (Some(first), Some(last)) = (self.above.first(), self.above.last()) else { return };
        let from = dots.x(first.0).round().max(0.0) as usize;
        let to = (dots.x(last.0).round().min((dots.width - 1) as f64)).max(0.0) as usize;
        for x in from..=to.min(dots.width - 1) {
            let time = dots.left + (dots.right - dots.left) * x as f64 / (dots.width - 1).max(1) as f64;
            let Some(above) = share_at(self.above, time) else { continue };
            let below = self.below.iter().find_map(|run| share_at(run, time)).unwrap_or(0.0);
            let (top, bottom) = (dots.y(above).round() as usize, dots.y(below).round() as usize);
            // Its own line goes on top; the one below keeps its dots.
            for y in top..=bottom.min(dots.height - 1) {
                if self.solid || (x % 2 == 0 && y % 2 == 0) {
                    painter.paint(x, y, self.color);
                }
            }
        }
    }
}

/// Between its points a line is straight; beyond its ends (but for rounding) there is none.
fn share_at(points: &[(f64, f64)], time: f64) -> Option<f64> {
    let after = points.partition_point(|(at, _)| *at < time);
    match (after.checked_sub(1).and_then(|before| points.get(before)), points.get(after)) {
        (Some(a), Some(b)) => Some(a.1 + (b.1 - a.1) * (time - a.0) / (b.0 - a.0)),
        (None, Some(first)) => Some(first.1),
        (Some(last), None) => Some(last.1),
        (None, None) => None,
    }
}
