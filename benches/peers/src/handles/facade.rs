//! Handles as the `metrics!` macros give them: ours, and those of the exporter that most programs use.

use std::any::Any;
use std::hint::black_box;

use anyhow::Result;
use kymo_benches::cases::handles::BOUNDS;
use kymo_benches::groups::hot_path::{Operation, Peer};
use kymo_core::Registry;
use kymo_core::registry::Recorder as Ours;
use kymo_export::exposition::{Exposition, Format};
use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use super::{LABELS_2, LABELS_5, Values, many_labels};

const METADATA: Metadata<'_> = Metadata::new(module_path!(), Level::INFO, None);
const DURATION: &str = "duration_seconds";
const PUBLISHED: &str = "metrics-exporter-prometheus";

/// A recorder for each operation, what makes its page, and handles.
pub(super) struct Facade<R> {
    name: &'static str,
    make: fn() -> Result<R>,
    /// Whether every observation is kept until the page is made, so that making it is part of recording.
    keeps_observations: bool,
    recorders: [R; 5],
    pages: [Page; 5],
    counter: metrics::Counter,
    gauge: metrics::Gauge,
    histogram: metrics::Histogram,
    values: Values,
}

type Page = Box<dyn Fn() -> String + Sync + Send>;

impl Facade<Ours> {
    pub(super) fn of_ours() -> Result<Facade<Ours>> {
        let registries: [Registry; 5] = std::array::from_fn(|_| Registry::new());
        let [a, b, c, d, e] = registries.each_ref().map(recorder);
        let recorders = [a?, b?, c?, d?, e?];
        let pages = registries.map(|registry| -> Page {
            let exposition = Exposition::from(registry);
            Box::new(move || String::from_utf8_lossy(&exposition.render(Format::Text004)).into_owned())
        });
        Ok(Facade::new("kymo by facade", || recorder(&Registry::new()), recorders, pages))
    }
}

fn recorder(registry: &Registry) -> Result<Ours> {
    Ok(Ours::with_buckets(registry.clone(), [(DURATION, BOUNDS.as_slice())])?)
}

impl Facade<PrometheusRecorder> {
    pub(super) fn of_exporter() -> Result<Facade<PrometheusRecorder>> {
        let make = || -> Result<PrometheusRecorder> {
            let matcher = Matcher::Full(DURATION.to_owned());
            Ok(PrometheusBuilder::new().set_buckets_for_metric(matcher, &BOUNDS)?.build_recorder())
        };
        let recorders = [make()?, make()?, make()?, make()?, make()?];
        let pages = recorders.each_ref().map(|recorder| -> Page {
            let handle = recorder.handle();
            Box::new(move || handle.render())
        });
        Ok(Facade::new(PUBLISHED, make, recorders, pages))
    }
}

impl<R: Recorder> Facade<R> {
    fn new(name: &'static str, make: fn() -> Result<R>, recorders: [R; 5], pages: [Page; 5]) -> Facade<R> {
        let [counters, gauges, histograms, ..] = &recorders;
        Facade {
            name,
            make,
            keeps_observations: name == PUBLISHED,
            counter: counters.register_counter(&Key::from_static_name("requests_total"), &METADATA),
            gauge: gauges.register_gauge(&Key::from_static_name("queue_length"), &METADATA),
            histogram: histograms.register_histogram(&Key::from_static_name(DURATION), &METADATA),
            recorders,
            pages,
            values: Values::new(),
        }
    }

    pub(super) fn page(&self, operation: Operation) -> String {
        (self.pages[operation as usize])()
    }
}

/// As the `counter!` macro does with label values that are not constant.
fn look_up<R: Recorder, const N: usize>(
    recorder: &R,
    name: &'static str,
    names: [&'static str; N],
    values: [&str; N],
) -> metrics::Counter {
    let labels = names.iter().zip(values).map(|(name, value)| Label::new(*name, value.to_owned())).collect::<Vec<_>>();
    recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
}

impl<R: Recorder + Sync + 'static> Peer for Facade<R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn record(&self, operation: Operation, times: u64) {
        let (values, recorder) = (&self.values, &self.recorders[operation as usize]);
        match operation {
            Operation::Counter => Values::each(&self.counter, times, |counter| counter.increment(1)),
            Operation::Gauge => values.observe(&self.gauge, times, |gauge, value| gauge.set(value)),
            Operation::Histogram => {
                values.observe(&self.histogram, times, |histogram, value| histogram.record(value));
                if self.keeps_observations && times > 1 {
                    self.scrape(operation);
                }
            }
            Operation::Lookup2 => values.by_two(recorder, times, |recorder, labels| {
                look_up(recorder, "responses_total", LABELS_2, labels).increment(1);
            }),
            Operation::Lookup5 => values.by_five(recorder, times, |recorder, labels| {
                look_up(recorder, "all_total", LABELS_5, labels).increment(1);
            }),
        }
    }

    fn scrape(&self, operation: Operation) {
        black_box(self.page(operation));
    }

    fn counters(&self, series: usize) -> Result<Box<dyn Any>> {
        let recorder = (self.make)()?;
        for [method, path] in many_labels(series) {
            look_up(&recorder, "many_total", LABELS_2, [&method, &path]).increment(1);
        }
        Ok(Box::new(recorder))
    }
}
