//! Which series have samples when, shown one by one: for reports on all of them, which want neither their samples nor an order.
//!
//! The head is gone through in pieces, so that its lock is never held for long; then the blocks that are there after that, in
//! which is whatever has left the head meanwhile.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use kymo_core::storage::Tier;
use kymo_core::{Labels, LabelsRef, Matcher, QueryContext, SelectError, Selector};

use crate::engine::Engine;
use crate::head::SERIES_PER_LOCK;
use crate::select::SERIES_PER_CHECK;

/// Memory reserved per series: its entry, and that in the table by labels.
const BYTES_PER_SERIES: u64 = (size_of::<(Labels, u32)>() + 2 * size_of::<(u32, u32)>()) as u64;

/// The windows into which a sample may reach that is one of those between two times, as bits.
pub(crate) fn reached(windows: &[(i64, i64)], after_ms: i64, (first_ms, last_ms): (i64, i64)) -> u32 {
    let is_reached = |&(start_ms, end_ms): &(i64, i64)| last_ms > start_ms.max(after_ms) && first_ms <= end_ms;
    windows.iter().enumerate().fold(0, |bits, (at, window)| bits | u32::from(is_reached(window)) << at)
}

impl Engine {
    /// See [`MetricStorage::visit_series`](kymo_core::MetricStorage::visit_series).
    pub(crate) fn visit_present(
        &self,
        matchers: &[Matcher],
        windows: &[(i64, i64)],
        ctx: &QueryContext,
        visit: &mut dyn FnMut(LabelsRef<'_>, u32),
    ) -> Result<(), SelectError> {
        let windows = &windows[..windows.len().min(u32::BITS as usize)];
        let (Some(start_ms), Some(end_ms)) =
            (windows.iter().map(|window| window.0).min(), windows.iter().map(|window| window.1).max())
        else {
            return Ok(());
        };
        let inside = &self.inside_retention(&Selector::new(matchers.to_vec(), start_ms, end_ms), Tier::Raw);
        let mut memory = ctx.budget.try_reserve(0)?;
        let mut found: Vec<(Labels, u32)> = Vec::new();
        let numbers = self.head.read().select(matchers, &|| ctx.check())?;
        let mut numbers = numbers.into_iter().peekable();
        while numbers.peek().is_some() {
            ctx.check()?;
            let before = found.len();
            let state = self.head.read();
            for number in numbers.by_ref().take(SERIES_PER_LOCK as usize) {
                let Some(series) = state.get(number) else { continue };
                let present = state.present(series, windows, inside.start_of(&series.labels));
                if present != 0 {
                    found.push((series.labels.clone(), present));
                }
            }
            drop(state);
            // What one lock gathers is paid for afterwards.
            memory.grow((found.len() - before) as u64 * BYTES_PER_SERIES)?;
        }

        let each: Vec<Selector> = windows.iter().map(|(start, end)| Selector::new(Vec::new(), *start, *end)).collect();
        let hasher = RandomState::default();
        let half_of = |labels: &Labels| hasher.hash_one(labels) as u32;
        let spread = |half: u32| u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut by_labels: Option<HashTable<(u32, u32)>> = None;
        for block in self.blocks().list().iter().filter(|block| block.tier() == Tier::Raw) {
            ctx.check()?;
            let mut seen = 0usize;
            block.select(&inside.what, inside.now_ms, ctx, |labels, chunks, hidden| {
                let mut present = 0;
                for chunk in chunks {
                    let reached = reached(windows, i64::MIN, (chunk.min_time_ms, chunk.max_time_ms));
                    let Some(hidden) = hidden else {
                        present |= reached;
                        continue;
                    };
                    for (at, window) in each.iter().enumerate() {
                        if reached & !present & 1 << at != 0 {
                            present |= u32::from(block.shows(chunk, hidden, window)?) << at;
                        }
                    }
                }
                seen += 1;
                if seen.is_multiple_of(SERIES_PER_CHECK) {
                    ctx.check()?;
                }
                if present == 0 {
                    return Ok(());
                }
                let known = by_labels.get_or_insert_with(|| {
                    let mut table = HashTable::with_capacity(found.len());
                    for (at, (labels, _)) in found.iter().enumerate() {
                        let half = half_of(labels);
                        table.insert_unique(spread(half), (half, at as u32), |entry| spread(entry.0));
                    }
                    table
                });
                let half = half_of(labels);
                let is_same = |entry: &(u32, u32)| entry.0 == half && found[entry.1 as usize].0 == *labels;
                match known.find(spread(half), is_same) {
                    Some(&(_, at)) => found[at as usize].1 |= present,
                    None => {
                        memory.grow(BYTES_PER_SERIES)?;
                        known.insert_unique(spread(half), (half, found.len() as u32), |entry| spread(entry.0));
                        found.push((labels.clone(), present));
                    }
                }
                Ok(())
            })?;
        }
        drop(by_labels);
        for (at, (labels, present)) in found.iter().enumerate() {
            if at.is_multiple_of(SERIES_PER_CHECK) {
                ctx.check()?;
            }
            visit(labels.as_ref(), *present);
        }
        Ok(())
    }
}
