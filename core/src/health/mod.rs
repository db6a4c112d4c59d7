//! Service health: what the requests of a service look like now, and whether that is well.
//!
//! ```text
//!   spans ────────── record ──────┐  one addition each                      once a second
//!   RED metrics ─── record_counts ┤─► Cells ── aggregate_health ─► History ─► Judged ─► figures, published whole
//!   stored figures ── restore ────┘                                                        │
//!                                                          get, list: one pointer is read ◄┘
//! ```
//!
//! Who turns requests into figures calls [`ServiceHealth::record`] for each, from any thread. Somebody calls
//! [`ServiceHealth::aggregate_health`] about once a second: it takes away what was counted since, turns the windows, judges, and
//! publishes the figures of all services as one whole. Reading is a look at what was published last.
//!
//! Rules that hold here:
//!
//! 1. A request is one addition to one counter (`cells.rs`), so no reader and no window ever sees half of one.
//! 2. Readers of [`get`](ServiceHealth::get) and [`list`](ServiceHealth::list) take no lock, and see the figures of one moment,
//!    of all services.
//! 3. Who records takes the read side of the locks of the names, which is taken for writing only when a name is new or
//!    forgotten; additions are made within, so none goes to a name that was just forgotten.
//! 4. Names come from outside: services, operations and edges are bounded, and those beyond count as [`OVERFLOW`].
//! 5. Latencies are counted by bucket, errors by what the sender says failed: nothing is read from a sum or a value.
//!
//! Time is that of the clock's monotonic side, begun at its wall time: setting the wall clock moves no window. Requests that
//! ended up to a minute ago count as of now; older ones at their time, while a window reaches back so far.
//!
//! ```
//! use std::sync::Arc;
//! use kymo_core::health::{HealthOptions, HealthStatus, OperationKind, Request, ServiceHealth};
//! use kymo_core::{Clock, ManualClock};
//!
//! let clock = Arc::new(ManualClock::at(1_700_000_000_000));
//! let health = ServiceHealth::new(HealthOptions::default(), clock.clone());
//! for i in 0..100 {
//!     health.record(&Request {
//!         service: "checkout",
//!         operation: "POST /orders",
//!         kind: OperationKind::Server,
//!         duration_seconds: 0.020,
//!         is_error: i % 10 == 0,
//!         end_ms: clock.now_ms(),
//!         weight: 1,
//!     });
//! }
//! health.aggregate_health();
//! let found = health.get("checkout").expect("recorded above");
//! assert_eq!((found.requests, found.errors, found.status), (100, 10, HealthStatus::Unhealthy));
//! assert_eq!(found.reason, "errors 10.0 % of requests in the last minute, limit 5 %");
//! ```

mod cells;
mod counts;
mod figures;
mod history;
mod judge;
mod options;
mod table;
#[cfg(test)]
mod tests;

pub use cells::{LATENCY_SCHEMA, Outcome};
pub use counts::{Counts, Latency};
pub use figures::{
    EdgeHealth, HealthStatus, HealthWindow, OperationHealth, OperationKind, ServiceHealthMetrics, ServiceName,
};
pub use history::WINDOWS_MS;
pub use options::{
    EDGES_MAX_DEFAULT, HEALTH_BYTES_MAX_DEFAULT, HealthOptions, HealthThresholds, OPERATIONS_MAX_DEFAULT,
    OPERATIONS_OF_SERVICE_MAX_DEFAULT, SERVICES_MAX_DEFAULT,
};
pub use table::{HealthFigures, Request, ServiceHealth};

/// The name under which is counted what is beyond a limit of names.
pub const OVERFLOW: &str = crate::registry::OVERFLOW_LABEL;
