//! One table per family of functions and operators, against known values.

use super::*;

const AT: Grid = Grid::Instant { at_ms: 300_000 };

/// Holds every row under both ways of removing names, instantly and as a range of one step.
#[track_caller]
fn hold(series: &str, rows: &[(&str, &[&str])]) {
    let data = storage(60_000, series);
    for delayed in [false, true] {
        let engine = engine(data.clone(), options(delayed));
        for (text, expected) in rows {
            let found = ask(&engine, text, AT).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(shown(&found.value), *expected, "{text} (names removed late: {delayed})");
        }
    }
}

/// Holds that each query fails with exactly this text.
#[track_caller]
fn refuse(series: &str, rows: &[(&str, &str)]) {
    let engine = engine(storage(60_000, series), options(false));
    for (text, expected) in rows {
        let error = ask(&engine, text, AT).map(|r| shown(&r.value)).expect_err(text);
        assert_eq!(error.message, *expected, "{text}");
    }
}

const COUNTERS: &str = "
    requests_total{job=\"api\", instance=\"a\"} 0+60x5
    requests_total{job=\"api\", instance=\"b\"} 0 60 120 0 60 120
    requests_total{job=\"web\", instance=\"a\"} 10x5
    load{job=\"api\"} 3 1 4 1 5 9
    load{job=\"web\"} 2 7 1 8 2 NaN
    gone{job=\"api\"} 1 1 1 1 stale
";

#[test]
fn selectors_look_back_and_stop_at_staleness() {
    hold(
        COUNTERS,
        &[
            ("load{job=\"api\"}", &["load{job=\"api\"} 9"]),
            ("load{job=\"api\"} offset 1m", &["load{job=\"api\"} 5"]),
            ("load{job=\"api\"} offset -4m", &["load{job=\"api\"} 9"]),
            ("load{job=\"api\"} offset -5m", &[]),
            ("load{job=~\"a.*\"} @ 60", &["load{job=\"api\"} 1"]),
            ("gone", &[]),
            ("gone @ 200", &["gone{job=\"api\"} 1"]),
            ("gone[5m]", &["gone{job=\"api\"} 1 1 1"]),
            ("load{job=\"api\"}[2m] offset 1m", &["load{job=\"api\"} 1 5"]),
            ("load{job=\"api\"}[3m:1m]", &["load{job=\"api\"} 1 5 9"]),
        ],
    );
}

#[test]
fn rates_and_their_kin() {
    hold(
        COUNTERS,
        &[
            (
                "rate(requests_total[5m])",
                &[
                    "{instance=\"a\", job=\"api\"} 1",
                    "{instance=\"a\", job=\"web\"} 0",
                    "{instance=\"b\", job=\"api\"} 0.75",
                ],
            ),
            ("increase(requests_total{job=\"web\"}[5m])", &["{instance=\"a\", job=\"web\"} 0"]),
            ("delta(load{job=\"api\"}[2m])", &["{job=\"api\"} 8"]),
            ("irate(requests_total{instance=\"b\"}[5m])", &["{instance=\"b\", job=\"api\"} 1"]),
            ("idelta(load{job=\"api\"}[5m])", &["{job=\"api\"} 4"]),
            ("deriv(requests_total{job=\"api\", instance=\"a\"}[5m])", &["{instance=\"a\", job=\"api\"} 1"]),
            (
                "predict_linear(requests_total{job=\"api\", instance=\"a\"}[5m], 60)",
                &["{instance=\"a\", job=\"api\"} 360"],
            ),
            ("resets(requests_total{instance=\"b\"}[6m])", &["{instance=\"b\", job=\"api\"} 1"]),
            ("changes(load{job=\"api\"}[6m])", &["{job=\"api\"} 5"]),
            (
                "increase(requests_total{job=\"api\", instance=\"a\"}[90s] anchored)",
                &["{instance=\"a\", job=\"api\"} 120"],
            ),
            (
                "increase(requests_total{job=\"api\", instance=\"a\"}[90s] smoothed)",
                &["{instance=\"a\", job=\"api\"} 90"],
            ),
        ],
    );
}

#[test]
fn aggregations_over_time() {
    hold(
        "x{a=\"b\"} 4 6 2 _ 8 10",
        &[
            ("avg_over_time(x[6m])", &["{a=\"b\"} 6"]),
            ("sum_over_time(x[6m])", &["{a=\"b\"} 30"]),
            ("min_over_time(x[6m])", &["{a=\"b\"} 2"]),
            ("max_over_time(x[4m])", &["{a=\"b\"} 10"]),
            ("count_over_time(x[6m])", &["{a=\"b\"} 5"]),
            ("stdvar_over_time(x[6m])", &["{a=\"b\"} 8"]),
            ("stddev_over_time(x[6m])", &["{a=\"b\"} 2.8284271247461903"]),
            ("quantile_over_time(0.25, x[6m])", &["{a=\"b\"} 4"]),
            ("mad_over_time(x[6m])", &["{a=\"b\"} 2"]),
            ("first_over_time(x[6m])", &["x{a=\"b\"} 4"]),
            ("last_over_time(x[6m] offset 2m)", &["x{a=\"b\"} 2"]),
            ("present_over_time(x[1m])", &["{a=\"b\"} 1"]),
            ("ts_of_first_over_time(x[6m])", &["{a=\"b\"} 0"]),
            ("ts_of_last_over_time(x[6m])", &["{a=\"b\"} 300"]),
            ("ts_of_max_over_time(x[6m])", &["{a=\"b\"} 300"]),
            ("ts_of_min_over_time(x[6m])", &["{a=\"b\"} 120"]),
            ("double_exponential_smoothing(x[2m], 0.5, 0.5)", &["{a=\"b\"} 10"]),
            ("absent_over_time(x[6m])", &[]),
            ("absent_over_time(y{c=\"d\", e=~\"f\"}[6m])", &["{c=\"d\"} 1"]),
            ("max_over_time(sum(x)[6m:1m])", &["{} 10"]),
        ],
    );
}

#[test]
fn aggregations_over_series() {
    let series = "
        x{g=\"a\", n=\"1\"} 1x5
        x{g=\"a\", n=\"2\"} 3x5
        x{g=\"b\", n=\"3\"} 5x5
        x{g=\"b\", n=\"4\"} NaNx5
    ";
    hold(
        series,
        &[
            ("sum(x{g=\"a\"})", &["{} 4"]),
            ("sum by (g) (x{n!=\"4\"})", &["{g=\"a\"} 4", "{g=\"b\"} 5"]),
            ("avg without (n) (x{n!=\"4\"})", &["{g=\"a\"} 2", "{g=\"b\"} 5"]),
            ("min by (g) (x)", &["{g=\"a\"} 1", "{g=\"b\"} 5"]),
            ("max(x)", &["{} 5"]),
            ("count by (g) (x)", &["{g=\"a\"} 2", "{g=\"b\"} 2"]),
            ("group(x)", &["{} 1"]),
            ("stdvar(x{g=\"a\"})", &["{} 1"]),
            ("stddev(x)", &["{} NaN"]),
            ("quantile(0.5, x{n!=\"4\"})", &["{} 3"]),
            ("topk(2, x)", &["x{g=\"b\", n=\"3\"} 5", "x{g=\"a\", n=\"2\"} 3"]),
            ("bottomk(1, x)", &["x{g=\"a\", n=\"1\"} 1"]),
            ("topk by (g) (1, x)", &["x{g=\"a\", n=\"2\"} 3", "x{g=\"b\", n=\"3\"} 5"]),
            ("limitk(1, x)", &["x{g=\"a\", n=\"1\"} 1"]),
            ("limitk(0, x)", &[]),
            ("count(limit_ratio(0.5, x) or limit_ratio(-0.5, x))", &["{} 4"]),
            ("limit_ratio(0.5, x) and limit_ratio(-0.5, x)", &[]),
            ("count_values(\"v\", x)", &["{v=\"1\"} 1", "{v=\"3\"} 1", "{v=\"5\"} 1", "{v=\"NaN\"} 1"]),
            ("count_values without (n) (\"v\", x > 2)", &["{g=\"a\", v=\"3\"} 1", "{g=\"b\", v=\"5\"} 1"]),
        ],
    );
}

#[test]
fn operators_between_scalars_and_vectors() {
    hold(
        COUNTERS,
        &[
            ("2 ^ 3 ^ 2", &["512"]),
            ("-7 % 3 + 0x10 / 4", &["3"]),
            ("1 > bool 2", &["0"]),
            ("load{job=\"api\"} * 2 - 1", &["{job=\"api\"} 17"]),
            ("10 - load{job=\"api\"}", &["{job=\"api\"} 1"]),
            ("load > 3", &["load{job=\"api\"} 9"]),
            ("3 < bool load", &["{job=\"api\"} 1", "{job=\"web\"} 0"]),
            ("-load{job=\"api\"}", &["{job=\"api\"} -9"]),
            ("load{job=\"api\"} atan2 9", &["{job=\"api\"} 0.7853981633974483"]),
            ("scalar(load{job=\"api\"}) + vector(1)", &["{} 10"]),
            ("scalar(load)", &["NaN"]),
        ],
    );
}

const MATCHED: &str = "
    used{host=\"a\", disk=\"1\"} 4x5
    used{host=\"a\", disk=\"2\"} 6x5
    used{host=\"b\", disk=\"1\"} 8x5
    size{host=\"a\", unit=\"GB\"} 20x5
    size{host=\"c\", unit=\"GB\"} 30x5
";

#[test]
fn operators_between_vectors() {
    hold(
        MATCHED,
        &[
            (
                "used + used",
                &["{disk=\"1\", host=\"a\"} 8", "{disk=\"1\", host=\"b\"} 16", "{disk=\"2\", host=\"a\"} 12"],
            ),
            (
                "used / on (host) group_left (unit) size",
                &["{disk=\"1\", host=\"a\", unit=\"GB\"} 0.2", "{disk=\"2\", host=\"a\", unit=\"GB\"} 0.3"],
            ),
            ("size - on (host) group_right () used", &["{disk=\"1\", host=\"a\"} 16", "{disk=\"2\", host=\"a\"} 14"]),
            ("sum by (host) (used) < on (host) size", &["{host=\"a\"} 10"]),
            ("size > bool on (host) sum by (host) (used)", &["{host=\"a\"} 1"]),
            (
                "sum by (host) (used) + on (host) fill (0) size",
                &["{host=\"a\"} 30", "{host=\"b\"} 8", "{host=\"c\"} 30"],
            ),
            ("sum by (host) (used) - on (host) fill_right (1) size", &["{host=\"a\"} -10", "{host=\"b\"} 7"]),
            (
                "size + on (host) group_right () fill_left (1) used",
                &["{disk=\"1\", host=\"a\"} 24", "{disk=\"2\", host=\"a\"} 26", "{disk=\"1\", host=\"b\"} 9"],
            ),
            ("used and on (host) size", &["used{disk=\"1\", host=\"a\"} 4", "used{disk=\"2\", host=\"a\"} 6"]),
            ("used unless on (host) size", &["used{disk=\"1\", host=\"b\"} 8"]),
            (
                "size or on (host) used",
                &[
                    "size{host=\"a\", unit=\"GB\"} 20",
                    "size{host=\"c\", unit=\"GB\"} 30",
                    "used{disk=\"1\", host=\"b\"} 8",
                ],
            ),
        ],
    );
    refuse(
        MATCHED,
        &[
            (
                "used + on (host) size",
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
            ),
            (
                "size + on (host) used",
                "found duplicate series for the match group {host=\"a\"} on the right hand-side of the operation: \
                 [{__name__=\"used\", disk=\"1\", host=\"a\"}, {__name__=\"used\", disk=\"2\", host=\"a\"}];many-to-many \
                 matching not allowed: matching labels must be unique on one side",
            ),
        ],
    );
}

#[test]
fn names_are_lost_at_once_or_at_the_end() {
    let series = "
        a{l=\"1\"} 1x5
        b{l=\"1\"} 2x5
    ";
    refuse(
        series,
        &[
            ("-{l=\"1\"}", "vector cannot contain metrics with the same labelset"),
            ("abs({l=\"1\"})", "vector cannot contain metrics with the same labelset"),
            ("max_over_time({l=\"1\"}[1m])", "vector cannot contain metrics with the same labelset"),
            (
                "{l=\"1\"} * on (l) group_left () a",
                "multiple matches for labels: grouping labels must ensure unique matches",
            ),
        ],
    );
    let late = engine(storage(60_000, series), options(true));
    assert!(ask(&late, "abs({l=\"1\"})", AT).is_err());
    let found = ask(&late, "label_replace(abs({l=\"1\"}), \"n\", \"$1\", \"__name__\", \"(.+)\")", AT).unwrap();
    assert_eq!(shown(&found.value), ["{l=\"1\", n=\"a\"} 1", "{l=\"1\", n=\"b\"} 2"]);
}

#[test]
fn functions_of_single_values() {
    hold(
        "x 2.5x5\ny -1x5",
        &[
            ("floor(x)", &["{} 2"]),
            ("ceil(x)", &["{} 3"]),
            ("round(x)", &["{} 3"]),
            ("round(x, 2)", &["{} 2"]),
            ("abs(y)", &["{} 1"]),
            ("sgn(y)", &["{} -1"]),
            ("sqrt(y)", &["{} NaN"]),
            ("clamp(x, 0, 2)", &["{} 2"]),
            ("clamp(x, 2, 0)", &[]),
            ("clamp_min(y, 0)", &["{} 0"]),
            ("clamp_max(x, 1)", &["{} 1"]),
            ("exp(vector(0))", &["{} 1"]),
            ("ln(vector(1)) + log2(vector(8)) + log10(vector(100))", &["{} 5"]),
            ("deg(vector(pi()))", &["{} 180"]),
            ("time()", &["300"]),
            ("timestamp(x)", &["{} 300"]),
            ("timestamp(x offset 1m)", &["{} 240"]),
            ("timestamp(-x offset 1m)", &["{} 300"]),
            ("minute() + hour()", &["{} 5"]),
            ("year(vector(1709251140)) * 100 + month(vector(1709251140))", &["{} 202402"]),
            ("max_of(step(), 3) + range()", &["3"]),
            ("start_timestamp(x)", &["{} 0"]),
        ],
    );
}

#[test]
fn functions_of_labels_and_order() {
    let series = "
        x{n=\"v10\", h=\"a:1\"} 3x5
        x{n=\"v9\", h=\"b:2\"} NaNx5
        x{n=\"v1\", h=\"c:3\"} 1x5
    ";
    hold(
        series,
        &[
            ("sort(x)", &["x{h=\"c:3\", n=\"v1\"} 1", "x{h=\"a:1\", n=\"v10\"} 3", "x{h=\"b:2\", n=\"v9\"} NaN"]),
            ("sort_desc(x)", &["x{h=\"a:1\", n=\"v10\"} 3", "x{h=\"c:3\", n=\"v1\"} 1", "x{h=\"b:2\", n=\"v9\"} NaN"]),
            (
                "sort_by_label(x, \"n\")",
                &["x{h=\"c:3\", n=\"v1\"} 1", "x{h=\"b:2\", n=\"v9\"} NaN", "x{h=\"a:1\", n=\"v10\"} 3"],
            ),
            ("sort_by_label_desc(x{n!=\"v9\"}, \"n\")", &["x{h=\"a:1\", n=\"v10\"} 3", "x{h=\"c:3\", n=\"v1\"} 1"]),
            (
                "label_replace(x{n=\"v1\"}, \"host\", \"$1-$port\", \"h\", \"(.*):(?P<port>.*)\")",
                &["x{h=\"c:3\", host=\"c-3\", n=\"v1\"} 1"],
            ),
            ("label_replace(x{n=\"v1\"}, \"n\", \"\", \"h\", \".*\")", &["x{h=\"c:3\"} 1"]),
            ("label_join(x{n=\"v1\"}, \"j\", \"/\", \"n\", \"h\")", &["x{h=\"c:3\", j=\"v1/c:3\", n=\"v1\"} 1"]),
            ("absent(x)", &[]),
            ("absent(x{n=\"v2\", h=~\".+\"})", &["{n=\"v2\"} 1"]),
            ("absent(sum(y))", &["{} 1"]),
        ],
    );
    refuse(
        series,
        &[
            ("label_replace(x, \"h\", \"\", \"\", \"(\")", "invalid regular expression in label_replace(): ("),
            ("label_replace(x, \"\", \"\", \"\", \"\")", "invalid destination label name in label_replace(): "),
            (
                "double_exponential_smoothing(x[5m], 1, 0.5)",
                "invalid smoothing factor. Expected: 0 < sf < 1, got: 1.000000",
            ),
            ("topk(NaN, x)", "Parameter value is NaN"),
            ("topk(1e300, x)", "Scalar value 1e+300 overflows int64"),
            (
                "quantile_over_time(0.5, x[5m] anchored)",
                "anchored modifier can only be used with: changes, delta, \
             increase, rate, resets - not with quantile_over_time",
            ),
        ],
    );
}

#[test]
fn classic_and_native_histograms() {
    let series = "
        h_bucket{le=\"0.1\"} 50x5
        h_bucket{le=\".2\"} 70x5
        h_bucket{le=\"1e0\"} 110x5
        h_bucket{le=\"+Inf\"} 120x5
        n {{schema:0 sum:5 count:4 buckets:[1 2 1]}}+{{schema:0 sum:5 count:4 buckets:[1 2 1]}}x5
    ";
    hold(
        series,
        &[
            ("histogram_quantile(0.5, h_bucket)", &["{} 0.15000000000000002"]),
            ("histogram_fraction(0, 0.1, h_bucket) * 12", &["{} 5"]),
            ("histogram_quantile(1, h_bucket{le!=\"+Inf\"})", &["{} NaN"]),
            ("n", &["n {count:24, sum:30, (0.5,1]:6, (1,2]:12, (2,4]:6}"]),
            ("histogram_count(n) + histogram_sum(n) + histogram_avg(n)", &["{} 55.25"]),
            ("histogram_quantile(0.25, n)", &["{} 1"]),
            ("histogram_fraction(0, 2, n)", &["{} 0.75"]),
            ("increase(n[5m])", &["{} {count:20, sum:25, (0.5,1]:5, (1,2]:10, (2,4]:5}"]),
            ("sum(n) / 2 - n / 4", &["{} {count:6, sum:7.5, (0.5,1]:1.5, (1,2]:3, (2,4]:1.5}"]),
            ("n == n offset 1m", &[]),
            ("count_over_time(n[2m])", &["{} 2"]),
            ("histogram_count(sum_over_time(n[2m]))", &["{} 44"]),
            ("histogram_count(avg_over_time(n[2m]))", &["{} 22"]),
            ("histogram_count(irate(n[2m]) * 60)", &["{} 4"]),
            ("max(n)", &[]),
        ],
    );
}

#[test]
fn info_adds_the_labels_of_what_describes_a_series() {
    let series = "
        x{job=\"j\", instance=\"i\"} 1x5
        x{job=\"other\", instance=\"i\"} 2x5
        target_info{job=\"j\", instance=\"i\", version=\"7\", zone=\"z\"} 1x5
    ";
    hold(
        series,
        &[
            (
                "info(x)",
                &["x{instance=\"i\", job=\"j\", version=\"7\", zone=\"z\"} 1", "x{instance=\"i\", job=\"other\"} 2"],
            ),
            ("info(x, {version=~\".+\"})", &["x{instance=\"i\", job=\"j\", version=\"7\"} 1"]),
            (
                "info(x, {__name__=\"none_info\"})",
                &["x{instance=\"i\", job=\"j\"} 1", "x{instance=\"i\", job=\"other\"} 2"],
            ),
        ],
    );
}

#[test]
fn notes_say_what_may_surprise_and_where() {
    let series = "
        x 1 2 3 4 5 6
        n {{schema:0 count:1 buckets:[1]}}x5
        b{le=\"bad\"} 1x5
    ";
    let engine = engine(storage(60_000, series), options(true));
    let rows: [(&str, &[&str], &[&str]); 6] = [
        (
            "rate(x[5m])",
            &[],
            &[
                "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\" (1:6)",
            ],
        ),
        ("quantile(2, x)", &["PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"], &[]),
        (
            "histogram_quantile(0.5, b)",
            &[
                "PromQL warning: bucket label \"le\" is missing or has a malformed value of \"bad\" for metric name \"b\" (1:25)",
            ],
            &[],
        ),
        (
            "sum({__name__=~\"x|n\"})",
            &["PromQL warning: encountered a mix of histograms and floats for aggregation (1:5)"],
            &[],
        ),
        (
            "n + 1",
            &[],
            &["PromQL info: incompatible sample types encountered for binary operator \"+\": histogram + float (1:1)"],
        ),
        ("max(n)", &[], &["PromQL info: ignored histogram in max aggregation (1:5)"]),
    ];
    for (text, warnings, infos) in rows {
        let found = ask(&engine, text, AT).unwrap();
        assert_eq!(
            (found.annotations.warnings, found.annotations.infos),
            (warnings.iter().map(ToString::to_string).collect(), infos.iter().map(ToString::to_string).collect()),
            "{text}"
        );
    }
}
