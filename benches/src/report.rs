//! One table of figures, and a line for each that does not exist yet.

use std::fmt;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

/// What a figure should be at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// At the most.
    AtMost(f64),
    /// At the least.
    AtLeast(f64),
    /// At the most this part of the best peer in the same run.
    OfPeer(f64),
    /// At the most this part of the peer of this name in the same run.
    Of(&'static str, f64),
    /// None is set.
    None,
}

/// A figure, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// In the row's unit.
    Of(f64),
    /// In a word or two.
    Missing(String),
}

impl From<f64> for Figure {
    fn from(value: f64) -> Figure {
        Figure::Of(value)
    }
}

impl Figure {
    /// Why there is none.
    pub fn missing(reason: impl Into<String>) -> Figure {
        Figure::Missing(reason.into())
    }

    fn value(&self) -> Option<f64> {
        match self {
            Figure::Of(value) => Some(*value),
            Figure::Missing(_) => None,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Figure::Of(value) => f.write_str(&shown(*value)),
            Figure::Missing(reason) => f.write_str(reason),
        }
    }
}

/// Three digits, as few as that.
fn shown(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        magnitude if magnitude >= 1e7 => format!("{:.1} M", value / 1e6),
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        magnitude if magnitude >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// One question and its answers.
#[derive(Debug, Clone)]
pub struct Row {
    what: String,
    unit: &'static str,
    floor: Option<(&'static str, f64)>,
    peers: Vec<(String, Figure)>,
    ours: Figure,
    goal: Goal,
}

impl Row {
    /// What Kymo costs.
    pub fn new(what: impl Into<String>, unit: &'static str, ours: impl Into<Figure>) -> Row {
        Row { what: what.into(), unit, floor: None, peers: Vec::new(), ours: ours.into(), goal: Goal::None }
    }

    /// What Kymo costs, where the row was made before that was known.
    #[must_use]
    pub fn ours(mut self, figure: Figure) -> Row {
        self.ours = figure;
        self
    }

    /// What the least that could do it costs.
    #[must_use]
    pub fn floor(mut self, what: &'static str, value: f64) -> Row {
        self.floor = Some((what, value));
        self
    }

    /// What another costs.
    #[must_use]
    pub fn peer(mut self, name: impl Into<String>, figure: impl Into<Figure>) -> Row {
        self.peers.push((name.into(), figure.into()));
        self
    }

    /// What it should cost.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Row {
        self.goal = goal;
        self
    }

    /// The best peer's figure: the lowest, or the highest where more is better.
    fn best_peer(&self) -> Option<f64> {
        let values = self.peers.iter().filter_map(|(_, figure)| figure.value());
        match self.goal {
            Goal::AtLeast(_) => values.reduce(f64::max),
            Goal::AtMost(_) | Goal::OfPeer(_) | Goal::Of(..) | Goal::None => values.reduce(f64::min),
        }
    }

    fn ratio(&self, to: Option<f64>) -> String {
        match (self.ours.value(), to) {
            (Some(ours), Some(other)) if other != 0.0 => format!("{:.2}", ours / other),
            _ => String::new(),
        }
    }

    fn verdict(&self) -> String {
        let Some(ours) = self.ours.value() else { return String::new() };
        let (text, is_met) = match self.goal {
            Goal::AtMost(limit) => (format!("≤ {}", shown(limit)), Some(ours <= limit)),
            Goal::AtLeast(limit) => (format!("≥ {}", shown(limit)), Some(ours >= limit)),
            Goal::OfPeer(part) => (format!("≤ {part} × peer"), self.best_peer().map(|best| ours <= part * best)),
            Goal::Of(name, part) => {
                let peer = self.peers.iter().find(|(peer, _)| peer == name).and_then(|(_, figure)| figure.value());
                (format!("≤ {part} × {name}"), peer.map(|peer| ours <= part * peer))
            }
            Goal::None => return String::new(),
        };
        match is_met {
            Some(true) => format!("{text}: met"),
            Some(false) => format!("{text}: missed"),
            None => text,
        }
    }

    fn cells(&self) -> [String; 8] {
        let peers: Vec<String> = self.peers.iter().map(|(name, figure)| format!("{name} {figure}")).collect();
        [
            self.what.clone(),
            self.unit.to_owned(),
            self.floor.map(|(what, value)| format!("{} ({what})", shown(value))).unwrap_or_default(),
            peers.join(", "),
            self.ours.to_string(),
            self.ratio(self.floor.map(|(_, value)| value)),
            self.ratio(self.best_peer()),
            self.verdict(),
        ]
    }
}

/// Everything a run found.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
    later: Vec<(String, String)>,
    failed: Vec<(String, String)>,
}

impl Report {
    /// Adds a row.
    pub fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds a sentence that a reader needs to read the table.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Says that a figure cannot be measured yet, or not here, and why.
    pub fn later(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.later.push((what.into(), why.into()));
    }

    /// Says that something went wrong while it was measured.
    pub fn failed(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.failed.push((what.into(), why.into()));
    }

    /// Whether nothing went wrong.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(["What", "Unit", "Floor", "Peers", "Kymo", "÷ floor", "÷ best peer", "Goal"]);
        for row in &self.rows {
            table.add_row(row.cells());
        }
        for column in 4..=6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        if !self.rows.is_empty() {
            writeln!(f, "{table}")?;
        }
        for note in &self.notes {
            writeln!(f, "\n* {note}")?;
        }
        for (what, why) in &self.later {
            writeln!(f, "\nnot measured: {what}: {why}")?;
        }
        for (what, why) in &self.failed {
            writeln!(f, "\nfailed: {what}: {why}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_held_against_floor_peer_and_goal() {
        let row = Row::new("decode", "ns", 150.0).floor("snap", 50.0).peer("a", 300.0).peer("b", 600.0);
        assert_eq!(
            row.clone().goal(Goal::OfPeer(0.4)).cells()[2..],
            ["50.0 (snap)", "a 300, b 600", "150", "3.00", "0.50", "≤ 0.4 × peer: missed"]
        );
        assert_eq!(row.goal(Goal::AtMost(200.0)).cells()[7], "≤ 200: met");
    }

    #[test]
    fn where_more_is_better_the_best_peer_is_the_highest() {
        let row = Row::new("rate", "M/s", 4.0).peer("a", 1.0).peer("b", 2.0).goal(Goal::AtLeast(5.0));
        assert_eq!(row.cells()[6..], ["2.00", "≥ 5.00: missed"]);
    }

    #[test]
    fn a_missing_figure_is_a_word_and_not_a_number() {
        let row = Row::new("rate", "ms", Figure::missing("error")).peer("a", Figure::missing("no answer"));
        assert_eq!(row.cells()[3..], ["a no answer", "error", "", "", ""]);
    }
}
