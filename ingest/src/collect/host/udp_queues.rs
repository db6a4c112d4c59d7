//! Bytes that wait in UDP sockets: `/proc/net/udp` and `udp6`.

use kymo_core::FamilyType;

use super::file::{ReadError, Text, fields};
use super::{Gathered, Roots};

/// The file's column `tx_queue:rx_queue`.
const QUEUES: usize = 4;

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    for (file, ip) in [("net/udp", "v4"), ("net/udp6", "v6")] {
        let Some(text) = Text::read_if_there(roots.proc.join(file))? else { continue };
        let (mut sent, mut received) = (0.0, 0.0);
        for line in text.lines().skip(1) {
            let queues = fields(line).get(QUEUES).and_then(|queues| queues.split_once(':'));
            let (tx, rx) = queues.ok_or_else(|| text.wrong("tx_queue:rx_queue", line))?;
            sent += text.hex(tx, line)?;
            received += text.hex(rx, line)?;
        }
        let help = "Number of allocated memory in the kernel for UDP datagrams in bytes.";
        let mut family = out.family(FamilyType::Gauge, "node_udp_queues", help);
        family.push([("ip", ip), ("queue", "rx")], received);
        family.push([("ip", ip), ("queue", "tx")], sent);
    }
    Ok(())
}
