//! Prometheus text, versions 0.0.4 and 1.0.0, which differ only in how names are written.

use kymo_core::metric::MetricType;
use kymo_core::registry::{FamilySnapshot, SeriesSnapshot};
use kymo_core::text::{write_escaped_help, write_float_general, write_u64};

use super::format::Escaping;
use super::lines::{Lines, named, start_comment};

pub(super) fn write(out: &mut Vec<u8>, escaping: Escaping, families: &[FamilySnapshot]) {
    for (name, family) in named(escaping, families) {
        if !family.help.is_empty() {
            start_comment(out, "HELP", &name);
            write_escaped_help(out, &family.help);
            out.push(b'\n');
        }
        start_comment(out, "TYPE", &name);
        out.extend_from_slice(family.kind.as_str().as_bytes());
        out.push(b'\n');
        for series in &family.series {
            write_series(out, escaping, &name, series);
        }
    }
}

fn write_series(out: &mut Vec<u8>, escaping: Escaping, name: &str, series: &SeriesSnapshot) {
    // These formats have no exponential buckets.
    if let Some(value) = series.value.as_classic() {
        return write_series(out, escaping, name, &SeriesSnapshot { value, ..series.clone() });
    }
    let mut lines = Lines::new(out, escaping, name, series, write_float_general);
    let (sum, count) = match &series.value {
        MetricType::Counter { value, .. } | MetricType::Gauge { value } => {
            return lines.float("", None, *value).push(b'\n');
        }
        MetricType::Histogram { buckets, sum, count, .. } => {
            for bucket in buckets {
                let count = bucket.cumulative_count;
                lines.sample("_bucket", Some(("le", bucket.upper_bound)), |out| write_u64(out, count)).push(b'\n');
            }
            (*sum, *count)
        }
        MetricType::Summary { quantiles, sum, count } => {
            for quantile in quantiles {
                lines.float("", Some(("quantile", quantile.quantile)), quantile.value).push(b'\n');
            }
            (*sum, *count)
        }
        MetricType::NativeHistogram { .. } => return,
    };
    lines.float("_sum", None, sum).push(b'\n');
    lines.sample("_count", None, |out| write_u64(out, count)).push(b'\n');
}
