//! The tree as metrics of a [`Registry`], so that whoever scrapes the program sees it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use kymo_core::metric::MetricKind::{self, Counter as CounterKind, Gauge as GaugeKind};
use kymo_core::registry::{Counter, Family, Gauge, Handle, MetricDesc, RegisterError, Registry};
use kymo_core::window::Span;

use crate::context::Context;
use crate::status::Status;
use crate::value::MetricValue;
use crate::watch::Finding;

/// Series of one family. What is beyond is left out and counted; status and JSON have everything.
pub const SERIES_MAX: usize = 1_000;

const fn metric(
    name: &'static str,
    kind: MetricKind,
    unit: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricDesc {
    MetricDesc { name, kind, unit, help, labels }
}

const LIVE: MetricDesc = metric("kymo_context_live", GaugeKind, "", "Contexts that live.", &[]);
const FINISHED: MetricDesc =
    metric("kymo_context_finished_total", CounterKind, "", "Contexts that ended since the start.", &[]);
const PATHS: MetricDesc = metric("kymo_context_paths", GaugeKind, "", "Paths that are counted.", &[]);
const FOLDED: MetricDesc = metric(
    "kymo_context_paths_folded_total",
    CounterKind,
    "",
    "Paths that were folded into their parents to make room.",
    &[],
);
const REFUSED: MetricDesc = metric(
    "kymo_context_paths_refused_total",
    CounterKind,
    "",
    "Paths that found no room, and whose nearest ancestor counts for them.",
    &[],
);
const LEFT_OUT: MetricDesc =
    metric("kymo_context_series_left_out", GaugeKind, "", "Series of this table that found no room.", &[]);
const REQUESTS: MetricDesc = metric(
    "kymo_context_requests_total",
    CounterKind,
    "",
    "Requests of a path and all below it since the start.",
    &["path"],
);
const WINDOWS: MetricDesc = metric(
    "kymo_context_requests",
    GaugeKind,
    "",
    "Requests of a path and all below it in a sliding window.",
    &["path", "window"],
);
const COUNTERS: MetricDesc = metric(
    "kymo_context_counter_total",
    CounterKind,
    "",
    "Totals that contexts count, of a path and all below it.",
    &["path", "counter"],
);
const LIVE_COUNTERS: MetricDesc = metric(
    "kymo_context_counter_live",
    GaugeKind,
    "",
    "Live counts of contexts, of a path and all below it.",
    &["path", "counter"],
);
const NUMBERS: MetricDesc = metric(
    "kymo_context_metric",
    GaugeKind,
    "",
    "Metrics that contexts set, counters and levels.",
    &["path", "metric"],
);
const SECONDS: MetricDesc = metric(
    "kymo_context_metric_seconds",
    GaugeKind,
    "seconds",
    "Durations that contexts set as metrics.",
    &["path", "metric"],
);
const BYTES: MetricDesc =
    metric("kymo_context_metric_bytes", GaugeKind, "bytes", "Sizes that contexts set as metrics.", &["path", "metric"]);
const TEXTS: MetricDesc = metric(
    "kymo_context_metric_info",
    GaugeKind,
    "",
    "Words that contexts set as metrics, in a label; the value is 1.",
    &["path", "metric", "text"],
);
const WAITING: MetricDesc =
    metric("kymo_context_waiting", GaugeKind, "", "Waits under way, by the name of what is waited for.", &["what"]);
const WAIT_SECONDS: MetricDesc = metric(
    "kymo_context_longest_wait_seconds",
    GaugeKind,
    "seconds",
    "The longest wait under way, by the name of what is waited for.",
    &["what"],
);
const FINDINGS: MetricDesc = metric(
    "kymo_context_findings",
    GaugeKind,
    "",
    "Deadlocks, locks held long, long waits and idle tasks.",
    &["finding"],
);

/// Everything this crate records.
pub const METRICS: &[MetricDesc] = &[
    LIVE,
    FINISHED,
    PATHS,
    FOLDED,
    REFUSED,
    LEFT_OUT,
    REQUESTS,
    WINDOWS,
    COUNTERS,
    LIVE_COUNTERS,
    NUMBERS,
    SECONDS,
    BYTES,
    TEXTS,
    WAITING,
    WAIT_SECONDS,
    FINDINGS,
];

/// A tree's families in a registry. They show the tree as it was at the last [`refresh`](Self::refresh); a
/// [`Watch`](crate::Watch) that is given them refreshes them with every walk.
pub struct ContextMetrics {
    root: Weak<Context>,
    shown: Mutex<Shown>,
}

struct Shown {
    live: Gauge,
    finished: Counter,
    paths: Gauge,
    folded: Counter,
    refused: Counter,
    left_out: Gauge,
    requests: Rows<Counter, 1>,
    windows: Rows<Gauge, 2>,
    counters: Rows<Counter, 2>,
    live_counters: Rows<Gauge, 2>,
    numbers: Rows<Gauge, 2>,
    seconds: Rows<Gauge, 2>,
    bytes: Rows<Gauge, 2>,
    texts: Rows<Gauge, 3>,
    waiting: Rows<Gauge, 1>,
    wait_seconds: Rows<Gauge, 1>,
    findings: Rows<Gauge, 1>,
}

impl ContextMetrics {
    /// Registers the families for the tree of `context`, and fills them.
    ///
    /// # Errors
    /// A family of one of these names exists and differs.
    pub fn register(registry: &Registry, context: &Context) -> Result<ContextMetrics, RegisterError> {
        let shown = Shown {
            live: registry.gauge(&LIVE).register()?,
            finished: registry.counter(&FINISHED).register()?,
            paths: registry.gauge(&PATHS).register()?,
            folded: registry.counter(&FOLDED).register()?,
            refused: registry.counter(&REFUSED).register()?,
            left_out: registry.gauge(&LEFT_OUT).register()?,
            requests: Rows::new(registry.counter(&REQUESTS).labels(["path"]).family()?),
            windows: Rows::new(registry.gauge(&WINDOWS).labels(["path", "window"]).family()?),
            counters: Rows::new(registry.counter(&COUNTERS).labels(["path", "counter"]).family()?),
            live_counters: Rows::new(registry.gauge(&LIVE_COUNTERS).labels(["path", "counter"]).family()?),
            numbers: Rows::new(registry.gauge(&NUMBERS).labels(["path", "metric"]).family()?),
            seconds: Rows::new(registry.gauge(&SECONDS).labels(["path", "metric"]).family()?),
            bytes: Rows::new(registry.gauge(&BYTES).labels(["path", "metric"]).family()?),
            texts: Rows::new(registry.gauge(&TEXTS).labels(["path", "metric", "text"]).family()?),
            waiting: Rows::new(registry.gauge(&WAITING).labels(["what"]).family()?),
            wait_seconds: Rows::new(registry.gauge(&WAIT_SECONDS).labels(["what"]).family()?),
            findings: Rows::new(registry.gauge(&FINDINGS).labels(["finding"]).family()?),
        };
        let metrics = ContextMetrics { root: Arc::downgrade(&context.root().own()), shown: Mutex::new(shown) };
        metrics.refresh();
        Ok(metrics)
    }

    /// Brings the families up to date; series of what is gone go. Walks the whole tree.
    pub fn refresh(&self) {
        let Some(root) = self.root.upgrade() else { return };
        let status = root.status();
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).show(&status);
    }
}

impl Shown {
    fn show(&mut self, status: &Status) {
        self.live.set(status.contexts.len() as f64);
        self.finished.raise_to(status.finished);
        self.paths.set(status.paths.counted as f64);
        self.folded.raise_to(status.paths.folded);
        self.refused.raise_to(status.paths.refused);

        let mut rows = Collected::default();
        for path in &status.requests {
            let name = &path.path;
            if path.requests.since_start > 0 {
                rows.requests.insert([name.clone()], path.requests.since_start as f64);
                for (span, count) in [
                    (Span::Second, path.requests.last_second),
                    (Span::Minute, path.requests.last_minute),
                    (Span::Hour, path.requests.last_hour),
                    (Span::Day, path.requests.last_day),
                ] {
                    rows.windows.insert([name.clone(), span.as_str().to_owned()], count as f64);
                }
            }
            for (counter, counts) in &path.counters {
                rows.counters.insert([name.clone(), counter.clone()], counts.total as f64);
                rows.live_counters.insert([name.clone(), counter.clone()], counts.live as f64);
            }
        }
        for context in &status.contexts {
            for (key, value) in &context.metrics {
                let labels = || [context.path.clone(), key.clone()];
                // Of siblings with one path the youngest counts: it comes last.
                match value {
                    MetricValue::Counter(count) => rows.numbers.insert(labels(), *count as f64),
                    MetricValue::Gauge(level) => rows.numbers.insert(labels(), *level),
                    MetricValue::Duration(duration) => rows.seconds.insert(labels(), duration.as_secs_f64()),
                    MetricValue::Bytes(bytes) => rows.bytes.insert(labels(), *bytes as f64),
                    MetricValue::Text(text) => {
                        rows.texts.insert([context.path.clone(), key.clone(), text.clone()], 1.0)
                    }
                };
            }
            for wait in &context.waits {
                *rows.waiting.entry([wait.what.clone()]).or_default() += 1.0;
                let longest = rows.wait_seconds.entry([wait.what.clone()]).or_default();
                *longest = f64::max(*longest, wait.waited.as_secs_f64());
            }
        }
        for kind in ["cycle", "long_hold", "long_wait", "idle_tasks"] {
            rows.findings.insert([kind.to_owned()], 0.0);
        }
        for finding in &status.findings {
            let kind = match finding {
                Finding::Cycle { .. } => "cycle",
                Finding::LongHold { .. } => "long_hold",
                Finding::LongWait { .. } => "long_wait",
                Finding::IdleTasks { .. } => "idle_tasks",
            };
            *rows.findings.entry([kind.to_owned()]).or_default() += 1.0;
        }

        let total = |counter: &Counter, value: f64| counter.raise_to(value as u64);
        let level = |gauge: &Gauge, value: f64| gauge.set(value);
        let left_out = self.requests.show(rows.requests, total)
            + self.windows.show(rows.windows, level)
            + self.counters.show(rows.counters, total)
            + self.live_counters.show(rows.live_counters, level)
            + self.numbers.show(rows.numbers, level)
            + self.seconds.show(rows.seconds, level)
            + self.bytes.show(rows.bytes, level)
            + self.texts.show(rows.texts, level)
            + self.waiting.show(rows.waiting, level)
            + self.wait_seconds.show(rows.wait_seconds, level)
            + self.findings.show(rows.findings, level);
        self.left_out.set(left_out as f64);
    }
}

/// What a status has to say, by label values.
#[derive(Default)]
struct Collected {
    requests: BTreeMap<[String; 1], f64>,
    windows: BTreeMap<[String; 2], f64>,
    counters: BTreeMap<[String; 2], f64>,
    live_counters: BTreeMap<[String; 2], f64>,
    numbers: BTreeMap<[String; 2], f64>,
    seconds: BTreeMap<[String; 2], f64>,
    bytes: BTreeMap<[String; 2], f64>,
    texts: BTreeMap<[String; 3], f64>,
    waiting: BTreeMap<[String; 1], f64>,
    wait_seconds: BTreeMap<[String; 1], f64>,
    findings: BTreeMap<[String; 1], f64>,
}

/// A family and what of it is shown.
struct Rows<M: Handle, const N: usize> {
    family: Family<M, N>,
    shown: BTreeMap<[String; N], f64>,
}

impl<M: Handle, const N: usize> Rows<M, N> {
    fn new(family: Family<M, N>) -> Self {
        Self { family, shown: BTreeMap::new() }
    }

    /// Shows exactly these; says how many found no room.
    fn show(&mut self, mut rows: BTreeMap<[String; N], f64>, set: impl Fn(&M, f64)) -> usize {
        let left_out = rows.len().saturating_sub(SERIES_MAX);
        while rows.len() > SERIES_MAX {
            rows.pop_last();
        }
        for (labels, before) in &self.shown {
            // A total that is lower than before belongs to a path that was folded and has come again.
            if rows.get(labels).is_none_or(|value| value < before) {
                self.family.remove(labels.each_ref().map(String::as_str));
            }
        }
        for (labels, value) in &rows {
            set(&self.family.with(labels.each_ref().map(String::as_str)), *value);
        }
        self.shown = rows;
        left_out
    }
}
