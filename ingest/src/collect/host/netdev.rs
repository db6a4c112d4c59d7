//! `/proc/net/dev`: traffic by network device.

use kymo_core::FamilyType;

use super::file::{ReadError, Text, fields, integer};
use super::{Gathered, Roots};

/// Columns behind a device's name.
const COLUMNS: [&str; 16] = [
    "receive_bytes",
    "receive_packets",
    "receive_errs",
    "receive_drop",
    "receive_fifo",
    "receive_frame",
    "receive_compressed",
    "receive_multicast",
    "transmit_bytes",
    "transmit_packets",
    "transmit_errs",
    "transmit_drop",
    "transmit_fifo",
    "transmit_colls",
    "transmit_carrier",
    "transmit_compressed",
];
/// Not in the file; `/sys` has it.
const NOT_HANDLED: &str = "receive_nohandler";

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let text = Text::read(roots.proc.join("net/dev"))?;
    let mut push = |column: &str, device: &str, value| {
        let name = format!("node_network_{column}_total");
        let help = format!("Network device statistic {column}.");
        out.family(FamilyType::Counter, &name, &help).push([("device", device)], value);
    };
    // Two lines of headings.
    for line in text.lines().skip(2) {
        let Some((device, numbers)) = line.rsplit_once(':') else {
            return Err(text.wrong("a device and a colon", line));
        };
        let (device, numbers) = (device.trim(), fields(numbers));
        for (at, column) in COLUMNS.into_iter().enumerate() {
            push(column, device, text.number_at(&numbers, at, line)?);
        }
        let not_handled = roots.sys.join("class/net").join(device).join("statistics/rx_nohandler");
        if let Some(packets) = integer(&not_handled) {
            push(NOT_HANDLED, device, packets as f64);
        }
    }
    Ok(())
}
