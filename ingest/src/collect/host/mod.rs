//! The machine, under the metric names, labels and help of node_exporter 1.11 with its default filters.
//!
//! One file per collector, as node_exporter cuts them; each reads what it needs and pushes what is there. A collector that
//! fails stops no other: what it had pushed stays, it is counted, and `node_scrape_collector_success` says so. Absent files
//! are no failure, only no data (`node_scrape_collector_success` is 0 then too, as in node_exporter).
//!
//! Deliberately absent: collectors that node_exporter has off by default, and those for hardware and file systems that tell
//! nothing about most machines (`bcache`, `btrfs`, `edac`, `infiniband`, `ipvs`, `mdadm`, `nfs`, `xfs`, `zfs`, …).

mod arp;
mod c_library;
mod conntrack;
mod cpu;
mod cpufreq;
mod diskstats;
mod entropy;
mod file;
mod filefd;
mod filesystem;
mod hwmon;
mod kernel_hung;
mod loadavg;
mod meminfo;
mod netclass;
mod netdev;
mod netstat;
mod os;
mod pressure;
mod schedstat;
mod selinux;
mod sockstat;
mod softnet;
mod stat;
#[cfg(test)]
mod tests;
mod thermal_zone;
mod time;
mod timex;
mod udp_queues;
mod uname;
mod vmstat;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kymo_core::registry::{Counter, Family, RegisterError, Registry};
use kymo_core::{Clock, FamilyType};

use super::gathered::Gathered;
use super::metrics;
use super::runner::Source;

pub use file::ReadError;

/// Ticks per second of the times in `/proc`: a constant of the kernel's interface on every machine that Rust's standard
/// library runs on, whatever the kernel itself ticks with.
pub(super) const USER_HZ: f64 = 100.0;

/// Where to look. In a container, the host's directories may be mounted elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
    /// `/`, under which mount points and `/etc/os-release` are looked up.
    pub root: PathBuf,
    /// `/run/udev/data`, which knows the names of disks.
    pub udev: PathBuf,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots::under("/")
    }
}

impl Roots {
    /// A whole tree under one directory.
    #[must_use]
    pub fn under(root: impl AsRef<Path>) -> Roots {
        let root = root.as_ref();
        Roots {
            proc: root.join("proc"),
            sys: root.join("sys"),
            root: root.to_owned(),
            udev: root.join("run/udev/data"),
        }
    }
}

/// How to collect from the host.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Where to look.
    pub roots: Roots,
    /// How long one round waits for file systems that do not answer, such as a network's; the rest of the round is not
    /// stored before. node_exporter waits five seconds, which is our whole interval.
    pub mount_timeout: Duration,
}

impl Default for HostOptions {
    fn default() -> HostOptions {
        HostOptions { roots: Roots::default(), mount_timeout: Duration::from_secs(1) }
    }
}

/// All collectors of a machine.
pub struct Host {
    roots: Roots,
    clock: Arc<dyn Clock>,
    failures: Family<Counter, 1>,
    parts: Vec<Part>,
}

type Read = Box<dyn FnMut(&Roots, &mut Gathered) -> Result<(), ReadError> + Send>;

struct Part {
    name: &'static str,
    read: Read,
    was_failing: bool,
}

impl Host {
    /// The collectors, with nothing read yet.
    ///
    /// # Errors
    /// [`RegisterError`] when the registry holds other metrics of the same names.
    pub fn new(options: HostOptions, clock: Arc<dyn Clock>, registry: &Registry) -> Result<Host, RegisterError> {
        let mut cpu = cpu::Cpu::default();
        let mut filesystem = filesystem::Filesystem::new(options.mount_timeout);
        let now = clock.clone();
        let parts: Vec<(&'static str, Read)> = vec![
            ("arp", Box::new(arp::read)),
            ("conntrack", Box::new(conntrack::read)),
            ("cpu", Box::new(move |roots, out| cpu.read(roots, out))),
            ("diskstats", Box::new(diskstats::read)),
            ("entropy", Box::new(entropy::read)),
            ("filefd", Box::new(filefd::read)),
            ("filesystem", Box::new(move |roots, out| filesystem.read(roots, out))),
            ("hwmon", Box::new(hwmon::read)),
            ("kernel_hung", Box::new(kernel_hung::read)),
            ("loadavg", Box::new(loadavg::read)),
            ("meminfo", Box::new(meminfo::read)),
            ("netclass", Box::new(netclass::read)),
            ("netdev", Box::new(netdev::read)),
            ("netstat", Box::new(netstat::read)),
            ("os", Box::new(os::read)),
            ("pressure", Box::new(pressure::read)),
            ("schedstat", Box::new(schedstat::read)),
            ("selinux", Box::new(selinux::read)),
            ("sockstat", Box::new(sockstat::read)),
            ("softnet", Box::new(softnet::read)),
            ("stat", Box::new(stat::read)),
            ("thermal_zone", Box::new(thermal_zone::read)),
            ("time", Box::new(move |roots, out| time::read(roots, out, now.now_ms()))),
            ("timex", Box::new(timex::read)),
            ("udp_queues", Box::new(udp_queues::read)),
            ("uname", Box::new(uname::read)),
            ("vmstat", Box::new(vmstat::read)),
            // Last: some kernels take 10 to 50 ms per processor, and what is read after it would be that much late.
            ("cpufreq", Box::new(cpufreq::read)),
        ];
        Ok(Host {
            roots: options.roots,
            clock,
            failures: metrics::failures(registry)?,
            parts: parts.into_iter().map(|(name, read)| Part { name, read, was_failing: false }).collect(),
        })
    }
}

impl Source for Host {
    fn gather(&mut self, out: &mut Gathered) {
        let mut took = Vec::with_capacity(self.parts.len());
        for part in &mut self.parts {
            let started = self.clock.monotonic();
            let result = (part.read)(&self.roots, out);
            let duration = self.clock.monotonic().saturating_sub(started);
            took.push((part.name, result.is_ok(), duration));
            let failure = result.err().filter(|error| !error.is_absence());
            if let Some(error) = &failure {
                self.failures.with([part.name]).inc();
                if !part.was_failing {
                    tracing::warn!(collector = part.name, %error, "a part of the host cannot be read");
                }
            }
            part.was_failing = failure.is_some();
        }
        let mut durations = out.family(
            FamilyType::Gauge,
            "node_scrape_collector_duration_seconds",
            "node_exporter: Duration of a collector scrape.",
        );
        for (name, _, duration) in &took {
            durations.push([("collector", *name)], duration.as_secs_f64());
        }
        let mut successes = out.family(
            FamilyType::Gauge,
            "node_scrape_collector_success",
            "node_exporter: Whether a collector succeeded.",
        );
        for (name, is_ok, _) in &took {
            successes.push([("collector", *name)], f64::from(u8::from(*is_ok)));
        }
    }
}
