//! Live metrics of a program: handles to record with, a snapshot to read.
//!
//! A [`Registry`] is an instance, passed to whoever records; it keeps current values and no history.
//! Handles are cheap to clone and may be used from any thread; recording needs no look-up. Families
//! are described once, by a name alone or by a [`MetricDesc`] of a crate's table.
//!
//! ```
//! use kymo_core::registry::Registry;
//!
//! let registry = Registry::new();
//! let requests = registry
//!     .counter("requests_total")
//!     .help("Requests answered.")
//!     .labels(["code"])
//!     .family()?;
//! requests.with(["200"]).inc();
//! assert_eq!(requests.with(["200"]).value(), 1.0);
//! # Ok::<(), kymo_core::registry::RegisterError>(())
//! ```
//!
//! # What recording costs
//! Through a handle that is kept, one to five ns and no allocation, as `cargo xtask bench hot-path` shows on the machine at
//! hand. [`Family::at`] costs a look-up more, ten to thirty ns while the family's memory is warm: that is what a request of
//! some milliseconds does not feel. Where a request takes 50 µs and seven metrics are looked up for it, look-ups are most of
//! what its metrics cost; there, keep the handles of each set of labels together, say in a struct by route, and the metrics of
//! such a request are below a thousandth of it:
//!
//! ```
//! # use kymo_core::registry::{Counter, Histogram, RegisterError, Registry};
//! struct Route {
//!     requests: Counter,
//!     seconds: Histogram,
//! }
//! # let registry = Registry::new();
//! # let requests = registry.counter("requests_total").labels(["method", "path"]).family()?;
//! # let seconds = registry.histogram("request_seconds").labels(["method", "path"]).family()?;
//! let labels = ["GET", "/items"];
//! let items = Route { requests: requests.with(labels), seconds: seconds.with(labels) };
//! // With each request:
//! items.requests.inc();
//! items.seconds.record(0.002);
//! # assert_eq!(requests.at(labels).value(), 1.0);
//! # Ok::<(), RegisterError>(())
//! ```
//!
//! Invariants: (1) one family has one kind, one handle type and one set of label names; (2) a
//! family holds at most its limit of series, and one more that stands for all beyond it; (3) a
//! series, once in a family, keeps its cell until it is removed, so equal labels share one value.

mod assert;
mod builder;
mod cells;
mod counter;
mod desc;
mod exemplar;
mod family;
mod gauge;
mod handle;
mod histogram;
mod native;
mod node;
mod options;
#[cfg(feature = "metrics")]
mod recorder;
mod sketch;
mod snapshot;
mod summary;
mod table;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

pub use assert::{Expected, check_metric};
pub use builder::{MetricBuilder, RegisterError};
pub use counter::{Counter, UpDownCounter};
pub use desc::{FamilyDesc, MetricDesc};
pub use family::Family;
pub use gauge::Gauge;
pub use handle::{Borrowed, Handle, Scoped};
pub use histogram::Histogram;
pub use options::{
    DURATION_BUCKETS_DEFAULT, NATIVE_BUCKETS_MIN, NativeOptions, QUANTILES_DEFAULT, SUMMARY_WINDOW_DEFAULT,
};
#[cfg(feature = "metrics")]
pub use recorder::Recorder;
pub use snapshot::{FamilySnapshot, SeriesSnapshot};
pub use summary::Summary;
pub use view::{FamilyView, Reading, Scratch, SeriesLabels, SeriesView, Visit};

use family::{AnyFamily, FamilyCore};
use snapshot::Copier;
use view::Recorded;

use crate::clock::{Clock, SystemClock};

/// Series per family unless the builder says otherwise. Ten thousand series are about a megabyte of
/// exposition, more than a family of one process should ever have.
pub const SERIES_PER_FAMILY_DEFAULT: usize = 10_000;

/// The only label of the series that stands for everything beyond a family's limit, besides fixed
/// ones. Its value names the label that had the most distinct values when the limit was met.
pub const OVERFLOW_LABEL: &str = "kymo_overflow";

/// A set of metric families. Clones share it.
#[derive(Debug, Clone)]
pub struct Registry {
    families: Arc<RwLock<Families>>,
    host: Arc<Host>,
}

/// Guarded by a lock under which no other is taken.
#[derive(Debug, Default)]
struct Families {
    by_name: BTreeMap<String, Arc<dyn AnyFamily>>,
    /// The same in their order, until one is added.
    listed: Option<Arc<[Arc<dyn AnyFamily>]>>,
}

/// What families need of their registry.
struct Host {
    clock: Arc<dyn Clock>,
    /// Guards who is told; not held while that is done.
    on_overflow: RwLock<Option<Arc<OnOverflow>>>,
}

type OnOverflow = dyn Fn(&Overflow) + Send + Sync;

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl Host {
    fn tell(&self, overflow: &Overflow) {
        let told = self.on_overflow.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(told) = told {
            told(overflow);
        }
    }
}

/// A family met its limit of series. Told once for each family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("metric family {family:?} has {series_max} series and takes no more; label {label:?} has the most values")]
pub struct Overflow {
    /// The family.
    pub family: String,
    /// The label with the most distinct values.
    pub label: String,
    /// The limit.
    pub series_max: usize,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// A registry without families.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock::new()))
    }

    /// The registry of the whole program, for code that has none handed to it, such as users of the `metrics` facade. Made
    /// when it is first asked for. What hands registries on does without: tests then do not see each other's values.
    ///
    /// ```
    /// use kymo_core::registry::Registry;
    ///
    /// Registry::global().counter("starts_total").register()?.inc();
    /// assert_eq!(Registry::global().snapshot()[0].name, "starts_total");
    /// # Ok::<(), kymo_core::registry::RegisterError>(())
    /// ```
    pub fn global() -> &'static Self {
        static GLOBAL: OnceLock<Registry> = OnceLock::new();
        GLOBAL.get_or_init(Self::new)
    }

    /// A registry without families whose series are dated, slid and expired by `clock`.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { families: Arc::default(), host: Arc::new(Host { clock, on_overflow: RwLock::new(None) }) }
    }

    /// Has `tell` called the first time a family meets its limit, once for each family: for a line in a log, which this crate
    /// does not write by itself. In the place of who was told before. Called on the thread that recorded, with no lock held.
    ///
    /// ```
    /// use kymo_core::registry::{Overflow, Registry};
    ///
    /// let registry = Registry::new();
    /// let (tell, told) = std::sync::mpsc::channel();
    /// registry.on_overflow(move |overflow: &Overflow| tell.send(overflow.to_string()).unwrap_or(()));
    /// let hits = registry.counter("hits_total").labels(["path", "user"]).series_max(2).family()?;
    /// (0..9).for_each(|user| hits.at(["/", &user.to_string()]).inc());
    /// let said: Vec<String> = told.try_iter().collect();
    /// assert_eq!(said, [
    ///     r#"metric family "hits_total" has 2 series and takes no more; label "user" has the most values"#
    /// ]);
    /// # Ok::<(), kymo_core::registry::RegisterError>(())
    /// ```
    pub fn on_overflow(&self, tell: impl Fn(&Overflow) + Send + Sync + 'static) {
        *self.host.on_overflow.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(tell));
    }

    /// As [`on_overflow`](Self::on_overflow), unless somebody is told already: for what serves the registries of others and
    /// writes a log.
    pub fn on_overflow_unless_told(&self, tell: impl Fn(&Overflow) + Send + Sync + 'static) {
        let mut told = self.host.on_overflow.write().unwrap_or_else(PoisonError::into_inner);
        told.get_or_insert_with(|| Arc::new(tell));
    }

    /// Describes a family of totals that only rise.
    pub fn counter<'a>(&self, family: impl Into<FamilyDesc<'a>>) -> MetricBuilder<Counter> {
        MetricBuilder::new(self.clone(), family.into())
    }

    /// Describes a family of levels.
    pub fn gauge<'a>(&self, family: impl Into<FamilyDesc<'a>>) -> MetricBuilder<Gauge> {
        MetricBuilder::new(self.clone(), family.into())
    }

    /// Describes a family of whole numbers that are counted up and down; shown as gauges.
    pub fn up_down_counter<'a>(&self, family: impl Into<FamilyDesc<'a>>) -> MetricBuilder<UpDownCounter> {
        MetricBuilder::new(self.clone(), family.into())
    }

    /// Describes a family of observations counted in buckets.
    pub fn histogram<'a>(&self, family: impl Into<FamilyDesc<'a>>) -> MetricBuilder<Histogram> {
        MetricBuilder::new(self.clone(), family.into())
    }

    /// Describes a family of observations kept as quantiles.
    pub fn summary<'a>(&self, family: impl Into<FamilyDesc<'a>>) -> MetricBuilder<Summary> {
        MetricBuilder::new(self.clone(), family.into())
    }

    /// Every family with its current values: families by name, series by labels.
    ///
    /// Each value is read whole, but values are not read at one instant. Families without series
    /// are included, so that a reader sees what may come.
    pub fn snapshot(&self) -> Vec<FamilySnapshot> {
        let mut copier = Copier::default();
        self.visit(&mut Scratch::default(), &mut copier);
        copier.0
    }

    /// Shows every family and its series to `visitor`, in the order of [`snapshot`](Self::snapshot).
    ///
    /// Does not allocate while `scratch` is used again and the same series are there (families with a time to live, native
    /// histograms and exemplars apart). Also the moment at which idle series of families with a time to live go.
    pub fn visit(&self, scratch: &mut Scratch, visitor: &mut dyn Visit) {
        for family in self.listed().iter() {
            family.visit(scratch, visitor);
        }
    }

    fn listed(&self) -> Arc<[Arc<dyn AnyFamily>]> {
        if let Some(listed) = &self.families.read().unwrap_or_else(PoisonError::into_inner).listed {
            return Arc::clone(listed);
        }
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        let listed: Arc<[_]> = families.by_name.values().cloned().collect();
        families.listed = Some(Arc::clone(&listed));
        listed
    }

    fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Says unit and help of a family that is there and has none.
    #[cfg(feature = "metrics")]
    fn describe(&self, name: &str, unit: &'static str, help: &str) {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(family) = families.by_name.get(name) {
            family.describe(unit, help);
        }
    }

    /// The family of this name, if it has values of this type.
    #[cfg(feature = "metrics")]
    fn known<V: Recorded>(&self, name: &str) -> Option<Arc<FamilyCore<V>>> {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        let family = families.by_name.get(name).filter(|family| family.shape().is_open)?;
        Arc::clone(family).into_any().downcast().ok()
    }

    /// The family of this description, made if it is new.
    fn family<V: Recorded>(&self, wanted: FamilyCore<V>) -> Result<Arc<FamilyCore<V>>, RegisterError> {
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = families.by_name.get(wanted.name()) {
            return family::same(known, &wanted);
        }
        let family = Arc::new(wanted);
        families.by_name.insert(family.name().to_owned(), Arc::clone(&family) as Arc<dyn AnyFamily>);
        families.listed = None;
        Ok(family)
    }
}
