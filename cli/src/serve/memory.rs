//! How much memory the process may have.

use std::fs;
use std::path::Path;

/// Share of it that Kymo limits itself to by default; the rest is for the system's cache of the data files, on which
/// reads depend, and for what is not counted.
const DEFAULT_PERCENT: u64 = 60;
/// Where nothing tells how much there is.
const UNKNOWN_BYTES: u64 = 1 << 30;
/// "No limit" in the first version of control groups is the largest multiple of a page.
const UNLIMITED_BYTES: u64 = 1 << 62;

/// A limit, and in words where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemoryLimit {
    pub(super) bytes: u64,
    pub(super) reason: String,
}

impl MemoryLimit {
    pub(super) fn asked_for(bytes: u64) -> MemoryLimit {
        MemoryLimit { bytes, reason: "as asked for".to_owned() }
    }

    /// A share of what the machine has or the control group allows, whichever is less.
    pub(super) fn of_this_process() -> MemoryLimit {
        let machine = machine_bytes().map(|bytes| (bytes, "the machine's memory"));
        let group = group_bytes().map(|bytes| (bytes, "the control group's memory"));
        match machine.into_iter().chain(group).min() {
            Some((bytes, source)) => {
                MemoryLimit { bytes: bytes / 100 * DEFAULT_PERCENT, reason: format!("{DEFAULT_PERCENT} % of {source}") }
            }
            None => MemoryLimit { bytes: UNKNOWN_BYTES, reason: "this system does not say what it has".to_owned() },
        }
    }
}

fn machine_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The least limit of this process' control group and those around it, in either version.
fn group_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut limits = Vec::new();
    for line in groups.lines() {
        // `0::/path` in version 2, `4:memory:/path` in version 1.
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (root, file) = match (number, controllers) {
            ("0", "") => ("/sys/fs/cgroup", "memory.max"),
            (_, list) if list.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // Inside a container the path may be that of the host, of which only the root is to be seen.
        for folder in Path::new(path.trim_start_matches('/')).ancestors() {
            limits.extend(fs::read_to_string(Path::new(root).join(folder).join(file)).ok());
        }
    }
    limits.iter().filter_map(|text| text.trim().parse().ok()).filter(|bytes| *bytes < UNLIMITED_BYTES).min()
}
