//! How a mark is written before what follows is read, for less than a locked instruction.
//!
//! Readers write a mark and then read pointers; removers unlink and then read marks. Each side needs a full barrier between
//! its two steps. Readers are many and removers few, so on Linux removers pay for both: `membarrier(2)` returns when every
//! running thread of this process has passed a full barrier since the call. If a reader's mark came before that barrier of its
//! thread, the remover sees the mark; if it came after, then so did the reading of pointers, and the reader sees the
//! unlinking. Threads that do not run pass a barrier when they are switched in and out.
//!
//! Where the system has no such call (another system, an old kernel, a sandbox that forbids it) both sides use locked
//! instructions. Which it is, is asked once and holds for the life of the process.

use std::sync::atomic::{AtomicU64, Ordering};

/// Who pays for the order of marks and pointers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Barrier {
    /// Both sides, by locked instructions.
    Locked,
    /// Removers.
    #[cfg(all(target_os = "linux", not(miri)))]
    System,
}

impl Barrier {
    /// The one of this process.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(super) fn of_process() -> Self {
        use std::sync::OnceLock;
        static OF_PROCESS: OnceLock<Barrier> = OnceLock::new();
        *OF_PROCESS.get_or_init(|| if system::register() { Barrier::System } else { Barrier::Locked })
    }

    /// The one of this process.
    #[cfg(not(all(target_os = "linux", not(miri))))]
    pub(super) fn of_process() -> Self {
        Barrier::Locked
    }

    /// Writes a mark; what this thread reads from now on is read after that, as removers see it.
    #[inline(always)]
    pub(super) fn write_mark(self, mark: &AtomicU64, epoch: u64) {
        match self {
            #[cfg(all(target_os = "linux", not(miri)))]
            Barrier::System => {
                mark.store(epoch, Ordering::Relaxed);
                // Only the compiler has to be kept from passing the store; the processor is the remover's business.
                std::sync::atomic::compiler_fence(Ordering::SeqCst);
            }
            // A swap and not a store: on x86 it is the cheaper of the instructions that give SeqCst.
            Barrier::Locked => {
                mark.swap(epoch, Ordering::SeqCst);
            }
        }
    }

    /// Before marks are read: those written before this call are seen. `false` if that cannot be had now, and then nothing may
    /// be concluded from marks.
    pub(super) fn before_reading_marks(self) -> bool {
        match self {
            #[cfg(all(target_os = "linux", not(miri)))]
            Barrier::System => system::barrier(),
            Barrier::Locked => true,
        }
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
mod system {
    #![allow(unsafe_code, reason = "a system call")]

    /// Commands of `membarrier(2)`.
    const PRIVATE_EXPEDITED: libc::c_long = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: libc::c_long = 1 << 4;

    /// Has this process use [`barrier`]; `false` where the system has none.
    pub(super) fn register() -> bool {
        is_done(REGISTER_PRIVATE_EXPEDITED) && barrier()
    }

    /// Has every running thread of this process pass a full barrier, and with it this one.
    pub(super) fn barrier() -> bool {
        is_done(PRIVATE_EXPEDITED)
    }

    fn is_done(command: libc::c_long) -> bool {
        const NONE: libc::c_long = 0;
        // SAFETY: the call takes three integers and touches no memory of this process.
        unsafe { libc::syscall(libc::SYS_membarrier, command, NONE, NONE) == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_writes_the_mark_and_lets_marks_be_read() {
        for barrier in [Barrier::Locked, Barrier::of_process()] {
            let mark = AtomicU64::new(0);
            barrier.write_mark(&mark, 7);
            assert!(barrier.before_reading_marks(), "{barrier:?}");
            assert_eq!(mark.load(Ordering::SeqCst), 7, "{barrier:?}");
        }
        assert_eq!(Barrier::of_process(), Barrier::of_process());
    }
}
