//! The protocol of `grace` under loom: a reader never holds what is freed.

/// What `grace` is made of here. Loom takes SeqCst accesses for AcqRel ones and orders only fences, so there are some.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(super) use loom::sync::{Mutex, MutexGuard};

    pub(super) type Epoch = AtomicU64;

    /// Both sides pay, by fences.
    #[derive(Debug, Clone, Copy)]
    pub(super) struct Barrier;

    impl Barrier {
        pub(super) fn of_process() -> Self {
            Self
        }

        pub(super) fn write_mark(self, mark: &AtomicU64, epoch: u64) {
            mark.swap(epoch, Ordering::SeqCst);
        }

        pub(super) fn before_reading_marks(self) -> bool {
            true
        }
    }

    pub(super) fn full_fence() {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

#[allow(clippy::duplicate_mod, reason = "compiled once more, with other atomics")]
#[path = "grace.rs"]
mod grace;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use self::grace::Grace;
use self::sync::{Mutex, full_fence};

/// All interleavings with at most three interruptions of threads that could go on.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Slots that are either held by the table or freed.
struct Heap {
    grace: Grace<usize>,
    /// The slot that readers find.
    current: AtomicUsize,
    freed: [AtomicUsize; 3],
}

impl Heap {
    fn new() -> Arc<Self> {
        let grace = Grace::from_parts(Mutex::new(grace::no_marks()), sync::Epoch::new(1));
        Arc::new(Self { grace, current: AtomicUsize::new(0), freed: std::array::from_fn(|_| AtomicUsize::new(0)) })
    }

    fn free(&self, slots: Vec<usize>) {
        slots.into_iter().for_each(|slot| self.freed[slot].store(1, Ordering::Relaxed));
    }

    /// Finds the current slot, and looks at it a little later.
    fn look(&self) {
        let mark = self.grace.take_mark();
        self.grace.pin(mark);
        let found = self.current.load(Ordering::SeqCst);
        assert_eq!(self.freed[found].load(Ordering::Relaxed), 0, "slot {found} was freed under a pin");
        mark.unpin();
        self.grace.hand_over(mark);
    }

    /// Puts another in the place of the current slot, and retires that.
    fn replace(&self, new: usize) {
        let old = self.current.swap(new, Ordering::SeqCst);
        full_fence();
        self.free(self.grace.retire(old));
    }
}

#[test]
fn nothing_is_freed_while_a_reader_may_hold_it() {
    explore(|| {
        let heap = Heap::new();
        let other = Arc::clone(&heap);
        let reader = thread::spawn(move || other.look());
        heap.replace(1);
        heap.replace(2);
        reader.join().unwrap();
        heap.free(heap.grace.collect());
        let freed: Vec<usize> = heap.freed.iter().map(|freed| freed.load(Ordering::Relaxed)).collect();
        assert_eq!((freed, heap.grace.waiting()), (vec![1, 1, 0], 0));
    });
}

#[test]
fn two_readers_with_one_mark_after_another_are_both_safe() {
    explore(|| {
        let heap = Heap::new();
        let other = Arc::clone(&heap);
        let reader = thread::spawn(move || {
            other.look();
            other.look();
        });
        heap.replace(1);
        reader.join().unwrap();
    });
}
