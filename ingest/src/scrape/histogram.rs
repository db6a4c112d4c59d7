//! Native histograms that have more buckets than a job wants.

use kymo_core::NativeHistogram;
use kymo_core::histogram::{HistogramCounts, SCHEMA_MAX, SCHEMA_MIN};

use super::config::JobConfig;
use super::error::ScrapeError;

/// A native histogram with buckets merged until it keeps the job's limits.
pub(super) fn within_limits(mut histogram: NativeHistogram, job: &JobConfig) -> Result<NativeHistogram, ScrapeError> {
    let finest = finest_schema(job.limits.bucket_factor);
    let buckets = |histogram: &NativeHistogram| match &histogram.counts {
        HistogramCounts::Integer(counts) => counts.positive.len() + counts.negative.len(),
        HistogramCounts::Float(counts) => counts.positive.len() + counts.negative.len(),
    };
    loop {
        let over = job.limits.buckets > 0 && buckets(&histogram) as u64 > job.limits.buckets;
        let too_fine = !histogram.has_custom_bounds() && histogram.schema > finest;
        if !over && !too_fine {
            return Ok(histogram);
        }
        if histogram.has_custom_bounds() || histogram.schema <= SCHEMA_MIN {
            return Err(ScrapeError::BucketLimit);
        }
        let schema = if too_fine { finest } else { histogram.schema - 1 };
        histogram = histogram.at_schema(schema).map_err(|_| ScrapeError::BucketLimit)?;
    }
}

/// The finest schema whose buckets grow by at least `factor` each.
fn finest_schema(factor: f64) -> i8 {
    if factor <= 1.0 {
        return SCHEMA_MAX;
    }
    let floor = (-factor.log2().log2()).floor();
    floor.clamp(f64::from(SCHEMA_MIN), f64::from(SCHEMA_MAX)) as i8
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kymo_core::histogram::{BucketCounts, BucketSpan, ResetHint};

    use super::*;
    use crate::scrape::tests::support::job;

    #[test]
    fn native_histograms_are_merged_until_they_fit() {
        let histogram = || NativeHistogram {
            schema: 2,
            hint: ResetHint::Unknown,
            zero_threshold: 0.0,
            counts: HistogramCounts::Integer(BucketCounts {
                zero: 0,
                count: 8,
                positive: vec![1; 8],
                negative: vec![],
            }),
            sum: 1.0,
            positive_spans: vec![BucketSpan { offset: 1, len: 8 }],
            negative_spans: vec![],
            custom_values: Arc::from([]),
        };
        let limited = |limit: &str| {
            let config = job(&format!(r#"{{"job_name":"j",{limit}}}"#));
            within_limits(histogram(), &config).map(|h| h.schema).map_err(|e| e.to_string())
        };
        assert_eq!(limited(r#""native_histogram_bucket_limit":8"#), Ok(2));
        assert_eq!(limited(r#""native_histogram_bucket_limit":4"#), Ok(1));
        assert_eq!(limited(r#""native_histogram_bucket_limit":2"#), Ok(0));
        assert_eq!(limited(r#""native_histogram_min_bucket_factor":1.1"#), Ok(2));
        assert_eq!(limited(r#""native_histogram_min_bucket_factor":1.9"#), Ok(0));
        assert_eq!(limited(r#""native_histogram_min_bucket_factor":2"#), Ok(0));
        assert_eq!(limited(r#""native_histogram_min_bucket_factor":4"#), Ok(-1));
    }
}
