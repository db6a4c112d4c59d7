//! A range query equals an instant query at each of its steps.

use proptest::prelude::*;

use super::*;
use crate::eval::labels::without_name;

pub(crate) const SERIES: &str = "
    a{g=\"1\", n=\"1\"} 0+3x10 5 8 _x3 11 stale 2 4+2x10
    a{g=\"1\", n=\"2\"} 10-1x15 NaN Inf 3x10
    a{g=\"2\", n=\"3\"} _x7 1 2 3 _x9 4+1x9
    b{g=\"1\"} 1 2 1 2 1 _x6 7x20
    b{g=\"2\"} 4 stale _x3 5 5 5 stale 6+0x20
    b_bucket{g=\"1\", le=\"1\"} 0+1x30
    b_bucket{g=\"1\", le=\"2\"} 0+2x12 3x18
    b_bucket{g=\"1\", le=\"+Inf\"} 0+3x30
    h{g=\"1\"} {{schema:0 sum:1 count:2 buckets:[1 1]}}+{{schema:0 sum:2 count:2 buckets:[2]}}x12 _x4 7x4
";

/// Vector expressions over [`SERIES`].
pub(crate) fn vectors() -> impl Strategy<Value = String> {
    let selectors = ["a", "b", "{g=\"1\"}", "a{n!=\"2\"}", "b offset 45s", "a @ 700", "h", "b_bucket", "nothing"];
    let leaf = prop_oneof![
        prop::sample::select(selectors.to_vec()).prop_map(str::to_owned),
        Just("vector(time())".to_owned()),
        Just("vector(3)".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let range = prop::sample::select(vec!["90s", "2m", "5m", "1s"]);
        let over = prop::sample::select(vec![
            "rate",
            "increase",
            "delta",
            "irate",
            "idelta",
            "deriv",
            "changes",
            "resets",
            "avg_over_time",
            "sum_over_time",
            "min_over_time",
            "max_over_time",
            "count_over_time",
            "stddev_over_time",
            "last_over_time",
            "first_over_time",
            "mad_over_time",
            "ts_of_max_over_time",
            "present_over_time",
            "absent_over_time",
        ]);
        let simple = prop::sample::select(vec!["abs", "-", "ceil", "timestamp", "hour", "absent", "sort", "sgn"]);
        let aggregate = prop::sample::select(vec![
            "sum",
            "avg by (g)",
            "min",
            "max without (n)",
            "count by (g)",
            "group",
            "stddev",
            "topk by (g) (1,",
            "bottomk(2,",
            "quantile(0.3,",
            "limitk(2,",
            "limit_ratio(0.5,",
            "count_values by (g) (\"v\",",
        ]);
        let operator = prop::sample::select(vec![
            "+ on (g) group_left ()",
            "-",
            "* ignoring (n) group_right ()",
            "/ on (g)",
            "> bool on (g) group_left ()",
            "and on (g)",
            "or",
            "unless on (g)",
            "== on (g)",
            "+ on (g) group_left () fill (1)",
        ]);
        let number = prop::sample::select(vec!["* 2", "> 3", ">= bool 2", "% 2", "^ 0.5"]);
        let selected = prop::sample::select(vec!["a", "b", "h", "{g=\"1\"}", "b offset 30s"]);
        prop_oneof![
            (over.clone(), selected, range.clone()).prop_map(|(f, x, r)| format!("{f}({x}[{r}])")),
            (over, inner.clone(), range).prop_map(|(f, x, r)| format!("{f}(({x})[{r}:25s])")),
            (simple, inner.clone()).prop_map(|(f, x)| format!("{f}({x})")),
            (aggregate, inner.clone()).prop_map(|(f, x)| if f.ends_with(',') {
                format!("{f} {x})")
            } else {
                format!("{f} ({x})")
            }),
            (inner.clone(), number).prop_map(|(x, n)| format!("({x}) {n}")),
            (inner.clone(), operator, inner.clone()).prop_map(|(x, op, y)| format!("({x}) {op} ({y})")),
            inner.prop_map(|x| format!("histogram_quantile(0.7, {x})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_range_is_its_instants(text in vectors(), late in any::<bool>(), offset_s in 0i64..90) {
        let engine = engine(storage(30_000, SERIES), options(late));
        // While names are still there, `or` makes one series of one whose name goes and one whose name stays; whether
        // it goes is then decided by the first step of the range, as upstream does.
        let forgets_names = late && text.contains(") or (");
        let points_at = |value: &QueryValue, at_ms| {
            let mut points = points_at(value, at_ms);
            if forgets_names {
                points.iter_mut().for_each(|(labels, _)| *labels = without_name(labels));
                points.sort();
            }
            points
        };
        let grid = Grid::Range { start_ms: offset_s * 1_000, end_ms: 1_100_000, step_ms: 47_000 };
        let instants: Vec<(i64, Result<QueryResult, QueryError>)> = (0..grid.steps())
            .map(|step| grid.time_ms(step))
            .map(|at_ms| (at_ms, ask(&engine, &text, Grid::Instant { at_ms })))
            .collect();
        match ask(&engine, &text, grid) {
            Ok(whole) => {
                for (at_ms, instant) in instants {
                    let alone = instant.map_err(|e| TestCaseError::fail(format!("{text} at {at_ms}: {e}")))?;
                    prop_assert_eq!(points_at(&whole.value, at_ms), points_at(&alone.value, at_ms), "{} at {}", text, at_ms);
                }
            }
            // Series of one name meet at some step, or, over ranges, at none: then upstream refuses too. So it does when
            // they meet at a step of a subquery that lies between the windows of the steps.
            Err(error) => prop_assert!(
                instants.iter().any(|(_, instant)| instant.is_err())
                    || error.message.contains("same labelset")
                    || (text.contains(":25s]") && error.message.contains("match")),
                "{}: {}", text, error
            ),
        }
    }
}
