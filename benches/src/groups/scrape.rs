//! What one target of 10,000 series costs a server that scrapes it each second, end to end, and how evenly it comes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Setup;
use crate::report::{Figure, Goal, Report, Row};
use crate::servers::{Binary, Kind, Server};

const SERIES: usize = 10_000;
const INTERVAL: Duration = Duration::from_secs(1);
/// The first scrapes see every series for the first time, or find their stride.
const WARM_UP: usize = 3;
const SCRAPES: usize = 12;
/// A scraper that does not come for this long never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// Adds the rows of this group.
///
/// # Errors
/// A server does not scrape.
pub fn run(setup: &Setup, binaries: &[Binary], report: &mut Report) -> Result<()> {
    let mut cost =
        Row::new("scrape of 10,000 series each second, end to end", "µs CPU/sample", Figure::missing("no kymo"));
    let mut jitter = Row::new("scrape's distance from its second, worst of 12", "ms", Figure::missing("no kymo"));
    for binary in binaries.iter().filter(|binary| binary.kind != Kind::VictoriaMetrics) {
        let found = measure(setup, binary)?;
        if binary.kind == Kind::Kymo {
            cost = cost.ours(found.cpu_us_per_sample.into());
            jitter = jitter.ours(found.jitter_ms.into());
        } else {
            cost = cost.peer(binary.kind.name(), found.cpu_us_per_sample);
            jitter = jitter.peer(binary.kind.name(), found.jitter_ms);
        }
    }
    report.row(cost);
    report.row(jitter.goal(Goal::AtMost(1.0)));
    Ok(())
}

struct Found {
    cpu_us_per_sample: f64,
    jitter_ms: f64,
}

fn measure(setup: &Setup, binary: &Binary) -> Result<Found> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let (served, scrapes) = channel();
    thread::spawn(move || serve(&listener, &served));
    let dir = setup.dir.join(format!("scraping-{}", binary.kind.name()));
    let server = Server::start_scraping(binary, &dir, port)?;
    for _ in 0..WARM_UP {
        scrapes.recv_timeout(PATIENCE).context("the page is not scraped")?;
    }
    let (began, before) = (next(&scrapes)?, server.cpu()?);
    let mut worst = Duration::ZERO;
    for number in 1..=SCRAPES as u32 {
        let came = next(&scrapes)?.duration_since(began);
        worst = worst.max(came.abs_diff(INTERVAL * number));
    }
    // Half an interval on, the last scrape has been stored.
    thread::sleep(INTERVAL / 2);
    let took = server.cpu()?.saturating_sub(before);
    ensure!(took > Duration::ZERO, "{} used no CPU time", binary.kind.name());
    Ok(Found {
        cpu_us_per_sample: took.as_secs_f64() * 1e6 / ((SCRAPES + 1) * SERIES) as f64,
        jitter_ms: worst.as_secs_f64() * 1e3,
    })
}

fn next(scrapes: &Receiver<Instant>) -> Result<Instant> {
    scrapes.recv_timeout(PATIENCE).context("the page is no longer scraped")
}

/// Answers every request with a page whose values move, and tells when it came.
fn serve(listener: &TcpListener, served: &Sender<Instant>) {
    let mut round = 0u64;
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        while read_head(&mut stream) {
            if served.send(Instant::now()).is_err() {
                return;
            }
            round += 1;
            let page = page(round);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
                page.len()
            );
            if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(page.as_bytes())).is_err() {
                break;
            }
        }
    }
}

/// Reads up to the empty line that ends a request; `false` when the scraper hung up.
fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut byte = [0; 512];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(n) if n > 0 => head.extend_from_slice(&byte[..n]),
            _ => return false,
        }
    }
    true
}

/// A page like an exporter's: counters, most of which moved since the last round.
fn page(round: u64) -> String {
    use std::fmt::Write;
    let mut page = String::with_capacity(SERIES * 100);
    for family in 0..SERIES / 100 {
        let _ = writeln!(
            page,
            "# HELP shop_requests_{family}_total Requests.\n# TYPE shop_requests_{family}_total counter"
        );
        for n in 0..100u64 {
            let value = if n % 3 == 0 { n } else { round * (n + 1) };
            let _ =
                writeln!(page, r#"shop_requests_{family}_total{{method="GET",path="/items/{n}",code="200"}} {value}"#);
        }
    }
    page
}
