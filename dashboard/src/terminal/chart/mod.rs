//! Charts: values over time, drawn on ratatui's canvas with shapes and axes of our own.
//!
//! ```text
//! Series ─▶ runs without gaps ─▶ Stroke, Fill (shape.rs) ─▶ canvas of braille dots
//!        └▶ Scale, ticks (axis.rs) ─▶ labels around it          heat.rs, spark.rs: by cells, without a canvas
//! ```
//!
//! 1. Where nothing was measured nothing is drawn: points further apart than a step and a half are not joined.
//! 2. On a logarithmic scale, what is not above zero is not drawn.

mod axis;
mod heat;
mod shape;
mod spark;
#[cfg(test)]
mod tests;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::symbols::Marker;
use ratatui::widgets::Widget;
use ratatui::widgets::canvas::Canvas;
use serde::{Deserialize, Serialize};

use axis::time_labels;
pub use axis::{Scale, time_ticks};
pub use heat::{HeatColumn, Heatmap};
pub use spark::spark;

use super::text::{self, Unit, figure};
use super::theme::{Palette, Theme};
use shape::{Fill, Stroke};

/// Less room than this for the words of a mark is none.
const LABEL_MIN: usize = 12;

/// One line of a chart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// Times (ms, rising) and values; NaN is as good as absent.
    pub points: Vec<(i64, f64)>,
}

impl Series {
    /// The newest value.
    pub fn last(&self) -> Option<f64> {
        self.points.iter().rev().map(|(_, value)| *value).find(|value| !value.is_nan())
    }
}

/// How series are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Each as a line.
    #[default]
    Lines,
    /// Each as a line over a shaded area.
    Areas,
    /// On top of each other, the first at the bottom.
    Stacked,
    /// As a distribution, darker where more observations fall; what is none, as lines.
    Heat,
}

impl Kind {
    /// As a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Lines => "lines",
            Kind::Areas => "areas",
            Kind::Stacked => "stacked",
            Kind::Heat => "heatmap, where there is a distribution",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// When, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// What, in a word.
    pub text: String,
}

/// A chart of one span of time.
#[derive(Debug, Clone)]
pub struct Chart<'a> {
    /// What is drawn; colours go by position.
    pub series: &'a [Series],
    /// The same of an earlier time, already moved to this one; drawn behind, in grey.
    pub past: &'a [Series],
    /// Left and right edge, milliseconds since the Unix epoch.
    pub range: (i64, i64),
    /// Distance of points; those further apart than one and a half are not joined.
    pub step_ms: i64,
    /// What values are.
    pub unit: Unit,
    /// How they are drawn.
    pub kind: Kind,
    /// A logarithmic scale.
    pub log: bool,
    /// What happened when, by time.
    pub marks: &'a [Mark],
    /// A moment that is looked at.
    pub cursor: Option<i64>,
}

impl Default for Chart<'_> {
    fn default() -> Self {
        Chart {
            series: &[],
            past: &[],
            range: (0, 1),
            step_ms: 1,
            unit: Unit::Number,
            kind: Kind::Lines,
            log: false,
            marks: &[],
            cursor: None,
        }
    }
}

/// Where the chart's canvas lies in the area that [`Chart::render`] was given, for the mouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plot {
    /// The cells of the canvas.
    pub area: Rect,
    /// Times at its edges.
    pub range: (i64, i64),
}

impl Plot {
    /// The time at a column, if it is on the canvas.
    pub fn time_at(&self, column: u16) -> Option<i64> {
        let Plot { area, range: (start, end) } = *self;
        if column < area.x || column >= area.right() || area.width < 2 {
            return None;
        }
        let share = f64::from(column - area.x) / f64::from(area.width - 1);
        Some(start + ((end - start) as f64 * share) as i64)
    }
}

impl Chart<'_> {
    /// Whether lines stand on areas.
    fn is_filled(&self) -> bool {
        matches!(self.kind, Kind::Areas | Kind::Stacked)
    }

    /// Draws it with its axes. In an area too small for that, nothing.
    pub fn render(&self, area: Rect, buffer: &mut Buffer, theme: &Theme) -> Option<Plot> {
        if area.width < 12 || area.height < 3 {
            return None;
        }
        let stacks = (self.kind == Kind::Stacked).then(|| stack(self.series));
        let drawn = stacks.as_deref().unwrap_or(self.series);
        let scale = Scale::of(self.values(drawn), self.unit, self.log, self.is_filled());
        let ticks = scale.ticks(usize::from(area.height - 1).div_ceil(3).max(2));
        let labels: Vec<String> = ticks.iter().map(|tick| theme.plain(&figure(*tick, self.unit))).collect();
        let gutter = labels.iter().map(|label| text::width(label)).max().unwrap_or(0) as u16 + 1;
        let plot =
            Rect { x: area.x + gutter, width: area.width.saturating_sub(gutter), height: area.height - 1, ..area };
        if plot.width < 4 {
            return None;
        }
        self.draw_frame(plot, &scale, &ticks, &labels, buffer, theme);
        self.draw_canvas(plot, &scale, drawn, buffer, theme);
        self.draw_signs(plot, &scale, drawn, buffer, theme);
        draw_marks(plot, self.range, self.marks, self.cursor, buffer, theme);
        Some(Plot { area: plot, range: self.range })
    }

    fn values<'b>(&'b self, drawn: &'b [Series]) -> impl Iterator<Item = f64> + 'b {
        let (start, end) = self.range;
        let all = drawn.iter().chain(self.past).flat_map(|series| &series.points);
        all.filter(move |(time, _)| (start..=end).contains(time)).map(|(_, value)| *value)
    }

    fn draw_frame(
        &self,
        plot: Rect,
        scale: &Scale,
        ticks: &[f64],
        labels: &[String],
        buffer: &mut Buffer,
        theme: &Theme,
    ) {
        let line = theme.glyph("┤", "|");
        for y in plot.top()..plot.bottom() {
            buffer.set_string(plot.x - 1, y, theme.glyph("│", "|"), theme.frame());
        }
        let mut free_from = plot.bottom();
        for (tick, label) in ticks.iter().zip(labels) {
            let share = scale.share(*tick);
            let y = plot.bottom() - 1 - (share * f64::from(plot.height - 1)).round() as u16;
            // Two labels never share a row; the lower one stays.
            if y >= free_from {
                continue;
            }
            free_from = y;
            let x = plot.x - 1 - text::width(label) as u16;
            buffer.set_string(x, y, label, theme.dim());
            buffer.set_string(plot.x - 1, y, line, theme.frame());
        }
        let y = plot.bottom();
        buffer.set_string(plot.x - 1, y, theme.glyph("└", "+"), theme.frame());
        buffer.set_string(plot.x, y, theme.glyph("─", "-").repeat(usize::from(plot.width)), theme.frame());
        for (x, label) in time_labels(self.range, plot.width) {
            buffer.set_string(plot.x + x, y, &label, theme.dim());
        }
    }

    fn draw_canvas(&self, plot: Rect, scale: &Scale, drawn: &[Series], buffer: &mut Buffer, theme: &Theme) {
        let gap_ms = self.step_ms + self.step_ms / 2;
        let runs = |series: &Series| -> Vec<Vec<(f64, f64)>> {
            let kept = series.points.iter().filter(|(_, value)| scale.shows(*value));
            let mut runs: Vec<Vec<(f64, f64)>> = Vec::new();
            let mut last = None;
            for (time, value) in kept {
                if last.is_none_or(|last| time - last > gap_ms) {
                    runs.push(Vec::new());
                }
                last = Some(*time);
                if let Some(run) = runs.last_mut() {
                    run.push((*time as f64, scale.share(*value)));
                }
            }
            runs
        };
        let past: Vec<_> = self.past.iter().map(runs).collect();
        let lines: Vec<_> = drawn.iter().map(runs).collect();
        let marker = |number: usize| if theme.unicode { Marker::Braille } else { ascii(number) };
        let canvas = Canvas::default()
            .x_bounds([self.range.0 as f64, self.range.1.max(self.range.0 + 1) as f64])
            .y_bounds([0.0, 1.0])
            .marker(marker(0))
            .paint(|context| {
                for run in past.iter().flatten() {
                    if !theme.unicode {
                        context.marker(Marker::Custom('.'));
                    }
                    context.draw(&Stroke { points: run, color: theme.past(), dotted: true });
                }
                for (number, series) in lines.iter().enumerate().rev() {
                    let color: Color = theme.series(number);
                    if self.is_filled() {
                        if !theme.unicode {
                            context.marker(if self.kind == Kind::Stacked {
                                ascii(number)
                            } else {
                                Marker::Custom(':')
                            });
                        }
                        let below: &[Vec<(f64, f64)>] = match self.kind {
                            Kind::Stacked => number.checked_sub(1).map_or(&[], |below| &lines[below]),
                            _ => &[],
                        };
                        for run in series {
                            let solid = self.kind == Kind::Stacked;
                            context.draw(&Fill { above: run, below, color, solid });
                        }
                    }
                    if !theme.unicode {
                        context.marker(ascii(number));
                    }
                    for run in series {
                        context.draw(&Stroke { points: run, color, dotted: false });
                    }
                }
            });
        canvas.render(plot, buffer);
    }

    /// Where neither colours nor characters tell lines apart, the letters of the legend stand on them, each in a column of its
    /// own, from the right.
    fn draw_signs(&self, plot: Rect, scale: &Scale, drawn: &[Series], buffer: &mut Buffer, theme: &Theme) {
        if drawn.len() < 2 || !theme.unicode || theme.palette() != Palette::None {
            return;
        }
        let canvas = Plot { area: plot, range: self.range };
        for (number, series) in drawn.iter().enumerate() {
            let Some(from) = plot.right().checked_sub(1 + 2 * number as u16).filter(|x| *x >= plot.x) else { break };
            let shown = (plot.x..=from).rev().find_map(|x| {
                let value = value_at(series, canvas.time_at(x)?, self.step_ms).filter(|value| scale.shows(*value))?;
                Some((x, plot.bottom() - 1 - (scale.share(value) * f64::from(plot.height - 1)).round() as u16))
            });
            if let Some(place) = shown {
                buffer[place].set_char(sign(number, theme));
            }
        }
    }
}

/// Draws what happened, and the moment that is looked at, over a canvas, where it left room.
fn draw_marks(plot: Rect, range: (i64, i64), marks: &[Mark], cursor: Option<i64>, buffer: &mut Buffer, theme: &Theme) {
    let column = |time: i64| {
        let (start, end) = range;
        (start..=end).contains(&time).then(|| {
            let share = (time - start) as f64 / (end - start).max(1) as f64;
            plot.x + (share * f64::from(plot.width - 1)).round() as u16
        })
    };
    let is_free = |buffer: &Buffer, x: u16, y: u16| matches!(buffer[(x, y)].symbol(), " " | "\u{2800}");
    for (number, mark) in marks.iter().enumerate() {
        let Some(x) = column(mark.time_ms) else { continue };
        for y in plot.top()..plot.bottom() {
            if is_free(buffer, x, y) {
                buffer.set_string(x, y, theme.glyph("┊", ":"), theme.dim());
            }
        }
        buffer.set_string(x, plot.top(), theme.glyph("▼", "v"), theme.accent());
        // Words end where the next mark stands, and hide no line.
        let next = marks[number + 1..].iter().find_map(|next| column(next.time_ms)).unwrap_or(plot.right());
        let room = (x + 1..next).take_while(|x| is_free(buffer, *x, plot.top())).count();
        if room >= LABEL_MIN {
            let label = text::fit(&theme.plain(&mark.text), room, theme.ellipsis());
            buffer.set_string(x + 1, plot.top(), label, theme.dim());
        }
    }
    if let Some(x) = cursor.and_then(column) {
        for y in plot.top()..plot.bottom() {
            if is_free(buffer, x, y) {
                buffer.set_string(x, y, theme.glyph("│", "|"), theme.accent());
            }
        }
    }
}

/// The sign of a series in a legend: the colour of its line says the rest, and where there are no colours, the sign is on it.
pub fn sign(number: usize, theme: &Theme) -> char {
    match (theme.unicode, theme.palette()) {
        (false, _) => ascii_sign(number),
        (true, Palette::None) => char::from(b'a' + (number % 26) as u8),
        (true, _) => '━',
    }
}

/// The sign of a series where there is no braille, so that series differ without colour.
fn ascii_sign(number: usize) -> char {
    const SIGNS: [char; 8] = ['*', 'o', 'x', '+', '#', '@', '%', '&'];
    SIGNS[number % SIGNS.len()]
}

fn ascii(number: usize) -> Marker {
    Marker::Custom(ascii_sign(number))
}

/// Each series on top of those before it. Where one has no value it adds nothing; where none has, there is none.
fn stack(series: &[Series]) -> Vec<Series> {
    let mut sums: std::collections::BTreeMap<i64, f64> = std::collections::BTreeMap::new();
    for one in series {
        for (time, _) in &one.points {
            sums.insert(*time, 0.0);
        }
    }
    series
        .iter()
        .map(|one| {
            for (time, value) in &one.points {
                if let Some(sum) = sums.get_mut(time)
                    && value.is_finite()
                {
                    *sum += value.max(0.0);
                }
            }
            Series { name: one.name.clone(), points: sums.iter().map(|(time, sum)| (*time, *sum)).collect() }
        })
        .collect()
}

/// The value that a series has at a moment, or had at most one step before.
pub fn value_at(series: &Series, time_ms: i64, step_ms: i64) -> Option<f64> {
    let after = series.points.partition_point(|(time, _)| *time <= time_ms);
    let (time, value) = *series.points.get(after.checked_sub(1)?)?;
    (time_ms - time <= step_ms).then_some(value)
}
