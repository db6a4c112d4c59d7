//! Seconds of each processor by mode, from `/proc/stat`; throttling, from `/sys`.

use std::collections::{BTreeMap, BTreeSet};

use kymo_core::FamilyType;

use super::file::{ReadError, Text, fields, integer, names_in};
use super::{Gathered, Roots, USER_HZ};

/// The first columns of a processor's line.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
/// Columns behind them: time in guests, which is in `user` and `nice` too.
const GUEST_MODES: [&str; 2] = ["user", "nice"];
const COLUMNS: usize = MODES.len() + GUEST_MODES.len();
const IDLE: usize = 3;

/// Idle time that falls by more than this means that the processor was taken out and put back, not that the kernel
/// miscounted.
const IDLE_FALL_SECONDS: f64 = 3.0;

/// Remembers the times last seen: the kernel's idle and iowait times fall now and then, which would be a reset to PromQL.
#[derive(Default)]
pub(super) struct Cpu {
    seen: BTreeMap<String, [f64; COLUMNS]>,
}

impl Cpu {
    pub(super) fn read(&mut self, roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
        let text = Text::read(roots.proc.join("stat"))?;
        let mut now = BTreeMap::new();
        for line in text.lines() {
            let fields = fields(line);
            let Some(cpu) = fields.first().and_then(|name| name.strip_prefix("cpu")).filter(|cpu| !cpu.is_empty())
            else {
                continue;
            };
            let mut seconds = [0.0; COLUMNS];
            // Old kernels have fewer columns.
            for (at, field) in fields[1..].iter().take(COLUMNS).enumerate() {
                seconds[at] = text.number(field, line)? / USER_HZ;
            }
            if let Some(seen) = self.seen.get(cpu).filter(|seen| seen[IDLE] - seconds[IDLE] < IDLE_FALL_SECONDS) {
                seconds.iter_mut().zip(seen).for_each(|(now, seen)| *now = now.max(*seen));
            }
            now.insert(cpu.to_owned(), seconds);
        }
        self.seen = now;
        let help = "Seconds the CPUs spent in each mode.";
        let mut family = out.family(FamilyType::Counter, "node_cpu_seconds_total", help);
        for (cpu, seconds) in &self.seen {
            for (mode, seconds) in MODES.iter().zip(seconds) {
                family.push([("cpu", cpu.as_str()), ("mode", mode)], *seconds);
            }
        }
        let help = "Seconds the CPUs spent in guests (VMs) for each mode.";
        let mut family = out.family(FamilyType::Counter, "node_cpu_guest_seconds_total", help);
        for (cpu, seconds) in &self.seen {
            for (mode, seconds) in GUEST_MODES.iter().zip(&seconds[MODES.len()..]) {
                family.push([("cpu", cpu.as_str()), ("mode", mode)], *seconds);
            }
        }
        throttles(roots, out)
    }
}

fn throttles(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let all = roots.sys.join("devices/system/cpu");
    let cpus = match names_in(all.clone()) {
        Err(error) if error.is_absence() => return Ok(()),
        cpus => cpus?,
    };
    let (mut packages, mut cores) = (BTreeSet::new(), BTreeSet::new());
    for cpu in cpus {
        if cpu.strip_prefix("cpu").is_none_or(|number| number.parse::<u32>().is_err()) {
            continue;
        }
        let dir = all.join(cpu);
        let of = |name: &str| integer(&dir.join(name));
        let (Some(package), Some(core)) = (of("topology/physical_package_id"), of("topology/core_id")) else {
            continue;
        };
        let (package, core) = (package.to_string(), core.to_string());
        if let Some(count) = of("thermal_throttle/core_throttle_count")
            && cores.insert((package.clone(), core.clone()))
        {
            let help = "Number of times this CPU core has been throttled.";
            out.family(FamilyType::Counter, "node_cpu_core_throttles_total", help)
                .push([("core", core.as_str()), ("package", package.as_str())], count as f64);
        }
        if let Some(count) = of("thermal_throttle/package_throttle_count")
            && packages.insert(package.clone())
        {
            let help = "Number of times this CPU package has been throttled.";
            out.family(FamilyType::Counter, "node_cpu_package_throttles_total", help)
                .push([("package", package.as_str())], count as f64);
        }
    }
    Ok(())
}
