//! Moments: RFC 3339 text, and seconds since the Unix epoch as the Prometheus API writes them.
//!
//! All moments are `i64` milliseconds, UTC. The calendar is the proleptic Gregorian one; leap
//! seconds do not exist, as in Go.

use super::float::{parse_float, write_i64, write_u64};
use super::sink::{TextSink, push_display};

/// Text that names no moment. The message is that of Prometheus' API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot parse {} to a valid timestamp", super::QuotedText(.text))]
pub struct TimeError {
    /// The whole text.
    pub text: String,
}

const MS_PER_DAY: i64 = 86_400_000;

/// Prometheus' own bounds of time, with the texts it gives them and takes back. Years of more than
/// four digits are read in these two spellings only.
const BOUNDS: [(&str, i64); 2] = [
    ("-292273086-05-16T16:47:06Z", -9_223_309_901_257_974_000),
    ("292277025-08-18T07:12:54.999999999Z", 9_223_309_901_257_974_999),
];

/// Reads the API's `time`, `start` and `end`: float seconds since the epoch, or RFC 3339.
///
/// Seconds are rounded to the nearest millisecond.
///
/// # Errors
/// [`TimeError`] for other text, and for seconds that are not finite or beyond an `i64` of
/// milliseconds.
pub fn parse_time_ms(text: &str) -> Result<i64, TimeError> {
    let error = || TimeError { text: text.to_owned() };
    if let Ok(seconds) = parse_float(text) {
        // Whole and fractional part apart: large seconds keep their milliseconds.
        let whole_ms = seconds.trunc() * 1000.0;
        let in_range = whole_ms > i64::MIN as f64 + 2000.0 && whole_ms < i64::MAX as f64 - 2000.0;
        if !in_range {
            return Err(error());
        }
        let fraction_ms = (seconds.fract() * 1000.0).round();
        return Ok(seconds.trunc() as i64 * 1000 + fraction_ms as i64);
    }
    if let Some((_, ms)) = BOUNDS.iter().find(|(bound, _)| *bound == text) {
        return Ok(*ms);
    }
    parse_rfc3339_ms(text)
}

/// Reads RFC 3339 (`2026-11-20T22:43:00.5+01:00`). What is finer than a millisecond is cut off.
///
/// # Errors
/// [`TimeError`], also for days that the month does not have.
pub fn parse_rfc3339_ms(text: &str) -> Result<i64, TimeError> {
    rfc3339(text.as_bytes()).ok_or_else(|| TimeError { text: text.to_owned() })
}

fn rfc3339(text: &[u8]) -> Option<i64> {
    let (date_time, rest) = text.split_at_checked("2026-11-20T22:43:00".len())?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2] = date_time else {
        return None;
    };
    let year = number(&[*y1, *y2, *y3, *y4])?;
    let month = number(&[*m1, *m2])?;
    let day = number(&[*d1, *d2])?;
    let hour = number(&[*h1, *h2])?;
    let minute = number(&[*n1, *n2])?;
    let second = number(&[*s1, *s2])?;
    let valid = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return None;
    }
    let (fraction_ms, zone) = match rest {
        [b'.', after @ ..] => {
            let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            let place = |index: usize| after[..digits].get(index).map_or(0, |d| i64::from(d - b'0'));
            (place(0) * 100 + place(1) * 10 + place(2), &after[digits..])
        }
        _ => (0, rest),
    };
    let offset_minutes = match zone {
        [b'Z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let magnitude = hours * 60 + minutes;
            if *sign == b'-' { -magnitude } else { magnitude }
        }
        _ => return None,
    };
    let seconds = (hour * 60 + minute - offset_minutes) * 60 + second;
    Some(days_from_civil(year, month, day) * MS_PER_DAY + seconds * 1000 + fraction_ms)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
}

/// Appends a moment as Go's `time.RFC3339Nano` prints it in UTC: `2026-11-20T22:43:00.5Z`, without
/// trailing zeros.
pub fn write_rfc3339<S: TextSink + ?Sized>(out: &mut S, time_ms: i64) {
    let (days, ms_of_day) = (time_ms.div_euclid(MS_PER_DAY), time_ms.rem_euclid(MS_PER_DAY));
    let (year, month, day) = civil_from_days(days);
    let (second, ms) = (ms_of_day / 1000, ms_of_day % 1000);
    if year < 0 {
        out.push_str("-");
    }
    push_display(
        out,
        format_args!(
            "{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
            year.unsigned_abs(),
            second / 3600,
            second / 60 % 60,
            second % 60,
        ),
    );
    write_fraction(out, ms, true);
    out.push_str("Z");
}

/// Appends a moment as the Prometheus API's JSON number: seconds, an integer when there are no
/// milliseconds, else with exactly three decimals.
pub fn write_timestamp_seconds<S: TextSink + ?Sized>(out: &mut S, time_ms: i64) {
    if time_ms < 0 {
        out.push_str("-");
    }
    let magnitude = time_ms.unsigned_abs();
    write_u64(out, magnitude / 1000);
    write_fraction(out, (magnitude % 1000) as i64, false);
}

/// `.` and the milliseconds, nothing for 0.
fn write_fraction<S: TextSink + ?Sized>(out: &mut S, ms: i64, trim: bool) {
    if ms == 0 {
        return;
    }
    out.push_str(match ms {
        0..10 => ".00",
        10..100 => ".0",
        _ => ".",
    });
    let mut shown = ms;
    while trim && shown % 10 == 0 {
        shown /= 10;
    }
    write_i64(out, shown);
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. Years run from March here, so the leap day is the last of its year
/// (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`]: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rfc(ms: i64) -> String {
        let mut out = String::new();
        write_rfc3339(&mut out, ms);
        out
    }

    fn seconds(ms: i64) -> String {
        let mut out = String::new();
        write_timestamp_seconds(&mut out, ms);
        out
    }

    #[test]
    fn reads_both_spellings_of_a_moment() {
        let rows = [
            ("0", 0),
            ("1700000000", 1_700_000_000_000),
            ("1700000000.123", 1_700_000_000_123),
            ("1543578564.705", 1_543_578_564_705),
            ("-1.5", -1_500),
            ("1e3", 1_000_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2015-06-03T13:21:58.555Z", 1_433_337_718_555),
            ("2015-06-03T14:21:58.555+01:00", 1_433_337_718_555),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2000-02-29T00:00:00.123456789Z", 951_782_400_123),
            ("-292273086-05-16T16:47:06Z", -9_223_309_901_257_974_000),
            ("292277025-08-18T07:12:54.999999999Z", 9_223_309_901_257_974_999),
        ];
        for (text, ms) in rows {
            assert_eq!(parse_time_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_moment() {
        for text in [
            "",
            "foo",
            "30s",
            "NaN",
            "+Inf",
            "1e300",
            "2015-05-01",
            "2015-02-29T00:00:00Z",
            "2015-13-01T00:00:00Z",
            "2015-06-03T24:00:00Z",
            "2015-06-03T13:21:58",
            "2015-06-03T13:21:58.Z",
            "2015-06-03t13:21:58z",
            "2015-06-03T13:21:58+1:00",
            "2015-06-0é13:21:58Z",
        ] {
            assert!(parse_time_ms(text).is_err(), "{text}");
        }
        let error = parse_time_ms("foo").unwrap_err();
        assert_eq!(error.to_string(), "cannot parse \"foo\" to a valid timestamp");
    }

    #[test]
    fn api_seconds_have_three_decimals_or_none() {
        let rows = [
            (0, "0"),
            (1, "0.001"),
            (10, "0.010"),
            (100, "0.100"),
            (1_001, "1.001"),
            (1_000, "1"),
            (-1, "-0.001"),
            (-1_500, "-1.500"),
            (i64::MIN, "-9223372036854775.808"),
        ];
        for (ms, text) in rows {
            assert_eq!(seconds(ms), text);
        }
    }

    #[test]
    fn prints_rfc3339_without_trailing_zeros() {
        let rows = [
            (0, "1970-01-01T00:00:00Z"),
            (1_433_337_718_500, "2015-06-03T13:21:58.5Z"),
            (1_433_337_718_050, "2015-06-03T13:21:58.05Z"),
            (1_433_337_718_005, "2015-06-03T13:21:58.005Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (-9_223_309_901_257_974_000, "-292273086-05-16T16:47:06Z"),
        ];
        for (ms, text) in rows {
            assert_eq!(rfc(ms), text);
        }
    }

    proptest! {
        #[test]
        fn printed_moments_read_back(ms in -62_167_219_200_000_i64..253_402_300_800_000) {
            prop_assert_eq!(parse_rfc3339_ms(&rfc(ms)), Ok(ms));
            prop_assert_eq!(parse_time_ms(&seconds(ms)), Ok(ms));
        }

        #[test]
        fn every_day_has_one_date(days in -200_000_000_i64..200_000_000) {
            let (year, month, day) = civil_from_days(days);
            prop_assert!((1..=12).contains(&month));
            prop_assert!((1..=days_in_month(year.rem_euclid(400), month)).contains(&day));
            prop_assert_eq!(days_from_civil(year, month, day), days);
        }

        #[test]
        fn printing_never_panics(ms: i64) {
            prop_assert!(rfc(ms).ends_with('Z'));
        }
    }
}
