//! The machine, by the metrics of node_exporter, which Kymo's own collector speaks.

use kymo_core::query::QueryError;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::panel::{Look, Panel};
use super::{Cx, Slot, Then, View};
use crate::terminal::ask::{Answer, Ask};
use crate::terminal::chart::Kind;
use crate::terminal::keys::Action;
use crate::terminal::screen::Hits;
use crate::terminal::text::Unit;

/// Share of processor time that is not idle, over all machines.
pub(super) const CPU_BUSY: &str = "1 - avg(rate(node_cpu_seconds_total{mode=\"idle\"}[WINDOW]))";
/// Share of memory that is used.
pub(super) const MEMORY_USED: &str = "1 - sum(node_memory_MemAvailable_bytes) / sum(node_memory_MemTotal_bytes)";
/// Bytes over the network each second, both ways.
pub(super) const NETWORK_BOTH: &str = "sum(rate(node_network_receive_bytes_total{device!=\"lo\"}[WINDOW])) + \
                                       sum(rate(node_network_transmit_bytes_total{device!=\"lo\"}[WINDOW]))";

/// Title, unit, kind, expression.
const PANELS: [(&str, Unit, Kind, &str); 6] = [
    (
        "CPU by mode",
        Unit::Ratio,
        Kind::Stacked,
        "sum by (mode) (rate(node_cpu_seconds_total{mode!=\"idle\"}[WINDOW])) \
         / ignoring (mode) group_left count(count by (cpu, instance) (node_cpu_seconds_total))",
    ),
    (
        "Memory",
        Unit::Bytes,
        Kind::Areas,
        "sum by (use) (label_replace(node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes, \"use\", \"used\", \"\", \"\")) \
         or sum by (use) (label_replace(node_memory_MemTotal_bytes, \"use\", \"total\", \"\", \"\"))",
    ),
    ("Load", Unit::Number, Kind::Lines, "sum by (__name__) ({__name__=~\"node_load1|node_load5|node_load15\"})"),
    (
        "Network in and out",
        Unit::BytesPerSecond,
        Kind::Lines,
        "sum by (way) (label_replace(rate(node_network_receive_bytes_total{device!=\"lo\"}[WINDOW]), \"way\", \"in\", \"\", \"\")) \
         or sum by (way) (label_replace(rate(node_network_transmit_bytes_total{device!=\"lo\"}[WINDOW]), \"way\", \"out\", \"\", \"\"))",
    ),
    (
        "Disk read and written",
        Unit::BytesPerSecond,
        Kind::Lines,
        "sum by (way) (label_replace(rate(node_disk_read_bytes_total[WINDOW]), \"way\", \"read\", \"\", \"\")) \
         or sum by (way) (label_replace(rate(node_disk_written_bytes_total[WINDOW]), \"way\", \"written\", \"\", \"\"))",
    ),
    (
        "File systems, share used",
        Unit::Ratio,
        Kind::Lines,
        "max by (mountpoint) (1 - node_filesystem_avail_bytes{fstype!~\"tmpfs|overlay|squashfs\"} \
         / node_filesystem_size_bytes{fstype!~\"tmpfs|overlay|squashfs\"})",
    ),
];

#[derive(Debug, Default)]
pub(super) struct Host {
    panels: [Panel; 6],
    /// The panel whose expression is copied or explored.
    chosen: usize,
    cursor: Option<i64>,
}

impl View for Host {
    fn asks(&self, cx: &Cx<'_>) -> Vec<(Slot, Ask)> {
        let asks = |(number, (_, _, _, text)): (usize, &(&str, Unit, Kind, &str))| {
            Panel::asks(number as Slot, &text.replace("WINDOW", cx.window), cx).collect::<Vec<_>>()
        };
        PANELS.iter().enumerate().flat_map(asks).collect()
    }

    fn answer(&mut self, slot: Slot, answer: Result<Answer, QueryError>, cx: &Cx<'_>) {
        if let Some(panel) = self.panels.get_mut(Panel::slot(slot) as usize) {
            panel.take(slot, &answer, cx);
        }
    }

    fn act(&mut self, action: Action, cx: &Cx<'_>) -> Then {
        let text = PANELS[self.chosen].3.replace("WINDOW", cx.window);
        match action {
            Action::Left | Action::Up => self.chosen = self.chosen.saturating_sub(1),
            Action::Right | Action::Down => self.chosen = (self.chosen + 1).min(PANELS.len() - 1),
            Action::Open => return Then::Explore(text),
            Action::Copy | Action::CopyRow => return Then::Copy(text),
            _ => return Then::NotMine,
        }
        Then::Done
    }

    fn render(&self, area: Rect, buffer: &mut Buffer, cx: &Cx<'_>, hits: &mut Hits) {
        let columns: u16 = if area.width >= 160 { 3 } else { 2 };
        let rows = 6 / columns;
        let (width, height) = (area.width / columns, area.height / rows);
        for (number, (title, unit, kind, _)) in PANELS.iter().enumerate() {
            let (column, row) = (number as u16 % columns, number as u16 / columns);
            let x = area.x + column * width;
            let y = area.y + row * height;
            let place = Rect {
                x,
                y,
                width: if column + 1 == columns { area.right() - x } else { width },
                height: if row + 1 == rows { area.bottom() - y } else { height },
            };
            let marked = format!("{}{title}", if number == self.chosen { cx.theme.glyph("▸ ", "> ") } else { "" });
            let look = Look { legend: 2, cursor: self.cursor, ..Look::new(&marked, *unit, *kind) };
            self.panels[number].render(place, buffer, &look, cx, hits);
        }
    }

    fn has_chart(&self) -> bool {
        true
    }

    fn cursor(&self) -> Option<i64> {
        self.cursor
    }

    fn set_cursor(&mut self, time_ms: Option<i64>) {
        self.cursor = time_ms;
    }
}
