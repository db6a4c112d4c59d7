//! `status/tsdb/blocks`: the block files, as Prometheus 3.6 and later list theirs.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use super::status_facts::answer;

/// Digits of a ULID: 32 of them without those that look like others.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// What a block file tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFacts {
    /// Which of all blocks this directory ever had it is.
    pub sequence: u64,
    /// 0 as flushed, 1 as merged.
    pub level: u64,
    /// Oldest sample, milliseconds.
    pub min_time_ms: i64,
    /// Newest sample, milliseconds.
    pub max_time_ms: i64,
    /// Series in it.
    pub series: u64,
    /// Samples in it.
    pub samples: u64,
}

type Blocks = Arc<dyn Fn() -> Vec<BlockFacts> + Send + Sync>;

/// The route over whatever `blocks` gives when it is asked.
pub fn block_routes(blocks: impl Fn() -> Vec<BlockFacts> + Send + Sync + 'static) -> Router {
    let blocks: Blocks = Arc::new(blocks);
    Router::new().route("/api/v1/status/tsdb/blocks", get(tsdb_blocks)).with_state(blocks)
}

/// `GET /api/v1/status/tsdb/blocks`
async fn tsdb_blocks(State(blocks): State<Blocks>) -> Response {
    let mut blocks = blocks();
    blocks.sort_unstable_by_key(|block| (block.min_time_ms, block.sequence));
    answer(Ok(json!({"blocks": blocks.iter().map(block_json).collect::<Vec<_>>()})))
}

/// Times are `[minTime, maxTime)` there. Of chunks nothing is told: how many there are is not known without reading
/// the block.
fn block_json(block: &BlockFacts) -> Value {
    let ulid = ulid(block);
    json!({
        "ulid": ulid,
        "minTime": block.min_time_ms,
        "maxTime": block.max_time_ms.saturating_add(1),
        "stats": {"numSamples": block.samples, "numSeries": block.series},
        "compaction": {"level": block.level + 1, "sources": [ulid]},
        "version": 1,
    })
}

/// A name of the form that clients read, and the same as long as the block lives: its newest time in the 48 bits that
/// order ULIDs, its sequence in the last of the others.
fn ulid(block: &BlockFacts) -> String {
    let time = u128::from(block.max_time_ms.max(0).unsigned_abs()) & ((1 << 48) - 1);
    let bits = time << 80 | u128::from(block.sequence);
    (0..26).rev().map(|at| char::from(DIGITS[(bits >> (5 * at) & 31) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fake::get;
    use super::*;

    #[tokio::test]
    async fn blocks_are_told_by_time_with_names_clients_can_read() {
        let block = |sequence, level, min_time_ms| BlockFacts {
            sequence,
            level,
            min_time_ms,
            max_time_ms: min_time_ms + 999,
            series: 2,
            samples: 20,
        };
        let router = block_routes(move || vec![block(33, 0, 1_700_000_001_000), block(7, 1, 1_700_000_000_000)]);
        let (status, body) = get(&router, "/api/v1/status/tsdb/blocks").await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200, "{body}");
        let first = json!({
            "ulid": "01HF7YATZ70000000000000007", "minTime": 1_700_000_000_000_i64, "maxTime": 1_700_000_001_000_i64,
            "stats": {"numSamples": 20, "numSeries": 2},
            "compaction": {"level": 2, "sources": ["01HF7YATZ70000000000000007"]}, "version": 1,
        });
        assert_eq!(answer["data"]["blocks"][0], first);
        assert_eq!(answer["data"]["blocks"][1]["compaction"]["level"], 1);
        let (_, none) = get(&block_routes(Vec::new), "/api/v1/status/tsdb/blocks").await;
        assert_eq!(none, r#"{"status":"success","data":{"blocks":[]}}"#);
    }
}
