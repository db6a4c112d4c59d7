//! `/sys/class/hwmon`: temperatures, fans, voltages and power, by chip and sensor.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kymo_core::FamilyType::{self, Counter, Gauge};

use super::file::{ReadError, attribute, names_in};
use super::{Gathered, Roots};

/// Kinds of sensors; other files are something else.
const KINDS: [&str; 14] = [
    "beep_enable",
    "cpu",
    "curr",
    "energy",
    "fan",
    "freq",
    "humidity",
    "in",
    "intrusion",
    "power",
    "pwm",
    "temp",
    "update_interval",
    "vrm",
];

const MILLI: f64 = 0.001;
const MICRO: f64 = 1_000_000.0;

/// The properties of one sensor, by what stands behind its number: `temp1_max` is the property `max` of `temp1`.
#[derive(Default)]
struct Sensor {
    kind: String,
    properties: BTreeMap<String, String>,
}

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let all = roots.sys.join("class/hwmon");
    for name in names_in(all.clone())? {
        let dir = all.join(name);
        let chip = chip(&dir);
        if let Some(name) = attribute(&dir.join("name")).map(|name| cleaned(&name)).filter(|name| !name.is_empty()) {
            out.family(Gauge, "node_hwmon_chip_names", "Annotation metric for human-readable chip names")
                .push([("chip", chip.as_str()), ("chip_name", name.as_str())], 1.0);
        }
        let mut sensors = BTreeMap::new();
        collect(&dir, &mut sensors)?;
        let device = dir.join("device");
        if device.is_dir() {
            collect(&device, &mut sensors)?;
        }
        for (name, sensor) in &sensors {
            push(out, &chip, name, sensor);
        }
    }
    Ok(())
}

/// Reads the files of sensors in a directory.
fn collect(dir: &Path, sensors: &mut BTreeMap<String, Sensor>) -> Result<(), ReadError> {
    for file in names_in(dir.to_owned())? {
        let Some((kind, number, property)) = parts(&file) else { continue };
        // A sensor that is asleep or broken says so by an error.
        let Some(value) = attribute(&dir.join(&file)) else { continue };
        let sensor = sensors.entry(format!("{kind}{number}")).or_default();
        kind.clone_into(&mut sensor.kind);
        sensor.properties.insert(property.to_owned(), value);
    }
    Ok(())
}

/// Kind, number (0 without one) and property of a sensor's file.
fn parts(file: &str) -> Option<(&str, u32, &str)> {
    let digit = file.find(|c: char| c.is_ascii_digit());
    let Some(digit) = digit else {
        return KINDS.contains(&file).then_some((file, 0, ""));
    };
    let (kind, rest) = file.split_at(digit);
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, rest) = rest.split_at(end);
    let property = if rest.is_empty() { "" } else { rest.strip_prefix('_').filter(|name| !name.is_empty())? };
    KINDS.contains(&kind).then_some((kind, number.parse().ok()?, property))
}

fn push(out: &mut Gathered, chip: &str, name: &str, sensor: &Sensor) {
    let labels = [("chip", chip), ("sensor", name)];
    if let Some(label) = sensor.properties.get("label").filter(|label| !label.is_empty()) {
        out.family(Gauge, "node_hwmon_sensor_label", "Label for given chip and sensor")
            .push([("chip", chip), ("label", label), ("sensor", name)], 1.0);
    }
    for (property, text) in &sensor.properties {
        if property == "label" {
            continue;
        }
        let Ok(value) = text.parse::<f64>() else { continue };
        let has_plain = sensor.properties.contains_key("");
        let (family_type, metric, help, value) = metric(&sensor.kind, property, has_plain, value);
        out.family(family_type, &metric, &help).push(labels, value);
    }
}

/// What a property is called, and its value in the unit of that name.
fn metric(kind: &str, property: &str, has_plain: bool, value: f64) -> (FamilyType, String, String, f64) {
    let gauge = |name: &str, help: &str, value| (Gauge, format!("node_hwmon_{name}"), help.to_owned(), value);
    match kind {
        "beep_enable" => return gauge("beep_enabled", "Hardware beep enabled", f64::from(u8::from(value == 1.0))),
        "vrm" => return gauge("voltage_regulator_version", "Hardware voltage regulator", value),
        "update_interval" => {
            return gauge("update_interval_seconds", "Hardware monitor update interval", value * MILLI);
        }
        _ => {}
    }
    let name = match property {
        "" => kind.to_owned(),
        // The sensor's value itself, unless a file without property is.
        "input" if !has_plain => kind.to_owned(),
        _ => format!("{kind}_{}", cleaned(property)),
    };
    let with = |unit: &str, what: &str, value| gauge(&format!("{name}{unit}"), &format!("{what} ({property})"), value);
    match (kind, property) {
        (_, "fault" | "alarm") => gauge(&name, &format!("Hardware sensor {property} status ({kind})"), value),
        (_, "beep") => gauge(&format!("{name}_enabled"), "Hardware monitor sensor has beeping enabled", value),
        ("in" | "cpu", _) => with("_volts", "Hardware monitor for voltage", value * MILLI),
        ("temp", property) if property != "type" => with("_celsius", "Hardware monitor for temperature", value * MILLI),
        ("curr", _) => with("_amps", "Hardware monitor for current", value * MILLI),
        ("energy", _) => {
            let (_, name, help, value) = with("_joule_total", "Hardware monitor for joules used so far", value / MICRO);
            (Counter, name, help, value)
        }
        ("power", "accuracy") => gauge(&name, "Hardware monitor power meter accuracy, as a ratio", value / MICRO),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            with("_seconds", "Hardware monitor power usage update interval", value * MILLI)
        }
        ("power", _) => with("_watt", "Hardware monitor for power usage in watts", value / MICRO),
        ("humidity", _) => with(
            "",
            "Hardware monitor for humidity, as a ratio (multiply with 100.0 to get the humidity as a percentage)",
            value / MICRO,
        ),
        ("fan", "input" | "min" | "max" | "target") => {
            with("_rpm", "Hardware monitor for fan revolutions per minute", value)
        }
        ("freq", "input") => with("_freq_mhz", "Hardware monitor for GPU frequency in MHz", value / MICRO),
        _ => gauge(&name, &format!("Hardware monitor {kind} element {property}"), value),
    }
}

/// A name for a chip that stays the same when modules are loaded in another order: its place in the machine, else what it
/// says of itself, else its directory.
fn chip(dir: &Path) -> String {
    if let Ok(device) = fs::canonicalize(dir.join("device")) {
        let part = |path: Option<&Path>| {
            path.and_then(Path::file_name).map(|name| cleaned(&name.to_string_lossy())).unwrap_or_default()
        };
        let (name, kind) = (part(Some(&device)), part(device.parent()));
        if !name.is_empty() {
            return if kind.is_empty() { name } else { format!("{kind}_{name}") };
        }
    }
    let name = attribute(&dir.join("name")).map(|name| cleaned(&name)).unwrap_or_default();
    if !name.is_empty() {
        return name;
    }
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    dir.file_name().map(|name| cleaned(&name.to_string_lossy())).unwrap_or_default()
}

/// In small letters, with `_` for what cannot stand in a metric's name.
fn cleaned(name: &str) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | ':' | '_') => c,
        _ => '_',
    };
    name.chars().map(plain).collect::<String>().trim_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_taken_apart() {
        assert_eq!(parts("temp1_input"), Some(("temp", 1, "input")));
        assert_eq!(parts("power12_average_interval"), Some(("power", 12, "average_interval")));
        assert_eq!(parts("pwm3"), Some(("pwm", 3, "")));
        assert_eq!(parts("beep_enable"), Some(("beep_enable", 0, "")));
        for other in ["name", "uevent", "temp_input", "temp1input", "temp1_", "subsystem", "tempo1_input"] {
            assert_eq!(parts(other), None, "{other}");
        }
    }

    #[test]
    fn values_are_in_the_unit_of_their_name() {
        let of = |kind, property, has_plain, value| {
            let (family_type, name, _, value) = metric(kind, property, has_plain, value);
            (family_type, name, value)
        };
        for (kind, property, value, name, wanted) in [
            ("temp", "input", 45_000.0, "node_hwmon_temp_celsius", 45.0),
            ("temp", "crit_alarm", 0.0, "node_hwmon_temp_crit_alarm_celsius", 0.0),
            ("temp", "alarm", 1.0, "node_hwmon_temp_alarm", 1.0),
            ("temp", "type", 4.0, "node_hwmon_temp_type", 4.0),
            ("in", "min", 1_500.0, "node_hwmon_in_min_volts", 1.5),
            ("fan", "input", 1_200.0, "node_hwmon_fan_rpm", 1_200.0),
            ("fan", "pulses", 2.0, "node_hwmon_fan_pulses", 2.0),
            ("power", "average", 2_500_000.0, "node_hwmon_power_average_watt", 2.5),
            ("curr", "input", 500.0, "node_hwmon_curr_amps", 0.5),
            ("update_interval", "", 2_000.0, "node_hwmon_update_interval_seconds", 2.0),
        ] {
            assert_eq!(of(kind, property, false, value), (Gauge, name.to_owned(), wanted));
        }
        let energy = (Counter, "node_hwmon_energy_joule_total".to_owned(), 3.0);
        assert_eq!(of("energy", "input", false, 3_000_000.0), energy);
        assert_eq!(of("fan", "input", true, 7.0).1, "node_hwmon_fan_input_rpm");
    }
}
