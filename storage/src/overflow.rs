//! Who is to blame when a limit of series or of labels refuses samples: the metric, and the label of most values, or the one
//! that is too long.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kymo_core::registry::{Counter, Family};
use kymo_core::{Distinct, LabelsRef, METRIC_NAME};

/// Metrics told apart; further ones are counted together.
const METRICS_MAX: usize = 100;
/// Labels of a metric whose values are counted.
const LABELS_MAX: usize = 32;
/// Longer names of metrics and labels are not kept, since length may be what is refused.
const NAME_BYTES_MAX: usize = 256;
/// Stands for metrics beyond the limit, and for names that are too long.
const OTHERS: &str = "other";

/// See the module.
#[derive(Debug)]
pub(crate) struct Overflow {
    samples: Family<Counter, 2>,
    /// Values that refused series had, by metric and label. Held for a row.
    seen: Mutex<BTreeMap<String, BTreeMap<String, Distinct>>>,
}

impl Overflow {
    pub(crate) fn new(samples: Family<Counter, 2>) -> Overflow {
        Overflow { samples, seen: Mutex::default() }
    }

    /// Counts a sample of a series that was refused for its number of labels, or because there are too many series.
    pub(crate) fn note(&self, labels: LabelsRef<'_>) {
        let metric = kept(labels.metric_name().unwrap_or_default());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let metric = if seen.contains_key(metric) || seen.len() < METRICS_MAX { metric } else { OTHERS };
        let of_metric = seen.entry(metric.to_owned()).or_default();
        for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            let name = kept(name);
            if of_metric.contains_key(name) || of_metric.len() < LABELS_MAX {
                of_metric.entry(name.to_owned()).or_default().add(value);
            }
        }
        let worst = of_metric.iter().max_by_key(|(_, values)| values.count()).map_or("", |(name, _)| name.as_str());
        self.samples.with([metric, worst]).add(1);
    }

    /// Counts a sample of a series with a label that is longer than `bytes_max`.
    pub(crate) fn note_long(&self, labels: LabelsRef<'_>, bytes_max: usize) {
        let is_long = |(name, value): &(&str, &str)| name.len().max(value.len()) > bytes_max;
        let label = labels.iter().find(is_long).map_or("", |(name, _)| kept(name));
        let metric = kept(labels.metric_name().unwrap_or_default());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let metric = if seen.contains_key(metric) || seen.len() < METRICS_MAX { metric } else { OTHERS };
        let of_metric = seen.entry(metric.to_owned()).or_default();
        let is_room = of_metric.contains_key(label) || of_metric.len() < LABELS_MAX;
        let label = if is_room { label } else { OTHERS };
        of_metric.entry(label.to_owned()).or_default();
        self.samples.with([metric, label]).add(1);
    }
}

fn kept(name: &str) -> &str {
    if name.len() > NAME_BYTES_MAX { OTHERS } else { name }
}

#[cfg(test)]
mod tests {
    use kymo_core::registry::Registry;
    use kymo_core::{Labels, MetricStorage, SampleBatch};

    use crate::{Engine, Limits, Options};

    #[test]
    fn the_label_of_most_values_is_named_with_its_metric() {
        let (registry, clock) = (Registry::new(), std::sync::Arc::new(kymo_core::ManualClock::at(1_700_000_000_000)));
        let limits = Limits { active_series: 10, ..Limits::default() };
        let options = Options { registry: registry.clone(), clock, limits, ..Options::default() };
        let disk = std::sync::Arc::new(crate::fs::SimFs::new(1));
        let (engine, _) = Engine::open(disk, std::path::Path::new("/data"), options).unwrap();
        let mut batch = SampleBatch::new();
        for n in 0..60 {
            let labels = [("__name__", "hits".to_owned()), ("code", (n % 5).to_string()), ("user", n.to_string())];
            batch.push_float(&Labels::from_pairs(labels), 1_700_000_000_000, 1.0);
        }
        assert_eq!(engine.append(&batch).unwrap().rejected.len(), 50);
        let families = registry.snapshot();
        let family = families.iter().find(|family| family.name == "kymo_overflow_samples_total").unwrap();
        let by_user =
            family.series.iter().find(|series| series.labels.iter().any(|(_, value)| value == "user")).unwrap();
        assert!(by_user.labels.iter().any(|(_, value)| value == "hits"));
        // The first few could not tell yet.
        assert!(by_user.value.value() >= 44.0, "{family:?}");
        assert_eq!(family.series.iter().map(|series| series.value.value()).sum::<f64>(), 50.0);
    }

    #[test]
    fn what_labels_refuse_names_the_metric_and_the_label() {
        let (registry, clock) = (Registry::new(), std::sync::Arc::new(kymo_core::ManualClock::at(1_700_000_000_000)));
        let limits = Limits { labels_per_series: 3, label_bytes: 300, ..Limits::default() };
        let options = Options { registry: registry.clone(), clock, limits, ..Options::default() };
        let disk = std::sync::Arc::new(crate::fs::SimFs::new(1));
        let (engine, _) = Engine::open(disk, std::path::Path::new("/data"), options).unwrap();
        let mut batch = SampleBatch::new();
        let long = "x".repeat(301);
        for labels in [
            vec![("__name__", "sql"), ("statement", long.as_str())],
            vec![("__name__", "sql"), (long.as_str(), "value")],
            vec![("__name__", long.as_str())],
            vec![("__name__", "wide"), ("a", "1"), ("b", "2"), ("c", "3")],
            vec![("__name__", "wide"), ("a", "1"), ("b", "3"), ("c", "3")],
        ] {
            batch.push_float(&Labels::from_pairs(labels), 1_700_000_000_000, 1.0);
        }
        assert_eq!(engine.append(&batch).unwrap().rejected.len(), 5);
        let families = registry.snapshot();
        let family = families.iter().find(|family| family.name == "kymo_overflow_samples_total").unwrap();
        let counted = |metric: &str, label: &str| -> f64 {
            let is_it = |series: &&kymo_core::registry::SeriesSnapshot| {
                let of = |wanted: &str| series.labels.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
                of("metric").is_some_and(|found| *found == *metric) && of("label").is_some_and(|found| *found == *label)
            };
            family.series.iter().filter(is_it).map(|series| series.value.value()).sum()
        };
        assert_eq!(counted("sql", "statement"), 1.0, "{family:?}");
        assert_eq!(counted("sql", "other"), 1.0, "{family:?}");
        assert_eq!(counted("other", "__name__"), 1.0, "{family:?}");
        assert_eq!(family.series.iter().map(|series| series.value.value()).sum::<f64>(), 5.0);
        assert!(counted("wide", "b") >= 1.0, "{family:?}");
    }
}
