//! `/proc/net/softnet_stat`: packets by the processor that took them in.

use kymo_core::FamilyType::{self, Counter, Gauge};

use super::file::{ReadError, Text, fields};
use super::{Gathered, Roots};

/// Place in a processor's line, metric, help. Older kernels have fewer columns.
const COLUMNS: [(usize, FamilyType, &str, &str); 7] = [
    (0, Counter, "processed_total", "Number of processed packets"),
    (1, Counter, "dropped_total", "Number of dropped packets"),
    (2, Counter, "times_squeezed_total", "Number of times processing packets ran out of quota"),
    (8, Counter, "cpu_collision_total", "Number of collision occur while obtaining device lock while transmitting"),
    (9, Counter, "received_rps_total", "Number of times cpu woken up received_rps"),
    (10, Counter, "flow_limit_count_total", "Number of times flow limit has been reached"),
    (11, Gauge, "backlog_len", "Softnet backlog status"),
];
/// The processor's own number; before Linux 5.10 the lines are in its order, without gaps.
const CPU: usize = 12;

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let text = Text::read(roots.proc.join("net/softnet_stat"))?;
    for (number, line) in text.lines().enumerate() {
        let fields = fields(line);
        let cpu = match fields.get(CPU) {
            Some(cpu) => text.hex(cpu, line)?.to_string(),
            None => number.to_string(),
        };
        for (at, family_type, name, help) in COLUMNS {
            let value = fields.get(at).map_or(Ok(0.0), |field| text.hex(field, line))?;
            out.family(family_type, &format!("node_softnet_{name}"), help).push([("cpu", cpu.as_str())], value);
        }
    }
    Ok(())
}
