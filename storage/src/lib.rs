//! Kymo's time-series engine: samples in a log and in memory, then in immutable blocks.
//!
//! ```text
//!   append ──► resolve series ──► frame ──► wal/ ──► head (open runs, sealed chunks) ──► acknowledged
//!                                            │              │ flush
//!                                            │              ▼
//!                                     removed after    blocks/ (one file each) ──► merged, retired
//!   select ◄── snapshot of head and blocks, merged per series
//! ```
//!
//! The engine is synchronous, has no threads of its own once it is open, and reaches the disk only through [`fs::Fs`].
//! Whoever opens it calls [`Engine::maintain`] for each [`Lane`].
//!
//! ```
//! use kymo_core::{Labels, MetricStorage, SampleBatch};
//! use kymo_storage::{Engine, Options, fs::RealFs};
//!
//! let dir = tempfile::tempdir()?;
//! let (engine, report) = Engine::open(std::sync::Arc::new(RealFs), dir.path(), Options::default())?;
//! assert_eq!(report.samples, 0);
//! let mut batch = SampleBatch::new();
//! let now = kymo_core::Clock::now_ms(&kymo_core::SystemClock::new());
//! batch.push_float(&Labels::from_pairs([("__name__", "up")]), now, 1.0);
//! assert_eq!(engine.append(&batch)?.stored.floats, 1);
//! engine.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod append;
mod block;
mod blocks;
mod changes;
mod chunk;
mod codec;
mod compact;
mod compressor;
mod delete;
#[cfg(feature = "encoders")]
pub mod encoders;
mod engine;
mod error;
mod flush;
#[cfg(test)]
mod format_page;
mod frames;
pub mod fs;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod head;
mod hidden;
mod increments;
mod listing;
mod maintain;
mod manifest;
mod merge;
mod metrics;
mod open;
mod options;
mod overflow;
mod presence;
mod restore;
mod retention;
mod rollup;
mod room;
mod sample;
mod select;
mod snapshot;
pub mod state;
mod tombstones;
mod verify;
mod wal;

pub use block::{BlockStatistics, BlockSummary, EncodingStatistics};
pub use chunk::Samples;
pub use codec::Malformed;
pub use compact::CleanReport;
pub use compressor::{Compressor, FastCompressor, SmallCompressor};
pub use delete::{DeleteError, DeleteReport};
pub use engine::Engine;
pub use error::StorageError;
pub use maintain::{Lane, MaintainLimit, Next};
pub use metrics::METRICS;
pub use open::{OpenReport, Opening, ReplayProgress};
pub use options::{Limits, Options, SyncPolicy};
pub use restore::restore;
pub use retention::{RetentionFigures, RetentionPolicy, RetentionPreview, RetentionRule};
pub use snapshot::{SnapshotError, SnapshotExtent, snapshot};
pub use tombstones::TOMBSTONES_MAX;
pub use verify::{Depth, Fault, VerifyReport, verify};
pub use wal::LogDamage;
