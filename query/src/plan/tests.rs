//! Plans of whole expressions.

use super::*;
use crate::parser::{ParseOptions, parse};

const LOOKBACK_MS: i64 = 300_000;

fn plan(text: &str, grid: Grid) -> (Ast, Plan) {
    let ast = parse(text, &ParseOptions::all()).unwrap();
    let plan = Plan::new(&ast, grid, LOOKBACK_MS, None, &EngineOptions::all()).unwrap();
    (ast, plan)
}

/// Windows asked of storage, in the order of the text.
fn windows(text: &str) -> Vec<(i64, i64)> {
    let grid = Grid::Range { start_ms: 1_000_000, end_ms: 1_600_000, step_ms: 60_000 };
    let (_, plan) = plan(text, grid);
    let selectors = plan.nodes.iter().filter_map(|node| node.source.as_ref()?.selector.as_ref());
    selectors.map(|selector| (selector.start_ms, selector.end_ms)).collect()
}

#[test]
fn windows_cover_what_any_step_looks_at_and_no_more() {
    let rows: [(&str, &[(i64, i64)]); 9] = [
        ("x", &[(700_000, 1_600_000)]),
        ("x offset 100s", &[(600_000, 1_500_000)]),
        ("x offset -100s", &[(800_000, 1_700_000)]),
        ("x @ 500", &[(200_000, 500_000)]),
        ("rate(x[60s])", &[(940_000, 1_600_000)]),
        ("rate(x[60s] @ end())", &[(1_540_000, 1_600_000)]),
        ("rate(x[60s] anchored)", &[(640_000, 1_600_000)]),
        ("rate(x[60s] smoothed)", &[(640_000, 1_900_000)]),
        // Steps at multiples of 7 s behind 1000 s − 100 s: from 903 s to 1596 s.
        ("max_over_time(x[100s:7s]) + y", &[(603_000, 1_596_000), (700_000, 1_600_000)]),
    ];
    for (text, expected) in rows {
        assert_eq!(windows(text), expected, "{text}");
    }
}

#[test]
fn what_is_constant_is_planned_for_one_step() {
    let grid = Grid::Range { start_ms: 0, end_ms: 600_000, step_ms: 60_000 };
    let constant = |text: &str| {
        let (ast, plan) = plan(text, grid);
        plan.node(ast.root()).broadcast == Some(11)
    };
    for text in ["x @ 0", "sum(rate(x[5m] @ 10)) / 2", "vector(1)", "max_over_time(x[5m:1m] @ 1)", "abs(x @ start())"] {
        assert!(constant(text), "{text}");
    }
    for text in ["x", "x @ 0 + y", "time()", "timestamp(x @ 0)", "predict_linear(x[5m] @ 0, 1)", "hour(x @ 0)"] {
        assert!(!constant(text), "{text}");
    }
}

#[test]
fn subqueries_step_at_absolute_multiples() {
    let inner = |text: &str, at_ms: i64| {
        let (_, plan) = plan(text, Grid::Instant { at_ms });
        plan.nodes.iter().find_map(|node| node.source.as_ref()?.inner).unwrap()
    };
    let steps = |grid: Grid| (grid.start_ms(), grid.time_ms(grid.steps() - 1), grid.steps());
    assert_eq!(steps(inner("max_over_time(x[50s:10s])", 100_000)), (60_000, 100_000, 5));
    assert_eq!(steps(inner("max_over_time(x[50s:10s] offset 3s)", 100_000)), (50_000, 90_000, 5));
    assert_eq!(steps(inner("max_over_time(x[50s:10s] @ 7)", 100_000)), (-40_000, 0, 5));
    assert_eq!(steps(inner("max_over_time(x[2m:])", 100_000)), (0, 60_000, 2));
    assert_eq!(inner("max_over_time(x[1s:10s])", 105_000).steps(), 0);
}

#[test]
fn a_range_query_needs_a_scalar_or_a_vector() {
    let range = Grid::Range { start_ms: 0, end_ms: 1, step_ms: 1 };
    for (text, kind) in [("x[5m]", "range vector"), ("\"a\"", "string")] {
        let ast = parse(text, &ParseOptions::all()).unwrap();
        let message = check_root(&ast, range).unwrap_err().message;
        let expected = format!("invalid expression type {kind:?} for range query, must be Scalar or instant Vector");
        assert_eq!(message, expected);
        assert_eq!(check_root(&ast, Grid::Instant { at_ms: 0 }), Ok(()));
    }
}
