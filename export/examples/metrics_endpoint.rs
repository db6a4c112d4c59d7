//! Counts its work and shows it: `cargo run -p kymo-export --example metrics_endpoint [PORT]`, then <http://127.0.0.1:8080/metrics>.

use std::time::{Duration, Instant};

use kymo_core::registry::Registry;
use kymo_export::{MetricsEndpoint, MetricsServer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(8080), |port| port.parse())?;
    let registry = Registry::new();
    let jobs = registry.counter("example_jobs_total").help("Jobs done.").labels(["kind"]).family()?;
    let seconds = registry.histogram("example_job_duration_seconds").help("Time per job.").register()?;

    let server = MetricsServer::bind(MetricsEndpoint { port, ..MetricsEndpoint::default() }, registry)?.spawn()?;
    println!("http://{}/metrics", server.address().ok_or("the endpoint is off")?);
    for (kind, millis) in [("small", 20), ("large", 120)].iter().cycle() {
        let started = Instant::now();
        std::thread::sleep(Duration::from_millis(*millis));
        seconds.record(started.elapsed().as_secs_f64());
        jobs.at([kind]).inc();
    }
    Ok(())
}
