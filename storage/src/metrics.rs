//! What this crate says of itself, in one table.

use kymo_core::metric::MetricKind;
use kymo_core::registry::{Counter, Family, Gauge, Histogram, MetricDesc, RegisterError, Registry};
use kymo_core::storage::StorageStatistics;
use kymo_core::{AppendError, AppendReport};

use crate::options::Limits;
use crate::overflow::Overflow;

/// Every metric of this crate; the reference page is made from it.
pub const METRICS: &[MetricDesc] = &[
    ROWS,
    APPEND_FAILURES,
    SYNCS,
    FLUSHES,
    FLUSH_DURATION,
    FLUSHED_BYTES,
    MERGES,
    MERGE_DURATION,
    MERGED_BLOCKS,
    MERGE_READ_BYTES,
    MERGE_WRITTEN_BYTES,
    MERGE_RESTS,
    ROLLUPS,
    ROLLUP_DURATION,
    ROLLED_SAMPLES,
    ROLLUP_BUCKETS,
    ROLLUP_WRITTEN_BYTES,
    RETIRED,
    DELETES,
    SERIES,
    SERIES_LIMIT,
    HEAD_SAMPLES,
    HEAD_BYTES,
    HEAD_FILL,
    LOG_BYTES,
    BLOCKS,
    BLOCK_SAMPLES,
    BLOCK_BYTES,
    CACHE_BYTES,
    QUARANTINED,
    OVERFLOW,
];

const fn desc(
    name: &'static str,
    kind: MetricKind,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> MetricDesc {
    MetricDesc { name, kind, unit, help, labels }
}

const ROWS: MetricDesc = desc(
    "kymo_storage_rows_total",
    MetricKind::Counter,
    "",
    &["outcome"],
    "Samples and exemplars given to the engine, by what became of them.",
);
const APPEND_FAILURES: MetricDesc = desc(
    "kymo_storage_append_failures_total",
    MetricKind::Counter,
    "",
    &["reason"],
    "Batches of which nothing was taken: the memory limit, the log, or the engine being closed.",
);
const SYNCS: MetricDesc = desc(
    "kymo_storage_log_syncs_total",
    MetricKind::Counter,
    "",
    &["outcome"],
    "Syncs of the log by the sync lane, by outcome. After a failed one the unsynced frames go to a new file.",
);
const FLUSHES: MetricDesc =
    desc("kymo_storage_flushes_total", MetricKind::Counter, "", &["outcome"], "Flushes of the head into blocks.");
const FLUSH_DURATION: MetricDesc =
    desc("kymo_storage_flush_duration_seconds", MetricKind::Histogram, "seconds", &[], "Time one flush took.");
const FLUSHED_BYTES: MetricDesc =
    desc("kymo_storage_flushed_bytes_total", MetricKind::Counter, "bytes", &[], "Bytes of blocks that flushes wrote.");
const MERGES: MetricDesc =
    desc("kymo_storage_merges_total", MetricKind::Counter, "", &["outcome"], "Merges of several blocks into one.");
const MERGE_DURATION: MetricDesc = desc(
    "kymo_storage_merge_duration_seconds",
    MetricKind::Histogram,
    "seconds",
    &[],
    "Time one merge worked, the rests between its steps left out.",
);
const MERGED_BLOCKS: MetricDesc = desc(
    "kymo_storage_merged_blocks_total",
    MetricKind::Counter,
    "",
    &[],
    "Blocks that were replaced by a merged one.",
);
const MERGE_READ_BYTES: MetricDesc =
    desc("kymo_storage_merge_read_bytes_total", MetricKind::Counter, "bytes", &[], "Bytes of blocks that were merged.");
const MERGE_WRITTEN_BYTES: MetricDesc = desc(
    "kymo_storage_merge_written_bytes_total",
    MetricKind::Counter,
    "bytes",
    &[],
    "Bytes of blocks that merges wrote.",
);
const MERGE_RESTS: MetricDesc = desc(
    "kymo_storage_merge_rest_seconds_total",
    MetricKind::Counter,
    "seconds",
    &[],
    "Time that merging held itself back for after its steps, so that it takes a part of one core only.",
);
const ROLLUPS: MetricDesc = desc(
    "kymo_storage_rollups_total",
    MetricKind::Counter,
    "",
    &["outcome"],
    "Blocks of rollups that were made, or failed to be.",
);
const ROLLUP_DURATION: MetricDesc = desc(
    "kymo_storage_rollup_duration_seconds",
    MetricKind::Histogram,
    "seconds",
    &[],
    "Time that making a block of rollups took, rests left out.",
);
const ROLLED_SAMPLES: MetricDesc = desc(
    "kymo_storage_rolled_up_samples_total",
    MetricKind::Counter,
    "",
    &[],
    "Samples that rollups were made of; those that are rolled up again count again.",
);
const ROLLUP_BUCKETS: MetricDesc = desc(
    "kymo_storage_rollup_buckets_total",
    MetricKind::Counter,
    "",
    &[],
    "Buckets written to blocks of rollups, those carried over from a block before included.",
);
const ROLLUP_WRITTEN_BYTES: MetricDesc = desc(
    "kymo_storage_rollup_written_bytes_total",
    MetricKind::Counter,
    "bytes",
    &[],
    "Bytes of blocks of rollups that were made.",
);
const RETIRED: MetricDesc = desc(
    "kymo_storage_retired_blocks_total",
    MetricKind::Counter,
    "",
    &[],
    "Blocks removed because of their age or of the size of all.",
);
const DELETES: MetricDesc =
    desc("kymo_storage_deletes_total", MetricKind::Counter, "", &[], "Deletes of series in a range of time.");
const SERIES_LIMIT: MetricDesc =
    desc("kymo_storage_series_limit", MetricKind::Gauge, "", &[], "Series that can take samples at most.");
const SERIES: MetricDesc =
    desc("kymo_storage_active_series", MetricKind::Gauge, "", &[], "Series that can take samples by ref.");
const HEAD_SAMPLES: MetricDesc =
    desc("kymo_storage_head_samples", MetricKind::Gauge, "", &[], "Samples that are not in blocks yet.");
const HEAD_BYTES: MetricDesc =
    desc("kymo_storage_head_bytes", MetricKind::Gauge, "bytes", &[], "Memory that the head is accounted for.");
const HEAD_FILL: MetricDesc = desc(
    "kymo_storage_head_fill_ratio",
    MetricKind::Gauge,
    "",
    &[],
    "How full the head is; at 1 it is flushed. Late samples fill it with more than their number.",
);
const LOG_BYTES: MetricDesc = desc("kymo_storage_log_bytes", MetricKind::Gauge, "bytes", &[], "Bytes of the log.");
const BLOCKS: MetricDesc = desc("kymo_storage_blocks", MetricKind::Gauge, "", &[], "Live block files.");
const BLOCK_SAMPLES: MetricDesc =
    desc("kymo_storage_block_samples", MetricKind::Gauge, "", &[], "Samples in block files.");
const BLOCK_BYTES: MetricDesc =
    desc("kymo_storage_block_bytes", MetricKind::Gauge, "bytes", &[], "Bytes of block files.");
const CACHE_BYTES: MetricDesc = desc(
    "kymo_storage_cache_bytes",
    MetricKind::Gauge,
    "bytes",
    &[],
    "Memory held by what was read from blocks, given back when memory is short and when nobody asks for it.",
);
const QUARANTINED: MetricDesc =
    desc("kymo_storage_quarantined", MetricKind::Gauge, "", &[], "Damaged pieces set aside when the data was opened.");

const OVERFLOW: MetricDesc = desc(
    "kymo_overflow_samples_total",
    MetricKind::Counter,
    "",
    &["metric", "label"],
    "Samples of new series beyond the limit of active series, of labels or of their length, by their metric and its label \
     of most values, or the one that is too long.",
);

/// The handles of one engine.
#[derive(Debug)]
pub(crate) struct StorageMetrics {
    rows: [Counter; 5],
    append_failures: Family<Counter, 1>,
    pub(crate) syncs: Outcomes,
    pub(crate) flushes: Outcomes,
    pub(crate) flush_duration: Histogram,
    pub(crate) flushed_bytes: Counter,
    pub(crate) merges: Outcomes,
    pub(crate) merge: MergeMetrics,
    pub(crate) rollups: Outcomes,
    pub(crate) rollup: RollupMetrics,
    pub(crate) retired: Counter,
    pub(crate) deletes: Counter,
    pub(crate) cache_bytes: Gauge,
    head_fill: Gauge,
    pub(crate) overflow: Overflow,
    /// Levels, in the order of [`StorageMetrics::levels`].
    gauges: [Gauge; 8],
}

/// What merges cost.
#[derive(Debug)]
pub(crate) struct MergeMetrics {
    pub(crate) duration: Histogram,
    pub(crate) blocks: Counter,
    pub(crate) read_bytes: Counter,
    pub(crate) written_bytes: Counter,
    /// In seconds.
    pub(crate) rests: Counter,
}

/// What rolling up costs.
#[derive(Debug)]
pub(crate) struct RollupMetrics {
    pub(crate) duration: Histogram,
    pub(crate) samples: Counter,
    pub(crate) buckets: Counter,
    pub(crate) written_bytes: Counter,
}

/// Counters of what succeeded and what failed.
#[derive(Debug)]
pub(crate) struct Outcomes {
    ok: Counter,
    failed: Counter,
}

impl Outcomes {
    fn new(registry: &Registry, desc: &MetricDesc) -> Result<Outcomes, RegisterError> {
        let family = registry.counter(desc).labels(["outcome"]).family()?;
        Ok(Outcomes { ok: family.with(["ok"]), failed: family.with(["failed"]) })
    }

    /// Counts a result, and hands it on.
    pub(crate) fn count<T, E>(&self, result: Result<T, E>) -> Result<T, E> {
        if result.is_ok() {
            self.ok.add(1)
        } else {
            self.failed.add(1)
        }
        result
    }
}

impl StorageMetrics {
    pub(crate) fn new(registry: &Registry, limits: &Limits) -> Result<StorageMetrics, RegisterError> {
        let rows = registry.counter(&ROWS).labels(["outcome"]).family()?;
        let gauge = |desc: &MetricDesc| registry.gauge(desc).register();
        gauge(&SERIES_LIMIT)?.set(limits.active_series as f64);
        Ok(StorageMetrics {
            rows: ["stored", "identical", "replaced", "rejected", "unknown"].map(|outcome| rows.with([outcome])),
            append_failures: registry.counter(&APPEND_FAILURES).labels(["reason"]).family()?,
            syncs: Outcomes::new(registry, &SYNCS)?,
            flushes: Outcomes::new(registry, &FLUSHES)?,
            flush_duration: registry.histogram(&FLUSH_DURATION).register()?,
            flushed_bytes: registry.counter(&FLUSHED_BYTES).register()?,
            merges: Outcomes::new(registry, &MERGES)?,
            merge: MergeMetrics {
                duration: registry.histogram(&MERGE_DURATION).register()?,
                blocks: registry.counter(&MERGED_BLOCKS).register()?,
                read_bytes: registry.counter(&MERGE_READ_BYTES).register()?,
                written_bytes: registry.counter(&MERGE_WRITTEN_BYTES).register()?,
                rests: registry.counter(&MERGE_RESTS).register()?,
            },
            rollups: Outcomes::new(registry, &ROLLUPS)?,
            rollup: RollupMetrics {
                duration: registry.histogram(&ROLLUP_DURATION).register()?,
                samples: registry.counter(&ROLLED_SAMPLES).register()?,
                buckets: registry.counter(&ROLLUP_BUCKETS).register()?,
                written_bytes: registry.counter(&ROLLUP_WRITTEN_BYTES).register()?,
            },
            retired: registry.counter(&RETIRED).register()?,
            deletes: registry.counter(&DELETES).register()?,
            cache_bytes: gauge(&CACHE_BYTES)?,
            head_fill: gauge(&HEAD_FILL)?,
            overflow: Overflow::new(registry.counter(&OVERFLOW).labels(["metric", "label"]).family()?),
            gauges: [
                gauge(&SERIES)?,
                gauge(&HEAD_SAMPLES)?,
                gauge(&HEAD_BYTES)?,
                gauge(&LOG_BYTES)?,
                gauge(&BLOCKS)?,
                gauge(&BLOCK_SAMPLES)?,
                gauge(&BLOCK_BYTES)?,
                gauge(&QUARANTINED)?,
            ],
        })
    }

    /// Counts what became of a batch.
    pub(crate) fn appended(&self, report: &AppendReport) {
        let all = |counts: &kymo_core::storage::RowCounts| counts.samples() + counts.exemplars;
        let unknown = report.unknown_refs.len() + report.unknown_exemplars.len();
        let counts = [
            all(&report.stored),
            all(&report.identical),
            all(&report.replaced),
            all(&report.rejected_counts),
            unknown as u64,
        ];
        for (counter, count) in self.rows.iter().zip(counts) {
            if count > 0 {
                counter.add(count);
            }
        }
    }

    /// Counts a batch of which nothing was taken.
    pub(crate) fn failed(&self, error: &AppendError) {
        let reason = match error {
            AppendError::Budget(_) => "memory",
            AppendError::Closed => "closed",
            _ => "log",
        };
        self.append_failures.with([reason]).add(1);
    }

    /// Shows how large the head is; cheap enough for every append.
    pub(crate) fn head_levels(&self, series: u64, samples: u64, bytes: u64, fill_ratio: f64) {
        self.head_fill.set(fill_ratio);
        self.gauges.iter().zip([series, samples, bytes]).for_each(|(gauge, level)| gauge.set(level as f64));
    }

    /// Shows how large everything is.
    pub(crate) fn levels(&self, now: &StorageStatistics) {
        let levels = [
            now.active_series,
            now.head_samples,
            now.head_bytes,
            now.log_bytes,
            now.blocks,
            now.block_samples,
            now.block_bytes,
            now.quarantined,
        ];
        self.gauges.iter().zip(levels).for_each(|(gauge, level)| gauge.set(level as f64));
    }
}
