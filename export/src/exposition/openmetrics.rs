//! OpenMetrics text, versions 0.0.1 and 1.0.0.
//!
//! A counter's family is called without `_total`, its sample with it. Where another family has either name, two families
//! would be one to a reader; such counters are shown under their own name as `unknown`, and nothing is lost.

use std::collections::BTreeSet;

use kymo_core::Exemplar;
use kymo_core::metric::{Bucket, MetricKind, MetricType};
use kymo_core::registry::{FamilySnapshot, SeriesSnapshot};
use kymo_core::text::{write_escaped_label_value, write_float_open_metrics, write_timestamp_seconds, write_u64};

use super::format::Escaping;
use super::lines::{Lines, label_text, named, start_comment};

const TOTAL: &str = "_total";
/// An exemplar's labels may have so many characters together.
const EXEMPLAR_CHARS_MAX: usize = 128;

pub(super) fn write(out: &mut Vec<u8>, escaping: Escaping, families: &[FamilySnapshot]) {
    let families: Vec<(String, &FamilySnapshot)> = named(escaping, families).collect();
    let names: BTreeSet<&str> = families.iter().map(|(name, _)| name.as_str()).collect();
    for (name, family) in &families {
        let shown = Shown::of(name, family.kind, |other| names.contains(other));
        if !family.help.is_empty() {
            start_comment(out, "HELP", &shown.family);
            // In this format a help is a string as any other, quotes escaped.
            write_escaped_label_value(out, &family.help);
            out.push(b'\n');
        }
        start_comment(out, "TYPE", &shown.family);
        out.extend_from_slice(shown.kind.as_bytes());
        out.push(b'\n');
        if has_unit(&shown.family, &family.unit) {
            start_comment(out, "UNIT", &shown.family);
            out.extend_from_slice(family.unit.as_bytes());
            out.push(b'\n');
        }
        for series in &family.series {
            write_series(out, escaping, &shown, series);
        }
    }
    out.extend_from_slice(b"# EOF\n");
}

/// How a family is shown.
struct Shown {
    family: String,
    kind: &'static str,
    /// Of a counter's sample.
    suffix: &'static str,
}

impl Shown {
    fn of(name: &str, kind: MetricKind, is_taken: impl Fn(&str) -> bool) -> Shown {
        let shown = |family: &str, kind, suffix| Shown { family: family.to_owned(), kind, suffix };
        if kind != MetricKind::Counter {
            return shown(name, kind.as_str(), "");
        }
        let (base, other) = match name.strip_suffix(TOTAL).filter(|base| !base.is_empty()) {
            Some(base) => (base, base.to_owned()),
            None => (name, format!("{name}{TOTAL}")),
        };
        if is_taken(&other) { shown(name, "unknown", "") } else { shown(base, kind.as_str(), TOTAL) }
    }
}

/// A unit may be told only of a name that ends with it.
fn has_unit(family: &str, unit: &str) -> bool {
    !unit.is_empty() && family.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'))
}

fn write_series(out: &mut Vec<u8>, escaping: Escaping, shown: &Shown, series: &SeriesSnapshot) {
    // These formats have no exponential buckets.
    if let Some(value) = series.value.as_classic() {
        return write_series(out, escaping, shown, &SeriesSnapshot { value, ..series.clone() });
    }
    let mut lines = Lines::new(out, escaping, &shown.family, series, write_float_open_metrics);
    match &series.value {
        MetricType::Gauge { value } => lines.float("", None, *value).push(b'\n'),
        MetricType::Counter { value, exemplars } => {
            let out = lines.float(shown.suffix, None, *value);
            if shown.suffix == TOTAL {
                write_exemplar(out, escaping, exemplars.as_deref().unwrap_or_default().iter());
            }
            out.push(b'\n');
        }
        MetricType::Histogram { buckets, sum, count, exemplars } => {
            let exemplars = exemplars.as_deref().unwrap_or_default();
            let mut below = f64::NEG_INFINITY;
            for Bucket { upper_bound, cumulative_count } in buckets {
                let out = lines.sample("_bucket", Some(("le", *upper_bound)), |out| write_u64(out, *cumulative_count));
                let is_within = |exemplar: &&Exemplar| exemplar.value > below && exemplar.value <= *upper_bound;
                write_exemplar(out, escaping, exemplars.iter().filter(is_within));
                out.push(b'\n');
                below = *upper_bound;
            }
            // With negative bounds the sum may fall, and then neither it nor the count may be there.
            if buckets.iter().all(|bucket| bucket.upper_bound >= 0.0) {
                write_sum(&mut lines, *sum, *count);
            }
        }
        MetricType::Summary { quantiles, sum, count } => {
            for quantile in quantiles {
                lines.float("", Some(("quantile", quantile.quantile)), quantile.value).push(b'\n');
            }
            write_sum(&mut lines, *sum, *count);
        }
        MetricType::NativeHistogram { .. } => {}
    }
}

fn write_sum(lines: &mut Lines<'_>, sum: f64, count: u64) {
    lines.float("_sum", None, sum).push(b'\n');
    lines.sample("_count", None, |out| write_u64(out, count)).push(b'\n');
}

/// ` # {labels} value time` of the newest that the format can hold.
fn write_exemplar<'a>(
    out: &mut Vec<u8>,
    escaping: Escaping,
    oldest_first: impl DoubleEndedIterator<Item = &'a Exemplar>,
) {
    let chars = |exemplar: &Exemplar| -> usize {
        exemplar.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum()
    };
    let Some(exemplar) = oldest_first.rev().find(|exemplar| chars(exemplar) <= EXEMPLAR_CHARS_MAX) else { return };
    out.extend_from_slice(b" # {");
    out.extend_from_slice(&label_text(escaping, exemplar.labels.iter()));
    out.extend_from_slice(b"} ");
    write_float_open_metrics(out, exemplar.value);
    out.push(b' ');
    write_timestamp_seconds(out, exemplar.time_ms);
}
