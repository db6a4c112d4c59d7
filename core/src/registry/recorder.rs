//! A registry as the recorder of the `metrics` facade.
//!
//! Code that uses the macros of `metrics` 0.24 works unchanged; what it records is in the registry beside what typed handles
//! record. A name is one family, whose series have what labels they are given. A macro looks its series up at each call,
//! without a lock and without an allocation when it is there, and counts itself as a holder of it; typed handles save both,
//! and the virtual call.
//!
//! The facade lets a counter and a gauge have one name, which no exposition can show: the second of them becomes
//! `name_gauge`, and so on. Where that name is taken too, the handle does nothing, and [`Recorder::refused`] counts it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use metrics::{CounterFn, GaugeFn, HistogramFn, Key, KeyName, Label, Metadata, SharedString, Unit};

use super::counter::CounterValue;
use super::family::{FamilyCore, FamilyShape};
use super::gauge::GaugeValue;
use super::handle::{Handle, sealed::Sealed};
use super::histogram::HistogramValue;
use super::node::Node;
use super::options::{Bounds, Options};
use super::{Counter, Gauge, Histogram, Registry, SERIES_PER_FAMILY_DEFAULT};

/// Gives series of a [`Registry`] to the `metrics` facade.
///
/// ```
/// use kymo_core::registry::{Recorder, Registry};
///
/// let registry = Registry::new();
/// metrics::with_local_recorder(&Recorder::new(registry.clone()), || {
///     metrics::counter!("requests_total", "code" => "200").increment(2);
/// });
/// assert_eq!(registry.snapshot()[0].series[0].value.value(), 2.0);
/// ```
#[derive(Debug, Clone)]
pub struct Recorder {
    registry: Registry,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Guards what was said of names; taken when a family is made or described.
    described: RwLock<BTreeMap<String, (&'static str, String)>>,
    buckets: BTreeMap<String, Options>,
    refused: AtomicU64,
}

impl Recorder {
    /// Records into `registry`. Histograms have [`DURATION_BUCKETS_DEFAULT`](super::DURATION_BUCKETS_DEFAULT).
    pub fn new(registry: Registry) -> Self {
        Self { registry, shared: Arc::default() }
    }

    /// As [`new`](Self::new); histograms of the names given have the bounds beside them, which rise.
    ///
    /// # Errors
    /// What is wrong with the bounds.
    pub fn with_buckets<'a>(
        registry: Registry,
        buckets: impl IntoIterator<Item = (&'a str, &'a [f64])>,
    ) -> Result<Self, super::RegisterError> {
        let mut of_names = BTreeMap::new();
        for (name, bounds) in buckets {
            let options = Options::Buckets(Arc::new(Bounds::new(bounds)));
            let fault = |what| super::RegisterError::Options { family: name.to_owned(), what };
            options.check().map_err(fault)?;
            of_names.insert(name.to_owned(), options);
        }
        Ok(Self { registry, shared: Arc::new(Shared { buckets: of_names, ..Shared::default() }) })
    }

    /// How many handles were given out that record nothing, as the names they could have are those of other metrics.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Relaxed)
    }

    fn describe(&self, key: &KeyName, unit: Option<Unit>, help: &SharedString) {
        let unit = match unit {
            None | Some(Unit::Count) => "",
            Some(unit) => unit.as_str(),
        };
        self.registry.describe(key.as_str(), unit, help);
        let mut described = self.shared.described.write().unwrap_or_else(PoisonError::into_inner);
        described.entry(key.as_str().to_owned()).or_insert_with(|| (unit, help.to_string()));
    }

    fn series<M: Handle>(&self, key: &Key) -> Option<Arc<Node<M::Value>>> {
        let family = match self.registry.known(key.name()) {
            Some(family) => family,
            None => self.family::<M>(key.name())?,
        };
        let node = with_sorted(key, |labels| family.open(labels));
        Some(node)
    }

    /// The family under its own name, or under that with its kind behind it.
    #[cold]
    fn family<M: Handle>(&self, name: &str) -> Option<Arc<FamilyCore<M::Value>>> {
        let other = format!("{name}_{}", M::KIND.as_str());
        for name in [name, &other] {
            if let Ok(family) = self.registry.family(self.described::<M>(name)) {
                return Some(family);
            }
        }
        self.shared.refused.fetch_add(1, Relaxed);
        None
    }

    fn described<M: Handle>(&self, name: &str) -> FamilyCore<M::Value> {
        let host = self.registry.host();
        let described = self.shared.described.read().unwrap_or_else(PoisonError::into_inner);
        let (unit, help) = described.get(name).cloned().unwrap_or_default();
        // Another description must not make it another family, so none is part of its shape.
        let shape = FamilyShape {
            name: name.to_owned(),
            kind: M::KIND,
            unit: String::new(),
            help: String::new(),
            label_names: Vec::new(),
            is_open: true,
            handle_type: M::TYPE_NAME,
            options: Arc::new(match self.shared.buckets.get(name) {
                Some(options) if M::TYPE_NAME == Histogram::TYPE_NAME => options.clone(),
                _ => M::default_options(&host.clock),
            }),
        };
        let family = FamilyCore::new(shape, SERIES_PER_FAMILY_DEFAULT, None, Arc::clone(host));
        if !(unit.is_empty() && help.is_empty()) {
            super::family::AnyFamily::describe(&family, unit, &help);
        }
        family
    }
}

/// Labels of a key sorted by name, the first of equal names, without empty values. Does not allocate for up to 16.
fn with_sorted<R>(key: &Key, with: impl FnOnce(SortedLabels<'_, '_>) -> R) -> R {
    const ON_STACK: usize = 16;
    let mut few = [None; ON_STACK];
    let mut many = Vec::new();
    let len = key.labels().len();
    let labels: &mut [Option<&Label>] = match few.get_mut(..len) {
        Some(labels) => labels,
        None => {
            many.resize(len, None);
            &mut many
        }
    };
    for (place, label) in labels.iter_mut().zip(key.labels()) {
        *place = Some(label);
    }
    // Stable, so that of equal names the first stays first; an insertion sort up to twenty, which allocates nothing.
    labels.sort_by(|a, b| a.map(Label::key).cmp(&b.map(Label::key)));
    with(SortedLabels { labels, last: None })
}

#[derive(Clone)]
struct SortedLabels<'s, 'a> {
    labels: &'s [Option<&'a Label>],
    last: Option<&'a str>,
}

impl<'a> Iterator for SortedLabels<'_, 'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (first, rest) = self.labels.split_first()?;
            self.labels = rest;
            let label = (*first)?;
            if self.last != Some(label.key()) {
                self.last = Some(label.key());
                if !label.value().is_empty() {
                    return Some((label.key(), label.value()));
                }
            }
        }
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> metrics::Counter {
        self.series::<Counter>(key).map_or_else(metrics::Counter::noop, metrics::Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> metrics::Gauge {
        self.series::<Gauge>(key).map_or_else(metrics::Gauge::noop, metrics::Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        self.series::<Histogram>(key).map_or_else(metrics::Histogram::noop, metrics::Histogram::from_arc)
    }
}

impl CounterFn for Node<CounterValue> {
    fn increment(&self, value: u64) {
        self.value.add(value);
    }

    fn absolute(&self, value: u64) {
        self.value.raise_to(value);
    }
}

impl GaugeFn for Node<GaugeValue> {
    fn increment(&self, value: f64) {
        self.value.add(value);
    }

    fn decrement(&self, value: f64) {
        self.value.add(-value);
    }

    fn set(&self, value: f64) {
        self.value.set(value);
    }
}

impl HistogramFn for Node<HistogramValue> {
    fn record(&self, value: f64) {
        self.value.record(value);
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, describe_counter, describe_histogram, gauge, histogram, with_local_recorder};

    use super::*;
    use crate::metric::MetricType;

    #[test]
    fn macros_record_into_the_registry_unchanged() {
        let registry = Registry::new();
        let recorder = Recorder::with_buckets(registry.clone(), [("size", [1.0, 2.0].as_slice())]).unwrap();
        with_local_recorder(&recorder, || {
            describe_counter!("hits_total", "Hits.");
            counter!("hits_total", "code" => "200", "method" => "GET").increment(2);
            counter!("hits_total", "method" => "GET", "code" => "200", "empty" => "").increment(1);
            counter!("hits_total", "code" => "200", "code" => "500").absolute(7);
            counter!("hits_total").increment(1);
            gauge!("level").set(4.0);
            gauge!("level").decrement(1.5);
            histogram!("size").record(1.5);
            histogram!("size").record_many(9.0, 2);
            describe_histogram!("size", Unit::Bytes, "Sizes.");
        });
        let snapshot = registry.snapshot();
        let shown: Vec<_> = snapshot.iter().map(|f| (f.name.as_str(), f.help.as_str(), f.unit.as_str())).collect();
        assert_eq!(shown, [("hits_total", "Hits.", ""), ("level", "", ""), ("size", "Sizes.", "bytes")]);
        let series = |at: usize| {
            let text =
                |labels: &[(String, String)]| labels.iter().map(|(n, v)| format!("{n}={v} ")).collect::<String>();
            snapshot[at].series.iter().map(|s| (text(&s.labels), s.value.value())).collect::<Vec<_>>()
        };
        let labelled = |text: &str, value| (text.to_owned(), value);
        assert_eq!(series(0), [labelled("", 1.0), labelled("code=200 ", 7.0), labelled("code=200 method=GET ", 3.0)]);
        assert_eq!(series(1), [labelled("", 2.5)]);
        assert_eq!(series(2), [labelled("", 19.5)]);
        assert_eq!(recorder.refused(), 0);
    }

    #[test]
    fn a_name_of_two_kinds_is_two_families_and_nothing_is_mixed() {
        let registry = Registry::new();
        let typed = registry.counter("taken").labels(["a"]).family().unwrap();
        let recorder = Recorder::new(registry.clone());
        with_local_recorder(&recorder, || {
            counter!("x").increment(1);
            gauge!("x").set(5.0);
            counter!("taken").increment(3);
            gauge!("taken_gauge").set(1.0);
            registry.up_down_counter("both").register().unwrap();
            registry.counter("both_gauge").register().unwrap();
            gauge!("both").set(1.0);
        });
        typed.at(["1"]).inc();
        let names: Vec<_> = registry.snapshot().into_iter().map(|family| family.name).collect();
        assert_eq!(names, ["both", "both_gauge", "taken", "taken_counter", "taken_gauge", "x", "x_gauge"]);
        assert_eq!(recorder.refused(), 1);
    }

    #[test]
    fn labels_beyond_the_limit_fold_into_a_series_that_names_the_label() {
        let registry = Registry::new();
        with_local_recorder(&Recorder::new(registry.clone()), || {
            for n in 0..SERIES_PER_FAMILY_DEFAULT + 5 {
                counter!("c", "path" => n.to_string()).increment(1);
            }
        });
        let family = &registry.snapshot()[0];
        assert_eq!(family.series.len(), SERIES_PER_FAMILY_DEFAULT + 1);
        let overflow = family.series.iter().find(|series| series.labels[0].0 == super::super::OVERFLOW_LABEL).unwrap();
        assert_eq!(overflow.labels[0].1, "path");
        assert_eq!(overflow.value, MetricType::Counter { value: 5.0, exemplars: None });
    }
}
