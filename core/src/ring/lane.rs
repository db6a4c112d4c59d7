//! A ring of points that one thread writes and another may read, and never waits.
//!
//! **Writer** (one). Says in `begun` that point `n` is about to be written, writes it over point `n − capacity`, and says in
//! `done` that it is there. It never looks at the reader, so it never waits; what nobody has read in time is written over.
//!
//! **Reader** (one at a time, by the ring's lock). Reads `done`, copies a point, and then reads `begun`: if the writer has
//! begun to write over the place meanwhile, the copy may be half old and half new and is thrown away, and the point counts
//! as overwritten. So no torn point is ever given out.
//!
//! # Orderings
//! `done` is stored with Release and loaded with Acquire: a point that counts as done is there. The words of a point are
//! relaxed atomics, so copying one that is being written over is a stale read and no undefined behaviour. The writer's
//! Release fence stands between `begun` and the words, the reader's Acquire fence between the words and `begun`: a reader
//! that has seen one word of the new point sees that it was begun. (The fences of a seqlock; on x86 neither is an
//! instruction.)
//!
//! This file knows its atomics only through `super::sync`, so that `model` can compile it again with loom's.

use super::sync::{AtomicU64, Ordering, fence};

/// The words of a point.
pub(super) type Words = [u64; 4];

#[derive(Debug)]
pub(super) struct Lane {
    points: Box<[[AtomicU64; 4]]>,
    /// Points begun. Written by the writer only.
    begun: AtomicU64,
    /// Points done. Written by the writer only.
    done: AtomicU64,
}

impl Lane {
    /// Room for `capacity` points, which is a power of two.
    pub(super) fn new(capacity: usize) -> Self {
        let point = || [0; 4].map(AtomicU64::new);
        let points = (0..capacity.next_power_of_two()).map(|_| point()).collect();
        Self { points, begun: AtomicU64::new(0), done: AtomicU64::new(0) }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.points.len() as u64
    }

    fn place(&self, number: u64) -> &[AtomicU64; 4] {
        &self.points[number as usize & (self.points.len() - 1)]
    }

    /// Writes one point over the oldest. By the lane's one writer.
    #[inline]
    pub(super) fn push(&self, words: Words) {
        let number = self.begun.load(Ordering::Relaxed);
        self.begun.store(number + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (place, word) in self.place(number).iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        self.done.store(number + 1, Ordering::Release);
    }

    /// Gives the points from number `next` on, oldest first, and moves `next` behind them. Returns how many in between were
    /// overwritten. By one reader at a time.
    pub(super) fn drain(&self, next: &mut u64, mut each: impl FnMut(Words)) -> u64 {
        let mut overwritten = 0;
        let done = self.done.load(Ordering::Acquire);
        while *next < done {
            let words = std::array::from_fn(|at| self.place(*next)[at].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            let begun = self.begun.load(Ordering::Relaxed);
            // The first point that nobody has begun to write over.
            let oldest = begun.saturating_sub(self.capacity());
            if *next >= oldest {
                each(words);
                *next += 1;
            } else {
                let skipped_to = oldest.min(done);
                overwritten += skipped_to - *next;
                *next = skipped_to;
            }
        }
        overwritten
    }
}
