//! What an OTLP point costs: ns from the body to rows, within this process, and CPU µs of a server that takes it over
//! HTTP and gRPC, from a sender that encoded its requests before.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{Setup, engine};
use crate::cases::handles::Handles;
use crate::cases::otlp::{self, Otlp, Spans};
use crate::heap;
use crate::instructions;
use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::{self, Case};
use crate::servers::{self, Kind, Server};

const ROUNDS: usize = 41;
/// Names of what callgrind counts, and how many requests it counts.
const POINTS: &str = "otlp points";
const SPANS: &str = "otlp spans";
const COUNTED: u64 = 40;
/// Requests of known series that the server is measured with.
const REQUESTS: u64 = 1_000;

/// Does by name what is to be counted by callgrind, for [`instructions::serve`]; `false` when it is nothing of this group.
///
/// # Errors
/// A point or span is not taken.
pub fn by_name(name: &str, times: u64) -> Result<bool> {
    match name {
        POINTS => {
            let otlp = Otlp::new()?;
            // Its series are known from then on.
            black_box(otlp.export());
            instructions::counted(|| {
                (0..times).for_each(|_| {
                    black_box(otlp.export());
                });
            });
        }
        SPANS => {
            let spans = Spans::new()?;
            black_box(spans.export());
            instructions::counted(|| {
                (0..times).for_each(|_| {
                    black_box(spans.export());
                });
            });
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Adds the rows of this group.
///
/// # Errors
/// A point is not taken, or the server does not start.
pub fn run(setup: &Setup, report: &mut Report) -> Result<()> {
    let (otlp, spans) = (Otlp::new()?, Spans::new()?);
    let mut cases = [
        Case::passes("prost", || otlp.prost()),
        Case::passes("ours", || otlp.export()),
        Case::passes("spans", || spans.export()),
    ];
    let found = rounds::in_turn(&mut cases, ROUNDS);
    let [prost, ours] = std::array::from_fn(|index| found[index].per(otlp.points()).median);
    report.row(
        Row::new("OTLP decode per point, known series, 5 attributes", "ns/point", ours)
            .peer("prost, decoding alone", prost)
            .goal(Goal::AtMost(60.0)),
    );
    let counted = found[2].per(spans.spans()).median;
    let cost = "OTLP span counted, known operation, 5 attributes";
    report.row(Row::new(cost, "ns/span", counted).goal(Goal::AtMost(1_000.0)));
    for (what, name, of) in [
        ("OTLP decode per point, known series, 5 attributes: instructions", POINTS, otlp.points()),
        ("OTLP span counted, known operation, 5 attributes: instructions", SPANS, spans.spans()),
    ] {
        let each = match instructions::of_times(name, COUNTED) {
            Figure::Of(request) => Figure::Of(request / of as f64),
            missing @ Figure::Missing(_) => missing,
        };
        report.row(Row::new(what, "", each));
    }
    let (allocations, _, _) = heap::of(|| black_box(otlp.export()));
    let what = "seed: OTLP request of known series";
    report.row(Row::new(what, "allocations", allocations as f64).goal(Goal::AtMost(0.0)));
    let handles = Handles::new()?;
    let interning = rounds::in_turn(&mut [Case::new("intern", |times| handles.intern(times))], ROUNDS);
    report.row(Row::new("seed: interning a string", "ns", interning[0].median).goal(Goal::AtMost(1_000.0)));
    engine::seed(setup, report)?;
    let (binaries, _) = servers::find(setup.kymo.as_deref(), None)?;
    let Some(kymo) = binaries.iter().find(|binary| binary.kind == Kind::Kymo) else {
        report.later("OTLP over HTTP and gRPC", "no binary was given (cargo xtask bench builds it)");
        return Ok(());
    };
    let now_ns = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    // A second apart, the last one now.
    let bodies: Vec<_> = (0..=REQUESTS).map(|n| otlp::body(now_ns - (REQUESTS - n) * 1_000_000_000)).collect();
    let mut worst = Taken { micros: 0.0, rate: f64::INFINITY };
    for (transport, over) in [("HTTP", over_http as Over), ("gRPC", over_grpc as Over)] {
        let dir = setup.dir.join(format!("otlp-{transport}"));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let taken = over(&Server::start(kymo, &dir)?, &bodies).with_context(|| format!("over {transport}"))?;
        let cost = format!("OTLP over {transport}, server CPU per point");
        report.row(Row::new(cost, "µs/point", taken.micros).goal(Goal::AtMost(0.4)));
        let rate = format!("OTLP over {transport}, one sender");
        report.row(Row::new(rate, "points/s", taken.rate).goal(Goal::AtLeast(1e6)));
        worst = Taken { micros: worst.micros.max(taken.micros), rate: worst.rate.min(taken.rate) };
    }
    report.row(Row::new("seed: OTLP processing per point", "µs/point", worst.micros).goal(Goal::AtMost(5.0)));
    report.row(Row::new("seed: OTLP points taken", "points/s", worst.rate).goal(Goal::AtLeast(50_000.0)));
    Ok(())
}

/// What a server needed for points of known series.
struct Taken {
    /// Of its CPU, per point.
    micros: f64,
    /// Points a second of one sender that waits for every answer.
    rate: f64,
}

type Over = fn(&Server, &[Bytes]) -> Result<Taken>;

/// Sends the first request, whose series are new, and then measures the others.
fn measured(server: &Server, bodies: &[Bytes], mut send: impl FnMut(&Bytes) -> Result<()>) -> Result<Taken> {
    let (first, others) = bodies.split_first().context("there are no requests")?;
    send(first)?;
    let (cpu, started) = (server.cpu()?, Instant::now());
    others.iter().try_for_each(send)?;
    let (wall, cpu) = (started.elapsed(), server.cpu()?.saturating_sub(cpu));
    let points = (others.len() as u64 * otlp::POINTS_PER_REQUEST) as f64;
    Ok(Taken { micros: cpu.as_secs_f64() * 1e6 / points, rate: points / wall.as_secs_f64() })
}

fn over_http(server: &Server, bodies: &[Bytes]) -> Result<Taken> {
    let mut http = server.connect()?;
    measured(server, bodies, |body| {
        let headers = [("Content-Type", "application/x-protobuf")];
        let answer = http.post("/api/v1/otlp/v1/metrics", &headers, body)?;
        ensure!(answer.is_success() && answer.body.is_empty(), "a request was not taken whole");
        Ok(())
    })
}

fn over_grpc(server: &Server, bodies: &[Bytes]) -> Result<Taken> {
    let port = server.grpc_port().context("the server has no port of gRPC")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut sender = runtime.block_on(async {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
        // It ends with the sender.
        tokio::spawn(connection);
        anyhow::Ok(sender)
    })?;
    let uri = format!("http://127.0.0.1:{port}/opentelemetry.proto.collector.metrics.v1.MetricsService/Export");
    measured(server, bodies, |body| {
        let framed = [&[0][..], &u32::try_from(body.len())?.to_be_bytes(), body].concat();
        let request = Request::post(&uri).header("content-type", "application/grpc").header("te", "trailers");
        let request = request.body(Full::new(Bytes::from(framed)))?;
        runtime.block_on(async {
            let answer = sender.send_request(request).await?.into_body().collect().await?;
            let status = answer.trailers().and_then(|trailers| trailers.get("grpc-status"));
            ensure!(status.is_some_and(|status| status == "0"), "a request was not taken: {status:?}");
            ensure!(answer.to_bytes()[..] == [0; 5], "a request was not taken whole");
            Ok(())
        })
    })
}
