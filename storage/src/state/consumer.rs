//! Handing the records of a queue to whoever handles them, counted and timed.

use std::sync::Arc;

use kymo_core::Clock;
use kymo_core::metric::MetricKind;
use kymo_core::registry::{Counter, Histogram, MetricDesc, RegisterError, Registry};
use kymo_core::state::{DiskQueue, QueueError, QueuePosition, StateSource};

use super::measured::BUCKETS;

/// The metrics of who handles the messages of a queue.
pub const MESSAGE_METRICS: &[MetricDesc] = &[RECEIVED, PROCESSING];

const RECEIVED: MetricDesc = MetricDesc {
    name: "messages_received_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Messages that were handled, or could not be.",
    labels: &["result"],
};
const PROCESSING: MetricDesc = MetricDesc {
    name: "message_processing_duration_seconds",
    kind: MetricKind::Histogram,
    unit: "seconds",
    help: "Time it took to handle a message, or to find that it cannot be.",
    labels: &["result"],
};

/// The one consumer of a [`DiskQueue`]: takes its messages in order, each at least once.
///
/// Every message that was handled counts in `messages_received_total` and is timed in
/// `message_processing_duration_seconds`; so does one that could not be, with another `result`.
pub struct Consumer {
    queue: Arc<dyn DiskQueue>,
    clock: Arc<dyn Clock>,
    handled: (Counter, Histogram),
    failed: (Counter, Histogram),
}

/// What came of a round of [`Consumer::handle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Consumed {
    /// Messages that were handled and acknowledged.
    pub messages: u64,
    /// Damaged stretches of the queue that were passed over.
    pub damaged: u64,
}

/// Why a round ended before the queue did. What was handled before is acknowledged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The message stays the first of the queue.
    #[error("the message at queue position {} could not be handled", .position.0)]
    Message {
        /// Where it begins.
        position: QueuePosition,
        /// What the handler said.
        source: StateSource,
    },
    /// The queue refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Consumer {
    /// A consumer that goes on at the queue's checkpoint.
    ///
    /// # Errors
    /// The registry has metrics of these names of another form.
    pub fn new(
        queue: Arc<dyn DiskQueue>,
        registry: &Registry,
        clock: Arc<dyn Clock>,
    ) -> Result<Consumer, RegisterError> {
        let counts = registry.counter(&RECEIVED).labels(["result"]).family()?;
        let times = registry.histogram(&PROCESSING).buckets(&BUCKETS).labels(["result"]).family()?;
        let handles = |result| (counts.with([result]), times.with([result]));
        Ok(Consumer { queue, clock, handled: handles("ok"), failed: handles("error") })
    }

    /// Hands over every message that is there now, in order, and acknowledges those that were handled. Does not wait for more.
    ///
    /// # Errors
    /// [`ConsumeError`]; the next call begins with the message that this one ended at.
    pub fn handle(&self, mut handle: impl FnMut(&[u8]) -> Result<(), StateSource>) -> Result<Consumed, ConsumeError> {
        let (mut consumed, mut records, end) = (Consumed::default(), Vec::new(), self.queue.end());
        let mut position = self.queue.checkpoint();
        let ended = loop {
            if position >= end {
                break Ok(());
            }
            records.clear();
            // One at a time, so that it is known where each ends.
            match self.queue.read(position, 1, &mut records) {
                Ok(next) => match records.iter().try_for_each(|record| self.measure(|| handle(record))) {
                    Ok(()) => {
                        consumed.messages += records.len() as u64;
                        position = next;
                    }
                    Err(source) => break Err(ConsumeError::Message { position, source }),
                },
                Err(QueueError::Damaged { resume, .. }) => {
                    consumed.damaged += 1;
                    position = resume;
                }
                // Given up for their age meanwhile.
                Err(QueueError::Gone { checkpoint, .. }) => position = checkpoint,
                Err(error) => break Err(error.into()),
            }
        };
        self.queue.acknowledge(position)?;
        ended.map(|()| consumed)
    }

    fn measure(&self, handle: impl FnOnce() -> Result<(), StateSource>) -> Result<(), StateSource> {
        let began = self.clock.monotonic();
        let result = handle();
        let took = self.clock.monotonic().saturating_sub(began);
        let (count, time) = if result.is_ok() { &self.handled } else { &self.failed };
        count.add(1);
        time.record(took.as_secs_f64());
        result
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}
