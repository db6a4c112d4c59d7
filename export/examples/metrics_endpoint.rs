//! A program that counts its work and shows it at <http://127.0.0.1:8080/metrics>.
//!
//! `cargo run -p kymo-export --example metrics_endpoint [PORT]`

use std::time::{Duration, Instant};

use kymo_core::registry::Registry;
use kymo_export::{MetricsEndpoint, MetricsServer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(8080), |port| port.parse())?;
    let registry = Registry::new();
    let jobs = registry.counter("example_jobs_total").help("Jobs done.").labels(["kind"]).family()?;
    let seconds =
        registry.histogram("example_job_duration_seconds").help("Time per job.").unit("seconds").register()?;

    let endpoint = MetricsEndpoint { port, ..MetricsEndpoint::default() };
    let server = MetricsServer::bind(endpoint, registry)?.spawn()?;
    println!("http://{}/metrics", server.address().ok_or("the endpoint is off")?);
    for kind in ["small", "large"].iter().cycle() {
        let started = Instant::now();
        std::thread::sleep(Duration::from_millis(if *kind == "small" { 20 } else { 120 }));
        seconds.record(started.elapsed().as_secs_f64());
        jobs.with([*kind]).inc();
    }
    Ok(())
}
