//! A program's live values for whoever scrapes it: Prometheus text 0.0.4 and 1.0.0, OpenMetrics 0.0.1 and 1.0.0, and
//! Prometheus' protobuf.
//!
//! ```text
//!   Registry ─┐                       ┌─ text ────────┐
//!   others ───┴► FamilySnapshot ──────┼─ openmetrics ─┼──► bytes
//!                        Accept ► Format ─ protobuf ──┘
//! ```
//!
//! Families stand by name, series by labels, so two expositions of the same values are the same bytes. Which format is
//! spoken is the client's choice ([`Format::negotiate`]), and so is what becomes of names with odd characters
//! ([`Escaping`]): where a scheme would make two names one, the later of them keeps its identity in the `U__` form, so no
//! series is lost.
//!
//! Compression is not done here: the server of this crate compresses whatever it answers.

mod format;
mod lines;
mod names;
mod openmetrics;
mod protobuf;
#[cfg(any(feature = "api", feature = "server"))]
mod routes;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::sync::Arc;

use kymo_core::registry::{FamilySnapshot, Registry};

pub use format::{Escaping, Format};
#[cfg(any(feature = "api", feature = "server"))]
pub use routes::routes;

type Families = dyn Fn() -> Vec<FamilySnapshot> + Send + Sync;

/// What a page shows: a registry, and what others know.
///
/// ```
/// use kymo_core::registry::Registry;
/// use kymo_export::exposition::{Exposition, Format};
///
/// let registry = Registry::new();
/// registry.counter("asked_total").help("Questions.").register()?.inc();
/// let page = Exposition::from(registry).render(Format::negotiate("application/openmetrics-text;version=1.0.0"));
/// assert_eq!(page, b"# HELP asked Questions.\n# TYPE asked counter\nasked_total 1.0\n# EOF\n");
/// # Ok::<(), kymo_core::registry::RegisterError>(())
/// ```
#[derive(Clone)]
pub struct Exposition {
    registry: Registry,
    others: Vec<Arc<Families>>,
}

impl From<Registry> for Exposition {
    fn from(registry: Registry) -> Exposition {
        Exposition { registry, others: Vec::new() }
    }
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl Exposition {
    /// Shows more families, asked for with every page: those of the process, say. Of two families of one name the
    /// registry's counts, then the one added first.
    #[must_use]
    pub fn with(mut self, families: impl Fn() -> Vec<FamilySnapshot> + Send + Sync + 'static) -> Exposition {
        self.others.push(Arc::new(families));
        self
    }

    /// The page now, in this format.
    #[must_use]
    pub fn render(&self, format: Format) -> Vec<u8> {
        let mut families = self.registry.snapshot();
        families.extend(self.others.iter().flat_map(|others| others()));
        // A stable sort keeps the registry's in front.
        families.sort_by(|a, b| a.name.cmp(&b.name));
        families.dedup_by(|a, b| a.name == b.name);
        let mut page = Vec::new();
        write(&mut page, format, &families);
        page
    }
}

/// Appends families, which must be sorted by name and each there once, as a whole page.
pub fn write(out: &mut Vec<u8>, format: Format, families: &[FamilySnapshot]) {
    match format {
        Format::Text004 | Format::Text100(_) => text::write(out, format.escaping(), families),
        Format::Protobuf(_) => protobuf::write(out, format.escaping(), families),
        Format::OpenMetrics001 | Format::OpenMetrics100(_) => openmetrics::write(out, format.escaping(), families),
    }
}
