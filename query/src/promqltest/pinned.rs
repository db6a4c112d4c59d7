//! Variants of a query whose selectors are pinned by `@`, so that the time of evaluation must not matter.

use crate::parser::{At, ExprKind, ParseOptions, parse};

/// Functions whose value depends on the time of evaluation even when their arguments do not.
const DEPENDS_ON_TIME: [&str; 15] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "time",
    "timestamp",
    "start",
    "end",
    "range",
    "step",
];

/// The query pinned to `at_ms`, with other times at which its answer must be the same.
///
/// Outermost selectors and subqueries that carry no time of their own get one; what is inside a subquery
/// follows its grid. Nothing for a query that depends on the time otherwise, or does not parse.
pub(super) fn pinned(query: &str, at_ms: i64) -> Vec<(String, i64)> {
    let Ok(ast) = parse(query, &ParseOptions::all()) else { return Vec::new() };
    // Parents come after their children, so going backwards every node is told before it is looked at.
    let mut inside_subquery = vec![false; ast.nodes().len()];
    let mut edits: Vec<(usize, usize)> = Vec::new();
    for (id, node) in ast.iter().rev() {
        let inside = inside_subquery[id.idx()];
        let below = inside || matches!(node.kind, ExprKind::Subquery(_));
        node.for_each_child(|child| inside_subquery[child.idx()] = below);
        if inside {
            continue;
        }
        let at = match &node.kind {
            ExprKind::VectorSelector(selector) => selector.at,
            ExprKind::MatrixSelector(matrix) => matrix.selector.at,
            ExprKind::Subquery(subquery) => subquery.at,
            ExprKind::Call(call) if DEPENDS_ON_TIME.contains(&call.function.name) => return Vec::new(),
            _ => continue,
        };
        let (start, end) = (node.span.start as usize, node.span.end as usize);
        match at {
            None => edits.push((end, end)),
            Some(At::Timestamp(_)) => {}
            Some(At::Start | At::End) => {
                // Of the node's own modifiers: the last `@` of its text.
                if let Some(at) = query[start..end].rfind('@') {
                    let from = start + at;
                    let len = query[from..end].find(')').map_or(end - from, |close| close + 1);
                    edits.push((from, from + len));
                }
            }
        }
    }
    edits.sort_unstable();
    let time = format!(" @ {}{}.{:03}", if at_ms < 0 { "-" } else { "" }, (at_ms / 1000).abs(), (at_ms % 1000).abs());
    let mut text = query.to_owned();
    for (from, to) in edits.into_iter().rev() {
        text.replace_range(from..to, &time);
    }
    let others: &[i64] = match at_ms {
        0 => &[-1000, 0, 1000],
        _ => &[at_ms.saturating_mul(-10), 0, at_ms / 5, at_ms, at_ms.saturating_mul(10)],
    };
    others.iter().map(|&time| (text.clone(), time)).collect()
}
