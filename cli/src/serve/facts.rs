//! What the server itself has to say at `/api/v1/status`.

use kymo_core::status::{FlagStatus, RuntimeInfo, StatusError, StatusSource};

use super::Remembered;
use super::plan::Plan;

/// Settled when the server starts.
pub(super) struct Facts {
    flags: Vec<FlagStatus>,
    runtime: RuntimeInfo,
    pub(super) remembered: Remembered,
}

impl Facts {
    /// `corruptions`: damaged pieces found when the data was opened.
    pub(super) fn new(plan: &Plan, started_ms: i64, corruptions: usize, remembered: Remembered) -> Facts {
        let folder = std::env::current_dir().map(|path| path.display().to_string());
        let runtime = RuntimeInfo {
            started_ms,
            hostname: hostname(),
            working_directory: folder.unwrap_or_default(),
            data_directory: plan.data_dir.display().to_string(),
            retention_ms: plan.retention.raw.map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
            processors: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            memory_limit_bytes: plan.memory_limit.bytes,
            corruptions: corruptions as u64,
        };
        Facts { flags: plan.flags(), runtime, remembered }
    }
}

/// The machine's name, as the kernel has it; empty where it does not say.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}

impl StatusSource for Facts {
    fn flags(&self) -> Result<Vec<FlagStatus>, StatusError> {
        Ok(self.flags.clone())
    }

    fn runtime_info(&self) -> Result<Option<RuntimeInfo>, StatusError> {
        Ok(Some(self.runtime.clone()))
    }
}
