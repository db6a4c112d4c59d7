//! Everything that leaves Kymo for machines: a program's `/metrics`, the HTTP server, the Prometheus HTTP API, and the client for it.
//!
//! ```text
//!            listeners ──▶ server: limits, auth, CORS, gzip, panics, drain
//!                             │
//!                             ▼  axum::Router, merged by the caller from every crate's `routes`
//!            api: query, query_range, series, labels, status ──▶ QueryBackend (core)
//!                                                                     ▲
//!            client: any Prometheus API as a QueryBackend ────────────┘
//! ```
//!
//! Wire shapes stop here: below the seams nobody knows what JSON is. Deliberately absent: alert
//! logic, and HTML beyond the one page that answers until the web app exists.
//!
//! A program that wants no more than a `/metrics` of its own takes `MetricsServer`, which needs none of that. Whoever
//! serves more begins with two names:
#![cfg_attr(feature = "server", doc = "```no_run")]
#![cfg_attr(not(feature = "server"), doc = "```ignore")]
//! # async fn example() -> Result<(), kymo_export::server::ServerError> {
//! use kymo_export::server::{Server, ServerOptions};
//!
//! let server = Server::bind(ServerOptions::default()).await?;
//! println!("listening on {:?}", server.addresses());
//! let router = axum::Router::new().route("/hello", axum::routing::get(|| async { "hello" }));
//! server.run(router, tokio_util::sync::CancellationToken::new()).await;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "api")]
pub mod api;
#[cfg(feature = "client")]
pub mod client;
pub mod exposition;
#[cfg(feature = "files")]
pub mod files;
#[cfg(feature = "metrics-server")]
pub mod metrics_server;
#[cfg(feature = "api")]
pub mod page;
#[cfg(feature = "process")]
pub mod process;
#[cfg(feature = "program-status")]
pub mod program_status;
#[cfg(feature = "api")]
pub mod remote_read;
#[cfg(feature = "server")]
pub mod server;

#[cfg(any(feature = "api", feature = "files"))]
mod json;
mod label_name;
#[cfg(feature = "listen")]
mod listen;
#[cfg(any(feature = "api", feature = "server"))]
mod peer;
#[cfg(feature = "api")]
mod status;

#[cfg(feature = "metrics-server")]
pub use metrics_server::{MetricsEndpoint, MetricsServer, MetricsServerError};
