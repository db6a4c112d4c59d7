//! Runs PromQL test scripts against any engine over any storage.
//!
//! ```text
//! script text ──script──▶ commands ──run──▶ storage, backend ──compare──▶ report
//!               └─load: series notation       └─pinned: `@` variants
//! ```
//!
//! The language is Prometheus' own (`promql/promqltest`), so that its scripts decide whether an answer is
//! right. Every instant case is asked again with its selectors pinned by `@` at other times, and each of
//! those once more as a range query around its time; all must hold.
//!
//! Differences to the original: a failing case is counted and the script goes on, and a query that
//! does not parse fails its case and not the script.
//!
//! ```
//! use kymo_query::promqltest::parse_series;
//!
//! let (labels, values) = parse_series(r#"up{job="node"} 1 _ 0+1x3 stale"#)?;
//! assert_eq!(labels.get("job"), Some("node"));
//! assert_eq!(values.len(), 7);
//! # Ok::<(), kymo_query::promqltest::NotationError>(())
//! ```

mod compare;
mod hints;
mod load;
mod pinned;
mod run;
mod script;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kymo_core::memory::MemoryOptions;
use kymo_core::{ManualClock, MemoryStorage, MetricStorage};

pub use load::{HistogramField, NotationError, SeriesValue, parse_series, parse_values};
pub use run::{EngineOver, Failure, FreshStorage, ScriptReport, run_script};
pub use script::ScriptError;

/// The year 5138: script times begin at 0, and no sample may lie ahead of the clock.
const CLOCK_MS: i64 = 100_000_000_000_000;

/// A storage for [`run_script`]: in memory, without retention, its clock far ahead of any script.
#[must_use]
pub fn memory_storage() -> Arc<dyn MetricStorage> {
    let clock = Arc::new(ManualClock::at(CLOCK_MS));
    Arc::new(MemoryStorage::new(MemoryOptions { clock, ..MemoryOptions::default() }))
}
