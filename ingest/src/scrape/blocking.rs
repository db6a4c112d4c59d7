//! Work that blocks, from a task that may not.

use kymo_core::BlockingPool;

use super::error::StoreError;

/// Runs `work` on the pool and waits for its result.
///
/// # Errors
/// [`StoreError::Pool`] if the pool is full, [`StoreError::Lost`] if the work panicked or the pool ended.
pub(super) async fn blocking<T: Send + 'static>(
    pool: &dyn BlockingPool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    let (reply, result) = tokio::sync::oneshot::channel();
    pool.try_execute(Box::new(move || {
        // Nobody waits any more: the task was cancelled, and what was done is done.
        let _ = reply.send(work());
    }))?;
    result.await.map_err(|_| StoreError::Lost)
}
