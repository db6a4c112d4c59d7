//! The standard `process_*` metrics of this process, under the names, units and help of Prometheus' client libraries.

use std::fs;
use std::sync::Arc;

use kymo_core::metric::{MetricKind, MetricType};
use kymo_core::registry::{FamilySnapshot, SeriesSnapshot};

use super::host::{Roots, USER_HZ};

/// Reads the own entry of `/proc`.
#[derive(Debug, Clone)]
pub struct Process {
    roots: Roots,
}

impl Process {
    /// The process as `roots.proc`'s `self` shows it.
    #[must_use]
    pub fn new(roots: Roots) -> Process {
        Process { roots }
    }

    /// What can be read now, families by name: for the engine, and for a `/metrics` page.
    #[must_use]
    pub fn families(&self) -> Vec<FamilySnapshot> {
        let read = |name: &str| fs::read_to_string(self.roots.proc.join(name)).ok();
        let stat = read("self/stat").and_then(|text| Stat::parse(&text));
        let boot = read("stat").and_then(|text| boot_seconds(&text));
        let open = fs::read_dir(self.roots.proc.join("self/fd")).ok().map(|entries| entries.count() as f64);
        let max = read("self/limits").and_then(|text| open_files_max(&text));
        let seconds = |ticks: u64| ticks as f64 / USER_HZ;
        let of = |value: fn(&Stat) -> u64| stat.as_ref().map(value);
        let gauge = MetricKind::Gauge;
        let found = [
            (
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
                "seconds",
                MetricKind::Counter,
                of(|stat| stat.user_ticks + stat.system_ticks).map(seconds),
            ),
            ("process_max_fds", "Maximum number of open file descriptors.", "", gauge, max),
            (
                "process_open_fds",
                "Number of open file descriptors.",
                "",
                gauge,
                // The directory that was being read is one of them.
                open.map(|count| (count - 1.0).max(0.0)),
            ),
            (
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
                "bytes",
                gauge,
                of(|stat| stat.resident_pages).map(|pages| pages as f64 * rustix::param::page_size() as f64),
            ),
            (
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
                "seconds",
                gauge,
                of(|stat| stat.start_ticks).map(seconds).zip(boot).map(|(since_boot, boot)| boot + since_boot),
            ),
            ("process_threads", "Number of OS threads in the process.", "", gauge, of(|s| s.threads).map(|n| n as f64)),
            (
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
                "bytes",
                gauge,
                of(|stat| stat.virtual_bytes).map(|bytes| bytes as f64),
            ),
        ];
        let families = found.into_iter().filter_map(|(name, help, unit, kind, value)| {
            let value = match (kind, value?) {
                (MetricKind::Counter, value) => MetricType::Counter { value, exemplars: None },
                (_, value) => MetricType::Gauge { value },
            };
            Some(FamilySnapshot {
                name: name.to_owned(),
                kind,
                unit: unit.to_owned(),
                help: help.to_owned(),
                series: vec![SeriesSnapshot { labels: Arc::new([]), value }],
            })
        });
        families.collect()
    }
}

/// Fields of `/proc/self/stat`, see proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    user_ticks: u64,
    system_ticks: u64,
    threads: u64,
    /// Since the machine's start.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The program's name is in parentheses and may hold anything, parentheses and spaces included.
        let (_, behind) = text.rsplit_once(')')?;
        let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
        // The page numbers fields from 1; the first behind the name is number 3.
        let field = |number: usize| fields.get(number - 3)?.parse().ok();
        Some(Stat {
            user_ticks: field(14)?,
            system_ticks: field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

fn boot_seconds(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The soft limit; an unlimited one is what the largest number stands for, as in Go's clients.
fn open_files_max(limits: &str) -> Option<f64> {
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_ascii_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX as f64) } else { soft.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_hides_no_field() {
        let text =
            "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 3 4 20 0 12 0 900 4096000 321 18446744073709551615";
        let wanted = Stat {
            user_ticks: 250,
            system_ticks: 50,
            threads: 12,
            start_ticks: 900,
            virtual_bytes: 4_096_000,
            resident_pages: 321,
        };
        assert_eq!(Stat::parse(text), Some(wanted));
        assert_eq!(Stat::parse("7 (a) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn limits_may_be_unlimited_or_absent() {
        let line =
            |soft: &str| format!("Limit  Soft Hard Units\nMax open files            {soft}     524288   files\n");
        assert_eq!(open_files_max(&line("1024")), Some(1024.0));
        assert_eq!(open_files_max(&line("unlimited")), Some(18_446_744_073_709_551_615.0));
        assert_eq!(open_files_max("Max processes 1 1"), None);
    }

    #[test]
    fn this_process_has_all_of_them() {
        let families = Process::new(Roots::default()).families();
        let names: Vec<&str> = families.iter().map(|family| family.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "process_cpu_seconds_total",
                "process_max_fds",
                "process_open_fds",
                "process_resident_memory_bytes",
                "process_start_time_seconds",
                "process_threads",
                "process_virtual_memory_bytes"
            ]
        );
        let value = |at: usize| families[at].series[0].value.value();
        assert!(value(3) > 100_000.0 && value(6) > value(3), "{families:?}");
        assert!(value(5) >= 1.0 && value(2) >= 3.0 && value(4) > 1.0e9, "{families:?}");
        assert!(Process::new(Roots::under("/nowhere")).families().is_empty());
    }
}
