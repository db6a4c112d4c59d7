//! Counts and times every operation of a store.

use std::sync::Arc;
use std::time::Duration;

use kymo_core::Clock;
use kymo_core::metric::MetricKind;
use kymo_core::registry::{Counter, Histogram, MetricDesc, RegisterError, Registry};
use kymo_core::state::{StateError, StateStore};

/// The metrics of stores; the reference page is made from them.
pub const STATE_METRICS: &[MetricDesc] = &[OPERATIONS, DURATION];

const OPERATIONS: MetricDesc = MetricDesc {
    name: "storage_operations_total",
    kind: MetricKind::Counter,
    unit: "",
    help: "Operations of the state store, failed ones included.",
    labels: &["operation", "backend", "result"],
};
const DURATION: MetricDesc = MetricDesc {
    name: "storage_operation_duration_seconds",
    kind: MetricKind::Histogram,
    unit: "seconds",
    help: "Time an operation of the state store took, failed ones included.",
    labels: &["operation", "backend", "result"],
};

/// From ten microseconds, which a read from memory takes, to the longest deadline that makes sense.
pub(super) const BUCKETS: [f64; 19] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5, 5.0, 10.0,
];

/// A store whose operations are counted in `storage_operations_total` and timed in
/// `storage_operation_duration_seconds`, by operation, backend and result. Shares the store it measures.
pub struct Measured {
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    get: Operation,
    put: Operation,
    delete: Operation,
    list: Operation,
}

struct Operation {
    ok: (Counter, Histogram),
    failed: (Counter, Histogram),
}

impl Measured {
    /// Measures `store` under the name `backend`, which is to be one of a few.
    ///
    /// # Errors
    /// The registry has metrics of these names of another form.
    pub fn new(
        store: Arc<dyn StateStore>,
        backend: &str,
        registry: &Registry,
        clock: Arc<dyn Clock>,
    ) -> Result<Measured, RegisterError> {
        let names = ["operation", "backend", "result"];
        let counts = registry.counter(&OPERATIONS).labels(names).family()?;
        let times = registry.histogram(&DURATION).buckets(&BUCKETS).labels(names).family()?;
        let handles = |operation: &str, result| {
            (counts.with([operation, backend, result]), times.with([operation, backend, result]))
        };
        let operation = |name: &str| Operation { ok: handles(name, "ok"), failed: handles(name, "error") };
        Ok(Measured {
            store,
            clock,
            get: operation("get"),
            put: operation("put"),
            delete: operation("delete"),
            list: operation("list"),
        })
    }

    fn measure<T>(
        &self,
        operation: &Operation,
        work: impl FnOnce(&dyn StateStore) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let began = self.clock.monotonic();
        let result = work(&*self.store);
        let took: Duration = self.clock.monotonic().saturating_sub(began);
        let (count, time) = if result.is_ok() { &operation.ok } else { &operation.failed };
        count.add(1);
        time.record(took.as_secs_f64());
        result
    }
}

impl StateStore for Measured {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.measure(&self.get, |store| store.get(key))
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), StateError> {
        self.measure(&self.put, |store| store.put(key, value))
    }

    fn delete(&self, key: &str) -> Result<bool, StateError> {
        self.measure(&self.delete, |store| store.delete(key))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        self.measure(&self.list, |store| store.list(prefix))
    }
}

impl std::fmt::Debug for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Measured").finish_non_exhaustive()
    }
}
