//! Floats as integers over a power of ten, where that is exact to the bit.

/// Digits behind the point that are tried: beyond, a value is a measured float and no decimal.
pub(super) const EXPONENT_MAX: u8 = 15;
/// Integers stay below this in size, so that adding [`ROUNDER`] rounds to the nearest.
const LIMIT: f64 = (1u64 << 51) as f64;
/// Added and taken away again, it leaves the nearest integer: its last bit is worth one.
const ROUNDER: f64 = 1.5 * (1u64 << 52) as f64;

/// Exact powers of ten.
pub(super) const POWERS: [f64; EXPONENT_MAX as usize + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Whether a value can stand in a column of integers at all: finite, and no negative zero.
#[inline]
pub(super) fn is_regular(value: f64) -> bool {
    value.is_finite() && (value.to_bits() != (-0.0f64).to_bits())
}

#[inline]
fn scaled(value: f64, power: f64) -> Option<f64> {
    let product = value * power;
    let integer = (product + ROUNDER) - ROUNDER;
    // A quotient of exact numbers is rounded once, so it is the double nearest to the decimal.
    (product.abs() < LIMIT && integer / power == value).then_some(integer)
}

/// The smallest exponent with which every one of the regular `values` is an integer, with the integers in `out`.
pub(super) fn scale(values: &[f64], out: &mut Vec<i64>) -> Option<u8> {
    let mut exponent = 0usize;
    for &value in values {
        while scaled(value, POWERS[exponent]).is_none() {
            exponent += 1;
            if exponent > usize::from(EXPONENT_MAX) || value.abs() >= LIMIT {
                return None;
            }
        }
    }
    let power = POWERS[exponent];
    out.clear();
    out.reserve(values.len());
    for &value in values {
        // A larger exponent may be too large for a value that fitted a smaller one.
        out.push(scaled(value, power)? as i64);
    }
    Some(exponent as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_scaled_comes_back_to_the_bit(
            integers in proptest::collection::vec(-(1i64 << 40)..(1i64 << 40), 1..50),
            exponent in 0..=9u8,
            odd in any::<f64>(),
        ) {
            let power = POWERS[usize::from(exponent)];
            let mut values: Vec<f64> = integers.iter().map(|n| *n as f64 / power).collect();
            let mut out = Vec::new();
            let found = scale(&values, &mut out).unwrap();
            prop_assert!(found <= exponent);
            for (value, integer) in values.iter().zip(&out) {
                prop_assert_eq!((*integer as f64 / POWERS[usize::from(found)]).to_bits(), value.to_bits());
            }
            if is_regular(odd) {
                values.push(odd);
                if let Some(found) = scale(&values, &mut out) {
                    for (value, integer) in values.iter().zip(&out) {
                        prop_assert_eq!((*integer as f64 / POWERS[usize::from(found)]).to_bits(), value.to_bits());
                    }
                }
            }
        }
    }

    #[test]
    fn the_smallest_exponent_is_found_and_measured_floats_are_none() {
        let mut out = Vec::new();
        assert_eq!(scale(&[1.0, 2.5, -3.25], &mut out), Some(2));
        assert_eq!(out, [100, 250, -325]);
        assert_eq!(scale(&[1e17], &mut out), None);
        assert_eq!(scale(&[std::f64::consts::PI * 1e3], &mut out), None);
        assert_eq!(scale(&[4e15, 0.5], &mut out), None);
        assert!(!is_regular(-0.0) && !is_regular(f64::NAN) && is_regular(0.0));
    }
}
