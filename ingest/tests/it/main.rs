//! The receiver at its door: HTTP, bytes in, samples in an engine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cache;
mod hostile;
mod http;
mod oracle;
mod support;
mod wire;
