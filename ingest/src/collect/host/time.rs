//! The clock, and where the kernel takes it from.

use kymo_core::FamilyType::Gauge;

use super::c_library::time_zone;
use super::file::{ReadError, attribute, names_in};
use super::{Gathered, Roots};

pub(super) fn read(roots: &Roots, out: &mut Gathered, now_ms: i64) -> Result<(), ReadError> {
    out.gauge("node_time_seconds", "System time in seconds since epoch (1970).", now_ms as f64 / 1000.0);
    if let Some((zone, offset)) = time_zone(now_ms) {
        let mut family = out.family(Gauge, "node_time_zone_offset_seconds", "System time zone offset in seconds.");
        family.push([("time_zone", zone.as_str())], offset as f64);
    }
    let all = roots.sys.join("devices/system/clocksource");
    let sources = match names_in(all.clone()) {
        Err(error) if error.is_absence() => return Ok(()),
        sources => sources?,
    };
    for name in sources {
        let Some(device) = name.strip_prefix("clocksource") else { continue };
        let words = |file: &str| attribute(&all.join(&name).join(file)).unwrap_or_default();
        for (file, metric, help) in [
            (
                "available_clocksource",
                "node_time_clocksource_available_info",
                "Available clocksources read from '/sys/devices/system/clocksource'.",
            ),
            (
                "current_clocksource",
                "node_time_clocksource_current_info",
                "Current clocksource read from '/sys/devices/system/clocksource'.",
            ),
        ] {
            for source in words(file).split_ascii_whitespace() {
                out.family(Gauge, metric, help).push([("clocksource", source), ("device", device)], 1.0);
            }
        }
    }
    Ok(())
}
