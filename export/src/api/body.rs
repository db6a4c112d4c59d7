//! Bytes of an answer: counted in the query budget while they live, and their buffers used again.

use std::sync::{Arc, Mutex, PoisonError};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use kymo_core::query::QueryError;
use kymo_core::storage::CancelFlag;
use kymo_core::{BudgetExceeded, QueryContext, Reservation, SelectError};

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
    /// An empty answer whose growth is reserved in the query's budget, and which ends when the query is cancelled.
    pub(crate) fn answer(&self, ctx: &QueryContext) -> Result<Answer, ApiError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = kept.unwrap_or_default();
        let reservation = ctx.budget.try_reserve(bytes.capacity() as u64).map_err(over_budget)?;
        Ok(Answer { bytes, reservation, cancel: ctx.cancel.clone(), buffers: self.clone() })
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
    cancel: CancelFlag,
    buffers: AnswerBuffers,
}

impl Answer {
    /// Fails when nobody waits for the answer any more. For loops that are long for one series.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        match self.cancel.is_cancelled() {
            true => Err(ApiError::from(QueryError::from(SelectError::Cancelled))),
            false => Ok(()),
        }
    }

    /// Makes room for `more` bytes, reserving memory before it is taken.
    ///
    /// Writers come here once per series at least: it is also where a client that went away ends the writing.
    pub(crate) fn reserve(&mut self, more: usize) -> Result<(), ApiError> {
        self.check()?;
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
        self.into_response_of("application/json")
    }

    /// The same with another content type.
    pub(crate) fn into_response_of(self, content_type: &'static str) -> Response {
        ([(header::CONTENT_TYPE, content_type)], Bytes::from_owner(self)).into_response()
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

#[cfg(test)]
mod tests {
    use kymo_core::Labels;
    use kymo_core::query::{PointTimes, QueryResult, QueryValue, ResultSeries};

    use super::super::write::{write_data_list, write_labels, write_query};
    use super::*;

    const SERIES: usize = 500;
    const POINTS: usize = 1_000;

    fn matrix() -> QueryResult {
        let one = |n: usize| ResultSeries {
            labels: Labels::from_pairs([("n", n.to_string().as_str())]),
            times: PointTimes::Own((0..POINTS as i64).collect()),
            floats: (0..POINTS).map(|at| at as f64 / 3.0).collect(),
            histograms: Vec::new(),
        };
        QueryResult { value: QueryValue::Matrix((0..SERIES).map(one).collect()), ..QueryResult::default() }
    }

    #[test]
    fn one_series_of_very_many_samples_is_left_when_nobody_waits() {
        let ctx = QueryContext::unlimited();
        let count = 100_000;
        let series = ResultSeries {
            labels: Labels::empty(),
            times: PointTimes::Own((0..count).collect()),
            floats: (0..count).map(|at| at as f64 / 3.0).collect(),
            histograms: Vec::new(),
        };
        let result = QueryResult { value: QueryValue::Matrix(vec![series]), ..QueryResult::default() };
        let mut whole = AnswerBuffers::default().answer(&ctx).unwrap();
        write_query(&mut whole, &result).unwrap();
        let text: serde_json::Value = serde_json::from_slice(&whole.bytes).unwrap();
        let values = text["data"]["result"][0]["values"].as_array().unwrap();
        assert_eq!(values.len() as i64, count);
        let is_right = |at: usize| {
            let (time, value) = (values[at][0].as_f64(), values[at][1].as_str().and_then(|v| v.parse::<f64>().ok()));
            (time, value) == (Some(at as f64 / 1000.0), Some(at as f64 / 3.0))
        };
        assert!((0..values.len()).all(is_right));
        // Room is there already, so that only the loop over points can look.
        let mut answer = AnswerBuffers::default().answer(&ctx).unwrap();
        answer.reserve(whole.bytes.len()).unwrap();
        ctx.cancel.cancel();
        assert_eq!(write_query(&mut answer, &result).unwrap_err().status().as_u16(), 499);
    }

    #[test]
    fn a_cancelled_answer_ends_within_one_series() {
        let (ctx, result) = (QueryContext::unlimited(), matrix());
        let mut whole = AnswerBuffers::default().answer(&ctx).unwrap();
        write_query(&mut whole, &result).unwrap();
        let one_series = whole.bytes.len() / SERIES;
        let mut answer = AnswerBuffers::default().answer(&ctx).unwrap();
        let mut written_at_cancel = 0;
        let QueryValue::Matrix(series) = &result.value else { panic!("a matrix") };
        let mut seen = 0;
        let ended = write_data_list(&mut answer, series, &result.annotations, |out, series| {
            seen += 1;
            if seen == 7 {
                written_at_cancel = out.bytes.len();
                ctx.cancel.cancel();
            }
            write_labels(out, &series.labels)
        });
        let error = ended.unwrap_err();
        assert_eq!((error.status().as_u16(), seen), (499, 7), "{}", error.message());
        assert_eq!(error.message(), "query was canceled in expression evaluation");
        assert!(answer.bytes.len() <= written_at_cancel + one_series);
        // The flag is up: of a query's whole answer not one series is begun.
        let mut answer = AnswerBuffers(Arc::default()).answer(&ctx).unwrap();
        assert_eq!(write_query(&mut answer, &result).unwrap_err().status().as_u16(), 499);
        assert!(answer.bytes.len() < one_series);
    }
}
