//! Kymo as a library: the crates of the engine under one name.
//!
//! ```text
//!   core      types and seams: labels, batches, MetricStorage, QueryBackend
//!   context   the tree of what a program does: cancelling, requests, waits, status
//!   storage   the engine on disk
//!   query     PromQL over any MetricStorage
//!   ingest    every way into any MetricStorage: scraping, OTLP, remote write, the host
//!   export    the HTTP API over any QueryBackend, and a client that is one
//! ```
//!
//! Without the default feature `cli` nothing of a command line or an HTTP stack is built. An engine inside a program,
//! and a question asked of it:
//!
//! ```
//! use std::sync::Arc;
//!
//! use kymo::core::query::{Grid, QueryValue};
//! use kymo::core::{Clock, Labels, MetricStorage, QueryBackend, QueryContext, QueryRequest, SystemClock};
//! use kymo::storage::fs::RealFs;
//!
//! let dir = tempfile::tempdir()?;
//! let (engine, _report) = kymo::storage::Engine::open(Arc::new(RealFs), dir.path(), Default::default())?;
//! let engine = Arc::new(engine);
//! let now_ms = SystemClock::new().now_ms();
//! engine.store_metric(Labels::from_pairs([("__name__", "temperature"), ("city", "Oslo")]).as_ref(), now_ms, -1.5)?;
//!
//! let promql = kymo::query::Engine::new(engine.clone());
//! let request = QueryRequest::new("temperature * 2", Grid::Instant { at_ms: now_ms });
//! let answer = promql.query(&request, &QueryContext::unlimited())?;
//! let QueryValue::Vector(series) = answer.value else { panic!("an instant vector was asked for") };
//! assert_eq!(series[0].floats, [-3.0]);
//! engine.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

/// The configuration file of the program; here so that the program and its fuzz target read it alike.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod config;

pub use kymo_context as context;
pub use kymo_core as core;
pub use kymo_export as export;
pub use kymo_ingest as ingest;
pub use kymo_query as query;
pub use kymo_storage as storage;
