//! Who is to blame when the limit of active series refuses samples: the metric, and the label of most values.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kymo_core::registry::{Counter, Family};
use kymo_core::{Distinct, LabelsRef, METRIC_NAME};

/// Metrics told apart; further ones are counted together.
const METRICS_MAX: usize = 100;
/// Labels of a metric whose values are counted.
const LABELS_MAX: usize = 32;
/// Stands for metrics beyond the limit.
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

    /// Counts a sample of a series that was refused.
    pub(crate) fn note(&self, labels: LabelsRef<'_>) {
        let metric = labels.metric_name().unwrap_or_default();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let metric = if seen.contains_key(metric) || seen.len() < METRICS_MAX { metric } else { OTHERS };
        let of_metric = seen.entry(metric.to_owned()).or_default();
        for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            if of_metric.contains_key(name) || of_metric.len() < LABELS_MAX {
                of_metric.entry(name.to_owned()).or_default().add(value);
            }
        }
        let worst = of_metric.iter().max_by_key(|(_, values)| values.count()).map_or("", |(name, _)| name.as_str());
        self.samples.with([metric, worst]).add(1);
    }
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
}
