//! Types and the rules that go beyond grammar.
//!
//! Runs once the grammar is satisfied, as upstream does, and in upstream's order, so that of
//! several faults the same one is reported. A stack of tasks takes the place of recursion.

use std::collections::BTreeSet;

use super::ast::{BinaryOp, Cardinality, Expr, ExprKind, NodeId, Span, ValueType, VectorSelector};
use super::error::Fault;
use super::functions::Variadic;
use super::parse_selector::NAME_LABEL;
use super::quote::quoted;

/// Steps of the walk; the last pushed is done first.
enum Task {
    /// Check a node and what is below it.
    Visit(NodeId),
    /// Once a node is checked: it must be of a type, to stand where it stands.
    Expect(NodeId, ValueType, Place),
    /// Once a node's children are checked: check how they fit.
    Finish(NodeId),
}

/// Where a type is demanded.
#[derive(Clone, Copy)]
enum Place {
    Aggregation,
    AggregationParam,
    CallOf(&'static str),
}

impl Place {
    fn describe(self) -> String {
        match self {
            Self::Aggregation => "aggregation expression".to_owned(),
            Self::AggregationParam => "aggregation parameter".to_owned(),
            Self::CallOf(name) => format!("call to function {}", quoted(name)),
        }
    }
}

/// Checks a whole tree and settles how its vectors match. `unselective` are the selectors, by
/// rising id, that would select every series.
pub(super) fn check(query: &str, nodes: &mut [Expr], unselective: &[NodeId]) -> Result<(), Fault> {
    let root = NodeId(nodes.len() as u32 - 1);
    let mut tasks = vec![Task::Visit(root)];
    while let Some(task) = tasks.pop() {
        match task {
            Task::Visit(id) => visit(nodes, id, unselective, &mut tasks)?,
            Task::Expect(id, wanted, place) => {
                let node = &nodes[id.idx()];
                if node.value_type != wanted {
                    let message = format!(
                        "expected type {} in {}, got {}",
                        wanted.documented(),
                        place.describe(),
                        node.value_type.documented()
                    );
                    return Err(Fault::new(node.span, message));
                }
            }
            Task::Finish(id) => finish(query, nodes, id)?,
        }
    }
    Ok(())
}

fn visit(nodes: &mut [Expr], id: NodeId, unselective: &[NodeId], tasks: &mut Vec<Task>) -> Result<(), Fault> {
    let Expr { kind, span, .. } = &nodes[id.idx()];
    match kind {
        ExprKind::NumberLiteral(_) | ExprKind::StringLiteral(_) => {}
        ExprKind::VectorSelector(selector) => {
            let is_unselective = !selector.may_match_empty && unselective.binary_search(&id).is_ok();
            check_selector(selector, *span, is_unselective)?;
        }
        ExprKind::MatrixSelector(matrix) => {
            let is_unselective = unselective.binary_search(&id).is_ok();
            check_selector(&matrix.selector, *span, is_unselective)?;
        }
        ExprKind::Subquery(subquery) => {
            tasks.extend([Task::Finish(id), Task::Visit(subquery.expr)]);
        }
        ExprKind::Unary(unary) => tasks.extend([Task::Finish(id), Task::Visit(unary.expr)]),
        ExprKind::Paren(inner) => tasks.push(Task::Visit(*inner)),
        ExprKind::Binary(binary) => tasks.extend([Task::Finish(id), Task::Visit(binary.rhs), Task::Visit(binary.lhs)]),
        ExprKind::Aggregate(aggregate) => {
            if let (Some(param), Some(wanted)) = (aggregate.param, aggregate.op.param_type()) {
                tasks.push(Task::Expect(param, wanted, Place::AggregationParam));
                tasks.push(Task::Visit(param));
            }
            tasks.push(Task::Expect(aggregate.expr, ValueType::Vector, Place::Aggregation));
            tasks.push(Task::Visit(aggregate.expr));
        }
        ExprKind::Call(_) => visit_call(nodes, id, tasks)?,
    }
    Ok(())
}

fn check_selector(selector: &VectorSelector, span: Span, is_unselective: bool) -> Result<(), Fault> {
    if let Some(name) = &selector.name {
        let inside = &selector.matchers[..selector.matchers.len() - 1];
        if let Some(twice) = inside.iter().find(|matcher| matcher.name == NAME_LABEL) {
            let message = format!("metric name must not be set twice: {} or {}", quoted(name), quoted(&twice.value));
            return Err(Fault::new(span, message));
        }
    }
    if is_unselective {
        let message = "vector selector must contain at least one non-empty matcher";
        return Err(Fault::new(span, message));
    }
    Ok(())
}

fn visit_call(nodes: &mut [Expr], id: NodeId, tasks: &mut Vec<Task>) -> Result<(), Fault> {
    let Expr { kind, span, .. } = &nodes[id.idx()];
    let ExprKind::Call(call) = kind else {
        return Ok(());
    };
    let (function, span, given) = (call.function, *span, call.args.len());
    let listed = function.arg_types.len();
    let (at_least, at_most) = match function.variadic {
        Variadic::Fixed => (listed, Some(listed)),
        Variadic::UpTo(more) => (listed - 1, Some(listed - 1 + more)),
        Variadic::Unbounded => (listed - 1, None),
    };
    let miscounted = |bound: &str, wanted: usize| {
        let name = quoted(function.name);
        let message = format!("expected {bound}{wanted} argument(s) in call to {name}, got {given}");
        Err(Fault::new(span, message))
    };
    match at_most {
        Some(at_most) if at_most == at_least && given != at_most => {
            return miscounted("", at_most);
        }
        _ if given < at_least => return miscounted("at least ", at_least),
        Some(at_most) if given > at_most => return miscounted("at most ", at_most),
        _ => {}
    }
    for (idx, &arg) in call.args.iter().enumerate().rev() {
        let wanted = function.arg_types[idx.min(listed - 1)];
        tasks.push(Task::Expect(arg, wanted, Place::CallOf(function.name)));
        tasks.push(Task::Visit(arg));
    }
    if function.name == "info"
        && let Some(&data) = call.args.get(1)
    {
        allow_unselective_labels(nodes, data, span)?;
    }
    Ok(())
}

/// The second argument of `info` selects labels, not series: it has no name and may match all.
fn allow_unselective_labels(nodes: &mut [Expr], data: NodeId, call: Span) -> Result<(), Fault> {
    let node = &mut nodes[data.idx()];
    if node.value_type != ValueType::Vector {
        let message =
            format!("expected type instant vector in call to function \"info\", got {}", node.value_type.documented());
        return Err(Fault::new(call, message));
    }
    match &mut node.kind {
        ExprKind::VectorSelector(selector) if selector.name.is_none() => {
            selector.may_match_empty = true;
            Ok(())
        }
        ExprKind::VectorSelector(_) => {
            let message = "expected label selectors only, got vector selector instead";
            Err(Fault::new(node.span, message))
        }
        _ => Err(Fault::new(node.span, "expected label selectors only")),
    }
}

fn finish(query: &str, nodes: &mut [Expr], id: NodeId) -> Result<(), Fault> {
    let node = &nodes[id.idx()];
    let type_of = |child: NodeId| nodes[child.idx()].value_type;
    let fail = |message: String| Err(Fault::new(node.span, message));
    match &node.kind {
        ExprKind::Unary(unary) => match type_of(unary.expr) {
            ValueType::Scalar | ValueType::Vector => Ok(()),
            other => fail(format!(
                "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                quoted(other.documented())
            )),
        },
        ExprKind::Subquery(subquery) => match type_of(subquery.expr) {
            ValueType::Vector => Ok(()),
            other => fail(format!("subquery is only allowed on instant vector, got {other} instead")),
        },
        ExprKind::Binary(_) => finish_binary(query, nodes, id),
        _ => Ok(()),
    }
}

fn finish_binary(query: &str, nodes: &mut [Expr], id: NodeId) -> Result<(), Fault> {
    let node = &nodes[id.idx()];
    let ExprKind::Binary(binary) = &node.kind else {
        return Ok(());
    };
    let op = binary.op;
    let (lhs, rhs) = (&nodes[binary.lhs.idx()], &nodes[binary.rhs.idx()]);
    let at_operator = |message: String| Err(Fault::new(operator_span(query, lhs, rhs), message));
    let at_whole = |message: String| Err(Fault::new(node.span, message));
    let (left, right) = (lhs.value_type, rhs.value_type);
    let are_vectors = left == ValueType::Vector && right == ValueType::Vector;

    if binary.return_bool && !op.is_comparison() {
        let message = "bool modifier can only be used on comparison operators";
        return at_operator(message.to_owned());
    }
    if op.is_comparison() && !binary.return_bool && left == ValueType::Scalar && right == ValueType::Scalar {
        let message = "comparisons between scalars must use BOOL modifier";
        return at_operator(message.to_owned());
    }
    if let Some(matching) = binary.matching.as_ref().filter(|matching| matching.on) {
        let include: BTreeSet<&String> = matching.include.iter().collect();
        let both = matching.labels.iter().find(|label| include.contains(label));
        if let Some(label) = both {
            return at_operator(format!("label {} must not occur in ON and GROUP clause at once", quoted(label)));
        }
    }
    for side in [lhs, rhs] {
        if !matches!(side.value_type, ValueType::Scalar | ValueType::Vector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return Err(Fault::new(side.span, message));
        }
    }
    if let Some(matching) = &binary.matching {
        let is_grouped = matching.card != Cardinality::OneToOne;
        let is_filling = matching.fill_left.or(matching.fill_right).is_some();
        if !are_vectors && !matching.labels.is_empty() {
            let message = "vector matching only allowed between instant vectors";
            return at_whole(message.to_owned());
        }
        if !are_vectors && is_filling {
            let message = "filling in missing series only allowed between instant vectors";
            return at_whole(message.to_owned());
        }
        if are_vectors && op.is_set() && is_grouped {
            let op = quoted(op.as_str());
            return at_whole(format!("no grouping allowed for {op} operation"));
        }
        if are_vectors && op.is_set() && is_filling {
            let message = "filling in missing series not allowed for set operators";
            return at_whole(message.to_owned());
        }
    }
    if op.is_set() && !are_vectors {
        let op = quoted(op.as_str());
        return at_whole(format!("set operator {op} not allowed in binary scalar expression"));
    }
    settle_matching(&mut nodes[id.idx()], op, are_vectors);
    Ok(())
}

/// Makes the matching present exactly between vectors, and many-to-many for set operators.
fn settle_matching(node: &mut Expr, op: BinaryOp, are_vectors: bool) {
    let ExprKind::Binary(binary) = &mut node.kind else {
        return;
    };
    if !are_vectors {
        binary.matching = None;
        return;
    }
    let matching = binary.matching.get_or_insert_default();
    if op.is_set() {
        matching.card = Cardinality::ManyToMany;
    }
}

/// The text between two operands without the spaces around it.
fn operator_span(query: &str, lhs: &Expr, rhs: &Expr) -> Span {
    let (start, end) = (lhs.span.end as usize, rhs.span.start as usize);
    let between = query.get(start..end).unwrap_or_default();
    let blank = between.len() - between.trim_start().len();
    let start = start + blank;
    Span::new(start as u32, (start + between.trim().len()) as u32)
}
