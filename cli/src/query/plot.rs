//! A range as a chart, printed once.

use kymo_core::query::{QueryRequest, QueryResult};
use kymo_dashboard::terminal::{Look, plot};

use crate::top::{screen_size, unicode, wanted_palette};

/// Lines of the chart, the legend not counted.
const LINES: u16 = 20;

pub(super) fn render(request: &QueryRequest, result: &QueryResult, log: bool) -> String {
    let (width, height) = screen_size().unwrap_or((80, LINES + 4));
    let size = (width.max(40), LINES.min(height.saturating_sub(4)).max(8));
    // Colours are taken out again where there is no terminal.
    plot(&request.text, request.grid, result, Look { size, palette: wanted_palette(), unicode: unicode(), log })
}
