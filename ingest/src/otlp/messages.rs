//! The driver of JSON: parses metric by metric, and tells what stands in the messages.
//!
//! What identifies a series is told in protobuf, so that a series has one key whichever encoding its points come in.

use kymo_core::Reservation;
use prost::Message;
use prost::encoding::message::encode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{ExportError, Reason};
use super::json::{self, BadMetric};
use super::memory::{weigh_json_part, weigh_json_request};
use super::message::{self, Exemplar, KeyValue, Metric, Resource, Scope};
use super::visit;
use super::visit::{
    Buckets, Data, EXPONENTIAL_ATTRIBUTES, EXPONENTIAL_EXEMPLARS, ExponentialPoint, HISTOGRAM_ATTRIBUTES,
    HISTOGRAM_EXEMPLARS, HistogramPoint, NUMBER_ATTRIBUTES, NUMBER_EXEMPLARS, NumberPoint, SUMMARY_ATTRIBUTES,
    SummaryPoint, Visit,
};

/// Parts of the point at hand in protobuf.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    attributes: Vec<u8>,
    exemplars: Vec<u8>,
    quantiles: Vec<(f64, f64)>,
}

/// Tells `visit` what stands in `body`. Memory is reserved in `held` before it is taken.
pub(super) fn drive_json<V: Visit>(body: &[u8], held: &mut Reservation, visit: &mut V) -> Result<(), ExportError> {
    let json = |source| ExportError::Json { source };
    held.grow(weigh_json_request(body))?;
    let request: json::Request<'_> = serde_json::from_slice(body).map_err(json)?;
    let mut encoded = Encoded::default();
    for of_resource in &request.resource_metrics {
        let (resource, resource_weight) = parse_part::<Resource>(of_resource.resource, held)?;
        visit.resource(&resource.encode_to_vec())?;
        for of_scope in &of_resource.scope_metrics {
            let (scope, scope_weight) = parse_part::<Scope>(of_scope.scope, held)?;
            visit.scope(&scope.encode_to_vec(), &of_scope.schema_url)?;
            for text in &of_scope.metrics {
                let weight = weigh_json_part(text.get());
                held.grow(weight)?;
                match serde_json::from_str::<Metric>(text.get()) {
                    Ok(metric) => tell(&metric, &mut encoded, visit)?,
                    Err(_) => {
                        let bad = BadMetric::of(text);
                        visit.refuse(Reason::InvalidMetric, bad.points, &bad.name);
                    }
                }
                held.shrink(weight);
            }
            held.shrink(scope_weight);
        }
        visit.end_resource()?;
        held.shrink(resource_weight);
    }
    Ok(())
}

/// A resource or scope, with the bytes that were reserved for it.
pub(super) fn parse_part<'t, P: Deserialize<'t> + Default>(
    text: Option<&'t RawValue>,
    held: &mut Reservation,
) -> Result<(P, u64), ExportError> {
    let Some(text) = text else { return Ok((P::default(), 0)) };
    let weight = weigh_json_part(text.get());
    held.grow(weight)?;
    let part = serde_json::from_str(text.get()).map_err(|source| ExportError::Json { source })?;
    Ok((part, weight))
}

/// Tells `visit` of one metric.
pub(super) fn tell<V: Visit>(metric: &Metric, encoded: &mut Encoded, visit: &mut V) -> Result<(), ExportError> {
    let data = if let Some(sum) = &metric.sum {
        Data::Sum { temporality: sum.aggregation_temporality, is_monotonic: sum.is_monotonic }
    } else if metric.gauge.is_some() {
        Data::Gauge
    } else if let Some(data) = &metric.histogram {
        Data::Histogram { temporality: data.aggregation_temporality }
    } else if let Some(data) = &metric.exponential_histogram {
        Data::Exponential { temporality: data.aggregation_temporality }
    } else if metric.summary.is_some() {
        Data::Summary
    } else {
        Data::Unknown
    };
    let Metric { name, description, unit, .. } = metric;
    visit.metric(&visit::Metric { name, description, unit, data })?;
    let numbers = match (&metric.sum, &metric.gauge) {
        (Some(sum), _) => &sum.data_points[..],
        (None, Some(gauge)) => &gauge.data_points,
        (None, None) => &[],
    };
    for point in numbers {
        encoded.set((NUMBER_ATTRIBUTES, &point.attributes), (NUMBER_EXEMPLARS, &point.exemplars));
        visit.number(&NumberPoint {
            start_ns: point.start_time_unix_nano,
            time_ns: point.time_unix_nano,
            value: point.as_double.or(point.as_int.map(|value| value as f64)),
            flags: point.flags,
            attributes: &encoded.attributes,
            is_expected: false,
            exemplars: &encoded.exemplars,
        })?;
    }
    match (data, metric) {
        (Data::Histogram { .. }, Metric { histogram: Some(histogram), .. }) => {
            for point in &histogram.data_points {
                encoded.set((HISTOGRAM_ATTRIBUTES, &point.attributes), (HISTOGRAM_EXEMPLARS, &point.exemplars));
                visit.histogram(&encoded.histogram(point))?;
            }
        }
        (Data::Exponential { .. }, Metric { exponential_histogram: Some(histogram), .. }) => {
            for point in &histogram.data_points {
                encoded.set((EXPONENTIAL_ATTRIBUTES, &point.attributes), (EXPONENTIAL_EXEMPLARS, &point.exemplars));
                visit.exponential(&encoded.exponential(point))?;
            }
        }
        (Data::Summary, Metric { summary: Some(summary), .. }) => {
            for point in &summary.data_points {
                encoded.set((SUMMARY_ATTRIBUTES, &point.attributes), (0, &[]));
                encoded.quantiles.clear();
                encoded.quantiles.extend(point.quantile_values.iter().map(|at| (at.quantile, at.value)));
                visit.summary(&SummaryPoint {
                    start_ns: point.start_time_unix_nano,
                    time_ns: point.time_unix_nano,
                    count: point.count,
                    sum: point.sum,
                    quantiles: &encoded.quantiles,
                    flags: point.flags,
                    attributes: &encoded.attributes,
                })?;
            }
        }
        _ => {}
    }
    visit.end_metric()
}

impl Encoded {
    fn set(&mut self, attributes: (u32, &[KeyValue]), exemplars: (u32, &[Exemplar])) {
        self.attributes.clear();
        attributes.1.iter().for_each(|pair| encode(attributes.0, pair, &mut self.attributes));
        self.exemplars.clear();
        exemplars.1.iter().for_each(|exemplar| encode(exemplars.0, exemplar, &mut self.exemplars));
    }

    fn histogram<'p>(&'p self, point: &'p message::HistogramPoint) -> HistogramPoint<'p> {
        HistogramPoint {
            start_ns: point.start_time_unix_nano,
            time_ns: point.time_unix_nano,
            count: point.count,
            sum: point.sum,
            bucket_counts: &point.bucket_counts,
            explicit_bounds: &point.explicit_bounds,
            min: point.min,
            max: point.max,
            flags: point.flags,
            attributes: &self.attributes,
            exemplars: &self.exemplars,
        }
    }

    fn exponential<'p>(&'p self, point: &'p message::ExponentialPoint) -> ExponentialPoint<'p> {
        let side = |side: &'p Option<message::Buckets>| match side {
            Some(side) => Buckets { offset: side.offset, counts: &side.bucket_counts },
            None => Buckets::default(),
        };
        ExponentialPoint {
            start_ns: point.start_time_unix_nano,
            time_ns: point.time_unix_nano,
            count: point.count,
            sum: point.sum,
            scale: point.scale,
            zero_count: point.zero_count,
            zero_threshold: point.zero_threshold,
            positive: side(&point.positive),
            negative: side(&point.negative),
            min: point.min,
            max: point.max,
            flags: point.flags,
            attributes: &self.attributes,
            exemplars: &self.exemplars,
        }
    }
}
