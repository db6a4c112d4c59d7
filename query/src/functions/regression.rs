//! Least squares over one window: `deriv` and `predict_linear`.

use kymo_core::aggregate::CompensatedSum;

/// A line through samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Line {
    /// Change per second.
    pub(crate) slope: f64,
    /// Value at the time asked for.
    pub(crate) intercept: f64,
}

/// The line nearest to the samples, with compensated sums; `None` for fewer than two.
///
/// Equal values give a slope of exactly 0, infinite ones NaN.
pub(crate) fn line(times: &[i64], values: &[f64], at_ms: i64) -> Option<Line> {
    let &[first, ..] = values else { return None };
    if values.len() < 2 {
        return None;
    }
    if values.iter().all(|&v| v == first) {
        let flat = Line { slope: 0.0, intercept: first };
        let none = Line { slope: f64::NAN, intercept: f64::NAN };
        return Some(if first.is_infinite() { none } else { flat });
    }
    let mut sums = [CompensatedSum::default(); 4];
    for (&time, &y) in times.iter().zip(values) {
        let x = time.saturating_sub(at_ms) as f64 / 1000.0;
        for (sum, term) in sums.iter_mut().zip([x, y, x * y, x * x]) {
            sum.add(term);
        }
    }
    let [x, y, xy, xx] = sums.map(|s| s.sum + s.compensation);
    let n = values.len() as f64;
    let slope = (xy - x * y / n) / (xx - x * x / n);
    Some(Line { slope, intercept: y / n - slope * x / n })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_extended() {
        let times: Vec<i64> = (0..5).map(|i| 1_600_000_000_000 + i * 15_000).collect();
        let values: Vec<f64> = (0..5).map(|i| 10.0 + f64::from(i) * 3.0).collect();
        let found = line(&times, &values, times[0]).unwrap();
        assert!((found.slope - 0.2).abs() < 1e-12 && (found.intercept - 10.0).abs() < 1e-9, "{found:?}");
        assert_eq!(line(&times, &[7.0; 5], 0), Some(Line { slope: 0.0, intercept: 7.0 }));
        assert!(line(&times, &[f64::INFINITY; 5], 0).unwrap().slope.is_nan());
        assert_eq!(line(&times[..1], &values[..1], 0), None);
    }
}
