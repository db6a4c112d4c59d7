//! Payloads kept in memory until they are durable, for the case that a sync fails and they must go to another file.
//!
//! They lean on frames before them, so what is kept begins with a key frame, also when that and some behind it are
//! durable already.

use std::collections::VecDeque;
use std::time::Duration;

use foldhash::HashMap;
use kymo_core::Labels;

use super::chain::{Chain, ChainReader};
use super::record::{Footing, FrameBuilder, Record, decode};
use crate::increments::Added;

/// Room that stays for what comes next.
const BYTES_SPARE: usize = 256 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Retained {
    /// Payloads, back to back.
    bytes: Vec<u8>,
    frames: VecDeque<Frame>,
    /// How many of the first are durable, and their bytes.
    durable: usize,
    durable_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    /// When it was written, on the monotonic clock.
    since: Duration,
    len: usize,
    is_key: bool,
}

impl Retained {
    pub(super) fn push(&mut self, since: Duration, payload: &[u8], is_key: bool) {
        self.bytes.extend_from_slice(payload);
        self.frames.push_back(Frame { since, len: payload.len(), is_key });
    }

    /// Whether nothing waits for a sync.
    pub(super) fn is_durable(&self) -> bool {
        self.durable == self.frames.len()
    }

    /// Frames that wait for a sync.
    pub(super) fn unsynced(&self) -> usize {
        self.frames.len() - self.durable
    }

    /// When the oldest of them was written.
    pub(super) fn since(&self) -> Option<Duration> {
        self.frames.get(self.durable).map(|frame| frame.since)
    }

    /// Bytes that wait for a sync.
    pub(super) fn waiting_bytes(&self) -> u64 {
        (self.bytes.len() - self.durable_bytes) as u64
    }

    /// Bytes kept.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Notes that the next `frames` that waited are durable, and forgets what nothing leans on any more.
    pub(super) fn synced(&mut self, frames: usize) {
        let durable = (self.durable + frames).min(self.frames.len());
        self.durable_bytes += self.frames.range(self.durable..durable).map(|frame| frame.len).sum::<usize>();
        self.durable = durable;
        let needed = self.frames.iter().take(self.durable + 1).rposition(|frame| frame.is_key).unwrap_or(0);
        let bytes: usize = self.frames.drain(..needed).map(|frame| frame.len).sum();
        self.bytes.drain(..bytes);
        self.bytes.shrink_to(self.bytes.len().max(BYTES_SPARE));
        self.durable -= needed;
        self.durable_bytes -= bytes;
    }

    pub(super) fn clear(&mut self) {
        *self = Retained::default();
    }

    /// Shows every payload that waits for a sync as it is in a file of its own: the first leans on nothing. Definitions
    /// that are in durable frames only are not repeated; the files that hold them are read before.
    pub(super) fn encode_again(&self, mut show: impl FnMut(&[u8])) {
        let (mut reader, mut chain) = (ChainReader::default(), Chain::new(0));
        let mut frame = FrameBuilder::default();
        let mut defined: HashMap<u32, Labels> = HashMap::default();
        let (mut at, mut payload) = (0, Vec::new());
        for (number, kept) in self.frames.iter().enumerate() {
            frame.clear();
            let read = decode(&self.bytes[at..at + kept.len], &mut reader, Footing::Firm, |record| match record {
                Record::Define(definitions, _) => {
                    let each = definitions.iter().map(|(series, labels)| (series.index() as u32, labels.to_labels()));
                    defined.extend(each);
                }
                Record::Float { series, time_ms, start_ms, bits, .. } => {
                    frame.float(series.index() as u32, time_ms, start_ms, bits);
                }
                Record::Histogram { series, time_ms, start_ms, value, .. } => {
                    frame.histogram(series.index() as u32, time_ms, start_ms);
                    frame.put_histogram(&value);
                }
                Record::Added { series, row, begins, .. } => {
                    match &row {
                        Added::Increment(row) => frame.increment(series.index() as u32, row.end_ms, row.start_ms),
                        Added::Total { total, time_ms } => {
                            frame.total(series.index() as u32, *time_ms, total.start_ms);
                        }
                    }
                    frame.put_added(&row, begins);
                }
                Record::Exemplar(series, exemplar) => frame.exemplar(series.index() as u32, &exemplar),
                Record::Metadata(family, metadata) => frame.metadata(&family, &metadata),
                Record::Delete(tombstone) => frame.delete(&tombstone),
            });
            assert!(read.is_ok(), "what this writer encoded can be read: {read:?}");
            at += kept.len;
            if number >= self.durable {
                payload.clear();
                frame.encode(reader.opening, &mut chain, |series| defined.get(&series).cloned(), &mut payload);
                show(&payload);
            }
        }
    }
}
