//! Deletes that blocks still have to be read past: what each hides, in the log and in the manifest, and until when.
//!
//! A delete is a record of the log like an append, and is applied in the log's order. In the head it takes samples away
//! at once ([`crate::head`]); blocks do not change, so there it stays as a *tombstone*: it hides what it is about in
//! every block that was written, or set apart to be written, before it. Tombstones carry numbers that rise in the order of
//! the log, and a block carries the number up to which deletes are no longer in it.
//!
//! Invariants: (1) a block holds no sample that a delete up to its number hides, and no sample written after a delete
//! above its number hides it: what hides a sample is compared with the block it is in, before blocks are compared with each
//! other; (2) a tombstone is in the manifest as long as a block, or what is being flushed, has a lower number; before
//! that, the log has its record: it is there since before it was applied; (3) replaying a record twice changes nothing.

use std::sync::Arc;

use kymo_core::{Deletion, MatchOp, Matcher};

use crate::codec::{Malformed, Reader, put_block, put_varint, put_zigzag};

/// Deletes whose bytes are not given back yet, at once: each select of old data looks at all that reach into its window.
pub const TOMBSTONES_MAX: usize = 1_000;

/// A delete with its number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tombstone {
    pub(crate) id: u64,
    pub(crate) what: Deletion,
}

impl Tombstone {
    /// Appends it as the log and the manifest have it.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id);
        put_zigzag(out, self.what.start_ms);
        put_zigzag(out, self.what.end_ms);
        put_varint(out, self.what.any_of.len() as u64);
        for all in &self.what.any_of {
            put_varint(out, all.len() as u64);
            for matcher in all {
                out.push(op_number(matcher.op()));
                put_block(out, matcher.name().as_bytes());
                put_block(out, matcher.value().as_bytes());
            }
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Tombstone, Malformed> {
        let (id, start_ms, end_ms) = (from.varint()?, from.zigzag()?, from.zigzag()?);
        let mut any_of = Vec::new();
        for _ in 0..from.count(1)? {
            let mut all = Vec::new();
            for _ in 0..from.count(3)? {
                let Some(op) = op_of(from.u8()?) else { return from.bad("unknown kind of matcher") };
                let (name, value) = (from.text()?, from.text()?);
                let Ok(matcher) = Matcher::new(name, op, value) else { return from.bad("expression does not compile") };
                all.push(matcher);
            }
            any_of.push(all);
        }
        Ok(Tombstone { id, what: Deletion { any_of, start_ms, end_ms } })
    }

    /// Whether it is about a time between these, both inclusive.
    pub(crate) fn reaches(&self, first_ms: i64, last_ms: i64) -> bool {
        self.what.start_ms <= last_ms && first_ms <= self.what.end_ms
    }
}

fn op_number(op: MatchOp) -> u8 {
    match op {
        MatchOp::Equal => 0,
        MatchOp::NotEqual => 1,
        MatchOp::Regex => 2,
        MatchOp::NotRegex => 3,
    }
}

fn op_of(number: u8) -> Option<MatchOp> {
    [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex].get(usize::from(number)).copied()
}

/// The tombstones, and how far the log is applied.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    /// By rising number.
    list: Vec<Arc<Tombstone>>,
    /// The last delete that was applied to the head.
    applied: u64,
    /// The highest number that was ever seen.
    last: u64,
    /// While something is set apart: the last delete applied before that.
    frozen: Option<u64>,
}

impl Tombstones {
    /// As the manifest has them; `applied` is the last delete in front of where replay begins.
    pub(crate) fn new(list: Vec<Tombstone>, applied: u64, numbers: impl Iterator<Item = u64>) -> Tombstones {
        let mut list: Vec<Arc<Tombstone>> = list.into_iter().map(Arc::new).collect();
        list.sort_by_key(|tombstone| tombstone.id);
        let last = list.iter().map(|t| t.id).chain(numbers).max().unwrap_or(0).max(applied);
        Tombstones { list, applied, last, frozen: None }
    }

    pub(crate) fn list(&self) -> &[Arc<Tombstone>] {
        &self.list
    }

    /// The last delete that was applied to the head.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// The highest number that was ever seen.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// A delete was applied to the head.
    pub(crate) fn apply(&mut self, tombstone: Tombstone) {
        self.applied = tombstone.id;
        self.last = self.last.max(tombstone.id);
        if let Err(at) = self.list.binary_search_by_key(&tombstone.id, |t| t.id) {
            self.list.insert(at, Arc::new(tombstone));
        }
    }

    /// Everything in the head is set apart; gives the last delete before.
    pub(crate) fn freeze(&mut self) -> u64 {
        self.frozen = Some(self.applied);
        self.applied
    }

    /// What was set apart is in blocks.
    pub(crate) fn thaw(&mut self) {
        self.frozen = None;
    }

    /// Those that `is_pending` in a block, or hide something of what is set apart.
    pub(crate) fn needed(&self, is_pending: impl Fn(u64) -> bool) -> Vec<Arc<Tombstone>> {
        let is_needed = |t: &&Arc<Tombstone>| self.frozen.is_some_and(|frozen| frozen < t.id) || is_pending(t.id);
        self.list.iter().filter(is_needed).cloned().collect()
    }

    /// Forgets all others.
    pub(crate) fn keep(&mut self, is_pending: impl Fn(u64) -> bool) {
        self.list = self.needed(is_pending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_reads_back() {
        let regex = Matcher::new("b", MatchOp::NotRegex, "x|y.*").unwrap();
        let any_of =
            vec![vec![Matcher::equal("a", "ä"), regex], vec![Matcher::new("c", MatchOp::NotEqual, "").unwrap()]];
        for (start_ms, end_ms) in [(-5, 7), (i64::MIN, i64::MAX)] {
            let tombstone = Tombstone { id: 300, what: Deletion { any_of: any_of.clone(), start_ms, end_ms } };
            let mut bytes = Vec::new();
            tombstone.put(&mut bytes);
            assert_eq!(Tombstone::read(&mut Reader::new(&bytes)).unwrap(), tombstone);
            for len in 0..bytes.len() {
                assert!(Tombstone::read(&mut Reader::new(&bytes[..len])).is_err(), "cut at {len}");
            }
        }
        let mut bytes = Vec::new();
        Tombstone { id: 1, what: Deletion::of(vec![Matcher::equal("a", "(")]) }.put(&mut bytes);
        let op = bytes.len() - 5;
        assert_eq!(bytes[op], 0);
        bytes[op] = 2;
        assert!(Tombstone::read(&mut Reader::new(&bytes)).is_err(), "an expression that does not compile");
        bytes[op] = 4;
        assert!(Tombstone::read(&mut Reader::new(&bytes)).is_err(), "an unknown kind");
    }

    #[test]
    fn tombstones_are_kept_for_blocks_and_for_what_is_set_apart() {
        let tombstone = |id| Tombstone { id, what: Deletion::of(vec![]) };
        let mut all = Tombstones::new(vec![tombstone(3)], 3, [5].into_iter());
        assert_eq!((all.applied(), all.last()), (3, 5));
        assert_eq!(all.freeze(), 3);
        all.apply(tombstone(6));
        all.apply(tombstone(6));
        all.keep(|_| false);
        assert_eq!(all.list().iter().map(|t| t.id).collect::<Vec<_>>(), [6]);
        all.thaw();
        all.keep(|_| false);
        assert!(all.list().is_empty());
        assert_eq!((all.applied(), all.last()), (6, 6));
    }
}
