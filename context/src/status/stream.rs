//! The status, again and again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::time::{Interval, MissedTickBehavior};

use super::Status;
use crate::context::Context;

/// Shortest time between two items.
const PERIOD: Duration = Duration::from_secs(1);

/// Made by [`Context::status_stream`]; never ends by itself.
pub struct StatusStream {
    root: Arc<Context>,
    looks: Interval,
    /// What was given last, without what changes by itself.
    last: Option<Status>,
}

impl StatusStream {
    #[track_caller]
    pub(super) fn new(root: Arc<Context>) -> StatusStream {
        let mut looks = tokio::time::interval(PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        StatusStream { root, looks, last: None }
    }

    /// The next item, for those who do not want a crate of stream adapters.
    pub async fn next(&mut self) -> Status {
        std::future::poll_fn(|task| self.poll_status(task)).await
    }

    fn poll_status(&mut self, task: &mut TaskContext<'_>) -> Poll<Status> {
        loop {
            ready!(self.looks.poll_tick(task));
            let status = self.root.status_with_latest();
            let lasting = status.clone().without_times();
            if self.last.as_ref() != Some(&lasting) {
                self.last = Some(lasting);
                return Poll::Ready(status);
            }
        }
    }
}

impl Stream for StatusStream {
    type Item = Status;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Status>> {
        self.poll_status(task).map(Some)
    }
}
