//! Engines and pools for tests.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kymo_core::batch::RowSeries;
use kymo_core::ledger::Received;
use kymo_core::memory::MemoryOptions;
use kymo_core::registry::Registry;
use kymo_core::storage::{Changes, StorageStatistics};
use kymo_core::{
    AppendError, AppendReport, Budget, Exemplar, Labels, LabelsRef, LossLedger, ManualClock, MemoryStorage, Metadata,
    MetricStorage, NativeHistogram, QueryContext, SampleBatch, SelectError, Selector, SeriesRef, SeriesSet,
};
use kymo_ingest::remote_write::{Outcome, Receiver, ReceiverParts, RemoteWriteConfig, Version, WriteError};

pub(crate) const NOW_MS: i64 = 1_760_000_000_000;

/// An in-memory engine that tells how rows named their series, and fails when told to.
pub(crate) struct Engine {
    pub(crate) memory: MemoryStorage,
    /// Per append: how many rows came by ref, and how many by labels.
    pub(crate) appended: Mutex<Vec<(usize, usize)>>,
    /// The next appends fail, one per entry, `false` meaning that one does not.
    pub(crate) failures: Mutex<Vec<bool>>,
}

impl Engine {
    pub(crate) fn appended(&self) -> Vec<(usize, usize)> {
        std::mem::take(&mut *self.appended.lock().unwrap())
    }
}

impl MetricStorage for Engine {
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        let mut failures = self.failures.lock().unwrap();
        if !failures.is_empty() && failures.remove(0) {
            return Err(AppendError::Log { source: std::io::Error::from(std::io::ErrorKind::StorageFull) });
        }
        let refs = batch.rows().filter(|row| matches!(row.series, RowSeries::Ref(_))).count();
        self.appended.lock().unwrap().push((refs, batch.len() - refs));
        self.memory.append(batch)
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

/// A receiver in front of an engine, with everything around it in reach.
pub(crate) struct Door {
    pub(crate) engine: Arc<Engine>,
    pub(crate) ledger: Arc<LossLedger>,
    pub(crate) budget: Budget,
    pub(crate) registry: Registry,
    pub(crate) receiver: Arc<Receiver>,
}

impl Door {
    pub(crate) fn open() -> Door {
        Door::with(RemoteWriteConfig::default(), Budget::unlimited())
    }

    pub(crate) fn with(config: RemoteWriteConfig, budget: Budget) -> Door {
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let memory = MemoryStorage::new(MemoryOptions {
            clock: clock.clone(),
            retention: Some(Duration::from_secs(86_400)),
            ..MemoryOptions::default()
        });
        let engine = Arc::new(Engine { memory, appended: Mutex::default(), failures: Mutex::default() });
        let ledger = Arc::new(LossLedger::default());
        let registry = Registry::new();
        let parts = ReceiverParts {
            storage: engine.clone(),
            ledger: ledger.clone(),
            clock,
            budget: budget.clone(),
            registry: registry.clone(),
        };
        let receiver = Arc::new(Receiver::new(config, parts).unwrap());
        Door { engine, ledger, budget, registry, receiver }
    }

    pub(crate) fn write(&self, version: Version, body: &[u8]) -> Result<Outcome, WriteError> {
        self.receiver.write(version, body)
    }

    /// Everything in the engine, one line per sample or exemplar.
    pub(crate) fn stored(&self) -> BTreeSet<String> {
        let everything = Selector::everything();
        let ctx = QueryContext::unlimited();
        let set = self.engine.select(&everything, &ctx).unwrap();
        let mut lines = BTreeSet::new();
        let mut columns = kymo_core::Columns::default();
        for i in 0..set.len() {
            set.read(i, &mut columns).unwrap();
            let labels = set.labels(i);
            for (n, (time, value)) in columns.iter().enumerate() {
                let start = columns.starts.get(n).copied().unwrap_or(0);
                use kymo_core::storage::ColumnValue;
                let value = match value {
                    ColumnValue::Float(v) => float(v),
                    ColumnValue::Stale => "stale".into(),
                    ColumnValue::Histogram(h) => histogram(h),
                };
                lines.insert(line(&labels, time, start, &value));
            }
        }
        for (labels, exemplars) in self.engine.exemplars(&everything, &ctx).unwrap() {
            lines.extend(exemplars.iter().map(|e| exemplar(&labels, &e.labels, e.time_ms, e.value)));
        }
        lines
    }

    pub(crate) fn received(&self) -> Received {
        self.ledger
            .received()
            .into_iter()
            .find(|(source, _)| *source == "remote_write")
            .map(|r| r.1)
            .unwrap_or_default()
    }

    /// The value of one of the receiver's own metrics.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<_> = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let families = self.registry.snapshot();
        let family = families.iter().find(|family| family.name == name).unwrap();
        family.series.iter().find(|series| *series.labels == *labels).map_or(0.0, |series| series.value.value())
    }

    /// Losses by reason.
    pub(crate) fn losses(&self) -> Vec<(String, u64)> {
        self.ledger.losses().into_iter().map(|loss| (loss.reason, loss.count)).collect()
    }
}

pub(crate) fn line(labels: &Labels, time: i64, start: i64, value: &str) -> String {
    let pairs: Vec<_> = labels.iter().collect();
    format!("{pairs:?} @{time} from {start}: {value}")
}

pub(crate) fn exemplar(series: &Labels, labels: &Labels, time: i64, value: f64) -> String {
    let (series, labels): (Vec<_>, Vec<_>) = (series.iter().collect(), labels.iter().collect());
    format!("{series:?} @{time} exemplar {labels:?}: {}", float(value))
}

pub(crate) fn float(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}

pub(crate) fn histogram(h: &NativeHistogram) -> String {
    format!(
        "{} {:?} {:?} {} {} {:?} {:?} {:?}",
        h.schema,
        h.hint,
        h.counts,
        float(h.sum),
        float(h.zero_threshold),
        h.positive_spans,
        h.negative_spans,
        h.custom_values
    )
}

/// Runs jobs at once, on the caller's thread; or refuses them.
#[derive(Default)]
pub(crate) struct InlinePool {
    pub(crate) full: AtomicBool,
    pub(crate) panics: AtomicBool,
}

impl kymo_core::BlockingPool for InlinePool {
    fn try_execute(&self, job: kymo_core::pool::Job) -> Result<(), kymo_core::pool::PoolFull> {
        if self.full.load(Ordering::SeqCst) {
            return Err(kymo_core::pool::PoolFull { name: "ingest".into(), limit: 7 });
        }
        // A pool whose job panics drops the job with its reply.
        if !self.panics.load(Ordering::SeqCst) {
            job();
        }
        Ok(())
    }
}
