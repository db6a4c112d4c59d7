//! What a question costs over HTTP: ms, body read to the end. Cold, asked again, and asked again while the range moves
//! and samples come late.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::ingest::Loaded;
use crate::load::{INTERVAL_MS, Load, Request, request};
use crate::machine;
use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::Spread;
use crate::servers::answer::{self, Found};
use crate::servers::{Kind, query_encoded};

const ROUNDS: usize = 20;
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

/// The part of VictoriaMetrics' time without its cache that is the goal.
const COLD: Goal = Goal::Of(Kind::VictoriaMetrics.name(), 0.4);
/// What was asked before costs no more than out of its cache.
const REPEATED: Goal = Goal::Of(Kind::VictoriaMetrics.name(), 1.0);

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
    let core = machine::two_cores().map(|[_, second]| second);
    let moving = machine::on_core(core, || -> Result<_> {
        let mut rows = vec![of_servers("a request that asks nothing", "ms", Goal::None, &empty(loaded)?)];
        let floor = empty(loaded)?.iter().find(|(kind, _)| *kind == Kind::Kymo).map(|(_, took)| *took);
        let mut differences = Vec::new();
        let cold = QUESTIONS.iter().map(|question| (question, Caching::Refused));
        let ranges = QUESTIONS.iter().filter(|question| question.is_range());
        for (question, caching) in cold.chain(ranges.map(|question| (question, Caching::Allowed))) {
            let asked = one(question, load, loaded, caching)?;
            differences.extend(asked.difference);
            let floor = floor.map(|took| ("a request that asks nothing", took));
            rows.push(floor.into_iter().fold(asked.row, |row, (what, took)| row.floor(what, took)));
            if question.span == Span::Raw {
                rows.push(of_servers("raw samples as JSON, all in all", "MB/s", Goal::None, &asked.rates));
            }
        }
        rows.iter().for_each(|row| report.row(row.clone()));
        differences.into_iter().for_each(|text| report.note(text));
        moving(load, loaded)
    })?;
    for (row, differences) in moving {
        report.row(row);
        differences.into_iter().for_each(|text| report.note(text));
    }
    report.note(format!(
        "Queries: medians of {ROUNDS} rounds by turns; VM with nocache=1 but where a question is asked again; the wide \
         rate is an error by PromQL's rules. While the range moves, by {MOVES} steps, one series in {LATE_SHARE} comes \
         {LATE_BY} scrapes late."
    ));
    Ok(())
}

/// Milliseconds of a request that asks nothing: what connection, system and HTTP take of every row.
fn empty(loaded: &[Loaded]) -> Result<Vec<(Kind, f64)>> {
    let median = |one: &Loaded| {
        let mut http = one.server.connect()?;
        let mut times = Vec::with_capacity(10 * ROUNDS);
        for _ in 0..10 * ROUNDS {
            let started = Instant::now();
            one.server.ask(&mut http, one.server.health_path())?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        Ok((one.server.kind(), Spread::of(times).context("nothing was asked")?.median))
    };
    loaded.iter().map(median).collect()
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
    /// MB of answer per second.
    rates: Vec<(Kind, f64)>,
}

/// One question to every server by turns.
fn one(question: &Question, load: &Load, loaded: &[Loaded], caching: Caching) -> Result<AskedOne> {
    let target = question.target(load, 0, caching);
    let mut servers = loaded
        .iter()
        .map(|one| Ok((&one.server, one.server.connect()?, Vec::with_capacity(ROUNDS), None)))
        .collect::<Result<Vec<_>>>()?;
    for round in 0..=ROUNDS {
        for (server, http, times, found) in &mut servers {
            let started = Instant::now();
            let answer = server.ask(http, &target)?;
            let took = started.elapsed();
            if round == 0 {
                *found = Some((answer::read(&answer.body), answer.body.len()));
            } else {
                times.push(took.as_secs_f64() * 1e3);
            }
        }
    }
    let (what, goal) = match caching {
        Caching::Refused => (question.what.to_owned(), COLD),
        Caching::Allowed => (format!("{}, again", question.what), REPEATED),
    };
    let mut row = Row::new(&*what, "ms", Figure::missing("no binary")).goal(goal);
    let (mut ours, mut reference, mut rates) = (None, None, Vec::new());
    for (server, _, times, found) in servers {
        let median = Spread::of(times).context("nothing was asked")?.median;
        let (found, bytes) = found.context("nothing was asked")?;
        let figure = match &found {
            Found::Series(_) => Figure::Of(median),
            Found::Error(_) => Figure::missing("error"),
        };
        rates.push((server.kind(), bytes as f64 / median / 1e3));
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
    Ok(AskedOne { row, difference, rates })
}
