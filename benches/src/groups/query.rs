//! What a question costs over HTTP: ms, body read to the end.

use std::time::Instant;

use anyhow::{Context, Result};

use super::ingest::Loaded;
use crate::load::{INTERVAL_MS, Load};
use crate::machine;
use crate::report::{Figure, Goal, Report, Row};
use crate::rounds::Spread;
use crate::servers::answer::{self, Found};
use crate::servers::{Kind, query_encoded};

const ROUNDS: usize = 20;
const HOUR_S: i64 = 3_600;

/// Over which part of the load.
#[derive(Debug, Clone, Copy)]
enum Span {
    Instant,
    Hour,
    Whole,
    /// Samples as they are, over the last hour.
    Raw,
    /// Values of a label.
    Label,
}

struct Question {
    what: &'static str,
    query: &'static str,
    span: Span,
    goal: Goal,
}

const fn ask(what: &'static str, query: &'static str, span: Span) -> Question {
    Question { what, query, span, goal: Goal::None }
}

/// The part of VictoriaMetrics' time without its cache that is the goal.
const fn hard(what: &'static str, query: &'static str, span: Span) -> Question {
    Question { what, query, span, goal: Goal::OfPeer(0.4) }
}

/// The queries of the peer measurements, on their names.
const QUESTIONS: [Question; 13] = [
    ask("one series, instant", r#"up{job="node",instance="host-0"}"#, Span::Instant),
    hard("CPU rate by mode, 1 h", "sum by (mode) (rate(node_cpu_seconds_total[5m]))", Span::Hour),
    hard("same, whole range", "sum by (mode) (rate(node_cpu_seconds_total[5m]))", Span::Whole),
    ask("top 10 of a rate, instant", "topk(10, rate(node_network_receive_bytes_total[5m]))", Span::Instant),
    hard("same, whole range", "topk(10, rate(node_network_receive_bytes_total[5m]))", Span::Whole),
    hard(
        "histogram quantile, whole range",
        "histogram_quantile(0.99, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[5m])))",
        Span::Whole,
    ),
    ask("count of all series, instant", r#"count({__name__=~".+"})"#, Span::Instant),
    ask("values of __name__", "__name__", Span::Label),
    ask("values of instance", "instance", Span::Label),
    hard("wide rate, 1 h", r#"sum(rate({__name__=~"node_.*"}[5m]))"#, Span::Hour),
    hard("wide sum by instance, 1 h", r#"sum by (instance) ({__name__=~"node_.*"})"#, Span::Hour),
    hard("sliding quantile, whole range", "quantile_over_time(0.95, node_load1[1h])", Span::Whole),
    ask("raw samples of one host, 1 h", r#"{instance="host-0"}"#, Span::Raw),
];

impl Question {
    fn target(&self, load: &Load) -> String {
        let shape = load.shape();
        let first = shape.base_ms / 1_000;
        let end = first + INTERVAL_MS / 1_000 * (shape.scrapes as i64 - 1);
        let step = INTERVAL_MS / 1_000;
        let query = |query: &str| query_encoded(query);
        let range = |start: i64| {
            format!("/api/v1/query_range?query={}&start={start}&end={end}&step={step}&nocache=1", query(self.query))
        };
        let instant = |text: &str| format!("/api/v1/query?query={}&time={end}&nocache=1", query(text));
        match self.span {
            Span::Instant => instant(self.query),
            Span::Hour => range(first.max(end - HOUR_S)),
            Span::Whole => range(first + 2 * step),
            Span::Raw => instant(&format!("{}[1h]", self.query)),
            Span::Label => format!("/api/v1/label/{}/values?start={first}&end={end}", self.query),
        }
    }
}

/// Adds the rows of this group.
///
/// # Errors
/// A server does not answer at all.
pub fn run(load: &Load, loaded: &[Loaded], report: &mut Report) -> Result<()> {
    let core = machine::two_cores().map(|[_, second]| second);
    let rows = machine::on_core(core, || -> Result<Vec<(Row, Option<String>)>> {
        QUESTIONS.iter().map(|question| one(question, load, loaded)).collect()
    })?;
    for (row, difference) in rows {
        report.row(row);
        difference.into_iter().for_each(|text| report.note(text));
    }
    report.note(
        "Queries: VM with nocache=1; medians of 20 rounds by turns; the wide rate is an error by PromQL's rules.",
    );
    Ok(())
}

/// One question to every server, and how Kymo's answer differs from Prometheus'.
fn one(question: &Question, load: &Load, loaded: &[Loaded]) -> Result<(Row, Option<String>)> {
    let target = question.target(load);
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
                *found = Some(answer::read(&answer.body));
            } else {
                times.push(took.as_secs_f64() * 1e3);
            }
        }
    }
    let mut row = Row::new(question.what, "ms", Figure::missing("no binary")).goal(question.goal);
    let (mut ours, mut reference) = (None, None);
    for (server, _, times, found) in servers {
        let median = Spread::of(times).context("nothing was asked")?.median;
        let figure = match &found {
            Some(Found::Series(_)) => Figure::Of(median),
            Some(Found::Error(_)) | None => Figure::missing("error"),
        };
        match server.kind() {
            Kind::Kymo => {
                ours = found;
                row = row.ours(figure);
            }
            Kind::Prometheus => {
                reference = found;
                row = row.peer(server.kind().name(), figure);
            }
            Kind::VictoriaMetrics => row = row.peer(server.kind().name(), figure),
        }
    }
    let difference = ours.zip(reference).and_then(|(ours, reference)| ours.difference(&reference));
    let text = difference.map(|how| format!("{}: Kymo's answer differs from Prometheus': {how}.", question.what));
    Ok((row, text))
}
