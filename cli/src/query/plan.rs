//! The plan of a query as a tree: what each node was expected to cost, and what it did.

use comfy_table::{CellAlignment, Table, presets};
use kymo_core::query::PlanNode;
use kymo_core::text::write_size;

/// One line a node, estimates first: `≈ 16 → 15`.
pub(super) fn render(root: &PlanNode) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["PLAN", "TIER", "STEPS", "SERIES", "SAMPLES", "BYTES", "MEMORY", "TIME"]);
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if number >= 2 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    // Nodes still to be shown, the next one last; with the lines to their left.
    let mut nodes = vec![(root, String::new(), "")];
    while let Some((node, before, own)) = nodes.pop() {
        let (estimated, actual) = (&node.estimated, &node.actual);
        let is_read = estimated.samples > 0 || actual.samples > 0;
        table.add_row([
            format!("{before}{own}{}", node.operation),
            node.tier.map(|tier| tier.as_str().to_owned()).unwrap_or_default(),
            node.steps.to_string(),
            both(estimated.series, actual.series, |count| count.to_string()),
            if is_read { both(estimated.samples, actual.samples, |count| count.to_string()) } else { String::new() },
            if is_read { both(estimated.bytes, actual.bytes, size) } else { String::new() },
            both(estimated.memory_bytes, actual.memory_bytes, size),
            format!("{:.3} ms", node.time.as_secs_f64() * 1e3),
        ]);
        let below = match own {
            "" => before,
            "└─ " => before + "   ",
            _ => before + "│  ",
        };
        for (number, input) in node.inputs.iter().enumerate().rev() {
            let own = if number + 1 == node.inputs.len() { "└─ " } else { "├─ " };
            nodes.push((input, below.clone(), own));
        }
    }
    let text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    text + "\nEach figure: expected before anything was read → found.\n"
}

fn both(estimated: u64, actual: u64, text: impl Fn(u64) -> String) -> String {
    format!("{} → {}", text(estimated), text(actual))
}

fn size(bytes: u64) -> String {
    // Below a tenth of a unit nobody looks.
    let rounded = match bytes {
        0..1024 => return format!("{bytes}B"),
        1024..1_048_576 => bytes / 1024 * 1024,
        _ => bytes / 1_048_576 * 1_048_576,
    };
    let mut text = String::new();
    write_size(&mut text, rounded);
    text
}
