//! A small engine to look into, and targets that answer as they are told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kymo_core::memory::MemoryOptions;
use kymo_core::pool::ThreadPool;
use kymo_core::registry::Registry;
use kymo_core::storage::{ColumnValue, Columns, QueryContext, Selector};
use kymo_core::text::SeriesText;
use kymo_core::{Budget, Clock, LossLedger, ManualClock, MemoryStorage, MetricStorage, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::scrape::job::Job;
use crate::scrape::scraper::Scraper;
use crate::scrape::store::Engine;
use crate::scrape::{
    ClientFactory, JobConfig, ScrapeConfig, ScrapeDefaults, ScrapeManager, ScrapeParts, jobs::Shared, target,
};

/// Where the tests' clocks begin.
pub(in crate::scrape) const START_MS: i64 = 1_700_000_000_000;

pub(in crate::scrape) fn job(json: &str) -> JobConfig {
    let config: ScrapeConfig = serde_json::from_str(json).unwrap();
    config.resolve(&ScrapeDefaults::default()).unwrap()
}

/// An engine in memory and a clock that stands still.
pub(in crate::scrape) struct Rig {
    pub(in crate::scrape) storage: Arc<MemoryStorage>,
    pub(in crate::scrape) ledger: Arc<LossLedger>,
    pub(in crate::scrape) clock: Arc<ManualClock>,
}

impl Rig {
    pub(in crate::scrape) fn new() -> Rig {
        Rig::with(|_| {})
    }

    pub(in crate::scrape) fn with(change: impl FnOnce(&mut MemoryOptions)) -> Rig {
        let clock = Arc::new(ManualClock::at(START_MS));
        let mut options = MemoryOptions { clock: clock.clone(), ..MemoryOptions::default() };
        change(&mut options);
        Rig { storage: Arc::new(MemoryStorage::new(options)), ledger: Arc::default(), clock }
    }

    pub(in crate::scrape) fn engine(&self) -> Engine {
        Engine { storage: self.storage.clone(), ledger: self.ledger.clone(), clock: self.clock.clone() }
    }

    pub(in crate::scrape) fn manager(&self) -> Arc<ScrapeManager> {
        self.manager_on(100, Budget::unlimited())
    }

    /// With so many places in the queue of its one thread.
    pub(in crate::scrape) fn manager_on(&self, queue: usize, budget: Budget) -> Arc<ScrapeManager> {
        let parts = ScrapeParts {
            storage: self.storage.clone(),
            ledger: self.ledger.clone(),
            clock: self.clock.clone(),
            pool: Arc::new(ThreadPool::start("test", 1, queue).unwrap()),
            budget,
            clients: clients(),
            registry: Registry::new(),
            seed: 0,
        };
        Arc::new(ScrapeManager::new(parts).unwrap())
    }

    /// A scraper of one target, as a job makes it.
    pub(in crate::scrape) fn scraper(&self, config: JobConfig, address: SocketAddr) -> Arc<Scraper> {
        let shared = self.manager().shared();
        let scraper = scraper(&shared, config, address);
        shared.arrive(&scraper);
        scraper
    }

    /// All samples of series whose name begins with `prefix`, in the order of series and time; times count from the
    /// clock's beginning.
    pub(in crate::scrape) fn samples(&self, prefix: &str) -> Vec<String> {
        let ctx = QueryContext::unlimited();
        let set = self.storage.select(&Selector::everything(), &ctx).unwrap();
        let (mut columns, mut found) = (Columns::default(), Vec::new());
        for index in 0..set.len() {
            let labels = set.labels(index);
            if !labels.metric_name().unwrap_or_default().starts_with(prefix) {
                continue;
            }
            set.read(index, &mut columns).unwrap();
            for (time_ms, value) in columns.iter() {
                let value = match value {
                    ColumnValue::Float(value) => value.to_string(),
                    ColumnValue::Histogram(histogram) => format!("histogram of {}", histogram.count()),
                    ColumnValue::Stale => "stale".to_owned(),
                };
                found.push(format!("{} {value} @{}", SeriesText(&labels), time_ms - START_MS));
            }
        }
        found
    }

    /// Value of a series about the scrape at `time_ms` after the clock's beginning.
    pub(in crate::scrape) fn report(&self, name: &str, time_ms: i64) -> Option<f64> {
        let ending = format!(" @{time_ms}");
        let line = self.samples(name).into_iter().find(|line| line.ends_with(&ending))?;
        line.trim_end_matches(&ending).rsplit_once(' ')?.1.parse().ok()
    }

    pub(in crate::scrape) fn losses(&self) -> Vec<(String, u64)> {
        self.ledger.losses().into_iter().map(|loss| (loss.reason, loss.count)).collect()
    }
}

pub(in crate::scrape) fn scraper(shared: &Arc<Shared>, config: JobConfig, address: SocketAddr) -> Arc<Scraper> {
    let own = [("__address__".to_owned(), address.to_string())].into();
    let target::Made::Target(target) = target::make(&config, &own, &Default::default()).unwrap() else {
        panic!("dropped")
    };
    let job = Arc::new(Job::new(config, &clients()).unwrap());
    Arc::new(Scraper::new(Arc::clone(shared), job, target).unwrap())
}

/// Clients without any of the settings, which are another crate's to act on.
pub(in crate::scrape) fn clients() -> ClientFactory {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Arc::new(|_| Ok(reqwest::Client::builder().no_proxy().build()?.into()))
}

/// How a target answers.
#[derive(Debug, Clone)]
pub(in crate::scrape) enum Answer {
    /// With these bytes, then it closes.
    Bytes(Vec<u8>),
    /// Never.
    Hang,
    /// By closing at once, without reading.
    Reset,
}

/// Status 200 with this body.
pub(in crate::scrape) fn page(content_type: &str, body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    Answer::Bytes([head.as_bytes(), body].concat())
}

pub(in crate::scrape) fn text(body: impl AsRef<[u8]>) -> Answer {
    page("text/plain; version=0.0.4", body)
}

/// A target on a port of its own.
pub(in crate::scrape) struct TestTarget {
    pub(in crate::scrape) address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    /// Heads of the requests so far.
    requests: Arc<Mutex<Vec<String>>>,
}

impl TestTarget {
    pub(in crate::scrape) async fn start(answer: Answer) -> TestTarget {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, requests) = (Arc::new(Mutex::new(answer)), Arc::new(Mutex::new(Vec::new())));
        let target = TestTarget { address, answer: answer.clone(), requests: requests.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), requests.clone()));
            }
        });
        target
    }

    pub(in crate::scrape) fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    pub(in crate::scrape) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<Mutex<Answer>>, requests: Arc<Mutex<Vec<String>>>) {
    let answer = answer.lock().unwrap().clone();
    if matches!(answer, Answer::Reset) {
        return;
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    requests.lock().unwrap().push(String::from_utf8(head).unwrap());
    match answer {
        Answer::Bytes(bytes) => {
            // A client that has seen enough hangs up.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Answer::Hang => std::future::pending().await,
        Answer::Reset => {}
    }
}

/// Lets a clock follow the runtime's paused time, which jumps ahead whenever nothing is left to do.
pub(in crate::scrape) fn follow(clock: &Arc<ManualClock>) {
    let clock = Arc::clone(clock);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(STEP).await;
            clock.advance(STEP);
        }
    });
}

const STEP: Duration = Duration::from_millis(10);

/// Lets paused time pass until `done` holds; gives up after some real time, because what is waited for will not come.
pub(in crate::scrape) async fn until(mut done: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    while !done() {
        assert!(clock.monotonic() < Duration::from_secs(30), "waited in vain");
        tokio::time::sleep(STEP).await;
    }
}
