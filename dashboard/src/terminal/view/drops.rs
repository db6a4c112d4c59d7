//! What came in by each door, and what was refused and why.

use kymo_core::ledger::Loss;
use kymo_core::query::QueryError;
use kymo_core::status::DoorStatus;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Cx, Slot, Then, View, failure};
use crate::terminal::ask::{Answer, Ask};
use crate::terminal::keys::Action;
use crate::terminal::screen::{Hits, boxed};
use crate::terminal::table::{Cell, Column, Table, TableState, put};
use crate::terminal::text::{Unit, figure, span};
use crate::terminal::theme::Mood;

const DOORS: [Column; 6] = [
    Column::wide("DOOR"),
    Column::figure("RECEIVED", 10),
    Column::figure("STORED", 10),
    Column::figure("IDENTICAL", 10),
    Column::figure("REPLACED", 10),
    Column::figure("REJECTED", 10),
];
const LOSSES: [Column; 5] = [
    Column::text("DOOR", 14),
    Column::text("REASON", 26),
    Column::figure("COUNT", 8),
    Column::figure("LAST", 8),
    Column::wide("EXAMPLE"),
];

#[derive(Debug)]
pub(super) struct Drops {
    doors: Vec<DoorStatus>,
    losses: Vec<Loss>,
    error: Option<String>,
    is_known: bool,
    state: TableState,
}

impl Default for Drops {
    fn default() -> Drops {
        let state = TableState::sorted_by(2, true);
        Drops { doors: Vec::new(), losses: Vec::new(), error: None, is_known: false, state }
    }
}

impl Drops {
    fn shown(&self, cx: &Cx<'_>) -> Vec<&Loss> {
        let wanted =
            |loss: &&Loss| [&loss.source, &loss.reason, &loss.example].into_iter().any(|text| cx.matches(text));
        let mut shown: Vec<&Loss> = self.losses.iter().filter(wanted).collect();
        let (column, descending) = self.state.sort;
        shown.sort_by(|a, b| {
            let order = match column {
                0 => b.source.cmp(&a.source),
                1 => b.reason.cmp(&a.reason),
                2 => a.count.cmp(&b.count),
                3 => a.last_ms.cmp(&b.last_ms),
                _ => b.example.cmp(&a.example),
            };
            let order = if descending { order.reverse() } else { order };
            order.then_with(|| (&a.source, &a.reason).cmp(&(&b.source, &b.reason)))
        });
        shown
    }
}

fn cell(loss: &Loss, column: usize, cx: &Cx<'_>) -> Cell {
    match column {
        0 => Cell::plain(&*loss.source),
        1 => Cell::new(&*loss.reason, cx.theme.mood(Mood::Warn)),
        2 => Cell::plain(figure(loss.count as f64, Unit::Number)),
        3 => Cell::new(format!("{} ago", span((cx.now_ms - loss.last_ms).max(0))), cx.theme.dim()),
        _ => Cell::new(&*loss.example, cx.theme.dim()),
    }
}

impl View for Drops {
    fn asks(&self, _: &Cx<'_>) -> Vec<(Slot, Ask)> {
        vec![(0, Ask::Drops)]
    }

    fn answer(&mut self, _: Slot, answer: Result<Answer, QueryError>, _: &Cx<'_>) {
        self.is_known = true;
        match answer {
            Ok(Answer::Drops(doors, losses)) => (self.doors, self.losses, self.error) = (doors, losses, None),
            Ok(_) => {}
            Err(error) => self.error = Some(failure(&error)),
        }
    }

    fn act(&mut self, action: Action, cx: &Cx<'_>) -> Then {
        let rows = self.shown(cx).len();
        if self.state.act(action, rows, LOSSES.len(), cx.page() / 2) {
            return Then::Done;
        }
        let shown = self.shown(cx);
        let Some(loss) = shown.get(self.state.chosen.min(rows.saturating_sub(1))) else { return Then::NotMine };
        match action {
            Action::Copy => Then::Copy(cell(loss, self.state.column.max(1), cx).text),
            Action::CopyRow => {
                Then::Copy(format!("{}\t{}\t{}\t{}", loss.source, loss.reason, loss.count, loss.example))
            }
            Action::Open => Then::Done,
            _ => Then::NotMine,
        }
    }

    fn render(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let theme = cx.theme;
        let doors = (self.doors.len() as u16 + 3).max(4).min(area.height / 2);
        let inner = boxed(Rect { height: doors, ..area }, buffer, "What came in", "samples since the start ", theme);
        let empty = match (&self.error, self.is_known) {
            (Some(error), _) => error,
            (None, true) => "nothing is told; of a data directory what its server collected of itself (--collect self)",
            (None, false) => "asking …",
        };
        let table = Table {
            columns: &DOORS,
            rows: self.doors.len(),
            state: None,
            cell: |row, column| {
                let DoorStatus { source, received } = &self.doors[row];
                let count = |count: u64| Cell::plain(figure(count as f64, Unit::Number));
                match column {
                    0 => Cell::plain(&**source),
                    1 => count(received.received),
                    2 => count(received.stored),
                    3 => count(received.identical),
                    4 => count(received.replaced),
                    _ if received.rejected > 0 => {
                        Cell::new(figure(received.rejected as f64, Unit::Number), theme.mood(Mood::Bad))
                    }
                    _ => Cell::new("0", theme.dim()),
                }
            },
            empty,
            number: 1,
        };
        table.render(inner, buffer, theme, hits);
        let shown = self.shown(cx);
        let place = Rect { y: area.y + doors, height: area.height - doors, ..area };
        let inner = boxed(place, buffer, "What was refused", "", theme);
        let list = Rect { height: inner.height.saturating_sub(1), ..inner };
        let table = Table {
            columns: &LOSSES,
            rows: shown.len(),
            state: Some(&self.state),
            cell: |row, column| cell(shown[row], column, cx),
            empty: if self.is_known && !self.doors.is_empty() { "nothing was ever refused" } else { "" },
            number: 0,
        };
        table.render(list, buffer, theme, hits);
        if let Some(loss) = shown.get(self.state.chosen.min(shown.len().saturating_sub(1))) {
            put(buffer, (inner.x, list.bottom(), inner.width), &loss.example, theme.dim(), false, theme);
        }
    }

    fn lists(&self) -> &[TableState] {
        std::slice::from_ref(&self.state)
    }

    fn lists_mut(&mut self) -> &mut [TableState] {
        std::slice::from_mut(&mut self.state)
    }

    fn click(&mut self, list: usize, row: usize, _: &Cx<'_>) -> Then {
        if list == 0 {
            self.state.chosen = row;
        }
        Then::Done
    }

    fn click_heading(&mut self, list: usize, column: usize) {
        if list == 0 {
            self.state.sort_by(column);
        }
    }
}
