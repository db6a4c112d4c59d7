//! Answers as what charts and tables show.

use std::collections::{BTreeMap, BTreeSet};

use kymo_core::METRIC_NAME;
use kymo_core::query::{PointValue, QueryResult, QueryValue, ResultSeries};
use kymo_core::text::SeriesText;

use super::chart::{HeatColumn, Series};

/// The series of an answer, whatever it is; none of a string.
pub(super) fn series_of(result: &QueryResult) -> &[ResultSeries] {
    match &result.value {
        QueryValue::Vector(series) | QueryValue::Matrix(series) => series,
        QueryValue::Scalar { .. } | QueryValue::String { .. } => &[],
    }
}

/// Float points of each series, moved `later_ms`, under names that tell them apart. Of a histogram its count.
pub(super) fn lines(series: &[ResultSeries], later_ms: i64) -> Vec<Series> {
    let names = names(series);
    let points =
        |one: &ResultSeries| one.points().map(|(time, value)| (time + later_ms, number(value))).collect::<Vec<_>>();
    series.iter().zip(names).map(|(one, name)| Series { name, points: points(one) }).collect()
}

fn number(value: PointValue<'_>) -> f64 {
    match value {
        PointValue::Float(value) => value,
        PointValue::Histogram(histogram) => histogram.count(),
    }
}

/// The newest value of each series by one label.
pub(super) fn by_label(result: &QueryResult, label: &str) -> BTreeMap<String, f64> {
    let newest = |one: &ResultSeries| one.points().last().map(|(_, value)| number(value));
    series_of(result)
        .iter()
        .filter_map(|one| Some((one.labels.get(label).unwrap_or_default().to_owned(), newest(one)?)))
        .collect()
}

/// Values at the steps of a grid, gaps kept.
pub(super) fn on_grid(one: &ResultSeries, start_ms: i64, end_ms: i64, step_ms: i64) -> Vec<Option<f64>> {
    let steps = ((end_ms - start_ms) / step_ms.max(1) + 1).clamp(0, 10_000) as usize;
    let mut values = vec![None; steps];
    for (time, value) in one.points() {
        let step = (time - start_ms) / step_ms.max(1);
        if let Some(place) = usize::try_from(step).ok().and_then(|step| values.get_mut(step)) {
            *place = Some(number(value));
        }
    }
    values
}

/// What tells the series of an answer apart: labels that are not the same in all.
pub(super) fn names(series: &[ResultSeries]) -> Vec<String> {
    if let [single] = series {
        let text = SeriesText(single.labels.iter()).to_string();
        return vec![if text == "{}" { "value".to_owned() } else { text }];
    }
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in series {
        for (name, _) in one.labels.iter() {
            values.entry(name).or_default();
        }
    }
    for (name, seen) in &mut values {
        seen.extend(series.iter().map(|one| one.labels.get(name).unwrap_or_default()));
    }
    let differing: Vec<&str> =
        values.iter().filter(|(name, seen)| seen.len() > 1 && **name != METRIC_NAME).map(|(name, _)| *name).collect();
    let named = values.get(METRIC_NAME).is_some_and(|seen| seen.len() > 1);
    let name = |one: &ResultSeries| {
        let metric = if named || differing.is_empty() { one.labels.metric_name().unwrap_or_default() } else { "" };
        let shown: Vec<(&str, &str)> =
            differing.iter().filter_map(|name| Some((*name, one.labels.get(name)?))).collect();
        match (metric, &shown[..]) {
            ("", [(_, value)]) => (*value).to_owned(),
            (metric, []) => if metric.is_empty() { "{}" } else { metric }.to_owned(),
            (metric, shown) => {
                let pairs: Vec<String> = shown.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{metric}{{{}}}", pairs.join(", "))
            }
        }
    };
    series.iter().map(name).collect()
}

/// The distributions over time that an answer is: of one native histogram, or of the buckets of one classic histogram. Empty
/// if it is anything else, where lines say more.
pub(super) fn distribution(result: &QueryResult) -> Vec<HeatColumn> {
    let is_one = match series_of(result) {
        [single] if !single.histograms.is_empty() => true,
        [first, others @ ..] if !others.is_empty() => {
            let rest = |one: &ResultSeries| -> Vec<(String, String)> {
                let pairs = one.labels.iter().filter(|(name, _)| *name != "le");
                pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
            };
            let shared = rest(first);
            first.labels.get("le").is_some()
                && others.iter().all(|one| one.labels.get("le").is_some() && rest(one) == shared)
        }
        _ => false,
    };
    if is_one { heat(result) } else { Vec::new() }
}

/// Distributions over time: native histograms of the first series, or else classic buckets by `le`.
pub(super) fn heat(result: &QueryResult) -> Vec<HeatColumn> {
    let series = series_of(result);
    if let Some(native) = series.iter().find(|one| !one.histograms.is_empty()) {
        return native
            .points()
            .filter_map(|(time, value)| match value {
                PointValue::Histogram(histogram) => Some(HeatColumn::of_native(time, histogram)),
                PointValue::Float(_) => None,
            })
            .collect();
    }
    let mut buckets: BTreeMap<i64, Vec<(f64, f64)>> = BTreeMap::new();
    for one in series {
        let Some(le) = one.labels.get("le").and_then(|le| kymo_core::text::parse_float(le).ok()) else { continue };
        for (time, value) in one.points() {
            buckets.entry(time).or_default().push((le, number(value)));
        }
    }
    buckets
        .into_iter()
        .map(|(time, mut cumulative)| {
            cumulative.sort_by(|a, b| a.0.total_cmp(&b.0));
            HeatColumn::of_classic(time, &cumulative)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use kymo_core::Labels;
    use kymo_core::query::PointTimes;

    use super::*;

    fn one(labels: &[(&str, &str)], points: &[(i64, f64)]) -> ResultSeries {
        ResultSeries {
            labels: Labels::from_pairs(labels.iter().copied()),
            times: PointTimes::Own(points.iter().map(|(time, _)| *time).collect()),
            floats: points.iter().map(|(_, value)| *value).collect(),
            histograms: Vec::new(),
        }
    }

    #[test]
    fn names_tell_what_differs() {
        let alone = [one(&[("__name__", "up"), ("job", "a")], &[])];
        assert_eq!(names(&alone), ["up{job=\"a\"}"]);
        let by_job = [one(&[("__name__", "up"), ("job", "a")], &[]), one(&[("__name__", "up"), ("job", "b")], &[])];
        assert_eq!(names(&by_job), ["a", "b"]);
        let by_two = [one(&[("a", "1"), ("b", "x")], &[]), one(&[("a", "2"), ("b", "y")], &[])];
        assert_eq!(names(&by_two), ["{a=1, b=x}", "{a=2, b=y}"]);
        let metrics = [one(&[("__name__", "a"), ("j", "1")], &[]), one(&[("__name__", "b"), ("j", "1")], &[])];
        assert_eq!(names(&metrics), ["a", "b"]);
    }

    #[test]
    fn a_grid_keeps_its_gaps_and_classic_buckets_become_columns() {
        let values = on_grid(&one(&[], &[(0, 1.0), (20, 3.0)]), 0, 30, 10);
        assert_eq!(values, [Some(1.0), None, Some(3.0), None]);
        let buckets = vec![one(&[("le", "+Inf")], &[(5, 9.0)]), one(&[("le", "0.5")], &[(5, 4.0)])];
        let result = QueryResult { value: QueryValue::Matrix(buckets), ..QueryResult::default() };
        let columns = heat(&result);
        assert_eq!(columns, [HeatColumn { time_ms: 5, buckets: vec![(0.0, 0.5, 4.0), (0.5, 1.0, 5.0)] }]);
    }
}
