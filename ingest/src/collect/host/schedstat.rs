//! `/proc/schedstat`: what the scheduler gave to processes, by processor.

use kymo_core::FamilyType;

use super::file::{ReadError, Text, fields};
use super::{Gathered, Roots};

const NANOSECOND: f64 = 1e9;

/// Place in a processor's line, metric, divisor, help.
const COLUMNS: [(usize, &str, f64, &str); 3] = [
    (7, "running_seconds_total", NANOSECOND, "Number of seconds CPU spent running a process."),
    (8, "waiting_seconds_total", NANOSECOND, "Number of seconds spent by processing waiting for this CPU."),
    (9, "timeslices_total", 1.0, "Number of timeslices executed by CPU."),
];

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let text = Text::read(roots.proc.join("schedstat"))?;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("cpu") else { continue };
        let fields = fields(rest);
        let cpu = fields.first().copied().unwrap_or_default();
        for (at, name, divisor, help) in COLUMNS {
            let value = text.number_at(&fields, at, line)? / divisor;
            out.family(FamilyType::Counter, &format!("node_schedstat_{name}"), help).push([("cpu", cpu)], value);
        }
    }
    Ok(())
}
