//! Sizes in bytes: `512MiB`, `1.5GB`, `65536`.
//!
//! `KB`, `MB`, `GB` mean powers of 1024 here, like `KiB`, `MiB`, `GiB`: Prometheus reads its flags
//! and configuration that way (`body_size_limit: 10MB` is 10 × 2^20), and one file must not mean
//! two things.

use super::float::write_u64;
use super::sink::{TextSink, push_display};

/// Why text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// No text at all.
    #[error("empty size")]
    Empty,
    /// Not a number, or a number followed by something that is no unit.
    #[error("not a valid size: {}, expected bytes or a number with KiB, MiB, GiB", super::QuotedText(.text))]
    Syntax {
        /// The whole text.
        text: String,
    },
    /// More than 2^64 − 1 bytes.
    #[error("size out of range: {}", super::QuotedText(.text))]
    Range {
        /// The whole text.
        text: String,
    },
}

/// Binary units from largest to smallest.
const UNITS: [(&str, u64); 6] =
    [("EiB", 1 << 60), ("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Reads a size: plain bytes (`65536`), or numbers with a unit (`64KiB`, `1.5GB`, `1GiB512MiB`).
///
/// Units are `B`, `KiB`/`KB` and so on to `EiB`/`EB`, powers of 1024, upper case; a space may stand
/// before the unit. Fractions of a byte are cut off.
///
/// # Errors
/// [`SizeError`].
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let syntax = || SizeError::Syntax { text: text.to_owned() };
    let range = || SizeError::Range { text: text.to_owned() };
    if text.is_empty() {
        return Err(SizeError::Empty);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| range());
    }
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let number_len = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (number, after) = rest.split_at(number_len);
        let after = after.strip_prefix(' ').unwrap_or(after);
        let unit_len = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(unit_len);
        let bytes = scale(number, unit_bytes(unit).ok_or_else(syntax)?).ok_or_else(syntax)?;
        total = bytes.and_then(|bytes| total.checked_add(bytes)).ok_or_else(range)?;
        rest = after;
    }
    Ok(total)
}

fn unit_bytes(unit: &str) -> Option<u64> {
    if unit == "B" {
        return Some(1);
    }
    let prefix = unit.strip_suffix("iB").or_else(|| unit.strip_suffix('B'))?;
    UNITS.iter().find(|(name, _)| name.strip_suffix("iB") == Some(prefix)).map(|(_, bytes)| *bytes)
}

/// `number × unit`: `None` for no number, `Some(None)` beyond the range.
///
/// Whole and fractional digits are scaled apart, so whole numbers are exact at any size.
fn scale(number: &str, unit: u64) -> Option<Option<u64>> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let mut fraction_bytes = 0;
    if !fraction.is_empty() {
        let fraction: f64 = format!("0.{fraction}").parse().ok()?;
        fraction_bytes = (fraction * unit as f64) as u64;
    }
    if whole.is_empty() {
        return Some(Some(fraction_bytes));
    }
    let whole: Option<u64> = whole.parse().ok();
    Some(whole.and_then(|whole| whole.checked_mul(unit)?.checked_add(fraction_bytes)))
}

/// Appends a size exactly, in the largest unit that leaves no rest: `512MiB`, `1000B`, `0B`.
pub fn write_size<S: TextSink + ?Sized>(out: &mut S, bytes: u64) {
    let (name, unit) = UNITS.into_iter().find(|(_, unit)| bytes != 0 && bytes % unit == 0).unwrap_or(("B", 1));
    write_u64(out, bytes / unit);
    out.push_str(name);
}

/// Appends a size for people, with one decimal from 1 KiB on: `1.5 GiB`, `999 B`.
pub fn write_size_rounded<S: TextSink + ?Sized>(out: &mut S, bytes: u64) {
    // A value that would round to 1024.0 of a unit is written in the next larger one.
    const ROUNDS_UP: f64 = 1023.95;
    let mut shown = ("B", bytes as f64);
    for (name, unit) in UNITS.into_iter().rev() {
        if shown.1 < ROUNDS_UP {
            break;
        }
        shown = (name, bytes as f64 / unit as f64);
    }
    match shown {
        ("B", _) => {
            write_u64(out, bytes);
            out.push_str(" B");
        }
        (name, value) => push_display(out, format_args!("{value:.1} {name}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(bytes: u64) -> String {
        let mut out = String::new();
        write_size(&mut out, bytes);
        out
    }

    fn rounded(bytes: u64) -> String {
        let mut out = String::new();
        write_size_rounded(&mut out, bytes);
        out
    }

    #[test]
    fn units_are_powers_of_1024() {
        let rows = [
            ("0", 0),
            ("65536", 65_536),
            ("10B", 10),
            ("64KiB", 65_536),
            ("512MB", 512 << 20),
            ("512MiB", 512 << 20),
            ("1.5GB", 3 << 29),
            ("2 GiB", 2 << 30),
            ("1GiB512MiB", 3 << 29),
            (".5KiB", 512),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in rows {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        assert_eq!(parse_size(""), Err(SizeError::Empty));
        for text in ["-1", "KiB", "1.2.3KiB", "1kb", "1X", "1.5", "1 KiB ", ".KiB", "1K", "1ZiB"] {
            assert!(matches!(parse_size(text), Err(SizeError::Syntax { .. })), "{text}");
        }
        for text in ["18446744073709551616", "16EiB", "15EiB2EiB"] {
            assert!(matches!(parse_size(text), Err(SizeError::Range { .. })), "{text}");
        }
    }

    #[test]
    fn rounded_sizes_never_show_1024_of_a_unit() {
        let rows = [
            (0, "0 B"),
            (999, "999 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in rows {
            assert_eq!(rounded(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn exact_sizes_read_back(mantissa in 0_u64..4096, shift in 0_u32..52) {
            let bytes = mantissa << shift;
            prop_assert_eq!(parse_size(&exact(bytes)), Ok(bytes));
        }
    }
}
