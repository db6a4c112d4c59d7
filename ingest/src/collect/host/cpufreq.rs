//! How fast each processor runs, and may run.

use kymo_core::FamilyType::Gauge;

use super::file::{ReadError, attribute, integer, names_in};
use super::{Gathered, Roots};

/// Frequencies are in kilohertz.
const KILOHERTZ: f64 = 1000.0;

/// File, metric, help.
const FREQUENCIES: [(&str, &str, &str); 6] = [
    ("cpuinfo_cur_freq", "frequency_hertz", "Current CPU thread frequency in hertz."),
    ("cpuinfo_min_freq", "frequency_min_hertz", "Minimum CPU thread frequency in hertz."),
    ("cpuinfo_max_freq", "frequency_max_hertz", "Maximum CPU thread frequency in hertz."),
    ("scaling_cur_freq", "scaling_frequency_hertz", "Current scaled CPU thread frequency in hertz."),
    ("scaling_min_freq", "scaling_frequency_min_hertz", "Minimum scaled CPU thread frequency in hertz."),
    ("scaling_max_freq", "scaling_frequency_max_hertz", "Maximum scaled CPU thread frequency in hertz."),
];

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let all = roots.sys.join("devices/system/cpu");
    for name in names_in(all.clone())? {
        let Some(cpu) = name.strip_prefix("cpu").filter(|cpu| cpu.parse::<u32>().is_ok()) else { continue };
        let dir = all.join(&name).join("cpufreq");
        for (file, metric, help) in FREQUENCIES {
            if let Some(kilohertz) = integer(&dir.join(file)) {
                let value = kilohertz as f64 * KILOHERTZ;
                out.family(Gauge, &format!("node_cpu_{metric}"), help).push([("cpu", cpu)], value);
            }
        }
        let current = attribute(&dir.join("scaling_governor")).unwrap_or_default();
        let governors = attribute(&dir.join("scaling_available_governors")).unwrap_or_default();
        let mut family = out.family(Gauge, "node_cpu_scaling_governor", "Current enabled CPU frequency governor.");
        for governor in governors.split_ascii_whitespace() {
            family.push([("cpu", cpu), ("governor", governor)], f64::from(u8::from(governor == current)));
        }
    }
    Ok(())
}
