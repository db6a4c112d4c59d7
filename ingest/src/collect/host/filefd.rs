//! Open files of the whole machine: `/proc/sys/fs/file-nr`.

use super::file::{ReadError, Text, fields};
use super::{Gathered, Roots};

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let text = Text::read(roots.proc.join("sys/fs/file-nr"))?;
    let line = text.lines().next().unwrap_or_default();
    let fields = fields(line);
    // The one between is free handles, always 0 since Linux 2.6.
    for (name, at) in [("allocated", 0), ("maximum", 2)] {
        let value = text.number_at(&fields, at, line)?;
        out.gauge(&format!("node_filefd_{name}"), &format!("File descriptor statistics: {name}."), value);
    }
    Ok(())
}
