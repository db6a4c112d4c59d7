//! How many buckets a delete reaches into.

use kymo_core::storage::{Deletion, Tier};
use kymo_core::{Labels, QueryContext, SelectError, Selector};

use super::rows::GROUP;
use crate::engine::Engine;
use crate::hidden::Hidden;

impl Engine {
    /// Shows what a delete would take of stored rollups: the series, how many of its buckets, and about how many bytes their
    /// figures take.
    pub(crate) fn measure_buckets(
        &self,
        what: &Deletion,
        ctx: &QueryContext,
        mut found: impl FnMut(&Labels, u64, u64),
    ) -> Result<(), SelectError> {
        let (policy, now_ms, blocks) = (self.retention(), self.options.clock.now_ms(), self.blocks());
        let deleted = Hidden::of(vec![(what.start_ms, what.end_ms)]);
        for tier in [Tier::FiveMinutes, Tier::OneHour].into_iter().filter(|tier| policy.has(*tier)) {
            for block in blocks.of(tier) {
                let (first_ms, footer) = (block.footer().min_time_ms.saturating_sub(tier.width_ms()), block.footer());
                if !deleted.meets(first_ms, tier.bucket_end_ms(footer.max_time_ms)) {
                    continue;
                }
                ctx.check()?;
                let hides = block.deleted(i64::MIN, i64::MAX)?;
                for (number, matchers) in what.any_of.iter().enumerate() {
                    let before = Deletion { any_of: what.any_of[..number].to_vec(), ..*what };
                    let everything = Selector::new(matchers.clone(), i64::MIN, i64::MAX);
                    block.block().select(&everything, ctx, |series, labels, chunks| {
                        if before.matches(labels.as_ref()) {
                            return Ok(());
                        }
                        let oldest_ms = policy.oldest_of_ms(tier, labels.as_ref(), now_ms);
                        let hidden = hides.of(series).unwrap_or_default();
                        let (mut buckets, mut bytes) = (0, 0);
                        for group in chunks.chunks(GROUP) {
                            let times = block.block().times(group[0].row.column)?;
                            let reaches = |time: &&i64| {
                                let end_ms = tier.bucket_end_ms(**time);
                                let begin_ms = end_ms.saturating_sub(tier.width_ms()).saturating_add(1);
                                let meets = |hidden: &Hidden| hidden.meets(begin_ms, end_ms);
                                **time >= oldest_ms && meets(&deleted) && !meets(&hidden)
                            };
                            let rows = times.iter().filter(reaches).count() as u64;
                            let of_group: u64 = group.iter().map(|chunk| chunk.bytes()).sum();
                            buckets += rows;
                            bytes += (of_group * rows).checked_div(times.len() as u64).unwrap_or(0);
                        }
                        if buckets > 0 {
                            found(labels, buckets, bytes);
                        }
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
    }
}
