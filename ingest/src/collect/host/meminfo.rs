//! `/proc/meminfo`: every field, `Active(anon): 4 kB` as `node_memory_Active_anon_bytes`.

use super::file::{ReadError, Text, fields};
use super::{Gathered, Roots};

const KIBIBYTE: f64 = 1024.0;

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let text = Text::read(roots.proc.join("meminfo"))?;
    for line in text.lines() {
        let fields = fields(line);
        let [name, number, unit @ ..] = fields.as_slice() else {
            return Err(text.wrong("a name and a number", line));
        };
        let number = text.number(number, line)?;
        let mut field = name.trim_end_matches(':').replace('(', "_").replace(')', "");
        let value = match unit {
            [] => number,
            ["kB"] => {
                field.push_str("_bytes");
                number * KIBIBYTE
            }
            _ => return Err(text.wrong("kB or no unit", line)),
        };
        out.gauge(&format!("node_memory_{field}"), &format!("Memory information field {field}."), value);
    }
    Ok(())
}
