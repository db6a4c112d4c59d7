//! A plan as a tree for people: what each node does and how much it is expected to read.

use std::time::Duration;

use kymo_core::query::{NodeCost, PlanNode};
use kymo_core::storage::Tier;

use super::Plan;
use crate::parser::{Ast, Expr, ExprKind, NodeId};

/// Levels shown. A deeper tree is cut, and says so: the shown form nests, and whoever walks or drops
/// it may recurse.
const DEPTH_MAX: usize = 200;

/// What was seen at one node, or is expected there.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) estimated: NodeCost,
    pub(crate) actual: NodeCost,
    /// Of a selector.
    pub(crate) tier: Option<Tier>,
    /// Series read from storage here.
    pub(crate) series_read: u64,
    pub(crate) time: Duration,
    /// The node whose value it took.
    pub(crate) same_as: Option<NodeId>,
}

impl Plan {
    /// The tree, with `seen` per node of the arena.
    pub(crate) fn explain(&self, ast: &Ast, seen: &[Seen]) -> PlanNode {
        let count = ast.nodes().len();
        let mut depths = vec![0usize; count];
        for (id, expr) in ast.iter().rev() {
            let below = depths[id.idx()] + 1;
            expr.for_each_child(|child| depths[child.idx()] = below);
        }
        let mut done: Vec<Option<PlanNode>> = vec![None; count];
        for (id, expr) in ast.iter() {
            let depth = depths[id.idx()];
            if depth > DEPTH_MAX {
                continue;
            }
            let mut node = self.node_of(expr, id.idx(), seen[id.idx()]);
            if let Some(same) = seen[id.idx()].same_as {
                let at = ast[same].span.start;
                node.operation.push_str(&format!(", taken from the same expression at byte {at}"));
            }
            if depth == DEPTH_MAX {
                let mut deeper = false;
                expr.for_each_child(|_| deeper = true);
                if deeper {
                    node.operation.push_str(" (deeper levels are not shown)");
                }
            }
            expr.for_each_child(|child| node.inputs.extend(done[child.idx()].take()));
            done[id.idx()] = Some(node);
        }
        done.pop().flatten().unwrap_or_default()
    }

    fn node_of(&self, expr: &Expr, idx: usize, seen: Seen) -> PlanNode {
        let planned = &self.nodes[idx];
        let mut operation = match &expr.kind {
            ExprKind::NumberLiteral(number) => format!("number {}", number.value),
            ExprKind::StringLiteral(_) => "string".to_owned(),
            ExprKind::VectorSelector(_) => "select".to_owned(),
            ExprKind::MatrixSelector(_) => "select range".to_owned(),
            ExprKind::Subquery(_) => "subquery".to_owned(),
            ExprKind::Call(call) => format!("{}()", call.function.name),
            ExprKind::Aggregate(aggregate) => {
                let labels = aggregate.grouping.join(", ");
                match (aggregate.without, aggregate.grouping.is_empty()) {
                    (true, _) => format!("{} without ({labels})", aggregate.op),
                    (false, true) => aggregate.op.to_string(),
                    (false, false) => format!("{} by ({labels})", aggregate.op),
                }
            }
            ExprKind::Binary(binary) => format!("operator {}", binary.op),
            ExprKind::Unary(_) => "sign".to_owned(),
            ExprKind::Paren(_) => "parentheses".to_owned(),
        };
        if let Some(source) = &planned.source {
            if let Some(selector) = &source.selector {
                let matchers: Vec<String> = selector.matchers.iter().map(ToString::to_string).collect();
                operation.push_str(&format!(
                    " {{{}}} in ({}, {}]",
                    matchers.join(", "),
                    selector.start_ms,
                    selector.end_ms
                ));
            } else {
                operation.push_str(&format!(" of {} ms", source.range_ms));
            }
        }
        if planned.broadcast.is_some() {
            operation.push_str(", once for all steps");
        } else {
            operation.push_str(&format!(", {} steps", planned.grid.steps()));
        }
        PlanNode {
            operation,
            span: Some((expr.span.start, expr.span.end)),
            steps: planned.grid.steps() as u64,
            tier: seen.tier,
            estimated: seen.estimated,
            actual: seen.actual,
            time: seen.time,
            inputs: Vec::new(),
        }
    }
}
