//! A storage of which each series that is read is seen.

use std::sync::Arc;

use kymo_core::storage::{Changes, Columns, StorageStatistics};
use kymo_core::{
    AppendError, AppendReport, Exemplar, Labels, LabelsRef, Metadata, MetricStorage, QueryContext, SampleBatch,
    SelectError, Selector, SeriesRef, SeriesSet,
};

/// What is done when a series is about to be read.
type OnRead = Arc<dyn Fn(usize) -> Result<(), SelectError> + Send + Sync>;

/// A storage that is watched, and fails where it is told to.
pub(super) struct Watched {
    inner: Arc<dyn MetricStorage>,
    on_read: OnRead,
}

struct WatchedSet {
    inner: Box<dyn SeriesSet>,
    on_read: OnRead,
}

impl Watched {
    pub(super) fn new(
        inner: Arc<dyn MetricStorage>,
        on_read: impl Fn(usize) -> Result<(), SelectError> + Send + Sync + 'static,
    ) -> Arc<Watched> {
        Arc::new(Watched { inner, on_read: Arc::new(on_read) })
    }
}

impl SeriesSet for WatchedSet {
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn labels(&self, index: usize) -> Labels {
        self.inner.labels(index)
    }
    fn estimate(&self, index: usize) -> usize {
        self.inner.estimate(index)
    }
    fn version(&self) -> u64 {
        self.inner.version()
    }
    fn read(&self, index: usize, columns: &mut Columns) -> Result<(), SelectError> {
        (self.on_read)(index)?;
        self.inner.read(index, columns)
    }
}

impl MetricStorage for Watched {
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        self.inner.append(batch)
    }
    fn select(&self, what: &Selector, ctx: &QueryContext) -> Result<Box<dyn SeriesSet>, SelectError> {
        Ok(Box::new(WatchedSet { inner: self.inner.select(what, ctx)?, on_read: self.on_read.clone() }))
    }
    fn version(&self) -> u64 {
        self.inner.version()
    }
    fn changed_since(&self, since: u64, what: &Selector) -> Changes {
        self.inner.changed_since(since, what)
    }
    fn resolve(&self, labels: LabelsRef<'_>) -> Option<SeriesRef> {
        self.inner.resolve(labels)
    }
    fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.inner.labels(series)
    }
    fn label_names(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.inner.label_names(what, ctx)
    }
    fn label_values(&self, name: &str, what: &Selector, ctx: &QueryContext) -> Result<Vec<String>, SelectError> {
        self.inner.label_values(name, what, ctx)
    }
    fn metadata(&self, of: Option<&str>, ctx: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, SelectError> {
        self.inner.metadata(of, ctx)
    }
    fn exemplars(&self, what: &Selector, ctx: &QueryContext) -> Result<Vec<(Labels, Vec<Exemplar>)>, SelectError> {
        self.inner.exemplars(what, ctx)
    }
    fn statistics(&self) -> StorageStatistics {
        self.inner.statistics()
    }
}
