//! `/proc/vmstat`: paging, swapping, faults and kills for want of memory.

use kymo_core::FamilyType;

use super::file::{ReadError, Text};
use super::{Gathered, Roots};

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let text = Text::read(roots.proc.join("vmstat"))?;
    for line in text.lines() {
        let Some((name, value)) = line.split_once(' ') else { return Err(text.wrong("a name and a number", line)) };
        if is_kept(name) {
            let help = format!("/proc/vmstat information field {name}.");
            let value = text.number(value.trim(), line)?;
            out.family(FamilyType::Unknown, &format!("node_vmstat_{name}"), &help).push([], value);
        }
    }
    Ok(())
}

/// node_exporter's default: `^(oom_kill|pgpg|pswp|pg.*fault).*`.
fn is_kept(name: &str) -> bool {
    ["oom_kill", "pgpg", "pswp"].iter().any(|prefix| name.starts_with(prefix))
        || name.strip_prefix("pg").is_some_and(|rest| rest.contains("fault"))
}
