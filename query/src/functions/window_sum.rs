//! Sums over sliding windows in constant time each, to the last bit.
//!
//! A running sum that adds what enters and subtracts what leaves would depend on where the sliding began.
//! Here a window's sum is the exact sum of its values, rounded once: values are whole multiples of a power of
//! two, so their running totals are whole numbers, and the difference of two totals has no error. What the
//! answer is therefore depends on the window's values alone.
//!
//! Where values lie too far apart for 128 bits, and where one is infinite or NaN, the window is summed value
//! by value with compensation. Invariant: which of both happens also depends on the window's values alone,
//! because a series that fits has only windows that fit, and a window is tried by itself when its series does not.

use super::over_time;

/// Bits of a total that values may use; one more is the sign's.
const BITS: i32 = 126;
/// Values from 2^this on could overflow in a sum, which has rules of its own.
const EXPONENT_MAX: i32 = 900;
/// Values with bits below 2^this could leave a sum that rounds twice on its way to a float.
const EXPONENT_MIN: i32 = -900;

/// Totals of one series.
#[derive(Debug, Default)]
pub(crate) struct WindowSums {
    /// Before each value, and behind the last; empty if the series does not fit.
    totals: Vec<i128>,
    /// Weight of a total's lowest bit, as a power of two.
    unit: i32,
}

/// The lowest and the highest bit of some values, as powers of two.
#[derive(Debug, Clone, Copy)]
struct Extent {
    low: i32,
    high: i32,
}

impl Extent {
    /// `None` if one of the values is not finite.
    fn of(values: &[f64]) -> Option<Extent> {
        let mut extent = Extent { low: i32::MAX, high: i32::MIN };
        for &value in values {
            if !value.is_finite() {
                return None;
            }
            if value != 0.0 {
                let (mantissa, exponent) = parts(value);
                extent.low = extent.low.min(exponent + mantissa.trailing_zeros() as i32);
                extent.high = extent.high.max(exponent + 64 - mantissa.leading_zeros() as i32);
            }
        }
        Some(extent)
    }

    /// Whether so many values of this extent can be added in whole numbers.
    fn fits(self, count: usize) -> bool {
        let carries = 64 - (count as u64).leading_zeros() as i32;
        self.low > self.high
            || (self.low > EXPONENT_MIN && self.high < EXPONENT_MAX && self.high - self.low + carries <= BITS)
    }
}

/// Magnitude as a whole number times a power of two.
fn parts(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let (exponent, mantissa) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
    if exponent == 0 { (mantissa, -1074) } else { (mantissa | 1 << 52, exponent - 1075) }
}

/// The value in units of 2^`unit`.
fn whole(value: f64, unit: i32) -> i128 {
    let (mantissa, exponent) = parts(value);
    let shift = exponent - unit;
    // Bits that a shift to the right drops are zeros, or `unit` would be lower.
    let magnitude = if shift >= 0 { i128::from(mantissa) << shift } else { i128::from(mantissa >> -shift) };
    if value < 0.0 { -magnitude } else { magnitude }
}

impl WindowSums {
    /// Takes a series.
    pub(crate) fn take(&mut self, values: &[f64]) {
        self.totals.clear();
        let Some(extent) = Extent::of(values).filter(|extent| extent.fits(values.len())) else { return };
        self.unit = if extent.low > extent.high { 0 } else { extent.low };
        let mut total = 0;
        self.totals.push(total);
        self.totals.extend(values.iter().map(|&value| {
            if value != 0.0 {
                total += whole(value, self.unit);
            }
            total
        }));
    }

    /// Bytes held for a series of so many values.
    pub(crate) fn bytes(values: usize) -> u64 {
        (values as u64 + 1) * size_of::<i128>() as u64
    }

    /// The sum of `values[begin..end]` of the series taken.
    pub(crate) fn sum(&self, values: &[f64], begin: usize, end: usize) -> f64 {
        match (self.totals.get(begin), self.totals.get(end)) {
            (Some(before), Some(behind)) => in_units(behind - before, self.unit),
            _ => sum(&values[begin..end]),
        }
    }

    /// The mean of `values[begin..end]`, which are some.
    pub(crate) fn mean(&self, values: &[f64], begin: usize, end: usize) -> f64 {
        match (self.totals.get(begin), self.totals.get(end)) {
            (Some(before), Some(behind)) => in_units(behind - before, self.unit) / (end - begin) as f64,
            _ => mean(&values[begin..end]),
        }
    }
}

/// The sum of one window.
pub(crate) fn sum(values: &[f64]) -> f64 {
    exact(values).unwrap_or_else(|| over_time::sum(values))
}

/// The mean of one window.
pub(crate) fn mean(values: &[f64]) -> f64 {
    exact(values).map_or_else(|| over_time::avg(values), |sum| sum / values.len() as f64)
}

/// The exact sum, rounded once; `None` where it has to be made another way.
fn exact(values: &[f64]) -> Option<f64> {
    let extent = Extent::of(values).filter(|extent| extent.fits(values.len()))?;
    let unit = if extent.low > extent.high { 0 } else { extent.low };
    let nonzero = values.iter().filter(|value| **value != 0.0);
    Some(in_units(nonzero.map(|&value| whole(value, unit)).sum(), unit))
}

/// A whole number of units as the nearest float. The scaling has no error: [`Extent::fits`] keeps results normal.
fn in_units(total: i128, unit: i32) -> f64 {
    total as f64 * f64::from_bits(((unit + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sums_have_one_rounding() {
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[1e15, 0.3, -1e15]), 0.3);
        assert_eq!((sum(&[]), sum(&[-0.0, 0.0]), mean(&[3.0, 4.0])), (0.0, 0.0, 3.5));
        assert_eq!(sum(&[1e300, 1.0, -1e300]), 1.0);
        assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(mean(&[f64::MAX, f64::MAX]), f64::MAX);
        assert!(sum(&[1.0, f64::NAN]).is_nan());
        assert_eq!(sum(&[5e-324, 1.0]), 1.0);
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![
            8 => (-1000i32..1000).prop_map(|n| f64::from(n) / 8.0),
            8 => any::<i32>().prop_map(|n| f64::from(n) * 0.1),
            2 => -1e12..1e12f64,
            1 => any::<f64>(),
        ];
        prop::collection::vec(value, 1..60)
    }

    proptest! {
        #[test]
        fn a_window_has_the_same_sum_wherever_its_series_begins(
            values in values(), skip in 0usize..60, begin in 0usize..60, len in 1usize..60
        ) {
            let begin = begin % values.len();
            let end = (begin + len).min(values.len());
            let skip = skip.min(begin);
            let (mut whole, mut tail) = (WindowSums::default(), WindowSums::default());
            whole.take(&values);
            tail.take(&values[skip..]);
            let found = [
                whole.sum(&values, begin, end),
                tail.sum(&values[skip..], begin - skip, end - skip),
                sum(&values[begin..end]),
            ];
            prop_assert_eq!(found[0].to_bits(), found[1].to_bits());
            prop_assert_eq!(found[0].to_bits(), found[2].to_bits());
            let compensated = over_time::sum(&values[begin..end]);
            let scale: f64 = values[begin..end].iter().map(|v| v.abs()).sum();
            prop_assert!(
                found[0] == compensated || (found[0] - compensated).abs() <= 1e-15 * scale
                    || (found[0].is_nan() && compensated.is_nan()),
                "{} {}", found[0], compensated
            );
            let means = [whole.mean(&values, begin, end), mean(&values[begin..end])];
            prop_assert_eq!(means[0].to_bits(), means[1].to_bits());
        }
    }
}
