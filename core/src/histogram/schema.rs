//! Where exponential buckets end, and coarser resolutions.

use super::bounds::OCTAVE;
use super::layout::{entries, from_entries};
use super::{BucketCounts, BucketSpan, HistogramCounts, NativeHistogram, SCHEMA_MAX, SCHEMA_MIN};

/// Why a histogram cannot be brought to a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// Custom bounds have no coarser schema.
    #[error("cannot reduce resolution when there are custom buckets")]
    Custom,
    /// Resolution can only be given up.
    #[error("cannot reduce resolution from schema {from} to {to}")]
    Finer {
        /// The histogram's schema.
        from: i8,
        /// The schema asked for.
        to: i8,
    },
}

/// Whether `schema` is an exponential one.
#[must_use]
pub fn is_exponential(schema: i8) -> bool {
    (SCHEMA_MIN..=SCHEMA_MAX).contains(&schema)
}

/// Upper bound of bucket `index` of an exponential `schema`; its lower bound is that of `index − 1`.
///
/// Bit for bit as Prometheus: the last bucket below overflow ends at [`f64::MAX`], the one after it at +∞.
/// `schema` is taken into −4..=8.
#[must_use]
pub fn exponential_bound(index: i32, schema: i8) -> f64 {
    let schema = schema.clamp(SCHEMA_MIN, SCHEMA_MAX);
    let index = i64::from(index);
    if schema < 0 {
        let exponent = index << -schema;
        return if exponent == 1024 { f64::MAX } else { ldexp(1.0, exponent) };
    }
    let in_octave = (index & ((1 << schema) - 1)) as usize;
    let fraction = OCTAVE[in_octave << (SCHEMA_MAX - schema)];
    let exponent = (index >> schema) + 1;
    if fraction == 0.5 && exponent == 1025 { f64::MAX } else { ldexp(fraction, exponent) }
}

/// Index of the bucket of an exponential `schema` that holds `value`: the lowest whose [`exponential_bound`] is not below
/// it.
///
/// `value` is finite and above zero; a negative value lies in the negative bucket of its magnitude. `schema` is taken into
/// −4..=8. O(log of the buckets of one octave), does not allocate.
#[must_use]
pub fn exponential_index(value: f64, schema: i8) -> i32 {
    const SUBNORMAL_SHIFT: i32 = 54;
    let schema = schema.clamp(SCHEMA_MIN, SCHEMA_MAX);
    let is_normal = value >= f64::MIN_POSITIVE;
    let (bits, shift) = match is_normal {
        true => (value.to_bits(), 0),
        false => ((value * power_of_two(i64::from(SUBNORMAL_SHIFT))).to_bits(), SUBNORMAL_SHIFT),
    };
    // value = fraction · 2^exponent, the fraction in [0.5, 1).
    let exponent = (bits >> 52) as i32 - 1022 - shift;
    let fraction = f64::from_bits((bits & ((1 << 52) - 1)) | (1022 << 52));
    if schema <= 0 {
        let exponent = if fraction == 0.5 { exponent - 1 } else { exponent };
        return (exponent + (1 << -schema) - 1) >> -schema;
    }
    let below = OCTAVE.partition_point(|bound| *bound < fraction) as i32;
    // Among the bounds of this schema: every 2^(8 − schema)th.
    let in_octave = (below + (1 << (SCHEMA_MAX - schema)) - 1) >> (SCHEMA_MAX - schema);
    in_octave + ((exponent - 1) << schema)
}

/// Which bucket of a coarser schema holds bucket `index` of schema `from`. `to` must not be finer.
#[must_use]
pub fn coarser_index(index: i32, from: i8, to: i8) -> i32 {
    let steps = u32::from(from.saturating_sub(to).unsigned_abs()).min(31);
    ((i64::from(index) - 1) >> steps) as i32 + 1
}

/// `fraction` · 2^`exponent`, rounded once. `fraction` lies in `[0.5, 1]`.
fn ldexp(fraction: f64, exponent: i64) -> f64 {
    const STEP: i64 = 1000;
    let mut left = exponent.clamp(-3 * STEP, 3 * STEP);
    let mut value = fraction;
    // Whole steps first: the value stays normal until the last product, which alone may round.
    while left.abs() > STEP {
        let step = STEP * left.signum();
        value *= power_of_two(step);
        left -= step;
    }
    value * power_of_two(left)
}

/// 2^`exponent` for exponents of normal floats.
fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

impl NativeHistogram {
    /// The same observations at a coarser exponential schema; counts keep their kind.
    ///
    /// # Errors
    /// [`SchemaError`] for custom bounds, and when `schema` is finer than this histogram's.
    pub fn at_schema(&self, schema: i8) -> Result<NativeHistogram, SchemaError> {
        if self.schema == schema {
            return Ok(self.clone());
        }
        if self.has_custom_bounds() {
            return Err(SchemaError::Custom);
        }
        if schema > self.schema || !is_exponential(schema) {
            return Err(SchemaError::Finer { from: self.schema, to: schema });
        }
        let mut coarse = self.clone();
        coarse.schema = schema;
        match &mut coarse.counts {
            HistogramCounts::Integer(c) => {
                reduce_both(c, &mut coarse.positive_spans, &mut coarse.negative_spans, self.schema, schema);
            }
            HistogramCounts::Float(c) => {
                reduce_both(c, &mut coarse.positive_spans, &mut coarse.negative_spans, self.schema, schema);
            }
        }
        Ok(coarse)
    }
}

fn reduce_both<T: Copy + std::ops::AddAssign>(
    counts: &mut BucketCounts<T>,
    positive: &mut Vec<BucketSpan>,
    negative: &mut Vec<BucketSpan>,
    from: i8,
    to: i8,
) {
    for (spans, buckets) in [(positive, &mut counts.positive), (negative, &mut counts.negative)] {
        let mut merged: Vec<(i32, T)> = Vec::with_capacity(buckets.len());
        for (index, count) in entries(spans, buckets) {
            let index = coarser_index(index, from, to);
            match merged.last_mut() {
                Some((last, sum)) if *last == index => *sum += count,
                _ => merged.push((index, count)),
            }
        }
        (*spans, *buckets) = from_entries(merged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_powers_and_the_last_bucket_ends_at_the_largest_float() {
        let rows = [
            (0, 0, 1.0),
            (1, 0, 2.0),
            (-3, 0, 0.125),
            (1, 1, 2.0 * 0.707_106_781_186_547_5),
            (2, 1, 2.0),
            (1, -1, 4.0),
            (-1, -2, 0.0625),
            (1, 8, 1.002_711_275_050_202_6),
            (-1074, 0, 5e-324),
            (-1075, 0, 0.0),
            (1024, 0, f64::MAX),
            (1025, 0, f64::INFINITY),
            (64, -4, f64::MAX),
            (65, -4, f64::INFINITY),
            (1024 << 8, 8, f64::MAX),
            (i32::MAX, 8, f64::INFINITY),
            (i32::MIN, -4, 0.0),
        ];
        for (index, schema, bound) in rows {
            assert_eq!(exponential_bound(index, schema), bound, "bucket {index} of schema {schema}");
        }
    }

    #[test]
    fn a_value_lies_between_the_bounds_of_its_bucket() {
        let values = (-1074..=1023).flat_map(|exponent| {
            let power = ldexp(0.5, exponent + 1);
            [power, power.next_up(), power * 1.3, power * 1.999]
        });
        for value in values.chain([f64::MIN_POSITIVE, f64::MAX, 5e-324, 1.0, 1.0_f64.next_down()]) {
            for schema in SCHEMA_MIN..=SCHEMA_MAX {
                let index = exponential_index(value, schema);
                let (lower, upper) = (exponential_bound(index - 1, schema), exponential_bound(index, schema));
                // Bounds among the smallest floats are themselves rounded to one of them.
                let is_above = lower < value || (lower == value && value < f64::MIN_POSITIVE);
                assert!(is_above && value <= upper, "{value:e} in ({lower:e}, {upper:e}] of schema {schema}");
            }
        }
        for schema in SCHEMA_MIN..=SCHEMA_MAX {
            for index in (-700..700).filter(|index| exponential_bound(index - 1, schema) >= f64::MIN_POSITIVE) {
                let bound = exponential_bound(index, schema);
                if bound.is_finite() {
                    assert_eq!(exponential_index(bound, schema), index, "bound {bound:e} of schema {schema}");
                }
            }
        }
    }

    #[test]
    fn a_coarser_bucket_ends_where_its_last_fine_one_does() {
        for from in SCHEMA_MIN..=SCHEMA_MAX {
            for to in SCHEMA_MIN..=from {
                for index in -600..600 {
                    let coarse = coarser_index(index, from, to);
                    assert!(exponential_bound(index, from) <= exponential_bound(coarse, to));
                    assert!(exponential_bound(index - 1, from) >= exponential_bound(coarse - 1, to));
                }
            }
        }
    }
}
