//! What an OTLP point costs: ns from the body to rows, within this process, and CPU µs of a server that takes it over
//! HTTP, from a sender that encoded its requests before.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::Setup;
use crate::cases::otlp::{self, Otlp};
use crate::report::{Goal, Report, Row};
use crate::rounds::{self, Case};
use crate::servers::{self, Kind, Server};

const ROUNDS: usize = 41;
/// Requests of known series that the server is measured with.
const REQUESTS: u64 = 1_000;

/// Adds the rows of this group.
///
/// # Errors
/// A point is not taken, or the server does not start.
pub fn run(setup: &Setup, report: &mut Report) -> Result<()> {
    let otlp = Otlp::new()?;
    let mut cases = [Case::passes("prost", || otlp.prost()), Case::passes("ours", || otlp.export())];
    let found = rounds::in_turn(&mut cases, ROUNDS);
    let [prost, ours] = std::array::from_fn(|index| found[index].per(otlp.points()).median);
    report.row(
        Row::new("OTLP decode per point, known series, 5 attributes", "ns/point", ours)
            .peer("prost, decoding alone", prost)
            .goal(Goal::AtMost(60.0)),
    );
    over_http(setup, report)
}

fn over_http(setup: &Setup, report: &mut Report) -> Result<()> {
    let (binaries, _) = servers::find(setup.kymo.as_deref(), None)?;
    let Some(kymo) = binaries.iter().find(|binary| binary.kind == Kind::Kymo) else {
        report.later("OTLP over HTTP, server CPU per point", "no binary was given (cargo xtask bench builds it)");
        return Ok(());
    };
    std::fs::create_dir_all(&setup.dir).with_context(|| format!("cannot create {}", setup.dir.display()))?;
    let server = Server::start(kymo, &setup.dir.join("otlp"))?;
    let mut http = server.connect()?;
    let now_ns = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    // A second apart, the last one now.
    let body = |number: u64| otlp::body(now_ns - (REQUESTS - number) * 1_000_000_000);
    let bodies: Vec<_> = (0..=REQUESTS).map(body).collect();
    let (first, others) = bodies.split_first().context("there are no requests")?;
    let mut send = |body: &[u8]| -> Result<()> {
        let headers = [("Content-Type", "application/x-protobuf")];
        let answer = http.post("/api/v1/otlp/v1/metrics", &headers, body)?;
        ensure!(answer.is_success() && answer.body.is_empty(), "a request was not taken whole");
        Ok(())
    };
    send(first)?;
    let (cpu, started) = (server.cpu()?, Instant::now());
    others.iter().try_for_each(|body| send(body))?;
    let (wall, cpu) = (started.elapsed(), server.cpu()?.saturating_sub(cpu));
    let points = (REQUESTS * otlp::POINTS_PER_REQUEST) as f64;
    let (micros, rate) = (cpu.as_secs_f64() * 1e6 / points, points / wall.as_secs_f64());
    report.row(Row::new("OTLP over HTTP, server CPU per point", "µs/point", micros).goal(Goal::AtMost(0.4)));
    report.row(Row::new("OTLP over HTTP, one sender", "points/s", rate).goal(Goal::AtLeast(1e6)));
    report.row(Row::new("seed: OTLP processing per point", "µs/point", micros).goal(Goal::AtMost(5.0)));
    report.row(Row::new("seed: OTLP points taken", "points/s", rate).goal(Goal::AtLeast(50_000.0)));
    Ok(())
}
