//! Queries that run, and those that were slow.

use kymo_core::query::QueryError;
use kymo_core::status::{QueriesStatus, QueryStatus};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Cx, Slot, Then, View, failure};
use crate::terminal::ask::{Answer, Ask};
use crate::terminal::keys::Action;
use crate::terminal::screen::{Hits, boxed};
use crate::terminal::table::{Cell, Column, Table, TableState, put};
use crate::terminal::text::{Unit, figure};
use crate::terminal::theme::Mood;

const COLUMNS: [Column; 7] = [
    Column::text("", 1),
    Column::figure("ID", 6),
    Column::figure("TIME", 8),
    Column::figure("SAMPLES", 8).from(70),
    Column::figure("MEMORY", 8).from(90),
    Column::text("CLIENT", 15).from(110),
    Column::wide("QUERY"),
];

#[derive(Debug)]
pub(super) struct Queries {
    status: QueriesStatus,
    error: Option<String>,
    is_known: bool,
    is_told: bool,
    state: TableState,
}

impl Default for Queries {
    fn default() -> Queries {
        let state = TableState::sorted_by(2, true);
        Queries { status: QueriesStatus::default(), error: None, is_known: false, is_told: true, state }
    }
}

impl Queries {
    /// Those that run first, then the slowest, each by the chosen column.
    fn shown(&self, cx: &Cx<'_>) -> Vec<(bool, &QueryStatus)> {
        let sorted = |list: &'_ [QueryStatus]| {
            let mut at: Vec<usize> = (0..list.len()).filter(|at| cx.matches(&list[*at].text)).collect();
            let (column, descending) = self.state.sort;
            at.sort_by(|a, b| {
                let (a, b) = (&list[*a], &list[*b]);
                let order = match column {
                    1 => a.id.cmp(&b.id),
                    3 => a.samples.cmp(&b.samples),
                    4 => a.memory_bytes.cmp(&b.memory_bytes),
                    5 => a.client.cmp(&b.client),
                    6 => b.text.cmp(&a.text),
                    _ => a.seconds.total_cmp(&b.seconds),
                };
                let order = if descending { order.reverse() } else { order };
                order.then(a.id.cmp(&b.id))
            });
            at
        };
        let running = sorted(&self.status.running).into_iter().map(|at| (true, &self.status.running[at]));
        let slowest = sorted(&self.status.slowest).into_iter().map(|at| (false, &self.status.slowest[at]));
        running.chain(slowest).collect()
    }
}

fn cell((runs, query): (bool, &QueryStatus), column: usize, cx: &Cx<'_>) -> Cell {
    let theme = cx.theme;
    match column {
        0 if runs && query.is_running => Cell::new(theme.glyph("▶", ">"), theme.mood(Mood::Good)),
        0 if runs => Cell::new(theme.glyph("⏸", "="), theme.mood(Mood::Warn)),
        0 if !query.error.is_empty() => Cell::new(theme.sign(Mood::Bad), theme.mood(Mood::Bad)),
        0 => Cell::plain(""),
        1 => Cell::new(query.id.to_string(), theme.dim()),
        2 => {
            let mood = if query.seconds >= 1.0 { Mood::Warn } else { Mood::Good };
            Cell::new(figure(query.seconds, Unit::Seconds), theme.mood(mood))
        }
        3 if query.samples > 0 => Cell::plain(figure(query.samples as f64, Unit::Number)),
        4 if query.memory_bytes > 0 => Cell::plain(figure(query.memory_bytes as f64, Unit::Bytes)),
        3 | 4 => Cell::plain(""),
        5 => Cell::new(&*query.client, theme.dim()),
        _ => Cell::plain(query.text.replace('\n', " ")),
    }
}

impl View for Queries {
    fn asks(&self, _: &Cx<'_>) -> Vec<(Slot, Ask)> {
        vec![(0, Ask::Queries)]
    }

    fn answer(&mut self, _: Slot, answer: Result<Answer, QueryError>, _: &Cx<'_>) {
        self.is_known = true;
        match answer {
            Ok(Answer::Queries(Some(status))) => (self.status, self.error, self.is_told) = (status, None, true),
            Ok(_) => self.is_told = false,
            Err(error) => self.error = Some(failure(&error)),
        }
    }

    fn act(&mut self, action: Action, cx: &Cx<'_>) -> Then {
        let rows = self.shown(cx).len();
        if self.state.act(action, rows, COLUMNS.len(), cx.page()) {
            return Then::Done;
        }
        let shown = self.shown(cx);
        let Some((_, query)) = shown.get(self.state.chosen.min(rows.saturating_sub(1))) else { return Then::NotMine };
        match action {
            Action::Open => Then::Explore(query.text.clone()),
            Action::Copy | Action::CopyRow => Then::Copy(query.text.clone()),
            _ => Then::NotMine,
        }
    }

    fn render(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let status = &self.status;
        let note = format!(
            "{} of {} run, {} wait, {} of {} memory ",
            status.running.iter().filter(|query| query.is_running).count(),
            status.running_max,
            status.waiting,
            figure(status.memory_bytes as f64, Unit::Bytes),
            figure(status.memory_limit_bytes as f64, Unit::Bytes)
        );
        let note = if self.is_told { note } else { String::new() };
        let inner = boxed(area, buffer, "Queries: running, then the slowest", &note, cx.theme);
        let below = if inner.height >= 12 { 3 } else { 1 };
        let list = Rect { height: inner.height.saturating_sub(below), ..inner };
        let shown = self.shown(cx);
        let empty = match (&self.error, self.is_known, self.is_told) {
            (Some(error), _, _) => error,
            (None, false, _) => "asking …",
            (None, true, false) => {
                "none are told: a data directory runs no queries, and of servers only Kymo tells its own"
            }
            (None, true, true) => "none runs, none was slow",
        };
        let table = Table {
            columns: &COLUMNS,
            rows: shown.len(),
            state: Some(&self.state),
            cell: |row, column| cell(shown[row], column, cx),
            empty,
            number: 0,
        };
        table.render(list, buffer, cx.theme, hits);
        if let Some((_, query)) = shown.get(self.state.chosen.min(shown.len().saturating_sub(1))) {
            let width = usize::from(inner.width).max(1);
            let text: Vec<char> = query.text.chars().collect();
            for (line, piece) in text.chunks(width).take(usize::from(below)).enumerate() {
                let piece: String = piece.iter().collect();
                let place = (inner.x, list.bottom() + line as u16, inner.width);
                put(buffer, place, &piece, cx.theme.accent(), false, cx.theme);
            }
        }
    }

    fn lists(&self) -> &[TableState] {
        std::slice::from_ref(&self.state)
    }

    fn lists_mut(&mut self) -> &mut [TableState] {
        std::slice::from_mut(&mut self.state)
    }

    fn click(&mut self, _: usize, row: usize, cx: &Cx<'_>) -> Then {
        if self.state.chosen == row {
            return self.act(Action::Open, cx);
        }
        self.state.chosen = row;
        Then::Done
    }

    fn click_heading(&mut self, _: usize, column: usize) {
        self.state.sort_by(column);
    }
}
