//! This process: its registry and what else the program says of it, as samples.

use kymo_core::FamilyType;
use kymo_core::histogram::NativeHistogram;
use kymo_core::metric::{MetricKind, MetricType};
use kymo_core::registry::{FamilySnapshot, Registry, SeriesSnapshot};
use kymo_core::text::FloatText;

use super::gathered::{FamilyWriter, Gathered};
use super::runner::Source;

/// A registry, and families from elsewhere.
pub(super) struct Own {
    pub(super) registry: Registry,
    pub(super) others: Box<dyn Fn() -> Vec<FamilySnapshot> + Send>,
}

impl Source for Own {
    fn gather(&mut self, out: &mut Gathered) {
        for family in self.registry.snapshot().iter().chain(&(self.others)()) {
            push_family(out, family);
        }
    }
}

/// Adds a family as the series that a scrape of it would give; native histograms as native ones. Totals, and the parts of
/// histograms and summaries that are totals, say since when they count.
pub(super) fn push_family(out: &mut Gathered, family: &FamilySnapshot) {
    let family_type = match family.kind {
        MetricKind::Counter => FamilyType::Counter,
        MetricKind::Gauge => FamilyType::Gauge,
        MetricKind::Histogram => FamilyType::Histogram,
        MetricKind::Summary => FamilyType::Summary,
    };
    let mut writer = out.family_with_unit(family_type, &family.name, &family.unit, &family.help);
    for series in &family.series {
        push_series(&mut writer, series);
    }
}

fn push_series(writer: &mut FamilyWriter<'_>, series: &SeriesSnapshot) {
    let start_ms = series.created_ms.unwrap_or(0);
    let (sum, count) = match &series.value {
        MetricType::Counter { value, .. } => return writer.push_total("", labels(series), *value, start_ms),
        MetricType::Gauge { value } => return writer.push(labels(series), *value),
        MetricType::Histogram { buckets, sum, count, .. } => {
            for bucket in buckets {
                // Bounds as OpenMetrics and Prometheus 3 write them, so that the series are those of a scrape.
                let bound = FloatText::open_metrics(bucket.upper_bound);
                let labels = labels(series).chain([("le", bound.as_str())]);
                writer.push_total("_bucket", labels, bucket.cumulative_count as f64, start_ms);
            }
            (sum, count)
        }
        MetricType::Summary { quantiles, sum, count } => {
            for quantile in quantiles {
                let rank = FloatText::open_metrics(quantile.quantile);
                writer.push(labels(series).chain([("quantile", rank.as_str())]), quantile.value);
            }
            (sum, count)
        }
        MetricType::NativeHistogram { histogram, .. } => {
            return writer.push_histogram(labels(series), NativeHistogram::clone(histogram), start_ms);
        }
    };
    writer.push_total("_sum", labels(series), *sum, start_ms);
    writer.push_total("_count", labels(series), *count as f64, start_ms);
}

fn labels(series: &SeriesSnapshot) -> impl Iterator<Item = (&str, &str)> {
    series.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}
