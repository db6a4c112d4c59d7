//! What is to go wrong, and when.

use std::io;

use rustix::io::Errno;

/// A kind of operation, counted apart from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// `FsFile::read_at`.
    Read,
    /// `Fs::open`.
    Open,
    /// `Fs::list`.
    List,
    /// `FsFile::append` and `FsFile::write_at`.
    Write,
    /// `FsFile::set_len`.
    SetLen,
    /// `FsFile::allocate`.
    Allocate,
    /// `FsFile::sync_data`.
    SyncData,
    /// `Fs::sync_dir`.
    SyncDir,
    /// A new file, or one new directory; also by `Fs::lock`.
    Create,
    /// `Fs::rename`.
    Rename,
    /// `Fs::hard_link`.
    Link,
    /// `Fs::remove`.
    Remove,
}

impl OpKind {
    const COUNT: usize = Self::Remove as usize + 1;

    /// Whether the operation changes the disk, and so is a place to crash at.
    fn changes(self) -> bool {
        !matches!(self, Self::Read | Self::Open | Self::List)
    }
}

/// What happens to an operation instead of succeeding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with `EIO` and does nothing. A failed `sync_data` also loses what it was to keep.
    Io,
    /// It fails with `ENOSPC` and does nothing. `sync_data` as with `Io`.
    NoSpace,
    /// A read or write stops after this many bytes, at least 1, and says so.
    Short {
        /// The most bytes that are read or written.
        bytes: usize,
    },
}

impl Fault {
    pub(super) fn error(self) -> io::Error {
        match self {
            // A short operation has no error of its own; `FaultPlan::add` keeps it to reads and
            // writes, which handle it before they ask.
            Self::Io | Self::Short { .. } => Errno::IO.into(),
            Self::NoSpace => Errno::NOSPC.into(),
        }
    }
}

/// A fault at the `nth` operation of a kind, counted from 1 when the disk was mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultAt {
    /// The kind that is counted.
    pub op: OpKind,
    /// Which one; see [`SimFs::count`](super::SimFs::count) for how many there were.
    pub nth: u64,
    /// What happens then.
    pub fault: Fault,
}

/// How far an operation may go.
pub(super) enum Verdict {
    Go,
    Fault(Fault),
    /// The machine stops during this operation.
    Crash,
}

#[derive(Debug, Default)]
pub(super) struct FaultPlan {
    counts: [u64; OpKind::COUNT],
    changes: u64,
    crash_at: Option<u64>,
    once: Vec<FaultAt>,
    from_then_on: Vec<FaultAt>,
}

impl FaultPlan {
    /// Counts one operation and says what becomes of it.
    pub(super) fn admit(&mut self, op: OpKind) -> Verdict {
        self.counts[op as usize] += 1;
        let nth = self.counts[op as usize];
        if op.changes() {
            self.changes += 1;
            if self.crash_at == Some(self.changes) {
                return Verdict::Crash;
            }
        }
        let once = self.once.iter().find(|f| f.op == op && f.nth == nth);
        let always = self.from_then_on.iter();
        let fault = once.or_else(|| always.rev().find(|f| f.op == op && f.nth <= nth));
        fault.map_or(Verdict::Go, |at| Verdict::Fault(at.fault))
    }

    pub(super) fn count(&self, op: OpKind) -> u64 {
        self.counts[op as usize]
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn crash_at(&mut self, change: u64) {
        assert!(change > self.changes, "operation {change} is over, {} were made", self.changes);
        self.crash_at = Some(change);
    }

    pub(super) fn add_once(&mut self, at: FaultAt) {
        self.check(at);
        self.once.push(at);
    }

    pub(super) fn add_from_then_on(&mut self, at: FaultAt) {
        self.check(at);
        self.from_then_on.push(at);
    }

    pub(super) fn clear_faults(&mut self) {
        self.once.clear();
        self.from_then_on.clear();
    }

    /// A plan that cannot come true would let a test pass without testing.
    fn check(&self, at: FaultAt) {
        let made = self.count(at.op);
        assert!(at.nth > made, "{at:?} is over, {made} were made");
        if let Fault::Short { bytes } = at.fault {
            assert!(bytes > 0 && matches!(at.op, OpKind::Read | OpKind::Write), "{at:?} is no short read or write");
        }
    }
}
