//! Aggregation of points through `dyn`: the seed's `MetricAggregator`.

use super::{Avg, First, Last, Max, Min, StdDev, Sum, quantile};
use crate::metric::{MetricPoint, Quantile};

/// Turns points into figures. The order of points does not matter.
pub trait MetricAggregator: Send + Sync {
    /// The figures of `points`, which may belong to any series.
    fn aggregate(&self, points: &[MetricPoint]) -> AggregatedMetrics;
}

/// What is to be said of a run of points. Every figure is `None` when there are none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AggregatedMetrics {
    /// Number of points.
    pub count: u64,
    /// Sum of their values.
    pub sum: Option<f64>,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Smallest value.
    pub min: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// Population standard deviation.
    pub stddev: Option<f64>,
    /// Value of the earliest point.
    pub first: Option<f64>,
    /// Value of the latest point.
    pub last: Option<f64>,
    /// The quantiles asked for, in the order asked.
    pub quantiles: Vec<Quantile>,
}

/// The states of this module over points, with exact quantiles.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PointAggregator {
    /// Which quantiles to give, 0 to 1. They cost a copy of all values.
    pub quantiles: Vec<f64>,
}

impl MetricAggregator for PointAggregator {
    fn aggregate(&self, points: &[MetricPoint]) -> AggregatedMetrics {
        let (mut sum, mut mean) = (Sum::default(), Avg::default());
        let (mut min, mut max, mut stddev) = (Min::default(), Max::default(), StdDev::default());
        let (mut first, mut last) = (First::default(), Last::default());
        for point in points {
            sum.update(point.value);
            mean.update(point.value);
            min.update(point.value);
            max.update(point.value);
            stddev.update(point.value);
            first.update(point.timestamp_ms, point.value);
            last.update(point.timestamp_ms, point.value);
        }
        let mut values: Vec<f64> = match self.quantiles.is_empty() {
            true => Vec::new(),
            false => points.iter().map(|point| point.value).collect(),
        };
        AggregatedMetrics {
            count: points.len() as u64,
            sum: sum.finish(),
            mean: mean.finish(),
            min: min.finish(),
            max: max.finish(),
            stddev: stddev.finish(),
            first: first.finish(),
            last: last.finish(),
            quantiles: self
                .quantiles
                .iter()
                .map(|&q| Quantile { quantile: q, value: quantile(q, &mut values) })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::MetricKind;

    #[test]
    fn figures_of_points_do_not_depend_on_their_order() {
        let point = |time_ms, value| MetricPoint::new(1, MetricKind::Gauge, time_ms, value);
        let aggregator: Box<dyn MetricAggregator> = Box::new(PointAggregator { quantiles: vec![0.5, 1.0] });
        let found = aggregator.aggregate(&[point(3, 9.0), point(1, 2.0), point(2, 4.0)]);
        assert_eq!(found.count, 3);
        assert_eq!((found.sum, found.mean), (Some(15.0), Some(5.0)));
        assert_eq!((found.min, found.max), (Some(2.0), Some(9.0)));
        assert_eq!((found.first, found.last), (Some(2.0), Some(9.0)));
        assert_eq!(found.quantiles.iter().map(|q| q.value).collect::<Vec<_>>(), [4.0, 9.0]);
        assert_eq!(PointAggregator::default().aggregate(&[]), AggregatedMetrics::default());
    }
}
