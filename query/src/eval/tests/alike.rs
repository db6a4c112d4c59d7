//! What is evaluated once for two places answers as if it had been evaluated for each.

use kymo_core::query::StatsWanted;
use kymo_core::{Budget, ErrorKind};

use super::*;

/// Expressions with a gap where a matcher that changes nothing fits.
const EXPRESSIONS: [&str; 22] = [
    "a{g!=\"\"#}",
    "a{g!=\"\"#} offset 1m",
    "a{g!=\"\"#} @ 300",
    "b{g!=\"\"#} * 2",
    "-a{g!=\"\"#}",
    "(a{g!=\"\"#} > 2)",
    "rate(a{g!=\"\"#}[5m])",
    "rate(a{g!=\"\"#}[5m]) * 8",
    "8 - (rate(a{g!=\"\"#}[5m]))",
    "increase(a{g!=\"\"#}[5m]) > 1",
    "last_over_time(a{g!=\"\"#}[5m])",
    "quantile_over_time(0.7, a{g!=\"\"#}[5m])",
    "avg_over_time(h{g!=\"\"#}[5m])",
    "rate(h{g!=\"\"#}[5m])",
    "sum by (g) (rate(a{g!=\"\"#}[5m]))",
    "topk(2, a{g!=\"\"#})",
    "count_values(\"v\", a{g!=\"\"#})",
    "max_over_time(rate(a{g!=\"\"#}[5m])[10m:1m])",
    "label_replace(a{g!=\"\"#}, \"x\", \"$1\", \"n\", \"(.*)\")",
    "sum(a{g!=\"\"#}) / count(a{g!=\"\"#})",
    "timestamp(a{g!=\"\"#})",
    // Both names at once: their rates cannot be told apart.
    "rate({g=\"1\"#}[5m])",
];

/// Where they stand, twice or more.
const PLACES: [&str; 13] = [
    "$ / $",
    "$ / ($ + $)",
    "$ - on (g, n) group_left sum by (g, n) ($)",
    "sum($) / count($)",
    "count($) - on () sum(-($))",
    "avg by (g) ($) / ignoring (n) group_right ($)",
    "topk(1, $) + max($)",
    "max by (g) ($) - min by (g) ($) + stddev by (g) ($)",
    "quantile(0.5, $) or quantile(0.5, $)",
    "($ unless ($ > 3)) or $",
    "sum_over_time(($)[5m:1m]) + ($)",
    "sum(abs($)) + sum(abs($)) * scalar(sum($))",
    "sum($ + $) - sum($) * 2",
];

/// The question with its expressions alike, and with each but the first told apart by a matcher that changes nothing.
/// Both have every byte that is noted at the same place.
fn questions(place: &str, expression: &str) -> [String; 2] {
    let (mut alike, mut apart) = (String::new(), String::new());
    for (count, part) in place.split('$').enumerate() {
        if count > 0 {
            let matcher = format!(",z{count}!=\"1\"");
            apart.push_str(&expression.replace('#', &matcher));
            alike.push_str(&expression.replace("#}", &format!("}}{}", " ".repeat(matcher.len()))));
        }
        alike.push_str(part);
        apart.push_str(part);
    }
    [alike, apart]
}

fn said(result: &Result<QueryResult, QueryError>) -> String {
    match result {
        Ok(result) => {
            let stats = result.stats.as_ref().unwrap();
            let counted = (stats.total_queryable_samples, &stats.samples_per_step);
            format!("{:#?}\n{:?}\n{counted:?}", shown(&result.value), result.annotations)
        }
        Err(error) => format!("{:?} {}", error.kind, error.message),
    }
}

#[test]
fn what_stands_twice_answers_as_if_evaluated_twice() {
    let storage = storage(60_000, steps::SERIES);
    let grids = [Grid::Instant { at_ms: 600_000 }, Grid::Range { start_ms: 0, end_ms: 1_800_000, step_ms: 90_000 }];
    let (mut shared, mut answered) = (0, 0);
    for delayed in [false, true] {
        let engine = engine(storage.clone(), options(delayed));
        for (place, expression) in PLACES.iter().flat_map(|place| EXPRESSIONS.map(|expression| (place, expression))) {
            let [alike, apart] = questions(place, expression);
            for grid in grids {
                let ask = |text: &str| {
                    let mut request = QueryRequest::new(text, grid);
                    request.stats = StatsWanted::PerStep;
                    engine.query(&request, &QueryContext::unlimited())
                };
                let (once, twice) = (ask(&alike), ask(&apart));
                assert_eq!(said(&once), said(&twice), "{alike}\n{apart}\n{grid:?}, delayed: {delayed}");
                if let (Ok(once), Ok(twice)) = (&once, &twice) {
                    answered += 1;
                    shared += u32::from(once.cost.nodes_shared > 0);
                    assert!(once.cost.samples <= twice.cost.samples, "{alike}");
                    let (few, many) = (once.cost.samples, twice.cost.samples);
                    assert_eq!(few < many, once.cost.nodes_shared > twice.cost.nodes_shared && many > 0, "{alike}");
                }
            }
        }
    }
    assert!(answered > 600 && shared * 2 > answered, "{shared} of {answered} shared something");
}

/// What is read, shared and held for a question.
fn cost(engine: &Engine, text: &str) -> kymo_core::query::QueryCost {
    let grid = Grid::Range { start_ms: 0, end_ms: 1_800_000, step_ms: 60_000 };
    ask(engine, text, grid).unwrap().cost
}

#[test]
fn series_that_two_aggregations_take_are_read_once_and_not_held() {
    let series: String = (0..400).map(|n| format!("x_total{{n=\"{n}\"}} 0+{n}x30\n")).collect();
    let engine = alone(storage(60_000, &series), options(false));
    let one = cost(&engine, "sum(rate(x_total[5m]))");
    let two = cost(&engine, "sum(rate(x_total[5m])) / count(rate(x_total[5m]))");
    assert_eq!((two.samples, two.series, two.nodes_shared), (one.samples, one.series, 2));
    assert!(two.memory_bytes < 2 * one.memory_bytes, "{} bytes, {} for one", two.memory_bytes, one.memory_bytes);
    let share = cost(&engine, "rate(x_total[5m]) / on () group_left () sum(rate(x_total[5m]))");
    assert_eq!((share.samples, share.nodes_shared), (one.samples, 2));
    let whole = cost(&engine, "sum(rate(x_total[5m])) / (sum(rate(x_total[5m])) + sum(rate(x_total[5m])))");
    assert_eq!((whole.samples, whole.nodes_shared), (one.samples, 6));
}

#[test]
fn the_plan_says_whose_value_a_node_took() {
    let engine = engine(storage(60_000, steps::SERIES), options(false));
    let mut request = QueryRequest::new("sum(a) / (sum(a) + 1)", Grid::Instant { at_ms: 600_000 });
    request.explain = true;
    let plan = engine.query(&request, &QueryContext::unlimited()).unwrap().plan.unwrap();
    let mut operations = Vec::new();
    let mut open = vec![&plan];
    while let Some(node) = open.pop() {
        operations.push((node.operation.clone(), node.actual.samples));
        open.extend(&node.inputs);
    }
    let taken: Vec<_> = operations.iter().filter(|(text, _)| text.contains("taken from")).collect();
    assert_eq!(taken.len(), 1, "{operations:?}");
    assert!(taken[0].0.ends_with("taken from the same expression at byte 0"), "{taken:?}");
    assert_eq!(operations.iter().filter(|(_, samples)| *samples > 0).count(), 1, "one selector read: {operations:?}");
}

#[test]
fn what_does_not_fit_twice_is_evaluated_twice() {
    let series: String = (0..200).map(|n| format!("x_total{{n=\"{n}\"}} 0+{n}x30\n")).collect();
    let engine = engine(storage(60_000, &series), options(false));
    let grid = Grid::Range { start_ms: 0, end_ms: 1_800_000, step_ms: 60_000 };
    let text = "topk(1, rate(x_total[5m])) / on () group_left () sum(rate(x_total[5m]))";
    let ask_within = |text: &str, bytes: u64| {
        let ctx = QueryContext { budget: Budget::root("query", bytes), ..QueryContext::unlimited() };
        engine.query(&QueryRequest::new(text, grid), &ctx)
    };
    let free = ask_within(text, u64::MAX).unwrap();
    // Whatever there is room for, the answer is the same or refused, and more room never changes that.
    let mut answers = 0;
    for bytes in (0..400_000).step_by(4_000) {
        match ask_within(text, bytes) {
            Ok(answer) => {
                answers += 1;
                assert_eq!(shown(&answer.value), shown(&free.value), "{bytes} bytes");
            }
            Err(error) => assert_eq!((error.kind, answers), (ErrorKind::Limit, 0), "{bytes} bytes"),
        }
    }
    assert!(answers > 0, "400,000 bytes are enough");
}
