//! A chart of one query that follows the span, with a title and a legend; the part of which views are made.

use kymo_core::query::{QueryError, QueryRequest};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{Cx, failure};
use crate::terminal::ask::{Answer, Ask};
use crate::terminal::chart::{Chart, Kind, Series, ascii_sign, value_at};
use crate::terminal::result;
use crate::terminal::screen::{Hits, Target, boxed};
use crate::terminal::table::put;
use crate::terminal::text::{self, Unit, figure};
use crate::terminal::theme::Mood;

/// Series drawn at most; more tell nothing apart.
pub(super) const SERIES_MAX: usize = 24;

/// A query's lines.
#[derive(Debug, Default)]
pub(super) struct Panel {
    pub(super) series: Vec<Series>,
    /// Those that found no room.
    pub(super) hidden: usize,
    pub(super) past: Vec<Series>,
    pub(super) error: Option<String>,
    /// Whether there was an answer.
    pub(super) is_known: bool,
}

impl Panel {
    pub(super) fn ask(text: &str, cx: &Cx<'_>) -> Ask {
        Ask::Query(QueryRequest::new(text, cx.span.grid(cx.now_ms, 0)))
    }

    pub(super) fn answer(&mut self, answer: &Result<Answer, QueryError>) {
        self.is_known = true;
        match answer {
            Ok(Answer::Query(answered)) => {
                let all = result::series_of(answered);
                self.hidden = all.len().saturating_sub(SERIES_MAX);
                self.series = result::lines(&all[..all.len().min(SERIES_MAX)], 0);
                self.error = None;
            }
            Ok(_) => {}
            Err(error) => self.error = Some(failure(error)),
        }
    }

    /// The newest value of its first series.
    pub(super) fn last(&self) -> Option<f64> {
        self.series.first().and_then(Series::last)
    }
}

/// How a panel is drawn.
pub(super) struct Look<'a> {
    pub(super) title: &'a str,
    pub(super) unit: Unit,
    pub(super) kind: Kind,
    /// Lines for the legend at most.
    pub(super) legend: u16,
    pub(super) cursor: Option<i64>,
}

impl<'a> Look<'a> {
    pub(super) fn new(title: &'a str, unit: Unit, kind: Kind) -> Look<'a> {
        Look { title, unit, kind, legend: 1, cursor: None }
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
        let legend = if self.series.len() > 1 && area.height > 5 { look.legend.min(area.height / 3) } else { 0 };
        let chart = Chart {
            series: &self.series,
            past: &self.past,
            range: cx.span.range(cx.now_ms),
            step_ms: cx.span.step_ms(),
            unit: look.unit,
            kind: cx.span.kind.unwrap_or(look.kind),
            log: cx.span.log,
            marks: cx.marks,
            cursor: look.cursor,
        };
        let place = Rect { height: area.height - legend, ..area };
        if let Some(plot) = chart.render(place, buffer, cx.theme) {
            hits.add(plot.area, Target::Plot(plot));
        }
        if legend > 0 {
            let place = Rect { y: area.bottom() - legend, height: legend, ..area };
            self.render_legend(place, buffer, look, cx);
        }
    }

    fn render_legend(&self, area: Rect, buffer: &mut Buffer, look: &Look<'_>, cx: &Cx<'_>) {
        let (mut x, mut y) = (area.x, area.y);
        for (number, series) in self.series.iter().enumerate() {
            let value = match look.cursor {
                Some(time) => value_at(series, time, cx.span.step_ms()),
                None => series.last(),
            };
            let value = value.map(|value| figure(value, look.unit)).unwrap_or_default();
            let name = text::fit(&series.name, 40, cx.theme.ellipsis());
            let entry = cx.theme.plain(&format!("{name} {value}"));
            let width = text::width(&entry) as u16 + 2;
            if x + width > area.right() && x > area.x {
                (x, y) = (area.x, y + 1);
            }
            if y >= area.bottom() {
                break;
            }
            let sign = if cx.theme.unicode { '━' } else { ascii_sign(number) };
            buffer[(x, y)].set_char(sign).set_style(Style::new().fg(cx.theme.series(number)));
            put(buffer, (x + 1, y, area.right() - x - 1), &entry, cx.theme.text(), false, cx.theme);
            x += width + 1;
        }
        if self.hidden > 0 && x + 12 < area.right() && y < area.bottom() {
            let text = format!("and {} more", self.hidden);
            put(buffer, (x, y, area.right() - x), &text, cx.theme.dim(), false, cx.theme);
        }
    }
}
