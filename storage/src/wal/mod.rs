//! The write-ahead log: what was appended, in order, until it is in blocks.
//!
//! ```text
//! append ──► Commit: encode into the queue; one leader writes the frames of all who wait ──► apply in log order
//!                              │ write(2), then sync if the policy is `always`
//!                              ▼
//!           wal/00000000000000000007.wal   segments; a flush makes all older ones superfluous
//! ```
//!
//! Invariants: (1) a frame is applied only after it was written whole, and frames are applied in the
//! order they stand in the log; (2) a frame that names a series by ref stands behind a definition of that
//! ref that no flush can have removed: definitions are written again in each segment *generation*;
//! (3) after a failed or short write the file is cut back to its last whole frame, or never written again;
//! (4) after a failed sync the file is never written again, and what was not yet synced goes to a new one; (5) a
//! frame leans only on frames that are in the log before it, since the last key frame.
//!
//! `docs/format/wal.md` is the page.

mod chain;
mod commit;
mod frame;
mod record;
mod replay;
mod retained;
mod writer;

pub(crate) use chain::{ChainReader, NONE};
pub(crate) use commit::Commit;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use record::Footing;
pub(crate) use record::{FrameBuilder, Record, decode, put_exemplar, put_metadata, read_exemplar, read_metadata};
pub use replay::LogDamage;
pub(crate) use replay::{ReadFrame, ReplayEnd, SegmentReader, cut_tail};
#[cfg(test)]
use writer::segment_name;
pub(crate) use writer::{LogWriter, segment_number};

/// Where in the log something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogPosition {
    /// Segment number; they rise and are never reused.
    pub(crate) segment: u64,
    /// Byte within it.
    pub(crate) offset: u64,
}

#[cfg(test)]
mod tests;
