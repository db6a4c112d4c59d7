//! What is sick, what changed, how the machine and the ways in do.

use kymo_core::health::HealthStatus;
use kymo_core::ledger::Loss;
use kymo_core::query::{Grid, QueryError, QueryRequest};
use kymo_core::status::{ContextFinding, DoorStatus, TargetHealth, TargetStatus};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::panel::{Look, Panel};
use super::{Cx, Slot, Then, View, host, services};
use crate::terminal::ask::{Answer, Ask};
use crate::terminal::chart::Kind;
use crate::terminal::keys::Action;
use crate::terminal::result;
use crate::terminal::screen::{Hits, boxed};
use crate::terminal::services::{SLOTS, ServiceTable};
use crate::terminal::table::{Cell, Column, Table, TableState, put};
use crate::terminal::text::{self, Unit, figure, span};
use crate::terminal::theme::Mood;

const TARGETS: Slot = SLOTS;
const CONTEXTS: Slot = SLOTS + 1;
const DROPS: Slot = SLOTS + 2;
const RESTARTS: Slot = SLOTS + 3;
const FLIPS: Slot = SLOTS + 4;
const PANELS: Slot = SLOTS + 5;
/// How old what changed within an hour may become.
const CHANGES_AGE_MS: i64 = 10_000;
/// A loss is worth a line for so long.
const LOSS_MS: i64 = 15 * 60_000;

/// Columns of the terminal that names get at most: the reason is what one reads.
const WHAT_MAX: usize = 24;
/// Lines for the reason of the chosen line that a list gives way to, if it is long enough.
const DETAIL_LINES: usize = 3;

/// Charts along the foot: title, unit, expression.
const CHARTS: [(&str, Unit, &str); 4] = [
    ("CPU", Unit::Ratio, host::CPU_BUSY),
    ("Memory", Unit::Ratio, host::MEMORY_USED),
    ("Network", Unit::BytesPerSecond, host::NETWORK_BOTH),
    ("Ingest", Unit::PerSecond, "sum(rate(kymo_storage_rows_total{outcome=\"stored\"}[WINDOW]))"),
];

#[derive(Debug)]
pub(super) struct Overview {
    services: ServiceTable,
    targets: Vec<TargetStatus>,
    findings: Vec<ContextFinding>,
    doors: Vec<DoorStatus>,
    losses: Vec<Loss>,
    /// Changes of processes and targets, in words.
    restarts: Vec<Line>,
    flips: Vec<Line>,
    panels: [Panel; 4],
    /// Which of the two lists keys move in.
    in_changes: bool,
    states: [TableState; 2],
}

impl Default for Overview {
    fn default() -> Overview {
        Overview {
            services: ServiceTable::default(),
            targets: Vec::new(),
            findings: Vec::new(),
            doors: Vec::new(),
            losses: Vec::new(),
            restarts: Vec::new(),
            flips: Vec::new(),
            panels: Default::default(),
            in_changes: false,
            states: [TableState::unsorted(), TableState::unsorted()],
        }
    }
}

/// A line of a list, and where Enter leads.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    mood: Mood,
    what: String,
    why: String,
    then: Then,
}

impl Overview {
    fn sick(&self, cx: &Cx<'_>) -> Vec<Line> {
        let mut lines = Vec::new();
        for finding in &self.findings {
            let mood = if finding.is_cycle { Mood::Bad } else { Mood::Warn };
            let words: Vec<&str> = finding.text.trim_start_matches("deadlock:").split_whitespace().collect();
            let what = if finding.is_cycle { "deadlock" } else { "contexts" };
            lines.push(Line { mood, what: what.to_owned(), why: words.join(" "), then: Then::Done });
        }
        for service in self.services.list() {
            let health = &service.health;
            if matches!(health.status, HealthStatus::Degraded | HealthStatus::Unhealthy) {
                let then = Then::Service(service.name.clone());
                let mood = services::mood(health.status);
                lines.push(Line { mood, what: service.name.clone(), why: health.reason.clone(), then });
            }
        }
        for target in self.targets.iter().filter(|target| target.health == TargetHealth::Down) {
            let what = target.labels.get("instance").unwrap_or(&target.url);
            let then = Then::Explore(format!("up{{job=\"{}\"}}", target.pool));
            let what = format!("target {what}");
            lines.push(Line { mood: Mood::Bad, what, why: target.last_error.clone(), then });
        }
        for loss in self.losses.iter().filter(|loss| cx.now_ms - loss.last_ms < LOSS_MS) {
            let why = format!("{} {}, last {} ago", loss.count, loss.reason, span(cx.now_ms - loss.last_ms));
            let what = format!("dropped by {}", loss.source);
            lines.push(Line { mood: Mood::Warn, what, why, then: Then::Done });
        }
        for (at, name, limit) in [(0, "CPU", 0.95), (1, "memory", 0.92)] {
            if let Some(value) = self.panels[at].last().filter(|value| *value >= limit) {
                let why = format!("{} used", figure(value, Unit::Ratio));
                lines.push(Line { mood: Mood::Warn, what: format!("host {name}"), why, then: Then::Done });
            }
        }
        lines.sort_by_key(|line| std::cmp::Reverse(line.mood));
        lines.retain(|line| cx.matches(&line.what) || cx.matches(&line.why));
        lines
    }

    fn changed(&self, cx: &Cx<'_>) -> Vec<Line> {
        let mut lines = self.restarts.clone();
        lines.extend(self.flips.iter().cloned());
        for service in self.services.list() {
            if let Some(why) = service.change() {
                let then = Then::Service(service.name.clone());
                let mood = services::mood(service.health.status);
                lines.push(Line { mood, what: service.name.clone(), why, then });
            }
        }
        lines.sort_by_key(|line| std::cmp::Reverse(line.mood));
        lines.retain(|line| cx.matches(&line.what) || cx.matches(&line.why));
        lines
    }

    fn lines(&self, cx: &Cx<'_>) -> Vec<Line> {
        if self.in_changes { self.changed(cx) } else { self.sick(cx) }
    }

    fn list(&self, number: usize, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let (title, empty, lines) = match number {
            0 => ("What is sick", "nothing: all is well", self.sick(cx)),
            _ => ("What changed in an hour", "nothing", self.changed(cx)),
        };
        let note = if lines.is_empty() { String::new() } else { format!("{} ", lines.len()) };
        let inner = boxed(area, buffer, title, &note, cx.theme);
        let is_here = (number == 1) == self.in_changes;
        let chosen = lines.get(self.states[number].chosen.min(lines.len().saturating_sub(1)));
        let said = chosen
            .filter(|_| is_here && inner.height >= 9)
            .map_or(Vec::new(), |line| text::folded(&format!("{}: {}", line.what, line.why), usize::from(inner.width)));
        // All of it where the list leaves room for it.
        let room = usize::from(inner.height).saturating_sub(lines.len() + 1).max(DETAIL_LINES);
        let detail = said.len().min(room) as u16;
        let foot = Rect { y: inner.bottom() - detail, height: detail, ..inner };
        let inner = Rect { height: inner.height - detail, ..inner };
        // A heading would say nothing here: its line is given to the list.
        let inner = Rect { y: inner.y.saturating_sub(1), height: inner.height + 1, ..inner };
        let kept: Vec<_> = (area.x..area.right()).map(|x| buffer[(x, area.y)].clone()).collect();
        let longest = lines.iter().map(|line| text::width(&line.what)).max().unwrap_or(0);
        let columns =
            [Column::text("", 1), Column::text("WHAT", longest.clamp(8, WHAT_MAX) as u16), Column::wide("WHY")];
        let table = Table {
            columns: &columns,
            rows: lines.len(),
            state: is_here.then_some(&self.states[number]),
            cell: |row, column| {
                let line = &lines[row];
                match column {
                    0 => Cell::new(cx.theme.sign(line.mood), cx.theme.mood(line.mood)),
                    1 => Cell::plain(&*line.what),
                    _ => Cell::new(&*line.why, cx.theme.mood(line.mood)),
                }
            },
            empty,
            number,
        };
        table.render(inner, buffer, cx.theme, hits);
        for (x, cell) in (area.x..area.right()).zip(kept) {
            buffer[(x, area.y)] = cell;
        }
        let style = chosen.map_or(cx.theme.text(), |line| cx.theme.mood(line.mood));
        for (y, said) in (foot.top()..foot.bottom()).zip(said) {
            put(buffer, (foot.x, y, foot.width), &said, style, false, cx.theme);
        }
    }

    fn facts(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>) {
        let services = self.services.list();
        let rate: f64 = services.iter().map(|service| service.health.rate).sum();
        let up = self.targets.iter().filter(|target| target.health == TargetHealth::Up).count();
        let all = self.targets.iter().filter(|target| target.health != TargetHealth::Dropped).count();
        let (received, stored, rejected) = self.doors.iter().fold((0, 0, 0), |(received, stored, rejected), door| {
            let totals = &door.received;
            (received + totals.received, stored + totals.stored, rejected + totals.rejected)
        });
        let sick = services.iter().filter(|service| service.health.status > HealthStatus::Healthy).count();
        let mut pieces = vec![
            ("services", format!("{}", services.len())),
            ("sick", format!("{sick}")),
            ("requests", figure(rate, Unit::PerSecond)),
            ("targets up", format!("{up} of {all}")),
            ("samples in", figure(received as f64, Unit::Number)),
            ("stored", figure(stored as f64, Unit::Number)),
            ("rejected", figure(rejected as f64, Unit::Number)),
        ];
        if self.doors.is_empty() {
            pieces.truncate(4);
        }
        let mut x = area.x + 1;
        for (name, value) in pieces {
            let width = (name.len() + value.len() + 3) as u16;
            if x + width > area.right() {
                break;
            }
            buffer.set_string(x, area.y, &value, cx.theme.strong());
            buffer.set_string(x + value.len() as u16 + 1, area.y, name, cx.theme.dim());
            x += width;
        }
    }
}

impl View for Overview {
    fn asks(&self, cx: &Cx<'_>) -> Vec<(Slot, Ask)> {
        let mut asks = self.services.asks(cx);
        asks.extend([(TARGETS, Ask::Targets), (CONTEXTS, Ask::Contexts), (DROPS, Ask::Drops)]);
        let once = |text: &str| Ask::Query(QueryRequest::new(text, Grid::Instant { at_ms: cx.now_ms }));
        asks.push((RESTARTS, once("time() - process_start_time_seconds < 3600")));
        asks.push((FLIPS, once("changes(up[1h]) > 0")));
        for (number, (_, _, text)) in CHARTS.iter().enumerate() {
            asks.extend(Panel::asks(PANELS + number as Slot, &text.replace("WINDOW", cx.window), cx));
        }
        asks
    }

    fn answer(&mut self, slot: Slot, answer: Result<Answer, QueryError>, cx: &Cx<'_>) {
        if slot < SLOTS {
            self.services.answer(slot, answer);
            return;
        }
        match (slot, answer) {
            (TARGETS, Ok(Answer::Targets(targets))) => self.targets = targets,
            (CONTEXTS, Ok(Answer::Contexts(_, findings))) => self.findings = findings,
            (DROPS, Ok(Answer::Drops(doors, losses))) => (self.doors, self.losses) = (doors, losses),
            (RESTARTS, Ok(Answer::Query(answered))) => {
                let line = |one: &kymo_core::query::ResultSeries| {
                    let age = one.points().last().map(|(_, value)| match value {
                        kymo_core::query::PointValue::Float(value) => (value * 1e3) as i64,
                        kymo_core::query::PointValue::Histogram(_) => 0,
                    })?;
                    let job = one.labels.get("job").unwrap_or("a process");
                    let instance = one.labels.get("instance").unwrap_or_default();
                    let then = Then::Explore(format!("process_start_time_seconds{{job=\"{job}\"}}"));
                    let what = format!("{job} {instance}").trim().to_owned();
                    Some(Line { mood: Mood::Warn, what, why: format!("started {} ago", span(age)), then })
                };
                self.restarts = result::series_of(&answered).iter().filter_map(line).collect();
            }
            (FLIPS, Ok(Answer::Query(answered))) => {
                let line = |one: &kymo_core::query::ResultSeries| {
                    let job = one.labels.get("job").unwrap_or_default();
                    let instance = one.labels.get("instance").unwrap_or_default();
                    let then = Then::Explore(format!("up{{job=\"{job}\"}}"));
                    let why = "went up or down".to_owned();
                    Line { mood: Mood::Warn, what: format!("target {instance}"), why, then }
                };
                self.flips = result::series_of(&answered).iter().map(line).collect();
            }
            (slot, answer) => {
                let at = Panel::slot(slot).checked_sub(PANELS);
                if let Some(panel) = at.and_then(|at| self.panels.get_mut(at as usize)) {
                    panel.take(slot, &answer, cx);
                }
            }
        }
    }

    fn age_ms(&self, slot: Slot) -> i64 {
        match slot {
            RESTARTS | FLIPS => CHANGES_AGE_MS,
            slot => self.services.age_ms(slot),
        }
    }

    fn act(&mut self, action: Action, cx: &Cx<'_>) -> Then {
        let lines = self.lines(cx);
        match action {
            Action::Left | Action::Right => {
                self.in_changes = action == Action::Right;
                return Then::Done;
            }
            Action::Sort | Action::Reverse => return Then::Done,
            _ => {}
        }
        let state = &mut self.states[usize::from(self.in_changes)];
        if state.act(action, lines.len(), 1, cx.page() / 2) {
            return Then::Done;
        }
        let Some(line) = lines.get(state.chosen.min(lines.len().saturating_sub(1))) else { return Then::NotMine };
        match action {
            Action::Open => line.then.clone(),
            Action::Copy => Then::Copy(line.what.clone()),
            Action::CopyRow => Then::Copy(format!("{}\t{}", line.what, line.why)),
            _ => Then::NotMine,
        }
    }

    fn render(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        self.facts(Rect { height: 1, ..area }, buffer, cx);
        let area = Rect { y: area.y + 1, height: area.height - 1, ..area };
        let charts = (area.height * 2 / 5).clamp(5, 16);
        let lists = Rect { height: area.height - charts, ..area };
        if area.width >= 100 {
            let half = lists.width / 2;
            self.list(0, Rect { width: half, ..lists }, buffer, cx, hits);
            self.list(1, Rect { x: lists.x + half, width: lists.width - half, ..lists }, buffer, cx, hits);
        } else {
            let half = lists.height.div_ceil(2);
            self.list(0, Rect { height: half, ..lists }, buffer, cx, hits);
            self.list(1, Rect { y: lists.y + half, height: lists.height - half, ..lists }, buffer, cx, hits);
        }
        let shown = if area.width >= 110 { 4 } else { 3 };
        let width = area.width / shown;
        // On a narrow screen the network gives way.
        let numbers: &[usize] = if shown == 4 { &[0, 1, 2, 3] } else { &[0, 1, 3] };
        for (place, number) in numbers.iter().enumerate() {
            let (title, unit, _) = CHARTS[*number];
            let x = area.x + width * place as u16;
            let width = if place + 1 == numbers.len() { area.right() - x } else { width };
            let at = Rect { x, y: lists.bottom(), width, height: charts };
            self.panels[*number].render(at, buffer, &Look::new(title, unit, Kind::Areas), cx, hits);
        }
    }

    fn click(&mut self, list: usize, row: usize, cx: &Cx<'_>) -> Then {
        let was = (self.in_changes, self.states[list.min(1)].chosen);
        self.in_changes = list == 1;
        self.states[list.min(1)].chosen = row;
        if was == (self.in_changes, row) { self.act(Action::Open, cx) } else { Then::Done }
    }

    fn has_chart(&self) -> bool {
        true
    }

    fn needs_catalog(&self) -> bool {
        true
    }
}
