//! The metrics browser: names with type, unit and help, and a chart that suits the chosen one.

use kymo_core::METRIC_NAME;
use kymo_core::batch::FamilyType;
use kymo_core::query::{Grid, QueryError, QueryRequest};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::panel::{Look, Panel};
use super::{Catalog, Cx, Slot, Then, View};
use crate::terminal::ask::{Answer, Ask};
use crate::terminal::chart::Kind;
use crate::terminal::keys::Action;
use crate::terminal::promql::quoted;
use crate::terminal::result;
use crate::terminal::screen::{Hits, boxed};
use crate::terminal::services::regex_literal;
use crate::terminal::table::{Cell, Column, Table, TableState, put, window};
use crate::terminal::text::{Unit, figure};

const COUNTS: Slot = 0;
const CHART: Slot = 1;

const COLUMNS: [Column; 4] =
    [Column::wide("METRIC"), Column::text("TYPE", 9), Column::text("UNIT", 8).from(56), Column::figure("SERIES", 6)];

#[derive(Debug)]
pub(super) struct Metrics {
    counts: std::collections::BTreeMap<String, f64>,
    panel: Panel,
    /// What the chart is of; another name's answer is not drawn.
    charted: String,
    state: TableState,
    cursor: Option<i64>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            counts: std::collections::BTreeMap::new(),
            panel: Panel::default(),
            charted: String::new(),
            state: TableState::sorted_by(0, true),
            cursor: None,
        }
    }
}

/// Type, unit and help of a series' name: of its family, whose name may lack the suffix.
fn metadata<'a>(catalog: &'a Catalog, name: &str) -> (FamilyType, &'a str, &'a str) {
    let suffixes = ["", "_bucket", "_count", "_sum", "_total", "_info"];
    let found = suffixes.iter().find_map(|suffix| catalog.metadata.get(name.strip_suffix(suffix)?));
    found.map_or((FamilyType::default(), "", ""), |one| (one.family_type, &*one.unit, &*one.help))
}

/// The expression that suits a metric, its title and unit.
fn suited(catalog: &Catalog, name: &str, window: &str) -> (String, String, Unit) {
    let (family_type, _, _) = metadata(catalog, name);
    let unit = Unit::of_name(name);
    // A name that PromQL would not read is given as a label.
    let selector = match kymo_core::text::is_legacy_metric_name(name) {
        true => name.to_owned(),
        false => format!("{{{}}}", quoted(name)),
    };
    let quantiles = |inner: &str| {
        let one = |q: &str, label: &str| {
            format!("label_replace(histogram_quantile({q}, {inner}), \"q\", \"{label}\", \"\", \"\")")
        };
        [one("0.5", "p50"), one("0.95", "p95"), one("0.99", "p99")].join(" or ")
    };
    if name.ends_with("_bucket") {
        let text = quantiles(&format!("sum by (le) (rate({selector}[{window}]))"));
        return (text, "quantiles".to_owned(), Unit::of_name(name.trim_end_matches("_bucket")));
    }
    let is_part = name.ends_with("_count") || name.ends_with("_sum");
    match family_type {
        FamilyType::Histogram if !is_part => {
            (quantiles(&format!("sum(rate({selector}[{window}]))")), "quantiles".to_owned(), unit)
        }
        FamilyType::Counter => (format!("sum(rate({selector}[{window}]))"), "rate, all series".to_owned(), unit.rate()),
        _ if is_part || name.ends_with("_total") => {
            (format!("sum(rate({selector}[{window}]))"), "rate, all series".to_owned(), unit.rate())
        }
        _ => (format!("topk(8, {selector})"), "largest 8".to_owned(), unit),
    }
}

impl Metrics {
    fn shown<'a>(&self, cx: &Cx<'a>) -> Vec<&'a str> {
        let names = cx.catalog.names.iter();
        let wanted = names.filter(|name| cx.matches(name) || cx.matches(metadata(cx.catalog, name).2));
        let mut shown: Vec<&str> = wanted.map(String::as_str).collect();
        let (column, descending) = self.state.sort;
        match column {
            0 if !descending => shown.reverse(),
            1 | 2 => shown.sort_by_key(|name| {
                let (family_type, unit, _) = metadata(cx.catalog, name);
                if column == 1 { family_type.as_str().to_owned() } else { unit.to_owned() }
            }),
            3 => {
                let count = |name: &str| self.counts.get(name).copied().unwrap_or(-1.0);
                shown.sort_by(|a, b| count(b).total_cmp(&count(a)));
                if !descending {
                    shown.reverse();
                }
            }
            _ => {}
        }
        shown
    }

    fn chosen<'a>(&self, cx: &Cx<'a>) -> Option<&'a str> {
        let shown = self.shown(cx);
        shown.get(self.state.chosen.min(shown.len().saturating_sub(1))).copied()
    }
}

impl View for Metrics {
    fn asks(&self, cx: &Cx<'_>) -> Vec<(Slot, Ask)> {
        let shown = self.shown(cx);
        let visible = window(self.state.chosen, shown.len(), cx.page());
        let names: Vec<String> = shown[visible].iter().map(|name| regex_literal(name)).collect();
        let mut asks = Vec::new();
        if !names.is_empty() {
            let text = format!("count by ({METRIC_NAME}) ({{{METRIC_NAME}=~{}}})", quoted(&names.join("|")));
            asks.push((COUNTS, Ask::Query(QueryRequest::new(text, Grid::Instant { at_ms: cx.now_ms }))));
        }
        if let Some(name) = self.chosen(cx) {
            asks.extend(Panel::asks(CHART, &suited(cx.catalog, name, cx.window).0, cx));
        }
        asks
    }

    fn answer(&mut self, slot: Slot, answer: Result<Answer, QueryError>, cx: &Cx<'_>) {
        match (slot, answer) {
            (COUNTS, Ok(Answer::Query(answered))) => {
                self.counts.extend(result::by_label(&answered, METRIC_NAME));
            }
            (slot, answer) if Panel::slot(slot) == CHART => {
                self.charted = self.chosen(cx).unwrap_or_default().to_owned();
                self.panel.take(slot, &answer, cx);
            }
            _ => {}
        }
    }

    fn act(&mut self, action: Action, cx: &Cx<'_>) -> Then {
        let rows = self.shown(cx).len();
        if self.state.act(action, rows, COLUMNS.len(), cx.page()) {
            return Then::Ask;
        }
        let Some(name) = self.chosen(cx) else { return Then::NotMine };
        match action {
            Action::Open => Then::Explore(suited(cx.catalog, name, cx.window).0),
            Action::Copy => Then::Copy(name.to_owned()),
            Action::CopyRow => {
                let (family_type, unit, help) = metadata(cx.catalog, name);
                Then::Copy(format!("{name}\t{}\t{unit}\t{help}", family_type.as_str()))
            }
            _ => Then::NotMine,
        }
    }

    fn render(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let shown = self.shown(cx);
        let note = format!("{} of {} ", shown.len(), cx.catalog.names.len());
        let wide = area.width >= 110;
        let (left, right) = if wide {
            let half = area.width * 9 / 20;
            (Rect { width: half, ..area }, Rect { x: area.x + half, width: area.width - half, ..area })
        } else {
            let half = area.height * 9 / 20;
            (Rect { height: half, ..area }, Rect { y: area.y + half, height: area.height - half, ..area })
        };
        let inner = boxed(left, buffer, "Metrics", &note, cx.theme);
        let table = Table {
            columns: &COLUMNS,
            rows: shown.len(),
            state: Some(&self.state),
            cell: |row, column| {
                let name = shown[row];
                let (family_type, unit, _) = metadata(cx.catalog, name);
                match column {
                    0 => Cell::plain(name),
                    1 => Cell::new(family_type.as_str(), cx.theme.dim()),
                    2 => Cell::new(unit, cx.theme.dim()),
                    _ => Cell::plain(self.counts.get(name).map(|n| figure(*n, Unit::Number)).unwrap_or_default()),
                }
            },
            empty: if cx.catalog.is_known { "no metric of this name" } else { "asking …" },
            number: 0,
        };
        table.render(inner, buffer, cx.theme, hits);
        let Some(name) = self.chosen(cx) else { return };
        let (family_type, unit_name, help) = metadata(cx.catalog, name);
        let (text, title, unit) = suited(cx.catalog, name, cx.window);
        let inner = boxed(right, buffer, name, &format!("{title} "), cx.theme);
        if inner.height < 4 {
            return;
        }
        let kind = match unit_name {
            "" => family_type.as_str().to_owned(),
            unit => format!("{}, {unit}", family_type.as_str()),
        };
        let first = if help.is_empty() { kind } else { format!("{kind}: {help}") };
        put(buffer, (inner.x, inner.y, inner.width), &first, cx.theme.dim(), false, cx.theme);
        put(buffer, (inner.x, inner.y + 1, inner.width), &text, cx.theme.accent(), false, cx.theme);
        let place = Rect { y: inner.y + 2, height: inner.height - 2, ..inner };
        if self.charted == name {
            let look = Look { legend: 3, cursor: self.cursor, ..Look::new("", unit, Kind::Lines) };
            self.panel.render_bare(place, buffer, &look, cx, hits);
        } else {
            put(buffer, (place.x, place.y, place.width), "asking …", cx.theme.dim(), false, cx.theme);
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
        Then::Ask
    }

    fn click_heading(&mut self, _: usize, column: usize) {
        self.state.sort_by(column);
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
