//! What this machine and this process say of themselves, as samples in the engine.
//!
//! ```text
//!   /proc, /sys ──► host ─────┐
//!                             ├──► Gathered ──► store: refs, staleness ──► SampleBatch ──► MetricStorage
//!   Registry, others ──► own ──┘
//! ```
//!
//! [`Collector`] is the loop; one of it runs per source. The host's metrics have node_exporter's names, labels and help,
//! so that existing dashboards and rules work; this process' own are those of its registry, and
//! what else the program says of it.
//!
//! Linux only. Files are read directly: what the kernel does not offer on this machine (containers, small kernels) is no
//! error and gives no samples.
//!
//! ```
//! use std::sync::Arc;
//! use kymo_core::pool::ThreadPool;
//! use kymo_core::{MemoryStorage, Registry};
//! use kymo_ingest::collect::{CollectParts, Collector, CollectorOptions, HostOptions};
//!
//! let pool = Arc::new(ThreadPool::start("ingest", 1, 16)?);
//! let parts = CollectParts::around(Arc::new(MemoryStorage::default()), pool);
//! let collector = Collector::host(CollectorOptions::host(), HostOptions::default(), parts)?;
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
//! # let stop = tokio_util::sync::CancellationToken::new();
//! # stop.cancel();
//! # runtime.block_on(
//! collector.run(stop)
//! # );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod gathered;
pub mod host;
pub mod metrics;
mod own;
mod runner;
mod store;
#[cfg(test)]
mod tests;

pub use gathered::{FamilyWriter, Gathered};
pub use host::{HostOptions, ReadError, Roots};
pub use runner::{CollectParts, Collector, CollectorOptions, Source, hostname};
