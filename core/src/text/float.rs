//! Floats as Go's `strconv` writes and reads them.
//!
//! Every form starts from the shortest decimal digits that read back as the same bits. `zmij` gives exactly
//! those digits, so what is left is placing the point and the exponent. Whole numbers
//! below 2^53 take a shorter way: their decimal digits without trailing zeros *are* the shortest
//! digits, because any shorter decimal would be a different whole number.
//!
//! Sign and zero follow Go: −0 keeps its sign (`-0`), a NaN prints as `NaN` whatever its payload.

use std::fmt;

use super::sink::{TextSink, push_display};

/// Longest text of the forms kept on the stack: sign, `0.`, five zeros and 17 digits are 25 bytes;
/// the longest exponent form (`-1.7976931348623157e+308`) has 24.
const TEXT_BYTES_MAX: usize = 32;

/// Below this magnitude every whole number is exact in an `f64` (2^53).
const EXACT_INTEGER_END: f64 = 9_007_199_254_740_992.0;

/// Shortest round-trip digits of an `f64` are at most this many.
const DIGITS_MAX: usize = 17;

/// A float's text, kept on the stack.
///
/// ```
/// use kymo_core::text::FloatText;
///
/// assert_eq!(FloatText::general(1_000_000.0).as_str(), "1e+06");
/// assert_eq!(FloatText::json(1_000_000.0).as_str(), "1000000");
/// assert_eq!(FloatText::open_metrics(1.0).as_str(), "1.0");
/// ```
#[derive(Clone, Copy)]
pub struct FloatText {
    bytes: [u8; TEXT_BYTES_MAX],
    len: u8,
}

impl FloatText {
    /// Go's `%v`, `%g` and `FormatFloat(v, 'g', -1, 64)`, which is also the exposition's float:
    /// exponent form when the decimal exponent is below −4 or at least 6 (`1e+06`, `1e-05`).
    pub fn general(value: f64) -> Self {
        Self::new(value, |exponent| !GENERAL_EXPONENTS.contains(&exponent))
    }

    /// Go's `FormatFloat(v, 'e', -1, 64)`: always with an exponent of at least two digits.
    pub fn exponent(value: f64) -> Self {
        Self::new(value, |_| true)
    }

    /// The Prometheus API's sample value, without its quotes: exponent form when |v| < 1e-6 or
    /// |v| ≥ 1e21, and never for zero.
    pub fn json(value: f64) -> Self {
        let whole = value as i64;
        if whole as f64 == value && whole.unsigned_abs() < EXACT_INTEGER_END as u64 && whole != 0 {
            let mut text = Self { bytes: [0; TEXT_BYTES_MAX], len: 0 };
            if whole < 0 {
                text.push(b"-");
            }
            text.push(integer_digits(whole.unsigned_abs(), &mut [0; INTEGER_BYTES_MAX]));
            return text;
        }
        if PLAIN_FRACTIONS.contains(&value.abs()) {
            let mut buffer = zmij::Buffer::new();
            let shortest = buffer.format_finite(value).as_bytes();
            if !shortest.contains(&b'e') {
                let mut text = Self { bytes: [0; TEXT_BYTES_MAX], len: 0 };
                text.push(shortest);
                return text;
            }
        }
        Self::new(value, |exponent| !JSON_EXPONENTS.contains(&exponent))
    }

    /// The OpenMetrics canonical form: [`general`](Self::general), with `.0` where neither a point
    /// nor an exponent shows that the number is a float.
    pub fn open_metrics(value: f64) -> Self {
        let mut text = Self::general(value);
        if value.is_finite() && !text.as_str().bytes().any(|byte| matches!(byte, b'.' | b'e')) {
            text.push(b".0");
        }
        text
    }

    /// The text, and behind it zeros up to a length that is the same for every text: appending all of it and cutting it
    /// back takes less than appending as much as there is.
    pub fn padded(&self) -> (&[u8; 32], usize) {
        (&self.bytes, self.len.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn new(value: f64, wants_exponent: impl Fn(i32) -> bool) -> Self {
        let mut text = Self { bytes: [0; TEXT_BYTES_MAX], len: 0 };
        if let Some(special) = special_text(value) {
            text.push(special.as_bytes());
            return text;
        }
        if value.is_sign_negative() {
            text.push(b"-");
        }
        let digits = Digits::shortest(value.abs());
        if value != 0.0 && wants_exponent(digits.exponent) {
            text.push_with_exponent(&digits);
        } else if value == 0.0 && wants_exponent(0) {
            text.push(b"0e+00");
        } else {
            text.push_without_exponent(&digits);
        }
        text
    }

    fn push_with_exponent(&mut self, digits: &Digits) {
        let (first, rest) = digits.as_bytes().split_at(1);
        self.push(first);
        if !rest.is_empty() {
            self.push(b".");
            self.push(rest);
        }
        self.push(if digits.exponent < 0 { b"e-" } else { b"e+" });
        let magnitude = digits.exponent.unsigned_abs();
        if magnitude < 10 {
            self.push(b"0");
        }
        let mut buffer = [0; INTEGER_BYTES_MAX];
        self.push(integer_digits(u64::from(magnitude), &mut buffer));
    }

    fn push_without_exponent(&mut self, digits: &Digits) {
        let bytes = digits.as_bytes();
        let Ok(exponent) = usize::try_from(digits.exponent) else {
            self.push(b"0.");
            for _ in 1..digits.exponent.unsigned_abs() {
                self.push(b"0");
            }
            self.push(bytes);
            return;
        };
        let whole = exponent + 1;
        if whole >= bytes.len() {
            self.push(bytes);
            for _ in bytes.len()..whole {
                self.push(b"0");
            }
        } else {
            let (before, after) = bytes.split_at(whole);
            self.push(before);
            self.push(b".");
            self.push(after);
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }
}

impl fmt::Display for FloatText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for FloatText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Decimal exponents that Go's shortest `'g'` writes without an exponent.
const GENERAL_EXPONENTS: std::ops::Range<i32> = -4..6;

/// Decimal exponents that the Prometheus API writes without an exponent.
const JSON_EXPONENTS: std::ops::Range<i32> = -6..21;

/// What the API's form writes without an exponent.
const PLAIN: std::ops::Range<f64> = 1e-6..1e21;

/// Fractions that every form but the one that always has an exponent writes plainly.
const PLAIN_FRACTIONS: std::ops::Range<f64> = 1e-4..1e15;

/// Appends Go's `%v` of `value`; see [`FloatText::general`].
pub fn write_float_general<S: TextSink + ?Sized>(out: &mut S, value: f64) {
    out.push_ascii(FloatText::general(value).as_bytes());
}

/// Appends Go's shortest `'e'` form of `value`; see [`FloatText::exponent`].
pub fn write_float_exponent<S: TextSink + ?Sized>(out: &mut S, value: f64) {
    out.push_ascii(FloatText::exponent(value).as_bytes());
}

/// Appends the Prometheus API's text of `value`, without quotes; see [`FloatText::json`].
pub fn write_float_json<S: TextSink + ?Sized>(out: &mut S, value: f64) {
    out.push_ascii(FloatText::json(value).as_bytes());
}

/// Appends the OpenMetrics text of `value`; see [`FloatText::open_metrics`].
pub fn write_float_open_metrics<S: TextSink + ?Sized>(out: &mut S, value: f64) {
    out.push_ascii(FloatText::open_metrics(value).as_bytes());
}

/// Appends Go's `FormatFloat(value, 'f', -1, 64)`: never an exponent, so up to 345 bytes.
///
/// Prometheus prints samples this way in its own listings (`3 @[1000]`).
pub fn write_float_plain<S: TextSink + ?Sized>(out: &mut S, value: f64) {
    match special_text(value) {
        Some(special) => out.push_str(special),
        // Rust's `Display` has the same digits but where two are equally near, which is far within the range of `json`.
        None if value != 0.0 && !PLAIN.contains(&value.abs()) => push_display(out, format_args!("{value}")),
        None => out.push_ascii(FloatText::json(value).as_bytes()),
    }
}

/// Appends `value` in decimal.
#[inline]
pub fn write_u64<S: TextSink + ?Sized>(out: &mut S, value: u64) {
    if value < EIGHT_DIGITS_END {
        let digits = eight_digits(value);
        // The last digit is shown even where it is zero, too.
        let zeros = (digits.trailing_zeros() / 8).min(7);
        out.push_few(((digits | ASCII_ZEROS) >> (8 * zeros)).to_le_bytes(), 8 - zeros as usize);
    } else {
        write_long(out, value);
    }
}

#[cold]
fn write_long<S: TextSink + ?Sized>(out: &mut S, value: u64) {
    write_u64(out, value / EIGHT_DIGITS_END);
    out.push_few((eight_digits(value % EIGHT_DIGITS_END) | ASCII_ZEROS).to_le_bytes(), 8);
}

/// The least number of nine digits.
const EIGHT_DIGITS_END: u64 = 100_000_000;

/// Eight times `0`.
const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;

/// The digits of a number below [`EIGHT_DIGITS_END`], a byte each, the first of the eight in the lowest byte.
///
/// All are found at once: first two halves of four digits in lanes of 32 bits, then pairs in lanes of 16, then digits. A
/// lane is divided by multiplying with the rounded reciprocal, which is exact for what it can hold.
#[inline]
fn eight_digits(value: u64) -> u64 {
    let fours = (value / 10_000) | ((value % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let twos = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((twos - tens * 10) << 8)
}

/// Appends `value` in decimal.
pub fn write_i64<S: TextSink + ?Sized>(out: &mut S, value: i64) {
    if value < 0 {
        out.push_str("-");
    }
    write_u64(out, value.unsigned_abs());
}

fn special_text(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value == f64::INFINITY {
        Some("+Inf")
    } else if value == f64::NEG_INFINITY {
        Some("-Inf")
    } else {
        None
    }
}

/// The shortest digits of a finite number that is not negative: `d.ddd × 10^exponent`, without
/// trailing zeros.
struct Digits {
    bytes: [u8; DIGITS_MAX + 3],
    len: usize,
    exponent: i32,
}

impl Digits {
    fn shortest(value: f64) -> Self {
        if value < EXACT_INTEGER_END && value.trunc() == value {
            return Self::of_integer(value as u64);
        }
        let mut buffer = zmij::Buffer::new();
        Self::of_text(buffer.format_finite(value).as_bytes())
    }

    /// Of decimal text with any of point, leading zeros, trailing zeros and exponent; not zero.
    fn of_text(text: &[u8]) -> Self {
        let mut digits = Self { bytes: [0; DIGITS_MAX + 3], len: 0, exponent: 0 };
        // Digits before the point, less the zeros that stand behind it before the first digit.
        let (mut before_point, mut past_point) = (0, false);
        let mut at = 0;
        while at < text.len() && text[at] != b'e' {
            match text[at] {
                b'.' => past_point = true,
                b'0' if digits.len == 0 => before_point -= i32::from(past_point),
                digit => {
                    if digits.len < digits.bytes.len() {
                        digits.bytes[digits.len] = digit;
                        digits.len += 1;
                    }
                    before_point += i32::from(!past_point);
                }
            }
            at += 1;
        }
        let (sign, exponent) = match text.get(at + 1..).unwrap_or_default() {
            [b'-', rest @ ..] => (-1, rest),
            [b'+', rest @ ..] | rest => (1, rest),
        };
        let exponent = exponent.iter().fold(0, |sum, &digit| sum * 10 + i32::from(digit - b'0'));
        while digits.len > 1 && digits.bytes[digits.len - 1] == b'0' {
            digits.len -= 1;
        }
        digits.exponent = before_point - 1 + sign * exponent;
        digits
    }

    fn of_integer(value: u64) -> Self {
        let mut digits = Self { bytes: [0; DIGITS_MAX + 3], len: 0, exponent: 0 };
        let mut buffer = [0; INTEGER_BYTES_MAX];
        let text = integer_digits(value, &mut buffer);
        digits.exponent = text.len() as i32 - 1;
        digits.len = text.iter().rposition(|&digit| digit != b'0').map_or(1, |last| last + 1);
        digits.bytes[..digits.len].copy_from_slice(&text[..digits.len]);
        digits
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Digits of `u64::MAX`.
const INTEGER_BYTES_MAX: usize = 20;

fn integer_digits(mut value: u64, buffer: &mut [u8; INTEGER_BYTES_MAX]) -> &[u8] {
    let mut start = INTEGER_BYTES_MAX;
    while value >= 100 {
        let pair = (value % 100) as usize * 2;
        value /= 100;
        start -= 2;
        buffer[start..start + 2].copy_from_slice(&DIGIT_PAIRS[pair..pair + 2]);
    }
    if value >= 10 {
        start -= 2;
        let pair = value as usize * 2;
        buffer[start..start + 2].copy_from_slice(&DIGIT_PAIRS[pair..pair + 2]);
    } else {
        start -= 1;
        buffer[start] = b'0' + value as u8;
    }
    &buffer[start..]
}

/// `00` to `99`.
const DIGIT_PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut number = 0;
    while number < 100 {
        pairs[2 * number] = b'0' + (number / 10) as u8;
        pairs[2 * number + 1] = b'0' + (number % 10) as u8;
        number += 1;
    }
    pairs
};

/// Why text is not a float.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FloatError {
    /// Not a number in any accepted form.
    #[error("invalid syntax")]
    Syntax,
    /// A number, but beyond the largest finite `f64`.
    #[error("value out of range")]
    Range,
}

/// Reads a float as Go's `strconv.ParseFloat` does, without its underscores.
///
/// Accepts decimal and hexadecimal (`0x1p-2`; the exponent is required) numbers, `Inf`, `Infinity`
/// with a sign, and `NaN` without one, in any case. Rounds to nearest, ties to even.
///
/// # Errors
/// [`FloatError::Range`] when a written number rounds to infinity, else [`FloatError::Syntax`].
pub fn parse_float(text: &str) -> Result<f64, FloatError> {
    let (negative, unsigned) = split_sign(text);
    let magnitude = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', rest @ ..] => parse_hexadecimal(rest)?,
        _ => return parse_exposition_float(text),
    };
    Ok(if negative { -magnitude } else { magnitude })
}

/// Reads a float as Prometheus' text formats do: [`parse_float`] without hexadecimal numbers.
///
/// # Errors
/// As [`parse_float`].
pub fn parse_exposition_float(text: &str) -> Result<f64, FloatError> {
    let (negative, unsigned) = split_sign(text);
    match unsigned.as_bytes() {
        [b'0'..=b'9' | b'.', ..] => {
            let value: f64 = text.parse().map_err(|_| FloatError::Syntax)?;
            if value.is_finite() { Ok(value) } else { Err(FloatError::Range) }
        }
        _ if unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity") => {
            Ok(if negative { f64::NEG_INFINITY } else { f64::INFINITY })
        }
        _ if text.eq_ignore_ascii_case("nan") => Ok(f64::NAN),
        _ => Err(FloatError::Syntax),
    }
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    }
}

/// Reads what follows `0x`: hexadecimal digits with an optional point, then `p` and an exponent.
fn parse_hexadecimal(text: &[u8]) -> Result<f64, FloatError> {
    let p = text.iter().position(|byte| matches!(byte, b'p' | b'P')).ok_or(FloatError::Syntax)?;
    // Bits beyond the 60th only decide ties, so one sticky bit stands for all of them.
    let mut mantissa: u64 = 0;
    let mut exponent: i64 = 0;
    let mut seen_digit = false;
    let mut seen_point = false;
    for &byte in &text[..p] {
        if byte == b'.' && !seen_point {
            seen_point = true;
            continue;
        }
        let digit = char::from(byte).to_digit(16).ok_or(FloatError::Syntax)?;
        seen_digit = true;
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | u64::from(digit);
            exponent -= if seen_point { 4 } else { 0 };
        } else {
            mantissa |= u64::from(digit != 0);
            exponent += if seen_point { 0 } else { 4 };
        }
    }
    if !seen_digit {
        return Err(FloatError::Syntax);
    }
    exponent = exponent.saturating_add(parse_exponent(&text[p + 1..])?);
    scale_by_power_of_two(mantissa, exponent)
}

/// A decimal exponent, saturating far beyond any float's range.
fn parse_exponent(text: &[u8]) -> Result<i64, FloatError> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return Err(FloatError::Syntax);
    }
    let mut value: i64 = 0;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return Err(FloatError::Syntax);
        }
        value = (value * 10 + i64::from(byte - b'0')).min(1 << 40);
    }
    Ok(if negative { -value } else { value })
}

/// `mantissa × 2^exponent`, rounded to nearest, ties to even; subnormal results are rounded once.
fn scale_by_power_of_two(mantissa: u64, exponent: i64) -> Result<f64, FloatError> {
    const MANTISSA_BITS: i64 = 53;
    const EXPONENT_MIN: i64 = -1074;
    const EXPONENT_MAX: i64 = 971;
    if mantissa == 0 {
        return Ok(0.0);
    }
    let bits = 64 - i64::from(mantissa.leading_zeros());
    // How many low bits do not fit; negative where there is room.
    let dropped = (bits - MANTISSA_BITS).max(EXPONENT_MIN.saturating_sub(exponent));
    if dropped > 64 {
        return Ok(0.0);
    }
    let (mut kept, mut exponent) = (mantissa, exponent);
    if dropped > 0 {
        let wide = u128::from(mantissa);
        let half = 1_u128 << (dropped - 1);
        let rest = wide & ((1_u128 << dropped) - 1);
        kept = (wide >> dropped) as u64;
        if rest > half || (rest == half && kept & 1 == 1) {
            kept += 1;
        }
        exponent += dropped;
    }
    // `kept` has at most 54 bits with a zero below the 53rd, so it converts exactly.
    if exponent > EXPONENT_MAX {
        let shift = exponent - EXPONENT_MAX;
        let room = MANTISSA_BITS - (64 - i64::from(kept.leading_zeros()));
        if shift > room {
            return Err(FloatError::Range);
        }
        kept <<= shift;
        exponent = EXPONENT_MAX;
    }
    // Two exact multiplications by powers of two reach both ends of the range.
    let first = exponent / 2;
    let value = kept as f64 * power_of_two(first) * power_of_two(exponent - first);
    if value.is_finite() { Ok(value) } else { Err(FloatError::Range) }
}

/// 2^exponent for |exponent| ≤ 1022.
fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(value: f64) -> String {
        let mut out = String::new();
        write_float_plain(&mut out, value);
        out
    }

    #[test]
    fn forms_are_those_of_go() {
        // value, 'g', 'f', API, 'e'
        let rows: &[(f64, &str, &str, &str, &str)] = &[
            (0.0, "0", "0", "0", "0e+00"),
            (-0.0, "-0", "-0", "-0", "-0e+00"),
            (1.0, "1", "1", "1", "1e+00"),
            (-1.5, "-1.5", "-1.5", "-1.5", "-1.5e+00"),
            (100_000.0, "100000", "100000", "100000", "1e+05"),
            (123_456.0, "123456", "123456", "123456", "1.23456e+05"),
            (1_000_000.0, "1e+06", "1000000", "1000000", "1e+06"),
            (1_234_567.0, "1.234567e+06", "1234567", "1234567", "1.234567e+06"),
            (1234567.25, "1.23456725e+06", "1234567.25", "1234567.25", "1.23456725e+06"),
            (0.0001, "0.0001", "0.0001", "0.0001", "1e-04"),
            (0.00001, "1e-05", "0.00001", "0.00001", "1e-05"),
            (0.000001, "1e-06", "0.000001", "0.000001", "1e-06"),
            (9.9e-7, "9.9e-07", "0.00000099", "9.9e-07", "9.9e-07"),
            (1e20, "1e+20", "100000000000000000000", "100000000000000000000", "1e+20"),
            (1e21, "1e+21", "1000000000000000000000", "1e+21", "1e+21"),
            (0.1 + 0.2, "0.30000000000000004", "0.30000000000000004", "0.30000000000000004", "3.0000000000000004e-01"),
            (
                9007199254740993.0,
                "9.007199254740992e+15",
                "9007199254740992",
                "9007199254740992",
                "9.007199254740992e+15",
            ),
            (f64::NAN, "NaN", "NaN", "NaN", "NaN"),
            (f64::INFINITY, "+Inf", "+Inf", "+Inf", "+Inf"),
            (f64::NEG_INFINITY, "-Inf", "-Inf", "-Inf", "-Inf"),
        ];
        for &(value, general, fixed, json, exponent) in rows {
            assert_eq!(FloatText::general(value).as_str(), general);
            assert_eq!(plain(value), fixed);
            assert_eq!(FloatText::json(value).as_str(), json);
            assert_eq!(FloatText::exponent(value).as_str(), exponent);
        }
        assert_eq!(FloatText::general(f64::MAX).as_str(), "1.7976931348623157e+308");
        assert_eq!(FloatText::json(-5e-324).as_str(), "-5e-324");
        assert_eq!(FloatText::json(-1.2345678901234567e-6).as_str(), "-0.0000012345678901234567");
        assert_eq!(plain(f64::MAX).len(), 309);
    }

    #[test]
    fn whole_numbers_have_their_digits_at_every_length() {
        let ends = (0..20).flat_map(|digits| {
            let end = 10u64.pow(digits);
            [end - 1, end, end + 1, end.saturating_mul(9), end.saturating_mul(5).saturating_sub(1)]
        });
        for value in ends.chain([u64::MAX, u64::MAX - 1]).chain(0..20_000) {
            let (mut text, mut bytes) = (String::from("a"), b"a".to_vec());
            write_u64(&mut text, value);
            write_u64(&mut bytes, value);
            assert_eq!(text, format!("a{value}"));
            assert_eq!(bytes, text.as_bytes());
        }
    }

    /// The forms as they follow from as many digits as `{:e}` has, which are the shortest too. Of two that are equally
    /// near, Go takes the even one, as an exact number of digits does.
    fn from_standard_digits(value: f64) -> [String; 3] {
        let shortest = format!("{:e}", value.abs());
        let count = shortest.chars().take_while(|c| *c != 'e').filter(char::is_ascii_digit).count();
        let text = format!("{:.*e}", count - 1, value.abs());
        let (digits, exponent) = text.split_once('e').unwrap();
        let digits: String = digits.chars().filter(|c| *c != '.').collect();
        let exponent: i32 = exponent.parse().unwrap();
        let sign = if value.is_sign_negative() { "-" } else { "" };
        let with_exponent = || {
            let fraction = if digits.len() > 1 { format!(".{}", &digits[1..]) } else { String::new() };
            let exponent_sign = if exponent < 0 { '-' } else { '+' };
            format!("{sign}{}{fraction}e{exponent_sign}{:02}", &digits[..1], exponent.abs())
        };
        let without = || {
            let zeros = |count: i32| "0".repeat(count.max(0) as usize);
            let whole = format!("{}{digits}{}", zeros(-exponent), zeros(exponent + 1 - digits.len() as i32));
            let (before, after) = whole.split_at(exponent.max(0) as usize + 1);
            format!("{sign}{before}{}{after}", if after.is_empty() { "" } else { "." })
        };
        let pick = |plain: std::ops::Range<i32>| {
            if value == 0.0 || plain.contains(&exponent) { without() } else { with_exponent() }
        };
        [pick(-4..6), pick(-6..21), with_exponent()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn digits_of_whole_numbers_are_those_of_the_standard_library(value in any::<u64>(), shift in 0u32..64) {
            let mut text = String::new();
            write_u64(&mut text, value >> shift);
            prop_assert_eq!(text, (value >> shift).to_string());
        }

        #[test]
        fn any_float_is_written_with_its_shortest_digits(
            value in prop_oneof![
                any::<f64>(),
                any::<i32>().prop_map(|n| f64::from(n) / 1000.0),
                (any::<i64>(), -30i32..30).prop_map(|(n, e)| n as f64 * 10f64.powi(e)),
                any::<u64>().prop_map(|n| (n >> 8) as f64),
            ]
        ) {
            prop_assume!(value.is_finite());
            let found = [FloatText::general(value), FloatText::json(value), FloatText::exponent(value)];
            prop_assert_eq!(found.map(|text| text.as_str().to_owned()), from_standard_digits(value));
            prop_assert_eq!(plain(value).parse::<f64>().map(f64::to_bits), Ok(value.to_bits()));
        }

        #[test]
        fn any_integer_is_written_in_decimal(value in any::<u64>(), shift in 0u32..64) {
            let mut out = String::new();
            write_u64(&mut out, value >> shift);
            prop_assert_eq!(out, (value >> shift).to_string());
        }
    }

    #[test]
    fn open_metrics_shows_that_a_number_is_a_float() {
        let rows = [(1.0, "1.0"), (0.0, "0.0"), (-3.0, "-3.0"), (0.5, "0.5"), (1e6, "1e+06"), (f64::NAN, "NaN")];
        for (value, text) in rows {
            assert_eq!(FloatText::open_metrics(value).as_str(), text);
        }
    }

    #[test]
    fn accepts_what_go_accepts() {
        let rows = [
            ("1", 1.0),
            ("+1.5e3", 1500.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1E-3", 0.001),
            ("Inf", f64::INFINITY),
            ("+inf", f64::INFINITY),
            ("-INFINITY", f64::NEG_INFINITY),
            ("0x1p-2", 0.25),
            ("-0X1.8P1", -3.0),
            ("0x.8p0", 0.5),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("0x1p-1074", 5e-324),
            ("0x1p-1075", 0.0),
            ("0x1.8p-1075", 5e-324),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.00000000000018p0", 1.0 + 2.0 * f64::EPSILON),
            ("0x1.0000000000000800000000000001p0", 1.0 + f64::EPSILON),
            ("0x100000000000000000p-68", 1.0),
            ("0x0p99999999999999999999", 0.0),
        ];
        for (text, value) in rows {
            assert_eq!(parse_float(text), Ok(value), "{text}");
        }
        assert!(parse_float("nan").unwrap().is_nan());
        assert_eq!(parse_float("-0").unwrap().to_bits(), (-0.0_f64).to_bits());
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in
            ["", "+", ".", "e5", "1e", "1_000", "0x1", "0xp1", "0x1p", "0x1.2.3p1", "+nan", "infx", " 1", "1 ", "--1"]
        {
            assert_eq!(parse_float(text), Err(FloatError::Syntax), "{text}");
        }
        for text in ["1e309", "-1e400", "0x1p1024", "0x1.fffffffffffff8p1023", "0x1p99999999999999999999"] {
            assert_eq!(parse_float(text), Err(FloatError::Range), "{text}");
        }
        assert_eq!(parse_exposition_float("0x1p1"), Err(FloatError::Syntax));
    }

    proptest! {
        #[test]
        fn every_form_reads_back_with_the_same_bits(bits: u64) {
            let value = f64::from_bits(bits);
            let forms = [
                FloatText::general(value).to_string(),
                FloatText::json(value).to_string(),
                FloatText::exponent(value).to_string(),
                FloatText::open_metrics(value).to_string(),
                plain(value),
            ];
            for text in forms {
                let back = parse_float(&text).unwrap();
                prop_assert!(back.to_bits() == bits || (back.is_nan() && value.is_nan()), "{}", text);
            }
        }

        #[test]
        fn whole_numbers_take_the_short_way_to_the_same_digits(n in -(1_i64 << 53)..(1_i64 << 53)) {
            prop_assert_eq!(FloatText::exponent(n as f64).as_str().parse::<f64>().unwrap(), n as f64);
            prop_assert_eq!(plain(n as f64), n.to_string());
            if n.unsigned_abs() < 1_000_000 {
                let text = FloatText::general(n as f64);
                prop_assert_eq!(text.as_str(), n.to_string());
            }
        }

        #[test]
        fn hexadecimal_reads_back(bits: u64) {
            let value = f64::from_bits(bits & !(1 << 63));
            prop_assume!(value.is_finite());
            let raw = value.to_bits();
            let (fraction, biased) = (raw & ((1 << 52) - 1), (raw >> 52) as i64);
            let text = if biased == 0 {
                format!("0x0.{fraction:013x}p-1022")
            } else {
                format!("0x1.{fraction:013x}p{}", biased - 1023)
            };
            prop_assert_eq!(parse_float(&text).unwrap().to_bits(), raw);
        }
    }
}
