//! What it costs to ask how a service does, ns, while others tell of requests: one reader among 1,000 services, a writer of
//! 100,000 points a second, and somebody who aggregates each second, as in a server.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kymo_core::health::{HealthOptions, OperationKind, Request, ServiceHealth, ServiceName};
use kymo_core::memory::MemoryOptions;
use kymo_core::{Clock, MemoryStorage, MetricStorage, SystemClock};

use crate::report::{Goal, Report, Row};

const SERVICES: usize = 1_000;
const POINTS_PER_SECOND: u64 = 100_000;
/// How long is read.
const READ: Duration = Duration::from_secs(4);

/// Adds the rows of this group.
///
/// # Errors
/// The figures are not those that were written, or the writer did not keep its rate.
pub fn run(report: &mut Report) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let health = Arc::new(ServiceHealth::new(HealthOptions::default(), clock.clone()));
    let storage = MemoryStorage::new(MemoryOptions { health: Some(health.clone()), ..MemoryOptions::default() });
    let names: Vec<String> = (0..SERVICES).map(|n| format!("service-{n:04}")).collect();
    let record = |n: u64| {
        health.record(&Request {
            service: &names[(n % SERVICES as u64) as usize],
            operation: ["GET /", "GET /items/{id}", "POST /items"][(n / 7 % 3) as usize],
            kind: OperationKind::Server,
            duration_seconds: 0.001 * (1 + n % 97) as f64,
            is_error: n.is_multiple_of(50),
            end_ms: clock.now_ms(),
            weight: 1,
        });
    };
    (0..50 * SERVICES as u64).for_each(record);
    ensure!(health.aggregate_health() == SERVICES, "a service is missing");
    let (is_done, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let asked: Vec<ServiceName> = names.iter().map(|name| ServiceName::from(name.as_str())).collect();
    let (mut took, rate) = thread::scope(|scope| {
        scope.spawn(|| {
            let began = Instant::now();
            let mut n = 0;
            while !is_done.load(Ordering::Relaxed) {
                let due = (began.elapsed().as_secs_f64() * POINTS_PER_SECOND as f64) as u64;
                while n < due {
                    record(n);
                    n += 1;
                }
                written.store(n, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                health.aggregate_health();
                thread::sleep(Duration::from_secs(1));
            }
        });
        let began = Instant::now();
        let mut took = Vec::new();
        while began.elapsed() < READ {
            for name in &asked {
                let asked = Instant::now();
                black_box(storage.get_service_health(black_box(name)));
                took.push(asked.elapsed().as_nanos() as u64);
            }
            // A reader that never rests would take the writer's core on a machine of one or two.
            thread::sleep(Duration::from_millis(5));
        }
        let rate = written.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        is_done.store(true, Ordering::Relaxed);
        (took, rate)
    });
    let counted: u64 = {
        health.aggregate_health();
        health.list().iter().map(|(_, figures)| figures.requests).sum()
    };
    let told = 50 * SERVICES as u64 + written.load(Ordering::Relaxed);
    ensure!(counted >= told, "{counted} requests are counted of {told}");
    ensure!(rate >= 0.9 * POINTS_PER_SECOND as f64, "only {rate:.0} points a second were written");
    took.sort_unstable();
    let mean = took.iter().sum::<u64>() as f64 / took.len() as f64;
    let rank = |share: f64| took[((took.len() - 1) as f64 * share) as usize] as f64;
    let what =
        |figure: &str| format!("get_service_health of {SERVICES} services, {POINTS_PER_SECOND} points/s, {figure}");
    report.row(Row::new(what("mean"), "ns", mean).goal(Goal::AtMost(20_000.0)));
    report.row(Row::new(what("median"), "ns", rank(0.5)).goal(Goal::AtMost(20_000.0)));
    report.row(Row::new(what("p99"), "ns", rank(0.99)).goal(Goal::AtMost(20_000.0)));
    let seed = Row::new("seed: service health query", "ns", rank(0.99)).goal(Goal::AtMost(1_000_000.0));
    report.row(seed);
    let began = Instant::now();
    (0..1_000_000).for_each(record);
    report.row(Row::new("recording a request, one thread", "ns", began.elapsed().as_nanos() as f64 / 1e6));
    let began = Instant::now();
    black_box(health.aggregate_health());
    let millis = began.elapsed().as_secs_f64() * 1e3;
    report.row(Row::new(format!("aggregate_health of {SERVICES} services that were all asked"), "ms", millis));
    Ok(())
}
