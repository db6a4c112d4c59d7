//! What a question costs over HTTP: ms, body read to the end. Cold, asked again, and asked again while the range moves
//! and samples come late.
//!
//! Servers are asked by turns, each several times in a row: one that is asked once and then waits while others answer finds
//! the processor's caches full of their code, which is nothing that it does. So the first request of a turn is not counted, but
//! told in a note. A request that asks nothing is asked in the same turns, behind the question.
//!
//! Who asks sits on the server's core: to wake another core and be woken by it takes longer than a small question itself, on a
//! virtual machine several times as long, and says nothing of the server. Small questions are asked from another core as well.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::ingest::Loaded;
use crate::load::{INTERVAL_MS, Load, Request, request};
use crate::machine;
use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::Spread;
use crate::servers::answer::{self, Found};
use crate::servers::{Connection, Kind, Server, query_encoded};

const ROUNDS: usize = 10;
/// Requests of a turn, of which the first is not counted.
const IN_A_ROW: usize = 5;
const HOUR_S: i64 = 3_600;
/// Steps that the range moves by: as many scrapes as lie between the load's end and now.
const MOVES: usize = 10;
/// One series in so many comes late, by so many scrapes.
const LATE_SHARE: usize = 100;
const LATE_BY: usize = 2;

/// Over which part of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Span {
    Instant,
    Hour,
    Whole,
    /// Samples as they are, over the last hour.
    Raw,
    /// Values of a label.
    Label,
    /// Label sets.
    Series,
}

struct Question {
    what: &'static str,
    query: &'static str,
    span: Span,
}

const fn ask(what: &'static str, query: &'static str, span: Span) -> Question {
    Question { what, query, span }
}

/// What connection, system and HTTP take of every row.
const NOTHING: &str = "a request that asks nothing";
/// What was asked before costs no more than out of VictoriaMetrics' cache.
const REPEATED: Goal = Goal::Of(Kind::VictoriaMetrics.name(), 1.0);

/// How a question is asked.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// What its row says behind the question.
    behind: &'static str,
    caching: Caching,
    goal: Goal,
}

/// The part of VictoriaMetrics' time without its cache is the goal.
const COLD: Way = Way { behind: "", caching: Caching::Refused, goal: Goal::Of(Kind::VictoriaMetrics.name(), 0.4) };
const AFAR: Way = Way { behind: ", from another core", caching: Caching::Refused, goal: Goal::None };
const AGAIN: Way = Way { behind: ", again", caching: Caching::Allowed, goal: REPEATED };

/// The queries of the peer measurements, on their names.
const QUESTIONS: [Question; 14] = [
    ask("one series, instant", r#"up{job="node",instance="host-0"}"#, Span::Instant),
    ask("CPU rate by mode, 1 h", "sum by (mode) (rate(node_cpu_seconds_total[5m]))", Span::Hour),
    ask("same, whole range", "sum by (mode) (rate(node_cpu_seconds_total[5m]))", Span::Whole),
    ask("top 10 of a rate, instant", "topk(10, rate(node_network_receive_bytes_total[5m]))", Span::Instant),
    ask("same, whole range", "topk(10, rate(node_network_receive_bytes_total[5m]))", Span::Whole),
    ask(
        "histogram quantile, whole range",
        "histogram_quantile(0.99, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[5m])))",
        Span::Whole,
    ),
    ask("count of all series, instant", r#"count({__name__=~".+"})"#, Span::Instant),
    ask("wide rate, 1 h", r#"sum(rate({__name__=~"node_.*"}[5m]))"#, Span::Hour),
    ask("wide sum by instance, 1 h", r#"sum by (instance) ({__name__=~"node_.*"})"#, Span::Hour),
    ask("sliding quantile, whole range", "quantile_over_time(0.95, node_load1[1h])", Span::Whole),
    ask("raw samples of one host, 1 h", r#"{instance="host-0"}"#, Span::Raw),
    ask("values of __name__", "__name__", Span::Label),
    ask("values of instance", "instance", Span::Label),
    ask("series of one host", r#"{instance="host-0"}"#, Span::Series),
];

/// Whether an answer may be made of earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caching {
    Allowed,
    Refused,
}

impl Question {
    /// What is asked for, with the range moved by so many scrapes.
    fn target(&self, load: &Load, moved: usize, caching: Caching) -> String {
        let shape = load.shape();
        let step = INTERVAL_MS / 1_000;
        let moved = step * moved as i64;
        let first = shape.base_ms / 1_000 + moved;
        let end = first + step * (shape.scrapes as i64 - 1);
        let query = query_encoded;
        let cold = if caching == Caching::Refused { "&nocache=1" } else { "" };
        let range = |start: i64| {
            format!("/api/v1/query_range?query={}&start={start}&end={end}&step={step}{cold}", query(self.query))
        };
        let instant = |text: &str| format!("/api/v1/query?query={}&time={end}{cold}", query(text));
        match self.span {
            Span::Instant => instant(self.query),
            Span::Hour => range(first.max(end - HOUR_S)),
            Span::Whole => range(first + 2 * step),
            Span::Raw => instant(&format!("{}[1h]", self.query)),
            Span::Label => format!("/api/v1/label/{}/values?start={first}&end={end}", self.query),
            Span::Series => format!("/api/v1/series?match[]={}&start={first}&end={end}", query(self.query)),
        }
    }

    /// Whether a dashboard asks it again for a range that moved.
    fn is_range(&self) -> bool {
        matches!(self.span, Span::Hour | Span::Whole)
    }

    /// Whether the way there and back is a good part of it.
    fn is_small(&self) -> bool {
        matches!(self.span, Span::Instant | Span::Label) && !self.query.contains(".+")
    }
}

/// The expressions, once each.
pub(super) fn texts() -> impl Iterator<Item = &'static str> + Clone {
    let selected = QUESTIONS.iter().filter(|question| !matches!(question.span, Span::Label | Span::Series));
    selected.map(|question| question.query)
}

/// Adds the rows of this group.
///
/// # Errors
/// A server does not answer at all.
pub fn run(load: &Load, loaded: &[Loaded], report: &mut Report) -> Result<()> {
    let [here, afar] = machine::two_cores().map_or([None; 2], |cores| cores.map(Some));
    machine::on_core(here, || -> Result<_> {
        let cold = QUESTIONS.iter().map(|question| (question, COLD));
        let ranges = QUESTIONS.iter().filter(|question| question.is_range());
        let questions = cold.chain(ranges.map(|question| (question, AGAIN)));
        let asked: Vec<AskedOne> =
            questions.map(|(question, way)| one(question, load, loaded, way)).collect::<Result<_>>()?;
        let empty = |(number, one): (usize, &Loaded)| {
            let times = asked.iter().flat_map(|asked| asked.empty[number].iter().copied()).collect();
            Ok((one.server.kind(), median(times)?))
        };
        let empty = loaded.iter().enumerate().map(empty).collect::<Result<Vec<_>>>()?;
        report.row(of_servers(NOTHING, "ms", Goal::None, &empty));
        for asked in &asked {
            report.row(asked.row.clone());
            if !asked.rates.is_empty() {
                report.row(of_servers("raw samples as JSON, all in all", "MB/s", Goal::None, &asked.rates));
            }
        }
        asked.iter().filter_map(|asked| asked.difference.clone()).for_each(|text| report.note(text));
        let firsts: Vec<&str> = asked.iter().map(|asked| &*asked.first).collect();
        let names: Vec<&str> = loaded.iter().map(|one| one.server.kind().name()).collect();
        report.note(format!("First of each turn, ms, {}: {}.", names.join(" / "), firsts.join("; ")));
        Ok(())
    })?;
    if afar.is_some() {
        let small = QUESTIONS.iter().filter(|question| question.is_small());
        let asked = machine::on_core(afar, || -> Result<Vec<AskedOne>> {
            small.map(|question| one(question, load, loaded, AFAR)).collect()
        })?;
        asked.into_iter().for_each(|asked| report.row(asked.row));
    }
    let moving = machine::on_core(here, || moving(load, loaded))?;
    for (row, differences) in moving {
        report.row(row);
        differences.into_iter().for_each(|text| report.note(text));
    }
    report.note(format!(
        "Queries: medians of {ROUNDS} turns of {IN_A_ROW} requests in a row to each server, the first of each not counted, \
         with as many that ask nothing behind them, who asks on the server's core but where the row says otherwise; VM with \
         nocache=1 but where a question is asked again; the wide rate is an error by PromQL's rules. While the range moves, by \
         {MOVES} steps, each asks once, and one series in {LATE_SHARE} comes {LATE_BY} scrapes late."
    ));
    Ok(())
}

fn median(times: Vec<f64>) -> Result<f64> {
    Ok(Spread::of(times).context("nothing was asked")?.median)
}

/// A row of one figure per server.
fn of_servers(what: &str, unit: &'static str, goal: Goal, figures: &[(Kind, f64)]) -> Row {
    let row = Row::new(what, unit, Figure::missing("no binary")).goal(goal);
    figures.iter().fold(row, |row, (kind, figure)| match kind {
        Kind::Kymo => row.ours(Figure::Of(*figure)),
        kind => row.peer(kind.name(), *figure),
    })
}

/// Range questions asked once per scrape, after it was written.
fn moving(load: &Load, loaded: &[Loaded]) -> Result<Vec<(Row, Vec<String>)>> {
    let asked: Vec<&Question> = QUESTIONS.iter().filter(|question| question.is_range()).collect();
    let mut times = vec![vec![Vec::new(); loaded.len()]; asked.len()];
    let mut differences = vec![Vec::new(); asked.len()];
    for moved in 1..=MOVES {
        let requests = scrape_with_late(load, moved)?;
        for (number, one) in loaded.iter().enumerate() {
            let mut http = one.server.connect()?;
            requests.iter().try_for_each(|request| one.server.send(&mut http, &request.body))?;
            for (question, (times, differences)) in asked.iter().zip(times.iter_mut().zip(&mut differences)) {
                let started = Instant::now();
                let answer = one.server.ask(&mut http, &question.target(load, moved, Caching::Allowed))?;
                times[number].push(started.elapsed().as_secs_f64() * 1e3);
                if one.server.kind() == Kind::Kymo {
                    let cold = one.server.ask(&mut http, &question.target(load, moved, Caching::Refused))?;
                    if cold.body != answer.body {
                        differences
                            .push(format!("{}: the answer after {moved} moves is not the cold one.", question.what));
                    }
                }
            }
        }
    }
    let rows = asked.iter().zip(times).zip(differences).map(|((question, times), differences)| {
        let mut row = Row::new(format!("{}, moving", question.what), "ms", Figure::missing("no binary")).goal(REPEATED);
        for (one, times) in loaded.iter().zip(times) {
            // The first one finds nothing kept of the right phase.
            let median = Spread::of(times.into_iter().skip(1).collect()).context("nothing was asked")?.median;
            row = match one.server.kind() {
                Kind::Kymo => row.ours(median.into()),
                kind => row.peer(kind.name(), median),
            };
        }
        Ok((row, differences))
    });
    rows.collect()
}

/// The scrape that the range moves to, without the series that come late, and those that were to come before.
fn scrape_with_late(load: &Load, moved: usize) -> Result<Vec<Request>> {
    let series = load.shape().series;
    let count = series / LATE_SHARE;
    ensure!(count > 0, "{series} series are too few for some to come late");
    let scrape = load.shape().scrapes - 1 + moved;
    let late = |moved: usize| {
        let first = (moved * 7_919) % (series - count);
        first..first + count
    };
    let held_back = late(moved);
    let mut requests = vec![request(load, scrape, 0..held_back.start)?, request(load, scrape, held_back.end..series)?];
    if moved > LATE_BY {
        requests.push(request(load, scrape - LATE_BY, late(moved - LATE_BY))?);
    }
    Ok(requests)
}

/// One question, asked.
struct AskedOne {
    row: Row,
    /// How Kymo's answer differs from Prometheus'.
    difference: Option<String>,
    /// MB of answer per second, where that is a row.
    rates: Vec<(Kind, f64)>,
    /// Milliseconds of requests that ask nothing, by server: what connection, system and HTTP take of the row.
    empty: Vec<Vec<f64>>,
    /// What the first of each turn took, in words.
    first: String,
}

/// One server's turns with one question.
struct Turns<'a> {
    server: &'a Server,
    http: Connection,
    found: Option<(Found, usize)>,
    first: Vec<f64>,
    times: Vec<f64>,
    empty: Vec<f64>,
}

impl<'a> Turns<'a> {
    fn new(server: &'a Server) -> Result<Turns<'a>> {
        let http = server.connect()?;
        Ok(Turns { server, http, found: None, first: Vec::new(), times: Vec::new(), empty: Vec::new() })
    }

    fn take(&mut self, target: &str) -> Result<()> {
        if self.found.is_none() {
            let answer = self.server.ask(&mut self.http, target)?;
            self.found = Some((answer::read(&answer.body), answer.body.len()));
        }
        let mut in_a_row = |target: &str| -> Result<Vec<f64>> {
            let mut ask = || {
                let started = Instant::now();
                self.server.ask(&mut self.http, target)?;
                Ok(started.elapsed().as_secs_f64() * 1e3)
            };
            (0..IN_A_ROW).map(|_| ask()).collect()
        };
        let (times, empty) = (in_a_row(target)?, in_a_row(self.server.health_path())?);
        self.first.extend(&times[..1]);
        self.times.extend(&times[1..]);
        self.empty.extend(&empty[1..]);
        Ok(())
    }
}

/// One question to every server by turns.
fn one(question: &Question, load: &Load, loaded: &[Loaded], way: Way) -> Result<AskedOne> {
    let target = question.target(load, 0, way.caching);
    let mut servers = loaded.iter().map(|one| Turns::new(&one.server)).collect::<Result<Vec<_>>>()?;
    for _ in 0..ROUNDS {
        servers.iter_mut().try_for_each(|turns| turns.take(&target))?;
    }
    let what = format!("{}{}", question.what, way.behind);
    let mut row = Row::new(&*what, "ms", Figure::missing("no binary")).goal(way.goal);
    let (mut ours, mut reference, mut rates, mut empties, mut firsts) =
        (None, None, Vec::new(), Vec::new(), Vec::new());
    for Turns { server, found, first, times, empty, .. } in servers {
        let took = median(times)?;
        let (found, bytes) = found.context("nothing was asked")?;
        let figure = match &found {
            Found::Series(_) => Figure::Of(took),
            Found::Error(_) => Figure::missing("error"),
        };
        if question.span == Span::Raw {
            rates.push((server.kind(), bytes as f64 / took / 1e3));
        }
        firsts.push(format!("{:.2}", median(first)?));
        if server.kind() == Kind::Kymo {
            row = row.floor(NOTHING, median(empty.clone())?);
        }
        empties.push(empty);
        row = match server.kind() {
            Kind::Kymo => row.ours(figure),
            kind => row.peer(kind.name(), figure),
        };
        match server.kind() {
            Kind::Kymo => ours = Some(found),
            Kind::Prometheus => reference = Some(found),
            Kind::VictoriaMetrics => {}
        }
    }
    let difference = ours.zip(reference).and_then(|(ours, reference)| ours.difference(&reference));
    let difference = difference.map(|how| format!("{what}: Kymo's answer differs from Prometheus': {how}."));
    let first = format!("{what} {}", firsts.join(" / "));
    Ok(AskedOne { row, difference, rates, empty: empties, first })
}
