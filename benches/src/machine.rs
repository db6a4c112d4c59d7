//! What the machine and its processes say about themselves.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of this thread.
#[must_use]
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// Two cores that this process may use, if it may use as many: one for a server, one for who loads it.
#[must_use]
pub fn two_cores() -> Option<[usize; 2]> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    Some([cores.next()?, cores.next()?])
}

/// Keeps this thread, and what it starts from now on, on one core. Best effort: figures are CPU time all the same.
pub fn pin_thread(core: usize) {
    let mut only = CpuSet::new();
    only.set(core);
    let _ = sched_setaffinity(None, &only);
}

/// Calls `work` on a thread of its own that stays on `core`, if there is one to stay on.
pub fn on_core<T: Send>(core: Option<usize>, work: impl FnOnce() -> T + Send) -> T {
    let run = || {
        core.into_iter().for_each(pin_thread);
        work()
    };
    thread::scope(|scope| match scope.spawn(run).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// CPU time that a process has used, its finished threads included. Resolution: one tick, 10 ms as a rule.
///
/// # Errors
/// There is no such process, or no `/proc`.
pub fn process_cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    cpu_of_stat(&text, OWN).with_context(|| format!("{path} has no CPU times: {text}"))
}

/// CPU time of the children of this process that have ended and were waited for.
///
/// # Errors
/// No `/proc`.
pub fn children_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    cpu_of_stat(&text, CHILDREN).with_context(|| format!("/proc/self/stat has no CPU times: {text}"))
}

/// Fields behind the name: 14 and 15 of the file are ticks of the process in user and kernel mode, 16 and 17 those of its
/// children; the name before them may hold anything.
const OWN: usize = 11;
const CHILDREN: usize = 13;

fn cpu_of_stat(text: &str, first: usize) -> Option<Duration> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(first);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// What a process holds of the machine's memory, in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resident {
    /// All of it.
    pub total: f64,
    /// Without pages of files.
    pub anonymous: f64,
    /// The most it ever was.
    pub peak: f64,
}

/// Resident memory of a process.
///
/// # Errors
/// There is no such process, or no `/proc`.
pub fn resident(pid: u32) -> Result<Resident> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let mib = |name: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1024.0)
    };
    let all = || Some(Resident { total: mib("VmRSS")?, anonymous: mib("RssAnon")?, peak: mib("VmHWM")? });
    all().with_context(|| format!("{path} tells no resident memory"))
}

/// One line on the machine and how busy it is.
#[must_use]
pub fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").ok();
    let model = cpu.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("model name")));
    let model = model.map_or("unknown CPU", |line| line.trim_start_matches([' ', '\t', ':']));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cores} cores, load average {}", load_average())
}

/// Of the last 1, 5 and 15 minutes.
#[must_use]
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<&str> = text.split_ascii_whitespace().take(3).collect();
    if averages.is_empty() { "unknown".to_owned() } else { averages.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_stand_behind_any_name() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 10";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_of_stat(text, OWN), Some(Duration::from_secs_f64(300.0 / ticks)));
        assert_eq!(cpu_of_stat("42 (a) S 1", OWN), None);
    }
}
