//! The one tree of a program, and the functions that speak of it.

use std::sync::{Arc, OnceLock};

use crate::context::Context;
use crate::settings::Settings;
use crate::status::{Status, StatusStream};

static GLOBAL: OnceLock<Arc<Context>> = OnceLock::new();

/// The global context has begun, so its settings are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the global context has begun already")]
pub struct AlreadyBegun;

/// The root of the program's tree, named `global`. It begins with the first call and ends with the process.
#[must_use]
pub fn global() -> Arc<Context> {
    GLOBAL.get_or_init(|| Context::new("global")).clone()
}

/// Begins the global context with settings of choice.
///
/// # Errors
/// [`AlreadyBegun`] when something has used it before.
pub fn configure(settings: Settings) -> Result<Arc<Context>, AlreadyBegun> {
    let context = Context::with_settings("global", settings);
    GLOBAL.set(context.clone()).map_err(|_| AlreadyBegun)?;
    Ok(context)
}

/// [`Context::counter`] in the global tree: `counter("global.p2p.requests_last_hour")`.
#[must_use]
pub fn counter(name: &str) -> Option<u64> {
    global().counter(name)
}

/// [`Context::status`] of the global tree.
#[must_use]
pub fn status() -> Status {
    global().status()
}

/// [`Context::status_with_latest`] of the global tree.
#[must_use]
pub fn status_with_latest() -> Status {
    global().status_with_latest()
}

/// [`Context::status_json`] of the global tree.
#[must_use]
pub fn status_json() -> serde_json::Value {
    global().status_json()
}

/// [`Context::status_stream`] of the global tree.
///
/// # Panics
/// Outside of a tokio runtime with its timer on.
#[must_use]
pub fn status_stream() -> StatusStream {
    global().status_stream()
}
