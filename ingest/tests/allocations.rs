//! Requests of known series allocate nothing at all between the compressed bytes and the engine.

#![expect(unsafe_code, reason = "a counting allocator implements an unsafe trait")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kymo_core::batch::{RowSeries, RowValue};
use kymo_core::storage::{Changes, StorageStatistics};
use kymo_core::{
    AppendError, AppendReport, Budget, Exemplar, Labels, LabelsRef, Metadata, MetricStorage, QueryContext, SampleBatch,
    SelectError, Selector, SeriesRef, SeriesSet,
};
use kymo_ingest::remote_write::{Receiver, ReceiverParts, RemoteWriteConfig, Version};
use prost::Message;

thread_local! {
    /// Allocations of this thread.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator unchanged; counting touches only a
// thread-local that is initialised at compile time and has no destructor, so it never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about `layout` is the one `System` asks for.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System.alloc` or `System.realloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as for `dealloc`, and the caller promises a valid `size`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// An engine that only numbers series and counts rows.
#[derive(Default)]
struct Sink {
    series: AtomicU64,
    by_ref: AtomicU64,
}

impl MetricStorage for Sink {
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        let mut report = AppendReport::default();
        for (number, row) in batch.rows().enumerate() {
            match row.series {
                RowSeries::Ref(_) => drop(self.by_ref.fetch_add(1, Ordering::Relaxed)),
                RowSeries::Labels(_) => {
                    let index = self.series.fetch_add(1, Ordering::Relaxed);
                    report.new_refs.push((number, SeriesRef::new(1, index).unwrap()));
                }
            }
            assert!(matches!(row.value, RowValue::Float(_)));
            report.stored.floats += 1;
        }
        Ok(report)
    }
    fn select(&self, _: &Selector, _: &QueryContext) -> Result<Box<dyn SeriesSet>, SelectError> {
        Err(SelectError::Cancelled)
    }
    fn version(&self) -> u64 {
        0
    }
    fn changed_since(&self, _: u64, _: &Selector) -> Changes {
        Changes::Unknown
    }
    fn resolve(&self, _: LabelsRef<'_>) -> Option<SeriesRef> {
        None
    }
    fn labels(&self, _: SeriesRef) -> Option<Labels> {
        None
    }
    fn label_names(&self, _: &Selector, _: &QueryContext) -> Result<Vec<String>, SelectError> {
        Err(SelectError::Cancelled)
    }
    fn label_values(&self, _: &str, _: &Selector, _: &QueryContext) -> Result<Vec<String>, SelectError> {
        Err(SelectError::Cancelled)
    }
    fn metadata(&self, _: Option<&str>, _: &QueryContext) -> Result<Vec<(String, Vec<Metadata>)>, SelectError> {
        Err(SelectError::Cancelled)
    }
    fn exemplars(&self, _: &Selector, _: &QueryContext) -> Result<Vec<(Labels, Vec<Exemplar>)>, SelectError> {
        Err(SelectError::Cancelled)
    }
    fn statistics(&self) -> StorageStatistics {
        StorageStatistics::default()
    }
}

#[derive(Clone, PartialEq, Message)]
struct RequestV1 {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<SeriesV1>,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesV1 {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(int64, tag = "3")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct RequestV2 {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<SeriesV2>,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<MetadataV2>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct MetadataV2 {
    #[prost(int32, tag = "1")]
    r#type: i32,
    #[prost(uint32, tag = "3")]
    help_ref: u32,
    #[prost(uint32, tag = "4")]
    unit_ref: u32,
}

const SERIES: usize = 2_000;
const NOW_MS: i64 = 1_760_000_000_000;

fn v1(time: i64) -> Vec<u8> {
    let label = |name: &str, value: String| Label { name: name.into(), value };
    let series = |n: usize| SeriesV1 {
        labels: vec![
            label("__name__", "requests_total".into()),
            label("instance", "10.0.0.1:9100".into()),
            label("path", format!("/api/{n}")),
        ],
        samples: vec![Sample { value: n as f64, timestamp: time, start_timestamp: 0 }],
    };
    RequestV1 { timeseries: (0..SERIES).map(series).collect() }.encode_to_vec()
}

fn v2(time: i64) -> Vec<u8> {
    let names = ["", "__name__", "requests_total", "path", "How many."];
    let symbols = names.into_iter().map(String::from).chain((0..SERIES).map(|n| format!("/api/{n}")));
    let series = |n: usize| SeriesV2 {
        labels_refs: vec![1, 2, 3, (names.len() + n) as u32],
        samples: vec![Sample { value: n as f64, timestamp: time, start_timestamp: NOW_MS - 60_000 }],
        metadata: Some(MetadataV2 { r#type: 1, help_ref: 4, unit_ref: 0 }),
    };
    RequestV2 { symbols: symbols.collect(), timeseries: (0..SERIES).map(series).collect() }.encode_to_vec()
}

#[test]
fn a_request_of_known_series_allocates_nothing() {
    type Encode = fn(i64) -> Vec<u8>;
    for (version, encode) in [(Version::V1, v1 as Encode), (Version::V2, v2)] {
        let sink = Arc::new(Sink::default());
        let parts = ReceiverParts { budget: Budget::root("process", 256 << 20), ..ReceiverParts::around(sink.clone()) };
        let receiver = Receiver::new(RemoteWriteConfig::default(), parts).unwrap();
        let bodies: Vec<Vec<u8>> =
            (0..6).map(|round| snap::raw::Encoder::new().compress_vec(&encode(NOW_MS + round)).unwrap()).collect();
        let mut allocations = Vec::new();
        for body in &bodies {
            let before = ALLOCATIONS.get();
            let outcome = receiver.write(version, body).unwrap();
            allocations.push(ALLOCATIONS.get() - before);
            assert_eq!(outcome.written.samples, SERIES as u64);
        }
        // The first registers the series; the second may still grow a buffer that the first did not need.
        assert!(allocations[0] > 0, "the counter counts");
        assert_eq!(allocations[2..], [0; 4], "{version:?}: {allocations:?}");
        assert_eq!(sink.by_ref.load(Ordering::Relaxed), 5 * SERIES as u64);
    }
}
