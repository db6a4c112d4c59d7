//! Merging: few long blocks out of many short ones.
//!
//! Blocks that lie within one window of the time axis are merged, over windows of rising length. The result carries
//! the highest sequence of its inputs, which is right only if no other block that overlaps it in time has
//! a sequence between those of its inputs; a set for which that does not hold is left alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use kymo_core::batch::Exemplar;
use kymo_core::memory::EXEMPLARS_PER_SERIES_MAX;
use kymo_core::storage::Columns;
use kymo_core::{Labels, SelectError};

use crate::block::{Block, BlockWriter};
use crate::engine::{Engine, millis};
use crate::error::{StorageError, io_error};
use crate::flush::write_columns;
use crate::maintain::{MaintainLimit, Next};
use crate::manifest::Manifest;
use crate::merge::{Run, Source, merge};

/// Windows in multiples of the block range, with the number of blocks from which on they are merged.
const WINDOWS: [(i64, usize); 4] = [(1, 4), (4, 3), (12, 3), (84, 3)];

impl Engine {
    pub(crate) fn merge_step(&self, limit: MaintainLimit) -> Result<Next, StorageError> {
        let again = Next::At(self.options.clock.now_ms().saturating_add(10_000));
        let blocks = self.blocks();
        match choose(blocks.list(), millis(self.options.block_range).max(1), limit.bytes) {
            None => Ok(again),
            Some(inputs) => {
                self.metrics.merges.count(self.merge_blocks(&inputs))?;
                Ok(Next::Now)
            }
        }
    }

    /// Replaces `inputs` by one block.
    fn merge_blocks(&self, inputs: &[Arc<Block>]) -> Result<(), StorageError> {
        let (_, path) = self.next_block();
        let sequence = inputs.iter().map(|block| block.footer().sequence).max().unwrap_or(0);
        let written = self.write_merged(inputs, sequence, &path);
        let merged = written.and_then(|()| Block::open(&*self.fs, &path, &self.options.budget));
        let merged = merged.inspect_err(|_| self.remove_file(&path))?;
        let dir = self.dir.join("blocks");
        self.fs.sync_dir(&dir).map_err(io_error(&dir, "syncing the directory of blocks"))?;

        let is_input = |block: &Arc<Block>| inputs.iter().any(|input| Arc::ptr_eq(input, block));
        let mut manifest = self.manifest();
        // Retention may have taken an input meanwhile; what it retired is hidden by age anyway.
        let mut list: Vec<Arc<Block>> = self.blocks().list().iter().filter(|b| !is_input(b)).cloned().collect();
        list.push(Arc::new(merged));
        let next = Manifest { blocks: list.iter().map(|b| b.name().to_owned()).collect(), ..manifest.clone() };
        self.publish(&mut manifest, next)?;
        self.swap_blocks(list);
        inputs.iter().for_each(|block| self.remove_file(block.path()));
        Ok(())
    }

    fn write_merged(&self, inputs: &[Arc<Block>], sequence: u64, path: &std::path::Path) -> Result<(), StorageError> {
        let write = |error: std::io::Error| io_error(path, "writing a merged block")(error);
        let read = |error: SelectError| write(std::io::Error::other(error));
        let mut writer = BlockWriter::create(&*self.fs, path, sequence).map_err(write)?;
        let mut exemplars: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        let mut metadata: BTreeMap<String, Vec<_>> = BTreeMap::new();
        let mut by_sequence: Vec<&Arc<Block>> = inputs.iter().collect();
        by_sequence.sort_by_key(|block| block.footer().sequence);
        for block in by_sequence {
            for (series, found) in block.exemplars().map_err(read)? {
                let kept = exemplars.entry(block.labels(series)).or_default();
                kept.extend(found);
                kept.sort_by_key(|e| e.time_ms);
                kept.dedup();
                let surplus = kept.len().saturating_sub(EXEMPLARS_PER_SERIES_MAX);
                kept.drain(..surplus);
            }
            for (family, versions) in block.metadata().map_err(read)? {
                let kept = metadata.entry(family).or_default();
                versions.iter().rev().for_each(|version| kymo_core::memory::remember_metadata(kept, version));
            }
        }
        let mut next = vec![0usize; inputs.len()];
        let mut columns = Columns::default();
        loop {
            let heads = inputs.iter().zip(&next).map(|(block, &n)| (n < block.len()).then(|| block.labels(n)));
            let heads: Vec<Option<Labels>> = heads.collect();
            let Some(labels) = heads.iter().flatten().min().cloned() else { break };
            let mut runs = Vec::new();
            for (number, block) in inputs.iter().enumerate() {
                if heads[number].as_ref() != Some(&labels) {
                    continue;
                }
                runs.extend(block.chunks(next[number]).iter().map(|meta| Run {
                    min_time_ms: meta.min_time_ms,
                    max_time_ms: meta.max_time_ms,
                    source: Source::Block(block, meta),
                }));
                next[number] += 1;
            }
            columns.clear();
            merge(&mut runs, i64::MIN, i64::MAX, &mut columns).map_err(read)?;
            let of_series = exemplars.get(&labels).map_or(&[][..], Vec::as_slice);
            write_columns(&mut writer, &labels, &columns, of_series).map_err(write)?;
        }
        let metadata: Vec<_> = metadata.into_iter().collect();
        writer.finish(&metadata).map_err(write)?;
        Ok(())
    }
}

/// The first set worth merging: blocks by rising sequence.
fn choose(blocks: &[Arc<Block>], range_ms: i64, bytes_max: u64) -> Option<Vec<Arc<Block>>> {
    for (multiple, count) in WINDOWS {
        let window = range_ms.saturating_mul(multiple);
        let mut by_window: BTreeMap<i64, Vec<Arc<Block>>> = BTreeMap::new();
        for block in blocks {
            let footer = block.footer();
            let (first, last) = (footer.min_time_ms.div_euclid(window), footer.max_time_ms.div_euclid(window));
            if first == last {
                by_window.entry(first).or_default().push(Arc::clone(block));
            }
        }
        for inputs in by_window.into_values() {
            let bytes: u64 = inputs.iter().map(|block| block.bytes()).sum();
            if inputs.len() >= count && bytes <= bytes_max && may_merge(&inputs, blocks) {
                return Some(inputs);
            }
        }
    }
    None
}

/// See the module.
fn may_merge(inputs: &[Arc<Block>], all: &[Arc<Block>]) -> bool {
    let sequences = || inputs.iter().map(|block| block.footer().sequence);
    let (Some(low), Some(high)) = (sequences().min(), sequences().max()) else { return false };
    let start = inputs.iter().map(|block| block.footer().min_time_ms).min();
    let end = inputs.iter().map(|block| block.footer().max_time_ms).max();
    all.iter().filter(|block| !inputs.iter().any(|input| Arc::ptr_eq(input, block))).all(|block| {
        let footer = block.footer();
        let is_between = footer.sequence > low && footer.sequence < high;
        let overlaps = Some(footer.max_time_ms) >= start && Some(footer.min_time_ms) <= end;
        !(is_between && overlaps)
    })
}
