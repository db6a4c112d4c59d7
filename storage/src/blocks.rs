//! The live blocks, as one immutable list that is swapped.

use std::sync::Arc;

use kymo_core::LabelsRef;

use crate::block::Block;
use crate::sample::Sample;

/// Live blocks, rising by sequence: at one timestamp a later one wins.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    list: Vec<Arc<Block>>,
    max_time_ms: Option<i64>,
}

impl Blocks {
    pub(crate) fn new(mut list: Vec<Arc<Block>>) -> Blocks {
        list.sort_by_key(|block| block.footer().sequence);
        let max_time_ms = list.iter().map(|block| block.footer().max_time_ms).max();
        Blocks { list, max_time_ms }
    }

    pub(crate) fn list(&self) -> &[Arc<Block>] {
        &self.list
    }

    /// Highest time in any block; the lowest of all times when there is none.
    pub(crate) fn max_time_ms(&self) -> i64 {
        self.max_time_ms.unwrap_or(i64::MIN)
    }

    /// Highest time of one series in any block.
    pub(crate) fn newest(&self, labels: LabelsRef<'_>) -> i64 {
        let newest = |block: &Arc<Block>| {
            block.newest(labels).unwrap_or_else(|error| {
                tracing::warn!(%error, "a block cannot be asked for the newest sample of a series");
                // As if it had one at its very end, so that a late sample is looked up.
                Some(block.footer().max_time_ms)
            })
        };
        self.list.iter().filter_map(newest).max().unwrap_or(i64::MIN)
    }

    /// The sample of one series at exactly `time_ms`. A chunk that cannot be read counts as not having it:
    /// the new sample is then stored and wins.
    pub(crate) fn sample(&self, labels: LabelsRef<'_>, time_ms: i64) -> Option<Sample> {
        self.list.iter().rev().find_map(|block| {
            let footer = block.footer();
            if time_ms < footer.min_time_ms || time_ms > footer.max_time_ms {
                return None;
            }
            let found = block.find(labels).and_then(|series| match series {
                Some(series) => block.sample(series, time_ms),
                None => Ok(None),
            });
            found.unwrap_or_else(|error| {
                tracing::warn!(%error, "a stored chunk cannot be compared with a late sample");
                None
            })
        })
    }
}
