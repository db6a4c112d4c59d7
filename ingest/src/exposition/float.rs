//! Numbers of text expositions, exactly.
//!
//! Nearly every value is a decimal of at most 15 digits. For those, digits and point are read as one whole number below
//! 2^53 and scaled by a power of ten of at most 10^22; both are exact in an `f64`, so the one division or multiplication
//! rounds once, correctly (Clinger, "How to Read Floating Point Numbers Accurately", 1990). All others go the long way
//! through [`kymo_core::text::parse_exposition_float`].

use kymo_core::histogram::NORMAL_NAN_BITS;
use kymo_core::text::{FloatError, parse_exposition_float};

/// 10^0 to 10^22: the powers of ten that an `f64` holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
/// Whole numbers up to here are exact in an `f64`.
const EXACT_MAX: u64 = 1 << 53;
/// So many digits cannot overflow a `u64`.
const DIGITS_MAX: usize = 19;

/// Reads the number at the start of `bytes` and says how long it is, if it is a plain decimal that can be read in one
/// step. What follows it is the caller's to look at.
#[inline]
pub(super) fn leading(bytes: &[u8]) -> Option<(f64, usize)> {
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    let negative = at == 1;
    let (mut whole, start) = (0u64, at);
    while let Some(digit) = digit(bytes, at) {
        whole = whole.wrapping_mul(10).wrapping_add(digit);
        at += 1;
    }
    let mut digits = at - start;
    let mut exponent = 0i32;
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        let point = at;
        while let Some(digit) = digit(bytes, at) {
            whole = whole.wrapping_mul(10).wrapping_add(digit);
            at += 1;
        }
        exponent = -i32::try_from(at - point).ok()?;
        digits += at - point;
    }
    if digits == 0 || digits > DIGITS_MAX || whole > EXACT_MAX {
        return None;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        let sign = bytes.get(at).copied();
        at += usize::from(matches!(sign, Some(b'+' | b'-')));
        let (mut scale, start) = (0i32, at);
        while let Some(digit) = digit(bytes, at) {
            // More digits than any exponent has go the long way.
            if at - start == 3 {
                return None;
            }
            scale = scale * 10 + digit as i32;
            at += 1;
        }
        if at == start {
            return None;
        }
        exponent += if sign == Some(b'-') { -scale } else { scale };
    }
    let scale = *POWERS.get(exponent.unsigned_abs() as usize)?;
    let magnitude = if exponent < 0 { whole as f64 / scale } else { whole as f64 * scale };
    Some((if negative { -magnitude } else { magnitude }, at))
}

#[inline]
fn digit(bytes: &[u8], at: usize) -> Option<u64> {
    let digit = bytes.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// Reads a whole token as Prometheus does. NaN becomes the one normal NaN.
pub(super) fn parse(token: &[u8]) -> Result<f64, FloatError> {
    if let Some((value, len)) = leading(token)
        && len == token.len()
    {
        return Ok(value);
    }
    let text = std::str::from_utf8(token).map_err(|_| FloatError::Syntax)?;
    let value = parse_exposition_float(text)?;
    Ok(if value.is_nan() { f64::from_bits(NORMAL_NAN_BITS) } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_are_read_as_prometheus_reads_them() {
        let table: [(&str, Result<f64, FloatError>); 22] = [
            ("0", Ok(0.0)),
            ("-0", Ok(-0.0)),
            ("1", Ok(1.0)),
            ("+1", Ok(1.0)),
            ("1.", Ok(1.0)),
            (".5", Ok(0.5)),
            ("7.424100000000001e-05", Ok(7.424_100_000_000_001e-5)),
            ("9007199254740993", Ok(9_007_199_254_740_992.0)),
            ("18446744073709551616", Ok(18_446_744_073_709_551_616.0)),
            ("1e22", Ok(1e22)),
            ("1e23", Ok(1e23)),
            ("1e0022", Ok(1e22)),
            ("2.2250738585072014e-308", Ok(f64::MIN_POSITIVE)),
            ("+Inf", Ok(f64::INFINITY)),
            ("-inf", Ok(f64::NEG_INFINITY)),
            ("1e999", Err(FloatError::Range)),
            ("", Err(FloatError::Syntax)),
            (".", Err(FloatError::Syntax)),
            ("1e", Err(FloatError::Syntax)),
            ("1_2", Err(FloatError::Syntax)),
            ("0x1p-3", Err(FloatError::Syntax)),
            ("1 ", Err(FloatError::Syntax)),
        ];
        for (token, wanted) in table {
            assert_eq!(parse(token.as_bytes()).map(f64::to_bits), wanted.map(f64::to_bits), "{token:?}");
        }
        assert_eq!(parse(b"nan").unwrap().to_bits(), NORMAL_NAN_BITS);
        assert_eq!(parse(b"NaN").unwrap().to_bits(), NORMAL_NAN_BITS);
    }

    proptest! {
        #[test]
        fn the_short_way_never_differs_from_the_long_one(text in "-?[0-9]{0,20}\\.?[0-9]{0,20}(e[+-]?[0-9]{0,4})?") {
            let long = parse_exposition_float(&text);
            prop_assert_eq!(parse(text.as_bytes()).map(f64::to_bits), long.map(f64::to_bits));
        }

        #[test]
        fn every_float_comes_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            let text = kymo_core::text::FloatText::general(value);
            let again = parse(text.as_str().as_bytes()).unwrap();
            prop_assert!(again.to_bits() == bits || value.is_nan() && again.to_bits() == NORMAL_NAN_BITS);
        }
    }
}
