//! An engine behind the OTLP door, with everything around it in reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kymo_core::batch::{Row, RowSeries, RowValue};
use kymo_core::ledger::Received;
use kymo_core::memory::MemoryOptions;
use kymo_core::pool::{Job, PoolFull};
use kymo_core::registry::Registry;
use kymo_core::storage::{Changes, ColumnValue, RejectReason, StorageStatistics};
use kymo_core::{
    AppendError, AppendReport, BlockingPool, Budget, Columns, Exemplar, Labels, LabelsRef, LossLedger, ManualClock,
    MemoryStorage, Metadata, MetricStorage, NativeHistogram, QueryContext, SampleBatch, SelectError, Selector,
    SeriesRef, SeriesSet,
};
use kymo_ingest::otlp::{Coding, Encoding, ExportError, OtlpConfig, OtlpLimits, OtlpState, Outcome, Receiver};
use kymo_ingest::remote_write::ReceiverParts;

/// 2025-10-09T08:53:20Z
pub const NOW_MS: i64 = 1_760_000_000_000;
pub const NOW_NS: u64 = 1_760_000_000_000_000_000;

/// An in-memory engine that fails when told to.
pub struct Engine {
    memory: MemoryStorage,
    pub full_disk: AtomicBool,
    /// Refuses rows that need a writer to be remembered.
    pub no_writers: AtomicBool,
    /// Knows no ref of the next batch.
    pub forgets: AtomicBool,
}

/// A report that knows no row of a batch of refs.
fn forgotten(batch: &SampleBatch) -> AppendReport {
    assert!(batch.rows().all(|row| matches!(row.series, RowSeries::Ref(_))), "all of it is known");
    AppendReport {
        unknown_refs: (0..batch.len()).collect(),
        unknown_exemplars: (0..batch.exemplars().count()).collect(),
        ..AppendReport::default()
    }
}

impl Engine {
    fn append_without_writers(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        let needs_one = |row: &Row<'_>| matches!(row.value, RowValue::Increment(_) | RowValue::Total(_));
        let refused: Vec<usize> = (0..batch.len()).filter(|n| needs_one(&batch.row(*n))).collect();
        let mut rest = SampleBatch::new();
        for row in batch.rows().filter(|row| !needs_one(row)) {
            let (RowSeries::Labels(labels), RowValue::Float(value)) = (row.series, row.value) else {
                panic!("{row:?}")
            };
            rest.push_float(labels, row.time_ms, value);
            rest.set_start(row.start_ms);
        }
        let mut report = self.memory.append(&rest)?;
        report.rejected_counts.increments = refused.len() as u64;
        report.rejected = refused.into_iter().map(|row| (row, RejectReason::WriterLimit)).collect();
        Ok(report)
    }
}

impl MetricStorage for Engine {
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        match self.full_disk.load(Ordering::SeqCst) {
            true => Err(AppendError::Log { source: std::io::ErrorKind::StorageFull.into() }),
            false if self.forgets.swap(false, Ordering::SeqCst) => Ok(forgotten(batch)),
            false if self.no_writers.load(Ordering::SeqCst) => self.append_without_writers(batch),
            false => self.memory.append(batch),
        }
    }
    fn select(&self, what: &Selector, ctx: &QueryContext) -> Result<Box<dyn SeriesSet>, SelectError> {
        self.memory.select(what, ctx)
    }
    fn version(&self) -> u64 {
        self.memory.version()
    }
    fn changed_since(&self, since: u64, what: &Selector) -> Changes {
        self.memory.changed_since(since, what)
    }
    fn resolve(&self, labels: LabelsRef<'_>) -> Option<SeriesRef> {
        self.memory.resolve(labels)
    }
    fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.memory.labels(series)
    }
    fn label_names(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.memory.label_names(what, ctx)
    }
    fn label_values(&self, name: &str, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.memory.label_values(name, what, ctx)
    }
    fn metadata(&self, family: Option<&str>, ctx: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, SelectError> {
        self.memory.metadata(family, ctx)
    }
    fn exemplars(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<(Labels, Vec<Exemplar>)>, SelectError> {
        self.memory.exemplars(what, ctx)
    }
    fn statistics(&self) -> StorageStatistics {
        self.memory.statistics()
    }
}

/// Runs jobs at once, on the caller's thread; or refuses or loses them.
#[derive(Default)]
pub struct InlinePool {
    pub full: AtomicBool,
    pub panics: AtomicBool,
}

impl BlockingPool for InlinePool {
    fn try_execute(&self, job: Job) -> Result<(), PoolFull> {
        if self.full.load(Ordering::SeqCst) {
            return Err(PoolFull { name: "ingest".into(), limit: 7 });
        }
        // A pool whose job panics drops the job with its reply.
        if !self.panics.load(Ordering::SeqCst) {
            job();
        }
        Ok(())
    }
}

pub struct Door {
    pub engine: Arc<Engine>,
    pub ledger: Arc<LossLedger>,
    pub clock: Arc<ManualClock>,
    pub budget: Budget,
    pub registry: Registry,
    pub receiver: Arc<Receiver>,
    pub pool: Arc<InlinePool>,
}

impl Door {
    pub fn open() -> Door {
        Door::with(OtlpConfig::default(), OtlpLimits::default(), MemoryOptions::default(), Budget::unlimited())
    }

    pub fn configured(config: OtlpConfig) -> Door {
        Door::with(config, OtlpLimits::default(), MemoryOptions::default(), Budget::unlimited())
    }

    /// The engine's clock stands at [`NOW_MS`].
    pub fn with(config: OtlpConfig, limits: OtlpLimits, options: MemoryOptions, budget: Budget) -> Door {
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let options = MemoryOptions { clock: clock.clone(), retention: Some(Duration::from_secs(86_400)), ..options };
        let engine = Arc::new(Engine {
            memory: MemoryStorage::new(options),
            full_disk: AtomicBool::new(false),
            no_writers: AtomicBool::new(false),
            forgets: AtomicBool::new(false),
        });
        Door::around(engine, clock, (config, limits), budget)
    }

    fn around(
        engine: Arc<Engine>,
        clock: Arc<ManualClock>,
        (config, limits): (OtlpConfig, OtlpLimits),
        budget: Budget,
    ) -> Door {
        let ledger = Arc::new(LossLedger::default());
        let registry = Registry::new();
        let parts = ReceiverParts {
            storage: engine.clone(),
            ledger: ledger.clone(),
            clock: clock.clone(),
            budget: budget.clone(),
            registry: registry.clone(),
        };
        let receiver = Arc::new(Receiver::new(config, limits, parts).unwrap());
        Door { engine, ledger, clock, budget, registry, receiver, pool: Arc::default() }
    }

    /// A receiver that knows nothing in front of the same engine, with a clock set by so much.
    pub fn restarted(&self, set_by_ms: i64) -> Door {
        let clock = Arc::new(ManualClock::at(NOW_MS + set_by_ms));
        let options = (OtlpConfig::default(), OtlpLimits::default());
        Door::around(self.engine.clone(), clock, options, Budget::unlimited())
    }

    /// Bytes reserved beside what is kept of known series, and of spans that were counted.
    pub fn held(&self) -> u64 {
        self.budget.used() - self.receiver.cached_series().1 - self.receiver.span_bytes()
    }

    pub fn state(&self) -> OtlpState {
        OtlpState { receiver: self.receiver.clone(), pool: self.pool.clone() }
    }

    pub fn export(&self, encoding: Encoding, body: impl Into<Vec<u8>>) -> Result<Outcome, ExportError> {
        self.receiver.export(encoding, Coding::Identity, body.into().into())
    }

    /// Everything in the engine, one line per sample or exemplar, sorted.
    pub fn stored(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let (everything, ctx) = (Selector::everything(), QueryContext::unlimited());
        let set = self.engine.select(&everything, &ctx).unwrap();
        let mut columns = Columns::default();
        for i in 0..set.len() {
            set.read(i, &mut columns).unwrap();
            let labels = set.labels(i);
            for (n, (time, value)) in columns.iter().enumerate() {
                let value = match value {
                    ColumnValue::Float(value) => value.to_string(),
                    ColumnValue::Stale => "stale".into(),
                    ColumnValue::Histogram(h) => histogram(h),
                };
                let start = match columns.starts.get(n) {
                    None | Some(0) => String::new(),
                    Some(start) => format!(" since {}", relative(*start)),
                };
                lines.push(format!("{labels} {value} @{}{start}", relative(time)));
            }
        }
        for (labels, exemplars) in self.engine.exemplars(&everything, &ctx).unwrap() {
            lines.extend(
                exemplars.iter().map(|e| format!("{labels} # {} {} @{}", e.labels, e.value, relative(e.time_ms))),
            );
        }
        lines.sort();
        lines
    }

    /// Families with type, unit and help.
    pub fn metadata(&self) -> Vec<String> {
        let all = self.engine.metadata(None, &QueryContext::unlimited()).unwrap();
        let each = all.iter().flat_map(|(family, all)| all.iter().map(move |one| (family, one)));
        each.map(|(family, m)| format!("{family} {} {:?} {:?}", m.family_type.as_str(), m.unit, m.help)).collect()
    }

    pub fn received(&self) -> Received {
        self.ledger.received().into_iter().find(|(source, _)| *source == "otlp").map(|r| r.1).unwrap_or_default()
    }

    /// Of spans.
    pub fn received_spans(&self) -> Received {
        self.ledger.received().into_iter().find(|(source, _)| *source == "otlp_traces").map(|r| r.1).unwrap_or_default()
    }

    /// Losses by reason.
    pub fn losses(&self) -> Vec<(String, u64)> {
        self.ledger.losses().into_iter().map(|loss| (loss.reason, loss.count)).collect()
    }
}

/// A time as milliseconds from [`NOW_MS`].
fn relative(time_ms: i64) -> String {
    match time_ms - NOW_MS {
        0 => "now".into(),
        distance => format!("{distance:+}"),
    }
}

fn histogram(h: &NativeHistogram) -> String {
    let spans = |spans: &[kymo_core::histogram::BucketSpan]| {
        spans.iter().map(|span| format!("{}:{}", span.offset, span.len)).collect::<Vec<_>>().join(",")
    };
    let kymo_core::histogram::HistogramCounts::Integer(counts) = &h.counts else { panic!("{h:?}") };
    format!(
        "histogram schema {} zero {}≤{} count {} sum {} +[{}]{:?} -[{}]{:?} bounds {:?}",
        h.schema,
        counts.zero,
        h.zero_threshold,
        counts.count,
        h.sum,
        spans(&h.positive_spans),
        counts.positive,
        spans(&h.negative_spans),
        counts.negative,
        h.custom_values
    )
}

/// A JSON request of one resource and scope.
pub fn request(resource: &str, scope: &str, metrics: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{resource}]}},
            "scopeMetrics":[{{"scope":{scope},"metrics":[{metrics}]}}]}}]}}"#
    )
}

/// A JSON request of metrics without resource and scope.
pub fn metrics(metrics: &str) -> String {
    request("", "{}", metrics)
}

/// Attributes of string values.
pub fn attributes(pairs: &[(&str, &str)]) -> String {
    let each = pairs.iter().map(|(key, value)| format!(r#"{{"key":{key:?},"value":{{"stringValue":{value:?}}}}}"#));
    each.collect::<Vec<_>>().join(",")
}

/// A body of gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
