//! What goes when blocks are too large together: the oldest, by tier.
//!
//! Each tier has a share of the bytes, and what one does not need is the others'. Of those that take more than their share the finest
//! gives, the oldest block first: so samples go before the rollups that stand for them, and rollups of years do not crowd out the
//! samples of today. What is not rolled up yet waits until it is, as long as that takes little and there is room to wait in.

use std::sync::Arc;

use kymo_core::storage::Tier;

use crate::blocks::LiveBlock;
use crate::engine::Engine;
use crate::error::{StorageError, io_error};
use crate::retention::{RetentionPolicy, TIERS};

/// The part of the limit by which blocks may exceed it while one waits to be rolled up.
const PATIENCE: u64 = 8;

/// What of some blocks goes, by tier and oldest first.
#[derive(Debug, Default)]
pub(crate) struct Surplus {
    pub(crate) blocks: Vec<Arc<LiveBlock>>,
    /// By how many bytes the limit is exceeded.
    bytes: u64,
}

/// The part of the limit that a tier has a right to.
fn share(tier: Tier, policy: &RetentionPolicy, bytes_max: u64) -> u64 {
    let both = policy.has(Tier::FiveMinutes) && policy.has(Tier::OneHour);
    match tier {
        _ if !policy.has_rollups() => bytes_max,
        Tier::Raw => bytes_max / 2,
        _ if both => bytes_max / 4,
        _ => bytes_max / 2,
    }
}

/// What goes of `blocks`, none of which is too old, so that the rest is not above `bytes_max`.
pub(crate) fn surplus<'a>(
    blocks: impl Iterator<Item = &'a Arc<LiveBlock>>,
    policy: &RetentionPolicy,
    bytes_max: u64,
) -> Surplus {
    let mut of_tier: [Vec<&Arc<LiveBlock>>; 3] = Default::default();
    for block in blocks {
        of_tier[TIERS.iter().position(|tier| *tier == block.tier()).unwrap_or(0)].push(block);
    }
    // The oldest last.
    let newest_first =
        |block: &&Arc<LiveBlock>| std::cmp::Reverse((block.footer().max_time_ms, block.footer().sequence));
    of_tier.iter_mut().for_each(|blocks| blocks.sort_by_key(newest_first));
    let mut bytes = [0u64; 3];
    for (bytes, blocks) in bytes.iter_mut().zip(&of_tier) {
        *bytes = blocks.iter().map(|block| block.bytes()).sum();
    }
    let mut gone = Surplus { blocks: Vec::new(), bytes: bytes.iter().sum::<u64>().saturating_sub(bytes_max) };
    while bytes.iter().sum::<u64>() > bytes_max {
        let exceeds = |at: &usize| bytes[*at] > share(TIERS[*at], policy, bytes_max);
        // Shares add up to the limit, so that one exceeds its own.
        let Some(at) = (0..TIERS.len()).find(exceeds) else { break };
        let Some(block) = of_tier[at].pop() else { break };
        bytes[at] -= block.bytes();
        gone.blocks.push(Arc::clone(block));
    }
    gone
}

impl Engine {
    /// What goes for its size of the blocks that are not `too_old`.
    pub(crate) fn surplus(
        &self,
        policy: &RetentionPolicy,
        too_old: impl Fn(&LiveBlock) -> bool,
    ) -> Result<Surplus, StorageError> {
        let Some(bytes_max) = self.block_bytes_max(policy)? else { return Ok(Surplus::default()) };
        let blocks = self.blocks();
        Ok(surplus(blocks.list().iter().filter(|block| !too_old(block)), policy, bytes_max))
    }

    /// Those of a surplus that need not wait for their rollups, or cannot.
    pub(crate) fn going(
        &self,
        surplus: Surplus,
        policy: &RetentionPolicy,
        now_ms: i64,
    ) -> Result<Vec<Arc<LiveBlock>>, StorageError> {
        if surplus.blocks.is_empty() || !policy.has_rollups() {
            return Ok(surplus.blocks);
        }
        let space = self.fs.space(&self.dir).map_err(io_error(&self.dir, "asking for room to wait for rollups"))?;
        let patience = self.block_bytes_max(policy)?.unwrap_or(u64::MAX) / PATIENCE;
        if surplus.bytes > patience || space.available <= patience {
            return Ok(surplus.blocks);
        }
        let mut going = surplus.blocks;
        going.retain(|block| !self.lacks_rollups(block, policy, now_ms));
        Ok(going)
    }

    /// The time of the newest of what goes for its size and waits for its rollups.
    pub(crate) fn waiting_until_ms(&self, tier: Tier, policy: &RetentionPolicy, now_ms: i64) -> Option<i64> {
        let surplus = self.surplus(policy, |block| self.is_too_old(block, policy, now_ms)).unwrap_or_else(|error| {
            tracing::debug!(%error, "it is not known what is about to go for its size");
            Surplus::default()
        });
        let waiting = surplus.blocks.iter().filter(|block| block.tier() == tier);
        let waiting = waiting.filter(|block| self.lacks_rollups(block, policy, now_ms));
        waiting.map(|block| block.footer().max_time_ms).max()
    }
}
