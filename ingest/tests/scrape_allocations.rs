//! A repeated scrape of known series allocates nothing from the answer's bytes to the engine: parsing, looking up, the
//! batch, staleness and the series about the scrape.

#![expect(unsafe_code, reason = "a counting allocator implements an unsafe trait")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use kymo_core::batch::RowSeries;
use kymo_core::pool::{Job, PoolFull};
use kymo_core::registry::Registry;
use kymo_core::storage::{Changes, StorageStatistics};
use kymo_core::{
    AppendError, AppendReport, BlockingPool, Budget, Exemplar, Labels, LabelsRef, LossLedger, Metadata, MetricStorage,
    QueryContext, SampleBatch, SelectError, Selector, SeriesRef, SeriesSet, SystemClock,
};
use kymo_ingest::scrape::{ScrapeClient, ScrapeConfig, ScrapeDefaults, ScrapeManager, ScrapeParts, resolve_all};
use tokio_util::sync::CancellationToken;

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

/// An engine that numbers series and counts rows.
#[derive(Default)]
struct Sink {
    series: AtomicU64,
    rows: AtomicU64,
}

impl MetricStorage for Sink {
    fn append(&self, batch: &SampleBatch) -> Result<AppendReport, AppendError> {
        let mut report = AppendReport::default();
        for (number, row) in batch.rows().enumerate() {
            if let RowSeries::Labels(_) = row.series {
                let index = self.series.fetch_add(1, Ordering::Relaxed);
                report.new_refs.push((number, SeriesRef::new(1, index).unwrap()));
            }
            report.stored.floats += 1;
        }
        self.rows.store(report.stored.floats, Ordering::Relaxed);
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

/// One job's allocations, and the rows it appended.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stored {
    allocations: u64,
    rows: u64,
}

/// One thread that counts what each job allocates there.
struct CountingPool(Mutex<Sender<Job>>);

impl CountingPool {
    fn start(sink: Arc<Sink>, found: Sender<Stored>) -> CountingPool {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for job in queue {
                let before = ALLOCATIONS.with(Cell::get);
                job();
                let allocations = ALLOCATIONS.with(Cell::get) - before;
                if found.send(Stored { allocations, rows: sink.rows.load(Ordering::Relaxed) }).is_err() {
                    return;
                }
            }
        });
        CountingPool(Mutex::new(jobs))
    }
}

impl BlockingPool for CountingPool {
    fn try_execute(&self, job: Job) -> Result<(), PoolFull> {
        // The thread is gone only when the test is over.
        let _ = self.0.lock().unwrap().send(job);
        Ok(())
    }
}

const SERIES: usize = 2_000;

/// Counters, gauges and a histogram with exemplars, whose values move.
fn page(round: u64) -> String {
    let mut page = String::from("# HELP requests_total Requests.\n# TYPE requests_total counter\n");
    for n in 0..SERIES as u64 {
        let value = (round * (n + 1)) as f64 / 8.0;
        writeln!(page, r#"requests_total{{path="/items/{n}",code="200",text="quoted \"{n}\""}} {value}"#).unwrap();
    }
    page.push_str("# TYPE temperature gauge\n# UNIT temperature celsius\n");
    writeln!(page, "temperature {}", round as f64 * -1.5).unwrap();
    page
}

fn serve(mut stream: TcpStream, round: &AtomicU64) {
    let mut head = Vec::new();
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        head.extend_from_slice(&bytes[..count]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        let page = page(round.fetch_add(1, Ordering::Relaxed));
        let kind = "text/plain; version=0.0.4";
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", page.len());
        if stream.write_all((head + &page).as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn a_repeated_scrape_of_known_series_allocates_nothing() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let round = Arc::new(AtomicU64::new(1));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let round = round.clone();
            thread::spawn(move || serve(stream.unwrap(), &round));
        }
    });
    let config = format!(
        r#"{{"job_name":"a","scrape_interval":"100ms","scrape_timeout":"100ms","static_configs":[{{"targets":["{address}"]}}],
            "metric_relabel_configs":[{{"source_labels":["code"],"target_label":"status"}}]}}"#
    );
    let config: ScrapeConfig = serde_json::from_str(&config).unwrap();
    // Ends with the process; a second one would be refused.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let sink = Arc::new(Sink::default());
    let (found, stored) = mpsc::channel();
    let parts = ScrapeParts {
        storage: sink.clone(),
        ledger: Arc::new(LossLedger::default()),
        clock: Arc::new(SystemClock::new()),
        pool: Arc::new(CountingPool::start(sink, found)),
        budget: Budget::unlimited(),
        clients: Arc::new(move |_| Ok(ScrapeClient::from(client.clone()))),
        registry: Registry::new(),
        seed: 0,
    };
    let manager = Arc::new(ScrapeManager::new(parts).unwrap());
    manager.apply(resolve_all(&ScrapeDefaults::default(), &[config]).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let shutdown = CancellationToken::new();
    let running = runtime.spawn({
        let (manager, shutdown) = (manager.clone(), shutdown.clone());
        async move { manager.run(shutdown).await }
    });
    let rows = SERIES as u64 + 1 + 5;
    // A machine at its limit may let scrapes time out; those tell nothing of a repeated one.
    let mut whole = std::iter::repeat_with(|| stored.recv_timeout(Duration::from_secs(60)).unwrap())
        .take(200)
        .filter(|stored| stored.rows == rows);
    let first = whole.next().unwrap();
    assert!(first.allocations > SERIES as u64, "the counter counts: {first:?}");
    // The second round finds room for what the first one named, and everything after it finds all in place.
    let second = whole.next().unwrap();
    let repeated: Vec<Stored> = whole.take(4).collect();
    let wanted = vec![Stored { allocations: 0, rows }; 4];
    shutdown.cancel();
    runtime.block_on(running).unwrap();
    assert_eq!(repeated, wanted, "after {first:?} and {second:?}");
}
