//! `measured`: typed metrics, label sets that intern each value, and the text page.

use std::any::Any;
use std::hint::black_box;

use anyhow::Result;
use kymo_benches::cases::handles::BOUNDS;
use kymo_benches::groups::hot_path::{Operation, Peer};
use measured::metric::gauge::FloatGaugeState;
use measured::metric::histogram::Thresholds;
use measured::metric::name::MetricName;
use measured::metric::{Metric, MetricFamilyEncoding};
use measured::text::BufferedTextEncoder;
use measured::{Counter, CounterVec, Histogram, LabelGroup};
use paracord::ParaCord;

use super::{Values, many_labels};

#[derive(LabelGroup)]
#[label(set = TwoSet)]
struct Two<'a> {
    #[label(dynamic_with = ParaCord, default)]
    method: &'a str,
    #[label(dynamic_with = ParaCord, default)]
    path: &'a str,
}

#[derive(LabelGroup)]
#[label(set = FiveSet)]
struct Five<'a> {
    #[label(dynamic_with = ParaCord, default)]
    code: &'a str,
    #[label(dynamic_with = ParaCord, default)]
    host: &'a str,
    #[label(dynamic_with = ParaCord, default)]
    method: &'a str,
    #[label(dynamic_with = ParaCord, default)]
    path: &'a str,
    #[label(dynamic_with = ParaCord, default)]
    zone: &'a str,
}

pub(super) struct OfMeasured {
    counter: Counter,
    gauge: Metric<FloatGaugeState>,
    histogram: Histogram<12>,
    by_two: CounterVec<TwoSet>,
    by_five: CounterVec<FiveSet>,
    values: Values,
}

impl OfMeasured {
    pub(super) fn new() -> OfMeasured {
        OfMeasured {
            counter: Counter::new(),
            gauge: Metric::new(),
            histogram: Histogram::with_metadata(Thresholds::with_buckets(BOUNDS)),
            by_two: CounterVec::with_label_set(TwoSet::default()),
            by_five: CounterVec::with_label_set(FiveSet::default()),
            values: Values::new(),
        }
    }

    pub(super) fn page(&self, operation: Operation) -> String {
        let mut page = BufferedTextEncoder::new();
        let name = |name| MetricName::from_str(name);
        let Ok(()) = match operation {
            Operation::Counter => self.counter.collect_family_into(name("requests_total"), &mut page),
            Operation::Gauge => self.gauge.collect_family_into(name("queue_length"), &mut page),
            Operation::Histogram => self.histogram.collect_family_into(name("duration_seconds"), &mut page),
            Operation::Lookup2 => self.by_two.collect_family_into(name("responses_total"), &mut page),
            Operation::Lookup5 => self.by_five.collect_family_into(name("all_total"), &mut page),
        };
        String::from_utf8_lossy(&page.finish()).into_owned()
    }
}

impl Peer for OfMeasured {
    fn name(&self) -> &'static str {
        "measured"
    }

    fn record(&self, operation: Operation, times: u64) {
        let values = &self.values;
        match operation {
            Operation::Counter => Values::each(&self.counter, times, |counter| counter.inc()),
            Operation::Gauge => values.observe(&self.gauge, times, |gauge, value| gauge.set(value)),
            Operation::Histogram => values.observe(&self.histogram, times, |histogram, value| histogram.observe(value)),
            Operation::Lookup2 => {
                values.by_two(&self.by_two, times, |family, [method, path]| family.inc(Two { method, path }));
            }
            Operation::Lookup5 => values.by_five(&self.by_five, times, |family, [code, host, method, path, zone]| {
                family.inc(Five { code, host, method, path, zone });
            }),
        }
    }

    fn scrape(&self, operation: Operation) {
        black_box(self.page(operation));
    }

    fn counters(&self, series: usize) -> Result<Box<dyn Any>> {
        let family = CounterVec::with_label_set(TwoSet::default());
        many_labels(series).for_each(|[method, path]| family.inc(Two { method: &method, path: &path }));
        Ok(Box::new(family))
    }
}
