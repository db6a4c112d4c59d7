//! `/proc/pressure`: time lost to waiting for processors, memory and disks.

use super::file::{ReadError, Text, fields};
use super::{Gathered, Roots};

/// File, line, metric, help. Kernels without interrupt accounting have no `irq`.
const TOTALS: [(&str, &str, &str, &str); 6] = [
    ("cpu", "some", "cpu_waiting", "Total time in seconds that processes have waited for CPU time"),
    ("io", "some", "io_waiting", "Total time in seconds that processes have waited due to IO congestion"),
    ("io", "full", "io_stalled", "Total time in seconds no process could make progress due to IO congestion"),
    ("memory", "some", "memory_waiting", "Total time in seconds that processes have waited for memory"),
    (
        "memory",
        "full",
        "memory_stalled",
        "Total time in seconds no process could make progress due to memory congestion",
    ),
    ("irq", "full", "irq_stalled", "Total time in seconds no process could make progress due to IRQ congestion"),
];

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    for (file, kind, name, help) in TOTALS {
        let path = roots.proc.join("pressure").join(file);
        let text = match file {
            "irq" => match Text::read_if_there(path)? {
                Some(text) => text,
                None => continue,
            },
            _ => Text::read(path)?,
        };
        for line in text.lines() {
            let fields = fields(line);
            if fields.first() != Some(&kind) {
                continue;
            }
            let total = fields.iter().find_map(|field| field.strip_prefix("total="));
            // Microseconds; divided twice as node_exporter does, for the same bits.
            let seconds = text.number(total.unwrap_or_default(), line)? / 1000.0 / 1000.0;
            out.counter(&format!("node_pressure_{name}_seconds_total"), help, seconds);
        }
    }
    Ok(())
}
