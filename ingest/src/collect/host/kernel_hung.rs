//! Tasks that hung, since Linux 6.13.

use super::file::{ReadError, Text};
use super::{Gathered, Roots};

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let value = Text::read(roots.proc.join("sys/kernel/hung_task_detect_count"))?.value()?;
    let help = "Total number of tasks that have been detected as hung since the system booted.";
    out.counter("node_kernel_hung_tasks_total", help, value);
    Ok(())
}
