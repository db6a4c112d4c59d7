//! Fields of a point in time, UTC, in the proleptic Gregorian calendar.
//!
//! Day numbers follow Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms" (2013). Time is counted from an
//! absolute zero, as Go does, whose sums wrap: that gives what is no time at all (NaN, infinities) the fields that
//! Prometheus shows.

const SECONDS_PER_DAY: u64 = 86_400;
/// The year at whose first of March the absolute zero lies; 400 divides it.
const ZERO_YEAR: i64 = -292_277_022_400;
/// From the absolute zero to 1970.
const EPOCH: i64 = 9_223_372_028_741_760_000;

/// The function of that name, from seconds since the Unix epoch.
pub(crate) fn field(name: &str) -> Option<fn(i64) -> f64> {
    Some(match name {
        "days_in_month" => |s| {
            let date = Date::of(s);
            days_in_month(date.year, date.month) as f64
        },
        "day_of_month" => |s| Date::of(s).day as f64,
        // Day 0 was a Wednesday.
        "day_of_week" => |s| ((absolute(s) / SECONDS_PER_DAY + 3) % 7) as f64,
        "day_of_year" => |s| {
            let date = Date::of(s);
            (1..date.month).map(|month| days_in_month(date.year, month)).sum::<i64>() as f64 + date.day as f64
        },
        "hour" => |s| (absolute(s) % SECONDS_PER_DAY / 3600) as f64,
        "minute" => |s| (absolute(s) % 3600 / 60) as f64,
        "month" => |s| Date::of(s).month as f64,
        "year" => |s| Date::of(s).year as f64,
        _ => return None,
    })
}

/// A float as the seconds the time functions take it for: towards zero, and like Go on amd64 the
/// smallest integer for what does not fit.
pub(crate) fn seconds(value: f64) -> i64 {
    // 2^63 as a float; everything below it fits.
    const END: f64 = 9_223_372_036_854_775_808.0;
    if (-END..END).contains(&value) { value as i64 } else { i64::MIN }
}

fn absolute(seconds: i64) -> u64 {
    seconds.wrapping_add(EPOCH).cast_unsigned()
}

struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    fn of(seconds: i64) -> Date {
        // Counted from a first of March, so that the leap day ends a year.
        let days = (absolute(seconds) / SECONDS_PER_DAY).cast_signed();
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = ZERO_YEAR + era * 400 + year_of_era + i64::from(month <= 2);
        Date { year, month, day: day_of_year - (153 * shifted + 2) / 5 + 1 }
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_known_times() {
        // 2024-02-29 23:59:00, a Thursday; 1969-12-31 00:00:00, a Wednesday; 2000-03-01.
        let rows: [(&str, [f64; 3]); 8] = [
            ("year", [2024.0, 1969.0, 2000.0]),
            ("month", [2.0, 12.0, 3.0]),
            ("day_of_month", [29.0, 31.0, 1.0]),
            ("day_of_week", [4.0, 3.0, 3.0]),
            ("day_of_year", [60.0, 365.0, 61.0]),
            ("days_in_month", [29.0, 31.0, 31.0]),
            ("hour", [23.0, 0.0, 0.0]),
            ("minute", [59.0, 0.0, 0.0]),
        ];
        for (name, expected) in rows {
            let of = field(name).unwrap();
            assert_eq!([of(1_709_251_140), of(-86_400), of(951_868_800)], expected, "{name}");
        }
    }

    #[test]
    fn what_is_no_time_becomes_the_smallest_and_has_the_fields_of_the_reference() {
        assert_eq!((seconds(-1.9), seconds(f64::NAN), seconds(1e300)), (-1, i64::MIN, i64::MIN));
        let of = |name| field(name).unwrap()(i64::MIN);
        let fields = ["month", "day_of_month", "day_of_year", "hour", "minute"].map(of);
        assert_eq!(fields, [12.0, 4.0, 339.0, 15.0, 30.0]);
    }
}
