//! One tree for what a program does: it cancels, counts, says what it waits for, and can be looked at from outside.
//!
//! ```text
//!   global                         counts of a path are those of everything below it
//!   ├── p2p                        cancel() reaches everything below
//!   │   └── alice@bv478gen         a context: metrics, data, counters, locks, waits
//!   │       └── stream-123         a request: persist() counts it on alice@bv478gen, p2p and global
//!   └── http
//! ```
//!
//! ```
//! use kymo_context::{Context, MetricValue};
//!
//! let app = Context::new("app");
//! let peer = app.child("alice@bv478gen").with_metric("commands", MetricValue::Counter(0)).begin();
//! for _ in 0..3 {
//!     let stream = peer.child("stream").begin();
//!     stream.persist();
//! }
//! assert_eq!(app.counter("app.alice@bv478gen.requests_last_hour"), Some(3));
//! assert_eq!(app.counter("app.requests_last_hour"), Some(3));
//! println!("{}", app.status());
//! ```
//!
//! # Metrics and data
//!
//! ```
//! # use std::time::Duration;
//! # use kymo_context::{Context, MetricValue};
//! # let task_ctx = Context::new("global");
//! # let (cmd_count, elapsed) = (3, Duration::from_millis(20));
//! // Add metrics during task execution
//! task_ctx.add_metric("commands_executed", MetricValue::Counter(cmd_count));
//! task_ctx.add_metric("response_time", MetricValue::Duration(elapsed));
//!
//! // Store debugging data
//! task_ctx.set_data("last_command", serde_json::Value::String("ls -la".to_string()));
//! task_ctx.set_data("exit_code", serde_json::Value::Number(0.into()));
//! # assert_eq!(task_ctx.get_data("exit_code"), Some(0.into()));
//! # assert_eq!(task_ctx.get_data("absent"), None);
//! ```
//!
//! ```
//! # use kymo_context::{Context, MetricValue};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let ctx = Context::new("global");
//! # let alice_id52 = "alice".to_string();
//! // Pre-configure context with builder
//! ctx.child("remote-shell-handler")
//!     .with_data("peer", serde_json::Value::String(alice_id52))
//!     .with_data("shell", serde_json::Value::String("bash".to_string()))
//!     .with_metric("commands_executed", MetricValue::Counter(0))
//!     .spawn(|task_ctx| async move {
//!         // Task starts with pre-configured data and metrics
//! #       assert_eq!(task_ctx.get_data("shell"), Some("bash".into()));
//!     });
//! # ctx.cancel();
//! # }
//! ```
//!
//! # Requests
//!
//! ```
//! # use std::sync::Arc;
//! # use kymo_context::Context;
//! // P2P stream handler
//! async fn handle_stream(ctx: Arc<Context>) {
//!     // Process stream...
//!     ctx.persist(); // Automatically increments all time window counters
//!
//!     // No manual counter management needed!
//!     // All metrics tracked automatically by dotted context path
//! }
//!
//! // HTTP request handler
//! async fn handle_request(ctx: Arc<Context>) {
//!     // Process request...
//!     ctx.persist(); // Auto-tracks "global.http.endpoint-xyz.requests_*"
//! }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let global = kymo_context::global();
//! # let peer = global.child("p2p").begin().child("alice@bv478gen").begin();
//! # handle_stream(peer.child("stream-123").begin()).await;
//! # let endpoint = global.child("http").begin().child("endpoint-xyz").begin();
//! # handle_request(endpoint.child("request-1").begin()).await;
//! # for name in ["global.p2p.alice@bv478gen", "global.p2p", "global.http.endpoint-xyz"] {
//! #     for window in ["since_start", "last_day", "last_hour", "last_minute", "last_second"] {
//! #         assert_eq!(kymo_context::counter(&format!("{name}.requests_{window}")), Some(1), "{name} {window}");
//! #     }
//! # }
//! # assert_eq!(kymo_context::counter("global.requests_last_hour"), Some(2));
//! # }
//! ```
//!
//! The path of the persisted context itself is not counted, because a request is there once: what counts is the path of its
//! parent. Each call of [`persist`](Context::persist) is one request.
//!
//! # Waits
//!
//! ```
//! # use kymo_context::Context;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let ctx = Context::new("global");
//! let accounts = ctx.mutex("accounts", vec![100, 200]);
//! let balance = accounts.lock().await[0];
//! let rows = ctx.waiting_on("db query", async { balance + 1 }).await;
//! assert_eq!(rows, 101);
//! # }
//! ```
//!
//! A [`Watch`] finds tasks that wait for each other in a circle and names them; [`Context::findings`] tells when asked.
//!
//! # What is bounded
//!
//! | What | Limit | Beyond it |
//! |---|---|---|
//! | finished contexts kept | [`Settings::finished_max`], 100 | the oldest goes |
//! | paths counted | [`Settings::paths_max`], 4,096 | the idlest leaves are folded into their parents, counted |
//! | depth of a counted path | 32 | deeper ones count for their ancestor |
//! | counters under a path | 64 | they share the name `kymo_overflow` |
//! | metrics of a context, and data | [`value::KEYS_MAX`], 128 each | new keys are left out, counted |
//! | a name | [`path::NAME_BYTES_MAX`], 256 bytes | cut |
//! | series of a family | [`metrics::SERIES_MAX`], 1,000 | left out, counted |
//!
//! No lock of this crate is held across an await, nor while foreign code runs.

#[cfg(unix)]
pub mod attach;
mod branch;
mod builder;
mod cancel;
mod context;
mod counts;
mod facts;
mod finished;
mod global;
pub mod lock;
pub mod metrics;
pub mod path;
#[cfg(feature = "main")]
mod program;
mod scope;
mod settings;
mod slots;
pub mod status;
mod sync;
mod tree;
pub mod value;
mod wait;
pub mod watch;

pub use builder::ContextBuilder;
pub use cancel::Cancelled;
pub use context::Context;
pub use facts::ContextFacts;
pub use global::{AlreadyBegun, configure, counter, global, status, status_json, status_stream, status_with_latest};
pub use lock::{ContextMutex, ContextRwLock, ContextSemaphore};
pub use metrics::ContextMetrics;
#[cfg(feature = "main")]
pub use program::Program;
pub use scope::{Scoped, current, try_current};
pub use settings::Settings;
pub use status::{Paint, Status, StatusStream};
pub use value::MetricValue;
pub use wait::{BlockingOn, WaitingOn};
pub use watch::{Finding, Watch, WatchOptions};

/// Runs an `async fn main` on tokio, inside the [`global`] context, and cancels it when `main` returns.
///
/// ```
/// #[kymo_context::main(worker_threads = 2)]
/// async fn main() {
///     let ctx = kymo_context::current();
///     assert_eq!(ctx.path(), "global");
///     let answer = ctx.spawn_child("startup", |ctx| async move { ctx.path() }).await;
///     assert_eq!(answer.unwrap(), "global.startup");
/// }
/// ```
///
/// Options: `worker_threads = n`, `current_thread = true`, `watch = false`, `attach = true`; they are the methods of
/// [`Program`].
#[cfg(feature = "main")]
pub use kymo_context_macros::main;
