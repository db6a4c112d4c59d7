//! Where most series lie.

use kymo_core::query::QueryError;
use kymo_core::status::CardinalityStatus;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Cx, Slot, Then, View, failure};
use crate::terminal::ask::{Answer, Ask};
use crate::terminal::keys::Action;
use crate::terminal::promql::quoted;
use crate::terminal::screen::{Hits, boxed};
use crate::terminal::table::{Cell, Column, Table, TableState};
use crate::terminal::text::{Unit, figure};

const COLUMNS: [Column; 3] = [Column::wide("NAME"), Column::figure("COUNT", 8), Column::text("", 12).from(36)];

#[derive(Debug)]
pub(super) struct Cardinality {
    status: Option<CardinalityStatus>,
    error: Option<String>,
    is_known: bool,
    /// Which of the four lists keys move in.
    list: usize,
    states: [TableState; 4],
}

impl Default for Cardinality {
    fn default() -> Cardinality {
        let states = std::array::from_fn(|_| TableState::sorted_by(1, true));
        Cardinality { status: None, error: None, is_known: false, list: 0, states }
    }
}

const TITLES: [&str; 4] = ["Series by metric", "Values by label", "Series by label and value", "Bytes by label"];

impl Cardinality {
    fn shown(&self, list: usize, cx: &Cx<'_>) -> Vec<(&str, u64)> {
        let Some(status) = &self.status else { return Vec::new() };
        let all = match list {
            0 => &status.series_by_metric,
            1 => &status.values_by_label,
            2 => &status.series_by_pair,
            _ => &status.bytes_by_label,
        };
        let wanted = all.iter().filter(|(name, _)| cx.matches(name));
        let mut shown: Vec<(&str, u64)> = wanted.map(|(name, count)| (name.as_str(), *count)).collect();
        match self.states[list].sort {
            (0, descending) => shown.sort_by(|a, b| if descending { a.0.cmp(b.0) } else { b.0.cmp(a.0) }),
            (_, false) => shown.sort_by(|a, b| a.1.cmp(&b.1).then(a.0.cmp(b.0))),
            _ => {}
        }
        shown
    }
}

impl View for Cardinality {
    fn asks(&self, _: &Cx<'_>) -> Vec<(Slot, Ask)> {
        vec![(0, Ask::Cardinality)]
    }

    fn answer(&mut self, _: Slot, answer: Result<Answer, QueryError>, _: &Cx<'_>) {
        self.is_known = true;
        match answer {
            Ok(Answer::Cardinality(status)) => (self.status, self.error) = (status, None),
            Ok(_) => {}
            Err(error) => self.error = Some(failure(&error)),
        }
    }

    fn act(&mut self, action: Action, cx: &Cx<'_>) -> Then {
        match action {
            Action::Left => self.list = self.list.saturating_sub(1),
            Action::Right => self.list = (self.list + 1).min(3),
            _ => {
                let rows = self.shown(self.list, cx).len();
                if self.states[self.list].act(action, rows, 2, cx.page() / 2) {
                    return Then::Done;
                }
                let shown = self.shown(self.list, cx);
                let at = self.states[self.list].chosen.min(rows.saturating_sub(1));
                let Some((name, count)) = shown.get(at) else { return Then::NotMine };
                return match action {
                    Action::Open => Then::Explore(expression(self.list, name)),
                    Action::Copy => Then::Copy((*name).to_owned()),
                    Action::CopyRow => Then::Copy(format!("{name}\t{count}")),
                    _ => Then::NotMine,
                };
            }
        }
        Then::Done
    }

    fn render(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let (width, height) = (area.width / 2, area.height / 2);
        for (number, title) in TITLES.iter().enumerate() {
            let (column, row) = (number as u16 % 2, number as u16 / 2);
            let place = Rect {
                x: area.x + column * width,
                y: area.y + row * height,
                width: if column == 1 { area.width - width } else { width },
                height: if row == 1 { area.height - height } else { height },
            };
            let note = match (&self.status, number) {
                (Some(status), 0) => format!("{} in all ", figure(status.series as f64, Unit::Number)),
                (Some(status), 1) => format!("{} pairs ", figure(status.label_pairs as f64, Unit::Number)),
                _ => String::new(),
            };
            let inner = boxed(place, buffer, title, &note, cx.theme);
            let shown = self.shown(number, cx);
            let most = shown.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
            let empty = match (&self.error, self.is_known, self.status.is_some()) {
                (Some(error), _, _) => error,
                (None, false, _) => "asking …",
                (None, true, false) => "not told here",
                (None, true, true) => "none",
            };
            let unit = if number == 3 { Unit::Bytes } else { Unit::Number };
            let table = Table {
                columns: &COLUMNS,
                rows: shown.len(),
                state: (self.list == number).then_some(&self.states[number]),
                cell: |row, column| {
                    let (name, count) = shown[row];
                    match column {
                        0 => Cell::plain(name),
                        1 => Cell::plain(figure(count as f64, unit)),
                        _ => {
                            let filled = (count * 10).div_ceil(most) as usize;
                            Cell::new(cx.theme.glyph("▇", "=").repeat(filled.min(10)), cx.theme.accent())
                        }
                    }
                },
                empty,
                number,
            };
            table.render(inner, buffer, cx.theme, hits);
        }
    }

    fn lists(&self) -> &[TableState] {
        &self.states
    }

    fn lists_mut(&mut self) -> &mut [TableState] {
        &mut self.states
    }

    fn click(&mut self, list: usize, row: usize, cx: &Cx<'_>) -> Then {
        let was = (self.list, self.states[list.min(3)].chosen);
        self.list = list.min(3);
        self.states[self.list].chosen = row;
        if was == (self.list, row) { self.act(Action::Open, cx) } else { Then::Done }
    }

    fn click_heading(&mut self, list: usize, column: usize) {
        self.states[list.min(3)].sort_by(column.min(1));
    }
}

/// A look at what an entry counts.
fn expression(list: usize, name: &str) -> String {
    match (list, name.split_once('=')) {
        (0, _) => name.to_owned(),
        (2, Some((label, value))) => format!("count by (__name__) ({{{label}={}}})", quoted(value)),
        _ => format!("count by ({name}) ({{{name}!=\"\"}})"),
    }
}
