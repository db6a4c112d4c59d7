//! What a user of the crate relies on, by topic.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[cfg(unix)]
mod attach;
mod findings;
mod locks;
mod metrics;
mod requests;
mod status;
mod sums;
mod tree;

use std::sync::Arc;
use std::time::Duration;

use kymo_context::{Context, Settings};
use kymo_core::ManualClock;

/// A tree whose time stands still until it is moved.
fn at_rest(settings: Settings) -> (Arc<Context>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let root = Context::with_settings("global", Settings { clock: clock.clone(), ..settings });
    (root, clock)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Lets every other task run until nothing is ready; for runtimes of one thread.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
