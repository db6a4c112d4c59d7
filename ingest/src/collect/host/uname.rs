//! What the kernel calls itself and the machine.

use kymo_core::FamilyType;

use super::file::ReadError;
use super::{Gathered, Roots};

pub(super) fn read(_: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let uname = rustix::system::uname();
    let labels = [
        ("domainname", uname.domainname()),
        ("machine", uname.machine()),
        ("nodename", uname.nodename()),
        ("release", uname.release()),
        ("sysname", uname.sysname()),
        ("version", uname.version()),
    ]
    .map(|(name, value)| (name, value.to_string_lossy()));
    let help = "Labeled system information as provided by the uname system call.";
    out.family(FamilyType::Gauge, "node_uname_info", help)
        .push(labels.iter().map(|(name, value)| (*name, value.as_ref())), 1.0);
    Ok(())
}
