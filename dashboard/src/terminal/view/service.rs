//! One service: why it is judged as it is, its operations, who calls it and whom it calls, how long that takes.

use std::collections::BTreeMap;

use kymo_core::Labels;
use kymo_core::batch::Exemplar;
use kymo_core::health::{HealthStatus, OperationHealth, OperationKind};
use kymo_core::query::{Grid, QueryError, QueryRequest};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::panel::{Look, Panel};
use super::services::mood;
use super::{Cx, Slot, Then, View};
use crate::terminal::ask::{Answer, Ask};
use crate::terminal::chart::{HeatColumn, Heatmap, Kind};
use crate::terminal::keys::Action;
use crate::terminal::promql::quoted;
use crate::terminal::result;
use crate::terminal::screen::{Hits, Target, boxed};
use crate::terminal::services::{Figure, SLOTS, Service, ServiceTable, matcher, of_all};
use crate::terminal::table::{Cell, Column, Table, TableState, put, window};
use crate::terminal::text::{Unit, figure, time_of_day};
use crate::terminal::theme::Mood;

const OPERATIONS: Slot = SLOTS;
const OPERATION_ERRORS: Slot = SLOTS + 1;
const OPERATION_P95: Slot = SLOTS + 2;
const CALLERS: Slot = SLOTS + 3;
const CALLEES: Slot = SLOTS + 4;
const HEAT: Slot = SLOTS + 5;
const EXEMPLARS: Slot = SLOTS + 6;
const RATE: Slot = SLOTS + 7;

/// Labels that tell operations of a service apart; those that a metric lacks are empty.
const OPERATION_LABELS: &str = "http_request_method, method, http_route, route, handler, operation, rpc_method";
/// Said where nobody calls.
const NO_CALLS: &str = "no calls known: spans tell, or traces_service_graph_request_total";
/// Exemplars shown, the slowest.
const EXEMPLARS_MAX: usize = 8;

/// Its lists, from the left and down.
const OPERATION_LIST: usize = 0;
const CALLER_LIST: usize = 1;
const CALLEE_LIST: usize = 2;
const TRACE_LIST: usize = 3;

const COLUMNS: [Column; 4] =
    [Column::wide("OPERATION"), Column::figure("RATE", 8), Column::figure("ERRORS", 7), Column::figure("P95", 7)];

#[derive(Debug, Clone, Default)]
struct Operation {
    name: String,
    labels: Option<Labels>,
    rate: f64,
    errors: f64,
    p95: Option<f64>,
}

impl From<&OperationHealth> for Operation {
    fn from(told: &OperationHealth) -> Operation {
        let minute = told.windows.first().copied().unwrap_or_default();
        let name = match (told.operation.as_str(), told.kind) {
            ("", OperationKind::Server) => "all requests".to_owned(),
            (name, OperationKind::Server) => name.to_owned(),
            (name, kind) => format!("{name} ({})", kind.as_str()),
        };
        Operation { name, labels: None, rate: minute.rate, errors: minute.rate * minute.error_ratio, p95: minute.p95 }
    }
}

#[derive(Debug)]
pub(super) struct ServiceView {
    name: String,
    table: ServiceTable,
    operations: BTreeMap<String, Operation>,
    /// As the server counts them, which knows also those that only spans tell of.
    judged: Vec<Operation>,
    callers: BTreeMap<String, f64>,
    callees: BTreeMap<String, f64>,
    heat: Vec<HeatColumn>,
    exemplars: Vec<Exemplar>,
    rate: Panel,
    state: TableState,
    /// Which of its lists keys move in, and the line chosen in each that is no table.
    list: usize,
    lines: [usize; 4],
    cursor: Option<i64>,
}

impl Default for ServiceView {
    fn default() -> ServiceView {
        ServiceView {
            name: String::new(),
            table: ServiceTable::default(),
            operations: BTreeMap::new(),
            judged: Vec::new(),
            callers: BTreeMap::new(),
            callees: BTreeMap::new(),
            heat: Vec::new(),
            exemplars: Vec::new(),
            rate: Panel::default(),
            state: TableState::sorted_by(1, true),
            list: OPERATION_LIST,
            lines: [0; 4],
            cursor: None,
        }
    }
}

impl ServiceView {
    fn service(&self) -> Option<&Service> {
        self.table.list().iter().find(|service| service.name == self.name)
    }

    fn shown(&self, cx: &Cx<'_>) -> Vec<&Operation> {
        let all: Vec<&Operation> = match self.judged.is_empty() {
            true => self.operations.values().collect(),
            false => self.judged.iter().collect(),
        };
        let mut shown: Vec<&Operation> = all.into_iter().filter(|operation| cx.matches(&operation.name)).collect();
        let (column, descending) = self.state.sort;
        shown.sort_by(|a, b| {
            let order = match column {
                0 => b.name.cmp(&a.name),
                1 => a.rate.total_cmp(&b.rate),
                2 => a.errors.total_cmp(&b.errors),
                _ => a.p95.unwrap_or(-1.0).total_cmp(&b.p95.unwrap_or(-1.0)),
            };
            let order = if descending { order.reverse() } else { order };
            order.then_with(|| a.name.cmp(&b.name))
        });
        shown
    }

    fn take(&mut self, answered: &kymo_core::query::QueryResult, slot: Slot) {
        for one in result::series_of(answered) {
            let values: Vec<&str> =
                one.labels.iter().filter(|(name, _)| *name != "job").map(|(_, value)| value).collect();
            let name = if values.is_empty() { "all requests".to_owned() } else { values.join(" ") };
            let value = match one.points().last() {
                Some((_, kymo_core::query::PointValue::Float(value))) if value.is_finite() => value,
                _ => continue,
            };
            let operation = self.operations.entry(name.clone()).or_default();
            (operation.name, operation.labels) = (name, Some(one.labels.clone()));
            match slot {
                OPERATIONS => operation.rate = value,
                OPERATION_ERRORS => operation.errors = value,
                _ => operation.p95 = Some(value),
            }
        }
    }

    fn header(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>) {
        let theme = cx.theme;
        let Some(service) = self.service() else {
            let text = if self.table.is_known { "no requests of it now or an hour ago" } else { "asking …" };
            put(buffer, (area.x, area.y, area.width), text, theme.dim(), false, theme);
            return;
        };
        let health = &service.health;
        let mood = mood(health.status);
        let status = match health.status {
            HealthStatus::Healthy => "healthy".to_owned(),
            HealthStatus::Unknown => format!("unknown: {}", health.reason),
            HealthStatus::Degraded => format!("degraded: {}", health.reason),
            HealthStatus::Unhealthy => format!("UNHEALTHY: {}", health.reason),
        };
        let line = format!("{} {status}", theme.sign(mood));
        put(buffer, (area.x, area.y, area.width), &line, theme.mood(mood), false, theme);
        let latency = |seconds: Option<f64>| seconds.map_or("–".to_owned(), |value| figure(value, Unit::Seconds));
        let mut line = format!(
            "{}  errors {}  p50 {}  p95 {}  p99 {}",
            figure(health.rate, Unit::PerSecond),
            figure(health.error_ratio, Unit::Ratio),
            latency(health.p50),
            latency(health.p95),
            latency(health.p99),
        );
        if let Some(change) = service.change() {
            line += &format!("   since an hour ago: {change}");
        }
        put(buffer, (area.x, area.y + 1, area.width), &line, theme.text(), false, theme);
    }

    /// Who calls it, or whom it calls, the busiest first: as the server knows, or else as a service graph tells.
    fn neighbours(&self, list: usize) -> Vec<(String, f64)> {
        let (callers, callees) = self.table.neighbours(&self.name);
        let (told, asked) = match list {
            CALLER_LIST => (callers, &self.callers),
            _ => (callees, &self.callees),
        };
        let known = if told.is_empty() { asked } else { &told };
        let mut sorted: Vec<(String, f64)> = known.iter().map(|(name, rate)| (name.clone(), *rate)).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
        sorted
    }

    /// The lines of a list that is no table: a text, and a figure at the right.
    fn lines(&self, list: usize) -> Vec<(String, String)> {
        match list {
            TRACE_LIST => {
                let line = |exemplar: &Exemplar| {
                    let took = figure(exemplar.value, Unit::Seconds);
                    (format!("{took:>7} {} {}", time_of_day(exemplar.time_ms), trace_id(exemplar)), String::new())
                };
                self.exemplars.iter().map(line).collect()
            }
            _ => {
                let line = |(name, rate)| (name, figure(rate, Unit::PerSecond));
                self.neighbours(list).into_iter().map(line).collect()
            }
        }
    }

    /// Draws such a list.
    fn draw_lines(&self, list: usize, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let (title, empty) = match list {
            CALLER_LIST => ("Called by", NO_CALLS),
            CALLEE_LIST => ("Calls", NO_CALLS),
            _ => ("Slowest traces", "no exemplars"),
        };
        let inner = boxed(area, buffer, title, "", cx.theme);
        let lines = self.lines(list);
        if lines.is_empty() && inner.height > 0 {
            put(buffer, (inner.x, inner.y, inner.width), empty, cx.theme.dim(), false, cx.theme);
        }
        let chosen = self.lines[list].min(lines.len().saturating_sub(1));
        let shown = window(chosen, lines.len(), usize::from(inner.height));
        for (y, row) in (inner.top()..inner.bottom()).zip(shown) {
            let (text, note) = &lines[row];
            let room = inner.width.saturating_sub(if note.is_empty() { 0 } else { 9 });
            put(buffer, (inner.x, y, room), text, cx.theme.text(), false, cx.theme);
            put(buffer, (inner.x, y, inner.width), note, cx.theme.dim(), true, cx.theme);
            let place = Rect { y, height: 1, ..inner };
            if self.list == list && row == chosen {
                buffer.set_style(place, cx.theme.chosen());
            }
            hits.add(place, Target::Row(list, row));
        }
    }

    /// What is chosen in a list that is no table.
    fn chosen_line(&self) -> Option<String> {
        let at = |count: usize| self.lines[self.list].min(count.saturating_sub(1));
        match self.list {
            OPERATION_LIST => None,
            TRACE_LIST => self.exemplars.get(at(self.exemplars.len())).map(|one| trace_id(one).to_owned()),
            list => {
                let known = self.neighbours(list);
                known.get(at(known.len())).map(|(name, _)| name.clone())
            }
        }
    }

    fn latency(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let inner = boxed(area, buffer, "Latency", "log scale ", cx.theme);
        let map = Heatmap {
            columns: &self.heat,
            range: cx.span.range(cx.now_ms),
            step_ms: cx.span.step_ms(),
            unit: Unit::Seconds,
            marks: cx.marks,
            cursor: self.cursor,
        };
        if let Some(plot) = map.render(inner, buffer, cx.theme) {
            hits.add(plot.area, Target::Plot(plot));
        }
    }

    fn act_on_operations(&mut self, action: Action, cx: &Cx<'_>) -> Then {
        let rows = self.shown(cx).len();
        if self.state.act(action, rows, COLUMNS.len(), cx.page() / 2) {
            return Then::Done;
        }
        match action {
            Action::Open => {
                let shown = self.shown(cx);
                let labels =
                    shown.get(self.state.chosen.min(rows.saturating_sub(1))).and_then(|one| one.labels.clone());
                let mut matchers = matcher(&self.name);
                for (name, value) in labels.iter().flat_map(Labels::iter) {
                    matchers += &format!(", {name}={}", quoted(value));
                }
                let text = of_all(&cx.catalog.families, Figure::Quantile(0.95), "job", &matchers, cx.window, "");
                let text = text.or_else(|| of_all(&cx.catalog.families, Figure::Rate, "job", &matchers, cx.window, ""));
                text.map_or(Then::Done, Then::Explore)
            }
            Action::Copy | Action::CopyRow => {
                let shown = self.shown(cx);
                match shown.get(self.state.chosen.min(rows.saturating_sub(1))) {
                    Some(operation) if action == Action::Copy => Then::Copy(operation.name.clone()),
                    Some(operation) => {
                        let cells: Vec<String> = (0..COLUMNS.len()).map(|at| cell(operation, at, cx).text).collect();
                        Then::Copy(cells.join("\t"))
                    }
                    None => Then::Copy(self.name.clone()),
                }
            }
            _ => Then::NotMine,
        }
    }
}

fn cell(operation: &Operation, column: usize, cx: &Cx<'_>) -> Cell {
    let share = if operation.rate > 0.0 { operation.errors / operation.rate } else { 0.0 };
    match column {
        0 => Cell::plain(&*operation.name),
        1 => Cell::plain(figure(operation.rate, Unit::PerSecond)),
        2 if share >= 0.01 => Cell::new(figure(share, Unit::Ratio), cx.theme.mood(Mood::Bad)),
        2 => Cell::new(figure(share, Unit::Ratio), cx.theme.dim()),
        _ => Cell::plain(operation.p95.map(|p95| figure(p95, Unit::Seconds)).unwrap_or_default()),
    }
}

fn trace_id(exemplar: &Exemplar) -> &str {
    exemplar.labels.get("trace_id").or_else(|| exemplar.labels.get("traceID")).unwrap_or("without a trace id")
}

impl View for ServiceView {
    fn asks(&self, cx: &Cx<'_>) -> Vec<(Slot, Ask)> {
        if self.name.is_empty() {
            return Vec::new();
        }
        let mut asks = self.table.asks(cx);
        let families = &cx.catalog.families;
        let one = matcher(&self.name);
        let once = |text: String| Ask::Query(QueryRequest::new(text, Grid::Instant { at_ms: cx.now_ms }));
        for (slot, figure) in
            [(OPERATIONS, Figure::Rate), (OPERATION_ERRORS, Figure::Errors), (OPERATION_P95, Figure::Quantile(0.95))]
        {
            asks.extend(of_all(families, figure, OPERATION_LABELS, &one, cx.window, "").map(|text| (slot, once(text))));
        }
        for (slot, end, other) in [(CALLERS, "server", "client"), (CALLEES, "client", "server")] {
            let name = quoted(&self.name);
            let text =
                format!("sum by ({other}) (rate(traces_service_graph_request_total{{{end}={name}}}[{}]))", cx.window);
            asks.push((slot, once(text)));
        }
        if let Some(text) = families.iter().find_map(|family| family.distribution(&one, cx.window)) {
            asks.push((HEAT, Panel::ask(&text, cx)));
        }
        if let Some(family) = families.first() {
            let (start_ms, end_ms) = cx.span.range(cx.now_ms);
            asks.push((EXEMPLARS, Ask::Exemplars { text: family.selector(&one), start_ms, end_ms }));
        }
        if let Some(text) = of_all(families, Figure::Rate, "job", &one, cx.window, "") {
            asks.extend(Panel::asks(RATE, &text, cx));
        }
        asks
    }

    fn answer(&mut self, slot: Slot, answer: Result<Answer, QueryError>, cx: &Cx<'_>) {
        if slot < SLOTS {
            if let Ok(Answer::Service(told)) = &answer {
                let operations = told.iter().flat_map(|service| &service.operations);
                self.judged = operations.map(Operation::from).collect();
            }
            self.table.answer(slot, answer);
            return;
        }
        match (slot, answer) {
            (OPERATIONS, Ok(Answer::Query(answered))) => {
                self.operations.values_mut().for_each(|operation| operation.rate = 0.0);
                self.take(&answered, slot);
            }
            (OPERATION_ERRORS, Ok(Answer::Query(answered))) => {
                self.operations.values_mut().for_each(|operation| operation.errors = 0.0);
                self.take(&answered, slot);
            }
            (OPERATION_P95, Ok(Answer::Query(answered))) => self.take(&answered, slot),
            (CALLERS, Ok(Answer::Query(answered))) => self.callers = result::by_label(&answered, "client"),
            (CALLEES, Ok(Answer::Query(answered))) => self.callees = result::by_label(&answered, "server"),
            (HEAT, Ok(Answer::Query(answered))) => self.heat = result::heat(&answered),
            (slot, answer) if Panel::slot(slot) == RATE => self.rate.take(slot, &answer, cx),
            (EXEMPLARS, Ok(Answer::Exemplars(found))) => {
                let mut all: Vec<Exemplar> = found.into_iter().flat_map(|(_, exemplars)| exemplars).collect();
                all.sort_by(|a, b| b.value.total_cmp(&a.value).then(b.time_ms.cmp(&a.time_ms)));
                // A bucket's exemplar is told once for each series that carries it.
                all.dedup_by(|a, b| trace_id(a) == trace_id(b) && a.time_ms == b.time_ms);
                all.truncate(EXEMPLARS_MAX);
                self.exemplars = all;
            }
            _ => {}
        }
    }

    fn age_ms(&self, slot: Slot) -> i64 {
        self.table.age_ms(slot)
    }

    fn act(&mut self, action: Action, cx: &Cx<'_>) -> Then {
        match action {
            Action::Left => self.list = self.list.saturating_sub(1),
            Action::Right => self.list = (self.list + 1).min(TRACE_LIST),
            _ if self.list != OPERATION_LIST => {
                let chosen = self.chosen_line();
                match (action, chosen) {
                    (Action::Open, Some(name)) if self.list != TRACE_LIST => return Then::Service(name),
                    (Action::Open | Action::Copy | Action::CopyRow, Some(text)) => return Then::Copy(text),
                    _ => {}
                }
                let count = self.lines(self.list).len();
                let mut state = TableState { chosen: self.lines[self.list], ..TableState::unsorted() };
                if !state.act(action, count, 1, count.max(1)) {
                    return Then::NotMine;
                }
                self.lines[self.list] = state.chosen;
            }
            _ => return self.act_on_operations(action, cx),
        }
        Then::Done
    }

    fn render(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let inner = boxed(Rect { height: 3, ..area }, buffer, &self.name, "Esc goes back ", cx.theme);
        self.header(inner, buffer, cx);
        let area = Rect { y: area.y + 3, height: area.height - 3, ..area };
        let top = Rect { height: area.height / 2, ..area };
        let foot = Rect { y: area.y + top.height, height: area.height - top.height, ..area };
        let shown = self.shown(cx);
        let left = top.width * 11 / 20;
        let inner = boxed(Rect { width: left, ..top }, buffer, "Operations", "", cx.theme);
        let table = Table {
            columns: &COLUMNS,
            rows: shown.len(),
            state: (self.list == OPERATION_LIST).then_some(&self.state),
            cell: |row, column| cell(shown[row], column, cx),
            empty: "no operations",
            number: OPERATION_LIST,
        };
        table.render(inner, buffer, cx.theme, hits);
        let right = Rect { x: top.x + left, width: top.width - left, ..top };
        let third = right.height / 3;
        self.draw_lines(CALLER_LIST, Rect { height: third, ..right }, buffer, cx, hits);
        self.draw_lines(CALLEE_LIST, Rect { y: right.y + third, height: third, ..right }, buffer, cx, hits);
        let place = Rect { y: right.y + 2 * third, height: right.height - 2 * third, ..right };
        self.draw_lines(TRACE_LIST, place, buffer, cx, hits);
        let half = foot.width * 11 / 20;
        self.latency(Rect { width: half, ..foot }, buffer, cx, hits);
        let place = Rect { x: foot.x + half, width: foot.width - half, ..foot };
        let look = Look { cursor: self.cursor, ..Look::new("Requests", Unit::PerSecond, Kind::Areas) };
        self.rate.render(place, buffer, &look, cx, hits);
    }

    fn lists(&self) -> &[TableState] {
        std::slice::from_ref(&self.state)
    }

    fn lists_mut(&mut self) -> &mut [TableState] {
        std::slice::from_mut(&mut self.state)
    }

    fn click(&mut self, list: usize, row: usize, cx: &Cx<'_>) -> Then {
        let list = list.min(TRACE_LIST);
        let chosen = if list == OPERATION_LIST { &mut self.state.chosen } else { &mut self.lines[list] };
        let was = (self.list, std::mem::replace(chosen, row));
        self.list = list;
        if was == (list, row) { self.act(Action::Open, cx) } else { Then::Done }
    }

    fn click_heading(&mut self, _: usize, column: usize) {
        self.state.sort_by(column);
    }

    fn subject(&self) -> &str {
        &self.name
    }

    fn set_subject(&mut self, subject: &str) {
        if self.name != subject {
            *self = ServiceView { name: subject.to_owned(), table: ServiceTable::of(subject), ..Default::default() };
        }
    }

    fn has_chart(&self) -> bool {
        true
    }

    fn needs_catalog(&self) -> bool {
        true
    }

    fn set_cursor(&mut self, time_ms: Option<i64>) {
        self.cursor = time_ms;
    }
}
