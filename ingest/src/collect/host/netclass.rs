//! `/sys/class/net`: what every network device is.

use kymo_core::FamilyType::{self, Counter, Gauge};

use super::file::{ReadError, attribute, integer, names_in};
use super::{Gathered, Roots};

/// Attributes: metric, file. A device that does not have one has no sample of it.
const ATTRIBUTES: [(FamilyType, &str, &str); 16] = [
    (Gauge, "address_assign_type", "addr_assign_type"),
    (Gauge, "carrier", "carrier"),
    (Counter, "carrier_changes_total", "carrier_changes"),
    (Counter, "carrier_up_changes_total", "carrier_up_count"),
    (Counter, "carrier_down_changes_total", "carrier_down_count"),
    (Gauge, "device_id", "dev_id"),
    (Gauge, "dormant", "dormant"),
    (Gauge, "flags", "flags"),
    (Gauge, "iface_id", "ifindex"),
    (Gauge, "iface_link", "iflink"),
    (Gauge, "iface_link_mode", "link_mode"),
    (Gauge, "mtu_bytes", "mtu"),
    (Gauge, "name_assign_type", "name_assign_type"),
    (Gauge, "net_dev_group", "netdev_group"),
    (Gauge, "transmit_queue_length", "tx_queue_len"),
    (Gauge, "protocol_type", "type"),
];
/// The flag of a device that an administrator has switched on.
const FLAG_UP: i64 = 1;
/// `speed` is in megabits per second, -1 where it is unknown.
const BITS_PER_MEGABIT: i64 = 1_000_000;

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let devices = roots.sys.join("class/net");
    for device in names_in(devices.clone())? {
        let dir = devices.join(&device);
        // `bonding_masters` is a file.
        if !dir.is_dir() {
            continue;
        }
        let labels = [("device", device.as_str())];
        let text = |name: &str| attribute(&dir.join(name)).unwrap_or_default();
        let state = text("operstate");
        out.family(Gauge, "node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.")
            .push(labels, f64::from(u8::from(state == "up")));
        let admin = match integer(&dir.join("flags")) {
            None => "unknown",
            Some(flags) if flags & FLAG_UP != 0 => "up",
            Some(_) => "down",
        };
        let help = "Non-numeric data from /sys/class/net/<iface>, value is always 1.";
        out.family(Gauge, "node_network_info", help).push(
            [
                ("address", text("address").as_str()),
                ("adminstate", admin),
                ("broadcast", &text("broadcast")),
                ("device", &device),
                ("duplex", &text("duplex")),
                ("ifalias", &text("ifalias")),
                ("operstate", &state),
            ],
            1.0,
        );
        let mut push = |family_type, name: &str, value: i64| {
            let (full, help) = (format!("node_network_{name}"), format!("Network device property: {name}"));
            out.family(family_type, &full, &help).push(labels, value as f64);
        };
        for (family_type, name, file) in ATTRIBUTES {
            if let Some(value) = integer(&dir.join(file)) {
                push(family_type, name, value);
            }
        }
        if let Some(megabits) = integer(&dir.join("speed")) {
            push(Gauge, "speed_bytes", megabits.saturating_mul(BITS_PER_MEGABIT) / 8);
        }
    }
    Ok(())
}
