//! Histograms as text: for people, and in the notation of test scripts.

use std::fmt;

use super::{NativeHistogram, ResetHint};
use crate::text::FloatText;

/// Empty buckets written between two populated ones at most; a wider gap is cut to this.
///
/// The notation has no gaps. No pair of finite floats is further apart in schema 8.
const GAP_MAX: i64 = 600_000;

/// `{count:…, sum:…, [lower,upper]:count, …}`, populated buckets in rising order, as Prometheus prints it.
impl fmt::Display for NativeHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{count:{}, sum:{}",
            FloatText::general(self.count()).as_str(),
            FloatText::general(self.sum).as_str()
        )?;
        let zero = self.zero_bucket();
        let buckets = self.negative_buckets().rev().chain(zero).chain(self.positive_buckets());
        for bucket in buckets.filter(|bucket| bucket.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}

/// Writes a histogram as test scripts do: `{{schema:1 sum:3 count:22 buckets:[5 10 7]}}`.
///
/// Fields at their default are left out; `counter_reset_hint` when it is unknown.
#[derive(Debug, Clone, Copy)]
pub struct TestNotation<'a>(pub &'a NativeHistogram);

impl fmt::Display for TestNotation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let h = self.0;
        let mut separator = "{{";
        let mut begin = |f: &mut fmt::Formatter<'_>, key: &str| {
            let written = write!(f, "{separator}{key}:");
            separator = " ";
            written
        };
        let number = FloatText::general;
        if h.schema != 0 {
            begin(f, "schema")?;
            write!(f, "{}", h.schema)?;
        }
        let fields =
            [("count", h.count()), ("sum", h.sum), ("z_bucket", h.counts.zero()), ("z_bucket_w", h.zero_threshold)];
        for (key, value) in fields {
            if value != 0.0 {
                begin(f, key)?;
                f.write_str(number(value).as_str())?;
            }
        }
        if h.has_custom_bounds() {
            begin(f, "custom_values")?;
            write_list(f, h.custom_values.iter().copied())?;
        }
        let hint = match h.hint {
            ResetHint::Unknown => None,
            ResetHint::Reset => Some("reset"),
            ResetHint::NotReset => Some("not_reset"),
            ResetHint::Gauge => Some("gauge"),
        };
        if let Some(hint) = hint {
            begin(f, "counter_reset_hint")?;
            f.write_str(hint)?;
        }
        let sides = [("offset", "buckets", h.positive_buckets()), ("n_offset", "n_buckets", h.negative_buckets())];
        for (offset_key, key, buckets) in sides {
            let mut buckets = buckets.filter(|bucket| bucket.count != 0.0);
            let Some(first) = buckets.next() else { continue };
            if first.index != 0 {
                begin(f, offset_key)?;
                write!(f, "{}", first.index)?;
            }
            let mut last = i64::from(first.index);
            let filled = std::iter::once(first.count).chain(buckets.flat_map(|bucket| {
                let gap = (i64::from(bucket.index) - last - 1).min(GAP_MAX) as usize;
                last = i64::from(bucket.index);
                std::iter::repeat_n(0.0, gap).chain([bucket.count])
            }));
            begin(f, key)?;
            write_list(f, filled)?;
        }
        // Nothing was written at all.
        if separator == "{{" {
            f.write_str("{{")?;
        }
        f.write_str("}}")
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, values: impl Iterator<Item = f64>) -> fmt::Result {
    let mut separator = "[";
    for value in values {
        write!(f, "{separator}{}", FloatText::general(value).as_str())?;
        separator = " ";
    }
    if separator == "[" {
        f.write_str("[")?;
    }
    f.write_str("]")
}
