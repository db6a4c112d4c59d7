//! The frame around the views: tabs, banner, footer, help; and what lies where, for the mouse.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use super::app::{App, Prompt};
use super::chart::Plot;
use super::command;
use super::keys;
use super::table::put;
use super::text::{self, span, time_of_day};
use super::theme::Theme;
use super::view::ViewId;

/// What a click means at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The tab of a view.
    Tab(ViewId),
    /// A list of the view, and its row.
    Row(usize, usize),
    /// A list of the view, and its column.
    Heading(usize, usize),
    /// A chart.
    Plot(Plot),
}

/// What lies where on the frame that was drawn last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hits(Vec<(Rect, Target)>);

impl Hits {
    /// Notes a place.
    pub fn add(&mut self, place: Rect, target: Target) {
        self.0.push((place, target));
    }

    /// What lies there.
    pub fn at(&self, x: u16, y: u16) -> Option<Target> {
        self.0.iter().rev().find(|(place, _)| place.contains((x, y).into())).map(|(_, target)| *target)
    }
}

/// Draws a frame with a title at its left and a note at its right; gives the room inside.
pub(super) fn boxed(area: Rect, buffer: &mut Buffer, title: &str, note: &str, theme: &Theme) -> Rect {
    if area.height < 2 || area.width < 4 {
        return Rect { height: 0, ..area };
    }
    let line = theme.glyph("─", "-").repeat(usize::from(area.width));
    buffer.set_stringn(area.x, area.y, line, usize::from(area.width), theme.frame());
    let title = text::fit(&theme.plain(&format!(" {title} ")), usize::from(area.width) - 2, theme.ellipsis());
    buffer.set_string(area.x + 1, area.y, &title, theme.strong());
    let note = theme.plain(note);
    let wide = text::width(&note) + 1;
    if !note.is_empty() && text::width(&title) + wide + 2 < usize::from(area.width) {
        buffer.set_string(area.right() - wide as u16 - 1, area.y, format!(" {note}"), theme.accent());
    }
    Rect { x: area.x + 1, y: area.y + 1, width: area.width - 2, height: area.height - 1 }
}

/// Draws a state; what lies where is for the next mouse event.
pub fn render(app: &App, area: Rect, buffer: &mut Buffer) -> Hits {
    let mut hits = Hits::default();
    let theme = app.theme();
    if area.width < 40 || area.height < 10 {
        buffer.set_string(area.x, area.y, "too small", theme.text());
        return hits;
    }
    tabs(app, Rect { height: 1, ..area }, buffer, &theme, &mut hits);
    let mut inner = Rect { y: area.y + 1, height: area.height - 2, ..area };
    if let Some(text) = app.banner() {
        let text = text::fit(&theme.plain(&text), usize::from(area.width) - 1, theme.ellipsis());
        let padded = format!(" {text:<width$}", width = usize::from(area.width) - 1);
        buffer.set_stringn(inner.x, inner.y, padded, usize::from(area.width), theme.banner());
        inner = Rect { y: inner.y + 1, height: inner.height - 1, ..inner };
    }
    app.view().render(inner, buffer, &app.cx(), &mut hits);
    footer(app, Rect { y: area.bottom() - 1, height: 1, ..area }, buffer, &theme);
    if let Some(scroll) = app.help {
        hits = Hits::default();
        help(inner, scroll, buffer, &theme);
    }
    hits
}

fn tabs(app: &App, area: Rect, buffer: &mut Buffer, theme: &Theme, hits: &mut Hits) {
    let clock = match app.paused {
        true => " paused ".to_owned(),
        false => format!(" {} UTC ", time_of_day(app.now_ms)),
    };
    let room = usize::from(area.width) - clock.len();
    let chosen = if app.view_id == ViewId::Service { ViewId::Services } else { app.view_id };
    let name = |view: ViewId| {
        let name = view.name();
        name[..1].to_uppercase() + &name[1..]
    };
    let full: usize = ViewId::TABS.iter().map(|view| view.name().len() + 3).sum();
    let longest = if full <= room { 20 } else { (room.saturating_sub(chosen.name().len() + 2) / 9).saturating_sub(2) };
    let mut x = area.x;
    for (number, view) in ViewId::TABS.into_iter().enumerate() {
        let key = (number + 1) % 10;
        let title: String = match view == chosen {
            true => name(view),
            false => name(view).chars().take(longest.max(2)).collect(),
        };
        let text = if full <= room { format!("{key} {title} ") } else { format!("{key}{title} ") };
        let width = text.len() as u16;
        if x + width > area.x + room as u16 {
            break;
        }
        let style = if view == chosen { theme.chosen() } else { theme.dim() };
        buffer.set_string(x, area.y, &text, style);
        let style = if view == chosen { theme.chosen() } else { theme.accent() };
        buffer.set_string(x, area.y, key.to_string(), style);
        hits.add(Rect { x, y: area.y, width, height: 1 }, Target::Tab(view));
        x += width;
    }
    buffer.set_string(area.right() - clock.len() as u16, area.y, clock, theme.dim());
}

fn footer(app: &App, area: Rect, buffer: &mut Buffer, theme: &Theme) {
    if let Some(prompt) = &app.prompt {
        let (sign, line) = match prompt {
            Prompt::Search(line) => ("/", line),
            Prompt::Command(line) => (":", line),
        };
        buffer.set_string(area.x, area.y, sign, theme.accent());
        put(buffer, (area.x + 1, area.y, area.width - 1), line.text(), theme.text(), false, theme);
        let at = area.x + 1 + text::width(&line.text()[..line.cursor()]) as u16;
        if at < area.right() {
            buffer[(at, area.y)].modifier.insert(Modifier::REVERSED);
        }
        if let Prompt::Command(line) = prompt {
            let hint = command::hint(line.text(), &app.settings);
            let x = area.x + 3 + text::width(line.text()) as u16;
            if x < area.right() {
                put(buffer, (x, area.y, area.right() - x), &hint, theme.dim(), false, theme);
            }
        }
        return;
    }
    let span_text = {
        let mut text = match app.settings.span.end_ms {
            None => format!("last {}", span(app.settings.span.length_ms)),
            Some(end) => format!("{} until {}", span(app.settings.span.length_ms), text::moment(end)),
        };
        if app.settings.span.compare_ms > 0 {
            text += &format!(" vs {} ago", span(app.settings.span.compare_ms));
        }
        if app.settings.span.log {
            text += " log";
        }
        text
    };
    let right = match app.view().has_chart() {
        true => format!("{span_text}  {}", app.about()),
        false => app.about(),
    };
    let right = theme.plain(&right);
    let width = (text::width(&right) as u16).min(area.width / 2);
    put(buffer, (area.right() - width, area.y, width), &right, theme.dim(), true, theme);
    let left_width = area.width.saturating_sub(width + 1);
    if let Some(message) = &app.message {
        put(buffer, (area.x, area.y, left_width), message, theme.strong(), false, theme);
        return;
    }
    let mut x = area.x;
    let search = app.cx().search.to_owned();
    if !search.is_empty() {
        let text = format!("/{search}  ");
        put(buffer, (x, area.y, left_width), &text, theme.accent(), false, theme);
        x += (text::width(&text) as u16).min(left_width);
    }
    let mut hints = vec![("?", "help"), ("/", "search"), (":", "command")];
    if app.view_id == ViewId::Explore {
        hints.insert(0, ("e", "edit"));
    }
    if app.view().has_chart() {
        hints.extend([("+ -", "zoom"), ("[ ]", "pan"), ("c", "compare")]);
    } else {
        hints.push(("Enter", "open"));
        if !app.view().lists().is_empty() {
            hints.push(("s", "sort"));
        }
    }
    hints.push(("q", "leave"));
    for (key, text) in hints {
        let width = (key.len() + text.len() + 3) as u16;
        if x + width > area.x + left_width {
            break;
        }
        buffer.set_string(x, area.y, key, theme.accent());
        buffer.set_string(x + key.len() as u16 + 1, area.y, text, theme.dim());
        x += width;
    }
}

/// Lines of the help.
pub(super) fn help_lines() -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for (title, keys) in keys::help() {
        lines.push((title.to_owned(), String::new()));
        lines.extend(keys.into_iter().map(|(keys, text)| (format!("  {keys}"), text.to_owned())));
        lines.push((String::new(), String::new()));
    }
    lines.push(("Commands".to_owned(), String::new()));
    lines.extend(command::COMMANDS.iter().map(|command| {
        (format!("  :{} {}", command.name, command.arguments).trim_end().to_owned(), command.text.to_owned())
    }));
    lines
}

fn help(area: Rect, scroll: usize, buffer: &mut Buffer, theme: &Theme) {
    for y in area.top()..area.bottom() {
        buffer.set_string(area.x, y, " ".repeat(usize::from(area.width)), theme.text());
        for x in area.left()..area.right() {
            buffer[(x, y)].set_style(ratatui::style::Style::reset());
        }
    }
    let lines = help_lines();
    let inner = boxed(area, buffer, "Keys and commands", "Up Down PgDn scroll, Esc closes ", theme);
    let columns = if area.width >= 150 { 2 } else { 1 };
    let height = usize::from(inner.height);
    let first = scroll.min(lines.len().saturating_sub(height * columns));
    let width = inner.width / columns as u16;
    for (number, (keys, text)) in lines.iter().skip(first).take(height * columns).enumerate() {
        let x = inner.x + width * (number / height) as u16;
        let y = inner.y + (number % height) as u16;
        let style = if keys.starts_with(' ') { theme.accent() } else { theme.strong() };
        put(buffer, (x, y, 26), keys, style, false, theme);
        put(buffer, (x + 27, y, width.saturating_sub(28)), text, theme.text(), false, theme);
    }
}
