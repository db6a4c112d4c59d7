//! How many ns does recording take through a handle: ours, the floor's, and those of other crates, in one run?
//!
//! Same cases, bounds, label values and rounds as `cargo xtask bench hot-path`.

use std::hint::black_box;

use anyhow::{Context, Result, ensure};
use kymo_benches::cases::handles::{BOUNDS, Handles, ROTATION, label_values, observations};
use kymo_benches::machine;
use kymo_benches::report::{Goal, Report, Row};
use kymo_benches::rounds::{self, Case};
use metrics::Recorder;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

const ROUNDS: usize = 101;
const TRIALS: usize = 300;

/// What other crates hand out for the same things.
struct Others {
    prometheus: OfPrometheus,
    client: OfClient,
    metrics: OfMetrics,
    values: [f64; ROTATION],
    labels: Vec<[String; 2]>,
}

struct OfPrometheus {
    counter: prometheus::IntCounter,
    gauge: prometheus::Gauge,
    histogram: prometheus::Histogram,
    family: prometheus::IntCounterVec,
}

struct OfClient {
    counter: prometheus_client::metrics::counter::Counter,
    gauge: prometheus_client::metrics::gauge::Gauge<f64, std::sync::atomic::AtomicU64>,
    histogram: prometheus_client::metrics::histogram::Histogram,
    family:
        prometheus_client::metrics::family::Family<Vec<(String, String)>, prometheus_client::metrics::counter::Counter>,
}

struct OfMetrics {
    recorder: metrics_exporter_prometheus::PrometheusRecorder,
    counter: metrics::Counter,
    gauge: metrics::Gauge,
    histogram: metrics::Histogram,
}

const METADATA: metrics::Metadata<'_> = metrics::Metadata::new(module_path!(), metrics::Level::INFO, None);

/// A call that is not inlined, with a handle that the optimiser knows nothing of: as ours are timed.
#[inline(never)]
fn apart<H, R>(handle: &H, work: impl FnOnce(&H) -> R) -> R {
    work(black_box(handle))
}

impl Others {
    fn new() -> Result<Others> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full("duration_seconds".to_owned()), &BOUNDS)?
            .build_recorder();
        let key = |name: &'static str| metrics::Key::from_static_name(name);
        let metrics = OfMetrics {
            counter: recorder.register_counter(&key("requests_total"), &METADATA),
            gauge: recorder.register_gauge(&key("queue_length"), &METADATA),
            histogram: recorder.register_histogram(&key("duration_seconds"), &METADATA),
            recorder,
        };
        let options = |name| prometheus::Opts::new(name, "help");
        let buckets = prometheus::HistogramOpts::new("duration_seconds", "help").buckets(BOUNDS.to_vec());
        let prometheus = OfPrometheus {
            counter: prometheus::IntCounter::with_opts(options("requests_total"))?,
            gauge: prometheus::Gauge::with_opts(options("queue_length"))?,
            histogram: prometheus::Histogram::with_opts(buckets)?,
            family: prometheus::IntCounterVec::new(options("responses_total"), &["method", "path"])?,
        };
        let client = OfClient {
            counter: Default::default(),
            gauge: Default::default(),
            histogram: prometheus_client::metrics::histogram::Histogram::new(BOUNDS),
            family: Default::default(),
        };
        let others = Others { prometheus, client, metrics, values: observations(), labels: label_values() };
        others.check()?;
        Ok(others)
    }

    /// Every handle shows what was recorded.
    fn check(&self) -> Result<()> {
        self.prometheus_counter(3);
        self.client_counter(3);
        self.metrics_counter(3);
        self.prometheus_lookup(ROTATION as u64);
        self.client_lookup(ROTATION as u64);
        self.metrics_lookup(ROTATION as u64);
        self.metrics_histogram(3);
        ensure!(self.prometheus.counter.get() == 3, "prometheus counts {}", self.prometheus.counter.get());
        ensure!(self.client.counter.get() == 3, "prometheus-client counts {}", self.client.counter.get());
        let page = self.metrics.recorder.handle().render();
        for line in ["requests_total 3", "duration_seconds_count 3"] {
            ensure!(page.lines().any(|found| found == line), "metrics shows no {line:?}");
        }
        let [method, path] = &self.labels[0];
        let counter = self.prometheus.family.get_metric_with_label_values(&[method, path])?;
        ensure!(counter.get() == 1, "prometheus counts {} by labels", counter.get());
        Ok(())
    }

    fn value(&self, n: u64) -> f64 {
        self.values[n as usize % ROTATION]
    }

    fn prometheus_counter(&self, times: u64) {
        (0..times).for_each(|_| apart(&self.prometheus.counter, |handle| handle.inc()));
    }

    fn client_counter(&self, times: u64) {
        for _ in 0..times {
            apart(&self.client.counter, |handle| handle.inc());
        }
    }

    fn metrics_counter(&self, times: u64) {
        (0..times).for_each(|_| apart(&self.metrics.counter, |handle| handle.increment(1)));
    }

    fn prometheus_gauge(&self, times: u64) {
        (0..times).for_each(|n| apart(&self.prometheus.gauge, |handle| handle.set(self.value(n))));
    }

    fn client_gauge(&self, times: u64) {
        for n in 0..times {
            apart(&self.client.gauge, |handle| handle.set(self.value(n)));
        }
    }

    fn metrics_gauge(&self, times: u64) {
        (0..times).for_each(|n| apart(&self.metrics.gauge, |handle| handle.set(self.value(n))));
    }

    fn prometheus_histogram(&self, times: u64) {
        (0..times).for_each(|n| apart(&self.prometheus.histogram, |handle| handle.observe(self.value(n))));
    }

    fn client_histogram(&self, times: u64) {
        (0..times).for_each(|n| apart(&self.client.histogram, |handle| handle.observe(self.value(n))));
    }

    /// Keeps every sample until it is drained, so the draining belongs to it.
    fn metrics_histogram(&self, times: u64) {
        (0..times).for_each(|n| apart(&self.metrics.histogram, |handle| handle.record(self.value(n))));
        self.metrics.recorder.handle().run_upkeep();
    }

    fn prometheus_lookup(&self, times: u64) {
        for n in 0..times {
            let [method, path] = &self.labels[n as usize % ROTATION];
            apart(&self.prometheus.family, |family| family.with_label_values(&[method, path]).inc());
        }
    }

    fn client_lookup(&self, times: u64) {
        for n in 0..times {
            let [method, path] = &self.labels[n as usize % ROTATION];
            apart(&self.client.family, |family| {
                let labels = vec![("method".to_owned(), method.clone()), ("path".to_owned(), path.clone())];
                family.get_or_create(&labels).inc();
            });
        }
    }

    /// As the `counter!` macro does with labels that are not constant.
    fn metrics_lookup(&self, times: u64) {
        for n in 0..times {
            let [method, path] = &self.labels[n as usize % ROTATION];
            apart(&self.metrics.recorder, |recorder| {
                let labels =
                    vec![metrics::Label::new("method", method.clone()), metrics::Label::new("path", path.clone())];
                let key = metrics::Key::from_parts("responses_total", labels);
                recorder.register_counter(&key, &METADATA).increment(1);
            });
        }
    }
}

/// Does something as often as it is told.
type Work<'a> = Box<dyn Fn(u64) + Sync + 'a>;

/// One table row: cases in the order floor, ours, peers.
struct Question<'a> {
    what: &'static str,
    floor: &'static str,
    goal: Goal,
    cases: Vec<(&'static str, Work<'a>)>,
}

fn questions<'a>(ours: &'a Handles, others: &'a Others) -> Vec<Question<'a>> {
    let question = |what, floor, goal, cases| Question { what, floor, goal, cases };
    macro_rules! cases {
        ($floor:ident, $ours:ident, $($name:literal $peer:ident),+) => {
            vec![
                ("floor", Box::new(|times| ours.$floor(times)) as Work<'a>),
                ("ours", Box::new(|times| ours.$ours(times))),
                $(($name, Box::new(|times| others.$peer(times)))),+
            ]
        };
    }
    vec![
        question(
            "counter increment",
            "owned cell",
            Goal::AtMost(1.0),
            cases!(owned_add, counter, "prometheus" prometheus_counter, "prometheus-client" client_counter,
                "metrics" metrics_counter),
        ),
        question(
            "gauge set",
            "store",
            Goal::AtMost(1.0),
            cases!(store, gauge, "prometheus" prometheus_gauge, "prometheus-client" client_gauge,
                "metrics" metrics_gauge),
        ),
        question(
            "histogram record, 12 buckets",
            "scan + locked add",
            Goal::None,
            cases!(bare_histogram, histogram, "prometheus" prometheus_histogram,
                "prometheus-client" client_histogram, "metrics, drained" metrics_histogram),
        ),
        question(
            "counter by 2 label values",
            "shared atomic",
            Goal::AtMost(20.0),
            cases!(shared_add, lookup, "prometheus" prometheus_lookup, "prometheus-client" client_lookup,
                "metrics" metrics_lookup),
        ),
    ]
}

/// Prints the table of handles.
pub(crate) fn run() -> Result<()> {
    let (ours, others) = (Handles::new()?, Others::new()?);
    let questions = questions(&ours, &others);
    let mut report = Report::default();
    report.note(format!("{} (at the start).", machine::describe()));
    for question in &questions {
        let mut cases: Vec<Case<'_>> = question.cases.iter().map(|(name, work)| Case::new(name, work)).collect();
        let found: Vec<f64> = rounds::in_turn(&mut cases, ROUNDS).iter().map(|spread| spread.median).collect();
        let (floor, ours) = found.first().zip(found.get(1)).context("a question has a floor and ours")?;
        let row = Row::new(format!("{}, 1 thread", question.what), "ns", *ours).floor(question.floor, *floor);
        let peers = cases.iter().zip(&found).skip(2);
        report.row(peers.fold(row.goal(question.goal), |row, (case, value)| row.peer(case.name(), *value)));
    }
    for question in questions.iter().filter(|question| question.what.starts_with("counter")) {
        let figure = |work: &(dyn Fn(u64) + Sync)| rounds::on_two_cores(work, TRIALS);
        let mut row = None;
        for (name, work) in &question.cases[1..] {
            let figure = match figure(work) {
                Some(spread) => kymo_benches::report::Figure::Of(spread.median),
                None => kymo_benches::report::Figure::missing("no undisturbed trial"),
            };
            row = Some(match row {
                None => Row::new(format!("{}, 2 threads on one series", question.what), "ns", figure),
                Some(row) => Row::peer(row, *name, figure),
            });
        }
        row.into_iter().for_each(|row| report.row(row));
    }
    println!("{report}");
    Ok(())
}
