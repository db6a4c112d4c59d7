//! `/proc/loadavg`.

use super::file::{ReadError, Text, fields};
use super::{Gathered, Roots};

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let text = Text::read(roots.proc.join("loadavg"))?;
    let line = text.lines().next().unwrap_or_default();
    let fields = fields(line);
    for (at, minutes) in ["1", "5", "15"].into_iter().enumerate() {
        let value = text.number_at(&fields, at, line)?;
        out.gauge(&format!("node_load{minutes}"), &format!("{minutes}m load average."), value);
    }
    Ok(())
}
