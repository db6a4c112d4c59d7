//! One frame as text: for scripts, golden tests, and the chart of one query.

use std::fmt::Write;

use kymo_core::QueryContext;
use kymo_core::query::{Grid, QueryResult};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::app::{App, Effect, Event, Options};
use super::ask::Sources;
use super::chart::{Chart, Kind, ascii_sign};
use super::result;
use super::screen;
use super::text::{self, Unit, figure};
use super::theme::{Palette, Theme};

/// Rounds of questions that follow from answers; the second asks what the names of metrics lead to.
const ROUNDS_MAX: usize = 6;

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
pub fn frame(options: Options, subject: Option<&str>, sources: &Sources, ctx: &QueryContext, paint: Paint) -> String {
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

/// The chart of a range query's answer, and a line for each series.
pub fn plot(expression: &str, grid: Grid, answered: &QueryResult, look: Look) -> String {
    let theme = Theme::new(look.palette, look.unicode);
    let series = result::lines(result::series_of(answered), 0);
    if series.is_empty() {
        return "no data\n".to_owned();
    }
    let unit = Unit::of_expression(expression);
    let chart = Chart {
        series: &series,
        range: (grid.start_ms(), grid.end_ms()),
        step_ms: grid.step_ms(),
        unit,
        kind: Kind::Lines,
        log: look.log,
        ..Chart::default()
    };
    let (width, height) = look.size;
    let legend = series.len() as u16;
    let area = Rect::new(0, 0, width, height + legend);
    let mut buffer = Buffer::empty(area);
    chart.render(Rect { height, ..area }, &mut buffer, &theme);
    for (number, one) in series.iter().enumerate() {
        let y = height + number as u16;
        let sign = if look.unicode { '━' } else { ascii_sign(number) };
        buffer[(0, y)].set_char(sign).set_style(Style::new().fg(theme.series(number)));
        let value = one.last().map(|value| figure(value, unit)).unwrap_or_default();
        let room = usize::from(width).saturating_sub(text::width(&value) + 4);
        let line = format!("{}  {value}", text::fit(&one.name, room, theme.ellipsis()));
        buffer.set_string(2, y, theme.plain(&line), Style::new());
    }
    let paint = if look.palette == Palette::None { Paint::Plain } else { Paint::Ansi };
    text_of(&buffer, paint)
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
            if is_blank && !now.add_modifier.contains(Modifier::REVERSED) {
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
