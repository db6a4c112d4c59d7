//! Connections that the packet filter tracks.

use super::file::{ReadError, Text, fields};
use super::{Gathered, Roots};

/// Columns of `/proc/net/stat/nf_conntrack` with name and help, summed over processors.
const COLUMNS: [(&str, &str); 8] = [
    ("found", "Number of searched entries which were successful."),
    ("invalid", "Number of packets seen which can not be tracked."),
    ("ignore", "Number of packets seen which are already connected to a conntrack entry."),
    ("insert", "Number of entries inserted into the list."),
    ("insert_failed", "Number of entries for which list insertion was attempted but failed."),
    ("drop", "Number of packets dropped due to conntrack failure."),
    ("early_drop", "Number of dropped conntrack entries to make room for new ones, if maximum table size was reached."),
    ("search_restart", "Number of conntrack table lookups which had to be restarted due to hashtable resizes."),
];

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let value = |name| Text::read(roots.proc.join("sys/net/netfilter").join(name))?.value();
    let entries = value("nf_conntrack_count")?;
    out.gauge(
        "node_nf_conntrack_entries",
        "Number of currently allocated flow entries for connection tracking.",
        entries,
    );
    out.gauge(
        "node_nf_conntrack_entries_limit",
        "Maximum size of connection tracking table.",
        value("nf_conntrack_max")?,
    );
    let text = Text::read(roots.proc.join("net/stat/nf_conntrack"))?;
    let mut lines = text.lines();
    let head = fields(lines.next().unwrap_or_default());
    let mut sums = [0.0; COLUMNS.len()];
    for line in lines {
        for (name, field) in head.iter().zip(fields(line)) {
            // Kernels have named this column both ways.
            let name = if *name == "searched_restart" { "search_restart" } else { name };
            if let Some(at) = COLUMNS.iter().position(|(column, _)| *column == name) {
                sums[at] += text.hex(field, line)?;
            }
        }
    }
    for ((column, help), sum) in COLUMNS.iter().zip(sums) {
        out.gauge(&format!("node_nf_conntrack_stat_{column}"), help, sum);
    }
    Ok(())
}
