//! Which questions are answered at once.
//!
//! To hand work to a thread of the pool and its answer back takes two wake-ups and four switches between threads: more than the
//! work itself where it is the newest sample of a series or the values of a label. So a question that takes little is answered
//! where it came in. Nobody else waits for long because of it: it is given a deadline of its own, and if it does not hold that
//! this time, it is begun anew on the pool and goes there from then on, until it is brief again. One that took somewhat longer
//! once, as the first after others does that left nothing of it in the processor's caches, stays brief.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;

/// What took longer goes to the pool. A request's own way through sockets and HTTP takes about half as long.
const BRIEF_MAX: Duration = Duration::from_micros(250);
/// When an attempt is given up.
pub(crate) const ATTEMPT_MAX: Duration = Duration::from_millis(1);
/// Questions remembered; of two that want one place the later has it.
const KNOWN_MAX: usize = 1 << 10;
/// The part of a place that tells questions apart; the others count microseconds.
const TAG: u64 = !0xffff;

/// How long questions took. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Brief(Arc<Known>);

#[derive(Debug)]
struct Known {
    hasher: RandomState,
    /// Tag and microseconds. Relaxed: what is read late or lost is a question that takes the longer way once.
    places: Box<[AtomicU64]>,
}

/// A question, whoever asks it and for whichever time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Question(u64);

impl Default for Brief {
    fn default() -> Brief {
        let places = (0..KNOWN_MAX).map(|_| AtomicU64::new(0)).collect();
        Brief(Arc::new(Known { hasher: RandomState::default(), places }))
    }
}

impl Brief {
    /// The question that these parts make.
    pub(crate) fn question(&self, parts: impl Hash) -> Question {
        Question(self.0.hasher.hash_one(parts))
    }

    fn place(&self, question: Question) -> &AtomicU64 {
        &self.0.places[question.0 as usize % KNOWN_MAX]
    }

    /// Whether it takes little, as far as it was asked.
    pub(crate) fn is_brief(&self, question: Question) -> bool {
        let known = self.place(question).load(Ordering::Relaxed);
        known & TAG == question.0 & TAG && u128::from(known & !TAG) < BRIEF_MAX.as_micros()
    }

    /// It took so long. Longer than before counts half.
    pub(crate) fn took(&self, question: Question, time: Duration) {
        let mut micros = time.as_micros().min(u128::from(!TAG)) as u64;
        let known = self.place(question).load(Ordering::Relaxed);
        if known & TAG == question.0 & TAG && known & !TAG < micros {
            micros = (known & !TAG).midpoint(micros);
        }
        self.place(question).store(question.0 & TAG | micros, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_brief_from_when_it_was_until_it_was_not() {
        let brief = Brief::default();
        let (one, other) = (brief.question(("up", 1)), brief.question(("up", 2)));
        assert!(!brief.is_brief(one));
        brief.took(one, Duration::from_micros(50));
        assert!(brief.is_brief(one) && !brief.is_brief(other));
        brief.took(one, BRIEF_MAX + Duration::from_micros(50));
        assert!(brief.is_brief(one), "once is no habit");
        brief.took(one, BRIEF_MAX * 2);
        assert!(!brief.is_brief(one));
        brief.took(one, Duration::from_secs(100));
        assert!(!brief.is_brief(one));
        brief.took(one, Duration::from_micros(50));
        assert!(brief.is_brief(one));
        brief.took(one, ATTEMPT_MAX);
        assert!(!brief.is_brief(one), "what is given up is not tried again");
    }
}
