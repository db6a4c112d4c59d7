//! Calls of which one side was told and the other may still come: a client's span waits for the server's span that has
//! it for its parent, and the other way round.
//!
//! Bounded in number and in time. What waited in vain is settled by what its own side said, or forgotten.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::gather::SpanNumber;
use super::tally::Observed;

/// How long one side waits for the other: SDKs send every few seconds.
pub(super) const WAIT_MS: i64 = 30_000;
/// Sides that wait at most; the oldest are settled early.
pub const WAITING_MAX: usize = 65_536;

/// What a caller says of a call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) caller: Arc<str>,
    /// The callee's name if it says none itself; empty if that is not known either.
    pub(super) callee: Box<str>,
    pub(super) observed: Observed,
}

/// One side of a call.
#[derive(Debug, Clone)]
pub(super) enum Side {
    Caller(Call),
    /// The service that was called.
    Callee(Arc<str>),
}

#[derive(Debug, Default)]
pub(super) struct Links {
    /// By the number of the caller's span; with the time at which the wait ends.
    waiting: HashMap<SpanNumber, (i64, Side), foldhash::fast::RandomState>,
    order: VecDeque<(i64, SpanNumber)>,
}

impl Links {
    /// Sides that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes the caller's side out.
    pub(super) fn take_caller(&mut self, number: SpanNumber) -> Option<Call> {
        match self.waiting.get(&number) {
            Some((_, Side::Caller(_))) => match self.waiting.remove(&number) {
                Some((_, Side::Caller(call))) => Some(call),
                _ => None,
            },
            _ => None,
        }
    }

    /// Takes the callee's side out.
    pub(super) fn take_callee(&mut self, number: SpanNumber) -> Option<Arc<str>> {
        match self.waiting.get(&number) {
            Some((_, Side::Callee(_))) => match self.waiting.remove(&number) {
                Some((_, Side::Callee(service))) => Some(service),
                _ => None,
            },
            _ => None,
        }
    }

    /// Lets a side wait until `until_ms`; whether nothing else waits under that number.
    pub(super) fn put(&mut self, number: SpanNumber, until_ms: i64, side: Side) -> bool {
        if self.waiting.contains_key(&number) {
            return false;
        }
        self.waiting.insert(number, (until_ms, side));
        self.order.push_back((until_ms, number));
        true
    }

    /// Takes what was put by a request back.
    pub(super) fn forget(&mut self, number: SpanNumber) {
        self.waiting.remove(&number);
    }

    /// Whether somebody's wait is over.
    pub(super) fn has_waited(&self, now_ms: i64) -> bool {
        self.order.front().is_some_and(|(until_ms, _)| *until_ms <= now_ms)
    }

    /// Takes out the next side whose wait is over, or that is one too many.
    pub(super) fn pop_settled(&mut self, now_ms: i64) -> Option<Side> {
        while let Some(&(until_ms, number)) = self.order.front() {
            // Entries of sides that were met stay in the order until their time.
            let is_too_many = self.waiting.len() > WAITING_MAX || self.order.len() > 2 * WAITING_MAX;
            if until_ms > now_ms && !is_too_many {
                return None;
            }
            self.order.pop_front();
            if self.waiting.get(&number).is_some_and(|(until, _)| *until == until_ms)
                && let Some((_, side)) = self.waiting.remove(&number)
            {
                return Some(side);
            }
        }
        None
    }
}
