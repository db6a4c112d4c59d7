//! Bytes of an answer: counted in the query budget while they live, and their buffers used again.

use std::sync::{Arc, Mutex, PoisonError};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use kymo_core::{Budget, BudgetExceeded, Reservation};

use crate::status::ApiError;

/// Buffers kept for later answers.
const KEPT_MAX: usize = 16;
/// Larger buffers are given back to the system: a dashboard's answers are smaller.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// First size of a new buffer.
const BYTES_MIN: usize = 4 << 10;

/// Buffers of answers that were sent, waiting for the next. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnswerBuffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl AnswerBuffers {
    /// An empty answer whose growth is reserved in `budget`.
    pub(crate) fn answer(&self, budget: &Budget) -> Result<Answer, ApiError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = kept.unwrap_or_default();
        let reservation = budget.try_reserve(bytes.capacity() as u64).map_err(over_budget)?;
        Ok(Answer { bytes, reservation, buffers: self.clone() })
    }

    fn keep(&self, mut bytes: Vec<u8>) {
        if bytes.capacity() == 0 || bytes.capacity() > KEPT_BYTES_MAX {
            return;
        }
        bytes.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(bytes);
        }
    }
}

/// What [`Answer::reserve`] says at the limit.
pub(crate) fn over_budget(error: BudgetExceeded) -> ApiError {
    ApiError::of_kind(kymo_core::ErrorKind::Limit, error.to_string())
}

/// An answer being written.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Written so far. Growth beyond what [`reserve`](Self::reserve) made room for is not counted, so
    /// writers reserve first.
    pub(crate) bytes: Vec<u8>,
    reservation: Reservation,
    buffers: AnswerBuffers,
}

impl Answer {
    /// Makes room for `more` bytes, reserving memory before it is taken.
    pub(crate) fn reserve(&mut self, more: usize) -> Result<(), ApiError> {
        let wanted = self.bytes.len().saturating_add(more);
        if wanted <= self.bytes.capacity() {
            return Ok(());
        }
        let capacity = wanted.max(self.bytes.capacity().saturating_mul(2)).max(BYTES_MIN);
        self.reservation.grow((capacity - self.bytes.capacity()) as u64).map_err(over_budget)?;
        self.bytes.reserve_exact(capacity - self.bytes.len());
        Ok(())
    }

    /// The whole as a JSON response; memory is given back when it has been sent.
    pub(crate) fn into_json(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], Bytes::from_owner(self)).into_response()
    }
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.buffers.keep(std::mem::take(&mut self.bytes));
    }
}
