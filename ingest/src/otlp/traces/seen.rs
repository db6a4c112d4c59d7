//! Spans that were counted lately, so that a request that is sent again counts nothing twice.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::gather::SpanNumber;

/// A span is remembered at least so long: exporters give a request up after ten seconds, and retry for a minute.
pub(super) const REMEMBERED_MS: i64 = 120_000;
/// Spans remembered at most in either generation; with more, the time is shorter.
pub const GENERATION_MAX: usize = 500_000;

/// What is known of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It was not met.
    New,
    /// It is counted.
    Counted,
    /// A request that has no answer yet brought it.
    UnderWay,
}

/// Two generations, of which the older is forgotten as a whole.
#[derive(Debug, Default)]
pub(super) struct Seen {
    now: HashSet<SpanNumber, RandomState>,
    before: HashSet<SpanNumber, RandomState>,
    began_ms: i64,
    /// By the request that brought them.
    under_way: HashMap<SpanNumber, u64, RandomState>,
}

impl Seen {
    /// Notes that a request brings a span; says what was known of it.
    pub(super) fn bring(&mut self, number: SpanNumber, request: u64) -> Known {
        if self.now.contains(&number) || self.before.contains(&number) {
            return Known::Counted;
        }
        match self.under_way.get(&number) {
            // Twice in one request.
            Some(other) if *other == request => Known::Counted,
            Some(_) => Known::UnderWay,
            None => {
                self.under_way.insert(number, request);
                Known::New
            }
        }
    }

    /// The request of these spans has its answer: they are counted, or not.
    pub(super) fn end(&mut self, number: SpanNumber, is_counted: bool) {
        self.under_way.remove(&number);
        if is_counted {
            self.now.insert(number);
        }
    }

    /// Begins a new generation when it is time.
    pub(super) fn turn(&mut self, now_ms: i64) {
        if self.now.len() >= GENERATION_MAX || now_ms.saturating_sub(self.began_ms) >= REMEMBERED_MS {
            std::mem::swap(&mut self.now, &mut self.before);
            self.now.clear();
            self.began_ms = now_ms;
        }
    }

    /// Spans remembered.
    pub(super) fn len(&self) -> usize {
        self.now.len() + self.before.len()
    }
}
