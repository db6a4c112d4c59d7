//! Counters of the network protocols: `/proc/net/netstat`, `snmp` and `snmp6`.

use kymo_core::FamilyType;

use super::file::{ReadError, Text, fields};
use super::{Gathered, Roots};

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    for file in ["net/netstat", "net/snmp"] {
        let text = Text::read(roots.proc.join(file))?;
        let mut lines = text.lines();
        // Names and numbers of a protocol, each on a line.
        while let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
            let (names, values) = (fields(names), fields(numbers));
            if names.len() != values.len() || names.first() != values.first() {
                return Err(text.wrong("a number for every name", numbers));
            }
            let protocol = names.first().copied().unwrap_or_default().trim_end_matches(':');
            for (name, value) in names.iter().zip(values).skip(1) {
                if is_kept(protocol, name) {
                    push(out, protocol, name, text.number(value, numbers)?);
                }
            }
        }
    }
    // Absent where IPv6 is off.
    if let Some(text) = Text::read_if_there(roots.proc.join("net/snmp6"))? {
        for line in text.lines() {
            let fields = fields(line);
            let [name, value] = fields.as_slice() else { continue };
            let Some(at) = name.find('6') else { continue };
            let (protocol, name) = name.split_at(at + 1);
            if is_kept(protocol, name) {
                push(out, protocol, name, text.number(value, line)?);
            }
        }
    }
    Ok(())
}

fn push(out: &mut Gathered, protocol: &str, name: &str, value: f64) {
    let (full, help) = (format!("node_netstat_{protocol}_{name}"), format!("Statistic {protocol}{name}."));
    out.family(FamilyType::Unknown, &full, &help).push([], value);
}

/// node_exporter's default choice of fields.
fn is_kept(protocol: &str, name: &str) -> bool {
    if matches!(name, "InErrors" | "InErrs") {
        return true;
    }
    match protocol {
        "Ip" => name == "Forwarding",
        "Ip6" | "IpExt" => matches!(name, "InOctets" | "OutOctets"),
        "Icmp" | "Icmp6" => matches!(name, "InMsgs" | "OutMsgs"),
        "TcpExt" => {
            name.starts_with("Listen")
                || name.starts_with("Syncookies")
                || matches!(name, "TCPSynRetrans" | "TCPTimeouts" | "TCPOFOQueue" | "TCPRcvQDrop")
        }
        "Tcp" => matches!(
            name,
            "ActiveOpens" | "InSegs" | "OutSegs" | "OutRsts" | "PassiveOpens" | "RetransSegs" | "CurrEstab"
        ),
        "Udp" | "Udp6" => {
            matches!(name, "InDatagrams" | "OutDatagrams" | "NoPorts" | "RcvbufErrors" | "SndbufErrors")
        }
        _ => false,
    }
}
