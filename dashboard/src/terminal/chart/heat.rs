//! Distributions over time: a column each, darker where more observations fall.

use kymo_core::NativeHistogram;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::axis::time_labels;
use super::{Mark, Plot, draw_marks};
use crate::terminal::text::{self, Unit, figure};
use crate::terminal::theme::Theme;

/// One distribution: buckets by their bounds, and what is in them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeatColumn {
    /// When, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// Lower bound, upper bound, observations.
    pub buckets: Vec<(f64, f64, f64)>,
}

impl HeatColumn {
    /// Of a native histogram; buckets below zero are left out, latencies have none.
    pub fn of_native(time_ms: i64, histogram: &NativeHistogram) -> HeatColumn {
        let buckets = histogram.positive_buckets().map(|bucket| (bucket.lower, bucket.upper, bucket.count)).collect();
        HeatColumn { time_ms, buckets }
    }

    /// Of classic buckets: pairs of `le` and the count at or below it, rising.
    pub fn of_classic(time_ms: i64, cumulative: &[(f64, f64)]) -> HeatColumn {
        let (mut lower, mut before) = (0.0, 0.0);
        let mut buckets = Vec::new();
        for (le, count) in cumulative {
            let upper = if le.is_finite() { *le } else { lower * 2.0 };
            buckets.push((lower, upper, (count - before).max(0.0)));
            (lower, before) = (upper, *count);
        }
        HeatColumn { time_ms, buckets }
    }
}

/// Columns over a span of time; values on a logarithmic scale.
#[derive(Debug, Clone)]
pub struct Heatmap<'a> {
    /// In time order.
    pub columns: &'a [HeatColumn],
    /// Left and right edge.
    pub range: (i64, i64),
    /// Distance of columns.
    pub step_ms: i64,
    /// What values are.
    pub unit: Unit,
    /// What happened when, by time.
    pub marks: &'a [Mark],
    /// A moment that is looked at.
    pub cursor: Option<i64>,
}

impl Heatmap<'_> {
    /// Draws it with its axes; nothing in an area too small.
    pub fn render(&self, area: Rect, buffer: &mut Buffer, theme: &Theme) -> Option<Plot> {
        if area.width < 12 || area.height < 3 {
            return None;
        }
        let filled = self.columns.iter().flat_map(|column| &column.buckets).filter(|(_, _, count)| *count > 0.0);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for (lower, upper, _) in filled {
            // A first classic bucket begins at zero, which a logarithmic scale cannot show.
            low = low.min(if *lower > 0.0 { *lower } else { upper / 4.0 });
            high = high.max(*upper);
        }
        if !(low.is_finite() && high.is_finite() && low < high) {
            buffer.set_string(area.x, area.y, "no distribution in this time", theme.dim());
            return None;
        }
        let (bottom, top) = (low.log10(), high.log10());
        let rows = area.height - 1;
        let bound = |row: u16| bottom + (top - bottom) * f64::from(row) / f64::from(rows);
        let labels: Vec<(u16, String)> =
            (0..rows).step_by(2).map(|row| (row, theme.plain(&figure(10f64.powf(bound(row)), self.unit)))).collect();
        let gutter = labels.iter().map(|(_, label)| text::width(label)).max().unwrap_or(0) as u16 + 1;
        let plot = Rect { x: area.x + gutter, width: area.width.saturating_sub(gutter), height: rows, ..area };
        if plot.width < 4 {
            return None;
        }
        for (row, label) in &labels {
            let x = plot.x - 1 - text::width(label) as u16;
            buffer.set_string(x, plot.bottom() - 1 - row, label, theme.dim());
        }
        let cells = self.cells(plot, bottom, top);
        let fullest = cells.iter().flatten().copied().fold(0.0, f64::max);
        for (x, column) in cells.iter().enumerate() {
            for (row, count) in column.iter().enumerate() {
                let (char, style) = theme.heat(if fullest > 0.0 { count / fullest } else { 0.0 });
                let position = (plot.x + x as u16, plot.bottom() - 1 - row as u16);
                buffer[position].set_char(char).set_style(style);
            }
        }
        for (x, label) in time_labels(self.range, plot.width) {
            buffer.set_string(plot.x + x, plot.bottom(), &label, theme.dim());
        }
        draw_marks(plot, self.range, self.marks, self.cursor, buffer, theme);
        Some(Plot { area: plot, range: self.range })
    }

    /// Observations by cell, columns from the left, rows from the bottom; a bucket is spread evenly over its rows.
    fn cells(&self, plot: Rect, bottom: f64, top: f64) -> Vec<Vec<f64>> {
        let (width, rows) = (usize::from(plot.width), usize::from(plot.height));
        let height = (top - bottom) / rows as f64;
        let mut cells = vec![vec![0.0; rows]; width];
        for (x, cell) in cells.iter_mut().enumerate() {
            let time = self.range.0 + ((self.range.1 - self.range.0) as f64 * x as f64 / (width - 1) as f64) as i64;
            let after = self.columns.partition_point(|column| column.time_ms < time);
            // The columns at or after this moment cover it; a gap stays one.
            let Some(column) = self.columns.get(after).filter(|column| column.time_ms - time < self.step_ms) else {
                continue;
            };
            for (lower, upper, count) in &column.buckets {
                let from = if *lower > 0.0 { lower.log10().max(bottom) } else { bottom };
                let to = upper.log10().min(top);
                if *count <= 0.0 || to <= from {
                    continue;
                }
                for (row, filled) in cell.iter_mut().enumerate() {
                    let (low, high) = (bottom + height * row as f64, bottom + height * (row + 1) as f64);
                    let overlap = (to.min(high) - from.max(low)).max(0.0);
                    *filled += count * overlap / (to - from);
                }
            }
        }
        cells
    }
}
