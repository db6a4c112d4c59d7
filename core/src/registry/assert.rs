//! Assertions on a registry, for tests of programs that record.

use super::{FamilySnapshot, Registry};

/// Asserts the value of one series: a counter's total, a gauge's level, or how much a histogram or summary has observed.
///
/// A failure shows the family as it is. Floats are compared exactly; give `within` to allow for a difference.
///
/// ```
/// use kymo_core::assert_metric;
/// use kymo_core::registry::Registry;
///
/// let registry = Registry::new();
/// let requests = registry.counter("requests_total").labels(["method", "code"]).family()?;
/// requests.at(["GET", "200"]).add(3);
/// let durations = registry.histogram("duration_seconds").register()?;
/// durations.record(0.25);
///
/// assert_metric!(registry, "requests_total", {"method" => "GET", "code" => "200"} == 3);
/// assert_metric!(registry, "requests_total", {"method" => "PUT", "code" => "200"} absent);
/// assert_metric!(registry, "duration_seconds" count == 1);
/// assert_metric!(registry, "duration_seconds" == 0.25, within 1e-9);
/// # Ok::<(), kymo_core::registry::RegisterError>(())
/// ```
#[macro_export]
macro_rules! assert_metric {
    ($registry:expr, $name:literal $(, {$($label:expr => $value:expr),* $(,)?})? == $wanted:expr) => {
        $crate::assert_metric!($registry, $name $(, {$($label => $value),*})? == $wanted, within 0.0)
    };
    ($registry:expr, $name:literal $(, {$($label:expr => $value:expr),* $(,)?})? == $wanted:expr, within $tolerance:expr) => {
        $crate::registry::check_metric(
            &$registry, $name, &[$($(($label, $value)),*)?], $crate::registry::Expected::Value($wanted as f64, $tolerance),
        )
    };
    ($registry:expr, $name:literal $(, {$($label:expr => $value:expr),* $(,)?})? count == $wanted:expr) => {
        $crate::registry::check_metric(
            &$registry, $name, &[$($(($label, $value)),*)?], $crate::registry::Expected::Count($wanted),
        )
    };
    ($registry:expr, $name:literal $(, {$($label:expr => $value:expr),* $(,)?})? absent) => {
        $crate::registry::check_metric(
            &$registry, $name, &[$($(($label, $value)),*)?], $crate::registry::Expected::Absent,
        )
    };
}

/// What [`assert_metric!`](crate::assert_metric) expects of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Expected {
    /// The value, and how far off it may be. Of a histogram or summary its sum.
    Value(f64, f64),
    /// The number of observations of a histogram or summary.
    Count(u64),
    /// No such series.
    Absent,
}

/// What [`assert_metric!`](crate::assert_metric) does.
///
/// # Panics
/// When the series is not as expected.
#[track_caller]
pub fn check_metric(registry: &Registry, name: &str, labels: &[(&str, &str)], expected: Expected) {
    let snapshot = registry.snapshot();
    let Some(family) = snapshot.iter().find(|family| family.name == name) else {
        let names: Vec<&str> = snapshot.iter().map(|family| family.name.as_str()).collect();
        assert!(expected == Expected::Absent, "there is no metric {name:?}; there are {names:?}");
        return;
    };
    let mut labels: Vec<(&str, &str)> = labels.iter().copied().filter(|(_, value)| !value.is_empty()).collect();
    labels.sort_unstable();
    let is_it = |series: &&super::SeriesSnapshot| {
        series.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(labels.iter().copied())
    };
    let value = family.series.iter().find(is_it).map(|series| &series.value);
    let is_as_expected = match (expected, value) {
        (Expected::Absent, found) => found.is_none(),
        (Expected::Value(wanted, tolerance), Some(found)) => (found.value() - wanted).abs() <= tolerance,
        (Expected::Count(wanted), Some(found)) => found.count() == Some(wanted),
        (_, None) => false,
    };
    assert!(is_as_expected, "{name}{labels:?} is not {expected:?}; there are\n{}", shown(family));
}

fn shown(family: &FamilySnapshot) -> String {
    family.series.iter().map(|series| format!("  {:?} {:?}\n", series.labels, series.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_what_there_is() {
        let registry = Registry::new();
        registry.counter("c").labels(["a"]).family().unwrap().at(["1"]).add(2);
        let message = |check: &dyn Fn()| {
            let check = std::panic::AssertUnwindSafe(check);
            *std::panic::catch_unwind(check).unwrap_err().downcast::<String>().unwrap()
        };
        let wrong = message(&|| assert_metric!(registry, "c", {"a" => "1"} == 3));
        assert!(wrong.contains("Value(3.0, 0.0)") && wrong.contains("value: 2.0"), "{wrong}");
        let missing = message(&|| assert_metric!(registry, "d" == 3));
        assert_eq!(missing, "there is no metric \"d\"; there are [\"c\"]");
        let count = message(&|| assert_metric!(registry, "c", {"a" => "1"} count == 3));
        assert!(count.contains("Count(3)"), "{count}");
        assert_metric!(registry, "d" absent);
        assert_metric!(registry, "c" absent);
        assert_metric!(registry, "c", {"b" => "", "a" => "1"} == 2);
    }
}
