//! One frame as text: for scripts, golden tests, and the chart of one query.

use std::fmt::Write;

use kymo_core::QueryContext;
use kymo_core::query::{Grid, QueryResult};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::app::{App, Effect, Event, Options};
use super::ask::Sources;
use super::chart::{Chart, Heatmap, Kind, sign};
use super::result;
use super::screen;
use super::text::{self, Unit, figure};
use super::theme::{Palette, Theme};

/// Rounds of questions that follow from answers; the second asks what the names of metrics lead to.
const ROUNDS_MAX: usize = 6;

/// Series that a plot names at most; the lines of more tell nothing apart.
const LEGEND_MAX: usize = 50;

/// Whether a frame's text carries colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Only characters.
    Plain,
    /// With escape sequences.
    Ansi,
}

/// The frame of a view once everything it asks is answered, a line each, without blanks at the ends.
///
/// Asks on this thread, one question after the other.
pub fn frame(
    mut options: Options,
    subject: Option<&str>,
    sources: &Sources,
    ctx: &QueryContext,
    paint: Paint,
) -> String {
    // What colours would have told is told by characters.
    options.no_color |= paint == Paint::Plain;
    let (width, height) = options.size;
    let view = options.settings.view;
    let (mut app, mut effects) = App::new(options);
    if subject.is_some() {
        app.open(view, subject, &mut effects);
    }
    for _ in 0..ROUNDS_MAX {
        let mut next = Vec::new();
        for effect in std::mem::take(&mut effects) {
            if let Effect::Ask(question, ask) = effect {
                next.extend(app.update(Event::Answer(question, ask.answer(sources, ctx))));
            }
        }
        if next.is_empty() {
            break;
        }
        effects = next;
    }
    // Lists that were empty at the first round have rows now, whose own questions follow.
    let mut last = Vec::new();
    app.ask_now(&mut last);
    for effect in last {
        if let Effect::Ask(question, ask) = effect {
            app.update(Event::Answer(question, ask.answer(sources, ctx)));
        }
    }
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    screen::render(&app, area, &mut buffer);
    text_of(&buffer, paint)
}

/// How a plot is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Columns and lines, the legend not counted.
    pub size: (u16, u16),
    /// Colours.
    pub palette: Palette,
    /// Whether more than ASCII is drawn.
    pub unicode: bool,
    /// A logarithmic scale.
    pub log: bool,
}

/// The chart of a range query's answer, and a line for each series; of one distribution a heatmap.
pub fn plot(expression: &str, grid: Grid, answered: &QueryResult, look: Look) -> String {
    let theme = Theme::new(look.palette, look.unicode);
    let series = result::lines(result::series_of(answered), 0);
    if series.is_empty() {
        return "no data\n".to_owned();
    }
    let (width, height) = look.size;
    let (range, step_ms) = ((grid.start_ms(), grid.end_ms()), grid.step_ms());
    let paint = if look.palette == Palette::None { Paint::Plain } else { Paint::Ansi };
    let columns = result::distribution(answered);
    if !columns.is_empty() {
        let unit = Unit::of_observations(expression);
        let map = Heatmap { columns: &columns, range, step_ms, unit, marks: &[], cursor: None };
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        map.render(buffer.area, &mut buffer, &theme);
        return text_of(&buffer, paint);
    }
    let unit = Unit::of_expression(expression);
    let chart = Chart { series: &series, range, step_ms, unit, kind: Kind::Lines, log: look.log, ..Chart::default() };
    let unnamed = series.len().saturating_sub(LEGEND_MAX);
    let legend = (series.len() - unnamed) as u16;
    let area = Rect::new(0, 0, width, height + legend);
    let mut buffer = Buffer::empty(area);
    chart.render(Rect { height, ..area }, &mut buffer, &theme);
    for (number, one) in series.iter().take(LEGEND_MAX).enumerate() {
        let y = height + number as u16;
        buffer[(0, y)].set_char(sign(number, &theme)).set_style(Style::new().fg(theme.series(number)));
        let value = one.last().map(|value| figure(value, unit)).unwrap_or_default();
        let room = usize::from(width).saturating_sub(text::width(&value) + 4);
        let line = format!("{}  {value}", text::fit(&one.name, room, theme.ellipsis()));
        buffer.set_string(2, y, theme.plain(&line), Style::new());
    }
    let mut text = text_of(&buffer, paint);
    if unnamed > 0 {
        let _ = writeln!(text, "and {unnamed} more");
    }
    text
}

fn text_of(buffer: &Buffer, paint: Paint) -> String {
    let mut out = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let mut line = String::new();
        let mut style = Style::reset();
        let mut blank = 0;
        let mut x = buffer.area.left();
        while x < buffer.area.right() {
            let cell = &buffer[(x, y)];
            let symbol = if cell.symbol() == "\u{2800}" { " " } else { cell.symbol() };
            let now = cell.style();
            let is_blank = symbol == " " && (paint == Paint::Plain || now.bg.is_none_or(|bg| bg == Color::Reset));
            if is_blank && (paint == Paint::Plain || !now.add_modifier.contains(Modifier::REVERSED)) {
                blank += 1;
            } else {
                let _ = write!(line, "{:blank$}", "");
                blank = 0;
                if paint == Paint::Ansi && now != style {
                    line.push_str(&escape(now));
                    style = now;
                }
                line.push_str(symbol);
            }
            x += text::width(symbol).max(1) as u16;
        }
        out.push_str(&line);
        if style != Style::reset() {
            out.push_str("\x1b[0m");
        }
        out.push('\n');
    }
    out
}

/// The escape sequence of a style, from nothing.
fn escape(style: Style) -> String {
    let mut codes = vec!["0".to_owned()];
    let modifiers =
        [(Modifier::BOLD, "1"), (Modifier::DIM, "2"), (Modifier::UNDERLINED, "4"), (Modifier::REVERSED, "7")];
    codes.extend(
        modifiers.iter().filter(|(one, _)| style.add_modifier.contains(*one)).map(|(_, code)| (*code).to_owned()),
    );
    if let Some(Color::Indexed(number)) = style.fg {
        codes.push(format!("38;5;{number}"));
    }
    if let Some(Color::Indexed(number)) = style.bg {
        codes.push(format!("48;5;{number}"));
    }
    format!("\x1b[{}m", codes.join(";"))
}

#[cfg(test)]
mod tests {
    use kymo_core::Labels;
    use kymo_core::query::{PointTimes, QueryValue, ResultSeries};

    use super::*;

    const GRID: Grid = Grid::Range { start_ms: 0, end_ms: 60_000, step_ms: 1_000 };

    fn drawn(expression: &str, labels: impl IntoIterator<Item = (&'static str, String)>) -> String {
        let times = [0, 1_000, 30_000];
        let one = |(name, value): (&'static str, String)| ResultSeries {
            labels: Labels::from_pairs([(name, value)]),
            floats: times.iter().map(|time| *time as f64).collect(),
            times: PointTimes::Own(times.to_vec()),
            histograms: Vec::new(),
        };
        let value = QueryValue::Matrix(labels.into_iter().map(one).collect());
        let look = Look { size: (60, 8), palette: Palette::None, unicode: true, log: false };
        plot(expression, GRID, &QueryResult { value, ..QueryResult::default() }, look)
    }

    #[test]
    fn a_plot_names_its_series_and_counts_those_it_does_not_name() {
        let few = drawn("a", ["x", "y"].map(|name| ("job", name.to_owned())));
        assert!(few.contains("\na x") && few.contains("\nb y") && !few.contains("more"), "{few}");
        let many = drawn("a", (0..70_000).map(|number| ("job", number.to_string())));
        assert_eq!(many.lines().count(), 8 + LEGEND_MAX + 1);
        assert!(many.ends_with("and 69950 more\n"), "{}", many.lines().last().unwrap_or_default());
    }

    #[test]
    fn a_plot_of_one_distribution_is_a_heatmap() {
        let shown = drawn("rate(took_seconds_bucket[5m])", ["0.01", "0.1", "1"].map(|le| ("le", le.to_owned())));
        assert_eq!(shown.lines().count(), 8);
        assert!(shown.contains('█') && shown.contains("ms "), "{shown}");
        assert_eq!(drawn("a", []), "no data\n");
    }
}
