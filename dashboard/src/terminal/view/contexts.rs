//! The tree of contexts: what a program does and what it waits for, circles marked.

use kymo_core::query::QueryError;
use kymo_core::status::{ContextFinding, ContextState, ContextStatus};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Cx, Slot, Then, View, failure};
use crate::terminal::ask::{Answer, Ask};
use crate::terminal::keys::Action;
use crate::terminal::screen::{Hits, boxed};
use crate::terminal::table::{Cell, Column, Table, TableState, put};
use crate::terminal::text::{Unit, counted, figure, span};
use crate::terminal::theme::Mood;

const COLUMNS: [Column; 6] = [
    Column::wide("CONTEXT"),
    Column::text("STATE", 11),
    Column::figure("AGE", 7),
    Column::figure("REQ/S", 7).from(70),
    Column::figure("REQUESTS", 9).from(90),
    Column { title: "WAITS FOR", width: 34, right: false, from_width: 76 },
];

#[derive(Debug)]
pub(super) struct Contexts {
    /// Parents before children.
    contexts: Vec<ContextStatus>,
    findings: Vec<ContextFinding>,
    error: Option<String>,
    is_known: bool,
    state: TableState,
}

impl Default for Contexts {
    fn default() -> Contexts {
        let state = TableState::unsorted();
        Contexts { contexts: Vec::new(), findings: Vec::new(), error: None, is_known: false, state }
    }
}

/// The pieces of a path: split at dots that no backslash stands before.
fn pieces(path: &str) -> Vec<&str> {
    let (mut pieces, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, char) in path.char_indices() {
        match char {
            '\\' => escaped = !escaped,
            '.' if !escaped => {
                pieces.push(&path[start..at]);
                start = at + 1;
            }
            _ => escaped = false,
        }
    }
    pieces.push(&path[start..]);
    pieces
}

fn mood(state: ContextState) -> Mood {
    match state {
        ContextState::Running | ContextState::Completed => Mood::Good,
        ContextState::Idle | ContextState::Cancelled => Mood::Unknown,
        ContextState::Waiting | ContextState::Cancelling => Mood::Unknown,
        ContextState::Stuck => Mood::Warn,
        ContextState::Deadlocked | ContextState::Failed => Mood::Bad,
    }
}

fn state_name(state: ContextState) -> &'static str {
    match state {
        ContextState::Running => "running",
        ContextState::Idle => "idle",
        ContextState::Waiting => "waiting",
        ContextState::Stuck => "STUCK",
        ContextState::Deadlocked => "DEADLOCKED",
        ContextState::Cancelling => "cancelling",
        ContextState::Completed => "completed",
        ContextState::Failed => "FAILED",
        ContextState::Cancelled => "cancelled",
    }
}

impl Contexts {
    fn shown(&self, cx: &Cx<'_>) -> Vec<&ContextStatus> {
        let wanted = |context: &&ContextStatus| {
            cx.matches(&context.path)
                || cx.matches(state_name(context.state))
                || context.waits.iter().any(|wait| cx.matches(&wait.what))
        };
        self.contexts.iter().filter(wanted).collect()
    }

    /// The context that comes after this one in a circle.
    fn next_in_cycle(&self, path: &str) -> Option<&str> {
        self.findings.iter().filter(|finding| finding.is_cycle).find_map(|finding| {
            let at = finding.contexts.iter().position(|context| context == path)?;
            finding.contexts.get((at + 1) % finding.contexts.len()).map(String::as_str)
        })
    }

    fn cell(&self, context: &ContextStatus, column: usize, cx: &Cx<'_>) -> Cell {
        let theme = cx.theme;
        let mood = mood(context.state);
        match column {
            0 => {
                let pieces = pieces(&context.path);
                let depth = if cx.search.is_empty() { pieces.len() - 1 } else { 0 };
                let branch = if depth > 0 { theme.glyph("└ ", "- ") } else { "" };
                let name = if cx.search.is_empty() { pieces[pieces.len() - 1] } else { &context.path };
                let circle = match context.state {
                    ContextState::Deadlocked => theme.glyph("⟳ ", "@ "),
                    _ => "",
                };
                let indent = "  ".repeat(depth.saturating_sub(1));
                let style = if mood >= Mood::Warn { theme.mood(mood) } else { theme.text() };
                Cell::new(format!("{indent}{branch}{circle}{name}"), style)
            }
            1 => Cell::new(state_name(context.state), theme.mood(mood)),
            2 => Cell::new(span((cx.now_ms - context.started_ms).max(0)), theme.dim()),
            3 => match context.requests {
                Some(requests) if requests.last_second > 0 => {
                    Cell::plain(figure(requests.last_second as f64, Unit::Number))
                }
                _ => Cell::plain(""),
            },
            4 => match context.requests {
                Some(requests) => Cell::new(figure(requests.since_start as f64, Unit::Number), theme.dim()),
                None => Cell::plain(""),
            },
            _ => match context.waits.first() {
                Some(wait) => {
                    let style = if wait.is_stuck { theme.mood(Mood::Bad) } else { theme.dim() };
                    let holder = match (self.next_in_cycle(&context.path), wait.held_by.first()) {
                        (Some(next), _) => format!(", held by {}", pieces(next).last().unwrap_or(&"")),
                        (None, Some(holder)) => format!(", held by {}", pieces(holder).last().unwrap_or(&"")),
                        (None, None) => String::new(),
                    };
                    Cell::new(format!("{} {}{holder}", wait.what, span(wait.waited_ms)), style)
                }
                None => Cell::plain(""),
            },
        }
    }

    /// Everything about one context, a line each.
    fn details(&self, context: &ContextStatus) -> Vec<(String, Mood)> {
        let mut lines = vec![(format!("{}, {}", context.path, counted(context.tasks as usize, "task")), Mood::Good)];
        for wait in &context.waits {
            let held = match wait.held_by.is_empty() {
                true => String::new(),
                false => format!(", held by {}", wait.held_by.join(", ")),
            };
            let mood = if wait.is_stuck { Mood::Bad } else { Mood::Unknown };
            lines.push((format!("waits for {} since {}{held}", wait.what, span(wait.waited_ms)), mood));
        }
        for hold in &context.holds {
            let mood = if hold.waiting > 0 { Mood::Warn } else { Mood::Unknown };
            lines.push((format!("holds {} since {}, {} wait", hold.lock, span(hold.held_ms), hold.waiting), mood));
        }
        if !context.message.is_empty() {
            lines.push((context.message.clone(), Mood::Unknown));
        }
        lines
    }
}

impl View for Contexts {
    fn asks(&self, _: &Cx<'_>) -> Vec<(Slot, Ask)> {
        vec![(0, Ask::Contexts)]
    }

    fn answer(&mut self, _: Slot, answer: Result<Answer, QueryError>, _: &Cx<'_>) {
        self.is_known = true;
        match answer {
            Ok(Answer::Contexts(mut contexts, findings)) => {
                // By pieces, not by bytes: what stands before a dot is above what stands before a dash.
                contexts.sort_by(|a, b| pieces(&a.path).cmp(&pieces(&b.path)));
                (self.contexts, self.findings, self.error) = (contexts, findings, None);
            }
            Ok(_) => {}
            Err(error) => self.error = Some(failure(&error)),
        }
    }

    fn act(&mut self, action: Action, cx: &Cx<'_>) -> Then {
        let shown = self.shown(cx);
        let rows = shown.len();
        if action == Action::Open
            && let Some(next) = shown.get(self.state.chosen).and_then(|context| {
                self.next_in_cycle(&context.path).or_else(|| context.waits.first()?.held_by.first().map(String::as_str))
            })
            && let Some(at) = shown.iter().position(|context| context.path == next)
        {
            // To whoever is in the way.
            self.state.chosen = at;
            return Then::Done;
        }
        let chosen = shown.get(self.state.chosen.min(rows.saturating_sub(1))).map(|context| (*context).clone());
        if self.state.act(action, rows, 1, cx.page()) {
            return Then::Done;
        }
        match (action, chosen) {
            (Action::Copy, Some(context)) => Then::Copy(context.path),
            (Action::CopyRow, Some(context)) => {
                let cells: Vec<String> = (1..COLUMNS.len()).map(|at| self.cell(&context, at, cx).text).collect();
                Then::Copy(format!("{}\t{}", context.path, cells.join("\t")))
            }
            _ => Then::NotMine,
        }
    }

    fn render(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let theme = cx.theme;
        let cycles = self.findings.iter().filter(|finding| finding.is_cycle).count();
        let note = match cycles {
            0 => format!("{} live ", self.contexts.len()),
            1 => format!("{} live, 1 DEADLOCK ", self.contexts.len()),
            _ => format!("{} live, {cycles} DEADLOCKS ", self.contexts.len()),
        };
        let inner = boxed(area, buffer, "Contexts", &note, theme);
        let mut y = inner.y;
        // A finding may have several lines; at most a third of the screen for all.
        let room = inner.y + inner.height / 3;
        for finding in &self.findings {
            let mood = if finding.is_cycle { Mood::Bad } else { Mood::Warn };
            for (number, line) in finding.text.lines().enumerate() {
                if y >= room {
                    break;
                }
                let sign = if number == 0 { theme.sign(mood) } else { " " };
                put(buffer, (inner.x, y, inner.width), &format!("{sign} {line}"), theme.mood(mood), false, theme);
                y += 1;
            }
        }
        let shown = self.shown(cx);
        let chosen = shown.get(self.state.chosen.min(shown.len().saturating_sub(1)));
        let details = chosen.map(|context| self.details(context)).unwrap_or_default();
        let below = (details.len() as u16).min(inner.height / 4);
        let list = Rect { y, height: (inner.bottom() - y).saturating_sub(below), ..inner };
        let empty = match (&self.error, self.is_known) {
            (Some(error), _) => error,
            (None, true) => "no program tells of its contexts here",
            (None, false) => "asking …",
        };
        let table = Table {
            columns: &COLUMNS,
            rows: shown.len(),
            state: Some(&self.state),
            cell: |row, column| self.cell(shown[row], column, cx),
            empty,
            number: 0,
        };
        table.render(list, buffer, theme, hits);
        for (number, (text, mood)) in details.iter().take(usize::from(below)).enumerate() {
            let place = (inner.x, list.bottom() + number as u16, inner.width);
            let style = if number == 0 { theme.accent() } else { theme.mood(*mood) };
            put(buffer, place, text, style, false, theme);
        }
    }

    fn click(&mut self, _: usize, row: usize, cx: &Cx<'_>) -> Then {
        if self.state.chosen == row {
            return self.act(Action::Open, cx);
        }
        self.state.chosen = row;
        Then::Done
    }
}
