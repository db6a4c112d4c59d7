//! All services: health, rate, errors, latency, how it went lately.

use kymo_core::health::HealthStatus;
use kymo_core::query::QueryError;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Cx, Slot, Then, View};
use crate::terminal::ask::{Answer, Ask};
use crate::terminal::chart::spark;
use crate::terminal::keys::Action;
use crate::terminal::screen::{Hits, boxed};
use crate::terminal::services::{SPARK_POINTS, Service, ServiceTable};
use crate::terminal::table::{Cell, Column, Table, TableState, put, window};
use crate::terminal::text::{self, Unit, figure};
use crate::terminal::theme::Mood;

pub(super) const COLUMNS: [Column; 9] = [
    Column::text("", 1),
    Column::wide("SERVICE"),
    Column::figure("RATE", 8),
    Column::figure("ERRORS", 7),
    Column::figure("P50", 7).from(70),
    Column::figure("P95", 7),
    Column::figure("P99", 7).from(70),
    Column::text("LAST 10 MIN", SPARK_POINTS as u16).from(90),
    Column::wide("WHY").from(110),
];

#[derive(Debug)]
pub(super) struct Services {
    table: ServiceTable,
    state: TableState,
}

impl Default for Services {
    fn default() -> Services {
        Services { table: ServiceTable::default(), state: TableState::sorted_by(0, true) }
    }
}

pub(super) fn mood(status: HealthStatus) -> Mood {
    match status {
        HealthStatus::Unknown => Mood::Unknown,
        HealthStatus::Healthy => Mood::Good,
        HealthStatus::Degraded => Mood::Warn,
        HealthStatus::Unhealthy => Mood::Bad,
    }
}

impl Services {
    /// Services that are searched for, in order.
    fn shown(&self, cx: &Cx<'_>) -> Vec<&Service> {
        let list = self.table.list().iter();
        let mut shown: Vec<&Service> =
            list.filter(|service| cx.matches(&service.name) || cx.matches(&service.health.reason)).collect();
        let (column, descending) = self.state.sort;
        let key = |service: &Service| {
            let health = &service.health;
            match column {
                2 | 7 => health.rate,
                3 => health.error_ratio,
                4 => health.p50.unwrap_or(-1.0),
                5 => health.p95.unwrap_or(-1.0),
                6 => health.p99.unwrap_or(-1.0),
                _ => 0.0,
            }
        };
        shown.sort_by(|a, b| {
            let by_column = match column {
                // The sickest first, of equals the busiest.
                0 | 8 => a.health.status.cmp(&b.health.status).then(a.health.rate.total_cmp(&b.health.rate)),
                // Names read downwards first.
                1 => b.name.cmp(&a.name),
                _ => key(a).total_cmp(&key(b)),
            };
            let by_column = if descending { by_column.reverse() } else { by_column };
            by_column.then_with(|| a.name.cmp(&b.name))
        });
        shown
    }

    fn chosen(&self, cx: &Cx<'_>) -> Option<String> {
        let shown = self.shown(cx);
        let at = self.state.chosen.min(shown.len().saturating_sub(1));
        shown.get(at).map(|service| service.name.clone())
    }
}

pub(super) fn cell(service: &Service, column: usize, cx: &Cx<'_>) -> Cell {
    let (health, theme) = (&service.health, cx.theme);
    let mood = mood(health.status);
    let latency =
        |seconds: Option<f64>| Cell::plain(seconds.map(|seconds| figure(seconds, Unit::Seconds)).unwrap_or_default());
    match column {
        0 => Cell::new(theme.sign(mood), theme.mood(mood)),
        1 => Cell::plain(&*service.name),
        2 => Cell::plain(figure(health.rate, Unit::PerSecond)),
        3 if health.error_ratio > 0.0 => {
            let style = if health.error_ratio >= 0.01 { theme.mood(mood) } else { theme.text() };
            Cell::new(figure(health.error_ratio, Unit::Ratio), style)
        }
        3 => Cell::new("0%", theme.dim()),
        4 => latency(health.p50),
        5 => latency(health.p95),
        6 => latency(health.p99),
        7 => Cell::new(spark(&service.spark, SPARK_POINTS as usize, theme), theme.accent()),
        _ => Cell::new(&*health.reason, theme.mood(mood)),
    }
}

impl View for Services {
    fn asks(&self, cx: &Cx<'_>) -> Vec<(Slot, Ask)> {
        let mut asks = self.table.asks(cx);
        let shown = self.shown(cx);
        let visible = window(self.state.chosen, shown.len(), cx.page());
        let names: Vec<&str> = shown[visible].iter().map(|service| service.name.as_str()).collect();
        // Lines of the last ten minutes only where they are drawn.
        if cx.width >= COLUMNS[7].from_width {
            asks.extend(self.table.ask_sparks(&names, cx));
        }
        asks
    }

    fn answer(&mut self, slot: Slot, answer: Result<Answer, QueryError>, _: &Cx<'_>) {
        self.table.answer(slot, answer);
    }

    fn age_ms(&self, slot: Slot) -> i64 {
        self.table.age_ms(slot)
    }

    fn act(&mut self, action: Action, cx: &Cx<'_>) -> Then {
        let rows = self.shown(cx).len();
        if self.state.act(action, rows, COLUMNS.len(), cx.page()) {
            return Then::Done;
        }
        let Some(name) = self.chosen(cx) else { return Then::NotMine };
        match action {
            Action::Open => Then::Service(name),
            Action::Copy | Action::CopyRow => {
                let shown = self.shown(cx);
                let Some(service) = shown.iter().find(|service| service.name == name) else { return Then::Done };
                let cells: Vec<String> = match action {
                    Action::Copy => vec![cell(service, self.state.column.max(1), cx).text],
                    _ => (1..COLUMNS.len()).filter(|at| *at != 7).map(|at| cell(service, at, cx).text).collect(),
                };
                Then::Copy(cells.join("\t"))
            }
            _ => Then::NotMine,
        }
    }

    fn render(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let shown = self.shown(cx);
        let count = |status: HealthStatus| shown.iter().filter(|service| service.health.status == status).count();
        let (sick, weak) = (count(HealthStatus::Unhealthy), count(HealthStatus::Degraded));
        let services = text::counted(shown.len(), "service");
        let note = format!("{services}, {sick} unhealthy, {weak} degraded ");
        let inner = boxed(area, buffer, "Services", &note, cx.theme);
        let empty = match (&self.table.error, cx.catalog.is_known) {
            (Some(error), _) => error.clone(),
            (None, false) => "asking …".to_owned(),
            (None, true) if !self.table.is_known && !cx.catalog.families.is_empty() => "asking …".to_owned(),
            (None, true) if cx.catalog.families.is_empty() => {
                "no requests: spans, *_request_duration_seconds histograms or *_requests_total counters make services"
                    .to_owned()
            }
            (None, true) => "no service".to_owned(),
        };
        let table = Table {
            columns: &COLUMNS,
            rows: shown.len(),
            state: Some(&self.state),
            cell: |row, column| cell(shown[row], column, cx),
            empty: &empty,
            number: 0,
        };
        // Below the list, the whole reason of the chosen one, where it has one.
        let list = Rect { height: inner.height.saturating_sub(1), ..inner };
        table.render(list, buffer, cx.theme, hits);
        if let Some(service) = shown.get(self.state.chosen.min(shown.len().saturating_sub(1)))
            && !service.health.reason.is_empty()
        {
            let text = format!("{}: {}", service.name, service.health.reason);
            let style = cx.theme.mood(mood(service.health.status));
            put(buffer, (inner.x, list.bottom(), inner.width), &text, style, false, cx.theme);
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

    fn needs_catalog(&self) -> bool {
        true
    }
}
