//! Sockets in use: `/proc/net/sockstat` and `sockstat6`.

use super::file::{ReadError, Text, fields};
use super::{Gathered, Roots};

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    for file in ["net/sockstat", "net/sockstat6"] {
        let Some(text) = Text::read_if_there(roots.proc.join(file))? else { continue };
        for line in text.lines() {
            let fields = fields(line);
            let [protocol, pairs @ ..] = fields.as_slice() else { continue };
            let protocol = protocol.trim_end_matches(':');
            for pair in pairs.chunks(2) {
                let [name, value] = pair else { return Err(text.wrong("pairs of name and number", line)) };
                let value = text.number(value, line)?;
                if (protocol, *name) == ("sockets", "used") {
                    out.gauge("node_sockstat_sockets_used", "Number of IPv4 sockets in use.", value);
                    continue;
                }
                push(out, protocol, name, value);
                if *name == "mem" {
                    push(out, protocol, "mem_bytes", value * rustix::param::page_size() as f64);
                }
            }
        }
    }
    Ok(())
}

fn push(out: &mut Gathered, protocol: &str, state: &str, value: f64) {
    let help = format!("Number of {protocol} sockets in state {state}.");
    out.gauge(&format!("node_sockstat_{protocol}_{state}"), &help, value);
}
