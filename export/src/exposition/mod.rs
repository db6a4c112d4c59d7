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
mod names;
mod protobuf;
mod renderer;
#[cfg(any(feature = "api", feature = "server"))]
mod routes;
mod shown;
#[cfg(test)]
mod tests;
mod texts;
mod value;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use kymo_core::registry::{FamilySnapshot, Registry};

pub use format::{Escaping, Format};
#[cfg(any(feature = "api", feature = "server"))]
pub use routes::routes;

use renderer::Renderer;

type Families = dyn Fn() -> Vec<FamilySnapshot> + Send + Sync;

/// Renderers kept for the next pages: as many as formats and scrapers that usually ask at once.
const SPARE_MAX: usize = 4;

/// What a page shows: a registry, and what others know. Clones share the texts of pages made before.
///
/// ```
/// use kymo_core::registry::Registry;
/// use kymo_export::exposition::{Exposition, Format};
///
/// let registry = Registry::new();
/// registry.counter("asked_total").help("Questions.").register()?.inc();
/// let page = Exposition::from(registry).render(Format::negotiate("application/openmetrics-text;version=1.0.0"));
/// assert_eq!(page, b"# HELP asked Questions.\n# TYPE asked counter\nasked_total 1\n# EOF\n");
/// # Ok::<(), kymo_core::registry::RegisterError>(())
/// ```
#[derive(Clone)]
pub struct Exposition {
    registry: Registry,
    others: Vec<Arc<Families>>,
    shows_created: bool,
    /// Those last used come last. Guards only the list: none is used while it is in here.
    spare: Arc<Mutex<Vec<Renderer>>>,
}

impl From<Registry> for Exposition {
    /// A family that is full from now on is told in the log, once, unless the registry tells somebody else.
    fn from(registry: Registry) -> Exposition {
        registry.on_overflow_unless_told(|overflow| {
            tracing::warn!(metric = overflow.family, label = overflow.label, "{overflow}");
        });
        Exposition { registry, others: Vec::new(), shows_created: false, spare: Arc::default() }
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

    /// Has OpenMetrics tell when each counter, histogram and summary was made, on lines of their own (`_created`). Not
    /// done unless asked for: a reader that does not know them takes each for one more series. Protobuf tells it anyway.
    #[must_use]
    pub fn with_created(mut self) -> Exposition {
        self.shows_created = true;
        self.spare = Arc::default();
        self
    }

    /// The page now, in this format.
    #[must_use]
    pub fn render(&self, format: Format) -> Vec<u8> {
        let mut page = Vec::new();
        self.render_into(format, &mut page);
        page
    }

    /// What the page shows now.
    #[must_use]
    pub fn families(&self) -> Vec<FamilySnapshot> {
        let mut families = self.registry.snapshot();
        families.extend(self.others());
        // A stable sort keeps the registry's in front.
        families.sort_by(|a, b| a.name.cmp(&b.name));
        families.dedup_by(|later, earlier| later.name == earlier.name);
        families
    }

    /// What was added by [`with`](Self::with), by name.
    fn others(&self) -> Vec<FamilySnapshot> {
        let mut others: Vec<FamilySnapshot> = self.others.iter().flat_map(|others| others()).collect();
        // A stable sort keeps the one added first in front.
        others.sort_by(|a, b| a.name.cmp(&b.name));
        others.dedup_by(|later, earlier| later.name == earlier.name);
        others
    }

    /// Appends the page now, in this format.
    ///
    /// Allocates nothing if the last page of the format had the same series, `page` is large enough, and nothing was added
    /// by [`with`](Self::with); families with a time to live, native histograms and exemplars apart. Several pages may be
    /// made at once.
    pub fn render_into(&self, format: Format, page: &mut Vec<u8>) {
        let others = self.others();
        let mut renderer = self.renderer(format);
        renderer.render(page, &self.registry, &others);
        let mut spare = self.spare();
        if spare.len() == SPARE_MAX {
            spare.remove(0);
        }
        spare.push(renderer);
    }

    fn renderer(&self, format: Format) -> Renderer {
        let mut spare = self.spare();
        match spare.iter().rposition(|renderer| renderer.format() == format) {
            Some(at) => spare.remove(at),
            None => Renderer::new(format, self.shows_created),
        }
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Renderer>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends families, which must be sorted by name and each there once, as a whole page.
pub fn write(out: &mut Vec<u8>, format: Format, families: &[FamilySnapshot]) {
    Renderer::new(format, false).render(out, &Registry::new(), families);
}
