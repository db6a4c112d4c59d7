//! A chart of one query that follows the span, with a title and a legend; the part of which views are made.

use kymo_core::query::{QueryError, QueryRequest};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Cx, Slot, failure};
use crate::terminal::ask::{Answer, Ask};
use crate::terminal::chart::{Chart, HeatColumn, Heatmap, Kind, Series, sign, value_at};
use crate::terminal::result;
use crate::terminal::screen::{Hits, Target, boxed};
use crate::terminal::table::put;
use crate::terminal::text::{self, Unit, figure};
use crate::terminal::theme::Mood;

/// Series drawn at most; more tell nothing apart.
const SERIES_MAX: usize = 24;

/// What asks for the same of an earlier time has the slot of what asks for now, and this.
const PAST: Slot = 128;

/// A query's lines.
#[derive(Debug, Default)]
pub(super) struct Panel {
    pub(super) series: Vec<Series>,
    /// The same as distributions, where it is one.
    heat: Vec<HeatColumn>,
    /// Those that found no room.
    pub(super) hidden: usize,
    past: Vec<Series>,
    pub(super) error: Option<String>,
    /// Whether there was an answer.
    pub(super) is_known: bool,
}

impl Panel {
    /// One question; its answer goes to [`take`](Self::take), or is read by whoever asks.
    pub(super) fn ask(text: &str, cx: &Cx<'_>) -> Ask {
        Ask::Query(QueryRequest::new(text, cx.span.grid(cx.now_ms, 0)))
    }

    /// What to ask for its lines, and for those they are compared with.
    pub(super) fn asks(slot: Slot, text: &str, cx: &Cx<'_>) -> impl Iterator<Item = (Slot, Ask)> {
        let past = (cx.span.compare_ms > 0).then(|| {
            let request = QueryRequest::new(text, cx.span.grid(cx.now_ms, cx.span.compare_ms));
            (slot + PAST, Ask::Query(request))
        });
        std::iter::once((slot, Panel::ask(text, cx))).chain(past)
    }

    /// The slot of which a slot of [`asks`](Self::asks) is.
    pub(super) fn slot(slot: Slot) -> Slot {
        slot % PAST
    }

    /// Takes the answer to one of [`asks`](Self::asks).
    pub(super) fn take(&mut self, slot: Slot, answer: &Result<Answer, QueryError>, cx: &Cx<'_>) {
        match answer {
            Ok(Answer::Query(answered)) if slot >= PAST => {
                let all = result::series_of(answered);
                self.past = result::lines(&all[..all.len().min(SERIES_MAX)], cx.span.compare_ms);
            }
            _ if slot >= PAST => self.past.clear(),
            answer => self.answer(answer),
        }
        if cx.span.compare_ms == 0 {
            self.past.clear();
        }
    }

    fn answer(&mut self, answer: &Result<Answer, QueryError>) {
        self.is_known = true;
        match answer {
            Ok(Answer::Query(answered)) => {
                let all = result::series_of(answered);
                self.hidden = all.len().saturating_sub(SERIES_MAX);
                self.series = result::lines(&all[..all.len().min(SERIES_MAX)], 0);
                self.heat = result::distribution(answered);
                self.error = None;
            }
            Ok(_) => {}
            Err(error) => self.error = Some(failure(error)),
        }
    }

    /// Forgets what was answered, as another question is asked.
    pub(super) fn clear(&mut self) {
        *self = Panel { is_known: self.is_known, error: self.error.take(), ..Panel::default() };
    }

    /// The newest value of its first series.
    pub(super) fn last(&self) -> Option<f64> {
        self.series.first().and_then(Series::last)
    }
}

/// Columns for how many series a legend does not name.
const MORE_WIDTH: u16 = 12;

/// A place of a legend.
struct Entry {
    x: u16,
    line: u16,
    /// Which series it names; `None` where it tells how many it does not.
    series: Option<usize>,
    text: String,
}

/// How a panel is drawn.
pub(super) struct Look<'a> {
    pub(super) title: &'a str,
    pub(super) unit: Unit,
    /// What a distribution is of.
    pub(super) observed: Unit,
    pub(super) kind: Kind,
    /// Lines for the legend at most.
    pub(super) legend: u16,
    pub(super) cursor: Option<i64>,
}

impl<'a> Look<'a> {
    pub(super) fn new(title: &'a str, unit: Unit, kind: Kind) -> Look<'a> {
        Look { title, unit, observed: unit, kind, legend: 1, cursor: None }
    }
}

impl Panel {
    pub(super) fn render(&self, area: Rect, buffer: &mut Buffer, look: &Look<'_>, cx: &Cx<'_>, hits: &mut Hits) {
        let last = match &self.series[..] {
            [single] => single.last().map(|value| format!("{} ", figure(value, look.unit))).unwrap_or_default(),
            _ => String::new(),
        };
        let inner = boxed(area, buffer, look.title, &last, cx.theme);
        self.render_bare(inner, buffer, look, cx, hits);
    }

    /// Without a frame.
    pub(super) fn render_bare(&self, area: Rect, buffer: &mut Buffer, look: &Look<'_>, cx: &Cx<'_>, hits: &mut Hits) {
        if area.height == 0 || area.width == 0 {
            return;
        }
        if let (Some(error), true) = (&self.error, self.series.is_empty()) {
            put(buffer, (area.x, area.y, area.width), error, cx.theme.mood(Mood::Bad), false, cx.theme);
            return;
        }
        if self.series.is_empty() {
            let text = if self.is_known { "no data in this time" } else { "asking …" };
            put(buffer, (area.x, area.y, area.width), text, cx.theme.dim(), false, cx.theme);
            return;
        }
        let kind = cx.span.kind.unwrap_or(look.kind);
        let is_wanted = kind == Kind::Heat || cx.span.kind.is_none() && look.kind == Kind::Lines;
        if is_wanted && !self.heat.is_empty() {
            let (range, step_ms) = (cx.span.range(cx.now_ms), cx.span.step_ms());
            let (columns, marks, cursor) = (&self.heat[..], cx.marks, look.cursor);
            let map = Heatmap { columns, range, step_ms, unit: look.observed, marks, cursor };
            if let Some(plot) = map.render(area, buffer, cx.theme) {
                hits.add(plot.area, Target::Plot(plot));
            }
            return;
        }
        let entries = if self.series.len() > 1 && area.height > 5 { self.legend(area, look, cx) } else { Vec::new() };
        let legend = entries.last().map_or(0, |entry| entry.line + 1);
        let chart = Chart {
            series: &self.series,
            past: &self.past,
            range: cx.span.range(cx.now_ms),
            step_ms: cx.span.step_ms(),
            unit: look.unit,
            kind,
            log: cx.span.log,
            marks: cx.marks,
            cursor: look.cursor,
        };
        let place = Rect { height: area.height - legend, ..area };
        if let Some(plot) = chart.render(place, buffer, cx.theme) {
            hits.add(plot.area, Target::Plot(plot));
        }
        for Entry { x, line, series, text } in &entries {
            let (x, y) = (area.x + x, area.bottom() - legend + line);
            match series {
                Some(number) => {
                    let style = Style::new().fg(cx.theme.series(*number));
                    buffer[(x, y)].set_char(sign(*number, cx.theme)).set_style(style);
                    put(
                        buffer,
                        (x + 2, y, (area.right() - x).saturating_sub(2)),
                        text,
                        cx.theme.text(),
                        false,
                        cx.theme,
                    );
                }
                None => put(buffer, (x, y, area.right() - x), text, cx.theme.dim(), false, cx.theme),
            }
        }
    }

    /// The legend: its series with their values as far as there is room, and how many it does not name.
    fn legend(&self, area: Rect, look: &Look<'_>, cx: &Cx<'_>) -> Vec<Entry> {
        let lines = look.legend.min(area.height / 3);
        let (mut x, mut line) = (0, 0);
        let mut entries = Vec::new();
        for (number, series) in self.series.iter().enumerate() {
            let value = match look.cursor {
                Some(time) => value_at(series, time, cx.span.step_ms()),
                None => series.last(),
            };
            let value = value.map(|value| figure(value, look.unit)).unwrap_or_default();
            let name = text::fit(&series.name, 40, cx.theme.ellipsis());
            let text = cx.theme.plain(&format!("{name} {value}"));
            let width = text::width(&text) as u16 + 2;
            if x + width > area.width && x > 0 {
                (x, line) = (0, line + 1);
            }
            if line >= lines {
                break;
            }
            entries.push(Entry { x, line, series: Some(number), text });
            x += width + 2;
        }
        let unnamed = self.series.len() - entries.len() + self.hidden;
        if unnamed > 0
            && let Some(last) = entries.last()
        {
            let after = last.x + text::width(&last.text) as u16 + 4;
            let (x, line) = (after, last.line);
            let (x, count) = if x + MORE_WIDTH > area.width { (last.x, unnamed + 1) } else { (x, unnamed) };
            if x == last.x {
                entries.pop();
            }
            entries.push(Entry { x, line, series: None, text: format!("and {count} more") });
        }
        entries
    }
}
