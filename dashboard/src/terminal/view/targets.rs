//! Scrape targets.

use kymo_core::query::QueryError;
use kymo_core::status::{TargetHealth, TargetStatus};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Cx, Slot, Then, View, failure};
use crate::terminal::ask::{Answer, Ask};
use crate::terminal::keys::Action;
use crate::terminal::promql::quoted;
use crate::terminal::screen::{Hits, boxed};
use crate::terminal::table::{Cell, Column, Table, TableState, put};
use crate::terminal::text::{Unit, figure, span};
use crate::terminal::theme::Mood;

const COLUMNS: [Column; 6] = [
    Column::text("", 1),
    Column::text("JOB", 16),
    Column::wide("TARGET"),
    Column::figure("LAST", 8),
    Column::figure("TOOK", 8),
    Column { title: "ERROR", width: 50, right: false, from_width: 110 },
];

#[derive(Debug)]
pub(super) struct Targets {
    targets: Vec<TargetStatus>,
    error: Option<String>,
    is_known: bool,
    state: TableState,
}

impl Default for Targets {
    fn default() -> Targets {
        Targets { targets: Vec::new(), error: None, is_known: false, state: TableState::sorted_by(0, true) }
    }
}

fn mood(target: &TargetStatus) -> Mood {
    match target.health {
        TargetHealth::Up => Mood::Good,
        TargetHealth::Down => Mood::Bad,
        TargetHealth::Unknown | TargetHealth::Dropped => Mood::Unknown,
    }
}

fn address(target: &TargetStatus) -> &str {
    match target.url.is_empty() {
        true => target.discovered_labels.get("__address__").map_or("", String::as_str),
        false => &target.url,
    }
}

impl Targets {
    fn shown(&self, cx: &Cx<'_>) -> Vec<&TargetStatus> {
        let wanted = |target: &&TargetStatus| {
            [&target.pool, address(target), &target.last_error].into_iter().any(|text| cx.matches(text))
                || target.labels.iter().any(|(name, value)| cx.matches(&format!("{name}={value}")))
        };
        let mut shown: Vec<&TargetStatus> = self.targets.iter().filter(wanted).collect();
        let (column, descending) = self.state.sort;
        shown.sort_by(|a, b| {
            let order = match column {
                0 | 5 => mood(a).cmp(&mood(b)),
                1 => b.pool.cmp(&a.pool),
                2 => address(b).cmp(address(a)),
                3 => a.last_scrape_ms.cmp(&b.last_scrape_ms),
                _ => a.last_scrape_seconds.total_cmp(&b.last_scrape_seconds),
            };
            let order = if descending { order.reverse() } else { order };
            order.then_with(|| a.pool.cmp(&b.pool)).then_with(|| address(a).cmp(address(b)))
        });
        shown
    }
}

fn cell(target: &TargetStatus, column: usize, cx: &Cx<'_>) -> Cell {
    match column {
        0 => Cell::new(cx.theme.sign(mood(target)), cx.theme.mood(mood(target))),
        1 => Cell::plain(&*target.pool),
        2 => Cell::plain(address(target)),
        3 => {
            let ago = target.last_scrape_ms.map(|last| format!("{} ago", span((cx.now_ms - last).max(0))));
            Cell::new(ago.unwrap_or_default(), cx.theme.dim())
        }
        4 if target.last_scrape_ms.is_some() => Cell::plain(figure(target.last_scrape_seconds, Unit::Seconds)),
        4 => Cell::plain(""),
        _ => Cell::new(&*target.last_error, cx.theme.mood(Mood::Bad)),
    }
}

impl View for Targets {
    fn asks(&self, _: &Cx<'_>) -> Vec<(Slot, Ask)> {
        vec![(0, Ask::Targets)]
    }

    fn answer(&mut self, _: Slot, answer: Result<Answer, QueryError>, _: &Cx<'_>) {
        self.is_known = true;
        match answer {
            Ok(Answer::Targets(targets)) => (self.targets, self.error) = (targets, None),
            Ok(_) => {}
            Err(error) => self.error = Some(failure(&error)),
        }
    }

    fn act(&mut self, action: Action, cx: &Cx<'_>) -> Then {
        let rows = self.shown(cx).len();
        if self.state.act(action, rows, COLUMNS.len(), cx.page()) {
            return Then::Done;
        }
        let shown = self.shown(cx);
        let Some(target) = shown.get(self.state.chosen.min(rows.saturating_sub(1))) else { return Then::NotMine };
        match action {
            Action::Open => {
                let instance = target.labels.get("instance").map_or("", String::as_str);
                Then::Explore(format!("up{{job={}, instance={}}}", quoted(&target.pool), quoted(instance)))
            }
            Action::Copy => Then::Copy(cell(target, self.state.column.max(2), cx).text),
            Action::CopyRow => {
                let cells: Vec<String> = (1..COLUMNS.len()).map(|column| cell(target, column, cx).text).collect();
                Then::Copy(cells.join("\t"))
            }
            _ => Then::NotMine,
        }
    }

    fn render(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let shown = self.shown(cx);
        let count = |health: TargetHealth| shown.iter().filter(|target| target.health == health).count();
        let note = format!("{} up, {} down ", count(TargetHealth::Up), count(TargetHealth::Down));
        let inner = boxed(area, buffer, "Targets", &note, cx.theme);
        // Below the list, everything about the chosen one.
        let below = if inner.height >= 14 { 4 } else { 1 };
        let list = Rect { height: inner.height.saturating_sub(below), ..inner };
        let empty = match (&self.error, self.is_known) {
            (Some(error), _) => error,
            (None, true) => "no target is scraped: scrape_configs in the configuration file name them",
            (None, false) => "asking …",
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
        let Some(target) = shown.get(self.state.chosen.min(shown.len().saturating_sub(1))) else { return };
        let labels: Vec<String> = target.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let every = format!("every {}, at most {}", span(target.interval_ms), span(target.timeout_ms));
        let lines =
            [(target.last_error.clone(), Mood::Bad), (labels.join("  "), Mood::Unknown), (every, Mood::Unknown)];
        let said = lines.into_iter().filter(|(text, _)| !text.is_empty());
        for (y, (text, mood)) in (list.bottom()..inner.bottom()).zip(said) {
            put(buffer, (inner.x, y, inner.width), &text, cx.theme.mood(mood), false, cx.theme);
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
