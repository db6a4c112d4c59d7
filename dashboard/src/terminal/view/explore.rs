//! Explore: an expression that is completed and checked while it is typed, its chart, table and plan.

use std::ops::Range;

use kymo_core::query::{
    Annotations, Grid, PlanNode, PointValue, QueryError, QueryPhase, QueryRequest, QueryValue, StatsWanted,
};
use kymo_core::text::{FloatText, SeriesText};
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use super::panel::{Look, Panel};
use super::{Cx, Slot, Then, View};
use crate::terminal::ask::{Answer, Ask};
use crate::terminal::chart::Kind;
use crate::terminal::keys::Action;
use crate::terminal::line::{Edit, Line};
use crate::terminal::promql::{self, Expected, FUNCTIONS};
use crate::terminal::screen::{Hits, boxed};
use crate::terminal::settings::{Parts, Shown};
use crate::terminal::table::{Cell, Column, Table, TableState, put};
use crate::terminal::text::{self, Unit, figure, moment};
use crate::terminal::theme::Mood;

const CHART: Slot = 0;
const TABLE: Slot = 1;
const WORDS: Slot = 2;
const CHECK: Slot = 3;

/// How long nobody types before the server is asked what it thinks.
const PAUSE_MS: i64 = 300;
/// Proposals shown.
const PROPOSALS_MAX: usize = 8;

const COLUMNS: [Column; 2] = [Column::wide("SERIES"), Column::figure("VALUE", 26)];

#[derive(Debug)]
pub(super) struct Explore {
    /// The expression that is asked.
    asked: String,
    /// The line that is edited, while it is.
    line: Option<Line>,
    /// The newest change of the line, and whether it was checked.
    typed_ms: i64,
    is_checked: bool,
    /// What the server said is wrong with the line: where, and what.
    fault: Option<(Range<usize>, String)>,
    /// Words of the server for a place of the line, and for which.
    words: Vec<String>,
    words_for: Option<Expected>,
    /// Which proposal Tab takes.
    proposal: usize,
    panel: Panel,
    rows: Vec<(String, String)>,
    plan: Option<PlanNode>,
    annotations: Annotations,
    parts: Parts,
    state: TableState,
    cursor: Option<i64>,
}

impl Default for Explore {
    fn default() -> Explore {
        Explore {
            asked: "up".to_owned(),
            line: None,
            typed_ms: 0,
            is_checked: true,
            fault: None,
            words: Vec::new(),
            words_for: None,
            proposal: 0,
            panel: Panel::default(),
            rows: Vec::new(),
            plan: None,
            annotations: Annotations::default(),
            parts: Parts::default(),
            state: TableState::unsorted(),
            cursor: None,
        }
    }
}

impl Explore {
    fn text(&self) -> &str {
        self.line.as_ref().map_or(&self.asked, Line::text)
    }

    /// Where the word begins that is typed, and how it may go on, best first.
    fn proposals(&self, cx: &Cx<'_>) -> (usize, Vec<String>) {
        let Some(line) = &self.line else { return (0, Vec::new()) };
        let (start, expected) = promql::expected(line.text(), line.cursor());
        let typed = line.text()[start..line.cursor()].to_lowercase();
        let local: Vec<&str> = match &expected {
            Expected::Name if typed.is_empty() => Vec::new(),
            Expected::Name => FUNCTIONS.iter().copied().chain(cx.catalog.names.iter().map(String::as_str)).collect(),
            Expected::Nothing => Vec::new(),
            Expected::Label { .. } | Expected::Value { .. } if self.words_for.as_ref() == Some(&expected) => {
                self.words.iter().map(String::as_str).filter(|word| *word != "__name__").collect()
            }
            Expected::Label { .. } | Expected::Value { .. } => Vec::new(),
        };
        // What begins so comes before what only contains it; what is already there is no proposal.
        let mut found: Vec<(bool, &str)> = local
            .into_iter()
            .filter(|word| word.to_lowercase().contains(&typed) && word.to_lowercase() != typed)
            .map(|word| (!word.to_lowercase().starts_with(&typed), word))
            .collect();
        found.sort_by_key(|(contains, word)| (*contains, word.len()));
        (start, found.into_iter().take(PROPOSALS_MAX).map(|(_, word)| word.to_owned()).collect())
    }

    fn changed(&mut self, cx: &Cx<'_>) -> Then {
        (self.typed_ms, self.is_checked, self.fault, self.proposal) = (cx.now_ms, false, None, 0);
        Then::Wake(cx.now_ms + PAUSE_MS)
    }

    fn submit(&mut self, cx: &Cx<'_>) -> Then {
        let Some(line) = self.line.take() else { return Then::Done };
        if line.text().trim().is_empty() {
            return Then::Done;
        }
        if let Some(slip) = promql::slip(line.text(), true) {
            self.fault = Some(slip);
            self.line = Some(line);
            return Then::Done;
        }
        let text = line.text().trim().to_owned();
        self.set_subject(&text);
        let _ = cx;
        Then::Asked(text)
    }

    /// The slip that is underlined: plain from the text, or as the server said.
    fn underlined(&self) -> Option<(Range<usize>, String)> {
        promql::slip(self.text(), self.line.is_none()).or_else(|| self.fault.clone())
    }

    fn query_line(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>) {
        let theme = cx.theme;
        let text = self.text();
        buffer.set_string(area.x, area.y, theme.glyph("❯", ">"), theme.accent());
        let room = usize::from(area.width.saturating_sub(3));
        let cursor = self.line.as_ref().map_or(0, Line::cursor);
        // A long line is scrolled so that the cursor is seen.
        let before = text::width(&text[..cursor]);
        let hidden = before.saturating_sub(room.saturating_sub(1));
        let wrong = self.underlined().map(|(range, _)| range);
        let mut x = 0;
        for (at, char) in text.char_indices() {
            let wide = text::width(char.encode_utf8(&mut [0; 4]));
            if x >= hidden && x + wide - hidden <= room {
                let is_wrong = wrong.as_ref().is_some_and(|range| range.contains(&at));
                let style = if is_wrong { theme.wrong() } else { theme.text() };
                let shown = if char.is_control() { ' ' } else { char };
                let shown = theme.plain(&shown.to_string());
                buffer.set_string(area.x + 2 + (x - hidden) as u16, area.y, shown, style);
            }
            x += wide;
        }
        if self.line.is_some() {
            let at = area.x + 2 + (before - hidden) as u16;
            if at < area.right() {
                buffer[(at, area.y)].modifier.insert(Modifier::REVERSED);
            }
        }
        let note = match (&self.underlined(), &self.line) {
            (Some((_, words)), _) => Some((words.clone(), theme.mood(Mood::Bad))),
            (None, Some(_)) => Some(("Enter asks, Tab completes, Up is history, Esc leaves".to_owned(), theme.dim())),
            (None, None) => {
                let remarks = self.annotations.warnings.iter().chain(&self.annotations.infos);
                let remark = remarks.map(|text| (text.clone(), theme.mood(Mood::Warn))).next();
                remark.or_else(|| self.panel.error.clone().map(|error| (error, theme.mood(Mood::Bad))))
            }
        };
        if let Some((words, style)) = note {
            put(buffer, (area.x + 2, area.y + 1, area.width.saturating_sub(2)), &words, style, false, theme);
        }
    }

    fn proposals_box(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>) {
        let (start, words) = self.proposals(cx);
        if words.is_empty() || area.height < 2 {
            return;
        }
        let before = text::width(&self.text()[..start]) as u16;
        let describe = |word: &String| match cx.catalog.metadata.get(word) {
            Some(metadata) => format!("{word}  {}", metadata.family_type.as_str()),
            None if FUNCTIONS.contains(&word.as_str()) => format!("{word}  function"),
            None => word.clone(),
        };
        let lines: Vec<String> = words.iter().map(describe).collect();
        let width = (lines.iter().map(|line| text::width(line)).max().unwrap_or(0) as u16 + 2).min(area.width);
        let x = (area.x + 2 + before).min(area.right() - width);
        for (number, line) in lines.iter().take(usize::from(area.height)).enumerate() {
            let y = area.y + number as u16;
            let style = if number == self.proposal { cx.theme.chosen() } else { cx.theme.dim() };
            let shown = text::fit(line, usize::from(width) - 2, cx.theme.ellipsis());
            let padded = format!(" {shown:<width$}", width = usize::from(width) - 1);
            for x in x..x + width {
                buffer[(x, y)].reset();
            }
            buffer.set_stringn(x, y, padded, usize::from(width), style);
        }
    }

    fn plan_box(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>) {
        let inner = boxed(area, buffer, "Plan: series, samples, memory, time", "x closes ", cx.theme);
        let Some(root) = &self.plan else {
            let text = if self.panel.is_known { "the server tells no plan" } else { "asking …" };
            put(buffer, (inner.x, inner.y, inner.width), text, cx.theme.dim(), false, cx.theme);
            return;
        };
        let mut nodes = vec![(root, 0)];
        let mut y = inner.y;
        while let Some((node, depth)) = nodes.pop() {
            if y >= inner.bottom() {
                break;
            }
            let cost = &node.actual;
            let samples = if cost.samples > 0 { figure(cost.samples as f64, Unit::Number) } else { String::new() };
            let right = format!(
                "{:>7} {samples:>8} {:>8} {:>8}",
                figure(cost.series as f64, Unit::Number),
                figure(cost.memory_bytes as f64, Unit::Bytes),
                figure(node.time.as_secs_f64(), Unit::Seconds)
            );
            let left = format!("{}{}", "  ".repeat(depth), node.operation);
            let room = inner.width.saturating_sub(text::width(&right) as u16 + 1);
            put(buffer, (inner.x, y, room), &left, cx.theme.text(), false, cx.theme);
            put(buffer, (inner.x, y, inner.width), &right, cx.theme.dim(), true, cx.theme);
            y += 1;
            nodes.extend(node.inputs.iter().rev().map(|input| (input, depth + 1)));
        }
    }

    fn chart_box(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let note = match self.cursor {
            Some(time) => format!("at {} ", moment(time)),
            None => format!(
                "{} series, step {} ",
                self.panel.series.len() + self.panel.hidden,
                text::span(cx.span.step_ms())
            ),
        };
        let inner = boxed(area, buffer, "Chart", &note, cx.theme);
        let legend = (self.panel.series.len().min(6) as u16).min(inner.height / 4).max(1);
        let unit = Unit::of_expression(&self.asked);
        let observed = Unit::of_observations(&self.asked);
        let look = Look { legend, observed, cursor: self.cursor, ..Look::new("", unit, Kind::Lines) };
        self.panel.render_bare(inner, buffer, &look, cx, hits);
    }

    fn table_box(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let rows: Vec<&(String, String)> = self.rows.iter().filter(|(name, _)| cx.matches(name)).collect();
        let inner = boxed(area, buffer, "Now", &format!("{} rows ", rows.len()), cx.theme);
        let table = Table {
            columns: &COLUMNS,
            rows: rows.len(),
            state: Some(&self.state),
            cell: |row, column| {
                let (name, value) = rows[row];
                if column == 0 { Cell::plain(&**name) } else { Cell::new(&**value, cx.theme.strong()) }
            },
            empty: if self.panel.is_known { "no data" } else { "asking …" },
            number: 0,
        };
        table.render(inner, buffer, cx.theme, hits);
    }

    fn take_table(&mut self, value: &QueryValue) {
        let number = |value: f64| FloatText::json(value).as_str().to_owned();
        self.rows = match value {
            QueryValue::Scalar { value, .. } => vec![("scalar".to_owned(), number(*value))],
            QueryValue::String { value, .. } => vec![("string".to_owned(), value.clone())],
            QueryValue::Vector(series) | QueryValue::Matrix(series) => series
                .iter()
                .filter_map(|one| {
                    let text = match one.points().last()?.1 {
                        PointValue::Float(value) => number(value),
                        PointValue::Histogram(histogram) => {
                            format!("count {} sum {}", number(histogram.count()), number(histogram.sum))
                        }
                    };
                    Some((SeriesText(one.labels.iter()).to_string(), text))
                })
                .collect(),
        };
    }
}

impl View for Explore {
    fn asks(&self, cx: &Cx<'_>) -> Vec<(Slot, Ask)> {
        let mut asks = Vec::new();
        if !self.asked.is_empty() {
            for (slot, ask) in Panel::asks(CHART, &self.asked, cx) {
                let ask = match ask {
                    Ask::Query(request) if slot == CHART => {
                        Ask::Query(QueryRequest { explain: self.parts.plan, stats: StatsWanted::None, ..request })
                    }
                    other => other,
                };
                asks.push((slot, ask));
            }
            let at_ms = cx.span.range(cx.now_ms).1;
            // A person wonders at an empty answer.
            let request =
                QueryRequest { explain_empty: true, ..QueryRequest::new(&*self.asked, Grid::Instant { at_ms }) };
            asks.push((TABLE, Ask::Query(request)));
        }
        if let Some(line) = &self.line {
            let (_, expected) = promql::expected(line.text(), line.cursor());
            if self.words_for.as_ref() != Some(&expected) {
                match expected {
                    Expected::Label { metric } => asks.push((WORDS, Ask::LabelNames { metric })),
                    Expected::Value { label, metric } => asks.push((WORDS, Ask::LabelValues { name: label, metric })),
                    Expected::Name | Expected::Nothing => {}
                }
            }
            if !self.is_checked && cx.now_ms - self.typed_ms >= PAUSE_MS && !line.text().trim().is_empty() {
                let request =
                    QueryRequest { limit: 1, ..QueryRequest::new(line.text(), Grid::Instant { at_ms: cx.now_ms }) };
                asks.push((CHECK, Ask::Query(request)));
            }
        }
        asks
    }

    fn answer(&mut self, slot: Slot, answer: Result<Answer, QueryError>, cx: &Cx<'_>) {
        match (slot, answer) {
            (CHART, answer) => {
                self.panel.take(CHART, &answer, cx);
                match answer {
                    Ok(Answer::Query(answered)) => {
                        self.plan = answered.plan;
                        if self.line.is_none() {
                            self.fault = None;
                        }
                    }
                    Err(error) if self.line.is_none() => {
                        self.panel.clear();
                        let place = promql::place(&self.asked, &error);
                        self.fault = place.map(|(range, words)| (range, words.to_owned()));
                    }
                    _ => {}
                }
            }
            (TABLE, Ok(Answer::Query(answered))) => {
                self.take_table(&answered.value);
                self.annotations = answered.annotations;
            }
            (WORDS, Ok(Answer::Texts(words))) => {
                if let Some(line) = &self.line {
                    self.words_for = Some(promql::expected(line.text(), line.cursor()).1);
                    self.words = words;
                }
            }
            (CHECK, answer) => {
                self.is_checked = true;
                if let (Err(error), Some(line)) = (answer, &self.line)
                    && error.phase == QueryPhase::Parse
                {
                    let found = promql::place(line.text(), &error).map(|(range, words)| (range, words.to_owned()));
                    // Text that merely is not finished is not called wrong.
                    self.fault = found.filter(|(range, _)| range.start < line.text().trim_end().len());
                }
            }
            (slot, answer) if Panel::slot(slot) == CHART => self.panel.take(slot, &answer, cx),
            _ => {}
        }
    }

    fn act(&mut self, action: Action, cx: &Cx<'_>) -> Then {
        match action {
            Action::Edit => {
                self.line = Some(Line::new(&*self.asked));
                return Then::Ask;
            }
            Action::Explain => {
                self.parts.plan = !self.parts.plan;
                return Then::Ask;
            }
            Action::Table => {
                self.parts.shown = match self.parts.shown {
                    Shown::Both => Shown::Chart,
                    Shown::Chart => Shown::Table,
                    Shown::Table => Shown::Both,
                };
                return Then::Done;
            }
            Action::Back if self.cursor.take().is_some() => return Then::Done,
            Action::Copy => return Then::Copy(self.asked.clone()),
            Action::CopyRow => {
                let shown: Vec<&(String, String)> = self.rows.iter().filter(|(name, _)| cx.matches(name)).collect();
                let row = shown.get(self.state.chosen.min(shown.len().saturating_sub(1)));
                return row.map_or(Then::Done, |(name, value)| Then::Copy(format!("{name}\t{value}")));
            }
            // The cursor walks along the chart.
            Action::Left | Action::Right => {
                let (start, end) = cx.span.range(cx.now_ms);
                let step = cx.span.step_ms();
                let at = self.cursor.unwrap_or(end) + if action == Action::Left { -step } else { step };
                self.cursor = (at < end).then_some(at.max(start));
                return Then::Done;
            }
            Action::Sort | Action::Reverse => return Then::Done,
            Action::Open => {
                self.line = Some(Line::new(&*self.asked));
                return Then::Ask;
            }
            _ => {}
        }
        if self.state.act(action, self.rows.len(), 1, cx.page() / 2) { Then::Done } else { Then::NotMine }
    }

    fn render(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let query = boxed(Rect { height: 3, ..area }, buffer, "Query", "", cx.theme);
        self.query_line(query, buffer, cx);
        let below = Rect { y: area.y + 3, height: area.height - 3, ..area };
        let with_plan = self.parts.plan && below.height >= 9;
        let plan = if with_plan { (below.height / 3).max(5) } else { 0 };
        let main = Rect { height: below.height - plan, ..below };
        match self.parts.shown {
            Shown::Chart => self.chart_box(main, buffer, cx, hits),
            Shown::Table => self.table_box(main, buffer, cx, hits),
            Shown::Both if main.width >= 140 => {
                let left = main.width * 13 / 20;
                self.chart_box(Rect { width: left, ..main }, buffer, cx, hits);
                self.table_box(Rect { x: main.x + left, width: main.width - left, ..main }, buffer, cx, hits);
            }
            Shown::Both => {
                let rows = (self.rows.len() as u16 + 2).min(main.height * 2 / 5).max(3).min(main.height);
                self.chart_box(Rect { height: main.height - rows, ..main }, buffer, cx, hits);
                let place = Rect { y: main.bottom() - rows, height: rows, ..main };
                self.table_box(place, buffer, cx, hits);
            }
        }
        if with_plan {
            self.plan_box(Rect { y: main.bottom(), height: plan, ..below }, buffer, cx);
        }
        if self.line.is_some() {
            self.proposals_box(Rect { y: area.y + 3, height: area.height - 3, ..area }, buffer, cx);
        }
    }

    fn parts(&mut self) -> Option<&mut Parts> {
        Some(&mut self.parts)
    }

    fn click(&mut self, _: usize, row: usize, _: &Cx<'_>) -> Then {
        self.state.chosen = row;
        Then::Done
    }

    fn subject(&self) -> &str {
        &self.asked
    }

    fn set_subject(&mut self, subject: &str) {
        if self.asked != subject {
            (self.panel, self.rows, self.plan) = (Panel::default(), Vec::new(), None);
            (self.annotations, self.cursor) = (Annotations::default(), None);
        }
        (self.asked, self.line, self.fault, self.is_checked) = (subject.to_owned(), None, None, true);
    }

    fn is_typing(&self) -> bool {
        self.line.is_some()
    }

    fn type_key(&mut self, press: KeyEvent, cx: &Cx<'_>) -> Then {
        let control_c = press.code == KeyCode::Char('c') && press.modifiers.contains(KeyModifiers::CONTROL);
        match press.code {
            KeyCode::Enter => return self.submit(cx),
            KeyCode::Esc => {
                (self.line, self.fault) = (None, None);
                return Then::Ask;
            }
            _ if control_c => {
                (self.line, self.fault) = (None, None);
                return Then::Done;
            }
            KeyCode::Tab => {
                let (start, words) = self.proposals(cx);
                let Some(word) = words.get(self.proposal.min(words.len().saturating_sub(1))) else { return Then::Done };
                let is_function = FUNCTIONS.contains(&word.as_str()) && !cx.catalog.names.contains(word);
                let mut word = word.clone();
                if let Some(line) = &mut self.line {
                    let followed = line.text()[line.cursor()..].starts_with('(');
                    if is_function && !followed {
                        word.push('(');
                    }
                    line.complete(start, &word);
                }
                return self.changed(cx);
            }
            // While there are proposals, the arrows choose one; else they are the history's.
            KeyCode::Down | KeyCode::Up => {
                let (_, words) = self.proposals(cx);
                if words.len() > 1 && (press.code == KeyCode::Down || self.proposal > 0) {
                    let last = words.len() - 1;
                    self.proposal = match press.code {
                        KeyCode::Down => (self.proposal + 1).min(last),
                        _ => self.proposal - 1,
                    };
                    return Then::Done;
                }
            }
            _ => {}
        }
        let Some(line) = &mut self.line else { return Then::NotMine };
        match line.press(press, cx.queries) {
            Edit::Changed => self.changed(cx),
            Edit::Moved => Then::Done,
            Edit::NotMine => Then::NotMine,
        }
    }

    fn paste(&mut self, text: &str, cx: &Cx<'_>) -> Then {
        match &mut self.line {
            Some(line) => line.paste(text),
            None => self.line = Some(Line::new(text.trim())),
        }
        self.changed(cx)
    }

    fn has_chart(&self) -> bool {
        true
    }

    fn needs_catalog(&self) -> bool {
        true
    }

    fn cursor(&self) -> Option<i64> {
        self.cursor
    }

    fn set_cursor(&mut self, time_ms: Option<i64>) {
        self.cursor = time_ms;
    }
}
