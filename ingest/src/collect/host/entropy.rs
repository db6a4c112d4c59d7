//! The kernel's pool of randomness.

use super::file::{ReadError, Text};
use super::{Gathered, Roots};

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let value = |name| Text::read(roots.proc.join("sys/kernel/random").join(name))?.value();
    out.gauge("node_entropy_available_bits", "Bits of available entropy.", value("entropy_avail")?);
    out.gauge("node_entropy_pool_size_bits", "Bits of entropy pool.", value("poolsize")?);
    Ok(())
}
