//! `/proc/stat` but for the processors' times.

use kymo_core::FamilyType::{self, Counter, Gauge};

use super::file::{ReadError, Text, fields};
use super::{Gathered, Roots};

/// First word of a line, metric of the second, help.
const LINES: [(&str, FamilyType, &str, &str); 6] = [
    ("intr", Counter, "node_intr_total", "Total number of interrupts serviced."),
    ("ctxt", Counter, "node_context_switches_total", "Total number of context switches."),
    ("processes", Counter, "node_forks_total", "Total number of forks."),
    ("btime", Gauge, "node_boot_time_seconds", "Node boot time, in unixtime."),
    ("procs_running", Gauge, "node_procs_running", "Number of processes in runnable state."),
    ("procs_blocked", Gauge, "node_procs_blocked", "Number of processes blocked waiting for I/O to complete."),
];

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let text = Text::read(roots.proc.join("stat"))?;
    for line in text.lines() {
        let word = line.split_ascii_whitespace().next();
        if let Some((_, family_type, name, help)) = LINES.iter().find(|(first, ..)| Some(*first) == word) {
            let value = text.number_at(&fields(line), 1, line)?;
            out.family(*family_type, name, help).push([], value);
        }
    }
    Ok(())
}
