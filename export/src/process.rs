//! The standard `process_*` metrics of this process, under the names, units and help of Prometheus' client libraries, and
//! two that say the same for people: `process_cpu_usage` and `process_memory_bytes`.
//!
//! Off Linux there are none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kymo_core::metric::{MetricKind, MetricType};
use kymo_core::registry::{FamilySnapshot, SeriesSnapshot};

/// Shortest time over which a usage is told: over less, the system's ticks of 10 ms are too coarse.
const USAGE_OVER_MIN: Duration = Duration::from_secs(1);

/// Reads what the system says of this process.
#[derive(Debug, Default)]
pub struct Process {
    /// Guards the last look at the CPU time, so that two scrapers do not spoil each other's.
    usage: Mutex<Option<Usage>>,
}

/// A look at the CPU time, and the usage found then.
#[derive(Debug, Clone, Copy)]
struct Usage {
    at: Instant,
    cpu_seconds: f64,
    /// CPU seconds per second, over the time before `at`.
    found: f64,
}

/// What the system says.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Facts {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    threads: Option<f64>,
    start_seconds: Option<f64>,
    /// For how long the process has been running.
    age_seconds: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
}

impl Process {
    /// What can be read now, families by name: for an engine, and for a `/metrics` page.
    #[must_use]
    pub fn families(&self) -> Vec<FamilySnapshot> {
        self.families_of(system::facts(), Instant::now())
    }

    fn families_of(&self, facts: Facts, now: Instant) -> Vec<FamilySnapshot> {
        let usage = facts.cpu_seconds.zip(facts.age_seconds).map(|(cpu, age)| self.usage(cpu, age, now));
        let (counter, gauge) = (MetricKind::Counter, MetricKind::Gauge);
        let found = [
            (
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
                "seconds",
                counter,
                facts.cpu_seconds,
            ),
            (
                "process_cpu_usage",
                "CPU seconds per second since the look before, over a second at least; 1 is one busy core.",
                "",
                gauge,
                usage,
            ),
            ("process_max_fds", "Maximum number of open file descriptors.", "", gauge, facts.max_fds),
            (
                "process_memory_bytes",
                "Resident memory size in bytes, as process_resident_memory_bytes.",
                "bytes",
                gauge,
                facts.resident_bytes,
            ),
            ("process_open_fds", "Number of open file descriptors.", "", gauge, facts.open_fds),
            ("process_resident_memory_bytes", "Resident memory size in bytes.", "bytes", gauge, facts.resident_bytes),
            (
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
                "seconds",
                gauge,
                facts.start_seconds,
            ),
            ("process_threads", "Number of OS threads in the process.", "", gauge, facts.threads),
            ("process_virtual_memory_bytes", "Virtual memory size in bytes.", "bytes", gauge, facts.virtual_bytes),
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
                series: vec![SeriesSnapshot { labels: Arc::new([]), value, created_ms: None }],
            })
        });
        families.collect()
    }

    /// CPU seconds per second: the first time since the process began, then since the look before, which is repeated
    /// as long as it is too new.
    fn usage(&self, cpu_seconds: f64, age_seconds: f64, now: Instant) -> f64 {
        let mut last = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match *last {
            Some(before) => {
                let over = now.saturating_duration_since(before.at);
                if over < USAGE_OVER_MIN {
                    return before.found;
                }
                (cpu_seconds - before.cpu_seconds).max(0.0) / over.as_secs_f64()
            }
            // The age is told in ticks, too: a process in its first tick has no usage yet.
            None if age_seconds > 0.0 => cpu_seconds / age_seconds,
            None => 0.0,
        };
        *last = Some(Usage { at: now, cpu_seconds, found });
        found
    }
}

#[cfg(all(target_os = "linux", not(kymo_portable)))]
mod system {
    use std::fs;

    use super::Facts;

    pub(super) fn facts() -> Facts {
        let read = |name: &str| fs::read_to_string(format!("/proc/{name}")).ok();
        let stat = read("self/stat").and_then(|text| Stat::parse(&text));
        let boot = read("stat").and_then(|text| boot_seconds(&text));
        let uptime = read("uptime").and_then(|text| text.split_ascii_whitespace().next()?.parse::<f64>().ok());
        let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
        let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        let of = |value: fn(&Stat) -> u64| stat.as_ref().map(value);
        let since_boot = of(|stat| stat.start_ticks).map(seconds);
        Facts {
            cpu_seconds: of(|stat| stat.user_ticks + stat.system_ticks).map(seconds),
            resident_bytes: of(|stat| stat.resident_pages)
                .map(|pages| pages as f64 * rustix::param::page_size() as f64),
            virtual_bytes: of(|stat| stat.virtual_bytes).map(|bytes| bytes as f64),
            threads: of(|stat| stat.threads).map(|count| count as f64),
            start_seconds: since_boot.zip(boot).map(|(since_boot, boot)| boot + since_boot),
            age_seconds: since_boot.zip(uptime).map(|(since_boot, uptime)| uptime - since_boot),
            // The directory that was being read is one of them.
            open_fds: open.map(|count| (count - 1.0).max(0.0)),
            max_fds: read("self/limits").and_then(|text| open_files_max(&text)),
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
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        let soft = line.split_ascii_whitespace().next()?;
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
            let process = super::super::Process::default();
            let families = process.families();
            let names: Vec<&str> = families.iter().map(|family| family.name.as_str()).collect();
            let wanted = [
                "process_cpu_seconds_total",
                "process_cpu_usage",
                "process_max_fds",
                "process_memory_bytes",
                "process_open_fds",
                "process_resident_memory_bytes",
                "process_start_time_seconds",
                "process_threads",
                "process_virtual_memory_bytes",
            ];
            assert_eq!(names, wanted);
            let value = |at: usize| families[at].series[0].value.value();
            assert!(value(5) > 100_000.0 && value(8) > value(5), "{families:?}");
            assert!(value(7) >= 1.0 && value(4) >= 3.0 && value(6) > 1.0e9, "{families:?}");
        }
    }
}

#[cfg(not(all(target_os = "linux", not(kymo_portable))))]
mod system {
    use super::Facts;

    /// Nothing is known.
    pub(super) fn facts() -> Facts {
        Facts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(families: &[FamilySnapshot]) -> f64 {
        let family = families.iter().find(|family| family.name == "process_cpu_usage");
        family.map_or(f64::NAN, |family| family.series[0].value.value())
    }

    #[test]
    fn usage_is_that_of_the_time_since_the_look_before() {
        let process = Process::default();
        let start = Instant::now();
        let at = |seconds: f64, cpu_seconds: f64| {
            let facts =
                Facts { cpu_seconds: Some(cpu_seconds), age_seconds: Some(100.0 + seconds), ..Facts::default() };
            usage(&process.families_of(facts, start + Duration::from_secs_f64(seconds)))
        };
        assert_eq!(at(0.0, 50.0), 0.5);
        // Another scraper right behind: nothing can be told of so short a time.
        assert_eq!(at(0.5, 51.0), 0.5);
        assert_eq!(at(2.0, 53.0), 1.5);
        assert_eq!(at(4.0, 53.0), 0.0);
    }

    #[test]
    fn where_nothing_is_known_nothing_is_shown() {
        assert_eq!(Process::default().families_of(Facts::default(), Instant::now()), []);
    }
}
