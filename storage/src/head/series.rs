//! What the head knows of one series: 64 bytes, and a box for what few have.

use std::sync::Arc;

use kymo_core::batch::Exemplar;
use kymo_core::memory::EXEMPLARS_PER_SERIES_MAX;
use kymo_core::{Labels, NativeHistogram};

use super::open::Part;
use super::store::NONE;
use crate::sample::Sample;

/// Its newest time in blocks was not looked up.
const UNKNOWN: i64 = i64::MAX;

/// See [`super`].
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct HeadSeries {
    pub(crate) labels: Labels,
    /// Highest time written in this opening.
    pub(super) newest_ms: i64,
    /// Highest time in blocks.
    newest_in_blocks: i64,
    /// What few series have.
    pub(super) rare: Option<Box<Rare>>,
    /// The newest sealed chunk.
    pub(super) chunk: u32,
    /// The newest chunk of those that are being flushed.
    pub(super) frozen: u32,
    /// Values of the open run.
    pub(super) slot: u32,
    pub(super) track: u32,
    /// Where in the track the open run begins.
    pub(super) start: u16,
    /// Chunks sealed since the last freeze.
    pub(super) chunks: u16,
    /// Samples in the open run.
    pub(super) len: u8,
    /// Flushes since it last took a sample.
    pub(super) idle_flushes: u8,
    /// Whether `rare` holds something of the open run.
    pub(super) is_odd: bool,
}

const _: () = assert!(size_of::<HeadSeries>() == 64 && size_of::<Option<HeadSeries>>() == 64);

/// Times between two others, both exclusive.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gap {
    pub(super) above_ms: i64,
    pub(super) below_ms: i64,
}

impl Gap {
    fn contains(&self, time_ms: i64) -> bool {
        self.above_ms < time_ms && time_ms < self.below_ms
    }

    /// What lies in both.
    pub(super) fn and(&self, other: Gap) -> Gap {
        Gap { above_ms: self.above_ms.max(other.above_ms), below_ms: self.below_ms.min(other.below_ms) }
    }
}

/// Where no sealed chunk of a series has a sample; not all such places.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gaps([Gap; 2]);

impl Gaps {
    /// These with one that was found last.
    pub(super) fn with(&self, gap: Gap) -> Gaps {
        Gaps([gap, self.0[0]])
    }

    pub(super) fn contain(&self, time_ms: i64) -> bool {
        self.0.iter().any(|gap| gap.contains(time_ms))
    }

    /// What is left of them when a late run was sealed: of the one that it lies in, both sides.
    pub(super) fn without_late(&self, first_ms: i64, last_ms: i64) -> Gaps {
        let around = self.0.iter().find(|gap| gap.contains(first_ms) && gap.contains(last_ms));
        around.map_or_else(Gaps::default, |gap| {
            Gaps([Gap { below_ms: first_ms, ..*gap }, Gap { above_ms: last_ms, ..*gap }])
        })
    }

    /// The same of an open run, which lies above all other chunks but late ones that reach into it.
    pub(super) fn without_open(&self, first_ms: i64) -> Gaps {
        Gaps(self.0.map(|gap| gap.and(Gap { above_ms: i64::MIN, below_ms: first_ms })))
    }
}

/// What few series have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// Samples that came behind the open run's last, by time.
    pub(super) late: Vec<Sample>,
    pub(super) gaps: Gaps,
    /// Start timestamps of the open run, or nothing.
    pub(super) starts: Vec<i64>,
    /// Histograms of the open run with their positions.
    pub(super) histograms: Vec<(u8, Arc<NativeHistogram>)>,
    pub(super) exemplars: Vec<Exemplar>,
}

impl Rare {
    pub(super) fn bytes(&self) -> usize {
        let late: usize = self.late.iter().map(Sample::heap_bytes).sum();
        let histograms: usize = self.histograms.iter().map(|(_, h)| h.bytes() + 16).sum();
        let exemplars: usize = self.exemplars.iter().map(|e| e.labels.as_ref().packed().len() + 16).sum();
        let lists = self.late.capacity() * size_of::<Sample>()
            + self.starts.capacity() * 8
            + self.histograms.capacity() * size_of::<(u8, Arc<NativeHistogram>)>()
            + self.exemplars.capacity() * size_of::<Exemplar>();
        size_of::<Rare>() + late + histograms + exemplars + lists
    }

    fn is_empty(&self) -> bool {
        self.late.is_empty() && self.starts.is_empty() && self.histograms.is_empty() && self.exemplars.is_empty()
    }

    /// Keeps an exemplar; `false` if it was there already.
    pub(super) fn add_exemplar(&mut self, exemplar: &Exemplar) -> bool {
        if self.exemplars.contains(exemplar) {
            return false;
        }
        let at = self.exemplars.partition_point(|e| e.time_ms <= exemplar.time_ms);
        self.exemplars.insert(at, exemplar.clone());
        if self.exemplars.len() > EXEMPLARS_PER_SERIES_MAX {
            self.exemplars.remove(0);
        }
        true
    }
}

impl HeadSeries {
    pub(super) fn new(labels: Labels) -> HeadSeries {
        HeadSeries {
            labels,
            newest_ms: i64::MIN,
            newest_in_blocks: UNKNOWN,
            rare: None,
            chunk: NONE,
            frozen: NONE,
            slot: NONE,
            track: NONE,
            start: 0,
            chunks: 0,
            len: 0,
            idle_flushes: 0,
            is_odd: false,
        }
    }

    /// Whether it holds nothing that is not in blocks.
    pub(super) fn is_empty(&self) -> bool {
        self.chunk == NONE && self.frozen == NONE && self.len == 0 && self.rare.as_ref().is_none_or(|r| r.is_empty())
    }

    /// Whether `time_ms` lies above everything ever written, so that no look-up is needed. `blocks_max` is
    /// the highest time in any block.
    #[inline]
    pub(super) fn is_ahead(&self, time_ms: i64, blocks_max: i64) -> bool {
        time_ms > self.newest_ms && time_ms > self.newest_in_blocks.min(blocks_max)
    }

    /// Whether a sample at `time_ms` cannot be placed before somebody looks into the blocks.
    pub(crate) fn needs_blocks(&self, time_ms: i64, blocks_max: i64) -> bool {
        time_ms <= blocks_max && (self.newest_in_blocks == UNKNOWN || !self.is_ahead(time_ms, blocks_max))
    }

    /// Notes its highest time in blocks.
    pub(super) fn set_newest_in_blocks(&mut self, newest_ms: i64) {
        self.newest_in_blocks = newest_ms;
    }

    /// Where the times of its open run are.
    #[inline]
    pub(super) fn part(&self) -> Part {
        Part { track: self.track, start: u32::from(self.start), len: u32::from(self.len) }
    }

    /// Exemplars that are not in blocks.
    pub(crate) fn exemplars(&self) -> &[Exemplar] {
        self.rare.as_ref().map_or(&[], |rare| &rare.exemplars)
    }

    pub(super) fn rare_bytes(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.bytes())
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Gives back the box if nothing is in it.
    pub(super) fn tidy(&mut self) {
        if self.rare.as_ref().is_some_and(|rare| rare.is_empty()) {
            self.rare = None;
        }
    }
}
