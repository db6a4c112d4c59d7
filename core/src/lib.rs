//! The shared vocabulary of Kymo: types, the hot path's handles, and the seams between its crates.
//!
//! ```text
//!   metric, registry, window  what a program records          (live values, no history)
//!   labels, matcher           what names a series, what finds one
//!   batch ──► storage ──► query                               the way of a sample, as traits
//!   histogram, aggregate      arithmetic that storage and query share
//!   increments                totals of what was only told in parts
//!   budget, ledger, clock     limits, losses, time
//!   heap                      freed memory given back to the system
//!   text, config, status      shared text forms, configuration values, facts to show
//! ```
//!
//! Nothing here knows a file, a socket, an async runtime or a wire form. The traits are the seams:
//! [`MetricStorage`] (an engine), [`QueryBackend`] (something that answers PromQL), and the small
//! ones in [`pool`] and [`state`].
//!
//! ```
//! use kymo_core::{Labels, MemoryStorage, MetricStorage, SampleBatch};
//!
//! let storage = MemoryStorage::default();
//! let mut batch = SampleBatch::new();
//! batch.push_float(&Labels::from_pairs([("__name__", "up"), ("job", "node")]), 1_000, 1.0);
//! let report = storage.append(&batch)?;
//! assert_eq!(report.stored.floats, 1);
//! # Ok::<(), kymo_core::AppendError>(())
//! ```

pub mod aggregate;
pub mod batch;
pub mod budget;
pub mod clock;
pub mod config;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod distinct;
#[cfg(not(kymo_portable))]
mod epoch;
pub mod error;
pub mod health;
pub mod heap;
pub mod histogram;
pub mod increments;
pub mod intern;
pub mod labels;
pub mod ledger;
pub mod matcher;
pub mod memory;
pub mod metric;
pub mod pool;
pub mod query;
pub mod random;
pub mod registry;
pub mod ring;
mod short;
mod sorted;
pub mod state;
pub mod status;
pub mod storage;
pub mod text;
pub mod window;

pub use aggregate::MetricAggregator;
pub use batch::{Exemplar, FamilyType, Increment, Metadata, SampleBatch, SeriesRef, Total};
pub use budget::{Budget, BudgetExceeded, Reservation};
pub use clock::{Clock, ManualClock, SystemClock};
pub use distinct::Distinct;
pub use error::ErrorKind;
pub use health::{ServiceHealth, ServiceHealthMetrics, ServiceName};
pub use histogram::NativeHistogram;
pub use intern::{StringId, StringPool};
pub use labels::{Labels, LabelsBuilder, LabelsRef, METRIC_NAME};
pub use ledger::LossLedger;
pub use matcher::{MatchOp, Matcher};
pub use memory::MemoryStorage;
pub use metric::{MetricKind, MetricPoint, MetricType};
pub use pool::BlockingPool;
pub use query::{QueryBackend, QueryError, QueryRequest, QueryResult};
pub use random::Random;
pub use registry::{MetricDesc, Registry};
pub use ring::HotMetricsRing;
pub use state::{DiskQueue, StateStore};
pub use status::StatusSource;
pub use storage::{
    AppendError, AppendReport, Changes, Columns, Deletion, MetricStorage, QueryContext, RejectReason, SelectError,
    Selector, SeriesSet,
};
