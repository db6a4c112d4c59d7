//! PromQL over any metric storage.
//!
//! ```text
//!   text ──▶ parser ──▶ Ast ──▶ plan ──▶ eval ──▶ QueryResult
//!                                │         │
//!                 windows, grids─┘         └─ select ──▶ MetricStorage
//! ```
//!
//! [`Engine`] answers as Prometheus 3.x does, value for value and word for word, over anything that is a
//! [`MetricStorage`](kymo_core::MetricStorage). A node of an expression is evaluated once over the whole
//! step grid, an instant query being a grid of one. Nothing here knows how samples are stored or how
//! answers are sent.
//!
//! ```
//! use std::sync::Arc;
//!
//! use kymo_core::query::Grid;
//! use kymo_core::{Labels, MemoryStorage, MetricStorage, QueryBackend, QueryContext, QueryRequest};
//! use kymo_query::Engine;
//!
//! let storage = Arc::new(MemoryStorage::default());
//! for (job, value) in [("api", 3.0), ("web", 4.0)] {
//!     let labels = Labels::from_pairs([("__name__", "requests"), ("job", job)]);
//!     storage.store_metric(labels.as_ref(), 60_000, value)?;
//! }
//! let engine = Engine::new(storage);
//! let request = QueryRequest::new("sum(requests)", Grid::Instant { at_ms: 60_000 });
//! let answer = engine.query(&request, &QueryContext::unlimited())?;
//! # let kymo_core::query::QueryValue::Vector(series) = answer.value else { panic!() };
//! # assert_eq!(series[0].floats, [7.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod empties;
mod engine;
mod eval;
mod functions;
pub mod parser;
mod plan;
pub mod promqltest;
mod reuse;
mod threads;

pub use engine::{Engine, EngineConfig};
