//! `/proc/net/arp`: neighbours by device.

use std::collections::BTreeMap;

use kymo_core::FamilyType;

use super::file::{ReadError, Text, fields};
use super::{Gathered, Roots};

/// The file's column of the device.
const DEVICE: usize = 5;

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let text = Text::read(roots.proc.join("net/arp"))?;
    let mut entries: BTreeMap<&str, u32> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let device = fields(line).get(DEVICE).copied().ok_or_else(|| text.wrong("six columns", line))?;
        *entries.entry(device).or_default() += 1;
    }
    let mut family = out.family(FamilyType::Gauge, "node_arp_entries", "ARP entries by device");
    for (device, count) in entries {
        family.push([("device", device)], f64::from(count));
    }
    Ok(())
}
