//! `/sys/class/thermal`: temperatures and coolers.

use kymo_core::FamilyType::Gauge;

use super::file::{ReadError, attribute, integer, names_in};
use super::{Gathered, Roots};

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let all = roots.sys.join("class/thermal");
    let names = match names_in(all.clone()) {
        // node_exporter takes a machine without sensors for success here.
        Err(error) if error.is_absence() => return Ok(()),
        names => names?,
    };
    for name in names {
        let dir = all.join(&name);
        let kind = attribute(&dir.join("type")).unwrap_or_default();
        let of = |file: &str| integer(&dir.join(file)).map(|value| value as f64);
        if let Some(zone) = name.strip_prefix("thermal_zone") {
            // A sensor that is asleep gives an error.
            if let Some(thousandths) = of("temp") {
                out.family(Gauge, "node_thermal_zone_temp", "Zone temperature in Celsius")
                    .push([("type", kind.as_str()), ("zone", zone)], thousandths / 1000.0);
            }
        } else if let Some(device) = name.strip_prefix("cooling_device") {
            let labels = [("name", device), ("type", kind.as_str())];
            for (file, help) in [
                ("cur_state", "Current throttle state of the cooling device"),
                ("max_state", "Maximum throttle state of the cooling device"),
            ] {
                if let Some(state) = of(file) {
                    out.family(Gauge, &format!("node_cooling_device_{file}"), help).push(labels, state);
                }
            }
        }
    }
    Ok(())
}
