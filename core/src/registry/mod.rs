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
//! Invariants: (1) one family has one kind, one handle type and one set of label names; (2) a
//! family holds at most its limit of series, and one more that stands for all beyond it; (3) a
//! series, once in a family, keeps its cell until it is removed, so equal labels share one value.

mod builder;
mod desc;
mod family;
mod handle;
mod sketch;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

pub use builder::{MetricBuilder, RegisterError};
pub use desc::{FamilyDesc, MetricDesc};
pub use family::Family;
pub use handle::{
    Counter, DURATION_BUCKETS_DEFAULT, Gauge, Handle, Histogram, QUANTILES_DEFAULT, Summary, UpDownCounter,
};
pub use snapshot::{FamilySnapshot, SeriesSnapshot};

use family::FamilyCore;

/// Series per family unless the builder says otherwise. Ten thousand series are about a megabyte of
/// exposition, more than a family of one process should ever have.
pub const SERIES_PER_FAMILY_DEFAULT: usize = 10_000;

/// The only label of the series that stands for everything beyond a family's limit, besides fixed
/// ones. Its value names the label that had the most distinct values when the limit was met.
pub const OVERFLOW_LABEL: &str = "kymo_overflow";

/// A set of metric families. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    /// Guards which families exist. A family's own lock is taken only after this one was let go.
    families: Arc<RwLock<BTreeMap<String, Arc<FamilyCore>>>>,
}

impl Registry {
    /// A registry without families.
    pub fn new() -> Self {
        Self::default()
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
        let families: Vec<Arc<FamilyCore>> = {
            let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
            families.values().cloned().collect()
        };
        families.iter().map(|family| family.snapshot()).collect()
    }

    /// The family of this description, made if it is new.
    fn family(&self, wanted: FamilyCore) -> Result<Arc<FamilyCore>, RegisterError> {
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = families.get(wanted.name()) {
            known.check_same(&wanted)?;
            return Ok(Arc::clone(known));
        }
        let family = Arc::new(wanted);
        families.insert(family.name().to_owned(), Arc::clone(&family));
        Ok(family)
    }
}
