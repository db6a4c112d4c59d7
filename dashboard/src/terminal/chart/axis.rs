//! Scales and ticks.

use super::Unit;
use crate::terminal::text::{hour_minute, month_day, time_of_day};

/// How values become heights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// At the bottom; on a logarithmic scale its decimal logarithm.
    low: f64,
    /// At the top, the same way.
    high: f64,
    is_log: bool,
    unit: Unit,
}

impl Scale {
    /// A scale that shows all finite `values`, with round numbers at its ends. `from_zero` for areas.
    pub fn of(values: impl Iterator<Item = f64>, unit: Unit, log: bool, from_zero: bool) -> Scale {
        let shown = values.filter(|value| value.is_finite() && (!log || *value > 0.0));
        let (low, high) =
            shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return Scale { low: 0.0, high: 1.0, is_log: log, unit };
        }
        if log {
            let (low, high) = (low.log10().floor(), high.log10().ceil());
            return Scale { low, high: if high > low { high } else { low + 1.0 }, is_log: true, unit };
        }
        // From zero when that costs less than half of the height: a level is read off best against zero.
        let low = if low > 0.0 && (from_zero || low < high * 0.6) { 0.0 } else { low };
        let high = if high < 0.0 && from_zero { 0.0 } else { high };
        let spread = if high > low { high - low } else { high.abs().max(1.0) };
        let step = step(spread, 4, unit);
        let low = (low / step).floor() * step;
        let top = (high / step).ceil() * step;
        Scale { low, high: if top > low { top } else { low + step }, is_log: false, unit }
    }

    /// Where a value lies, 0 at the bottom and 1 at the top; beyond the ends it is the end.
    pub fn share(&self, value: f64) -> f64 {
        let value = if self.is_log { value.log10() } else { value };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Whether a value can be drawn.
    pub fn shows(&self, value: f64) -> bool {
        value.is_finite() && (!self.is_log || value > 0.0)
    }

    /// Round values from bottom to top, about `count`.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        if self.is_log {
            let decades = (self.high - self.low) as usize;
            let every = decades.div_ceil(count.max(1)).max(1);
            return (0..=decades).step_by(every).map(|n| 10f64.powf(self.low + n as f64)).collect();
        }
        // A narrow scale far from zero may lie between two round values: it gets rounder ones until two lie on it.
        let rows = |count: usize| {
            let step = step(self.high - self.low, count, self.unit);
            let first = (self.low / step - 1e-9).ceil() as i64;
            let last = (self.high / step + 1e-9).floor() as i64;
            (first..=last).map(|n| n as f64 * step).collect::<Vec<_>>()
        };
        let wanted = rows(count);
        if wanted.len() >= 2 { wanted } else { rows(2 * count.max(2)) }
    }
}

/// A round distance of which at most `count` and a bit lie in `spread`.
fn step(spread: f64, count: usize, unit: Unit) -> f64 {
    let raw = spread / count.max(1) as f64;
    if matches!(unit, Unit::Bytes | Unit::BytesPerSecond) {
        // Nothing is a part of a byte.
        return 2f64.powf(raw.max(1.0).log2().ceil());
    }
    let power = 10f64.powf(raw.log10().floor());
    let factor = match raw / power {
        factor if factor <= 1.0 => 1.0,
        factor if factor <= 2.0 => 2.0,
        factor if factor <= 5.0 => 5.0,
        _ => 10.0,
    };
    factor * power
}

/// Distances of time ticks, in seconds.
const TIME_STEPS: [i64; 23] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
    1_209_600, 2_592_000, 7_776_000,
];

/// Round moments for an axis `width` columns wide, UTC: the column at which each label begins, and the label. Labels lie whole
/// on the axis and apart from each other, and unless it is very narrow there is one.
pub(super) fn time_labels(range: (i64, i64), width: u16) -> Vec<(u16, String)> {
    let about = usize::from(width) / 12;
    let placed = |count: usize| {
        let mut free = 0;
        let mut labels = Vec::new();
        for (time, label) in time_ticks(range, count) {
            let share = (time - range.0) as f64 / (range.1 - range.0).max(1) as f64;
            let at = (share * f64::from(width.saturating_sub(1))).round() as u16;
            let x = at.saturating_sub(label.len() as u16 / 2);
            if x >= free && x + label.len() as u16 <= width {
                free = x + label.len() as u16 + 1;
                labels.push((x, label));
            }
        }
        labels
    };
    (about..about + 4).map(placed).find(|labels| !labels.is_empty()).unwrap_or_default()
}

/// At most about `count` round moments in `range`, with their labels, UTC.
pub fn time_ticks(range: (i64, i64), count: usize) -> Vec<(i64, String)> {
    let (start, end) = range;
    let wanted = (end - start).max(1) / count.max(1) as i64;
    let step = TIME_STEPS.iter().map(|seconds| seconds * 1_000).find(|step| *step >= wanted);
    let step = step.unwrap_or(7_776_000_000);
    let mut ticks = Vec::new();
    let mut time = start.div_euclid(step) * step;
    if time < start {
        time += step;
    }
    while time <= end {
        let label = match step {
            ..60_000 => time_of_day(time),
            ..86_400_000 if time.rem_euclid(86_400_000) != 0 => hour_minute(time),
            _ => month_day(time),
        };
        ticks.push((time, label));
        time += step;
    }
    ticks
}
