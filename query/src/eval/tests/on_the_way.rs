//! What changes series on their way into an aggregation does to each what it does to the whole vector.

use super::*;

/// The same vector, of which an aggregation does not know how it came about.
fn whole(vector: &str) -> String {
    format!("(({vector}) or ({vector}))")
}

#[test]
fn changes_on_the_way_into_an_aggregation_give_what_they_give_of_a_whole_vector() {
    let vectors = [
        "rate(a[5m]) * 8",
        "8 / rate({g=\"1\"}[5m])",
        "-(rate(a[5m]) * 2) + 1",
        "a > 5",
        "5 < a",
        "last_over_time(a[5m]) >= 3",
        "avg_over_time(h[5m]) * 2",
        "avg_over_time(h[5m]) + 1",
        "(rate(a[5m]) > bool 0.02)",
        // Which of these may be done on the way is another matter; names go with the operator.
        "a * 2",
        "-b",
        "max_over_time(a[5m:1m]) ^ 2",
    ];
    let aggregations = ["sum by (g)", "avg", "count", "max by (n)", "topk(1,", "quantile(0.3,", "limitk(2,", "stddev"];
    let storage = storage(60_000, steps::SERIES);
    for delayed in [false, true] {
        let engine = engine(storage.clone(), options(delayed));
        for vector in vectors {
            for aggregation in aggregations {
                let of = |vector: &str| match aggregation.strip_suffix(',') {
                    Some(open) => format!("{open}, {vector})"),
                    None => format!("{aggregation} ({vector})"),
                };
                let grid = Grid::Range { start_ms: 0, end_ms: 1_800_000, step_ms: 60_000 };
                let (streamed, collected) = (ask(&engine, &of(vector), grid), ask(&engine, &of(&whole(vector)), grid));
                let (Ok(streamed), Ok(collected)) = (&streamed, &collected) else {
                    assert_eq!(streamed.is_ok(), collected.is_ok(), "{}", of(vector));
                    continue;
                };
                assert_eq!(shown(&streamed.value), shown(&collected.value), "{}, delayed: {delayed}", of(vector));
                assert_eq!(streamed.annotations.warnings.len(), collected.annotations.warnings.len(), "{}", of(vector));
            }
        }
    }
}

#[test]
fn what_is_changed_on_the_way_is_not_held_as_a_whole() {
    let series: String = (0..400).map(|n| format!("x{{n=\"{n}\"}} 0+{n}x30\n")).collect();
    let engine = alone(storage(60_000, &series), options(false));
    let grid = Grid::Range { start_ms: 0, end_ms: 1_800_000, step_ms: 60_000 };
    let held = |text: &str| ask(&engine, text, grid).unwrap().cost.memory_bytes;
    let (streamed, collected) = (held("sum(rate(x[5m]) * 8)"), held(&format!("sum({})", whole("rate(x[5m]) * 8"))));
    assert!(streamed * 10 < collected, "{streamed} bytes, and {collected} of the whole vector");
}
